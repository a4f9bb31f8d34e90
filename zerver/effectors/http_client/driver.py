"""Performs ``http`` effects with the lean client: no task and no future for a request on a kept connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import msgspec

from zerver_runtime.outcome import Success

from ...effect import Effect
from ...effects.http import HttpRequest, HttpResult
from ..base import Done, cancelled, closed, failure_of
from ..http_failure import BROKEN, connect_fault, unavailable
from .connection import Connection
from .pool import Pool
from .request import Origin, encode, origin_of
from .response import Fault

__all__ = ["LeanHttpEffector"]

_PATIENCE = 5.0  # seconds that close() waits for what is in flight


class LeanHttpEffector:
    """Redirects are not followed, cookies not kept, proxies not used. What else it does not do, ``fits`` tells.

    :param max_body_bytes: the largest body of an answer that is accepted, before and after decompression.
    :param tls: how certificates are verified; default: against those that the system trusts.
    """

    def __init__(self, *, max_body_bytes: int = 8 * 1024 * 1024, tls: ssl.SSLContext | None = None) -> None:
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop | None = None  # None before the first connection
        self._closed = False
        self._pool: Pool[Origin, Connection] = Pool()
        self._expiry: asyncio.TimerHandle | None = None
        # What is to be gone when close() returns. An attempt is in one of them: as itself, or with its connection.
        self._connecting: set[_Attempt] = set()
        self._open: set[Connection] = set()
        self._nothing_left: asyncio.Future[None] | None = None

    def start(self, effect: Effect[Any], done: Done, /, more: str = "") -> Callable[[], object] | None:
        """See :class:`Effector`. ``more``: see :func:`~.request.encode`."""
        if self._closed:
            done(closed(effect))
            return None
        request: HttpRequest = effect.args
        origin = origin_of(request.url)
        attempt = _Attempt(self, effect, done, origin, encode(request, origin, more))
        connection = self._pool.take(origin)
        if connection is None or not attempt.send(connection):
            attempt.connect()
        return attempt.cancel

    async def close(self) -> None:
        """Cancel what is in flight, close all connections, and wait until that is done."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._pool.clear()
        for attempt in list(self._connecting):
            attempt.cancel()
        for connection in list(self._open):
            connection.abort()
        if self._connecting or self._open:
            self._nothing_left = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._nothing_left], timeout=_PATIENCE)

    # Called by attempts

    async def _connect(self, origin: Origin) -> Connection:
        loop = self._loop = asyncio.get_running_loop()
        connection = Connection(origin, self, self._max_body_bytes)
        try:
            await loop.create_connection(
                lambda: connection,
                origin.host,
                origin.port,
                ssl=self._context() if origin.tls else None,
                server_hostname=origin.host.rstrip(".") if origin.tls else None,  # RFC 6066 section 3
            )
        except asyncio.CancelledError:
            # uvloop, cancelled just after it had connected, closes the transport and does not tell its protocol.
            loop.call_soon(self.lost, connection)
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _connected(self, attempt: _Attempt) -> None:
        self._connecting.discard(attempt)
        if self._nothing_left is not None:
            self._check()

    # Called by connections

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def idle(self, connection: Connection) -> None:
        loop = self._loop
        assert loop is not None
        surplus = self._pool.keep(connection.origin, connection, loop.time())
        if surplus is not None:
            surplus.abort()
        if self._expiry is None:
            self._wait_for_expiry(loop)

    def unfit(self, connection: Connection) -> None:
        self._pool.drop(connection)

    def lost(self, connection: Connection) -> None:
        self._pool.drop(connection)
        self._open.discard(connection)
        if self._nothing_left is not None:
            self._check()

    def _check(self) -> None:
        waiting = self._nothing_left
        if waiting is not None and not waiting.done() and not self._connecting and not self._open:
            waiting.set_result(None)

    def _wait_for_expiry(self, loop: asyncio.AbstractEventLoop) -> None:
        due = None if self._closed else self._pool.due
        self._expiry = None if due is None else loop.call_at(due, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        for connection in self._pool.expire(loop.time()):
            connection.abort()
        self._wait_for_expiry(loop)

    def __repr__(self) -> str:
        open, idle = len(self._open), len(self._pool)
        return f"<LeanHttpEffector: {open - idle + len(self._connecting)} in flight, {open} open, {idle} idle>"


class _Attempt(msgspec.Struct, eq=False):
    """One attempt at an effect, until it is settled."""

    _driver: LeanHttpEffector
    _effect: Effect[Any]
    _done: Done
    _origin: Origin
    _data: bytes
    _cancelled: bool = False
    # At most one of them, and neither when it is settled.
    _connection: Connection | None = None
    _connecting: asyncio.Task[Connection] | None = None

    def send(self, connection: Connection) -> bool:
        """False: the connection is closed."""
        if connection.send(self, self._data, self._effect.args.method == "HEAD"):
            self._connection = connection
            return True
        return False

    def connect(self) -> None:
        self._driver._connecting.add(self)
        connecting = asyncio.get_running_loop().create_task(self._driver._connect(self._origin))
        self._connecting = connecting
        connecting.add_done_callback(self._connected)

    def cancel(self) -> None:
        """Let go of the connection. ``done`` is called when it is closed."""
        if self._cancelled:
            return
        if self._connection is not None:
            self._cancelled = True
            self._connection.abort()
        elif self._connecting is not None:
            self._cancelled = True
            self._connecting.cancel()

    def answered(self, answer: HttpResult | Fault) -> None:
        self._connection = None
        if answer.__class__ is Fault:
            assert isinstance(answer, Fault)
            self._done(unavailable(self._effect, answer.what, retryable=answer.retryable))
        else:
            done = self._done
            done(Success(answer))

    def broken(self, early: bool) -> None:
        self._connection = None
        effect = self._effect
        if self._cancelled or self._driver._closed:
            self._done(cancelled(effect))
        elif early and (effect.idempotent or effect.idem is not None):
            # The upstream closed the kept connection before it had read the request, as a rule, and the request may
            # be sent twice in any case (RFC 9110 section 9.2.2).
            self.connect()
        else:
            self._done(unavailable(effect, BROKEN))

    def _connected(self, connecting: asyncio.Task[Connection]) -> None:
        self._connecting = None
        self._driver._connected(self)
        effect = self._effect
        if connecting.cancelled():
            self._done(cancelled(effect))
            return
        problem = connecting.exception()
        if problem is not None:
            self._done(connect_fault(effect, problem) or failure_of(effect, problem))
            return
        connection = connecting.result()
        # Cancelled too late for the task to notice, it is closed unused.
        going = connection.give_up(self) if self._cancelled else self.send(connection)
        if not going:
            self._done(unavailable(effect, BROKEN))
