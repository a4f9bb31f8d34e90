"""A ref: all that anybody holds of an actor. It has the actor's behaviours, as functions that send, and nothing else.

Where the actor is does not show: the ref's cell is the actor's own, or one that hands everything to the mailman.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.ids import ActorId, show

if TYPE_CHECKING:
    from zerver_runtime.cell import Cell
    from zerver_runtime.elsewhere import Elsewhere

__all__ = ["ActorRef", "check_name", "class_path", "id_of", "new_ref", "ref_class"]


class ActorRef:
    """The base of all refs. Two are equal when they are of one actor; a supervisor's restart makes another actor."""

    __slots__ = ("_cell",)

    _cell: Cell | Elsewhere
    _class: type[Any]

    # For `isinstance`, a ref is what it is typed as; so msgspec takes it for a field of that type, too.
    __class__: Any = property(lambda self: type(self)._class)  # pyright: ignore[reportIncompatibleMethodOverride]

    def __getattr__(self, name: str) -> NoReturn:
        kind = type(self)._class
        if hasattr(kind, name):
            raise AttributeError(
                f"{self!r}.{name} is not a behaviour, and a ref only sends messages; make it a @behaviour of"
                f" {kind.__qualname__}, or ask for it through one"
            )
        raise AttributeError(f"{kind.__qualname__} has no behaviour {name!r}; it has {', '.join(_public(kind))}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r}.{name} cannot be set from outside; send the actor a message that does it")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and self._cell.id == other._cell.id

    def __hash__(self) -> int:
        return hash(self._cell.id)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled or copied; send it in a message, or hand on the actor's name")

    def __repr__(self) -> str:
        return f"<{type(self)._class.__name__} {show(self._cell.id)}>"


def id_of(ref: object) -> ActorId:
    """The id of the actor that a ref is of. TypeError: not a ref."""
    if not isinstance(ref, ActorRef):
        raise TypeError(f"{ref!r} is not an actor ref; inside of an actor that is self.ref")
    return ref._cell.id


_LONGEST_NAME = 255


def check_name(name: object) -> None:
    """ValueError: not a name that an actor can have: it is told to all processes."""
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        shown = repr(name)
        raise ValueError(
            f"{shown if len(shown) < 100 else shown[:100] + '...'} is no name for an actor; give a text of 1 to"
            f" {_LONGEST_NAME} printable characters"
        )


def class_path(kind: type) -> str:
    """How a class is named between processes: `module:qualname`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def _behaviours(kind: type) -> dict[str, Behaviour[Any, Any, Any]]:
    found: dict[str, Behaviour[Any, Any, Any]] = {}
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Behaviour):
                found[name] = value
            else:
                found.pop(name, None)  # overridden by something else
    return found


def _public(kind: type) -> list[str]:
    return [name for name in _behaviours(kind) if not name.startswith("_")]


def ref_class(kind: type[Any]) -> type[ActorRef]:
    """The class of the refs to actors of this class; made once and kept on it."""
    made: type[ActorRef] | None = vars(kind).get("_ref_class")
    if made is None:
        methods = {name: behaviour.send for name, behaviour in _behaviours(kind).items()}
        made = type(f"{kind.__name__}Ref", (ActorRef,), {"__slots__": (), "_class": kind, **methods})
        kind._ref_class = made
    return made


def new_ref(kind: type[Any], cell: Cell | Elsewhere) -> Any:
    """A ref of an actor of this class, by its cell."""
    ref = object.__new__(ref_class(kind))
    object.__setattr__(ref, "_cell", cell)
    return ref
