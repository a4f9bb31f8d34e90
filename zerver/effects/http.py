"""HTTP requests to other servers: ``http.get(url, into=Weather)``, ``http.post(url, json={...})``.

Without ``into`` or ``as_`` the value is the whole answer, an :class:`HttpResult`; with ``bytes`` the body, with
``str`` the body as text; with any other type the body is decoded from JSON. An answer whose status is not in
``expect`` is a failure. Redirects are followed as far as ``redirects`` says, and by default not.
"""

from __future__ import annotations

import codecs
import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, TypeVar, Unpack, overload
from urllib.parse import quote, quote_plus, urlencode

import msgspec

from ..effect import Effect, Priority, Retry
from ..error import DefinitionError
from ..response import checked_headers, encode_json
from ..slot import Key
from .options import Into, Options

__all__ = [
    "HttpOptions",
    "HttpRequest",
    "HttpResult",
    "checked_url",
    "delete",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "request",
    "trace",
]

T = TypeVar("T")

Field: TypeAlias = str | int | float | Sequence[str | int | float]

_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # a tab is whitespace there: RFC 9110 section 5.5
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
# RFC 3986 sections 3 and 3.2, with the registered names that resolvers know (DNS, and _ which containers use).
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE | re.ASCII,
)
_KEPT = "%/:?@!$&'()*+,;=[]"
# A path, and a query, in which there is nothing to be quoted.
_QUOTED = re.compile(r"/[A-Za-z0-9_.~%/:@!$&'()*+,;=\[\]-]*+(?:\?[A-Za-z0-9_.~%/:?@!$&'()*+,;=\[\]-]++)?")
_CHARSET = re.compile(r";[ \t]*charset=\"?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
# Codecs that Python has beside charsets; some of them take quadratic time.
_NO_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})
_PORTS: Final = {"http": 80, "https": 443}
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})  # RFC 9110 section 9.2.2
_SUCCESS = range(200, 400)


