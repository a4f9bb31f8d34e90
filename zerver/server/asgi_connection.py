"""ASGI on a connection of our own: the scope, ``receive`` and ``send`` of one request (ASGI 3.0, HTTP 2.4).

Serves mounted apps, and our own answers that are sent in pieces: same framing rules, limits and end as for all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from ..error import AppError
from ..response import checked_headers
from ..site import AsgiApp
from ..wire import Connection, Head

__all__ = ["AsgiConnection", "Carrier"]

_ENOUGH = 64 * 1024  # bytes of a body that wait for the app before reading stops
_WITHOUT_BODY = frozenset({204, 304})  # RFC 9110 sections 15.3.5 and 15.4.5
# These frame the message, which is ours to do (RFC 9112 section 6); what an app says of them is not repeated.
_OURS = frozenset({b"connection", b"transfer-encoding", b"keep-alive", b"trailer", b"upgrade", b"date"})
_FAILED = {"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"text/plain; charset=utf-8")]}


class Carrier(Protocol):
    """The connection that a request came on, and its answer goes to."""

    @property
    def wire(self) -> Connection:
        """Its state."""
        ...

    def scope(self) -> dict[str, Any]:
        """What all ASGI scopes of this connection have in common."""
        ...

    def tell_time(self) -> float:
        """Read the clock: seconds."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        ...

    async def written(self) -> None:
        """Wait while the client has too much to read."""
        ...

    def complete(self) -> None:
        """The answer has come to its end."""
        ...

    def mind_reading(self) -> None:
        """Look again whether to go on reading: the body that waits has grown or shrunk."""
        ...


class AsgiConnection:
    """One request on ``protocol``, which feeds it the body and hears when it is full."""

    def __init__(self, protocol: Carrier, head: Head) -> None:
        self._protocol = protocol
        self._head = head
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the client has gone."""
        self.status = 0
        """Of the answer, once that has begun."""
        self.size = 0
        """Bytes of content that were sent."""
        self.complete = False
        """Whether the answer has come to its end."""
        self._start: _Start | None = None  # the start of the answer
        self._begun = False  # its head is written
        self._body: list[bytes] = []
        self._waiting = 0
        self._ended = head.length == 0  # the body is complete
        self._told = False  # the app knows that it is
        self._news = asyncio.Event()
        self._reset: ConnectionResetError | None = None  # what told the app that the client has gone

    def scope(self, path: str, state: dict[str, Any]) -> dict[str, Any]:
        """The scope for an app that is mounted at ``path``."""
        head = self._head
        return {
            "type": "http",
            "root_path": path,
            "state": dict(state),
            "method": head.method,
            "http_version": head.version,
            "path": head.path,
            "raw_path": _raw_path(head.target),
            "query_string": head.query,
            "headers": list(head.headers),
            **self._protocol.scope(),
        }

    async def run(self, app: AsgiApp, scope: dict[str, Any]) -> None:
        """Have an app answer. Where it fails before it has begun, the answer is 500; afterwards, the connection is cut.

        :raises Exception: whatever the app raised; it is for the log.
        """
        try:
            await app(scope, self.receive, self.send)
            if not self.complete and not self.gone.done():
                raise AppError("the app returned without a complete answer")
        except (Exception, SystemExit, asyncio.CancelledError) as problem:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the server stops
            if not self._begun and not self.gone.done():
                self._start = None
                await self.send(_FAILED)
                await self.send({"type": "http.response.body", "body": b"Internal Server Error"})
            if self._reset is not None and self._reset in _chain(problem):
                return  # it has heard that the client has gone: no fault of the app
            if isinstance(problem, Exception):
                raise
            raise AppError(f"the app raised {type(problem).__name__}") from problem  # which would end the loop

    # From the protocol

    @property
    def ends_with_connection(self) -> bool:
        """Whether the answer has begun, and has no other end than that of the connection (RFC 9112 section 6.3)."""
        start = self._start
        return self._begun and start is not None and start.length is None and self._head.version == "1.0"

    @property
    def full(self) -> bool:
        """Whether so much of the body waits for the app that no more should be read."""
        return self._waiting >= _ENOUGH

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        self._body.append(data)
        self._waiting += len(data)
        self._news.set()

    def feed_end(self) -> None:
        """The body is complete."""
        self._ended = True
        self._news.set()

    def disconnect(self) -> None:
        """The request is over: the client has gone, if the answer is not complete."""
        if not self._over:
            self.gone.set_result(None)
        self._news.set()

    # For the app

    async def receive(self) -> dict[str, Any]:
        """The next message (ASGI HTTP 2.4): the body in pieces, then, once the client has gone or the answer is
        complete, that it is over."""
        protocol = self._protocol
        if not self._ended and not self._over:
            protocol.write(protocol.wire.proceed())
        while not self._body and (not self._ended or self._told) and not self._over:
            self._news.clear()
            await self._news.wait()
        if self._body or (self._ended and not self._told and not self._over):
            body = b"".join(self._body)
            self._body.clear()
            self._waiting = 0
            self._told = self._ended
            protocol.mind_reading()
            return {"type": "http.request", "body": body, "more_body": not self._ended}
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take a message of the answer, and wait while the client has too much to read.

        :raises OSError: the client has gone.
        :raises AppError: the message is out of order, or not as ASGI wants it.
        :raises DefinitionError: a header is none.
        """
        kind = message["type"]
        if self.gone.done():
            self._reset = ConnectionResetError("the client has gone")
            raise self._reset
        if kind == "http.response.start" and self._start is None:
            self._start = _read_start(message)
            return
        if kind != "http.response.body" or self.complete or self._start is None:
            raise AppError(f"ASGI message {kind!r} is out of order here")
        body, more = message.get("body", b""), bool(message.get("more_body", False))
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise AppError(f"ASGI message {kind!r}: its body is {type(body).__name__}, not bytes")
        self._send_body(self._start, bytes(body), more)
        if more:
            await self._protocol.written()

    def _send_body(self, start: _Start, body: bytes, more: bool) -> None:
        protocol = self._protocol
        wire, now = protocol.wire, protocol.tell_time()
        length, silent = start.length, self._head.method == "HEAD" or start.status in _WITHOUT_BODY
        if not silent:
            size = self.size + len(body)
            if length is not None and (size > length or (size < length and not more)):
                raise AppError(f"the app says content-length: {length}, and sends {size} bytes{' or more' * more}")
            self.size = size
        if not self._begun:
            self._begun = True
            self.status = start.status
            if start.closes:
                wire.last()
            if not more and not silent:
                self.complete = True
                protocol.write(wire.respond(start.status, start.fields, body, now))
                protocol.complete()
                return
            if length is None and body and not more:
                length = len(body)  # all that GET would give
            protocol.write(wire.begin(start.status, start.fields, length))
        data = wire.chunk(body)
        if more:
            protocol.write(data)
            return
        self.complete = True
        protocol.write(data + wire.end(now))
        protocol.complete()

    @property
    def _over(self) -> bool:
        return self.complete or self.gone.done()


