"""Messages to the actors of the app (``app.actor``): ``actor.ask("counter", Counter.add, 1, into=Total)``.

An ask waits for what the behaviour returns, a tell only sends. The actor may live in another process: arguments and
results are plain data (builtins, dataclasses, Structs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Unpack, overload

import msgspec

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.ref import check_name

from ..effect import Effect, Priority, Retry
from ..error import DefinitionError
from ..slot import Key
from .options import Into, Options

__all__ = ["ActorOptions", "Message", "ask", "tell"]

T = TypeVar("T")

_NO_KWARGS: Mapping[str, Any] = {}


class Message(msgspec.Struct, frozen=True):
    """What is sent to whom."""

    name: str
    """Of the actor."""
    behaviour: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class ActorOptions(Options, total=False):
    """What ``ask`` and ``tell`` take beside the actor, its behaviour and the arguments."""

    kwargs: Mapping[str, Any]


@overload
def ask(
    name: str,
    behaviour: Behaviour[Any, ..., T],
    /,
    *args: Any,
    into: None = None,
    as_: None = None,
    required: Literal[True] = True,
    **options: Unpack[ActorOptions],
) -> Effect[T]: ...
@overload
def ask(
    name: str,
    behaviour: Behaviour[Any, ..., T],
    /,
    *args: Any,
    into: None = None,
    as_: None = None,
    required: bool,
    **options: Unpack[ActorOptions],
) -> Effect[T | None]: ...
@overload
def ask(
    name: str,
    behaviour: Behaviour[Any, ..., T],
    /,
    *args: Any,
    into: Key[object, T],
    as_: type[T] | None = None,
    required: Literal[True] = True,
    **options: Unpack[ActorOptions],
) -> Effect[T]: ...
@overload
def ask(
    name: str,
    behaviour: Behaviour[Any, ..., T],
    /,
    *args: Any,
    into: Into[T],
    as_: type[T] | None = None,
    required: bool,
    **options: Unpack[ActorOptions],
) -> Effect[T | None]: ...
@overload
def ask(
    name: str,
    behaviour: Behaviour[Any, ..., T],
    /,
    *args: Any,
    into: None = None,
    as_: type[T],
    required: Literal[True] = True,
    **options: Unpack[ActorOptions],
) -> Effect[T]: ...
@overload
def ask(
    name: str,
    behaviour: Behaviour[Any, ..., T],
    /,
    *args: Any,
    into: None = None,
    as_: type[T],
    required: bool,
    **options: Unpack[ActorOptions],
) -> Effect[T | None]: ...
def ask(
    name: str,
    behaviour: Behaviour[Any, ..., Any],
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
    """Send a message to the actor of this name; the value is what the behaviour returns, as it is.

    It is not idempotent: a retry needs ``idem``. A message that is timed out or cancelled may run all the same.

    :raises DefinitionError: no name that an actor can have; ``behaviour`` is not a behaviour of an actor class, such as
        ``Counter.add``; it does not take these arguments.
    """
    return Effect(
        family="actor",
        op="ask",
        target=f"actor:{name}",
        args=_message("actor.ask", name, behaviour, args, kwargs),
        into=into,
        as_=as_,
        timeout=timeout,
        retry=retry,
        required=required,
        priority=priority,
        idem=idem,
    )


def tell(
    name: str,
    behaviour: Behaviour[Any, ..., Any],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = _NO_KWARGS,
    required: bool = True,
    timeout: float | None = None,
    retry: Retry | None = None,
    priority: Priority = "interactive",
    idem: str | None = None,
) -> Effect[None]:
    """Send a message to the actor of this name, and do not wait for it to be run: whether it was, nobody hears.

    It is not idempotent: a retry needs ``idem``.

    :raises DefinitionError: see ``ask``.
    """
    return Effect(
        family="actor",
        op="tell",
        target=f"actor:{name}",
        args=_message("actor.tell", name, behaviour, args, kwargs),
        timeout=timeout,
        retry=retry,
        required=required,
        priority=priority,
        idem=idem,
    )


def _message(constructor: str, name: Any, behaviour: Any, args: tuple[Any, ...], kwargs: Any) -> Message:
    try:
        check_name(name)
    except ValueError as problem:
        raise DefinitionError(f"{constructor}: {problem}") from None
    if not isinstance(behaviour, Behaviour):
        raise DefinitionError(
            f"{constructor}: {behaviour!r} is not a behaviour; give a method of the actor's class that has @behaviour, "
            "as Counter.add"
        )
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise DefinitionError(f"{constructor}: kwargs={kwargs!r}; give {{'name': value}}")
    given = dict(kwargs)
    try:
        behaviour.bind(*args, **given)
    except TypeError as problem:
        raise DefinitionError(f"{constructor}: {problem}") from None
    return Message(name, behaviour.name, args, given)
