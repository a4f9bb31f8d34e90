"""What an engine has under way, and what its callers see of one request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from zerver_runtime.reactor.threads import ThreadPool

from ..execution import Execution
from ..pipeline import Pipeline
from ..request import Request
from ..response import Response, StreamBody
from ..signals import ReportBug

__all__ = ["Answered", "Engine", "Exchange", "Live", "discard", "report"]

_log = logging.getLogger("zerver")


class Answered(Protocol):
    """Takes the answer, once; ``None`` when the request was cancelled. It may be called before ``begin`` returns, and
    then may say that the answer is out: whoever sends it has nothing more to do with the request."""

    def __call__(self, response: Response | None, /) -> bool | None: ...


class Exchange(Protocol):
    """One request in an engine. All calls on the loop's thread."""

    run: Execution

    @property
    def killed(self) -> bool:
        """Whether :meth:`kill` was called: its step may never return, and a stop no longer waits for it."""
        ...

    def cancel(self, reason: str) -> None:
        """Stop the request: nobody waits for its answer."""
        ...

    def kill(self, reason: str) -> None:
        """Stop the request, and let a stop of the server wait for it no longer."""
        ...

    def close(self) -> None:
        """The response was sent, or never will be; exit callbacks run now. To be called once for each request."""
        ...

    def drop_background(self) -> None:
        """Cancel what runs in the background, and begin nothing more there."""
        ...


X = TypeVar("X", bound=Exchange)


class Live(Generic[X]):
    """The exchanges that are not at their end: not closed, or with exit callbacks or effects still to run."""

    def __init__(self) -> None:
        self._exchanges: set[X] = set()
        self._ended: asyncio.Future[None] | None = None

    def add(self, exchange: X) -> None:
        self._exchanges.add(exchange)

    def discard(self, exchange: X) -> None:
        """It has come to its end."""
        self._exchanges.discard(exchange)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def idle(self, seconds: float, *, killed: bool) -> None:
        """Wait until nothing is live, at most so long; for exchanges that were killed only if asked to."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while any(killed or not one.killed for one in self) and (left := until - loop.time()) > 0:
            if self._ended is None or self._ended.done():
                self._ended = loop.create_future()
            await asyncio.wait((self._ended,), timeout=left)

    def cancel_all(self, reason: str) -> None:
        """Stop every request and background effect. A step that runs goes on to its return."""
        for exchange in list(self):
            exchange.cancel(reason)
            exchange.drop_background()

    def __iter__(self) -> Iterator[X]:
        return iter(self._exchanges)

    def __len__(self) -> int:
        return len(self._exchanges)

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self._exchanges


class Engine(Protocol):
    """Runs pipelines. Lives on one loop; all calls on its thread."""

    @property
    def live(self) -> Live[Any]: ...

    @property
    def clock(self) -> Callable[[], int]:
        """Nanoseconds of the engine's monotonic clock."""
        ...

    def begin(self, pipeline: Pipeline, request: Request, started_ns: int, answered: Answered) -> Exchange | None:
        """Begin to answer a request that began to arrive at ``started_ns``; its deadline counts from there. ``None``:
        it is over already, as ``answered`` said that the answer is out."""
        ...

    def close(self) -> None:
        """No more requests; end the threads that steps run on. What is live should have been cancelled."""
        ...


def discard(body: StreamBody, pool: ThreadPool) -> None:
    """Close a stream that was not begun, on a thread of the pool. An async one is left as it is: nothing of it ran."""
    close = getattr(body.chunks, "close", None)
    if close is not None:
        pool.submit(close)


def report(request: Request, bug: ReportBug) -> None:
    """Log a bug of the app, with its traceback."""
    _log.error("request %s: %s", request.id, bug.what, exc_info=bug.exception)
