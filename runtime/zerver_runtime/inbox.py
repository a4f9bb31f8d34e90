"""What comes out of a link: messages into mailboxes, replies to those who asked, and the runtime's own words."""

from __future__ import annotations

import inspect
from collections import deque
from typing import Any

import msgspec

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.cell import Cell, no_room
from zerver_runtime.codec import Codec, Conversion, conversion
from zerver_runtime.ids import ActorId, actor_id, unpack
from zerver_runtime.message import (
    ActorDead,
    ExitReason,
    NotPlainData,
    UnknownBehaviour,
    decode_error,
    describe,
    encode_error,
)
from zerver_runtime.moves import Moves
from zerver_runtime.peer import Ask, Incoming, IncomingReply, Messages, Peer, Replies
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler

__all__ = ["Inbox"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _Sealed(msgspec.Struct, array_like=True, gc=False):
    """An `Incoming` whose arguments have not been read."""

    serial: int
    behaviour: str
    args: msgspec.Raw
    kwargs: msgspec.Raw = msgspec.Raw(b"\xc0")  # None


class _SealedReply(msgspec.Struct, array_like=True, gc=False):
    correlation: int
    value: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: list[Any] | None = None


class Inbox:
    """Of one scheduler, for all its peers. What a frame cannot be raises msgspec.MsgspecError, LookupError or
    ValueError; what a single message cannot be is a dead letter, and told to who asked.

    A frame is read in one go. Where that fails, its messages are opened one by one: what only one of them cannot be
    (a dict with a key that is none any more, say) must not harm those of other actors.
    """

    def __init__(self, scheduler: Scheduler, codec: Codec, moves: Moves) -> None:
        self._scheduler = scheduler
        self._moves = moves
        self._here = scheduler.place
        self._first = actor_id(*scheduler.place, 0)
        self._message_decoder = codec.decoder(Messages)
        self._reply_decoder = codec.decoder(Replies)
        self._sealed_decoder = codec.decoder(tuple[list[_Sealed], list[tuple[int, int]]])
        self._sealed_reply_decoder = codec.decoder(tuple[int, list[_SealedReply]])
        self._args_decoder = codec.decoder(tuple[Any, ...])
        self._decode = codec.decode
        self._conversions: dict[tuple[type[Any], str], Conversion | None] = {}
        self._routes: dict[tuple[type[Any], str], tuple[Behaviour[Any, Any, Any], int]] = {}
        self._closed = False

    def close(self) -> None:
        """Take no more messages for actors: each is a dead letter, and told to who asked. What has come is worked off,
        and answers are taken."""
        self._closed = True

    def parked_lost(self, peer: Peer) -> None:
        """Its process is gone. Nobody is left to hear of what waits here for a mailbox, but it has come: deliver it."""
        for target, waiting in peer.parked.items():
            while waiting:
                self.deliver(target, self._scheduler.cells.get(target), *waiting.popleft())

    def messages(self, peer: Peer, payload: bytes) -> None:
        try:
            messages, asks = self._message_decoder.decode(payload)
        except Exception:
            opened: Any = self._open(peer, payload)
            messages, asks = opened
        wanted = dict(asks) if asks else None
        if self._closed:
            self._turn_away(peer, messages, wanted or {})
            return
        scheduler = self._scheduler
        first = self._first
        cells = scheduler.cells
        parked = peer.parked
        routes = self._routes
        answer: Any = peer
        for index, message in enumerate(messages):
            serial = message.serial
            if not serial:
                self._take_system(peer, message)
                continue
            if wanted is not None:
                answer = Ask(peer, wanted[index]) if index in wanted else peer
            target = first + serial
            cell = cells.get(target)
            if cell is not None and message.kwargs is None and not parked:
                # The straight way: nothing has to be converted or filled in, and the ring has room.
                args = message.args
                count = cell.count
                if count < cell.limit:
                    found = routes.get((cell.kind, message.behaviour))
                    if found is not None and found[1] == len(args):
                        cell.ring[(cell.head + count) & cell.mask] = (found[0], args, None, answer)
                        cell.count = count + 1
                        if not cell.state:
                            scheduler.ready(cell)
                        continue
            if parked and target in parked:
                parked[ActorId(target)].append((message, answer))
            elif cell is not None and no_room(cell):
                parked[ActorId(target)] = deque([(message, answer)])
            else:
                self.deliver(ActorId(target), cell, message, answer)

    def _open(self, peer: Peer, payload: bytes) -> Messages:
        """Those that can be read, and which of them are asks."""
        sealed, asks = self._sealed_decoder.decode(payload)
        wanted = dict(asks)
        opened: list[Incoming] = []
        still: list[tuple[int, int]] = []
        for index, one in enumerate(sealed):
            try:
                message = Incoming(
                    one.serial, one.behaviour, self._args_decoder.decode(one.args), self._decode(one.kwargs)
                )
            except Exception as error:
                fault = NotPlainData(one.behaviour, "an argument", f"what cannot be read again ({describe(error)})")
                self._scheduler.dead_letters.add(ActorId(self._first + one.serial), one.behaviour, str(fault))
                answer: Any = Ask(peer, wanted[index]) if index in wanted else peer
                answer.fail(fault)
                continue
            if index in wanted:
                still.append((len(opened), wanted[index]))
            opened.append(message)
        return opened, still

    def _turn_away(self, peer: Peer, messages: list[Incoming], wanted: dict[int, int]) -> None:
        for index, message in enumerate(messages):
            if not message.serial:
                self._take_system(peer, message)
                continue
            target = ActorId(self._first + message.serial)
            self._scheduler.dead_letters.add(target, message.behaviour, "its process ends")
            answer: Any = Ask(peer, wanted[index]) if index in wanted else peer
            answer.fail(ActorDead(target, "shutdown: its process ends"))

    def deliver(self, target: ActorId, cell: Cell | None, message: Incoming, answer: Any) -> None:
        args, kwargs = message.args, message.kwargs
        if cell is None and (new := self._scheduler.moved.get(target)) is not None:
            self._moves.forward(new, message.behaviour, args, kwargs, answer)
            return
        if cell is not None:
            key = (cell.kind, message.behaviour)
            if key not in self._conversions:
                self._learn(*key)
            change = self._conversions[key]
            if change is not None:
                try:
                    args, kwargs = change.arguments(args, kwargs)
                except Exception as error:  # not of its type, or what a `__post_init__` raises
                    why = describe(error)
                    self._scheduler.dead_letters.add(target, message.behaviour, why)
                    answer.fail(UnknownBehaviour(str(cell), message.behaviour, why))
                    return
        self._scheduler.deliver(target, message.behaviour, args, kwargs, answer)

    def _learn(self, kind: type[Any], name: str) -> None:
        """How messages for a behaviour have to be treated: which may go the straight way, which are converted."""
        found = getattr(kind, name, None)
        change = conversion(found) if isinstance(found, Behaviour) else None
        self._conversions[kind, name] = change
        if isinstance(found, Behaviour) and (change is None or change.positional is None):
            parameters = list(inspect.signature(found.fn).parameters.values())[1:]
            if all(one.kind in _POSITIONAL for one in parameters):
                self._routes[kind, name] = (found, len(parameters))

    def unpark(self, peer: Peer) -> None:
        """Messages for a mailbox that was full: their senders are slowed down by their window, so they are not lost."""
        for target, waiting in list(peer.parked.items()):
            cell = self._scheduler.cells.get(target)
            while waiting and (cell is None or not no_room(cell)):
                self.deliver(target, cell, *waiting.popleft())
            if not waiting:
                del peer.parked[target]

    def replies(self, peer: Peer, payload: bytes) -> None:
        try:
            incarnation, replies = self._reply_decoder.decode(payload)
        except Exception:
            incarnation, replies = self._open_replies(payload)
        for reply in replies:
            entry = peer.pending.pop(reply.correlation, None) if incarnation == self._here.incarnation else None
            if entry is None:
                self._scheduler.late_replies += 1
            elif reply.error is not None:
                entry[1].fail(decode_error(reply.error))
            else:
                self._settle(entry[1], reply.value)

    def _open_replies(self, payload: bytes) -> Replies:
        incarnation, sealed = self._sealed_reply_decoder.decode(payload)
        opened: list[IncomingReply] = []
        for one in sealed:
            try:
                opened.append(IncomingReply(one.correlation, self._decode(one.value), one.error))
            except Exception as error:
                found = f"what cannot be read again ({describe(error)})"
                fault = encode_error(NotPlainData("the behaviour", "its return value", found))
                opened.append(IncomingReply(one.correlation, None, list(fault)))
        return incarnation, opened

    def _settle(self, reply: Reply[Any], value: Any) -> None:
        kind: Any = getattr(reply.source, "kind", None)
        found = getattr(kind, reply.behaviour, None)
        change = conversion(found) if isinstance(found, Behaviour) else None
        if change is not None and change.result is not None:
            try:
                value = msgspec.convert(value, change.result)
            except Exception as error:
                reply.fail(UnknownBehaviour(str(reply.source), reply.behaviour, f"its return value: {describe(error)}"))
                return
        reply.settle(value)

    def _take_system(self, peer: Peer, message: Incoming) -> None:
        monitors = self._scheduler.monitors
        match message.behaviour, message.args:
            case "monitor", (bytes(watcher), bytes(target)):
                if not self._moves.moved_on(peer, unpack(target)):
                    peer.watched.add((unpack(watcher), unpack(target)))
                    monitors.add(unpack(watcher), unpack(target))
            case "demonitor", (bytes(watcher), bytes(target)):
                peer.watched.discard((unpack(watcher), unpack(target)))
                monitors.remove(unpack(watcher), unpack(target))
            case "down", (bytes(watcher), bytes(target), str(kind), str(text)):
                peer.watches.discard((unpack(watcher), unpack(target)))
                reason = msgspec.convert({"kind": kind, "text": text}, ExitReason)
                monitors.down(unpack(watcher), unpack(target), reason)
            case what, args:
                if not self._moves.take(peer, what, args):
                    raise ValueError(f"{what!r} is no system message")
