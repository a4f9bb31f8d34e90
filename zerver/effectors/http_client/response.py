"""Answers out of bytes: where one ends (RFC 9112 section 6.3), and whether its connection may be used again.

llhttp judges each head, strictly; the framing is decided here. One rule is stricter than the RFC has it: a connection
is used again only when nothing at all was unusual.
"""

from __future__ import annotations

import zlib
from enum import IntEnum
from functools import lru_cache
from typing import Final

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from ...effects.http import HttpResult
from ...wire.chunked import TOO_LARGE, ChunkedBody
from ...wire.limits import Limits
from ...wire.writer import WITHOUT_BODY

__all__ = ["NO_HTTP", "SWITCHED", "Fault", "Head", "ResponseReader", "gunzip", "parse_head", "too_large"]

NO_HTTP: Final = "the answer is not valid HTTP"
SWITCHED: Final = "the upstream changed the protocol, which nobody asked for"

_HEAD_END = b"\r\n\r\n"
_HEAD_BYTES = 64 * 1024
_HEAD_FIELDS = 256
_REMEMBERED = 1024  # bytes of a head that is remembered
_INTERIM = 16  # 1xx answers before the real one
_MEMBERS = 16  # of a gzip body (RFC 1952 section 2.2); each is a copy of the rest
_GZIP = 31  # zlib's way to say: gzip and nothing else
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "content-encoding"})
_LIMITS = Limits()  # of chunk extensions and trailers


def too_large(most: int) -> str:
    """What is said of a body with more than ``most`` bytes."""
    return f"the answer is larger than {most} bytes"


class Fault(msgspec.Struct, frozen=True):
    """Why there is no answer."""

    what: str
    retryable: bool = True


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of an answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """(lower-case name, value), in order."""
    length: int | None
    """``Content-Length``; None where there is none."""
    chunked: bool
    keep_alive: bool
    coding: str
    """``Content-Encoding``, in lower case; empty for none."""
    plain: int = -1
    """``Content-Length`` of an answer of which there is nothing else to be known: but to HEAD, its body has as many
    bytes, and they are what they are. Else -1."""


_MALFORMED = Fault(NO_HTTP)
_LARGE_HEAD = Fault("the answer's head is too large")
_TOO_MANY_INTERIM = Fault("too many interim answers")
_SWITCHED = Fault(SWITCHED, False)
_OTHER_CODING = Fault("the answer is in a content coding that was not asked for", False)
_NO_GZIP = Fault("the answer is not valid gzip")


class _State(IntEnum):
    IDLE = 0
    HEAD = 1
    LENGTH = 2
    CHUNKED = 3
    TO_THE_END = 4


_IDLE, _HEAD, _LENGTH, _CHUNKED, _TO_THE_END = _State


class ResponseReader:
    """Reads the answers of one connection, one for each :meth:`expect`. After a fault it is not to be used again."""

    __slots__ = (
        "_block", "_chunks", "_data", "_head", "_interim", "_last", "_left", "_most", "_pieces", "_state", "_to_head",
        "reusable",
    )  # fmt: skip

    def __init__(self, most: int) -> None:
        """``most``: bytes of a body, before and after decompression."""
        self._most = most
        self._state = _IDLE
        self._to_head = False
        self._data = b""  # an incomplete head, or line between chunks
        self._interim = 0
        self._head: Head | None = None
        self._block: bytes | None = None  # the last head that came on this connection, and what it says
        self._last: Head | None = None
        self._pieces: list[bytes] = []
        self._left = 0  # bytes of body to come; to the end: that may come
        self._chunks: ChunkedBody | None = None
        self.reusable = False
        """Whether the connection may be used again, after a whole answer: nothing came after it, and nothing was
        unusual."""

    def expect(self, to_head: bool) -> None:
        """What comes next is an answer; ``to_head``: to HEAD, so that it has no body (RFC 9110 section 9.3.2)."""
        self._state = _HEAD
        self._to_head = to_head
        self.reusable = False

    @property
    def untouched(self) -> bool:
        """Whether no byte of the answer has come."""
        return self._state is _HEAD and not self._data and not self._interim

    def feed(self, data: bytes) -> HttpResult | Fault | None:
        """The answer, when it is whole."""
        state = self._state
        if state is _HEAD:
            block, last = self._block, self._last
            if last is None or block is None or self._data or not data.startswith(block):
                return self._read_head(data)
            return self._begin_body(last, data, len(block))
        if state is _LENGTH:
            return self._read_length(data)
        if state is _CHUNKED:
            return self._read_chunks(data)
        return self._read_to_the_end(data)

    def eof(self) -> HttpResult | Fault | None:
        """The other side has closed. None if that came too early."""
        return self._whole(b"".join(self._pieces)) if self._state is _TO_THE_END else None

    def _read_head(self, data: bytes) -> HttpResult | Fault | None:
        seen = 0
        if self._data:
            seen = max(0, len(self._data) - len(_HEAD_END))
            data = self._data + data
            self._data = b""
        while True:
            end = data.find(_HEAD_END, seen, _HEAD_BYTES)
            if end < 0:
                if len(data) >= _HEAD_BYTES:
                    return _LARGE_HEAD
                if not data.startswith(b"HTTP/"[: len(data)]):
                    return _MALFORMED
                self._data = data
                return None
            end += len(_HEAD_END)
            block = data[:end]
            short = end <= _REMEMBERED
            head = _remembered(block) if short else parse_head(block)
            if isinstance(head, Fault):
                return head
            if head.status >= 200:
                if short:
                    self._block, self._last = block, head
                return self._begin_body(head, data, end)
            self._interim += 1
            if self._interim > _INTERIM:
                return _TOO_MANY_INTERIM
            data = data[end:]
            if not data:
                return None
            seen = 0

    def _begin_body(self, head: Head, data: bytes, at: int) -> HttpResult | Fault | None:
        size = head.plain
        if size == len(data) - at and size <= self._most and not self._to_head:
            # As nearly always: all of it has come, and nothing after it.
            self._state = _IDLE
            self._interim = 0
            self.reusable = head.keep_alive
            return HttpResult(head.status, head.headers, data[at:])
        self._head = head
        length = head.length
        if self._to_head or head.status in WITHOUT_BODY:
            # A 204 that announces a body may well send it (RFC 9110 section 8.6 forbids the announcement).
            odd = head.status == 204 and (head.chunked or bool(length))
            self.reusable = head.keep_alive and at == len(data) and not odd
            return self._whole(b"")
        if length is not None:
            if length > self._most:
                return self._too_large()
            if at + length <= len(data):
                self.reusable = head.keep_alive and at + length == len(data)
                return self._whole(data[at : at + length])
            self._state = _LENGTH
            self._left = length
            return self._read_length(data[at:])
        if head.chunked:
            self._state = _CHUNKED
            self._chunks = ChunkedBody(_LIMITS)
            return self._read_chunks(data[at:])
        self._state = _TO_THE_END
        self._left = self._most
        return self._read_to_the_end(data[at:])

    def _read_length(self, data: bytes) -> HttpResult | Fault | None:
        left = self._left = self._left - len(data)
        if left > 0:
            self._pieces.append(data)
            return None
        assert self._head is not None
        self.reusable = self._head.keep_alive and left == 0
        self._pieces.append(data[:left] if left else data)
        return self._whole(b"".join(self._pieces))

    def _read_chunks(self, data: bytes) -> HttpResult | Fault | None:
        chunks = self._chunks
        assert chunks is not None
        assert self._head is not None
        if self._data:
            data = self._data + data
        at, refused = chunks.read(data, 0, self._most, self._pieces)
        if refused is not None:
            return self._too_large() if refused is TOO_LARGE else _MALFORMED
        if not chunks.done:
            self._data = data[at:]
            return None
        self.reusable = self._head.keep_alive and at == len(data)
        return self._whole(b"".join(self._pieces))

    def _read_to_the_end(self, data: bytes) -> Fault | None:
        self._left -= len(data)
        if self._left < 0:
            return self._too_large()
        self._pieces.append(data)
        return None

    def _whole(self, body: bytes) -> HttpResult | Fault:
        head = self._head
        assert head is not None
        self._head = None
        self._state = _IDLE
        if self._pieces or self._chunks is not None or self._interim or self._data:
            self._pieces = []
            self._chunks = None
            self._interim = 0
            self._data = b""
        if head.coding and body:
            if head.coding != "gzip":
                return _OTHER_CODING
            plain = gunzip(body, self._most)
            if plain is None:
                return self._too_large()
            if isinstance(plain, Fault):
                return plain
            body = plain
        return HttpResult(head.status, head.headers, body)

    def _too_large(self) -> Fault:
        return Fault(too_large(self._most), False)


