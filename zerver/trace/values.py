"""What effects gave, as bytes, and back again: for a recording that is to be replayed.

MessagePack of msgspec is enough for nearly everything, and fast. What it would give back as something else (a tuple as
a list, a UUID as text) is an extension type here, where that is seen to be needed: a value is recorded only if it comes
back as it was. No pickle: recordings travel.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from uuid import UUID

import msgspec

from ..codec import Undecodable, convert
from ..effects.sql import SqlRows
from ..error import DefinitionError

__all__ = ["LARGEST", "UNENCODABLE", "Snapshot", "comes_back", "encode", "pack", "snapshot", "unpack"]

LARGEST: Final = 64 * 1024
"""Bytes of a body, or of what a driver gave, that are kept."""

UNENCODABLE: Final = (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError)
"""What :func:`encode` and :func:`pack` raise for a value that has no such form."""

_IMMUTABLE: Final = frozenset({type(None), bool, int, float, str, bytes, UUID, Decimal, datetime.datetime})
_SIZED: Final[frozenset[type[Any]]] = frozenset({list, tuple, dict, set, frozenset})
_LONG: Final[frozenset[type[Any]]] = _SIZED | {str, bytes}
_SOME: Final = 32  # items that are looked at
_NATIVE: Final = frozenset({type(None), bool, float, str, bytes})

_BIG, _TUPLE, _SET, _FROZENSET, _MAP, _DECIMAL, _UUID, _DATETIME, _DATE, _TIME, _TIMEDELTA = range(1, 12)

_encoder = msgspec.msgpack.Encoder()
encode: Callable[[Any], bytes] = _encoder.encode
"""The fast form: native MessagePack, which may lose types."""


class Snapshot:
    """A value that may be changed by whoever has it, as it was when it was taken."""

    __slots__ = ("data", "raw", "why")

    def __init__(self, raw: Any, data: bytes | None, why: str = "") -> None:
        self.raw = raw
        """The value itself, as it is by now."""
        self.data = data
        """``None``: it was not taken."""
        self.why = why
        """Why not."""


def snapshot(value: Any) -> Any:
    """The value, if nobody can change it; else a :class:`Snapshot`. On the way of a request: it does no more than
    encode it, and not what is so large that it would not be kept."""
    try:
        if value.__class__ in _IMMUTABLE:
            return value
        if _is_large(value):
            return Snapshot(value, None, "it is larger than what is kept")
        return Snapshot(value, encode(value))
    except Exception:  # it is the app's, and may do anything when it is looked at: a Struct with an unset field does
        return Snapshot(value, None, f"a {type(value).__name__} cannot be encoded")


def _is_large(value: Any) -> bool:
    """By a look at some of it: to encode it just to know would hold up all other requests."""
    kind = value.__class__
    if kind not in _SIZED:
        return False
    size = len(value)
    if size > LARGEST:
        return True
    inner = 0
    some: Iterable[Any] = islice(value.values() if kind is dict else value, _SOME)
    for one in some:
        kind = one.__class__
        if kind in _LONG:
            inner += len(one)
    return inner > LARGEST or inner * size > LARGEST * 8 * _SOME


def pack(value: Any) -> bytes:
    """The full form. Raises what is :data:`UNENCODABLE`."""
    return encode(_plain(value))


def unpack(data: bytes, wanted: Any = None) -> Any:
    """The value of either form; as an instance of ``wanted``, where that is given.

    :raises msgspec.MsgspecError, Undecodable, DefinitionError: it is none.
    """
    if wanted is SqlRows:
        return _rows.decode(data)
    if wanted == list[SqlRows]:
        return _several.decode(data)
    value = _any.decode(data)
    return value if wanted is None or wanted is Any else convert(value, wanted)


def comes_back(data: bytes, wanted: Any, value: Any) -> bool:
    """Whether ``data`` is read as just this value."""
    try:
        found = unpack(data, wanted)
        return type(found) is type(value) and bool(found == value)
    except (msgspec.MsgspecError, Undecodable, DefinitionError, *UNENCODABLE):
        return False


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _NATIVE:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _ext(_BIG, str(value))
    if kind is list:
        return [_plain(one) for one in value]
    if kind is dict:
        if all(type(key) is str for key in value):
            return {key: _plain(one) for key, one in value.items()}
        return _nested(_MAP, [[_plain(key), _plain(one)] for key, one in value.items()])
    if kind is tuple:
        return _nested(_TUPLE, [_plain(one) for one in value])
    if kind is set or kind is frozenset:
        return _nested(_SET if kind is set else _FROZENSET, [_plain(one) for one in sorted(value, key=repr)])
    if kind is SqlRows:
        rows = [tuple([_plain(cell) for cell in row]) for row in value.rows]
        return SqlRows(value.columns, rows, value.rows_affected, value.last_row_id)
    if kind is datetime.timedelta:
        return _nested(_TIMEDELTA, [value.days, value.seconds, value.microseconds])
    code = _TEXTS.get(kind)
    if code is None:
        return value  # a Struct or dataclass: its type makes it of what is native
    return _ext(code, value.isoformat() if hasattr(value, "isoformat") else str(value))


_TEXTS: Final = {
    Decimal: _DECIMAL, UUID: _UUID, datetime.datetime: _DATETIME, datetime.date: _DATE, datetime.time: _TIME,
}  # fmt: skip


def _ext(code: int, text: str) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, text.encode())


def _nested(code: int, items: list[Any]) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, encode(items))


def _extension(code: int, data: memoryview) -> Any:
    try:
        if code in _OF_ITEMS:
            return _OF_ITEMS[code](_any.decode(data))
        if code in _OF_TEXT:
            return _OF_TEXT[code](str(data, "utf-8"))
    except (ArithmeticError, TypeError) as problem:
        raise ValueError(f"extension type {code} has no such value: {problem}") from None
    raise ValueError(f"extension type {code} is not one of ours")


_OF_ITEMS: Final[dict[int, Callable[[Any], Any]]] = {
    _TUPLE: tuple, _SET: set, _FROZENSET: frozenset, _MAP: dict, _TIMEDELTA: lambda items: datetime.timedelta(*items),
}  # fmt: skip
_OF_TEXT: Final[dict[int, Callable[[str], Any]]] = {
    _BIG: int, _DECIMAL: Decimal, _UUID: UUID, _DATETIME: datetime.datetime.fromisoformat,
    _DATE: datetime.date.fromisoformat, _TIME: datetime.time.fromisoformat,
}  # fmt: skip

_any = msgspec.msgpack.Decoder(Any, ext_hook=_extension)
_rows = msgspec.msgpack.Decoder(SqlRows, ext_hook=_extension)
_several = msgspec.msgpack.Decoder(list[SqlRows], ext_hook=_extension)
