"""What clients send, read as typed values. Bad input is the client's fault and ends the request.

The fault travels as :class:`BadInput`, a private ``BaseException`` that only the interpreter catches, so that a
step's own ``except Exception`` cannot swallow it. Statuses: 400 for broken syntax, 415 for the wrong content type, 422
for the wrong shape or type; ``key`` is the path of the field (``$.items[2].title``, ``query.limit``, ``path.id``,
``header.if-match``, ``form.name``).

A required value that is missing is 422, as is a repeated one, unless the type is a list, tuple or set, which takes all
of them. Defaults are given back as they are. How texts are read as types: :func:`zerver.codec.convert`, lax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar, overload

import msgspec

from .codec import Undecodable, collects, convert, decode_json, quoted
from .error import DefinitionError, Error, ErrorKind
from .multipart import Malformed, parse_multipart, parse_options
from .redaction import Redaction
from .request import Request

__all__ = [
    "MISSING",
    "BadInput",
    "Form",
    "Upload",
    "idempotency_key",
    "parse_form",
    "parse_query",
    "read_header",
    "read_json",
    "read_param",
    "read_query",
]

T = TypeVar("T")
D = TypeVar("D")

MISSING: Final[Any] = type("MISSING", (), {"__repr__": lambda self: "MISSING"})()
"""The default of a value that is required."""

_FIELDS: Final = 1000  # more fields than this in a query or form is an attack, not a form

_secrets: Final = Redaction()

_NOUN: Final = {"query": "query parameter", "path": "path parameter", "header": "header", "form": "form field"}


class BadInput(BaseException):
    """A client's mistake on its way from an accessor to the interpreter. Private: steps neither raise nor catch it."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.what)
        self.error = error


def _refuse(kind: ErrorKind, what: str, key: str | None = None) -> NoReturn:
    raise BadInput(Error(kind, what, key)) from None


# JSON


_JSON = re.compile(r"[^/]+/[^/]+\+json")  # RFC 6839


@overload
def read_json(request: Request) -> Any: ...
@overload
def read_json(request: Request, type: type[T]) -> T: ...
@overload
def read_json(request: Request, type: Any) -> Any: ...
def read_json(request: Request, type: Any = Any) -> Any:
    """The body as JSON. Its content type is ``application/json`` or ends in ``+json``, in UTF-8.

    :raises BadInput: 415 for another content type or charset, or a body that is compressed; 400 for an empty body or
        broken JSON; 422 for the wrong shape, with the path of the field as ``key``.
    :raises DefinitionError: a type that nothing can decode.
    """
    if request.header(b"content-type") != b"application/json":
        _check_json(request)
    if not request.body:
        _refuse(ErrorKind.INVALID_INPUT, "The body is empty: expected JSON", "$")
    try:
        return decode_json(request.body, type)
    except Undecodable as problem:
        if problem.syntax:
            _check_json(request)  # compressed, perhaps
            _refuse(ErrorKind.INVALID_INPUT, problem.what, problem.path)
        _refuse(ErrorKind.UNPROCESSABLE, problem.what, problem.path)


def _check_json(request: Request) -> None:
    media, _ = _media_type(request, "application/json") or ("", {})
    if media != "application/json" and not _JSON.fullmatch(media) and (request.body or media):
        _unsupported(request, "application/json")


# Parameters of the path, the query and the header section


@overload
def read_param(params: Mapping[str, Any], name: str) -> str: ...
@overload
def read_param(params: Mapping[str, Any], name: str, type: type[T]) -> T: ...
@overload
def read_param(params: Mapping[str, Any], name: str, type: Any) -> Any: ...
def read_param(params: Mapping[str, Any], name: str, type: Any = str) -> Any:
    """A path parameter: what the route's convertor made of it, or its text read as the type where that is another.

    :raises BadInput: 422 for a text that is not of the type.
    :raises DefinitionError: the route has no such parameter; a type that nothing can decode.
    """
    try:
        value = params[name]
    except KeyError:
        there = ", ".join(f"{{{known}}}" for known in params) or "none"
        raise DefinitionError(
            f"path parameter {name!r}: the route has no such parameter (it has {there}); add {{{name}}} to its path"
        ) from None
    if type is Any or type in value.__class__.__mro__:
        return value
    return _convert("path", name, str(value), type)


def parse_query(query: bytes) -> dict[str, list[str]]:
    """The fields of a query string, decoded as browsers write them (WHATWG URL, application/x-www-form-urlencoded): a
    ``%`` without two hexadecimal digits is a ``%``. An empty query has none.

    :raises BadInput: 400 for what is no UTF-8, or more than 1000 fields.
    """
    return _urlencoded(query, "query") if query else {}


