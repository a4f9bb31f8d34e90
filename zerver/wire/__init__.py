"""HTTP/1.1 without I/O: bytes and time in, events and bytes out (RFC 9110, RFC 9112).

`connection` holds the states of one connection, `events` what it tells, `limits` what a client may use, `writer` the
bytes of answers. Beneath them: `request_line`, `fields` (on llhttp), `head`, `chunked`.
"""

from __future__ import annotations

from .connection import Closing, Connection
from .events import END, Body, Closed, End, Event, Head, Refused
from .limits import Limits
from .writer import Writer

__all__ = ["END", "Body", "Closed", "Closing", "Connection", "End", "Event", "Head", "Limits", "Refused", "Writer"]
