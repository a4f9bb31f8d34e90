"""A message, or anything else, for later: once, or again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zerver_runtime.discipline import TimerEntry

if TYPE_CHECKING:
    from zerver_runtime.cell import Cell
    from zerver_runtime.scheduler import Scheduler

__all__ = ["Timer", "nanoseconds"]

_LONGEST = 1e9  # seconds: 31 years, and far below what any loop's timer takes


def nanoseconds(seconds: float) -> int:
    """Of the clock. Infinity is 31 years. ValueError: not a number."""
    if seconds != seconds:
        raise ValueError(f"{seconds!r} is no time; give seconds")
    return round(min(seconds, _LONGEST) * 1e9)


class Timer:
    """What `send_after` and `every` give. `cancel()` at any time, and more than once."""

    __slots__ = ("_call", "_due", "_entry", "_owner", "_period", "_scheduler")

    def __init__(
        self, scheduler: Scheduler, owner: Cell | None, call: Callable[[], object], delay: int, period: int | None
    ) -> None:
        self._scheduler = scheduler
        self._owner = owner
        self._call = call
        self._period = period
        self._due = scheduler.clock() + delay
        self._entry: TimerEntry | None = scheduler.at(self._due, self._fire)

    def cancel(self) -> None:
        if self._entry is not None:
            self._scheduler.cancel(self._entry)
            self._over()

    def _fire(self) -> None:
        period = self._period
        if period is None:
            self._over()
        else:
            # From the last due time, so that it does not drift; periods that were missed are left out.
            now = self._scheduler.clock()
            self._due += period * max(1, (now - self._due) // period + 1)
            self._entry = self._scheduler.at(self._due, self._fire)
        self._call()

    def _over(self) -> None:
        self._entry = None
        if self._owner is not None and self._owner.timers is not None:
            self._owner.timers.discard(self)
