"""Calls of functions that block or await: ``call.run(stripe.Charge.create, amount=...)`` becomes
``call.run(stripe.Charge.create, kwargs={"amount": ...})``.

A function runs on a thread of the effector pool, an ``async def`` on the loop. Both run beside the request's
steps, so arguments must not share mutable state with anything else that runs: pass values, and take what
changes from the result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, TypeVar, Unpack, overload

import msgspec

from ..effect import Effect, Priority, Retry
from ..error import DefinitionError
from ..slot import Key
from .options import Into, Options

__all__ = ["Call", "checked", "run"]

T = TypeVar("T")

_NO_KWARGS: Mapping[str, Any] = {}


class Call(msgspec.Struct, frozen=True):
    """The function, and what it is called with."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    name: str
    """``module.qualname`` of the function."""


@overload
def run(
    fn: Callable[..., Coroutine[Any, Any, T]],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = ...,
    into: None = None,
    as_: None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[T]: ...
@overload
def run(
    fn: Callable[..., Coroutine[Any, Any, T]],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = ...,
    into: None = None,
    as_: None = None,
    required: bool,
    **options: Unpack[Options],
) -> Effect[T | None]: ...
@overload
def run(
    fn: Callable[..., T],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = ...,
    into: None = None,
    as_: None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[T]: ...
@overload
def run(
    fn: Callable[..., T],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = ...,
    into: None = None,
    as_: None = None,
    required: bool,
    **options: Unpack[Options],
) -> Effect[T | None]: ...
@overload
def run(
    fn: Callable[..., Coroutine[Any, Any, T]] | Callable[..., T],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = ...,
    into: Key[object, T],
    as_: type[T] | None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[T]: ...
@overload
def run(
    fn: Callable[..., Coroutine[Any, Any, T]] | Callable[..., T],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = ...,
    into: Into[T],
    as_: type[T] | None = None,
    required: bool,
    **options: Unpack[Options],
) -> Effect[T | None]: ...
@overload
def run(
    fn: Callable[..., Coroutine[Any, Any, T]] | Callable[..., T],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = ...,
    into: None = None,
    as_: type[T],
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[T]: ...
@overload
def run(
    fn: Callable[..., Coroutine[Any, Any, T]] | Callable[..., T],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = ...,
    into: None = None,
    as_: type[T],
    required: bool,
    **options: Unpack[Options],
) -> Effect[T | None]: ...
def run(
    fn: Callable[..., Any],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = _NO_KWARGS,
    into: Any = None,
    as_: Any = None,
    required: bool = True,
    timeout: float | None = None,
    retry: Retry | None = None,
    priority: Priority = "interactive",
    idem: str | None = None,
) -> Effect[Any]:
    """Call ``fn(*args, **kwargs)``; the value is what it returns (for an ``async def``, what it gives when
    awaited), as it is.

    It is not idempotent: a retry needs ``idem``. A blocking function that is timed out or cancelled runs on to
    its end, and its result is dropped.

    :raises DefinitionError: ``fn`` cannot be called; ``kwargs`` are no mapping from text.
    """
    given = checked("call.run", fn, kwargs)
    name = _name(fn)
    return Effect(
        family="call",
        op="run",
        target=f"call:{name}",
        args=Call(fn, args, given, name),
        into=into,
        as_=as_,
        timeout=timeout,
        retry=retry,
        required=required,
        priority=priority,
        idem=idem,
    )


def checked(constructor: str, fn: Any, kwargs: Any) -> dict[str, Any]:
    """The keyword arguments, copied.

    :raises DefinitionError: ``fn`` cannot be called; ``kwargs`` are no mapping from text.
    """
    if not callable(fn):
        raise DefinitionError(f"{constructor}: {fn!r} cannot be called; give the function, then its arguments")
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise DefinitionError(f"{constructor}: kwargs={kwargs!r}; give {{'name': value}}")
    return dict(kwargs)


def _name(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    module = getattr(named, "__module__", None) or type(getattr(fn, "__self__", None)).__module__
    return f"{module}.{named.__qualname__}"
