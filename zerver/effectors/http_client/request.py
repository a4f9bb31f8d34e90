"""The bytes of a request (RFC 9112 sections 3 and 6), and where it goes."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec

from ...effects.http import HttpRequest
from ...error import DefinitionError

__all__ = ["Fields", "Origin", "encode", "fits", "origin_of"]

Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Names in lower case, and values."""

_DEFAULTS = (
    ("host", "Host: {authority}\r\n"),
    ("accept", "Accept: */*\r\n"),
    ("accept-encoding", "Accept-Encoding: gzip\r\n"),
    ("user-agent", "User-Agent: zerver\r\n"),
)
_DEFAULT_NAMES = frozenset([name for name, _ in _DEFAULTS])
# Methods whose content means something: without one they say so (RFC 9110 section 8.6).
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
# What asks for codings, protocols or waits that this client does not have.
_SPECIAL = frozenset({"accept-encoding", "connection", "expect", "keep-alive", "proxy-authorization", "te", "trailer"})


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """Where connections lead to: what is kept alive for one is used for no other."""

    tls: bool
    host: str
    """A name, or an address without brackets."""
    port: int
    fields: str
    """The header fields that each request has, unless it brings its own."""
    authority: str
    path_at: int
    """Where in a URL that starts like this its path begins."""


def fits(request: HttpRequest) -> bool:
    """Whether this client can send it; if not, a bigger one has to."""
    if request.save is not None:
        return False
    return not request.headers or _SPECIAL.isdisjoint([name for name, _ in request.headers])


@lru_cache(maxsize=256)
def _origin(start: str) -> Origin:
    parts = urlsplit(start)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise DefinitionError(f"{start!r} is not the start of an absolute http or https URL")
    tls = parts.scheme == "https"
    fields = "".join([line for _, line in _DEFAULTS]).format(authority=parts.netloc)
    return Origin(tls, host, parts.port or (443 if tls else 80), fields, parts.netloc, len(start))


def origin_of(url: str) -> Origin:
    """The origin (RFC 9110 section 4.3.1) of a URL as :class:`HttpRequest` has it.

    :raises DefinitionError: the URL is not absolute, or is neither http nor https.
    """
    at = url.find("/", 8)
    return _origin(url[:at] if at > 0 else url)


def encode(request: HttpRequest, origin: Origin, more: str = "") -> bytes:
    """Head and body. ``origin``: of the request's URL. ``more``: header lines beside those of the request, which has
    none of these names. They are of our own making: nothing in them ends one too early.

    :raises DefinitionError: CR, LF, NUL or a space stands where it would end something too early. Constructors refuse
        them; this holds for whatever else makes a request.
    """
    method, url, headers, body = request.method, request.url, request.headers, request.body
    target = url[origin.path_at :] or "/"
    start = f"{method} {target}"
    fields = _fields(headers, origin) if headers else origin.fields
    if fields is None or start.split() != [method, target] or "\0" in start:
        raise DefinitionError(
            f"{method!r} to {origin.authority}: its method, URL or headers hold CR, LF, NUL or spaces, which would let "
            "them end early; make requests with http.get(...) and the like"
        )
    if body is not None:
        head = f"{start} HTTP/1.1\r\n{fields}{more}Content-Length: {len(body)}\r\n\r\n"
    elif method in _WITH_CONTENT:
        head = f"{start} HTTP/1.1\r\n{fields}{more}Content-Length: 0\r\n\r\n"
    else:
        head = f"{start} HTTP/1.1\r\n{fields}{more}\r\n"
    data = head.encode("latin-1")
    return data + body if body else data


def _fields(headers: Fields, origin: Origin) -> str | None:
    """Header lines, those that the request does not bring itself first. None: something in them would end one early."""
    own, brings = "", False
    for name, value in headers:
        own += f"{name}: {value}\r\n"
        brings |= name in _DEFAULT_NAMES
    if own.count("\n") != len(headers) or own.count("\r") != len(headers) or "\0" in own:
        return None
    if not brings:
        return origin.fields + own
    names = {name for name, _ in headers}
    lines = [line for name, line in _DEFAULTS if name not in names]
    return "".join(lines).format(authority=origin.authority) + own
