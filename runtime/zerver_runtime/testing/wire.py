"""One direction of a simulated link, and what holds its bytes up."""

from __future__ import annotations

from zerver_runtime.scheduler_view import Key
from zerver_runtime.testing.memory_link import MemoryLink

__all__ = ["Wire"]


class Wire:
    """One direction of a link: the end that the bytes arrive at."""

    __slots__ = ("attached", "delayed", "end", "receiver", "sender")

    def __init__(self, sender: Key, receiver: Key, end: MemoryLink) -> None:
        self.sender = sender
        self.receiver = receiver
        self.end = end
        self.attached = False  # whether the receiver has got its end from the Node
        self.delayed = 0  # nothing arrives before (nanoseconds)
