"""The header fields of a request (RFC 9110 section 5, RFC 9112 section 5), and what they say about its framing."""

from __future__ import annotations

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from .events import Refused
from .request_line import is_host

__all__ = ["Fields", "Pairs", "read_fields", "split_fields"]

Pairs = tuple[tuple[bytes, bytes], ...]

# What says where the message ends, and what becomes of the connection.
_MEANINGFUL = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"})
_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding"})
# llhttp reads fields after a request line; the real one is read elsewhere, and more strictly.
_LINE = b"GET / HTTP/1.1\r\n"
_DIGITS = b"0123456789"
_OPTIONS = {option: frozenset([option]) for option in (b"", b"keep-alive", b"close")}  # Connection, as a rule


class Fields(msgspec.Struct, frozen=True, gc=False):
    """The fields of one head, and what they mean for the connection."""

    pairs: Pairs
    host: bool
    connection: frozenset[bytes] = frozenset()
    """The options of ``Connection``, in lower case."""
    length: int | None = 0
    """Bytes of content; None where it is chunked."""
    expect: bytes = b""
    """In lower case."""
    upgrade: bytes = b""
    """In lower case; empty unless ``Connection`` names it."""

    @property
    def plain(self) -> bool:
        """Whether an HTTP/1.1 request with these has no body, keeps the connection, and wants nothing special."""
        return (
            self.host and self.length == 0 and not self.expect and not self.upgrade and b"close" not in self.connection
        )


class _Collector:
    """llhttp's callbacks."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name.lower(), value.rstrip(b" \t")))  # llhttp leaves white space at the end


def split_fields(block: bytes) -> Pairs | None:
    """The fields of a block of lines without control characters, the empty line at its end included. None where a line
    is none: a name that is no token, white space before the colon, a folded line (RFC 9112 sections 5.1 and 5.2)."""
    collector = _Collector()
    try:
        HttpRequestParser(collector).feed_data(_LINE + block)
    except HttpParserUpgrade:
        pass
    except HttpParserError:
        return None
    pairs = collector.pairs
    return tuple(pairs) if len(pairs) == block.count(b"\n") - 1 else None


def read_fields(block: bytes) -> Fields | Refused:
    """The fields, or the first rule about framing that they break. Such a fault ends the connection: what follows could
    be read as one request here and as another elsewhere (RFC 9112 section 11.2)."""
    pairs = split_fields(block)
    if pairs is None:
        # llhttp judges some framing itself, so the reason is not always a line.
        return Refused(400, "The header fields are malformed, or contradict each other.")
    known: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in _MEANINGFUL:
            if name not in known:
                known[name] = value
            elif name in _ONCE:  # RFC 9112 sections 3.2 and 6.3
                return Refused(400, f"{name.decode('ascii').title()} stands there more than once.")
            else:
                known[name] += b"," + value
    host = known.pop(b"host", None)
    if host is not None and not is_host(host):  # RFC 9112 section 3.2
        return Refused(400, "Host is malformed.")
    if not known:
        return Fields(pairs, host is not None)
    length = _length(known)
    if isinstance(length, Refused):
        return length
    connection = known.get(b"connection", b"").lower()
    options = _OPTIONS.get(connection) or frozenset([option.strip(b" \t") for option in connection.split(b",")])
    upgrade = known.get(b"upgrade", b"").lower() if b"upgrade" in options else b""
    return Fields(pairs, host is not None, options, length, known.get(b"expect", b"").lower(), upgrade)


def _length(known: dict[bytes, bytes]) -> int | Refused | None:
    """Bytes of content (RFC 9112 section 6.3); None where it is chunked."""
    coding, digits = known.get(b"transfer-encoding"), known.get(b"content-length")
    if coding is not None:
        if digits is not None:  # rule 3
            return Refused(400, "Content-Length and Transfer-Encoding exclude each other.")
        if coding != b"chunked":  # section 6.1; any other spelling might hide it from somebody on the way
            return Refused(400, "Transfer-Encoding is not exactly: chunked.")
        return None
    if digits is None:
        return 0
    if not digits or digits.strip(_DIGITS) or len(digits) > 18:  # rule 5; a list is none, either
        return Refused(400, "Content-Length is not a number of bytes.")
    return int(digits)
