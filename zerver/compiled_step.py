"""A step as the interpreter takes it: the function, and what it declares."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from .context import CtxView
from .decision import Step
from .slot import Slot

__all__ = ["CompiledStep", "holder", "same"]


class CompiledStep:
    """A step, ready to run: the function and what it declares. Two of one function are equal."""

    __slots__ = ("context", "fn", "name", "reads", "then", "where", "writes")

    def __init__(
        self,
        fn: Callable[[CtxView[Any, Any]], Any],
        name: str,
        where: str,
        context: str,
        reads: frozenset[type[Slot[Any]]],
        writes: frozenset[type[Slot[Any]]],
        then: tuple[Step, ...] | None = None,
    ) -> None:
        self.fn = fn
        self.name = name
        self.where = where
        """``file:line`` of the definition."""
        self.context = context
        """What it calls its parameter."""
        self.reads = reads
        self.writes = writes
        self.then = then
        """Continuations declared by ``@step(then=...)``; ``None`` when the source is to tell."""

    def of(self, fn: Callable[[CtxView[Any, Any]], Any]) -> CompiledStep:
        """The same for another function of the same definition."""
        return CompiledStep(fn, self.name, self.where, self.context, self.reads, self.writes, self.then)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledStep) and same(self.fn, other.fn)

    def __hash__(self) -> int:
        return id(holder(self.fn))

    def __repr__(self) -> str:
        return f"<step {self.name} at {self.where}>"


def holder(fn: Any) -> Any:
    """What stays the same of a callable: a bound method is a new object at each access, its function is not."""
    return getattr(fn, "__func__", fn)


def same(one: Any, other: Any) -> bool:
    """Whether both are one function, or one method of one object."""
    return one is other or (isinstance(one, types.MethodType) and bool(one == other))
