"""Runs a scheduler's turns on a libuv loop: the only module that imports uvloop.

Where uvloop is not installed, asyncio's own selector loop serves as well, slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

__all__ = ["Turns", "new_loop"]


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
