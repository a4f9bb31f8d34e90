"""Messages that nobody will ever run: counted, and the last of them kept to be looked at."""

from __future__ import annotations

from collections import deque

import msgspec

from zerver_runtime.ids import ActorId, show

__all__ = ["DeadLetter", "DeadLetters"]


class DeadLetter(msgspec.Struct, frozen=True):
    """One message that was not run, for whom it was, and why."""

    actor: ActorId
    behaviour: str
    why: str

    def __str__(self) -> str:
        return f"{self.behaviour}() to {show(self.actor)}: {self.why}"


class DeadLetters:
    """Of one scheduler. keep: how many of the last ones stay visible."""

    __slots__ = ("count", "last")

    def __init__(self, keep: int = 100) -> None:
        self.count = 0
        self.last: deque[DeadLetter] = deque(maxlen=keep)

    def add(self, actor: ActorId, behaviour: str, why: str) -> None:
        self.count += 1
        self.last.append(DeadLetter(actor, behaviour, why))

    def __repr__(self) -> str:
        return f"<DeadLetters {self.count}{f', last: {self.last[-1]}' if self.last else ''}>"
