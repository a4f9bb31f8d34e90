"""Responses: what a route answers, as a frozen value that is checked when it is made."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec
import orjson

from .error import DefinitionError

__all__ = ["JSON", "FileBody", "Headers", "Response", "StreamBody", "encode_json", "response"]

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_FORBIDDEN = re.compile(r"[\r\n\0]")
# The engine frames the message (RFC 9112 section 6); an app that frames it too would contradict it.
_FRAMING = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade", "trailer"})
_WITHOUT_BODY = frozenset({204, 304})  # RFC 9110 sections 15.3.5 and 15.4.5
JSON = (("content-type", "application/json"),)


class StreamBody(msgspec.Struct, frozen=True, eq=False):
    """A body that is produced while it is sent: an iterable or async iterable of bytes, run after the pipeline,
    outside of purity and replay."""

    chunks: Iterable[bytes] | AsyncIterable[bytes]


class FileBody(msgspec.Struct, frozen=True):
    """A body that is read from a file while it is sent."""

    path: str
    filename: str | None = None


class Response(msgspec.Struct, frozen=True):
    """Status, headers (lower-case name and value as text, in order) and body. The constructors of ``Done`` make one.

    :raises DefinitionError: a status outside 200-599, a body on 204 or 304, a body that is text, a header name that is
        no token, a header value that is not latin-1 or has CR, LF or NUL, or a header that only the engine may set
        (message framing).
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | StreamBody | FileBody = b""

    def __post_init__(self) -> None:
        status, headers, body = self.status, self.headers, self.body
        if headers is JSON and type(body) is bytes and type(status) is int and status == 200:  # as nearly always
            return
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise DefinitionError(f"status {status!r}: a response's status is a number from 200 to 599")
        if not isinstance(body, (bytes, StreamBody, FileBody)):
            raise DefinitionError(f"body: {type(body).__name__} is not bytes; encode text, as Done.text does")
        if body and status in _WITHOUT_BODY:
            raise DefinitionError(
                f"status {status} has no body (RFC 9110): leave the body out, or choose another status"
            )
        if headers and headers is not JSON:
            msgspec.structs.force_setattr(self, "headers", checked_headers(headers))


def response(
    body: bytes | StreamBody | FileBody = b"",
    *,
    status: int = 200,
    content_type: str | None = None,
    headers: Headers = (),
) -> Response:
    """A response whose headers may be a mapping, and name a content type of their own.

    :raises DefinitionError: see :class:`Response`.
    """
    if not headers:
        if content_type == "application/json":
            return Response(status, JSON, body)
        return Response(status, () if content_type is None else (("content-type", content_type),), body)
    items = header_pairs(headers)
    if content_type is not None and not any(str(name).lower() == "content-type" for name, _ in items):
        items = (("content-type", content_type), *items)
    return Response(status, items, body)


def header_pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    """The headers as pairs, in order, unchecked."""
    pairs: Any = headers.items() if isinstance(headers, Mapping) else headers
    return tuple(pairs)


def checked_headers(items: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The headers with lower-case names.

    :raises DefinitionError: see :class:`Response`.
    """
    checked = []
    for name, value in items:
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise DefinitionError(f"header name {name!r}: letters, digits and !#$%&'*+-.^_`|~ only (RFC 9110)")
        if not isinstance(value, str):
            raise DefinitionError(
                f"header {name}: its value is {type(value).__name__}, not text; convert it with str()"
            )
        if _FORBIDDEN.search(value):
            raise DefinitionError(
                f"header {name}: its value holds CR, LF or NUL; never put unchecked input into a header"
            )
        if not value.isascii():
            try:
                value.encode("latin-1")
            except UnicodeEncodeError:
                raise DefinitionError(
                    f"header {name}: its value is not latin-1; percent-encode it (RFC 8187 for file names)"
                ) from None
        lower = name.lower()
        if lower in _FRAMING:
            raise DefinitionError(f"header {name}: the engine sets it itself; leave it out")
        checked.append((lower, value.strip(" \t")))
    return tuple(checked)


def location(url: str) -> str:
    """A URL as it may stand in a ``Location`` header: reserved characters kept, the rest percent-encoded."""
    return quote(url, safe=":/%#?=@[]!$&'()*+,;")


def file_body(path: str | os.PathLike[str], filename: str | None) -> FileBody:
    """A body from a path, which need not exist yet."""
    return FileBody(os.fspath(path), filename)


def encode_json(value: Any) -> bytes:
    """JSON (RFC 8259) of builtins, dataclasses, msgspec Structs, pydantic models, datetimes, UUIDs, enums, sets
    and Decimals. Keys may be text, numbers, dates, UUIDs and enums.

    :raises TypeError: a value of another type, named in the message.
    """
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError as problem:
        if "key must be" not in str(problem):
            raise
    return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)  # slower for everything else


def _plain(value: Any) -> Any:
    dump = getattr(type(value), "model_dump", None)
    if dump is not None:
        return dump(value, mode="json")
    return msgspec.to_builtins(value)