class HttpRequest(msgspec.Struct, frozen=True):
    """What is sent. The URL is percent-encoded, names of headers are in lower case."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    expect: range | frozenset[int]
    """The statuses that are a success."""
    redirects: int = 0
    """How many redirects are followed."""
    save: str | None = None
    """The file that the body goes to."""


class HttpResult(msgspec.Struct, frozen=True):
    """What came back. Names of headers are in lower case, in the order received; the body has no transfer or
    content coding.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header by its name in any case; several are joined with ``, `` (RFC 9110 section 5.3)."""
        wanted = name.lower()
        values = [value for key, value in self.headers if key == wanted]
        return ", ".join(values) if values else None

    def text(self) -> str:
        """The body as text, in the charset that ``Content-Type`` names, else in UTF-8.

        :raises UnicodeError: the body is not in that charset.
        """
        named = _CHARSET.search(self.header("content-type") or "")
        try:
            charset = codecs.lookup(named[1] if named else "utf-8").name
            return self.body.decode("utf-8" if charset in _NO_CHARSETS else charset)
        except LookupError:  # unknown, or a codec from bytes to bytes
            return self.body.decode()


class HttpOptions(Options, total=False):
    """What every verb takes beside the URL."""

    json: Any
    body: bytes | str | None
    form: Mapping[str, Field] | None
    headers: Mapping[str, str] | None
    params: Mapping[str, Field] | None
    expect: Collection[int]
    redirects: int
    save: str


class _Verb:
    """``http.<verb>(url, ...)``.

    ``params`` are added to the query. One of ``json`` (any value with a JSON form), ``form`` (urlencoded) and
    ``body`` (bytes, or text in UTF-8) is sent, with its content type unless ``headers`` has one. ``expect``:
    the statuses that are a success (default 200 to 399). ``redirects``: how many are followed (default none), all
    within the time-out; never from https to http, and credentials stay with their origin. ``save``: a path, as
    ``file.write`` takes it, to which the body goes piece by piece if the status is a success; the value is an
    :class:`HttpResult` without a body. ``idem`` is sent as the header ``Idempotency-Key``.

    :raises DefinitionError: a URL that is not absolute http or https, has user information or control
        characters; a method or header that cannot be sent; several bodies; an ``expect`` that no status is in;
        ``redirects`` that are not 0 to 20; ``save`` with a type other than ``HttpResult``.
    """

    __slots__ = ("_idempotent", "_method", "_name", "_op")

    def __init__(self, method: str) -> None:
        self._method = method
        self._op = method.lower()
        self._name = f"http.{self._op}"
        self._idempotent = method in _IDEMPOTENT

    @overload
    def __call__(
        self,
        url: str,
        *,
        into: None = None,
        as_: None = None,
        required: Literal[True] = True,
        **options: Unpack[HttpOptions],
    ) -> Effect[HttpResult]: ...
    @overload
    def __call__(
        self, url: str, *, into: None = None, as_: None = None, required: bool, **options: Unpack[HttpOptions]
    ) -> Effect[HttpResult | None]: ...
    @overload
    def __call__(
        self,
        url: str,
        *,
        into: Key[object, T],
        as_: type[T] | None = None,
        required: Literal[True] = True,
        **options: Unpack[HttpOptions],
    ) -> Effect[T]: ...
    @overload
    def __call__(
        self,
        url: str,
        *,
        into: Into[T],
        as_: type[T] | None = None,
        required: bool,
        **options: Unpack[HttpOptions],
    ) -> Effect[T | None]: ...
    @overload
    def __call__(
        self,
        url: str,
        *,
        into: None = None,
        as_: type[T],
        required: Literal[True] = True,
        **options: Unpack[HttpOptions],
    ) -> Effect[T]: ...
    @overload
    def __call__(
        self, url: str, *, into: None = None, as_: type[T], required: bool, **options: Unpack[HttpOptions]
    ) -> Effect[T | None]: ...
    def __call__(
        self,
        url: str,
        *,
        into: Any = None,
        as_: Any = None,
        json: Any = None,
        body: bytes | str | None = None,
        form: Mapping[str, Field] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Field] | None = None,
        expect: Collection[int] = _SUCCESS,
        redirects: int = 0,
        save: str | None = None,
        required: bool = True,
        timeout: float | None = None,
        retry: Retry | None = None,
        priority: Priority = "interactive",
        idem: str | None = None,
    ) -> Effect[Any]:
        name, method = self._name, self._method
        full, target = checked_url(name, url, params)
        content_type, content = _content(name, method, json, body, form)
        sent = _headers(name, headers, content_type, idem)
        if redirects.__class__ is not int or not 0 <= redirects <= 20:
            raise DefinitionError(f"{name}: redirects={redirects!r}; give how many are followed, from 0 to 20")
        expected = _SUCCESS if expect is _SUCCESS else _expect(name, expect)
        effect: Effect[Any] = Effect(
            family="http",
            op=self._op,
            target=target,
            args=HttpRequest(method, full, sent, content, expected, redirects, save),
            into=into,
            as_=as_,
            timeout=timeout,
            retry=retry,
            required=required,
            priority=priority,
            idem=idem,
            idempotent=self._idempotent,
        )
        if save is not None:
            if not isinstance(save, str):
                raise DefinitionError(f"{name}: save is {type(save).__name__}; give a path as text")
            if effect.result_type not in (None, HttpResult):
                raise DefinitionError(f"{name}: with save= there is no body to decode; its type is HttpResult")
        return effect

    def __repr__(self) -> str:
        return self._name


get = _Verb("GET")
head = _Verb("HEAD")
post = _Verb("POST")
put = _Verb("PUT")
patch = _Verb("PATCH")
delete = _Verb("DELETE")
options = _Verb("OPTIONS")
trace = _Verb("TRACE")


@overload
def request(
    method: str,
    url: str,
    *,
    into: None = None,
    as_: None = None,
    required: Literal[True] = True,
    **options: Unpack[HttpOptions],
) -> Effect[HttpResult]: ...
@overload
def request(
    method: str, url: str, *, into: None = None, as_: None = None, required: bool, **options: Unpack[HttpOptions]
) -> Effect[HttpResult | None]: ...
@overload
def request(
    method: str,
    url: str,
    *,
    into: Key[object, T],
    as_: type[T] | None = None,
    required: Literal[True] = True,
    **options: Unpack[HttpOptions],
) -> Effect[T]: ...
@overload
def request(
    method: str,
    url: str,
    *,
    into: Into[T],
    as_: type[T] | None = None,
    required: bool,
    **options: Unpack[HttpOptions],
) -> Effect[T | None]: ...
@overload
def request(
    method: str,
    url: str,
    *,
    into: None = None,
    as_: type[T],
    required: Literal[True] = True,
    **options: Unpack[HttpOptions],
) -> Effect[T]: ...
@overload
def request(
    method: str, url: str, *, into: None = None, as_: type[T], required: bool, **options: Unpack[HttpOptions]
) -> Effect[T | None]: ...
def request(method: str, url: str, **options: Any) -> Effect[Any]:
    """A request with any method (RFC 9110 section 9); the methods of that RFC have functions of their own."""
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise DefinitionError(
            f"http.request: method {method!r} is no token; use letters and digits, such as 'PROPFIND'"
        )
    if method.upper() == "CONNECT":
        raise DefinitionError("http.request: CONNECT asks a proxy for a tunnel, which an effect cannot use")
    return _Verb(method.upper())(url, **options)


def checked_url(name: str, url: str, params: Mapping[str, Field] | None = None) -> tuple[str, str]:
    """The URL as it is sent, and the target that breaker and bulkhead are kept for.

    :raises DefinitionError: it is not absolute http or https, has user information or control characters, ...
    """
    if not isinstance(url, str):
        raise DefinitionError(f"{name}: the URL is {type(url).__name__}, not text")
    if not params and (at := url.find("/", 8)) > 0 and _QUOTED.fullmatch(url, at):
        target = _target(url[:at])
        if target is not None:
            return url, target
    if _CONTROL.search(url):
        raise DefinitionError(f"{name}: URL {url!r} holds control characters; pass unchecked input in params={{...}}")
    match = _URL.fullmatch(url)
    if match is None:
        authority = url.partition("://")[2].partition("/")[0]
        if "@" in authority:
            raise DefinitionError(f"{name}: a URL with user information is refused; send an Authorization header")
        if not authority.isascii():
            raise DefinitionError(f"{name}: host {authority!r} is not ASCII; write it as it is in DNS (xn--...)")
        raise DefinitionError(f"{name}: URL {url!r} is not absolute; write 'https://host/path', or http")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    port = int(match["port"] or _PORTS[scheme])
    if not 1 <= port <= 65535:
        raise DefinitionError(f"{name}: URL {url!r} has port {port}; ports are 1 to 65535")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise DefinitionError(f"{name}: URL {url!r}: {host} is no IPv6 address") from None
    authority = host if port == _PORTS[scheme] else f"{host}:{port}"
    try:
        path = quote(match["path"] or "/", safe=_KEPT)
        query = quote(match["query"] or "", safe=_KEPT)
    except UnicodeEncodeError:
        raise DefinitionError(f"{name}: URL {url!r} holds lone surrogates, which no URL can carry") from None
    if params:
        query = f"{query}&{_fields(name, 'params', params, quote)}" if query else _fields(name, "params", params, quote)
    return f"{scheme}://{authority}{path}{'?' + query if query else ''}", f"http:{host}:{port}"


@lru_cache(maxsize=256)
def _target(start: str) -> str | None:
    """The target of a URL that starts like this, up to its path. None if this is not the one way to write it."""
    try:
        full, target = checked_url("", start)
    except DefinitionError:
        return None
    return target if full == start + "/" else None


def _fields(name: str, argument: str, fields: Mapping[str, Field], quoting: Any) -> str:
    pairs = []
    for key, given in fields.items():
        for value in given if isinstance(given, (list, tuple)) else (given,):
            if isinstance(value, bool):
                value = "true" if value else "false"
            if not isinstance(key, str) or not isinstance(value, (str, int, float)):
                raise DefinitionError(
                    f"{name}: {argument} {key!r} holds {type(value).__name__}; give text, numbers, bools or lists"
                )
            pairs.append((key, str(value)))
    try:
        return urlencode(pairs, safe="", quote_via=quoting)
    except UnicodeEncodeError:
        raise DefinitionError(f"{name}: {argument} hold lone surrogates, which no URL or form can carry") from None


def _content(
    name: str, method: str, json: Any, body: bytes | str | None, form: Mapping[str, Field] | None
) -> tuple[str | None, bytes | None]:
    if json is None and body is None and form is None:
        return None, None
    given = [what for what, value in (("json", json), ("body", body), ("form", form)) if value is not None]
    if len(given) > 1:
        raise DefinitionError(f"{name}: give one of {' and '.join(given)}, not several")
    if method == "TRACE":
        raise DefinitionError(f"{name}: TRACE has no body (RFC 9110 section 9.3.8); leave {given[0]} out")
    if json is not None:
        try:
            return "application/json", encode_json(json)
        except TypeError as problem:
            raise DefinitionError(f"{name}: json cannot be encoded: {problem}") from None
    if form is not None:
        return "application/x-www-form-urlencoded", _fields(name, "form", form, quote_plus).encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return "application/octet-stream", bytes(body)
    if isinstance(body, str):
        try:
            return "text/plain; charset=utf-8", body.encode()
        except UnicodeEncodeError:
            raise DefinitionError(f"{name}: body holds lone surrogates, which UTF-8 cannot carry") from None
    raise DefinitionError(f"{name}: body is {type(body).__name__}; give bytes or text, or use json= or form=")


def _headers(
    name: str, headers: Mapping[str, str] | None, content_type: str | None, idem: str | None
) -> tuple[tuple[str, str], ...]:
    if not headers and content_type is None and idem is None:
        return ()
    try:
        checked = checked_headers(headers.items()) if headers else ()
    except DefinitionError as problem:
        raise DefinitionError(f"{name}: {problem}") from None
    names = set()
    for key, value in checked:
        names.add(key)
        if not value.isascii() or _CONTROL_IN_HEADER.search(value):
            raise DefinitionError(
                f"{name}: header {key} holds characters that are not printable ASCII; percent-encode its value"
            )
    if content_type is not None and "content-type" not in names:
        checked += (("content-type", content_type),)
    if idem is not None:
        if "idempotency-key" in names:
            raise DefinitionError(f"{name}: idem= sends the header idempotency-key; leave it out of headers")
        if not isinstance(idem, str) or not _VISIBLE.fullmatch(idem):
            raise DefinitionError(f"{name}: idem={idem!r} is sent as a header: 1 to 255 visible ASCII characters")
        checked += (("idempotency-key", idem),)
    return checked


def _expect(name: str, expect: Collection[int]) -> range | frozenset[int]:
    statuses = expect if isinstance(expect, range) else tuple(expect) if isinstance(expect, Collection) else ()
    if statuses and all(isinstance(one, int) and 100 <= one <= 599 for one in statuses):
        return statuses if isinstance(statuses, range) else frozenset(int(one) for one in statuses)
    raise DefinitionError(
        f"{name}: expect={expect!r}; give statuses from 100 to 599, such as range(200, 300) or {{200, 404}}"
    )
