"""What one client may use, in bytes, counts and seconds."""

from __future__ import annotations

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one connection. What is past one ends it, with the status that stands beside it."""

    request_line: int = 8 * 1024
    """Bytes, without its CRLF. 414 (RFC 9112 section 3)."""
    header_count: int = 100
    """431 (RFC 6585 section 5)."""
    header_bytes: int = 32 * 1024
    """All header lines with their CRLFs, the empty line among them. 431."""
    body_bytes: int | None = 1024 * 1024
    """Bytes of content; None is no limit. 413. :attr:`Connection.body_limit` is that of one request."""
    chunk_extension_bytes: int = 4 * 1024
    """All chunk extensions of one request (RFC 9112 section 7.1.1 asks for a limit). 413."""
    trailer_count: int = 32
    """431. Trailers are checked and dropped."""
    trailer_bytes: int = 8 * 1024
    """431."""
    pipeline_bytes: int = 64 * 1024
    """Bytes of later requests that may wait for the answer of the one before; with more, :attr:`Connection.wants_data`
    is false."""
    head_timeout: float = 10.0
    """Seconds from the first byte of a head to its last. 408."""
    body_timeout: float = 30.0
    """Seconds for a body, beside what :attr:`body_rate` allows. 408."""
    body_rate: int = 1024
    """Bytes of body that earn one more second."""
    idle_timeout: float = 75.0
    """Seconds without a request, from the connection's beginning and from each answer. Closed without an answer."""
    linger_timeout: float = 2.0
    """Seconds in which what the client still sends is read and dropped, so that the last answer reaches it (RFC 9112
    section 9.6)."""
