"""Time-outs that are set, and cancelled before they are due: what nearly every effect does once.

Each turn of the loop sets a batch of them and cancels it, so that libuv gets to free what it holds of those.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bench.harness import Benchmark, Side
from zerver_runtime.discipline import TimerEntry, TimerTree
from zerver_runtime.reactor.effector import CallLater
from zerver_runtime.reactor.loop import Timers, new_loop

__all__ = ["BENCHMARK"]

BATCH = 1000
DELAYS = (0.05, 0.3, 1.0, 5.0, 30.0)  # the usual time-outs


class _Entry:
    __slots__ = ("_entry", "_tree")

    def __init__(self, tree: TimerTree[Any], entry: TimerEntry) -> None:
        self._tree = tree
        self._entry = entry

    def cancel(self) -> None:
        self._tree.cancel(self._entry)


class _Heap:
    """The schedulers' heap, called as a loop is; nobody looks what is due in it."""

    def __init__(self) -> None:
        self._tree: TimerTree[Any] = TimerTree()

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> _Entry:
        due = time.monotonic_ns() + int(delay * 1e9)
        return _Entry(self._tree, self._tree.add((callback, args), due, 0))


def _never() -> None:
    raise AssertionError("it was cancelled")


def _set_and_cancel(loop: asyncio.AbstractEventLoop, call_later: CallLater, n: int) -> None:
    delays = [DELAYS[number % len(DELAYS)] for number in range(min(n, BATCH))]
    left = n

    def turn() -> None:
        nonlocal left
        for handle in [call_later(delay, _never) for delay in delays]:
            handle.cancel()
        left -= len(delays)
        if left > 0:
            loop.call_soon(turn)
        else:
            loop.stop()

    loop.call_soon(turn)
    loop.run_forever()


def on_libuv(n: int) -> None:
    loop = new_loop()
    _set_and_cancel(loop, loop.call_later, n)
    loop.close()


def on_wheel(n: int) -> None:
    loop = new_loop()
    timers = Timers(loop)
    _set_and_cancel(loop, timers.call_later, n)
    timers.close()
    loop.close()


def on_heap(n: int) -> None:
    loop = new_loop()
    _set_and_cancel(loop, _Heap().call_later, n)
    loop.close()


BENCHMARK = Benchmark(
    name="timers",
    question=f"What does a time-out cost that is set and cancelled, with {BATCH} at once, on libuv and on one wheel?",
    sides=(Side("uvloop call_later, cancel", on_libuv), Side("wheel", on_wheel), Side("heap", on_heap)),
    operations=100_000,
)