class _Nobody:
    """llhttp's callbacks: none."""


_NOBODY = _Nobody()


def parse_head(block: bytes) -> Head | Fault:
    """Status line and fields, the empty line included."""
    if block.count(b"\n") > _HEAD_FIELDS + 2:
        return _LARGE_HEAD
    parser = HttpResponseParser(_NOBODY)
    try:
        parser.feed_data(block)
    except HttpParserUpgrade:
        return _SWITCHED
    except HttpParserError:
        return _MALFORMED
    status = parser.get_status_code()
    if status < 100 or not block.startswith(b"HTTP/1."):
        return _MALFORMED
    if status == 101:
        return _SWITCHED
    headers = []
    lengths, transfer, connection, coding = [], [], [], []
    # llhttp has seen that each line is a name, a colon and a value, and that none is folded.
    for line in block[:-4].decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        headers.append((name, value))
        if name in _FRAMING:
            if name == "content-length":
                lengths.append(value)
            elif name == "transfer-encoding":
                transfer.append(value.lower())
            elif name == "connection":
                connection += [option.strip(" \t") for option in value.lower().split(",")]
            else:
                coding += [one.strip(" \t") for one in value.lower().split(",")]
    # Whoever reads such a head otherwise than we do sees another message (RFC 9112 section 11.2). Two lengths, and a
    # length beside a coding, llhttp has refused.
    if transfer not in ([], ["chunked"]):
        return _MALFORMED
    if lengths and not (lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) <= 18):
        return _MALFORMED
    modern = not block.startswith(b"HTTP/1.0")
    keep_alive = "close" not in connection and (modern or ("keep-alive" in connection and not transfer))
    codings = ["gzip" if one == "x-gzip" else one for one in coding if one not in ("", "identity")]
    length = int(lengths[0]) if lengths else None
    plain = -1 if length is None or codings or status in WITHOUT_BODY else length
    return Head(status, tuple(headers), length, bool(transfer), keep_alive, ",".join(codings), plain)


# What an upstream says about its answers to one kind of request is the same, byte for byte, for a second or longer.
_remembered = lru_cache(maxsize=256)(parse_head)


def gunzip(body: bytes, most: int) -> bytes | Fault | None:
    """The decompressed body (RFC 1952). None if it has more than ``most`` bytes; no more than that is ever made."""
    pieces: list[bytes] = []
    left = most
    try:
        for _ in range(_MEMBERS):
            member = zlib.decompressobj(_GZIP)
            piece = member.decompress(body, left + 1)
            left -= len(piece)
            if left < 0:
                return None
            if not member.eof:
                return _NO_GZIP
            pieces.append(piece)
            body = member.unused_data
            if not body:
                return b"".join(pieces)
    except zlib.error:
        pass
    return _NO_GZIP
