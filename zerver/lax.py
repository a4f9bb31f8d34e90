"""Lax reading: a text or integer as the number or bool that a type wants, before strict decoding.

Queries, paths, headers and forms have only texts; SQLite has no bools. What cannot be read is left as it is, so that
strict decoding refuses it, with the path. msgspec's own lax mode takes ``1.0`` for an integer, ``nan``, and ``null``
for ``None``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

from msgspec import inspect

__all__ = ["Lax", "options"]

# HTML, "valid integer" and "valid floating-point number": what forms send. Never what int() and float() accept.
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_DIGITS: Final = 4300  # int() is quadratic in the digits: CPython's default limit, also where that is lifted
_BOOLS: Final = {"true": True, "1": True, "false": False, "0": False}

_SEQUENCES = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)
_CLASSES = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)


class _Unreadable:
    """Stands in for a text that Decimal() takes and we do not: NaN, Infinity, underscores, digits of other scripts."""


_UNREADABLE: Final = _Unreadable()


class Lax:
    """How values are read for one type. Recursive types refer back to themselves."""

    __slots__ = ("_bools", "_decimals", "_fields", "_floats", "_ints", "_items", "_text", "_values", "_words", "many")

    def __init__(self) -> None:
        self._text = self._ints = self._floats = self._bools = self._decimals = False
        self._words: frozenset[Any] = frozenset()  # of a Literal
        self._items: tuple[Lax, ...] = ()  # one for each position of a tuple, or one for all of a list
        self._values: Lax | None = None  # of a dict
        self._fields: tuple[tuple[str, Lax], ...] = ()  # of a class
        self.many = False
        """Whether the type is a list, tuple or set, or a union with one."""

    @classmethod
    def of(cls, node: inspect.Type) -> Lax:
        """The reader of a type."""
        return _build(node, {})

    def read(self, value: Any) -> Any:
        """The value as the type wants it, else the value itself. What the type takes as it is stays."""
        kind = value.__class__
        if kind is str:
            return value if self._text else self._read_text(value)
        if kind is int:
            wanted = self._bools and not (self._ints or self._floats or self._decimals)
            return bool(value) if wanted and value in (0, 1) else value
        if kind is dict:
            return self._read_dict(value)
        if (kind is list or kind is tuple) and self._items:
            items = self._items if len(self._items) > 1 else self._items * len(value)
            return [*(item.read(given) for item, given in zip(items, value, strict=False)), *value[len(items) :]]
        return value

    @property
    def _idle(self) -> bool:
        return self._text and not (self._bools or self._items or self._values or self._fields)

    def _read_text(self, value: str) -> Any:
        if value in self._words:
            return value
        if self._ints and len(value) <= _DIGITS and _INTEGER.fullmatch(value):
            return int(value)
        if self._floats and len(value) <= _DIGITS and _NUMBER.fullmatch(value):
            number = float(value)
            return number if math.isfinite(number) else value
        if self._bools and (answer := _BOOLS.get(value.lower())) is not None:
            return answer
        return _UNREADABLE if self._decimals and not _NUMBER.fullmatch(value) else value

    def _read_dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        if self._values is not None:
            return {key: self._values.read(item) for key, item in value.items()}
        changed: dict[Any, Any] = {}
        for name, field in self._fields:
            given = value.get(name)
            read = field.read(given)
            if read is not given:
                changed[name] = read
        return value | changed if changed else value


def options(node: inspect.Type) -> Iterator[inspect.Type]:
    """The types of a union; of anything else, the type itself."""
    if isinstance(node, inspect.Metadata):
        yield from options(node.type)
    elif isinstance(node, inspect.UnionType):
        for option in node.types:
            yield from options(option)
    else:
        yield node


def _build(node: inspect.Type, made: dict[int, Lax]) -> Lax:
    if id(node) in made:
        return made[id(node)]
    lax = made[id(node)] = Lax()
    objects: list[inspect.Type] = []
    text = False
    for option in options(node):
        if isinstance(option, (inspect.StrType, inspect.AnyType)):
            text = True
        elif isinstance(option, inspect.IntType):
            lax._ints = True
        elif isinstance(option, inspect.FloatType):
            lax._floats = True
        elif isinstance(option, inspect.BoolType):
            lax._bools = True
        elif isinstance(option, inspect.DecimalType):
            lax._decimals = True
        elif isinstance(option, inspect.EnumType):
            lax._ints |= any(isinstance(member.value, int) for member in option.cls)
        elif isinstance(option, inspect.LiteralType):
            lax._words = frozenset(option.values)
            lax._ints |= any(isinstance(value, int) for value in option.values)
        elif isinstance(option, _SEQUENCES):
            lax.many = True
            lax._items = (_build(option.item_type, made),)
        elif isinstance(option, inspect.TupleType):
            lax.many = True
            lax._items = tuple(_build(item, made) for item in option.item_types)
        elif isinstance(option, inspect.NamedTupleType):
            lax._items = tuple(_build(field.type, made) for field in option.fields)
        elif isinstance(option, (inspect.DictType, *_CLASSES)):
            objects.append(option)
    if len(objects) == 1:  # of several only msgspec can tell which it is
        (option,) = objects
        if isinstance(option, inspect.DictType):
            lax._values = _build(option.value_type, made)
        elif isinstance(option, _CLASSES):
            fields = ((field.encode_name, _build(field.type, made)) for field in option.fields)
            lax._fields = tuple((name, field) for name, field in fields if not field._idle)
    lax._text = text  # last: until then it is not idle
    return lax
