"""What a message is, and what can become of it instead of an answer.

In a mailbox a message is a plain tuple, `(behaviour, args, kwargs, reply)`: making one is the hottest thing that this
package does, and a tuple is the cheapest record that Python has.

    behaviour: the `Behaviour` to run.
    args: positional arguments, already bound: defaults are filled in.
    kwargs: the keyword-only arguments, or None when the behaviour has none.
    reply: what takes the answer: a `Reply`, or an object of the mailman's that sends it on.

Every error here is made of plain data only, so that it crosses between processes as `encode_error` puts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from zerver_runtime.ids import show

__all__ = [
    "ActorDead",
    "ActorError",
    "AnswerTo",
    "BehaviourFailed",
    "ExitKind",
    "ExitReason",
    "MailboxFull",
    "NotPlainData",
    "Overloaded",
    "ReplyTimeout",
    "SelfAsk",
    "UnknownBehaviour",
    "decode_error",
    "describe",
    "encode_error",
]

ExitKind: TypeAlias = Literal["normal", "shutdown", "crash", "killed", "lost"]


class ExitReason(msgspec.Struct, frozen=True):
    """Why an actor is no more.

    normal: it stopped by itself or was asked to. shutdown: its supervisor, or the whole scheduler, stopped it.
    crash: a behaviour raised. killed: it did not stop in time, or was ended from outside. lost: its process is gone.
    """

    kind: ExitKind
    text: str = ""

    @property
    def abnormal(self) -> bool:
        """Whether a `transient` child is restarted after it."""
        return self.kind not in ("normal", "shutdown")

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


class AnswerTo(Protocol):
    """What takes the answer to a message. The first call counts; later ones do nothing."""

    def settle(self, value: Any, /) -> None: ...
    def fail(self, error: ActorError, /) -> None: ...


class ActorError(Exception):
    """What a message came to instead of an answer: sending raises it, or awaiting the reply does."""


class ActorDead(ActorError):
    """The actor died, or had died, before it could answer. `actor` is its id, `reason` an `ExitReason` as text."""

    def __init__(self, actor: int, reason: str) -> None:
        super().__init__(actor, reason)
        self.actor, self.reason = actor, reason

    @property
    def lost(self) -> bool:
        """Whether its process died, with this message on its way or not."""
        return self.reason.startswith("lost")

    def __str__(self) -> str:
        return f"actor {show(self.actor)} is dead ({self.reason}); look it up by its name if it is supervised"


class MailboxFull(ActorError):
    """The mailbox holds `bound` messages, and its policy refuses another one, or dropped this one."""

    def __init__(self, actor: str, behaviour: str, bound: int) -> None:
        super().__init__(actor, behaviour, bound)
        self.actor, self.behaviour, self.bound = actor, behaviour, bound

    def __str__(self) -> str:
        return (
            f"the mailbox of {self.actor} is full ({self.bound} messages), so {self.behaviour}() was not taken;"
            " send less, or give its class a larger MailboxPolicy(bound=)"
        )


class Overloaded(MailboxFull):
    """As MailboxFull, for a sender that is no actor and so cannot be muted: turn the work away (503)."""


class BehaviourFailed(ActorError):
    """The behaviour raised; its actor died of it. `error` is the exception's class and text."""

    def __init__(self, actor: str, behaviour: str, error: str) -> None:
        super().__init__(actor, behaviour, error)
        self.actor, self.behaviour, self.error = actor, behaviour, error

    def __str__(self) -> str:
        return f"{self.behaviour}() of {self.actor} raised {self.error}"


class UnknownBehaviour(ActorError):
    """A message from elsewhere named a behaviour that the class lacks, or gave arguments that it does not take."""

    def __init__(self, actor: str, behaviour: str, why: str) -> None:
        super().__init__(actor, behaviour, why)
        self.actor, self.behaviour, self.why = actor, behaviour, why

    def __str__(self) -> str:
        return f"{self.actor} cannot take {self.behaviour}(): {self.why}; do both sides run the same version?"


class ReplyTimeout(ActorError):
    """No answer within `seconds` of the await. What arrives later is dropped and counted."""

    def __init__(self, actor: str, behaviour: str, seconds: float) -> None:
        super().__init__(actor, behaviour, seconds)
        self.actor, self.behaviour, self.seconds = actor, behaviour, seconds

    def __str__(self) -> str:
        return (
            f"{self.actor} did not answer {self.behaviour}() within {self.seconds:g} s;"
            " wait longer with .with_timeout(seconds), or see what keeps it busy"
        )


class NotPlainData(ActorError, TypeError):
    """An argument holds something that cannot leave the process. `path` leads to it, from the argument's name on."""

    def __init__(self, behaviour: str, path: str, found: str) -> None:
        super().__init__(behaviour, path, found)
        self.behaviour, self.path, self.found = behaviour, path, found

    def __str__(self) -> str:
        return (
            f"{self.behaviour}(): {self.path} is {self.found}, which is not plain data;"
            " send builtins, dataclasses, msgspec Structs or actor refs"
        )


class SelfAsk(ActorError):
    """An actor awaited its own answer, which it could only give after the await: it would wait for ever."""

    def __init__(self, actor: str, behaviour: str, asked: str) -> None:
        super().__init__(actor, behaviour, asked)
        self.actor, self.behaviour, self.asked = actor, behaviour, asked

    def __str__(self) -> str:
        return (
            f"{self.behaviour}() of {self.actor} awaits {self.asked}() of the same actor, which takes no other message"
            " meanwhile; move what both do into a plain method and call that"
        )


_ERRORS: dict[str, Callable[..., ActorError]] = {
    kind.__name__: kind
    for kind in (
        ActorDead,
        MailboxFull,
        Overloaded,
        BehaviourFailed,
        UnknownBehaviour,
        ReplyTimeout,
        NotPlainData,
        SelfAsk,
    )
}


_LONGEST = 2000


def describe(error: BaseException) -> str:
    """Class and text of an exception, cut to 2,000 characters: it goes into messages, and those are bounded."""
    try:
        text = str(error)
    except Exception as fault:
        text = f"its text cannot be had: {type(fault).__name__}"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text)} characters)"
    # It is sent and written, so a lone surrogate must not be in it.
    text = text.encode(errors="backslashreplace").decode()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def encode_error(error: ActorError) -> tuple[Any, ...]:
    """The error as plain data: its class name and fields."""
    return (type(error).__name__, *error.args)


def decode_error(plain: Sequence[Any]) -> ActorError:
    """The error again. Anything that is not one (from another version, say) becomes a bare `ActorError` of its text."""
    try:
        return _ERRORS[plain[0]](*plain[1:])
    except (KeyError, TypeError, IndexError):
        return ActorError(f"an error that this version does not know: {plain!r}")
