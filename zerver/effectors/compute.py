"""Performs ``compute`` effects: on a pool of worker processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.compute_pool import ComputePool
from zerver_runtime.reactor.compute_task import (
    ComputeCancelled,
    ComputeClosed,
    ComputeFull,
    ComputeProblem,
    ComputeTask,
)

from ..effect import Effect
from ..effects.compute import NO_FALLBACK, Compute
from ..error import Error, ErrorKind
from .base import Done, cancelled, closed, internal

__all__ = ["ComputeEffector"]

_AGAIN = 1.0  # seconds: what a client is told to wait when the queue is full


class ComputeEffector:
    """``pool`` is this effector's from here on: it is closed with it. ``current``: what the pool's observer gets as the
    tag of a task, asked for while ``start`` runs.

    An exception is a failure INTERNAL, and so is a worker that died or used more than the budget. A full queue gives
    the effect's fallback, or is TOO_MANY_REQUESTS. An attempt that is cancelled is done when its worker is gone.
    """

    def __init__(self, pool: ComputePool, current: Callable[[], object] = lambda: None) -> None:
        self._pool = pool
        self._current = current

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        compute: Compute = effect.args
        task = ComputeTask(compute.name, compute.args, compute.kwargs, effect.priority == "batch", compute.cpu_budget)

        def finished(value: Any, problem: BaseException | None) -> None:
            done(Success(value) if problem is None else _failed(effect, problem))

        return self._pool.submit(task, finished, self._current())

    async def close(self) -> None:
        """End what runs, drop what waits, and leave no process."""
        await self._pool.close(0)

    def __repr__(self) -> str:
        return f"<ComputeEffector on {self._pool!r}>"


def _failed(effect: Effect[Any], problem: BaseException) -> Outcome:
    compute: Compute = effect.args
    if isinstance(problem, ComputeFull):
        if compute.fallback is not NO_FALLBACK:
            return Success(compute.fallback)
        what = f"{effect.label}: too many tasks wait"
        return Failure(Error(ErrorKind.TOO_MANY_REQUESTS, what, retry_after=_AGAIN))
    if isinstance(problem, ComputeClosed):
        return closed(effect)
    if isinstance(problem, ComputeCancelled):
        return cancelled(effect)
    if isinstance(problem, ComputeProblem):
        return internal(effect, str(problem), problem.__cause__)
    return internal(effect, f"{compute.name} raised {type(problem).__name__}", problem)
