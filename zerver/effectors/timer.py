"""Performs ``timer`` effects on the loop's timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from zerver_runtime.outcome import Success

from ..effect import Effect
from ..effects.timer import Sleep, Until
from .base import Done, cancelled, closed

__all__ = ["TimerEffector"]

_DONE = Success(None)


class TimerEffector:
    """``clock``: seconds since the epoch, for ``timer.until``."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._waits: set[_Wait] = set()
        self._closed = False

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        if self._closed:
            done(closed(effect))
            return None
        args: Sleep | Until = effect.args
        until = args.at.timestamp() if isinstance(args, Until) else None
        seconds = args.seconds if isinstance(args, Sleep) else args.at.timestamp() - self._clock()
        if seconds <= 0:
            done(_DONE)
            return None
        wait = _Wait(effect, done, until, self._clock, self._waits)
        wait.begin(seconds)
        return wait.cancel

    async def close(self) -> None:
        """Cancel what waits."""
        self._closed = True
        for wait in list(self._waits):
            wait.cancel()

    def __repr__(self) -> str:
        return f"<TimerEffector: {len(self._waits)} waiting>"


class _Wait:
    """One timer; in ``waits`` as long as it has not called ``done``."""

    __slots__ = ("_clock", "_done", "_effect", "_handle", "_until", "_waits")

    def __init__(
        self, effect: Effect[Any], done: Done, until: float | None, clock: Callable[[], float], waits: set[_Wait]
    ) -> None:
        self._effect = effect
        self._done = done
        self._until = until
        self._clock = clock
        self._waits = waits
        self._handle: asyncio.TimerHandle | None = None
        waits.add(self)

    def begin(self, seconds: float) -> None:
        self._handle = asyncio.get_running_loop().call_later(seconds, self._due)

    def cancel(self) -> None:
        if self in self._waits and self._handle is not None:
            self._handle.cancel()
            self._waits.discard(self)
            self._done(cancelled(self._effect))

    def _due(self) -> None:
        left = 0.0 if self._until is None else self._until - self._clock()
        if left > 0:  # the time of day was set back, or the loop's clock is coarser
            self.begin(left)
        else:
            self._waits.discard(self)
            self._done(_DONE)
