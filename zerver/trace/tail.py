"""Whether a trace is worth keeping, which is known when the request is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..error import Error, ErrorKind
from .events import EventKind

if TYPE_CHECKING:
    from ..execution import Execution

__all__ = ["APART_NS", "LEAST_NS", "SHARE", "RouteTimes", "is_fault"]

SHARE = 0.001
"""Of the requests of a route, those that count as slow for it."""

LEAST_NS = 1_000_000
"""What takes less is never slow: that would be the noise of the machine."""

APART_NS = 100_000_000
"""Of one route, what ends so soon after one that was slow does not count as slow: many that are slow at once are so for
one reason, and to keep them all would be work just when there is enough."""

_FIRST = 32  # times that are seen before any is slow
_STEP = 0.2  # by which the bound follows what is above it


class RouteTimes:
    """A running estimate of the time that nearly all requests of a route stay below.

    A time above the bound lifts it by a fifth, one below lowers it a little: it rests where :data:`SHARE` of the times
    are above. That takes one number, and follows a route that becomes faster or slower.
    """

    __slots__ = ("_first", "_slow_at_ns", "bound_ns")

    def __init__(self) -> None:
        self._first: list[int] | None = []
        self._slow_at_ns: int | None = None
        self.bound_ns = LEAST_NS
        """What takes longer is slow, once :attr:`known`."""

    @property
    def known(self) -> bool:
        """Whether enough times were seen."""
        return self._first is None

    def slow(self, took_ns: int, now_ns: int) -> bool:
        """Whether one that took so long, and ends now, is slow for this route."""
        if took_ns <= self.bound_ns or not self.known:
            return False
        if self._slow_at_ns is not None and now_ns - self._slow_at_ns < APART_NS:
            return False
        self._slow_at_ns = now_ns
        return True

    def add(self, took_ns: int) -> None:
        """One more time."""
        if self._first is not None:
            self._first.append(took_ns)
            if len(self._first) == _FIRST:
                # Not the longest ones: what is too high falls slowly, and what is too low rises fast.
                self.bound_ns = max(sorted(self._first)[-_FIRST // 8], LEAST_NS)
                self._first = None
        elif took_ns > self.bound_ns:
            self.bound_ns = int(self.bound_ns * (1 + _STEP))
        else:
            self.bound_ns = max(int(self.bound_ns * (1 - _STEP * SHARE)), LEAST_NS)


def is_fault(run: Execution) -> bool:
    """Whether it failed, and the server or something behind it is to blame: 5xx, or a bug, whatever it was rendered
    as. A client that went away is neither. Nor is what was turned away before it began: there is nothing to tell of it,
    and there are many when there is no time for them."""
    failure, response = run.failure, run.response
    if isinstance(failure, Error) and failure.kind.status >= 500:
        return failure.kind is not ErrorKind.OVERLOADED or not _turned_away(run)
    return response is not None and response.status >= 500


def _turned_away(run: Execution) -> bool:
    first = run.events[0] if run.events else None
    return first is not None and first[0] is EventKind.Fail
