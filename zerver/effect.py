"""Effects: declared pieces of I/O or work, as data.

A step never does I/O; it returns a ``Need`` that lists effects, and an engine performs them. What every effect
has in common is here; the constructors of each family (``http.get``, ``sql.query_one``, ...) are in
``zerver.effects``.
"""

from __future__ import annotations

import math
from typing import Any, Generic, Literal, TypeVar

import msgspec

from zerver_runtime.reactor.retry import RetryPolicy

from .error import DefinitionError
from .slot import Slot, slot_type

__all__ = ["Effect", "Priority", "Retry", "result_type"]

T_co = TypeVar("T_co", covariant=True)

Priority = Literal["interactive", "batch"]


class Retry(RetryPolicy, frozen=True):
    """How often an effect is tried: ``attempts`` in total, the first included (default 1: no retry).

    Before attempt n + 1 the engine waits a random time up to ``min(cap, base * factor ** (n - 1))`` seconds (full
    jitter, after AWS's "Exponential Backoff and Jitter"), or what the upstream's ``Retry-After`` says.

    :raises DefinitionError: attempts below 1; base, factor or cap that are not finite and positive.
    """

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise DefinitionError(
                f"Retry(attempts={self.attempts!r}): attempts counts the first try too, so at least 1"
            )
        for name in ("base", "factor", "cap"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise DefinitionError(f"Retry({name}={value!r}): give a finite number above 0")


class Effect(msgspec.Struct, Generic[T_co], frozen=True, kw_only=True):
    """One effect. Made by the constructors in ``zerver.effects``; ``T`` is the type of its value.

    :raises DefinitionError: ``into`` is no slot, ``as_`` disagrees with it, a time-out that is not a finite
        number of seconds above 0, or a retry of an effect that is not idempotent and has no ``idem`` key.
    """

    family: str
    """Which effector performs it: ``http``, ``sql``, ``kv``, ..."""
    op: str
    """What it does there: ``get``, ``query_one``, ..."""
    target: str
    """What breaker, bulkhead and policies are kept for: ``http:api.example.com:443``, ``sql:default``."""
    args: Any
    """The family's own frozen description of what to do."""
    into: type[Slot[Any]] | None = None
    """The slot that its value is written to; its type is what the result is decoded to."""
    as_: Any = None
    """What the result is decoded to where there is no slot."""
    timeout: float | None = None
    """Seconds for each attempt; ``None`` is the configured default of the target or family."""
    retry: Retry | None = None
    """``None`` is the target's configured policy, which is applied to idempotent effects only; by default one
    attempt."""
    required: bool = True
    """Whether its failure fails the Need."""
    priority: Priority = "interactive"
    idem: str | None = None
    """An idempotency key: performing the effect again with the same key changes nothing."""
    idempotent: bool = False
    """Whether it may be performed twice without a key; set by the constructor, not by the app."""

    def __post_init__(self) -> None:
        into = self.into
        if into is not None:
            if not (isinstance(into, type) and issubclass(into, Slot)):
                raise DefinitionError(f"{self.label}: into={into!r} is not a slot class")
            if self.as_ is not None and self.as_ != slot_type(into):
                raise DefinitionError(
                    f"{self.label}: as_={self.as_!r} disagrees with slot {into.__name__}, which holds "
                    f"{slot_type(into)!r}; leave as_ out"
                )
        timeout = self.timeout
        if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout < math.inf):
            raise DefinitionError(f"{self.label}: timeout={timeout!r}; give a finite number of seconds above 0")
        if self.retry is not None and self.retry.attempts > 1 and not self.idempotent and self.idem is None:
            raise DefinitionError(
                f"{self.label}: it is not idempotent, so a retry could do it twice; give idem=<a key that names "
                f"this one "
                "operation>, or leave retry out"
            )
        if self.priority not in ("interactive", "batch"):
            raise DefinitionError(f"{self.label}: priority={self.priority!r}; allowed: 'interactive', 'batch'")

    @property
    def label(self) -> str:
        """How messages and traces name it: ``sql.query_one into TodoItem``."""
        name = f"{self.family}.{self.op}"
        return f"{name} into {self.into.__name__}" if isinstance(self.into, type) else name

    @property
    def result_type(self) -> Any:
        """What its raw result is decoded to: the slot's type, or ``as_``, or ``None`` for the family's own
        default."""
        return result_type(self)


def result_type(effect: Effect[Any]) -> Any:
    """See :attr:`Effect.result_type`; for where effects settle, as a property costs several times as much."""
    into = effect.into
    return effect.as_ if into is None else slot_type(into)
