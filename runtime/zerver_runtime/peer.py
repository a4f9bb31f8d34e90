"""One sibling of this scheduler, in one incarnation: what is on the way to it, and what is awaited from it.

What it is sent is encoded at once, so that a later change of an argument does not travel, and is written in batches.
Each side tells the other how many of its messages have been dealt with. So the sender knows how much is under way,
which bounds it, and when the sibling dies, how many messages died with it.

    MESSAGES = [[message, ...], [[index, correlation], ...]]      message = [serial, behaviour, args, kwargs?]
    REPLIES  = [incarnation of the asker, [reply, ...]]           reply = [correlation, value, error?]
    HANDLED  = count, 8 bytes
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from sys import getrefcount
from typing import Any

import msgspec

from zerver_runtime.cell import Cell
from zerver_runtime.codec import Codec
from zerver_runtime.ids import ActorId, Place
from zerver_runtime.link import Link
from zerver_runtime.message import ActorError, NotPlainData, encode_error
from zerver_runtime.packet import MOST, Decoder, Kind, encode
from zerver_runtime.reply import Reply

__all__ = ["WINDOW", "Ask", "Incoming", "IncomingReply", "Messages", "Peer", "Replies"]

WINDOW = 8192
"""Messages that may be under way to one sibling, before their senders are muted; the double of it, before each
further one is refused."""

_LONGEST = MOST // 2  # bytes of one message or answer

_BATCH = 32 * 1024  # bytes that are written without waiting for the end of the turn
_ONLY_HERE = 3  # references to a reply that nobody else holds: the ask's tuple, the loop variable, getrefcount's own


class Incoming(msgspec.Struct, array_like=True, gc=False):
    serial: int
    behaviour: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] | None = None


class IncomingReply(msgspec.Struct, array_like=True, gc=False):
    correlation: int
    value: Any = None
    error: list[Any] | None = None


Messages = tuple[list[Incoming], list[tuple[int, int]]]
Replies = tuple[int, list[IncomingReply]]


class Ask:
    """What takes the answer to an ask of the sibling's."""

    __slots__ = ("_correlation", "_peer")

    def __init__(self, peer: Peer, correlation: int) -> None:
        self._peer: Peer | None = peer
        self._correlation = correlation
        peer.asked += 1

    def settle(self, value: Any, /) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.asked -= 1
            peer.answer(self._correlation, value, None)

    def fail(self, error: ActorError, /) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.asked -= 1
            peer.answer(self._correlation, None, error)


