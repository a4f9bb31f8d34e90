"""ASGI on a connection of our own: the scope, ``receive`` and ``send`` of one request (ASGI 3.0, HTTP 2.4).

Serves mounted apps, and our own answers that are sent in pieces: same framing rules, limits and end as for all others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..error import AppError
from ..response import checked_headers
from ..site import AsgiApp
from ..wire import Head

if TYPE_CHECKING:
    from .http_protocol import HttpProtocol

__all__ = ["AsgiConnection"]

_ENOUGH = 64 * 1024  # bytes of a body that wait for the app before reading stops
# These frame the message, which is ours to do (RFC 9112 section 6); what an app says of them is not repeated.
_OURS = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive", "upgrade", "date"})


class AsgiConnection:
    """One request on ``protocol``, which feeds it the body and hears when it is full."""

    def __init__(self, protocol: HttpProtocol, head: Head) -> None:
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
        self._start: dict[str, Any] | None = None  # the start message, until its head is written
        self._begun = False
        self._body: list[bytes] = []
        self._waiting = 0
        self._ended = head.length == 0  # the body is complete
        self._told = False  # the app knows that it is
        self._news: asyncio.Future[None] | None = None

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
            "raw_path": head.target.partition(b"?")[0],
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
        except Exception:
            if not self._begun and not self.gone.done():
                await self.send({"type": "http.response.start", "status": 500, "headers": _TEXT})
                await self.send({"type": "http.response.body", "body": b"Internal Server Error"})
            raise

    # From the protocol

    @property
    def full(self) -> bool:
        """Whether so much of the body waits for the app that no more should be read."""
        return self._waiting >= _ENOUGH

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        self._body.append(data)
        self._waiting += len(data)
        self._tell()

    def feed_end(self) -> None:
        """The body is complete."""
        self._ended = True
        self._tell()

    def disconnect(self) -> None:
        """The client has gone."""
        if not self.gone.done():
            self.gone.set_result(None)
        self._tell()

    # For the app

    async def receive(self) -> dict[str, Any]:
        """The next message (ASGI HTTP 2.4): the body in pieces, then, once the client has gone or the answer is
        complete, that it is over."""
        while not self._body and (not self._ended or self._told) and not self.gone.done() and not self.complete:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if self._body or (self._ended and not self._told and not self.gone.done()):
            body = b"".join(self._body)
            self._body.clear()
            self._waiting = 0
            self._told = self._ended
            self._protocol.mind_reading()
            return {"type": "http.request", "body": body, "more_body": not self._ended}
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take a message of the answer, and wait while the client has too much to read.

        :raises OSError: the client has gone.
        :raises AppError: the message is out of order, or not as ASGI wants it.
        """
        kind = message["type"]
        if self.gone.done():
            raise ConnectionResetError("the client has gone")
        if kind == "http.response.start" and self._start is None and not self._begun:
            self._start = message
            return
        if kind != "http.response.body" or self.complete or (self._start is None and not self._begun):
            raise AppError(f"ASGI message {kind!r} is out of order here")
        body, more = bytes(message.get("body", b"")), bool(message.get("more_body", False))
        protocol = self._protocol
        wire, now = protocol.wire, protocol.tell_time()
        self.size += len(body)
        if self._start is not None:
            start, self._start = self._start, None
            self.status = int(start["status"])
            headers = start.get("headers", ())
            fields = checked_headers(
                [(n.decode("ascii"), v.decode("latin-1")) for n, v in headers if n.decode("ascii").lower() not in _OURS]
            )
            self._begun = True
            if not more:
                self._over()
                protocol.write(wire.respond(self.status, fields, body, now))
                return
            length = next((v for n, v in headers if n.lower() == b"content-length"), None)
            protocol.write(wire.begin(self.status, fields, int(length) if length is not None else None))
        data = wire.chunk(body)
        if not more:
            self._over()
            data += wire.end(now)
        protocol.write(data)
        if more:
            await protocol.written()

    def _over(self) -> None:
        self.complete = True
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)


_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
