"""What is kept for one target of effects: its breaker, its bulkhead, and when its attempts come due."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from .breaker import Breaker, BreakerStatistics
from .bulkhead import Bulkhead, BulkheadStatistics
from .effector import Policy
from .expiries import Expires, Expiries

__all__ = ["Target", "TargetStatistics", "Targets"]

E = TypeVar("E", bound=Expires)
_FEW = 1024  # so many targets are kept without asking whether all of them are still of use


class TargetStatistics(msgspec.Struct, frozen=True):
    in_flight: int
    """Attempts whose effector has not let go."""
    refused: int
    """Effects that failed because the breaker was open."""
    breaker: BreakerStatistics | None
    bulkhead: BulkheadStatistics | None


class Target(Generic[E]):
    """One target; `E` is what waits in its bulkhead, and comes due."""

    __slots__ = ("breaker", "bulkhead", "expiries", "in_flight", "refused")

    def __init__(self, policy: Policy) -> None:
        self.breaker = None if policy.breaker is None else Breaker(policy.breaker)
        self.bulkhead: Bulkhead[E] | None = None if policy.bulkhead is None else Bulkhead(policy.bulkhead)
        self.expiries: Expiries[E] | None = None  # None before the first attempt that has a time-out or a deadline
        self.in_flight = 0
        self.refused = 0

    def forgettable(self, now: float) -> bool:
        """Whether a new one would do as well."""
        return (
            not self.in_flight
            and (self.bulkhead is None or not self.bulkhead.in_flight)
            and (self.breaker is None or self.breaker.forgettable(now))
        )

    def statistics(self) -> TargetStatistics:
        breaker, bulkhead = self.breaker, self.bulkhead
        return TargetStatistics(
            self.in_flight,
            self.refused,
            None if breaker is None else breaker.statistics(),
            None if bulkhead is None else bulkhead.statistics(),
        )


class Targets(Generic[E]):
    """All targets, by name. Names may come from users (the host of a URL), so those of no more use are forgotten."""

    __slots__ = ("_sweep_at", "by_name")

    def __init__(self) -> None:
        self.by_name: dict[str, Target[E]] = {}
        self._sweep_at = _FEW

    def get(self, name: str, policy: Policy, now: float) -> Target[E]:
        """The target of this name. Constant time, amortised: a sweep is paid for by the targets made since the last."""
        target = self.by_name.get(name)
        if target is None:
            if len(self.by_name) >= self._sweep_at:
                self.by_name = {key: one for key, one in self.by_name.items() if not one.forgettable(now)}
                self._sweep_at = max(_FEW, 2 * len(self.by_name))
            target = self.by_name[name] = Target(policy)
        return target

    @property
    def in_flight(self) -> int:
        """Attempts at all of them whose effector has not let go. Counts them."""
        return sum(target.in_flight for target in self.by_name.values())

    def statistics(self) -> dict[str, TargetStatistics]:
        return {name: target.statistics() for name, target in self.by_name.items()}

    def __len__(self) -> int:
        return len(self.by_name)
