"""``multipart/form-data`` (RFC 7578) and header parameters, read out of complete bytes.

python-multipart finds the parts; here they become values, and what is not well-formed becomes :class:`Malformed`.
"""

from __future__ import annotations

import logging
import re
from typing import Final

import msgspec

__all__ = ["Malformed", "Part", "parse_multipart", "parse_options"]

_QUIET: Final = logging.Logger("zerver.multipart", logging.CRITICAL)  # a client's mistake is no warning in the log

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = re.compile(rf"{_TOKEN}(?:/{_TOKEN})?[ \t]*")
_OPTION = re.compile(rf';[ \t]*(?:({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?[ \t]*', re.DOTALL)


class Malformed(Exception):
    """Bytes that are no multipart form. The message is a sentence for the client, without anything it sent."""


class Part(msgspec.Struct, frozen=True):
    """One part. ``filename`` is ``None`` for a field, ``content_type`` is ``text/plain`` unless given."""

    name: str
    filename: str | None
    content_type: str
    body: bytes


def parse_options(header: str) -> tuple[str, dict[str, str]] | None:
    """A media type or disposition in lower case, and its parameters (RFC 9110 section 5.6.6); ``None`` where it is
    malformed or names a parameter twice. Only ``\\"`` and ``\\\\`` are escapes: browsers send backslashes bare."""
    value = _VALUE.match(header)
    if value is None:
        return None
    options: dict[str, str] = {}
    at = value.end()
    while at < len(header):
        option = _OPTION.match(header, at)
        if option is None:
            return None
        at = option.end()
        if option[1]:
            name = option[1].lower()
            if name in options:
                return None
            options[name] = option[2] if option[3] is None else re.sub(r'\\(["\\])', r"\1", option[3])
    return value[0].strip().lower(), options


def parse_multipart(body: bytes, boundary: str, limit: int) -> list[Part]:
    """The parts of a form, at most ``limit``.

    :raises Malformed: a boundary that is none, parts that are malformed or too many, or a missing end.
    """
    if not (1 <= len(boundary) <= 70 and boundary.isascii()):  # RFC 2046 section 5.1.1
        raise Malformed("Content-Type: expected a boundary of 1 to 70 ASCII characters")
    from python_multipart.exceptions import FormParserError  # most apps take no such form: they start faster
    from python_multipart.multipart import MultipartParser

    reader = _Reader(limit)
    try:
        parser = MultipartParser(
            boundary.encode(),
            {
                "on_part_begin": reader.begin,
                "on_header_field": reader.header_name,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_end,
                "on_part_data": reader.data,
                "on_part_end": reader.end,
                "on_end": reader.complete,
            },
        )
        parser.logger = _QUIET
        parser.write(body)
    except FormParserError as problem:
        offset = getattr(problem, "offset", -1)
        raise Malformed("The multipart body is malformed" + (f" (byte {offset})" if offset >= 0 else "")) from None
    if not reader.whole:
        raise Malformed("The multipart body ends before its last boundary")
    return reader.parts


class _Reader:
    """What the parser calls back."""

    def __init__(self, limit: int) -> None:
        self.parts: list[Part] = []
        self.whole = False
        self._limit = limit
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._body: list[bytes] = []

    def begin(self) -> None:
        if len(self.parts) == self._limit:
            raise Malformed(f"The form has more than {self._limit} fields")
        self._headers = {}
        self._body = []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        name = self._name.lower()
        if name in self._headers:
            raise self._malformed("has a header twice")
        self._headers[name] = self._value
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self._body.append(data[start:end])

    def end(self) -> None:
        try:
            disposition = self._headers.get(b"content-disposition", b"").decode()
        except UnicodeDecodeError:
            raise self._malformed("has a Content-Disposition that is not in UTF-8") from None
        kind, options = parse_options(disposition) or ("", {})
        name, filename = options.get("name"), options.get("filename")
        if kind != "form-data" or name is None:
            raise self._malformed('expected Content-Disposition: form-data; name="..."')
        if filename is None and "filename*" in options:
            raise self._malformed("has filename*, which forms must not (RFC 7578 section 4.2): expected filename")
        content_type = self._headers.get(b"content-type", b"text/plain").decode("latin-1")
        self.parts.append(Part(name, filename, content_type, b"".join(self._body)))

    def complete(self) -> None:
        self.whole = True

    def _malformed(self, what: str) -> Malformed:
        return Malformed(f"Part {len(self.parts) + 1} of the form: {what}")
