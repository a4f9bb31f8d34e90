"""Where a redirect leads (RFC 9110 section 15.4), and with what."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import msgspec

from ..effects.http import HttpRequest, HttpResult, checked_url
from ..error import DefinitionError

__all__ = ["NoRedirect", "redirected"]

_FOLLOWED = frozenset({301, 302, 303, 307, 308})
# Not for anybody but the origin that they were written for (RFC 9110 section 15.4).
_CONFIDENTIAL = frozenset({"authorization", "cookie", "host", "idempotency-key", "traceparent", "tracestate"})
_OF_CONTENT = "content-"


class NoRedirect(msgspec.Struct, frozen=True):
    """Why a redirect cannot be followed."""

    why: str


def redirected(request: HttpRequest, answer: HttpResult) -> HttpRequest | NoRedirect | None:
    """The next request; None for an answer that is no redirect, or names no place."""
    if answer.status not in _FOLLOWED:
        return None
    location = answer.header("location")
    if location is None:
        return None
    try:
        url = checked_url("redirect", urljoin(request.url, _text(location)))[0]
    except (DefinitionError, ValueError):
        return NoRedirect("a redirect leads to no http or https URL")
    here, there = urlsplit(request.url), urlsplit(url)
    if here.scheme == "https" and there.scheme == "http":
        return NoRedirect("a redirect leads from https to http")
    method, body, headers = request.method, request.body, request.headers
    # 303 asks for a GET; after 301 and 302 everybody makes one out of a POST (RFC 9110 sections 15.4.2 to 15.4.4).
    if (answer.status == 303 and method != "HEAD") or (answer.status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = tuple([(name, value) for name, value in headers if not name.startswith(_OF_CONTENT)])
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        headers = tuple([(name, value) for name, value in headers if name not in _CONFIDENTIAL])
    return msgspec.structs.replace(request, method=method, url=url, headers=headers, body=body)


def _text(location: str) -> str:
    """Header values are latin-1 here; what is not ASCII in a URL is UTF-8, as a rule."""
    return location if location.isascii() else location.encode("latin-1").decode("utf-8", "replace")