@overload
def read_query(fields: Mapping[str, Sequence[str]], name: str) -> str: ...
@overload
def read_query(fields: Mapping[str, Sequence[str]], name: str, type: type[T]) -> T: ...
@overload
def read_query(fields: Mapping[str, Sequence[str]], name: str, *, default: D) -> str | D: ...
@overload
def read_query(fields: Mapping[str, Sequence[str]], name: str, type: type[T], default: D) -> T | D: ...
@overload
def read_query(fields: Mapping[str, Sequence[str]], name: str, type: Any, default: Any = ...) -> Any: ...
def read_query(fields: Mapping[str, Sequence[str]], name: str, type: Any = str, default: Any = MISSING) -> Any:
    """A query parameter out of what :func:`parse_query` gave.

    :raises BadInput: 422 when it is missing without a default, repeated where the type takes one, or not of the type.
    :raises DefinitionError: a type that nothing can decode.
    """
    return _pick("query", name, fields.get(name), type, default)


@overload
def read_header(request: Request, name: str) -> str: ...
@overload
def read_header(request: Request, name: str, type: type[T]) -> T: ...
@overload
def read_header(request: Request, name: str, *, default: D) -> str | D: ...
@overload
def read_header(request: Request, name: str, type: type[T], default: D) -> T | D: ...
@overload
def read_header(request: Request, name: str, type: Any, default: Any = ...) -> Any: ...
def read_header(request: Request, name: str, type: Any = str, default: Any = MISSING) -> Any:
    """A header, by its name in any case, decoded as latin-1. Repeated ones are one text, joined with ``, ``; a list,
    tuple or set takes what stands between the commas (RFC 9110 section 5.6.1; not for headers that quote commas).

    :raises BadInput: 422 when it is missing without a default, or not of the type.
    :raises DefinitionError: a type that nothing can decode.
    """
    lower = name.lower()
    raw = request.header(lower.encode())
    if raw is None:
        return _pick("header", lower, None, type, default)
    text = raw.decode("latin-1")
    if type is str:
        return text
    if collects(type):
        return _convert("header", lower, [item for part in text.split(",") if (item := part.strip(" \t"))], type)
    return _convert("header", lower, text, type)


_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED_KEY = re.compile(r'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"')


def idempotency_key(request: Request) -> str | None:
    """The ``Idempotency-Key`` header (draft-ietf-httpapi-idempotency-key-header), ``None`` where it is missing. The
    draft wants a quoted string (RFC 9651); most clients send it bare. Both give the same key.

    :raises BadInput: 400 for what is not 1 to 255 visible ASCII characters.
    """
    raw = request.header(b"idempotency-key")
    if raw is None:
        return None
    key = raw.decode("latin-1")
    if key.startswith('"'):
        string = _QUOTED_KEY.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", string[1]) if string else ""
    if not _VISIBLE.fullmatch(key):
        what = f"Idempotency-Key: expected 1 to 255 visible ASCII characters, got {quoted(raw.decode('latin-1'))}"
        _refuse(ErrorKind.INVALID_INPUT, what, "header.idempotency-key")
    return key


# Forms


class Upload(msgspec.Struct, frozen=True):
    """A file of a multipart form. All of it is the client's word: never open ``filename`` as a path, never trust
    ``content_type``."""

    filename: str
    """As sent; empty when a browser's file field was left empty."""
    content_type: str
    """As sent; ``text/plain`` where there is none (RFC 7578 section 4.4)."""
    body: bytes