class Peer:
    """Written by its `Mailman` only. A peer without a link is one whose link is still on its way from the Node.

    A peer is also what takes the answer to each tell of the sibling's: nobody wants the answer, but it is counted.
    """

    def __init__(self, place: Place, first: int, codec: Codec, rouse: Callable[[], object]) -> None:
        self.place = place
        self.first = first  # the ids of its actors, without the serial
        self.link: Link | None = None
        self.decoder = Decoder()
        self._codec = codec
        self._rouse = rouse  # has `flush` called soon, also when it is no turn that sends
        # On the way out.
        self._messages = bytearray()
        self._count = 0
        self._asks: list[tuple[int, int, ActorId, Reply[Any]]] = []
        self._replies = bytearray()
        self._reply_count = 0
        self._early: list[bytes] = []  # frames that wait for the link
        # Under way, and awaited.
        self.sent = 0
        self.acknowledged = 0
        self.pending: dict[int, tuple[ActorId, Reply[Any]]] = {}
        self._sweep_at = 1024
        self.held: set[Cell] = set()
        self.watches: set[tuple[ActorId, ActorId]] = set()
        # On the way in.
        self.handled = 0
        self._said = 0
        self.asked = 0  # asks of the sibling's that have no answer yet
        self.watched: set[tuple[ActorId, ActorId]] = set()  # watchers there, of actors here
        self.parked: dict[ActorId, deque[tuple[Incoming, Any]]] = {}

    # --- A tell of the sibling's was dealt with

    def settle(self, value: Any, /) -> None:
        self.handled += 1

    def fail(self, error: ActorError, /) -> None:
        self.handled += 1

    # --- Out

    @property
    def under_way(self) -> int:
        return self.sent - self.acknowledged

    @property
    def busy(self) -> bool:
        """Whether anything is still under way in one of the two directions, or awaited."""
        return bool(
            self.under_way
            or self.pending
            or self.parked
            or self.asked
            or self._reply_count
            or (self.link is not None and self.link.waiting)
        )

    def put(
        self,
        target: ActorId,
        behaviour: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        reply: Reply[Any] | None,
        correlation: int,
    ) -> None:
        """NotPlainData: names the argument that cannot leave the process."""
        messages = self._messages
        before = len(messages)
        serial = target - self.first
        try:
            if kwargs is None:
                self._codec.encode_into((serial, behaviour, args), messages, -1)
            else:
                self._codec.encode_into((serial, behaviour, args, kwargs), messages, -1)
        except Exception:
            del messages[before:]
            kind = getattr(reply and reply.source, "kind", None)
            raise self._codec.blame(kind, behaviour, args, kwargs) from None
        if len(messages) - before > _LONGEST:
            del messages[before:]
            raise NotPlainData(behaviour, "the whole", f"longer than {_LONGEST} bytes; pass large data by other ways")
        if reply is not None:
            self._asks.append((self._count, correlation, target, reply))
        if not self._count:
            self._rouse()
        self._count += 1
        if serial:
            self.sent += 1
        if len(messages) >= _BATCH:
            self.flush()

    def answer(self, correlation: int, value: Any, error: ActorError | None) -> None:
        self.handled += 1
        replies = self._replies
        before = len(replies)
        try:
            if error is None:
                self._codec.encode_into((correlation, value), replies, -1)
            else:
                self._codec.encode_into((correlation, None, self._codec.plain_error(encode_error(error))), replies, -1)
            fault = f"longer than {_LONGEST} bytes" if len(replies) - before > _LONGEST else ""
        except Exception as problem:
            fault = str(problem)
        if fault:
            del replies[before:]
            found = NotPlainData("the behaviour", "its return value", f"a {type(value).__qualname__} ({fault})")
            self._codec.encode_into((correlation, None, encode_error(found)), replies, -1)
        if not self._reply_count:
            self._rouse()
        self._reply_count += 1
        if len(replies) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what there is, as long as the link takes it."""
        link = self.link
        if link is None and len(self._messages) < _BATCH:
            return
        # One write for all of it: each one may wake the sibling.
        frames: list[bytes] = []
        if self._count:
            asks = self._codec.encode(self._wanted() if self._asks else ())
            payload = b"".join((b"\x92\xdd", self._count.to_bytes(4, "big"), self._messages, asks))
            self._messages.clear()
            self._count = 0
            frames.append(encode(Kind.MESSAGES, payload))
        if self._reply_count:
            head = self._codec.encode(self.place.incarnation)
            payload = b"".join((b"\x92", head, b"\xdd", self._reply_count.to_bytes(4, "big"), self._replies))
            self._replies.clear()
            self._reply_count = 0
            frames.append(encode(Kind.REPLIES, payload))
        if self.handled != self._said:
            self._said = self.handled
            frames.append(encode(Kind.HANDLED, self.handled.to_bytes(8, "little")))
        if link is None:
            self._early += frames
            return
        if self._early:
            frames, self._early = self._early + frames, []
        if frames:
            link.write(b"".join(frames) if len(frames) > 1 else frames[0])

    def _wanted(self) -> list[tuple[int, int]]:
        """Which of the messages are asks: those whose reply somebody still holds, or waits for. The rest are tells."""
        wanted: list[tuple[int, int]] = []
        pending = self.pending
        for index, correlation, target, reply in self._asks:
            if reply.waiter is not None or getrefcount(reply) > _ONLY_HERE:
                pending[correlation] = (target, reply)
                wanted.append((index, correlation))
        self._asks.clear()
        if len(pending) >= self._sweep_at:
            # Replies that have timed out are over, although the answer may still come.
            self.pending = {key: entry for key, entry in pending.items() if not entry[1].done}
            self._sweep_at = max(1024, 2 * len(self.pending))
        return wanted

    # --- Loss

    def take_pending(self) -> list[tuple[ActorId, Reply[Any]]]:
        """All asks that have no answer, written or not. Each of them is told, so it is under way no more; what is then
        still under way are tells."""
        if self._asks:
            self._wanted()
        pending, self.pending = self.pending, {}
        # A tell whose batch was written while its caller still held the reply went out as an ask.
        entries = [
            (target, reply)
            for target, reply in pending.values()
            if reply.waiter is not None or getrefcount(reply) > _ONLY_HERE
        ]
        self.acknowledged += len(entries)
        return entries

    def __repr__(self) -> str:
        state = "without a link yet" if self.link is None else repr(self.link)
        return f"<Peer {self.place.scheduler}.{self.place.incarnation} {state}: {self.under_way} under way>"
