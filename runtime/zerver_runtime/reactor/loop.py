"""A scheduler's turns, and timers, on a libuv loop: the only module that imports uvloop.

Where uvloop is not installed, asyncio's own selector loop serves as well, slower.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from .timer_wheel import Timer, TimerWheel

__all__ = ["Timers", "Turns", "new_loop"]

_TICKS = 1000.0  # of a wheel, per second: libuv's own timers come no finer than a millisecond
_NEVER = 1 << 63


def new_loop() -> asyncio.AbstractEventLoop:
    """A new loop, not set as the current one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


class _Turning(Protocol):
    def turn(self) -> float | None: ...


class Turns:
    """One turn of the scheduler, then whatever I/O is ready, then the next turn; asleep while there is nothing.

    `wake` is what the scheduler calls when it goes from idle to busy: on the loop's own thread, any number of times.
    """

    __slots__ = ("_due", "_loop", "_run_", "_scheduled", "_scheduler", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._scheduler: _Turning | None = None
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._run_: Callable[[], None] = self._run

    def attach(self, scheduler: _Turning) -> None:
        """Run this one's turns from now on."""
        self._scheduler = scheduler
        self.wake()

    def wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_)

    def around(self, call: Callable[[bytes], None], data: bytes) -> None:
        """`call(data)`, and then the turn that it brings about, without another round of the loop between them."""
        if self._scheduled:
            call(data)
            return
        self._scheduled = True
        try:
            call(data)
        finally:
            self._run()

    def close(self) -> None:
        """No turn any more."""
        self._scheduler = None
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        if self._scheduler is None:
            self._scheduled = False
            return
        self._scheduled = True
        delay = self._scheduler.turn()
        # Cleared after the turn: what wakes the scheduler during it is part of what the turn reports.
        self._scheduled = False
        if delay is None:
            return
        if delay <= 0:
            self.wake()
            return
        due = self._loop.time() + delay
        if self._timer is not None:
            # A timer that fires too early costs one idle turn; a new one after each turn costs more.
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if not self._scheduled:
            self._run()

    def __repr__(self) -> str:
        return f"<Turns {'scheduled' if self._scheduled else 'asleep'}>"


class Timers:
    """Any number of timers on one of the loop's. All calls on the loop's thread.

    Callbacks run in the context (`contextvars`) in which this was made: timers share their wake-ups, so that none could
    have its own without paying for it.
    """

    __slots__ = ("_closed", "_context", "_loop", "_run_", "_timer", "_wake", "_wheel")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()
        self._wheel = TimerWheel(_now(), self._report)
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        # The tick of the loop's timer: what is due before it arms it anew.
        self._wake = _NEVER
        self._run_: Callable[[], None] = self._run

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> Timer:
        """Call `callback(*args)` once `delay` seconds have passed: never earlier, and if the loop is free, at most a
        millisecond later (two on asyncio's own loop). Those of one millisecond come in the order of setting them.

        What it raises goes to the loop's handler of exceptions. RuntimeError: closed already. OverflowError,
        ValueError: `delay` is infinite, or no number.
        """
        due = math.ceil((time.monotonic() + delay) * _TICKS)
        if due < self._wake:
            self._arm(due)
        return self._wheel.add(due, callback, args)

    def close(self) -> None:
        """Cancel all timers. Closing again does nothing."""
        self._closed = True
        self._wake = _NEVER
        self._wheel.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, wake: int) -> None:
        if self._closed:
            raise RuntimeError("timers are closed: set no timer after close()")
        if self._timer is not None:
            self._timer.cancel()
        # Whole ticks: libuv counts its milliseconds from the same instants, so that both reach `wake` at once.
        delay = (wake - _now()) / _TICKS
        self._timer = self._loop.call_later(delay, self._run_, context=self._context)
        self._wake = wake

    def _run(self) -> None:
        self._timer = None
        try:
            self._wheel.advance(_now())
        finally:
            self._wake = _NEVER
            wake = self._wheel.next_wake()
            if wake is not None:
                self._arm(wake)

    def _report(self, problem: BaseException) -> None:
        # In a callback of its own: it is for the loop to say which of them end it.
        self._loop.call_soon(_raise, problem)

    def __repr__(self) -> str:
        return f"<Timers {'closed' if self._closed else f'{len(self._wheel)} set'}>"


def _now() -> int:
    return math.floor(time.monotonic() * _TICKS)


def _raise(problem: BaseException) -> NoReturn:
    raise problem
