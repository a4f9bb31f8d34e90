"""What the effects of one request have in common."""

from __future__ import annotations

from .budget import RetryBudget

__all__ = ["Scope"]


class Scope:
    """What the effects of one request share: its retries, and (by identity) its share of each bulkhead."""

    __slots__ = ("budget", "owner")

    def __init__(self, budget: RetryBudget | None = None) -> None:
        self.budget = RetryBudget() if budget is None else budget
        self.owner: object = None
        """Whatever was put there: for observers, unread."""

    def __repr__(self) -> str:
        return f"<Scope {self.budget!r}>"
