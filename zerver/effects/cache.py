"""A cache of values by key, each for some seconds: ``cache.get("page:7", into=Page)``, ``cache.set("page:7", page,
ttl=60)``.

What is in it may be gone at any time, also before its time is over. Values are kept and read as those of ``kv``: bytes
as they are, everything else as JSON; a key without a value gives ``None``.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar, Unpack, overload

import msgspec

from ..effect import Effect, Priority, Retry
from ..error import DefinitionError
from .keyed import checked_key, encoded
from .options import Into, Options

__all__ = ["CacheDelete", "CacheGet", "CacheSet", "delete", "get", "set"]

T = TypeVar("T")

_LONGEST = 10 * 366 * 86_400.0  # seconds


class CacheGet(msgspec.Struct, frozen=True):
    """Read one key."""

    key: str


class CacheSet(msgspec.Struct, frozen=True):
    """Set one key, for ``ttl`` seconds."""

    key: str
    value: bytes
    ttl: float


class CacheDelete(msgspec.Struct, frozen=True):
    """Remove one key, if it is there."""

    key: str


@overload
def get(
    key: str, *, into: None = None, as_: None = None, required: bool = True, **options: Unpack[Options]
) -> Effect[Any]: ...
@overload
def get(
    key: str, *, into: Into[T], as_: type[T] | None = None, required: bool = True, **options: Unpack[Options]
) -> Effect[T | None]: ...
@overload
def get(
    key: str, *, into: None = None, as_: type[T], required: bool = True, **options: Unpack[Options]
) -> Effect[T | None]: ...
def get(key: str, **options: Any) -> Effect[Any]:
    """The value of a key, or ``None``.

    :raises DefinitionError: a key that is not 1 to 512 characters without control characters.
    """
    return _effect("get", CacheGet(checked_key("cache.get", key)), **options)


def set(key: str, value: Any, *, ttl: float, required: bool = True, **options: Unpack[Options]) -> Effect[None]:
    """Set the value of a key. It is gone after ``ttl`` seconds, or sooner.

    :raises DefinitionError: see ``get``; a value that is not bytes and has no JSON form; a ``ttl`` that is not above 0,
        and at most 10 years.
    """
    name = checked_key("cache.set", key)
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 < ttl <= _LONGEST or math.isnan(ttl):
        raise DefinitionError(f"cache.set: ttl={ttl!r}; give seconds, above 0 and at most 10 years")
    return _effect("set", CacheSet(name, encoded("cache.set", key, value), float(ttl)), required=required, **options)


def delete(key: str, *, required: bool = True, **options: Unpack[Options]) -> Effect[None]:
    """Remove a key; nothing happens if it is not there.

    :raises DefinitionError: see ``get``.
    """
    return _effect("delete", CacheDelete(checked_key("cache.delete", key)), required=required, **options)


def _effect(
    op: str,
    args: CacheGet | CacheSet | CacheDelete,
    *,
    into: Any = None,
    as_: Any = None,
    required: bool = True,
    timeout: float | None = None,
    retry: Retry | None = None,
    priority: Priority = "interactive",
    idem: str | None = None,
) -> Effect[Any]:
    return Effect(
        family="cache",
        op=op,
        target="cache",
        args=args,
        into=into,
        as_=as_,
        timeout=timeout,
        retry=retry,
        required=required,
        priority=priority,
        idem=idem,
        idempotent=True,
    )
