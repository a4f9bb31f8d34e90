"""What every constructor of effects takes, as type checkers see it."""

from __future__ import annotations

from typing import Never, Protocol, TypedDict, TypeVar

from ..effect import Priority, Retry

__all__ = ["Into", "Options"]

T_co = TypeVar("T_co", covariant=True)


class Into(Protocol[T_co]):
    """A slot of a ``T`` or less. ``Key`` where an effect's value is the slot's or ``None``: mypy infers the type of
    ``need(f(into=A, required=False))`` from the outside first, and would have ``A`` hold the ``None`` too.
    """

    def _key(self, value: Never, /) -> tuple[object, T_co]: ...


class Options(TypedDict, total=False):
    """The fields that all effects have in common; what they mean and refuse says :class:`~zerver.effect.Effect`."""

    timeout: float | None
    retry: Retry | None
    priority: Priority
    idem: str | None
