"""The reading side of a connection: from bytes to events.

    IDLE -> LINE -> FIELDS -> (LENGTH or CHUNKED) -> WHOLE -> IDLE when it is answered; SHUT is for ever

Each state has its method, in the table at the end. A method reads one thing, and moves on to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum, auto
from functools import lru_cache
from typing import Final

from .chunked import TOO_LARGE, ChunkedBody
from .events import END, Body, Closed, Event, Head, Refused
from .fields import Pairs, read_fields
from .head import make_head
from .limits import Limits
from .lines import BLOCK, LINE, Buffer, Unit, unit_end
from .request_line import METHODS, ORIGIN_FORM, RequestLine, decoded_path, read_request_line

__all__ = ["Answering", "Closing", "Reader", "Reading"]

_REMEMBERED: Final = 1024  # bytes of a block of fields that a connection keeps

_CONTROL = Refused(400, "There is a control character in the head, or a CR or LF alone.")
_LONG_LINE = Refused(414, "The request line is too long.")
_LARGE_FIELDS = Refused(431, "The header fields are too large.")
_MANY_FIELDS = Refused(431, "There are too many header fields.")
_CUT_OFF = Refused(400, "The request is not complete.")  # RFC 9112 section 8
_GONE = Closed("the client closed the connection")


class Closing(Enum):
    """How a connection is to be closed, once all that was written has been sent."""

    NOW = auto()
    """Nothing more is on its way from the client, or nothing is left to be saved: close."""
    LINGER = auto()
    """The client may still be sending, and a plain close could destroy the answer on its way to it (RFC 9112 section
    9.6): close the writing side only, feed what comes (it is dropped) until a :class:`Closed`, and then close."""


class Reading(IntEnum):
    """How far a request has been read."""

    IDLE = 0
    LINE = auto()
    FIELDS = auto()
    LENGTH = auto()
    CHUNKED = auto()
    WHOLE = auto()
    SHUT = auto()


class Answering(IntEnum):
    """How far a request has been answered."""

    NONE = 0
    OWED = auto()
    STREAM = auto()


# As names of this module they cost a fraction of what an attribute of an enumeration costs.
_IDLE: Final = Reading.IDLE
_LINE: Final = Reading.LINE
_FIELDS: Final = Reading.FIELDS
_LENGTH: Final = Reading.LENGTH
_CHUNKS: Final = Reading.CHUNKED
_WHOLE: Final = Reading.WHOLE
_SHUT: Final = Reading.SHUT
_NONE: Final = Answering.NONE
_OWED: Final = Answering.OWED
_STREAM: Final = Answering.STREAM


@lru_cache(maxsize=16)
def _head_units(limits: Limits) -> tuple[Unit, Unit]:
    return (
        Unit(LINE, limits.request_line + len(LINE), _CONTROL, _LONG_LINE),
        Unit(BLOCK, limits.header_bytes, _CONTROL, _LARGE_FIELDS),
    )


class Reader:
    """Reads requests, one at a time: it goes on to the next when its subclass has answered the one before."""

    __slots__ = (
        "_answering", "_at", "_block", "_block_unit", "_chunked", "_data", "_eof", "_head", "_held", "_judged", "_keep",
        "_last", "_left", "_limits", "_line", "_line_unit", "_pairs", "_reading", "_received", "_seen", "_since",
        "_skipped", "_waits", "body_limit", "closing", "deadline",
    )  # fmt: skip

    deadline: float | None
    """When to call :meth:`expire`; None while nothing that this connection knows of can be late. It moves at will, so
    it is to be looked at again when it seems to have passed."""
    closing: Closing | None
    """None while the connection goes on. To be looked at after each answer, and after the end of one."""
    body_limit: int | None
    """Bytes of content that this request may have; None is no limit. Set to ``Limits.body_bytes`` by each head that
    announces a body. The caller may change it before the next call of :meth:`feed`."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._line_unit, self._block_unit = _head_units(limits)
        self.deadline = now + limits.idle_timeout
        self.closing = None
        self.body_limit = None
        # Bytes. What is before _at is done with; _seen bytes after it were looked at, and are too few.
        self._data: Buffer = b""
        self._at = 0
        self._seen = 0
        self._eof = False
        # Reading a head.
        self._reading = _IDLE
        self._skipped = False  # the one empty line that may stand before a request (RFC 9112 section 2.2)
        self._line: RequestLine | None = None
        # The last plain block of fields, and what is in it: a client sends the same one again and again.
        self._block = b""
        self._pairs: Pairs = ()
        # Reading a body.
        self._judged = True  # a known length has been compared with the limit
        self._left = 0
        self._chunked: ChunkedBody | None = None
        self._received = 0
        self._waits = False  # the client does, to be told to go on
        self._since = now
        self._held: float | None = None
        # Shared with the answering side, which takes a request over when its head is read.
        self._answering = _NONE
        self._head: Head | None = None
        self._keep = False  # the connection may go on after this answer
        self._last = False  # it may after none

    # Bytes in

    def feed(self, data: bytes, now: float) -> list[Event]:
        """Take what has come, or with no bytes go on with what waits, and tell the next events: at most one head, and
        nothing of its body. After it, and after an answer, there may be more: see :attr:`waiting`."""
        if not self._data:
            self._data = data
        elif data:
            self._append(data)
        return _READERS[self._reading](self, now)

    def feed_eof(self, now: float) -> list[Event]:
        """The client has closed its side. Whole requests are answered nevertheless (RFC 9112 section 9.6)."""
        self._eof = True
        if self._reading in (_WHOLE, _IDLE) and self._data:
            return []
        return self._at_eof()

    def expire(self, now: float) -> list[Event]:
        """Tell what follows if :attr:`deadline` has passed: 408 for a request that was begun (RFC 9110 section
        15.5.9), :class:`Closed` for an idle or lingering connection. Otherwise nothing."""
        if self.deadline is None or now < self.deadline:
            return []
        late = _LATE[self._reading]
        return self._refused(late) if isinstance(late, Refused) else self._closed(late)

    @property
    def waiting(self) -> bool:
        """Whether ``feed(b"")`` may have something to tell."""
        return (bool(self._data) or not self._judged) and self._reading is not _WHOLE

    @property
    def wants_data(self) -> bool:
        """Whether to go on reading from the client: not while too many bytes of later requests wait, nor at the end."""
        if self._reading is _WHOLE:
            return len(self._data) - self._at <= self._limits.pipeline_bytes
        return self.closing is not Closing.NOW

    @property
    def idle(self) -> bool:
        """Whether no byte of a request has come since the last answer."""
        return self._reading is _IDLE and not self._data

    def hold(self, now: float) -> None:
        """The caller does not read for now, because whoever takes the body is busy: its time stands still."""
        if self._reading in (_LENGTH, _CHUNKS) and self._held is None:
            self._held = now
            self.deadline = None

    def release(self, now: float) -> None:
        """The caller reads again, after :meth:`hold`."""
        if self._held is not None:
            self._since += now - self._held
            self._held = None
            if self._reading in (_LENGTH, _CHUNKS):
                self._allow_time()

    # Reading: a method for each state

    def _read_idle(self, now: float) -> list[Event]:
        data, at = self._data, self._at
        if not data:
            return []
        match = ORIGIN_FORM.match(data, at)
        if match is not None and (end := match.end()) - at <= self._line_unit.most:
            name, target, raw_path, query, minor = match.groups(b"")
            if (method := METHODS.get(name)) is not None:
                path = decoded_path(raw_path)
                block = self._block
                if block and minor == b"1" and data.startswith(block, end):
                    # These fields were judged when they came the first time.
                    return self._whole(Head(method, target, path, query, self._pairs, "1.1", True), end + len(block))
                self.deadline = now + self._limits.head_timeout
                return self._line_read(RequestLine(method, target, path, query, int(minor)), end, now)
        self.deadline = now + self._limits.head_timeout
        self._reading = _LINE
        return self._read_line(now)

    def _read_line(self, now: float) -> list[Event]:
        if not self._skipped and self._data.startswith(LINE, self._at):
            self._skipped = True
            self._take(self._at + len(LINE))
            if not self._data:
                self._reading = _IDLE
                self.deadline = now + self._limits.idle_timeout
                return self._incomplete()
        data, at = self._data, self._at
        end = unit_end(self._line_unit, data, at, self._seen)
        if not isinstance(end, int):
            return self._refused(end)
        if not end:
            return self._incomplete()
        line = read_request_line(bytes(data[at : end - len(LINE)]))
        if isinstance(line, Refused):
            return self._refused(line)
        return self._line_read(line, end, now)

    def _line_read(self, line: RequestLine, end: int, now: float) -> list[Event]:
        self._line = line
        self._take(end)
        self._reading = _FIELDS
        return self._read_fields(now)

    def _read_fields(self, now: float) -> list[Event]:
        data, at, line = self._data, self._at, self._line
        assert line is not None
        end = unit_end(self._block_unit, data, at, self._seen)
        if not isinstance(end, int):
            return self._refused(end)
        if not end:
            return self._incomplete()
        block = bytes(data[at:end])
        fields = read_fields(block)
        if isinstance(fields, Refused):
            return self._refused(fields)
        if len(fields.pairs) > self._limits.header_count:
            return self._refused(_MANY_FIELDS)
        head = make_head(line, fields)
        if isinstance(head, Refused):
            return self._refused(head)
        if fields.plain and len(block) <= _REMEMBERED:
            self._block, self._pairs = block, fields.pairs
        self._line = None
        return self._whole(head, end) if head.length == 0 else self._with_body(head, end, now)

    def _read_length(self, now: float) -> list[Event]:
        self._judged = True
        if self._too_large():
            return self._refused(TOO_LARGE)
        data, at = self._data, self._at
        piece = bytes(data[at : at + self._left])
        if not piece:
            return self._incomplete()
        self._left -= len(piece)
        self._received += len(piece)
        self._take(at + len(piece))
        if self._left:
            self._allow_time()
            return [Body(piece)] if not self._eof else [Body(piece), *self._at_eof()]
        return [Body(piece), *self._body_ends()]

    def _read_chunks(self, now: float) -> list[Event]:
        self._judged = True
        chunked = self._chunked
        assert chunked is not None
        pieces: list[bytes] = []
        at, fault = chunked.read(self._data, self._at, self.body_limit, pieces)
        self._take(at)
        events: list[Event] = []
        if pieces:
            piece = b"".join(pieces)
            self._received += len(piece)
            events.append(Body(piece))
        if fault is not None:
            events += self._refused(fault)
        elif chunked.done:
            events += self._body_ends()
        else:
            self._allow_time()
            events += self._incomplete()
        return events

    def _read_whole(self, now: float) -> list[Event]:
        return []  # what is after a request waits for its answer

    def _read_shut(self, now: float) -> list[Event]:
        self._data = b""
        return []

    # What becomes of it

    def _append(self, data: bytes) -> None:
        kept = self._data
        if not isinstance(kept, bytearray):
            kept = self._data = bytearray(kept)  # grows in place: however it is cut, each byte is copied a few times
        del kept[: self._at]
        self._at = 0
        kept += data

    def _take(self, end: int) -> None:
        if end == len(self._data):
            self._data = b""
            self._at = 0
        else:
            self._at = end
        self._seen = 0

    def _incomplete(self) -> list[Event]:
        if self._eof:
            return self._at_eof()
        self._seen = len(self._data) - self._at
        return []

    def _whole(self, head: Head, end: int) -> list[Event]:
        self._take(end)
        self._head = head
        self._keep = head.keep_alive and not self._last
        self._skipped = False
        self._reading = _WHOLE
        self._answering = _OWED
        self.deadline = None
        return [head]

    def _with_body(self, head: Head, end: int, now: float) -> list[Event]:
        events = self._whole(head, end)
        self._judged = False
        self._waits = head.expects_continue
        self._received = 0
        self._since = now
        self._held = None
        self.body_limit = self._limits.body_bytes
        if head.length is None:
            self._reading = _CHUNKS
            self._chunked = ChunkedBody(self._limits)
        else:
            self._reading = _LENGTH
            self._left = head.length
        self._allow_time()
        return events

    def _body_ends(self) -> list[Event]:
        self._chunked = None
        self._waits = False
        self._reading = _WHOLE
        self.deadline = None
        return [END]

    def _too_large(self) -> bool:
        return (
            self._reading is _LENGTH and self.body_limit is not None and self._received + self._left > self.body_limit
        )

    def _allow_time(self) -> None:
        if self._held is None:
            limits = self._limits
            self.deadline = self._since + limits.body_timeout + self._received / limits.body_rate

    def _at_eof(self) -> list[Event]:
        reading = self._reading
        if reading is _WHOLE or (reading is _SHUT and self.closing is not Closing.LINGER):
            return []
        return self._closed(_GONE) if reading in (_IDLE, _SHUT) else self._refused(_CUT_OFF)

    def _refused(self, refused: Refused) -> list[Event]:
        streaming = self._answering is _STREAM
        self._shut(Closing.NOW if streaming else None)
        if not streaming:
            self._answering = _OWED
        return [refused]

    def _closed(self, closed: Closed) -> list[Event]:
        self._shut(Closing.NOW)
        return [closed]

    def _shut(self, closing: Closing | None) -> None:
        self._reading = _SHUT
        self._answering = _NONE
        self._data = b""
        self._at = self._seen = 0
        self._judged = True
        self._chunked = None
        self._keep = False
        self.deadline = None
        self.closing = closing


_Read = Callable[[Reader, float], "list[Event]"]
_READERS: Final[dict[Reading, _Read]] = {
    _IDLE: Reader._read_idle,
    _LINE: Reader._read_line,
    _FIELDS: Reader._read_fields,
    _LENGTH: Reader._read_length,
    _CHUNKS: Reader._read_chunks,
    _WHOLE: Reader._read_whole,
    _SHUT: Reader._read_shut,
}

_SLOW_HEAD = Refused(408, "The head of the request took too long.")
_SLOW_BODY = Refused(408, "The body of the request took too long.")
# WHOLE has no deadline: how long an answer takes is not the client's affair.
_LATE: dict[Reading, Refused | Closed] = {
    _IDLE: Closed("no request came for too long"),
    _LINE: _SLOW_HEAD,
    _FIELDS: _SLOW_HEAD,
    _LENGTH: _SLOW_BODY,
    _CHUNKS: _SLOW_BODY,
    _SHUT: Closed("the client had its time to take the answer"),
}
