"""What may leave a process in a message: builtins, dataclasses, msgspec Structs, and actor refs; no pickle, ever.

Within a stage arguments pass as they are, so a program that sends a socket or a lambda runs until its actor is placed
in another process. Hence development and tests check always, and the check says where in the argument it is.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from zerver_runtime.message import NotPlainData

__all__ = ["DEEPEST", "check_arguments", "find_foreign"]

DEEPEST = 100
"""Levels of nesting; also what ends the walk through a value that contains itself."""

_NOT_SET = object()

_LEAVES = frozenset(
    {
        type(None), bool, int, float, str, bytes, bytearray, datetime.datetime, datetime.date, datetime.time,
        datetime.timedelta, decimal.Decimal, uuid.UUID,
    }
)  # fmt: skip


def check_arguments(
    behaviour: str,
    names: Sequence[str],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    ref: type,
) -> None:
    """names: of the parameters, for `args` from the left. ref: the class whose instances are actor refs.

    NotPlainData: names the argument, and the path inside it.
    """
    for number, value in enumerate(args):
        # Past the names come the values of *args, whose name is the last one.
        name = names[number] if number < len(names) else f"{names[-1] if names else 'args'}[{number - len(names) + 1}]"
        if type(value) not in _LEAVES and (found := find_foreign(value, ref, name)):
            raise NotPlainData(behaviour, *found)
    for name, value in (kwargs or {}).items():
        if type(value) not in _LEAVES and (found := find_foreign(value, ref, name)):
            raise NotPlainData(behaviour, *found)


def find_foreign(value: Any, ref: type, path: str = "value", depth: int = 0) -> tuple[str, str] | None:
    """The path to the first thing that is not plain data, and what it is; None: all of it is."""
    kind = type(value)
    if kind in _LEAVES or isinstance(value, (ref, enum.Enum)):
        return None
    if depth > DEEPEST:
        return path, f"nested more than {DEEPEST} levels deep"
    if kind in (list, tuple, set, frozenset):
        for number, inner in enumerate(value):
            if found := find_foreign(inner, ref, f"{path}[{number}]", depth + 1):
                return found
        return None
    if kind is dict:
        for key, inner in value.items():
            inside = f"key {key!r} of {path}"
            if found := find_foreign(key, ref, inside, depth + 1) or _find_fields(key, inside):
                return found
            if found := find_foreign(inner, ref, f"{path}[{key!r}]", depth + 1):
                return found
        return None
    if isinstance(value, msgspec.Struct):
        fields: Sequence[str] = value.__struct_fields__
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
    else:
        return path, f"a {kind.__module__}.{kind.__qualname__}"
    for name in fields:
        inner = getattr(value, name, _NOT_SET)
        if inner is _NOT_SET:
            return f"{path}.{name}", "not set"
        if found := find_foreign(inner, ref, f"{path}.{name}", depth + 1):
            return found
    return None


def _find_fields(key: Any, path: str) -> tuple[str, str] | None:
    """In a key: what has fields."""
    if isinstance(key, (tuple, frozenset)):
        return next((found for at, one in enumerate(key) if (found := _find_fields(one, f"{path}[{at}]"))), None)
    if isinstance(key, msgspec.Struct) or dataclasses.is_dataclass(key):
        kind = type(key).__qualname__
        return path, f"a {kind}, which becomes a dict on the way, and no dict takes that as a key"
    return None
