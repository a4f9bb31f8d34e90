"""What performs effects: the interface, and the adapter for ``async def perform(effect)``.

A driver performs one attempt and gives its **raw** result. Decoding, time-outs, retries, breaker and bulkhead
sit above it (:mod:`zerver_runtime.reactor.dispatcher`). Beside :class:`Effector`, it may have ``async def
open()``, awaited before the first effect (what it raises stops the boot), and ``async def close()``, awaited
after the last: it cancels what is in flight, waits until that is gone, and leaves nothing open.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.effector import Effector

from ..effect import Effect
from ..error import Error, ErrorKind

__all__ = [
    "AsyncEffector",
    "Done",
    "Effector",
    "cancelled",
    "closed",
    "failure_of",
    "hand_over",
    "internal",
    "unreachable",
]

Done: TypeAlias = Callable[[Outcome], None]

_PATIENCE = 5.0  # seconds that close() waits for a task that does not let itself be cancelled

_log = logging.getLogger("zerver.effects")


class AsyncEffector:
    """Performs effects by ``async def perform(effect)``: one Task for each attempt, and cancelled means cancelled.

    What ``perform`` returns is the raw value, unless it is a ``Success`` or ``Failure`` already. What it raises
    is a failure; see :func:`failure_of`. ``open`` and ``close`` are those of the driver, where it has them.
    """

    def __init__(
        self,
        perform: Callable[[Any], Awaitable[Any]],
        *,
        open: Callable[[], Awaitable[object]] | None = None,
        close: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._perform = perform
        self._open = open
        self._close = close
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._closed = False

    async def open(self) -> None:
        self._closed = False  # an app may start again after its stop
        if self._open is not None:
            await self._open()

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        if self._closed:
            done(closed(effect))
            return None
        task = asyncio.get_running_loop().create_task(self._attempt(effect))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._settled, effect, done))
        return task.cancel

    async def close(self) -> None:
        """Cancel what is in flight, wait until it is gone, then close the driver."""
        self._closed = True
        tasks = self._tasks
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=_PATIENCE)
            if stuck:
                _log.warning("%d effects ignored for %g s that they are cancelled; left behind", len(stuck), _PATIENCE)
        if self._close is not None:
            await self._close()

    async def _attempt(self, effect: Effect[Any]) -> Outcome:
        try:
            value = await self._perform(effect)
        except (Exception, SystemExit) as problem:  # an exit inside of a task would end the loop
            return failure_of(effect, problem)
        return value if isinstance(value, (Success, Failure)) else Success(value)

    def _settled(self, effect: Effect[Any], done: Done, task: asyncio.Task[Outcome]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            done(cancelled(effect))
            return
        problem = task.exception()
        done(task.result() if problem is None else failure_of(effect, problem))

    def __repr__(self) -> str:
        return (
            f"<AsyncEffector of {getattr(self._perform, '__qualname__', self._perform)}: {len(self._tasks)} in flight>"
        )


def failure_of(effect: Effect[Any], problem: BaseException) -> Failure:
    """What an exception of a driver says: ``TimeoutError`` is TIMEOUT, any other ``OSError``
    (``ConnectionError`` among them) is UPSTREAM_UNAVAILABLE, both worth a retry; all else is a bug, INTERNAL.
    The exception itself is for the log alone.
    """
    if isinstance(problem, TimeoutError):
        return Failure(Error(ErrorKind.TIMEOUT, f"{effect.label}: timed out"), retryable=True)
    if isinstance(problem, OSError):
        _log.info("%s (%s): %s", effect.label, effect.target, type(problem).__name__, exc_info=problem)
        return unreachable(effect)
    return internal(effect, f"{type(problem).__name__} in its driver", problem)


def internal(effect: Effect[Any], what: str, problem: BaseException | None = None) -> Failure:
    """A failure that is the app's or the driver's fault: ``what`` and the exception go to the log, and the
    client learns which effect it was.
    """
    _log.error("%s (%s): %s", effect.label, effect.target, what, exc_info=problem)
    return Failure(Error(ErrorKind.INTERNAL, f"{effect.label}: failed"))


def unreachable(effect: Effect[Any]) -> Failure:
    """What performs it is not there for now."""
    return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, f"{effect.label}: cannot be reached"), retryable=True)


def cancelled(effect: Effect[Any]) -> Failure:
    """What a cancelled attempt reports; nobody reads it."""
    return Failure(Error(ErrorKind.INTERNAL, f"{effect.label}: cancelled"))


def closed(effect: Effect[Any]) -> Failure:
    """The driver was closed before."""
    return Failure(Error(ErrorKind.OVERLOADED, f"{effect.label}: the server stops"))


def hand_over(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> None:
    """Call back on the loop's thread, from any other. A loop that is closed has nobody left who waits."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise
