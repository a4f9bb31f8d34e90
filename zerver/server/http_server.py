"""What the HTTP connections of one process share: the site and its service, limits, ids, the log, and their end."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from zerver_runtime.reactor.effector import CallLater, Handle

from ..site import AsgiApp
from ..wire import Limits, Writer
from .access_log import AccessLog
from .client_address import ClientAddress
from .health import HEALTH_PATHS
from .service import Service

__all__ = ["HttpConnection", "HttpServer", "Upgrades"]

_QUIET = 1.0  # seconds after which, at a stop, a connection without a request counts as unused


class HttpConnection(Protocol):
    """What a server tells its connections."""

    def stop(self, quiet: float) -> None:
        """End after the next answer; without a request, after ``quiet`` seconds."""
        ...

    def abort(self, reason: str) -> None:
        """Cut the connection."""
        ...


class Upgrades(Protocol):
    """What connections go to that leave HTTP."""

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one connection, which reads the head of its request again."""
        ...

    def stop(self) -> None:
        """End all of them."""
        ...


class HttpServer:
    """Serves a site over HTTP/1.1 on one loop. All calls on that loop's thread."""

    def __init__(
        self,
        service: Service,
        mounted: Mapping[str, AsgiApp],
        access_log: AccessLog | None,
        *,
        limits: Limits,
        write_timeout: float,
        client_address: ClientAddress,
        secure: bool,
        health: bool = False,
        call_later: CallLater,
    ) -> None:
        """``mounted``: the app of each mount, by path. ``write_timeout``: seconds in which a client has to read what
        waits for it. ``secure``: whether connections come through TLS. ``health``: answer health checks."""
        self.service = service
        self.engine = service.engine
        self.site = service.site
        # As attributes of this they are found at once.
        self.match, self.begin, self.clock = self.site.router.match, self.engine.begin, self.engine.clock
        self.request_id = service.request_id
        self.count = None if service.meters is None else service.meters.requests.count
        """Of requests that no step has run for."""
        self.mounted = mounted
        self.websockets: Upgrades | None = None
        """What upgrades go to; without, they are requests as all others."""
        self.health = HEALTH_PATHS if health else frozenset[str]()
        self.access_log = access_log
        self.limits = limits
        self.write_timeout = write_timeout
        self.client_address = client_address
        self.secure = secure
        self.call_later = call_later
        self.writer = Writer(time.time())
        self.stopping = False
        self.context = contextvars.copy_context()
        """For what is to know nothing of any request."""
        self._connections: set[HttpConnection] = set()
        self._accepting: set[asyncio.Task[Any]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._empty: asyncio.Future[None] | None = None
        self._ticking: Handle | None = None
        self._tick()

    def accept(self, made: Coroutine[Any, Any, object]) -> None:
        """Have a connection made, which is accepted already."""
        task = self.service.loop.create_task(made)
        self._accepting.add(task)
        task.add_done_callback(self._accepted)

    def add(self, connection: HttpConnection) -> None:
        """A connection has begun."""
        self._connections.add(connection)
        if self.stopping:
            connection.stop(_QUIET)

    def discard(self, connection: HttpConnection) -> None:
        """A connection has ended, or has gone to another protocol."""
        self._connections.discard(connection)
        self._ended()

    def run(self, sending: Coroutine[Any, Any, None], done: Callable[[asyncio.Task[None]], None]) -> None:
        """Run what answers in pieces, or a mounted app. It may outlive its connection; a stop waits for it."""
        task = self.service.loop.create_task(sending, context=self.context.copy())
        task.add_done_callback(done)
        self.hold(task)

    def hold(self, task: asyncio.Task[None]) -> None:
        """Have a stop wait for this task, too."""
        self._running.add(task)
        task.add_done_callback(self._ran)

    async def drain(self, seconds: float) -> None:
        """Let each connection end after its next answer, and those that have no request soon; at most so long. Then cut
        what is left."""
        self.stopping = True
        if self.websockets is not None:
            self.websockets.stop()
        for connection in list(self._connections):
            connection.stop(min(_QUIET, seconds))
        if not await self._emptied(seconds):
            for connection in list(self._connections):
                connection.abort("the server stops")
            for task in (*self._accepting, *self._running):
                task.cancel()
            await self._emptied(1.0)

    def close(self) -> None:
        """After :meth:`drain`."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self.access_log is not None:
            self.access_log.close()

    def __len__(self) -> int:
        """Connections."""
        return len(self._connections)

    async def _emptied(self, seconds: float) -> bool:
        if not self._is_empty:
            self._empty = self.service.loop.create_future()
            await asyncio.wait((self._empty,), timeout=seconds)
        return self._is_empty

    @property
    def _is_empty(self) -> bool:
        return not (self._connections or self._accepting or self._running)

    def _ended(self) -> None:
        if self._empty is not None and not self._empty.done() and self._is_empty:
            self._empty.set_result(None)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended()

    def _accepted(self, task: asyncio.Task[Any]) -> None:
        self._accepting.discard(task)
        if not task.cancelled():
            task.exception()  # the client had gone, or spoke no TLS: nobody is there to be told
        self._ended()

    def _tick(self) -> None:
        now = time.time()
        self.writer.tick(now)
        self._ticking = self.call_later(1.001 - now % 1, self._tick)  # just after the second begins
