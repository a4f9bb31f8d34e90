"""Slots: the named, typed cells of one request's state.

A slot is a class, declared once and never instantiated::

    class TodoId(Slot[int]):
        \"\"\"The id in the path.\"\"\"

The class is the key; its type argument is the type of the value. How stock type checkers hold a step to what it
declared: ``Slot`` has a private classmethod ``_key`` whose return type names the slot itself, and
:class:`Key` is the protocol of that one method. ``CtxView[Reads, Writes].require(slot: Key[Reads, T]) -> T``
then accepts exactly the classes in the union ``Reads``, and infers ``T`` from the class.
"""

from __future__ import annotations

import sys
import types
import typing
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import typing_extensions

from .error import DefinitionError

__all__ = ["Key", "Slot", "slot_type", "takes_none", "unalias"]

T = TypeVar("T")
S_co = TypeVar("S_co", covariant=True)


class Slot(Generic[T]):
    """Base class of slots: ``class TodoId(Slot[int])``. The docstring of a slot says what it holds.

    :raises DefinitionError: when a slot class is subclassed further, names no type or a type variable, or is
        instantiated.
    """

    __slots__ = ()

    # Worked out when they are first asked for: no slot inherits them from another.
    _holds: ClassVar[Any] = None
    _takes_none: ClassVar[bool | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__bases__ != (Slot,):
            raise DefinitionError(
                f"slot {cls.__name__}: a slot derives from Slot[...] alone and is never subclassed further; "
                f"write 'class {cls.__name__}(Slot[<type of its value>])'"
            )
        holds = any(typing.get_origin(base) is Slot for base in cls.__dict__.get("__orig_bases__", ()))
        if not holds or cls.__dict__.get("__parameters__"):  # Slot alone, or Slot[T] of a type variable
            raise DefinitionError(f"slot {cls.__name__}: say what it holds, as in 'class {cls.__name__}(Slot[int])'")

    def __init__(self) -> None:
        name = type(self).__name__
        raise DefinitionError(f"slot {name} is a key, not a container: use the class itself, without ()")

    @classmethod
    def _key(cls, value: T, /) -> tuple[Self, T]:
        """Carries the slot and its value's type to type checkers. Never called."""
        raise DefinitionError(f"slot {cls.__name__}: _key is for type checkers only")


class Key(Protocol[S_co, T]):
    """What a slot class looks like to a type checker: a key of slot ``S_co`` that holds a ``T``."""

    def _key(self, value: T, /) -> tuple[S_co, T]: ...


def slot_type(slot: type[Slot[Any]]) -> Any:
    """The declared type of a slot's value, with forward references resolved in the module that declares it.

    :raises DefinitionError: when a forward reference cannot be resolved there.
    """
    holds = slot._holds
    if holds is None:
        holds = slot._holds = _resolve(slot)
    return holds


def takes_none(slot: type[Slot[Any]]) -> bool:
    """Whether ``None`` is a value of the slot's type. Also true where that type cannot be told: who decodes to it
    will say why.
    """
    known = slot._takes_none
    if known is None:
        try:
            known = _admits_none(slot_type(slot))
        except Exception:
            known = True
        slot._takes_none = known
    return known


def _admits_none(declared: Any) -> bool:
    declared = unalias(declared)
    origin = typing.get_origin(declared)
    if origin is typing.Annotated:
        return _admits_none(typing.get_args(declared)[0])
    if origin in (typing.Union, types.UnionType):
        return any(_admits_none(one) for one in typing.get_args(declared))
    if origin is typing.Literal:
        return None in typing.get_args(declared)
    return declared in (Any, object, None, types.NoneType)


# Those of a `type` statement, and those of typing_extensions, which are others up to Python 3.14.
_ALIASES = (typing_extensions.TypeAliasType, getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType))


def unalias(declared: Any) -> Any:
    """What a type alias stands for; anything else as it is."""
    while isinstance(declared, _ALIASES):
        declared = declared.__value__
    return declared


def _resolve(slot: type[Slot[Any]]) -> Any:
    base = next(base for base in slot.__dict__["__orig_bases__"] if typing.get_origin(base) is Slot)
    (declared,) = typing.get_args(base)

    def holder() -> None: ...

    holder.__annotations__ = {"value": declared}
    names = getattr(sys.modules.get(slot.__module__), "__dict__", {})
    try:
        # The empty local names matter: without them typing gives what the same text meant in another module before.
        hints = typing.get_type_hints(holder, names, {}, include_extras=True)
    except Exception as problem:
        raise DefinitionError(
            f"slot {slot.__name__}: its type {declared!r} cannot be resolved in module {slot.__module__} "
            f"({problem}); import or define the type at module level, outside of 'if TYPE_CHECKING'"
        ) from None
    return hints["value"]
