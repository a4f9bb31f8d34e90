"""Performs ``call`` effects: blocking functions on a thread pool, ``async def`` on the loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.threads import Job, PoolClosed, ThreadPool

from ..effect import Effect
from ..effects.call import Call
from ..error import Error, ErrorKind
from .base import AsyncEffector, Done, cancelled, closed, hand_over, internal

__all__ = ["CallEffector"]


class CallEffector:
    """``pool`` is lent: whoever made it closes it.

    An exception is a failure INTERNAL, a full pool OVERLOADED. A thread cannot be stopped: a blocking call that
    is cancelled runs on, and is done when it returns.
    """

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self._async = AsyncEffector(_awaited)

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        call: Call = effect.args
        if _is_async(call.fn):
            return self._async.start(effect, done)
        loop = asyncio.get_running_loop()

        def finished(value: Any, problem: BaseException | None) -> None:
            hand_over(loop, done, _outcome(effect, value, problem))

        job = self._pool.submit(functools.partial(call.fn, *call.args, **call.kwargs), finished)
        if job is None:
            done(Failure(Error(ErrorKind.OVERLOADED, f"{effect.label}: all threads are busy", retry_after=1.0)))
            return None
        return functools.partial(_cancel, job, effect, done)

    async def close(self) -> None:
        """Cancel what runs on the loop."""
        await self._async.close()

    def __repr__(self) -> str:
        return f"<CallEffector on {self._pool!r}>"


def _cancel(job: Job, effect: Effect[Any], done: Done) -> None:
    if job.cancel():
        done(cancelled(effect))


async def _awaited(effect: Effect[Any]) -> Outcome:
    call: Call = effect.args
    try:
        return Success(await call.fn(*call.args, **call.kwargs))
    except (Exception, SystemExit) as problem:
        return _raised(effect, problem)


def _outcome(effect: Effect[Any], value: Any, problem: BaseException | None) -> Outcome:
    if isinstance(problem, PoolClosed):
        return closed(effect)
    if problem is not None:
        return _raised(effect, problem)
    try:
        if not inspect.isawaitable(value):
            return Success(value)
    except Exception as odd:  # a proxy of what is not there, say
        return internal(effect, f"{effect.args.name} returned what raises when it is looked at", odd)
    if inspect.iscoroutine(value):
        value.close()
    name = effect.args.name
    return internal(
        effect,
        f"{name} returned a {type(value).__name__}, but is no 'async def': write one that awaits it, and run that",
    )


def _raised(effect: Effect[Any], problem: BaseException) -> Failure:
    return internal(effect, f"{effect.args.name} raised {type(problem).__name__}", problem)


def _is_async(fn: Callable[..., Any]) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004  # to look at it
