"""A clock that moves only when it is told to, with timers: what is driven by it needs no sleep to be tested."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

__all__ = ["FakeClock", "FakeTimer"]

_MOST = 100_000  # timers fired by one advance(); more can only be a timer that re-arms itself without waiting


class FakeTimer:
    """What `FakeClock.call_later` gives. `cancel()` after it has fired, or twice, does nothing."""

    __slots__ = ("_args", "_callback", "_clock", "_due", "_number")

    def __init__(
        self, clock: FakeClock, due: int, number: int, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self._clock = clock
        self._due = due
        self._number = number
        self._callback: Callable[..., object] | None = callback
        self._args = args

    def cancel(self) -> None:
        """Do not fire."""
        if self._callback is not None:
            self._callback = None
            self._args = ()
            self._clock._pending -= 1

    def __lt__(self, other: FakeTimer) -> bool:
        return (self._due, self._number) < (other._due, other._number)

    def __repr__(self) -> str:
        state = "over" if self._callback is None else getattr(self._callback, "__qualname__", repr(self._callback))
        return f"<FakeTimer at {self._due / 1e9:g} s: {state}>"


class FakeClock:
    """Hand out `now` as the clock and `call_later` for timers; then move time with `advance`.

        clock = FakeClock()
        clock.call_later(0.5, print, "half a second")
        clock.advance(1)

    start: what it reads first, in seconds. It counts whole nanoseconds, so that ten times 0.1 s is 1 s.
    """

    __slots__ = ("_made", "_now", "_pending", "_timers")

    def __init__(self, start: float = 0.0) -> None:
        self._now = round(start * 1e9)
        self._timers: list[FakeTimer] = []
        self._made = 0
        self._pending = 0

    def now(self) -> float:
        """Seconds. While a timer's callback runs, the time at which it was due."""
        return self._now / 1e9

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> FakeTimer:
        """Call `callback(*args)` once `delay` seconds have passed; 0 or less is at the next `advance`."""
        due = self._now + max(0, round(delay * 1e9))
        self._made += 1
        self._pending += 1
        timer = FakeTimer(self, due, self._made, callback, args)
        heapq.heappush(self._timers, timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Move on, firing each timer that comes due, in order of time and then of creation; those that are set
        meanwhile and come due too are fired as well. Returns at the new time.

        What a callback raises ends the call, with the clock at that timer's time; the other timers stay set.

        ValueError: seconds below 0. RuntimeError: 100,000 timers fired, so one must set itself without a delay.
        """
        if seconds < 0:
            raise ValueError(f"advance({seconds!r}): time does not go back; give 0 or more seconds")
        end = self._now + round(seconds * 1e9)
        timers = self._timers
        fired = 0
        while timers and timers[0]._due <= end:
            timer = heapq.heappop(timers)
            callback = timer._callback
            if callback is None:
                continue
            if fired == _MOST:
                heapq.heappush(timers, timer)
                raise RuntimeError(
                    f"advance() fired {fired} timers and {timer!r} is due next; does it set itself again?"
                )
            fired += 1
            self._now = timer._due
            args = timer._args
            timer.cancel()
            callback(*args)
        self._now = end

    @property
    def pending(self) -> int:
        """Timers that are set: neither fired nor cancelled."""
        return self._pending

    def __repr__(self) -> str:
        return f"<FakeClock at {self.now():g} s: {self._pending} pending>"
