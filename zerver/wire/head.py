"""The head of a request, out of its request line and its fields."""

from __future__ import annotations

from .events import Head, Refused
from .fields import Fields, Pairs
from .request_line import RequestLine

__all__ = ["head_text", "make_head"]


def make_head(line: RequestLine, fields: Fields) -> Head | Refused:
    """The head, or what is wrong with the two together."""
    length, connection = fields.length, fields.connection
    pairs = fields.pairs if line.host is None else _with_host(fields, line.host)
    if line.minor == 0:
        if length is None:  # RFC 9112 section 6.1
            return Refused(400, "HTTP/1.0 has no Transfer-Encoding.")
        keep_alive = b"keep-alive" in connection and b"close" not in connection  # RFC 9112 section 9.3
        # RFC 9110 sections 7.8 and 10.1.1: Upgrade and Expect of HTTP/1.0 are to be ignored.
        return Head(line.method, line.target, line.path, line.query, pairs, "1.0", keep_alive, length)
    if not fields.host:  # RFC 9112 section 3.2
        return Refused(400, "Host is missing.")
    if fields.expect not in (b"", b"100-continue"):  # RFC 9110 section 10.1.1
        return Refused(417, "Nothing but 100-continue can be expected here.")
    upgrade = fields.upgrade.decode("latin-1") if line.method == "GET" and length == 0 else ""
    return Head(
        line.method, line.target, line.path, line.query, pairs, "1.1", b"close" not in connection, length,
        expects_continue=bool(fields.expect) and length != 0, upgrade=upgrade,
    )  # fmt: skip


def _with_host(fields: Fields, host: bytes) -> Pairs:
    """The fields, in which the host of the target stands for that of ``Host`` (RFC 9112 section 3.2.2)."""
    if fields.host:
        return tuple([(name, host if name == b"host" else value) for name, value in fields.pairs])
    return ((b"host", host), *fields.pairs)


def head_text(head: Head) -> bytes:
    """The head written out again, for another parser."""
    lines = [f"{head.method} ".encode("ascii") + head.target + f" HTTP/{head.version}\r\n".encode("ascii")]
    lines += [b"%b: %b\r\n" % pair for pair in head.headers]
    return b"".join((*lines, b"\r\n"))
