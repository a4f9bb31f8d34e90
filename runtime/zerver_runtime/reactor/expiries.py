"""When the attempts at one target come due, on a single timer.

Nearly all of them are over before that, so what counts is what it costs to add one and to discard it. Attempts at one
target mostly have one time-out, so they mostly come due in the order in which they began: those that do are kept in a
dict in this order, and the timer is set for the first. One that comes due before the last of these has a timer of its
own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from .effector import CallLater, Handle

__all__ = ["Expires", "Expiries"]

_NEVER = math.inf


class Expires(Hashable, Protocol):
    """What comes due."""

    def expired(self) -> None:
        """It is due, and not kept here any more. Must not raise."""
        ...


E = TypeVar("E", bound=Expires)


class Expiries(Generic[E]):
    """An entry is in it once at a time. clock: monotonic, in seconds."""

    __slots__ = ("_aim", "_apart", "_call_later", "_clock", "_in_order", "_last", "_timer")

    def __init__(self, clock: Callable[[], float], call_later: CallLater) -> None:
        self._clock = clock
        self._call_later = call_later
        self._in_order: dict[E, float] = {}
        self._last = 0.0  # when the last that was added to it comes due
        self._timer: Handle | None = None  # set while any is in order, but for the time in which it fires
        self._aim = 0.0  # what it is set for: when the first comes due, or one that was first
        self._apart: dict[E, Handle] = {}

    def add(self, entry: E, end: float) -> None:
        """Let it come due at `end`, by the clock. If that is past, it is due with the next timers."""
        in_order = self._in_order
        if not in_order:
            in_order[entry] = self._last = end
            self._aim_at(end)
        elif end >= self._last:
            in_order[entry] = self._last = end
        else:
            self._apart[entry] = self._call_later(max(0.0, end - self._clock()), self._run_apart, entry)

    def discard(self, entry: E) -> None:
        """It is not to come due any more. Nothing, if it is not in here."""
        in_order = self._in_order
        if in_order.pop(entry, None) is None:
            timer = self._apart.pop(entry, None)
            if timer is not None:
                timer.cancel()
        elif not in_order and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _aim_at(self, end: float) -> None:
        self._aim = end
        self._timer = self._call_later(max(0.0, end - self._clock()), self._run)

    def _run(self) -> None:
        self._timer = None
        # What the timer was set for is due, also where rounding has it that the clock is not there yet.
        until = max(self._aim, self._clock())
        in_order, due = self._in_order, []
        for entry, end in in_order.items():
            if end > until:
                break
            due.append(entry)
        try:
            for entry in due:
                if in_order.get(entry, _NEVER) <= until:  # one before it may have discarded it, and added it anew
                    del in_order[entry]
                    entry.expired()
        finally:
            if in_order and self._timer is None:
                self._aim_at(next(iter(in_order.values())))

    def _run_apart(self, entry: E) -> None:
        del self._apart[entry]
        entry.expired()

    def __repr__(self) -> str:
        return f"<Expiries: {len(self._in_order)} in order, {len(self._apart)} apart>"
