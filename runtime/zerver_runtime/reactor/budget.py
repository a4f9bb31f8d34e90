"""How many retries one request may spend over all its effects.

Attempts per effect bound one effect; they multiply along a request with many effects, and across the calls that
upstreams make in turn. The budget bounds the sum, so that an outage is not answered with a multiple of the load
("Addressing Cascading Failures" in Google's Site Reliability Engineering, section "Retries").
"""

from __future__ import annotations

__all__ = ["RetryBudget"]


class RetryBudget:
    """Belongs to one request. `limit` retries (default 10); first attempts cost nothing."""

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int = 10) -> None:
        self._limit = limit
        self._left = limit

    def take(self) -> bool:
        """Spend one retry; False, and nothing spent, when none is left."""
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    @property
    def left(self) -> int:
        """Retries that are left."""
        return max(self._left, 0)

    def __repr__(self) -> str:
        return f"<RetryBudget {self.left} of {self._limit} left>"