class _Start(msgspec.Struct, frozen=True):
    """The start of an answer, checked."""

    status: int
    fields: tuple[tuple[str, str], ...]
    length: int | None
    closes: bool


def _read_start(message: Mapping[str, Any]) -> _Start:
    status = message.get("status")
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise AppError(f"ASGI message 'http.response.start': status {status!r} is no number from 200 to 999")
    fields: list[tuple[str, str]] = []
    lengths: set[bytes] = set()
    closes = False
    for name, value in message.get("headers", ()):
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise AppError(f"ASGI message 'http.response.start': header {name!r} is not a pair of bytes")
        lower = name.lower()
        if lower == b"content-length":
            lengths.add(value.strip(b" \t"))
        elif lower == b"connection":
            closes |= b"close" in [option.strip(b" \t") for option in value.lower().split(b",")]
        elif lower not in _OURS:
            fields.append((name.decode("latin-1"), value.decode("latin-1")))
    length = lengths.pop() if lengths else None
    if length is not None and (lengths or not length.isdigit() or len(length) > 18):
        raise AppError("ASGI message 'http.response.start': content-length is not one number")
    return _Start(status, checked_headers(fields), None if length is None else int(length), closes)


def _raw_path(target: bytes) -> bytes:
    if not target.startswith((b"/", b"*")):  # absolute-form, RFC 9112 section 3.2.2
        _, slash, path = target.partition(b"?")[0].partition(b"//")[2].partition(b"/")
        return slash + path or b"/"
    return target.partition(b"?")[0]


def _chain(problem: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while problem is not None and problem not in found:
        found.append(problem)
        problem = problem.__cause__ or problem.__context__
    return found