class Form(Mapping[str, str]):
    """An immutable form: the first text of each field by name, in the order sent. Files are in :attr:`files`."""

    __slots__ = ("_fields", "_files")

    def __init__(
        self, fields: Mapping[str, Sequence[str]], files: Mapping[str, Sequence[Upload]] = MappingProxyType({})
    ) -> None:
        self._fields = {name: tuple(values) for name, values in fields.items() if values}
        self._files = {name: tuple(values) for name, values in files.items() if values}

    def __getitem__(self, name: str) -> str:
        return self._fields[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<Form of {len(self._fields)} fields and {len(self._files)} files>"

    def getlist(self, name: str) -> list[str]:
        """All texts of a field, in the order sent; empty where there is none."""
        return list(self._fields.get(name, ()))

    @property
    def files(self) -> Mapping[str, Upload]:
        """The first file of each field that has one, by name."""
        return MappingProxyType({name: uploads[0] for name, uploads in self._files.items()})

    def filelist(self, name: str) -> list[Upload]:
        """All files of a field, in the order sent; empty where there is none."""
        return list(self._files.get(name, ()))

    @overload
    def read(self, name: str) -> str: ...
    @overload
    def read(self, name: str, type: type[T]) -> T: ...
    @overload
    def read(self, name: str, *, default: D) -> str | D: ...
    @overload
    def read(self, name: str, type: type[T], default: D) -> T | D: ...
    @overload
    def read(self, name: str, type: Any, default: Any = ...) -> Any: ...
    def read(self, name: str, type: Any = str, default: Any = MISSING) -> Any:
        """A field as a type.

        :raises BadInput: 422 when it is missing without a default, repeated where the type takes one, or not of the
            type.
        :raises DefinitionError: a type that nothing can decode.
        """
        return _pick("form", name, self._fields.get(name), type, default)


_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"


def parse_form(request: Request) -> Form:
    """The body as a form: ``application/x-www-form-urlencoded`` or ``multipart/form-data`` (RFC 7578), in UTF-8.

    :raises BadInput: 415 for another content type or charset, or a body that is compressed; 400 for broken syntax,
        texts that are no UTF-8, or more than 1000 fields and files.
    """
    wanted = f"{_URLENCODED} or {_MULTIPART}"
    media, options = _media_type(request, wanted) or ("", {})
    if media == _URLENCODED:
        return Form(_urlencoded(request.body, "form"))
    if media != _MULTIPART:
        _unsupported(request, wanted)
    try:
        parts = parse_multipart(request.body, options.get("boundary", ""), _FIELDS)
    except Malformed as problem:
        _refuse(ErrorKind.INVALID_INPUT, str(problem), "form")
    fields: dict[str, list[str]] = {}
    files: dict[str, list[Upload]] = {}
    for part in parts:
        if part.filename is not None:
            files.setdefault(part.name, []).append(Upload(part.filename, part.content_type, part.body))
            continue
        try:
            fields.setdefault(part.name, []).append(part.body.decode())
        except UnicodeDecodeError:
            _refuse(ErrorKind.INVALID_INPUT, f"The form field {quoted(part.name)} is not in UTF-8", "form")
    return Form(fields, files)


# Syntax shared by several of them


_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BYTES: Final = {b"%02x" % byte: bytes((byte,)) for byte in range(256)}


def _urlencoded(data: bytes, place: str) -> dict[str, list[str]]:
    if data.count(b"&") >= _FIELDS:
        _refuse(ErrorKind.INVALID_INPUT, f"The {place} has more than {_FIELDS} fields", place)
    fields: dict[str, list[str]] = {}
    try:
        for field in data.split(b"&"):
            if field:
                name, _, value = field.partition(b"=")
                fields.setdefault(_unescape(name), []).append(_unescape(value))
    except UnicodeDecodeError:
        _refuse(ErrorKind.INVALID_INPUT, f"The {place} is not percent-encoded UTF-8", place)
    return fields


def _unescape(data: bytes) -> str:
    data = data.replace(b"+", b" ")
    if b"%" in data:
        data = _ESCAPE.sub(lambda escape: _BYTES[escape[1].lower()], data)
    return data.decode()


def _media_type(request: Request, wanted: str) -> tuple[str, dict[str, str]] | None:
    """The content type of a body that is in UTF-8 and not compressed."""
    coding = request.header(b"content-encoding")
    if coding is not None and coding.strip().lower() != b"identity":
        what = f"Send the body without Content-Encoding, got {quoted(coding.decode('latin-1'))}"
        _refuse(ErrorKind.UNSUPPORTED_MEDIA_TYPE, what, "header.content-encoding")
    parsed = parse_options((request.header(b"content-type") or b"").decode("latin-1"))
    if parsed is not None and parsed[1].get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        _unsupported(request, f"{wanted} in UTF-8")
    return parsed


def _unsupported(request: Request, wanted: str) -> NoReturn:
    given = request.header(b"content-type")
    got = "" if given is None else f", got {quoted(given.decode('latin-1'))}"
    _refuse(ErrorKind.UNSUPPORTED_MEDIA_TYPE, f"Send Content-Type: {wanted}{got}", "header.content-type")


def _pick(place: str, name: str, values: Sequence[str] | None, type: Any, default: Any) -> Any:
    if not values:
        if default is not MISSING:
            return default
        _refuse_field(place, name, " is missing")
    if type is str and len(values) == 1:
        return values[0]
    if collects(type):
        return _convert(place, name, list(values), type)
    if len(values) > 1:
        _refuse_field(place, name, f" is given {len(values)} times: expected one")
    return _convert(place, name, values[0], type)


def _convert(place: str, name: str, given: str | list[str], type: Any) -> Any:
    try:
        return convert(given, type, lax=True)
    except Undecodable as problem:
        # The message goes to the client, to logs and to traces: a secret is in none of them.
        what = problem.what.partition(", got ")[0] if _secrets.secret(name) else problem.what
        _refuse_field(place, name, f": {what}")


def _refuse_field(place: str, name: str, what: str) -> NoReturn:
    shown = quoted(name)  # a step may have it from the client
    _refuse(ErrorKind.UNPROCESSABLE, f"The {_NOUN[place]} {shown}{what}", f"{place}.{shown[1:-1]}")
