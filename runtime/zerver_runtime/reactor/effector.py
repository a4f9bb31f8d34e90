"""What a dispatcher is given: the effectors that perform effects, and what is made of their results.

The effects themselves stay opaque: only `family`, `target` and `priority` are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from ..outcome import Outcome
from .breaker import BreakerPolicy
from .bulkhead import BulkheadPolicy
from .retry import RetryPolicy

__all__ = ["CallLater", "Effect", "Effector", "Event", "Faults", "Handle", "Policy", "Retrying"]

Event: TypeAlias = Literal[
    "ReactorEffectScheduled",
    "EffectStart",
    "EffectRetry",
    "ReactorEffectCompleted",
    "EffectCancelled",
    "BreakerStateChanged",
]


class Effect(Protocol):
    """What a dispatcher looks at."""

    @property
    def family(self) -> str:
        """Which effector performs it."""
        ...

    @property
    def target(self) -> str:
        """What breaker and bulkhead are kept for."""
        ...

    @property
    def priority(self) -> str:
        """`batch` waits behind the rest in the bulkhead's queue."""
        ...


class Effector(Protocol):
    """Performs the effects of one family. Users implement it too."""

    def start(self, effect: Any, done: Callable[[Outcome], None], /) -> Callable[[], object] | None:
        """Start one attempt and return; never wait.

        `done` is to be called exactly once, on the loop's thread, possibly before this returns: with the raw value as
        a `Success`, or with a `Failure`. Returned is what cancels the attempt, or None when nothing can. A cancelled
        attempt still calls `done` once, when it has really let go of what it used; its outcome then means nothing.

        What this raises is a failure of the attempt, which then is over: `done` must not follow.
        """
        ...


class Handle(Protocol):
    """A timer that was set."""

    def cancel(self) -> object: ...


class CallLater(Protocol):
    """Sets a timer on the loop: calls `callback(*args)` after `delay` seconds. As `asyncio`'s `loop.call_later`."""

    def __call__(self, delay: float, callback: Callable[..., object], /, *args: Any) -> Handle: ...


class Faults(Protocol):
    """Makes the errors of failures that have their cause above the effectors. Must not raise."""

    def timeout(self, effect: Any, seconds: float, /) -> object:
        """It took longer than its time-out, `seconds`, or waited that long for a place."""
        ...

    def deadline(self, effect: Any, /) -> object:
        """The request's deadline passed before it was done."""
        ...

    def breaker_open(self, effect: Any, retry_after: float, /) -> object:
        """Its target is left alone; it may be tried in `retry_after` seconds."""
        ...

    def bulkhead_full(self, effect: Any, /) -> object:
        """Its target has no place left, and none in the queue."""
        ...

    def unknown_family(self, effect: Any, /) -> object:
        """No effector performs its family."""
        ...

    def crashed(self, effect: Any, exception: BaseException, /) -> object:
        """A bug: the effector's `start` or the interpretation of its value raised this."""
        ...


class Policy(msgspec.Struct, frozen=True):
    """What holds for one effect.

    timeout: seconds for each attempt; None is none. `breaker` and `bulkhead` hold for the whole target and are taken
    from the first policy that is seen for it; None is none.
    """

    timeout: float | None = None
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy | None = None
    bulkhead: BulkheadPolicy | None = None


class Retrying(msgspec.Struct, frozen=True):
    """The detail of an `EffectRetry`."""

    wait: float
    """Seconds until the next attempt."""
    error: object
    """Of the attempt that failed."""
