"""Short pieces of blocking work, on threads that each take as many of them as there are: one hop for many.

Waking a thread and waking the loop cost more than most statements on SQLite. So a thread that was woken takes what
waits, one after another, and its results go back together. Nobody pays for that who meets a slow one: what waits for
longer than a millisecond gets another thread, and results wait no longer than that.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from zerver_runtime.outcome import Outcome
from zerver_runtime.reactor.threads import ThreadPool

from .base import hand_over

__all__ = ["Lane", "Run"]

_SOON: Final = 0.001  # seconds
_QUICK: Final = 10  # threads that take fewer in that time wait for the disk, or for work that others can go on beside


class Run(Protocol):
    """A piece of work."""

    def on_thread(self) -> Outcome:
        """Do it. Must not raise."""
        ...

    def settle(self, outcome: Outcome, /) -> None:
        """Take what came of it, on the loop's thread."""
        ...


class Lane:
    """``size``: threads, at most, which are made when they are needed; ``ending`` is called on each as it ends. How
    many runs may wait is bounded above, by the bulkhead. All calls on one loop's thread.
    """

    def __init__(self, size: int, *, name: str, ending: Callable[[], object]) -> None:
        self._size = size
        self._pool = ThreadPool(size, sys.maxsize, name=name, ending=ending)
        self._closed = False
        # Of the loop's thread.
        self._timer: asyncio.TimerHandle | None = None  # set while something waits
        self._waking = False  # a thread is woken at the end of this turn
        self._seen = 0  # how many were taken when the timer went off last
        # Of all threads; each operation on them is atomic.
        self._waiting: deque[Run] = deque()
        self._results: deque[tuple[Run, Outcome]] = deque()
        self._taken = 0  # so far; may miss some that two threads take at once
        # Guarded by the lock: a thread that finds nothing to do goes to sleep for good, and may be the last.
        self._lock = threading.Lock()
        self._active = 0

    def start(self, run: Run) -> bool:
        """Do it when its turn comes. False: the lane is closed."""
        if self._closed:
            return False
        self._waiting.append(run)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SOON, self._look)
        # A thread that is just going to sleep looks once more, under the lock; what it misses, the timer finds.
        if self._active == 0 and not self._waking:
            # When all that comes in this turn of the loop is there: a thread that wakes before only wants the GIL.
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake_one)
        return True

    def take_out(self, run: Run) -> bool:
        """True: it has not begun, and never will; it does not settle."""
        with suppress(ValueError):
            self._waiting.remove(run)
            return True
        return False

    def close(self, closed: Callable[[], object]) -> None:
        """Begin nothing more, and call back when the last thread has ended, on that or at once. What waits is
        dropped."""
        self._closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()

        def ended() -> None:
            hand_over(loop, self._settle)  # what the timer would have found
            closed()

        self._pool.close(ended)

    def _wake_one(self) -> None:
        self._waking = False
        self._wake(0)

    def _wake(self, most: int) -> None:
        """Have one more thread look for work, where no more than so many do already."""
        with self._lock:
            if self._active > most or not self._waiting:
                return
            self._active += 1
        loop = asyncio.get_running_loop()
        if self._pool.submit(lambda: self._work(loop)) is None:  # the system has no more threads; the timer asks again
            with self._lock:
                self._active -= 1

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, results = self._waiting, self._results
        while True:
            try:
                run = waiting.popleft()
            except IndexError:
                with self._lock:
                    if waiting:
                        continue
                    self._active -= 1
                    break
            self._taken += 1
            results.append((run, run.on_thread()))
            if not waiting:  # else the timer is set, which would find it
                hand_over(loop, self._settle)

    def _settle(self) -> None:
        results = self._results
        while results:
            run, outcome = results.popleft()
            run.settle(outcome)

    def _look(self) -> None:
        """What waits since the last look gets another thread."""
        self._timer = None
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(_SOON, self._look)
            if self._taken - self._seen < _QUICK:
                self._wake(self._size - 1)
        self._seen = self._taken
        self._settle()

    def __repr__(self) -> str:
        return f"<Lane: {len(self._waiting)} waiting, {self._active} of {self._size} threads at work>"
