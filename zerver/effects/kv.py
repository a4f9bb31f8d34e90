"""A store of values by key: ``kv.get("user:7", into=User)``, ``kv.put("user:7", user)``.

Bytes are kept as they are, everything else as JSON. What is read is decoded to the type that is asked for: with
``bytes`` the bytes as they are kept, with any other type (or none) from JSON. A key without a value gives
``None``.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar, Unpack, overload

import msgspec

from ..effect import Effect, Priority, Retry
from ..error import DefinitionError
from ..slot import Key
from .keyed import checked_key, encoded
from .options import Into, Options

__all__ = ["KvDelete", "KvGet", "KvPage", "KvPut", "KvScan", "delete", "get", "put", "scan"]

T = TypeVar("T")

_MOST = 1000


class KvGet(msgspec.Struct, frozen=True):
    """Read one key."""

    key: str


class KvPut(msgspec.Struct, frozen=True):
    """Set one key."""

    key: str
    value: bytes


class KvDelete(msgspec.Struct, frozen=True):
    """Remove one key, if it is there."""

    key: str


class KvScan(msgspec.Struct, frozen=True):
    """Read the keys that begin with ``prefix`` and come after ``after``, in the order of their code points."""

    prefix: str
    limit: int
    after: str | None


class KvPage(msgspec.Struct, Generic[T], frozen=True):
    """The value of ``kv.scan``: pairs of key and value. ``cursor`` is the ``after`` of the next page, or
    ``None`` when there is none.
    """

    items: list[tuple[str, T]]
    cursor: str | None


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
    return _effect("get", KvGet(checked_key("kv.get", key)), **options)


def put(key: str, value: Any, *, required: bool = True, **options: Unpack[Options]) -> Effect[None]:
    """Set the value of a key. With ``idem``, at most once for this key of the store and that ``idem`` in 24 hours.

    :raises DefinitionError: see ``get``; a value that is not bytes and has no JSON form.
    """
    name = checked_key("kv.put", key)
    content = encoded("kv.put", key, value)
    return _effect("put", KvPut(name, content), required=required, **options)


def delete(key: str, *, required: bool = True, **options: Unpack[Options]) -> Effect[None]:
    """Remove a key; nothing happens if it is not there. ``idem`` as in ``put``.

    :raises DefinitionError: see ``get``.
    """
    return _effect("delete", KvDelete(checked_key("kv.delete", key)), required=required, **options)


@overload
def scan(
    prefix: str,
    *,
    limit: int = 100,
    after: str | None = None,
    into: None = None,
    as_: None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[KvPage[Any]]: ...
@overload
def scan(
    prefix: str,
    *,
    limit: int = 100,
    after: str | None = None,
    into: None = None,
    as_: None = None,
    required: bool,
    **options: Unpack[Options],
) -> Effect[KvPage[Any] | None]: ...
@overload
def scan(
    prefix: str,
    *,
    limit: int = 100,
    after: str | None = None,
    into: Key[object, KvPage[T]],
    as_: type[KvPage[T]] | None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[KvPage[T]]: ...
@overload
def scan(
    prefix: str,
    *,
    limit: int = 100,
    after: str | None = None,
    into: Into[KvPage[T]],
    as_: type[KvPage[T]] | None = None,
    required: bool,
    **options: Unpack[Options],
) -> Effect[KvPage[T] | None]: ...
@overload
def scan(
    prefix: str,
    *,
    limit: int = 100,
    after: str | None = None,
    into: None = None,
    as_: type[KvPage[T]],
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[KvPage[T]]: ...
@overload
def scan(
    prefix: str,
    *,
    limit: int = 100,
    after: str | None = None,
    into: None = None,
    as_: type[KvPage[T]],
    required: bool,
    **options: Unpack[Options],
) -> Effect[KvPage[T] | None]: ...
def scan(prefix: str, *, limit: int = 100, after: str | None = None, **options: Any) -> Effect[Any]:
    """A page of at most ``limit`` (1 to 1000) keys that begin with ``prefix`` (``""``: all), in order, with
    their values: a :class:`KvPage`, and with ``Slot[KvPage[User]]`` one of decoded values. ``after`` is the
    cursor of the page before.

    :raises DefinitionError: a prefix or cursor that no key can have; a limit out of bounds; a type that is no page.
    """
    if prefix != "":
        checked_key("kv.scan", prefix)
    if after is not None:
        checked_key("kv.scan", after)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST:
        raise DefinitionError(f"kv.scan: limit={limit!r}; give a number from 1 to {_MOST}")
    effect = _effect("scan", KvScan(prefix, limit, after), **options)
    wanted = effect.result_type
    if wanted not in (None, Any) and getattr(wanted, "__origin__", wanted) is not KvPage:
        raise DefinitionError(f"{effect.label}: its value is a page of pairs; use KvPage[...], not {wanted!r}")
    return effect


def _effect(
    op: str,
    args: KvGet | KvPut | KvDelete | KvScan,
    *,
    into: Any = None,
    as_: Any = None,
    required: bool = True,
    timeout: float | None = None,
    retry: Retry | None = None,
    priority: Priority = "interactive",
    idem: str | None = None,
) -> Effect[Any]:
    if idem is not None:
        try:
            checked_key(f"kv.{op}", idem)
        except DefinitionError:
            raise DefinitionError(
                f"kv.{op}: idem={idem!r}: 1 to 512 characters, none of them control characters"
            ) from None
    return Effect(
        family="kv",
        op=op,
        target="kv",
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
