"""What goes to PostgreSQL and what comes back: parameters as the types of a statement want them, rows as plain data.

The server says which type each parameter has, and asyncpg takes exactly that type. Added to that is what SQLite takes,
too: texts for dates and times, and dates, UUIDs and Decimals for texts.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from zerver_runtime.outcome import Failure

from ..effect import Effect
from ..error import Error, ErrorKind
from ..response import encode_json
from .base import internal

__all__ = ["arguments", "decoded_json", "encoded_json", "plain", "unprocessable"]

_TAKEN: Final = (
    "text, a number, a bool, bytes, a date, time or timedelta, a UUID, a Decimal, an enum of these, None, a list "
    "(for an array), or a list or dict (for JSON)"
)
_KINDS: Final = (
    str, int, float, bytes, bytearray, memoryview, datetime.date, datetime.time, datetime.timedelta, uuid.UUID,
    decimal.Decimal, list, tuple, dict, type(None),
)  # fmt: skip

_AS_THEY_ARE: Final = frozenset({int, bool, type(None)})  # nothing below changes them


def arguments(effect: Effect[Any], names: Sequence[str], types: Sequence[str]) -> list[Any] | Failure:
    """The values of one statement's parameters, in their order. ``types`` are their names in the server."""
    params: Mapping[str, Any] = effect.args.params
    found = []
    for name, kind in zip(names, types, strict=True):
        if name not in params:
            return internal(effect, f"parameter :{name} has no value; give {{{name!r}: ...}} in params")
        value = params[name]
        if type(value) in _AS_THEY_ARE:
            found.append(value)
            continue
        while isinstance(value, enum.Enum):
            value = value.value
        if not isinstance(value, _KINDS):
            return internal(effect, f"parameter :{name} is a {type(value).__qualname__}; give {_TAKEN}")
        if isinstance(value, str) and "\0" in value:
            return unprocessable(effect, name, "holds NUL, which the database cannot store")
        adapt = _ADAPTED.get(kind)
        try:
            found.append(value if adapt is None else adapt(value))
        except ValueError:
            return unprocessable(effect, name, f"is no {kind}")
    return found


def unprocessable(effect: Effect[Any], name: str | None, what: str) -> Failure:
    """The value is most likely the client's: the type that was asked of it did not bound it."""
    subject = "a parameter" if name is None else f"parameter {name}"
    return Failure(Error(ErrorKind.UNPROCESSABLE, f"{effect.label}: {subject} {what}", key=name))


def plain(value: Any) -> Any:
    """Composite values, at any depth, as dicts; arrays as lists."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    items = getattr(value, "items", None)
    if items is not None and not isinstance(value, dict):  # a Record
        return {key: plain(one) for key, one in items()}
    return value


def encoded_json(value: Any) -> str:
    """A text is JSON already, as it must be for SQLite."""
    return value if isinstance(value, str) else encode_json(value).decode()


def decoded_json(text: str) -> Any:
    return msgspec.json.decode(text)


def _text(value: Any) -> Any:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, (uuid.UUID, decimal.Decimal)) else value


def _whole(value: Any) -> Any:
    """asyncpg would cut off the fraction."""
    if not isinstance(value, (float, decimal.Decimal)):
        return value
    if value != value or value in (math.inf, -math.inf) or value != int(value):
        raise ValueError
    return int(value)


def _date(value: Any) -> Any:
    return datetime.date.fromisoformat(value) if isinstance(value, str) else value


def _time(value: Any) -> Any:
    return datetime.time.fromisoformat(value) if isinstance(value, str) else value


def _moment(value: Any) -> Any:
    """Without a zone it is UTC, wherever the server runs."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=datetime.UTC)
    return value


def _naive(value: Any) -> Any:
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def _array(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return [_array(one.value if isinstance(one, enum.Enum) else one) for one in value]


_ADAPTED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": _text, "varchar": _text, "bpchar": _text, "citext": _text, "name": _text,
    "int2": _whole, "int4": _whole, "int8": _whole,
    "date": _date, "time": _time, "timetz": _time, "timestamptz": _moment, "timestamp": _naive,
    "array": _array,
}  # fmt: skip
