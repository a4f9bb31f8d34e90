"""The request line (RFC 9112 section 3) and its target: stricter than llhttp, which never sees it."""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from .events import Refused
from .lines import TOKEN

__all__ = ["METHODS", "ORIGIN_FORM", "RequestLine", "decoded_path", "is_host", "read_request_line"]

# Visible ASCII without "#". Wider than RFC 3986 by `"<>\^`{|}`: browsers send them raw (see the WHATWG URL Standard).
_PATH = rb"/[!\"$->@-~]*+"
_QUERY = rb"(?:\?([!\"$-~]*+))?+"

ORIGIN_FORM = re.compile(rb"(" + TOKEN + rb") ((" + _PATH + rb")" + _QUERY + rb") HTTP/1\.([01])\r\n")
"""The usual request line with its CRLF (RFC 9112 section 3.2.1): method, target, path, query, minor version."""

METHODS = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
}
"""The usual methods; see :func:`read_request_line` for the others."""

_LINE = re.compile(rb"(" + TOKEN + rb") ([!\"$-~]++) HTTP/([0-9])\.([0-9])")
_ABSOLUTE = re.compile(rb"https?://([^/?]*+)(" + _PATH + rb")?+" + _QUERY, re.IGNORECASE)
# RFC 3986 section 3.2.2, without the comma: one in a Host is two hosts that an intermediary has joined.
_HOST = re.compile(rb"(?:(?:[A-Za-z0-9\-._~!$&'()*+;=]++|%[0-9A-Fa-f]{2})++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5}+)?+")


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """A request line in one of the allowed forms. ``host`` is the authority of a target in absolute-form."""

    method: str
    target: bytes
    path: str
    query: bytes
    minor: int
    host: bytes | None = None


def is_host(value: bytes) -> bool:
    """Whether this is ``uri-host [":" port]`` (RFC 9110 section 7.2): not empty, no userinfo, no list."""
    return _HOST.fullmatch(value) is not None


def decoded_path(raw: bytes) -> str:
    """The path as text."""
    path = raw.decode("ascii")
    return unquote(path) if "%" in path else path


def read_request_line(line: bytes) -> RequestLine | Refused:
    """The request line, without its CRLF. Any method is taken but CONNECT, which needs a proxy: 501."""
    match = _LINE.fullmatch(line)
    if match is None:
        # No version is HTTP/0.9; more or other white space, RFC 9112 section 3 lets us refuse.
        return Refused(400, "The request line is not: method, one space, target, one space, HTTP/1.1.")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        return Refused(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")  # RFC 9110 section 15.6.6
    if method == b"CONNECT":
        return Refused(501, "CONNECT is for proxies; this is an origin server.")  # RFC 9110 section 9.3.6
    return _with_target(method.decode("ascii"), target, int(minor))


def _with_target(method: str, target: bytes, minor: int) -> RequestLine | Refused:
    if target.startswith(b"/"):  # origin-form, RFC 9112 section 3.2.1
        path, _, query = target.partition(b"?")
        return RequestLine(method, target, decoded_path(path), query, minor)
    if target == b"*" and method == "OPTIONS":  # asterisk-form, RFC 9112 section 3.2.4
        return RequestLine(method, target, "*", b"", minor)
    match = _ABSOLUTE.fullmatch(target)  # absolute-form, RFC 9112 section 3.2.2
    if match is None:
        return Refused(400, "The request target is neither a path, nor an http URL, nor * with OPTIONS.")
    host, path, query = match.groups()
    if not is_host(host):  # userinfo is an error, RFC 9110 section 4.2.4
        return Refused(400, "The host in the request target is missing or malformed.")
    return RequestLine(method, target, decoded_path(path or b"/"), query or b"", minor, host)
