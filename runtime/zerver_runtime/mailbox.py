"""A bounded queue of messages, and what happens when it fills. Pure.

The ring starts without memory, grows by doubling up to its bound, and gives its memory back when it has run empty: an
idle actor, and there may be a million of them, holds `KEPT` slots at most. (A `deque` would push and pop in a
fifth of the time, 39 ns against 191, but takes 768 bytes from the start; a message costs about a microsecond in all.)
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

__all__ = ["KEPT", "Mailbox", "MailboxPolicy", "WhenFull"]

WhenFull: TypeAlias = Literal["mute", "drop", "fail"]

KEPT = 4
"""Slots that an idle mailbox may keep, so that one message at a time never allocates."""

_EMPTY: list[Any] = []


class MailboxPolicy(msgspec.Struct, frozen=True):
    """How many messages may wait for an actor, and what happens then.

    bound: messages, 1 or more.
    full: "mute": a sending actor is muted when the mailbox gets past half full, and runs again when it is below a
        quarter; when the mailbox is truly full, the send raises MailboxFull.
        "drop": what does not fit becomes a dead letter; its reply fails with MailboxFull.
        "fail": no muting; when the mailbox is full, the send raises MailboxFull.
    Senders that are no actors are never muted, and get Overloaded for MailboxFull.

    ValueError: bound below 1, or an unknown `full`.
    """

    bound: int = 1024
    full: WhenFull = "mute"

    def __post_init__(self) -> None:
        if not isinstance(self.bound, int) or self.bound < 1:
            raise ValueError(
                f"MailboxPolicy(bound={self.bound}): a mailbox needs room for at least 1 message, and whole ones"
            )
        if self.full not in ("mute", "drop", "fail"):
            raise ValueError(f'MailboxPolicy(full={self.full!r}): use "mute", "drop" or "fail"')

    @property
    def pressure(self) -> int:
        """With more messages than this, a mailbox mutes who sends to it."""
        return self.bound // 2

    @property
    def relief(self) -> int:
        """With fewer messages than this, or none, it lets them go again."""
        return max(1, self.bound // 4)


class Mailbox:
    """The ring. `pop` is also written out in `Cell`, where the call would cost too much."""

    # Only push() and pop() write these. `limit` is where the next push needs thought: the ring is to grow, senders
    # are to be muted, the bound is reached. So the straight way has one comparison for all of them.
    __slots__ = ("count", "head", "limit", "mask", "policy", "ring")

    def __init__(self, policy: MailboxPolicy) -> None:
        self.policy = policy
        self.ring = _EMPTY
        self.mask = -1
        self.head = 0
        self.count = 0
        self.limit = 0

    def push(self, message: Any) -> bool:
        """False: there is no room, and the message was not taken."""
        if self.count >= self.policy.bound:
            return False
        self.force(message)
        return True

    def force(self, message: Any) -> None:
        """Take it whatever the bound says. For system messages, of which there are few and none may be lost."""
        count = self.count
        if count > self.mask:
            self._resize(max(KEPT, 2 * len(self.ring)))
        self.ring[(self.head + count) & self.mask] = message
        self.count = count + 1

    def pop(self) -> Any:
        """The oldest. IndexError: there is none."""
        if not self.count:
            raise IndexError("pop from an empty mailbox")
        head = self.head
        message = self.ring[head]
        self.ring[head] = None
        self.head = (head + 1) & self.mask
        self.count -= 1
        return message

    def shrink(self) -> None:
        """Give memory back, when empty."""
        if not self.count and self.mask >= KEPT:
            self.ring = _EMPTY
            self.mask = -1
            self.head = self.limit = 0

    def clear(self) -> list[Any]:
        """Take all messages out, the oldest first."""
        left = [self.pop() for _ in range(self.count)]
        self.shrink()
        return left

    @property
    def capacity(self) -> int:
        """Messages that fit without growing."""
        return len(self.ring)

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<Mailbox {self.count} of {self.policy.bound}, {self.policy.full}, room for {self.capacity}>"

    def _resize(self, size: int) -> None:
        head = self.head
        self.ring = [*self.ring[head:], *self.ring[:head], *[None] * (size - len(self.ring))]
        self.head = 0
        self.mask = size - 1
        policy = self.policy
        # Past half full each push of an actor may have to mute it.
        self.limit = min(size, policy.bound if policy.full != "mute" else policy.pressure)
