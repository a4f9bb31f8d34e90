"""The bytes of answers (RFC 9112 sections 4 and 6)."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

__all__ = ["CONTINUE", "WITHOUT_BODY", "Texts", "Writer", "http_date", "reason_phrase"]

Texts = tuple[tuple[str, str], ...]
"""Header fields of an answer: lower-case name and value, as :class:`zerver.response.Response` has checked them."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
WITHOUT_BODY: Final = frozenset({204, 304})  # RFC 9110 sections 15.3.5 and 15.4.5

# RFC 9110 renamed these; the standard library followed in Python 3.13.
_PHRASES = {
    413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"
}  # fmt: skip
_REASONS = {status.value: _PHRASES.get(status.value, status.phrase) for status in HTTPStatus}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_REMEMBERED: Final = 256  # texts of fields


def reason_phrase(status: int) -> str:
    """The phrase of a status (RFC 9110 section 15); empty for one that has none."""
    return _REASONS.get(status, "")


def http_date(second: int) -> str:
    """A second since 1970 as an IMF-fixdate (RFC 9110 section 5.6.7), whatever the locale."""
    at = datetime.fromtimestamp(second, UTC)
    return f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} GMT"


class Writer:
    """Writes answers. One serves all connections of a process; whoever has the clock calls :meth:`tick`."""

    __slots__ = ("_fields", "_second", "_starts")

    # Both of these are caches: of what an answer with one status begins with in this second, and of short fields.
    _starts: dict[int, bytes]
    _fields: dict[Texts, bytes]

    def __init__(self, unix_time: float) -> None:
        self._second = int(unix_time)
        self._starts = {}
        self._fields = {(): b""}

    def tick(self, unix_time: float) -> None:
        """It is ``unix_time``: seconds since 1970. To be called once a second, or more often."""
        second = int(unix_time)
        if second != self._second:
            self._second = second
            self._starts = {}

    def full(self, status: int, fields: Texts, body: bytes, connection: bytes, without_body: bool) -> bytes:
        """A whole answer with its length. ``connection`` is the line of that field, or nothing. ``without_body`` (the
        answer to HEAD, RFC 9110 section 9.3.2) leaves out the body, not its length."""
        if status in WITHOUT_BODY:  # RFC 9110 section 8.6: no length, either
            return self.start(status, fields, connection)
        start = self._starts.get(status) or self._start(status)
        lines = self._fields.get(fields) or self._lines(fields)
        text = b"%b%b%bcontent-length: %d\r\n\r\n" % (start, lines, connection, len(body))
        return text if without_body else text + body

    def start(self, status: int, fields: Texts, framing: bytes) -> bytes:
        """The head of an answer. ``framing``: the lines of Connection, Content-Length and Transfer-Encoding."""
        start = self._starts.get(status) or self._start(status)
        return b"%b%b%b\r\n" % (start, self._fields.get(fields) or self._lines(fields), framing)

    def _start(self, status: int) -> bytes:
        text = f"HTTP/1.1 {status} {reason_phrase(status)}\r\ndate: {http_date(self._second)}\r\n"
        start = self._starts[status] = text.encode("ascii")  # RFC 9110 section 6.6.1
        return start

    def _lines(self, fields: Texts) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in fields]).encode("latin-1")
        # One field is a content type, as a rule; what has more differs from answer to answer, as a rule.
        if len(fields) == 1 and len(lines) < 80 and len(self._fields) < _REMEMBERED:
            self._fields[fields] = lines
        return lines
