"""Performs ``actor`` effects: sends to the actors that a scheduler finds by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from zerver_runtime.message import ActorDead, ActorError, MailboxFull, ReplyTimeout
from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler

from ..effect import Effect
from ..effects.actor import Message
from ..error import Error, ErrorKind
from .base import Done, cancelled, closed, internal, unreachable

__all__ = ["ActorEffector", "Asks"]

_Failure: TypeAlias = Callable[[Effect[Any], ActorError], Failure]
"""Says what an error in place of an answer means."""


class ActorEffector:
    """``stage``: the scheduler of this process, whose turns somebody else drives, on the loop's thread.

    A name is looked up with each attempt, as a restart makes another actor. Raw results are what behaviours return,
    and ``None`` for ``tell``.
    """

    def __init__(self, stage: Scheduler) -> None:
        self._stage = stage
        self._asks = Asks()

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        if self._asks.closed:
            done(closed(effect))
            return None
        message: Message = effect.args
        ref = self._stage.whereis(message.name)
        if ref is None:
            done(unreachable(effect))
            return None
        try:
            with self._stage:
                reply: Reply[Any] = getattr(ref, message.behaviour)(*message.args, **message.kwargs)
        except ActorError as problem:
            done(_failure(effect, problem))
            return None
        except (AttributeError, TypeError) as problem:  # the actor of this name is of another class
            done(internal(effect, str(problem), problem))
            return None
        if effect.op == "tell":
            done(Success(None) if reply.error is None else _failure(effect, reply.error))
            return None
        return self._asks.wait(reply, effect, done, _failure)

    async def close(self) -> None:
        """Cancel what is asked. The actors are not this one's."""
        self._asks.close()

    def __repr__(self) -> str:
        return f"<ActorEffector: {len(self._asks)} asked>"


class Asks:
    """What an effector has asked of actors, and waits for."""

    __slots__ = ("_waiting", "closed")

    def __init__(self) -> None:
        self._waiting: set[_Ask] = set()
        self.closed = False
        """Whether nothing more is to be asked."""

    def wait(self, reply: Reply[Any], effect: Effect[Any], done: Done, failure: _Failure) -> Callable[[], object]:
        """Settle an attempt with the reply, whatever that is; what is given back cancels it."""
        ask = _Ask(self._waiting, effect, done, failure)
        self._waiting.add(ask)
        reply.on_done(ask.answered)
        return ask.cancel

    def close(self) -> None:
        """Cancel what is asked. The actors are somebody else's."""
        self.closed = True
        for ask in list(self._waiting):
            ask.cancel()

    def __len__(self) -> int:
        """Attempts that wait."""
        return len(self._waiting)


class _Ask:
    """One attempt. Nothing of it is held here once it is cancelled; the answer is dropped."""

    __slots__ = ("_asked", "_done", "_effect", "_failure")

    def __init__(self, asked: set[_Ask], effect: Effect[Any], done: Done, failure: _Failure) -> None:
        self._asked = asked
        self._effect = effect
        self._done: Done | None = done
        self._failure = failure

    def cancel(self) -> None:
        self._settle(cancelled(self._effect))

    def answered(self, reply: Reply[Any]) -> None:
        if self._done is not None:
            error = reply.error
            self._settle(Success(reply.result()) if error is None else self._failure(self._effect, error))

    def _settle(self, outcome: Success | Failure) -> None:
        done, self._done = self._done, None
        self._asked.discard(self)
        if done is not None:
            done(outcome)


def _failure(effect: Effect[Any], problem: ActorError) -> Failure:
    if isinstance(problem, ActorDead):
        return unreachable(effect)
    if isinstance(problem, MailboxFull):
        what = f"{effect.label}: the actor has too much to do"
        return Failure(Error(ErrorKind.OVERLOADED, what, retry_after=1.0))
    if isinstance(problem, ReplyTimeout):
        return Failure(Error(ErrorKind.TIMEOUT, f"{effect.label}: timed out"), retryable=True)
    return internal(effect, str(problem))
