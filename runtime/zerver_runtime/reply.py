"""The answer to one message: already there, still to come, or never to come.

Each send makes one, whether anybody wants it or not, hence a Struct: it is made in half the time of an object with an
`__init__`. A reply belongs to one send for ever, so a late answer has nowhere wrong to go.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import msgspec

from zerver_runtime.message import ActorError, ReplyTimeout

__all__ = ["DEFAULT_TIMEOUT", "PENDING", "Reply", "Sender"]

R = TypeVar("R")

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds that an awaited reply may take."""


class _Mark:
    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


PENDING: Final = _Mark("PENDING")
_FAILED: Final = _Mark("FAILED")


class Sender(Protocol):
    """What a reply knows of the actor that it comes from: a cell of this scheduler, or one elsewhere."""

    def __str__(self) -> str: ...
    def post(self, irq: Callable[[], object], /) -> None: ...
    def late(self) -> None: ...
    def let_go(self, sender: Any, /) -> None:
        """Unmute one that it holds, if it does."""


class _Waiters(list[Callable[["Reply[Any]"], object]]):
    """More than one, as one."""

    def __call__(self, reply: Reply[Any]) -> None:
        for waiter in self:
            waiter(reply)


class Reply(msgspec.Struct, Generic[R], eq=False, weakref=True):
    """In an async behaviour: `total = await counter.add(1)`, within 5 s, or `.with_timeout(seconds)`.

    Awaiting raises the `ActorError` that came instead: `ActorDead`, `BehaviourFailed`, `ReplyTimeout`, ... Only an
    async behaviour may await it; a driver or an event loop uses `on_done`.
    """

    # Who is asked, and what. Fixed.
    source: Sender
    behaviour: str
    # Written once, by settle() or fail(). The scheduler writes `value` by itself while there is no `waiter`.
    value: Any = PENDING
    error: ActorError | None = None
    # Told once, by then.
    waiter: Callable[[Reply[Any]], object] | None = None
    timeout: float = DEFAULT_TIMEOUT

    def with_timeout(self, seconds: float) -> Reply[R]:
        """Let an await of this reply take this long, instead of 5 s. ValueError: not above 0."""
        if not seconds > 0:
            raise ValueError(f"with_timeout({seconds!r}): give the seconds to wait, above 0")
        self.timeout = seconds
        return self

    def __await__(self) -> Generator[Reply[R], None, R]:
        if self.value is PENDING:
            yield self
        return self.result()

    @property
    def done(self) -> bool:
        """Whether there is an answer, or an error instead."""
        return self.value is not PENDING

    def result(self) -> R:
        """What the behaviour returned. Never waits.

        ActorError: what came instead. RuntimeError: nothing has come yet; await it or use `on_done`.
        """
        if self.error is not None:
            # A new one each time: raised twice, one exception would gather the tracebacks of both places.
            error = self.error
            raise type(error)(*error.args) from error.__cause__
        if self.value is PENDING:
            raise RuntimeError(f"{self!r} has no result yet: await it in an async behaviour, or use on_done()")
        return cast(R, self.value)

    def on_done(self, callback: Callable[[Reply[R]], object]) -> None:
        """Have `callback(reply)` called once, with system work of this scheduler, after there is a result; also when
        there is one already. For what is no actor. It sets no time-out.
        """
        post = self.source.post
        if self.value is not PENDING:
            post(lambda: callback(self))
        else:
            self.notify(lambda reply: post(lambda: callback(reply)))

    def notify(self, waiter: Callable[[Reply[Any]], object]) -> None:
        """For the scheduler: call `waiter(reply)` the moment there is a result. It must not raise, nor take long."""
        first = self.waiter
        if first is None:
            self.waiter = waiter
        elif isinstance(first, _Waiters):
            first.append(waiter)
        else:
            self.waiter = _Waiters([first, waiter])

    def settle(self, value: Any) -> None:
        """The answer is here. A second one, or one that comes after a time-out, is dropped and counted."""
        if self.value is not PENDING:
            self.source.late()
            return
        self.value = value
        self._tell()

    def fail(self, error: ActorError) -> None:
        """No answer will come, and why. Does nothing when there is a result."""
        if self.value is PENDING:
            self.value = _FAILED
            self.error = error
            self._tell()

    def expire(self) -> None:
        """The time-out has passed."""
        self.fail(ReplyTimeout(str(self.source), self.behaviour, self.timeout))

    def _tell(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter(self)

    def __repr__(self) -> str:
        if self.error is not None:
            state = f"failed: {self.error}"
        else:
            state = "pending" if self.value is PENDING else repr(self.value)
        return f"<Reply of {self.source} to {self.behaviour}(): {state}>"
