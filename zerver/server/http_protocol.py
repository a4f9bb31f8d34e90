"""One HTTP/1.1 connection on a loop: bytes go to the sans-IO connection, requests to the engine, answers back.

A request that asks for nothing is read, run, answered and written within one call of ``data_received``.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
import struct
from collections.abc import Coroutine
from typing import Any, Final, cast

from zerver_runtime.reactor.effector import Handle

from ..engine.live import Exchange
from ..error import Error, ErrorKind
from ..match import Match
from ..metrics.request_meter import label
from ..pipeline import Pipeline
from ..request import Request
from ..response import Response
from ..wire import Body, Closing, Connection, End, Event, Head, Refused
from .asgi_connection import AsgiConnection
from .asgi_response import send_response
from .health import health_answer
from .http_server import HttpServer
from .http_writing import Writing
from .without_route import answer_without_route

__all__ = ["HttpProtocol", "accept"]

_log = logging.getLogger("zerver")

_NEVER: Final = float("inf")
# What is answered in one turn of the loop, of what a client sent at once: requests, or bytes of one answer.
_BATCH: Final = 32
_LARGE: Final = 16 * 1024
_KINDS = {400: ErrorKind.INVALID_INPUT, 413: ErrorKind.PAYLOAD_TOO_LARGE}
_STOPS = Error(ErrorKind.OVERLOADED, "the server stops", retry_after=1.0)


def accept(server: HttpServer, connection: socket.socket, tls: ssl.SSLContext | None = None) -> None:
    """Serve a connection, which is accepted already."""
    loop = server.service.loop
    server.accept(loop.connect_accepted_socket(lambda: HttpProtocol(server), connection, ssl=tls))


class HttpProtocol(asyncio.Protocol):
    """Made for each connection by :class:`HttpServer`."""

    __slots__ = (
        "_asgi",
        "_body",
        "_client",
        "_exchange",
        "_head",
        "_id",
        "_later",
        "_now",
        "_paused",
        "_pipeline",
        "_reading",
        "_server",
        "_started_ns",
        "_stopping",
        "_timer",
        "_timer_at",
        "_transport",
        "_wire",
        "_writing",
    )  # fmt: skip

    # From connection_made() on, which comes before anything else.
    _transport: asyncio.Transport
    _writing: Writing

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._now = server.engine.clock() / 1e9
        self._wire = Connection(server.limits, server.writer, self._now)
        self._client = ""
        # The request under way.
        self._head: Head | None = None
        self._id = ""
        self._started_ns = 0
        self._pipeline: tuple[Pipeline, dict[str, Any]] | None = None  # while its body is on its way
        self._body: list[bytes] | None = None
        self._exchange: Exchange | None = None
        self._asgi: AsgiConnection | None = None
        # The connection.
        self._reading = False  # within data_received: what is written waits for its end
        self._later = False  # what has been read is gone on with in another turn of the loop
        self._paused = False
        self._timer: Handle | None = None
        self._timer_at = _NEVER
        self._stopping = False

    # From the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        self._writing = Writing(self._transport, server.call_later, server.write_timeout, server.limits.body_rate)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else ""
        self._watch()
        self._server.add(self)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        now_ns = self._server.clock()
        if self._head is None:
            self._started_ns = now_ns
        self._now = now = now_ns / 1e9
        self._go_on(self._wire.feed(data, now))

    def eof_received(self) -> bool:
        """The client has closed its side; what it has asked for is answered nevertheless."""
        self.tell_time()
        self._go_on(self._wire.feed_eof(self._now))
        return not self._server.secure  # it is for the wire to say when the connection ends; TLS has no half-close

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._server.discard(self)
        self._wire.abort()
        self._forget_time()
        self._writing.forget()
        self.resume_writing()
        if self._exchange is not None:
            self._exchange.cancel("the client has gone")
        self._end()

    def pause_writing(self) -> None:
        """The client does not read what it asked for: it gets nothing more to do, and a time limit."""
        self._writing.pause()
        self.mind_reading()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        if self._writing.resume():
            self.mind_reading()
            self._go_on_later()

    # From the server

    def stop(self, quiet: float) -> None:
        """End after the next answer; without a request, after ``quiet`` seconds."""
        if self._stopping:
            return
        self._stopping = True
        self._wire.last()
        if self._head is None:
            self._server.call_later(quiet, self._unused)

    def abort(self, reason: str) -> None:
        """Cut the connection."""
        if self._exchange is not None:
            self._exchange.kill(reason)
        self._transport.abort()

    # Requests

    def _go_on(self, events: list[Event]) -> None:
        """Act on events, and go on with what waits behind an answer. What is answered meanwhile is written at once."""
        wire = self._wire
        self._reading = True
        while events:
            for event in events:
                if type(event) is Head:
                    self._begin(event)
                else:
                    self._more(event)
            if not wire.waiting or wire.closing is not None:
                break
            if (out := self._writing.out) and (len(out) >= _BATCH or len(out[-1]) >= _LARGE):
                self._go_on_later()  # others have their turn, and the client has to read
                break
            events = wire.feed(b"", self._now)
        self._reading = False
        self._flush()

    def _go_on_later(self) -> None:
        """In a turn of its own, and in no context of an app."""
        if self._wire.waiting and not self._later and not self._transport.is_closing():
            self._later = True
            self._server.service.loop.call_soon(self._turn, context=self._server.context)

    def _turn(self) -> None:
        wire = self._wire
        self._later = False
        if wire.waiting and not self._writing.paused and not self._transport.is_closing():
            self._go_on(wire.feed(b"", self.tell_time()))
        else:
            self._flush()

    def _begin(self, head: Head) -> None:
        server = self._server
        self._head = head
        self._id = server.request_id()
        found = server.match(head.method, head.path)
        if isinstance(found, Match):
            if head.length == 0:
                self._run(found.endpoint, self._request(found.params, b""))
            else:
                self._pipeline = (found.endpoint, found.params)
                self._body = []
                self._writing.out.append(self._wire.proceed())
        elif found is None and head.path in server.health:
            self._without_route(head, health_answer(head.method, head.path, not server.stopping))
        elif head.upgrade == "websocket" and server.websockets is not None:
            self._upgrade(head)
        elif found is None and (mount := server.site.mount_of(head.path)) is not None:
            asgi = AsgiConnection(self, head)
            scope = asgi.scope(mount.path, server.service.mount_states.get(mount.path, {}))
            self._send(asgi, asgi.run(server.mounted[mount.path], scope))
        else:
            self._without_route(head, answer_without_route(self._request({}, b""), found, server.service.render))

    def _without_route(self, head: Head, answer: Response) -> None:
        self._count(label(head.method), answer.status)
        self._answered(answer)

    def _more(self, event: Event) -> None:
        """The body, and what ends a connection."""
        if type(event) is Body:
            if self._body is not None:
                self._body.append(event.data)
            elif self._asgi is not None:
                self._asgi.feed(event.data)
                if self._asgi.full:
                    self.mind_reading()
        elif type(event) is End:
            if self._asgi is not None:
                self._asgi.feed_end()
            elif self._pipeline is not None:
                body, self._body = b"".join(self._body or ()), None
                (pipeline, params), self._pipeline = self._pipeline, None
                self._run(pipeline, self._request(params, body))
        elif type(event) is Refused:
            self._refuse(event)
        # Closed: the connection is closed when all is written.

    def _run(self, pipeline: Pipeline, request: Request) -> None:
        exchange = self._server.begin(pipeline, request, self._started_ns, self._answered)
        if exchange is None:
            return
        if self._head is None:  # it was answered at once, and has exit callbacks
            self._writing.flush()
            exchange.close()
        else:
            self._exchange = exchange

    def _request(self, params: Any, body: bytes) -> Request:
        head, proxies = self._head, self._server.client_address
        assert head is not None
        client = proxies.of(self._client, head.headers) if proxies.any else self._client
        return Request(head.method, head.path, head.query, head.headers, body, client, self._id, params)

    # Answers

    def _answered(self, response: Response | None) -> bool:
        """The engine has an answer; or none, since the request was cancelled. Whether it is out already."""
        head, server, wire = self._head, self._server, self._wire
        if head is None or wire.closing is not None:
            self._end()
            return True
        if response is None:
            response = server.service.render(_STOPS, self._request({}, b""), None)
        body = response.body
        if type(body) is bytes:
            now = self._now if self._reading else self.tell_time()
            more = b"x-request-id: %b\r\n" % self._id.encode()
            self._writing.out.append(wire.respond(response.status, response.headers, body, now, more))
            if server.access_log is not None:
                self._log_access(response.status, len(body))
            self._head = None
            if self._exchange is not None:
                self._end()
            if not self._reading:
                self._turn()
            return True
        asgi = AsgiConnection(self, head)
        service, request = server.service, self._request({}, b"")
        self._send(asgi, send_response(request, response, service.render, service.responses, asgi.gone, asgi.send))
        return False

    def _send(self, asgi: AsgiConnection, sending: Coroutine[Any, Any, None]) -> None:
        """Answer in pieces. Who does so may go on with something else when the answer is complete."""
        self._asgi = asgi
        self._server.run(sending, functools.partial(self._sent, asgi, self._id))

    def _sent(self, asgi: AsgiConnection, request_id: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (problem := task.exception()) is not None:
            _log.error("request %s: it could not be answered", request_id, exc_info=problem)
        if self._asgi is asgi:  # its answer is not complete, and the client has to see that
            if asgi.ends_with_connection:
                self._reset()
            self._wire.abort()
            self._end()
            self._flush()

    def complete(self) -> None:
        """An answer in pieces is complete, and written."""
        self._end()
        if self._stopping:
            self._unused()
        self._go_on_later()

    def _end(self) -> None:
        """The request is over."""
        asgi, exchange = self._asgi, self._exchange
        if asgi is not None:
            if asgi.status:
                self._log_access(asgi.status, asgi.size)
                if exchange is None and self._head is not None:
                    mount = self._server.site.mount_of(self._head.path)
                    self._count(label(self._head.method, f"{mount.path if mount else ''}/*"), asgi.status)
            asgi.disconnect()
        self._head = self._asgi = self._body = self._pipeline = self._exchange = None
        if exchange is not None:
            exchange.close()
        if self._paused:
            self.mind_reading()

    def _refuse(self, refused: Refused) -> None:
        server, wire, head, kind = self._server, self._wire, self._head, _KINDS.get(refused.status)
        text = b""
        if self._head is None:
            self._id = server.request_id()
        elif kind is not None and (self._asgi is None or not self._asgi.status):
            # Of a request whose head was sound the app may render the error.
            answer = server.service.render(Error(kind, refused.detail), self._request({}, b""), None)
            if type(answer.body) is bytes:
                text = wire.respond(answer.status, answer.headers, answer.body, self._now)
        text = text or wire.refuse(refused, self._now, self._id)
        if text:
            route = self._pipeline[0].label if self._pipeline else label(head.method if head else "")
            self._count(route, refused.status)
            self._writing.out.append(text)
            self._log_access(refused.status, len(text.partition(b"\r\n\r\n")[2]))
        self._end()

    def _upgrade(self, head: Head) -> None:
        """Another protocol takes the connection, and reads the head again."""
        server = self._server
        assert server.websockets is not None
        self._flush()
        text = self._wire.take_over()
        self._forget_time()
        server.discard(self)
        protocol = server.websockets()
        self._head = None
        protocol.connection_made(self._transport)
        protocol.data_received(text)
        self._transport.set_protocol(protocol)

    # Writing

    @property
    def wire(self) -> Connection:
        """The connection's state."""
        return self._wire

    def scope(self) -> dict[str, Any]:
        """What all ASGI scopes of this connection have in common."""
        server, transport, head = self._server, self._transport, self._head
        assert head is not None
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        address = server.client_address.of(self._client, head.headers)
        port = peer[1] if address == self._client and isinstance(peer, tuple) else 0  # a proxy's is none of the client
        return {
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": server.client_address.scheme(self._client, head.headers, "https" if server.secure else "http"),
            "client": (address, port) if address else None,
            "server": own[:2] if isinstance(own, tuple) else (own, None),
        }

    def write(self, data: bytes) -> None:
        """For answers that are sent in pieces."""
        if data:
            self._writing.out.append(data)
        if not self._reading:
            self._flush()

    async def written(self) -> None:
        """Wait while the client has too much to read."""
        await self._writing.resumed()

    def _flush(self) -> None:
        wire = self._wire
        self._writing.flush()
        if wire.closing is not None:
            self._close(wire.closing)
            return
        deadline = wire.deadline
        if deadline is not None and deadline < self._timer_at:
            self._watch()
        if self._paused or self._later or (self._head is not None and not wire.wants_data):
            self.mind_reading()

    def _close(self, closing: Closing) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        if closing is Closing.LINGER and self._wire.deadline is not None:
            if transport.can_write_eof():
                transport.write_eof()
            self._watch()
            return
        self._writing.close()

    def _reset(self) -> None:
        """Cut the connection so that it does not look like its end."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None and not self._transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def mind_reading(self) -> None:
        """Read only as long as what is read can be used."""
        transport, asgi = self._transport, self._asgi
        pause = self._writing.paused or self._later or not self._wire.wants_data or (asgi is not None and asgi.full)
        if pause != self._paused and not transport.is_closing():
            self._paused = pause
            if pause:
                transport.pause_reading()
                self._wire.hold(self._now)
            else:
                transport.resume_reading()
                self.tell_time()
                self._wire.release(self._now)
                self._watch()

    # Time

    def tell_time(self) -> float:
        """Read the clock: seconds."""
        now_ns = self._server.clock()
        if self._head is None:
            self._started_ns = now_ns
        self._now = now_ns / 1e9
        return self._now

    def _watch(self) -> None:
        """Look again when the wire's deadline has passed; it moves, and this timer only follows when it has to."""
        self._forget_time()
        deadline = self._wire.deadline
        if deadline is not None:
            self._timer_at = deadline
            self._timer = self._server.call_later(max(0.0, deadline - self._now), self._look)

    def _forget_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, _NEVER

    def _look(self) -> None:
        self._forget_time()
        self.tell_time()
        self._go_on(self._wire.expire(self._now))
        if self._timer is None and not self._transport.is_closing():
            self._watch()

    def _unused(self) -> None:
        """The server stops, and nothing has come for a while."""
        if self._wire.idle and self._head is None:
            self._close(Closing.NOW)

    def _count(self, label: str, status: int) -> None:
        count = self._server.count
        if count is not None:
            count(label, status, self._server.clock() - self._started_ns)

    def _log_access(self, status: int, size: int) -> None:
        log, head, proxies = self._server.access_log, self._head, self._server.client_address
        if log is not None:
            client = proxies.of(self._client, head.headers) if proxies.any and head is not None else self._client
            log.add(client, head, self._id, status, size, self._started_ns)
