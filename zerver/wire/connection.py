"""One HTTP/1.1 connection, seen from the server, without I/O: bytes and time in, events and bytes out.

    events = connection.feed(data, now)
    while events:
        ...  # act on each; answers may be written at once, or later
        events = connection.feed(b"", now) if connection.waiting else []

Requests come one at a time: what is after one in the bytes waits, unparsed, until that one is answered. So answers are
in order (RFC 9112 section 9.3.2). After an error, or an answer that closes the connection, nothing more is executed.

What is read moves through the states of `reading`; this module has the answers: NONE -> OWED -> (STREAM) -> NONE.

Times are seconds of one monotonic clock, the caller's.
"""

from __future__ import annotations

from typing import Final

import orjson

from .events import Refused
from .head import head_text
from .limits import Limits
from .reading import Answering, Closing, Reader, Reading
from .writer import CONTINUE, WITHOUT_BODY, Texts, Writer, reason_phrase

__all__ = ["Closing", "Connection"]

_CLOSE: Final = b"connection: close\r\n"
_KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_PROBLEM: Texts = (("content-type", "application/problem+json"),)

# As names of this module they cost a fraction of what an attribute of an enumeration costs.
_IDLE: Final = Reading.IDLE
_WHOLE: Final = Reading.WHOLE
_NONE: Final = Answering.NONE
_OWED: Final = Answering.OWED
_STREAM: Final = Answering.STREAM


class Connection(Reader):
    """One connection, which begins ``now``. Not for several threads at once.

    Misuse (an answer without a request, two answers) is a bug of the caller: RuntimeError.
    """

    __slots__ = ("_chunking", "_silent", "_to_send", "_writer")

    def __init__(self, limits: Limits, writer: Writer, now: float) -> None:
        super().__init__(limits, now)
        self._writer = writer
        # Of an answer in pieces.
        self._chunking = False
        self._silent = False  # it has no body
        self._to_send: int | None = None  # bytes of a known length

    def __repr__(self) -> str:
        return f"<Connection {self._reading.name} {self._answering.name} closing={self.closing}>"

    # Bytes out

    def respond(self, status: int, fields: Texts, body: bytes, now: float, more: bytes = b"") -> bytes:
        """The whole answer. If the request has not come to its end, the connection closes. ``more``: field lines that
        differ from answer to answer, each with its CRLF."""
        self._must_be(_OWED)
        head, keep = self._head, self._keeps()
        if not keep or head is None or head.version != "1.1":
            more += self._connection(keep)
        text = self._writer.full(status, fields, body, more, head is not None and head.method == "HEAD")
        self._answered(keep, now)
        return text

    def refuse(self, refused: Refused, now: float, request_id: str = "") -> bytes:
        """The answer to a request that was refused, as problem details (RFC 9457); nothing, if one has begun already.
        ``respond`` may do the same with a body of the caller's."""
        if self._answering is not _OWED:
            return b""
        problem = {"title": reason_phrase(refused.status), "status": refused.status, "detail": refused.detail}
        if request_id:
            problem["request_id"] = request_id
        return self.respond(refused.status, _PROBLEM, orjson.dumps(problem), now)

    def proceed(self) -> bytes:
        """``100 Continue``, once, if the client waits for it (RFC 9110 section 10.1.1) with a body that is allowed."""
        if not self._waits or self._answering is not _OWED or self._data or self._received or self._too_large():
            return b""
        self._waits = False
        return CONTINUE

    def begin(self, status: int, fields: Texts, length: int | None = None) -> bytes:
        """The head of an answer that is sent in pieces, of ``length`` bytes in all if that is known. Without one it
        goes in chunks to HTTP/1.1, and ends with the connection for HTTP/1.0 (RFC 9112 section 6.3)."""
        self._must_be(_OWED)
        head = self._head
        self._answering = _STREAM
        self._silent = status in WITHOUT_BODY or (head is not None and head.method == "HEAD")
        self._to_send = length
        framing = b""
        self._chunking = False
        if status not in WITHOUT_BODY:
            if length is not None:
                framing = b"content-length: %d\r\n" % length
            elif head is None or head.version == "1.1":
                framing = _CHUNKED
                self._chunking = not self._silent
            else:
                self._keep = self._keep and self._silent
        self._keep = self._keeps()
        return self._writer.start(status, fields, self._connection(self._keep) + framing)

    def chunk(self, data: bytes) -> bytes:
        """The next piece of the answer. ValueError: more than the length that :meth:`begin` gave."""
        self._must_be(_STREAM)
        if self._silent or not data:
            return b""
        if self._chunking:
            return b"%x\r\n%b\r\n" % (len(data), data)
        if self._to_send is not None:
            if len(data) > self._to_send:
                raise ValueError(f"an answer of a known length has {len(data) - self._to_send} bytes too many")
            self._to_send -= len(data)
        return data

    def end(self, now: float) -> bytes:
        """The end of the answer. One that is shorter than it said it would be counts as given up."""
        self._must_be(_STREAM)
        if self._to_send and not self._silent:
            self.abort()
            return b""
        self._answered(self._keep and self._reading is _WHOLE, now)
        return b"0\r\n\r\n" if self._chunking else b""

    def abort(self) -> None:
        """Give up the answer that has begun, if any, and the connection with it: the client sees that it is cut off."""
        self._shut(Closing.NOW)

    def last(self) -> None:
        """The connection closes after this answer, or the next if none is owed. It says so, unless it has begun."""
        self._last = True
        if self._answering is not _STREAM:
            self._keep = False

    def take_over(self) -> bytes:
        """Take the connection for another protocol, instead of an answer: gives the head, written out again, and the
        bytes that came after it. This connection has come to its end.

        RuntimeError: the request does not ask for an upgrade.
        """
        self._must_be(_OWED)
        head = self._head
        if head is None or not head.upgrade:
            raise RuntimeError("take_over: the request does not ask for another protocol; answer it")
        text = head_text(head) + bytes(self._data[self._at :])
        self._shut(None)
        return text

    def _keeps(self) -> bool:
        return self._keep and self._reading is _WHOLE and not (self._eof and not self._data)

    def _connection(self, keep: bool) -> bytes:
        """The line of ``Connection`` (RFC 9112 section 9.3)."""
        if not keep:
            return _CLOSE
        return _KEEP_ALIVE if self._head is not None and self._head.version == "1.0" else b""

    def _answered(self, keep: bool, now: float) -> None:
        if keep and not (self._eof and not self._data):
            self._answering = _NONE
            self._reading = _IDLE
            self._head = None
            self.deadline = now + self._limits.idle_timeout
            return
        if self._eof or (self._reading is _WHOLE and not self._data):
            self._shut(Closing.NOW)
        else:
            self._shut(Closing.LINGER)
            self.deadline = now + self._limits.linger_timeout

    def _must_be(self, state: Answering) -> None:
        if self._answering is not state:
            raise RuntimeError(f"{self!r}: {_MISUSE[state]}")


_MISUSE = {
    _OWED: "there is no request to answer, or its answer has begun",
    _STREAM: "no answer has begun that could go on",
}
