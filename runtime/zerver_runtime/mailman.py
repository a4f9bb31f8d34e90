"""Carries messages out of a scheduler: to a sibling in the same Node over a link, to another node over a transport.

What stays in the scheduler never comes here. Per sender and receiver, order is kept. Whatever cannot arrive is told to
its sender, or counted as a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from zerver_runtime.cell import Cell
from zerver_runtime.codec import Codec, find_class
from zerver_runtime.control import Claim, Named, Relink, ToNode, Unclaim
from zerver_runtime.ids import ActorId, Place, actor_id, pack, place, show, unpack
from zerver_runtime.inbox import Inbox
from zerver_runtime.link import Link
from zerver_runtime.message import (
    ActorDead,
    ExitReason,
    MailboxFull,
    Overloaded,
)
from zerver_runtime.moves import Moves
from zerver_runtime.packet import Kind
from zerver_runtime.peer import WINDOW, Peer
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler

__all__ = ["Mailman", "Transport"]

_SERIAL = 40

_LONGEST_HOLD = 1.0
"""Seconds for which a sender stays muted at most: two actors that each wait for the other would do so for ever."""

_MOST_WAITING = 64 * 1024 * 1024
"""Bytes that may wait here for one sibling to read, before each further message is refused: large ones are too much
long before they are too many."""

_LINK_PATIENCE = 2.0
"""Seconds for which messages to an incarnation that nobody has told us of are kept; its link may be on its way."""


class Transport(Protocol):
    """What carries messages to other nodes."""

    def send(
        self,
        target: ActorId,
        behaviour: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        reply: Reply[Any],
    ) -> None:
        """Settle or fail `reply` in the end, whatever becomes of the message."""


class Mailman:
    """Belongs to one scheduler, and to its thread.

    say: takes a word to the Node. transport: for actors of other nodes; without one their messages are dead letters.
    """

    def __init__(self, scheduler: Scheduler, say: Callable[[ToNode], None], transport: Transport | None = None) -> None:
        self._scheduler = scheduler
        self._say = say
        self._transport = transport
        self._here = scheduler.place
        self.codec = Codec(scheduler.ref)
        self.moves = Moves(scheduler, self, say)
        self._waiting = self.moves.waiting
        self.inbox = Inbox(scheduler, self.codec, self.moves)
        self._peers: dict[int, Peer] = {}  # by the part of an id that says where
        self._lost: set[int] = set()
        self._newest: dict[int, int] = {}  # slot -> the newest incarnation that we were told of
        self._correlations = 0
        self._claimed: dict[str, ActorId] = {}
        self._granted: str | None = None
        self.undelivered = 0  # messages that a sibling took with it when it died

    # --- Links come and go

    def attach(self, slot: int, incarnation: int, link: Link) -> None:
        """A fresh link to a sibling, which takes the place of one that is broken."""
        there = Place(self._here.node, slot, incarnation)
        broken = self._peer(there)
        if broken.link is not None:
            self._lose(broken, "its link was broken")
        self._lost.discard(broken.first >> _SERIAL)
        self._newest[slot] = max(incarnation, self._newest.get(slot, 0))
        for peer in list(self._peers.values()):
            # Whoever waited for a link to an older one waits in vain.
            if peer.link is None and peer.place.scheduler == slot and peer.place.incarnation < incarnation:
                self._lose(peer, "its process is gone")
        peer = self._peer(there)
        peer.link = link
        link.start(
            lambda data: self._bytes(peer, data),
            lambda: self._relieve(peer),
            lambda why: self._lose(peer, why),
        )
        peer.flush()

    def lose(self, slot: int, incarnation: int, why: str) -> None:
        """The Node says that a sibling is dead."""
        first = actor_id(self._here.node, slot, incarnation, 0) >> _SERIAL
        peer = self._peers.get(first)
        self._lost.add(first)
        if peer is not None:
            # It has been buried, so all that it ever wrote is in the link.
            if peer.link is not None:
                peer.link.read()
            self._lose(peer, why)

    def look(self) -> None:
        """Read every link, whether or not the loop says that there is something. To be called now and then."""
        for peer in self.peers:
            if peer.link is not None:
                peer.link.read()

    def close(self) -> None:
        """Give all links up; every pending ask is answered."""
        for peer in list(self._peers.values()):
            self._lose(peer, "this scheduler stops")

    @property
    def peers(self) -> list[Peer]:
        return list(self._peers.values())

    # --- Out

    def send(
        self,
        sender: Cell | None,
        target: ActorId,
        behaviour: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        reply: Reply[Any],
    ) -> None:
        """MailboxFull (an actor sends), Overloaded (somebody else does): too much is under way already.
        NotPlainData: an argument cannot leave the process."""
        if self._waiting and target in self._waiting:
            self.moves.hold_back(sender, target, behaviour, args, kwargs, reply)
            return
        peer = self._peers.get(target >> _SERIAL)
        if peer is None:
            peer = self._find(target)
            if peer is None:
                if target >> _SERIAL + 32 != self._here.node and self._transport is not None:
                    self._transport.send(target, behaviour, args, kwargs, reply)
                else:
                    self._dead(target, behaviour, reply)
                return
        if peer.sent - peer.acknowledged >= WINDOW or (peer.link is not None and not peer.link.writable):
            self._press(peer, sender, target, behaviour)
        self._correlations += 1
        peer.put(target, behaviour, args, kwargs, reply, self._correlations)

    def put(
        self,
        target: ActorId,
        behaviour: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        reply: Reply[Any],
    ) -> None:
        """For moves: as `send`, past every bound, for what has been admitted before. NotPlainData."""
        peer = self.to(target)
        if peer is None:
            self._dead(target, behaviour, reply)
        else:
            self._correlations += 1
            peer.put(target, behaviour, args, kwargs, reply, self._correlations)

    def to(self, target: ActorId) -> Peer | None:
        """The sibling that the actor is of, while it lives."""
        return self._peers.get(target >> _SERIAL) or self._find(target)

    def monitor(self, watcher: ActorId, target: ActorId) -> None:
        peer = self._peers.get(target >> _SERIAL) or self._find(target)
        if peer is None:
            reason = ExitReason("lost", "no such process")
            self._scheduler.post(lambda: self._scheduler.monitors.down(watcher, target, reason))
        else:
            peer.watches.add((watcher, target))
            self.tell(peer, "monitor", pack(watcher), pack(target))

    def demonitor(self, watcher: ActorId, target: ActorId) -> None:
        peer = self._peers.get(target >> _SERIAL)
        if peer is not None and (watcher, target) in peer.watches:
            peer.watches.discard((watcher, target))
            self.tell(peer, "demonitor", pack(watcher), pack(target))

    def down(self, watcher: ActorId, target: ActorId, reason: ExitReason) -> None:
        """An actor of ours is gone that an actor elsewhere watches."""
        peer = self._peers.get(watcher >> _SERIAL)
        if peer is not None:
            peer.watched.discard((watcher, target))
            self.tell(peer, "down", pack(watcher), pack(target), reason.kind, reason.text)

    def named(self, name: str, id: ActorId | None, path: str) -> None:
        if id is not None:
            self._claimed[name] = id
            if name != self._granted:
                self._say(Claim(name, pack(id), path))
        elif name in self._claimed:
            self._say(Unclaim(name, pack(self._claimed.pop(name)), "it died"))

    def hand_over(self, name: str, id: ActorId | None) -> None:
        """For moves: the Node has given the name to this actor of ours, or taken it from one."""
        self._claimed.pop(name, None)
        if id is not None:
            self._claimed[name] = id

    def grant(self, name: str | None) -> None:
        """The Node itself gave this name: the next actor of this name needs no claim. None: no such name any more."""
        self._granted = name

    def flush(self) -> None:
        if self._waiting:
            self.moves.go_on()
        for peer in self._peers.values():
            if peer.parked:
                self.inbox.unpark(peer)
            peer.flush()

    # --- In

    def heard(self, word: Named) -> None:
        """Who has a name in the Node from now on."""
        if self.moves.heard(word):
            return
        scheduler = self._scheduler
        scheduler.names_elsewhere.pop(word.name, None)
        id = unpack(word.actor) if word.actor else None
        if id is not None and scheduler.is_here(id) and id not in scheduler.cells:
            # Late: that actor of this scheduler has died since, and the name may have a new holder.
            if id not in scheduler.moved:
                self._say(Unclaim(word.name, word.actor, "it died"))
            return
        holder = scheduler.names.get(word.name)
        if holder is not None and id is not None and id != holder.id:
            # Somebody else was first, or has taken over.
            del scheduler.names[word.name]
            holder.name = None
            self._claimed.pop(word.name, None)
            if scheduler.is_here(id):
                self._claimed[word.name] = id  # it has moved here, and is about to be found by its name
        if id is not None and scheduler.is_here(id) and word.name not in scheduler.names and not word.was:
            # It had to wait for the name.
            cell = scheduler.cells[id]
            cell.name = word.name
            scheduler.names[word.name] = cell
            self._claimed[word.name] = id
        if id is not None and not scheduler.is_here(id):
            try:
                scheduler.names_elsewhere[word.name] = scheduler.ref(find_class(word.path), id)
            except LookupError as error:
                scheduler.report(f"the name {word.name!r}", error)

    def _bytes(self, peer: Peer, data: bytes) -> None:
        handled = peer.handled
        try:
            for kind, payload in peer.decoder.feed(data):
                if kind is Kind.MESSAGES:
                    self.inbox.messages(peer, payload)
                elif kind is Kind.REPLIES:
                    self.inbox.replies(peer, payload)
                elif kind is Kind.HANDLED:
                    peer.acknowledged = max(peer.acknowledged, min(peer.sent, int.from_bytes(payload, "little")))
                    if peer.held:
                        self._relieve(peer)
        except (msgspec.MsgspecError, LookupError, ValueError, RecursionError) as error:
            self._scheduler.report(f"a frame from {peer.place}", error)
            self._break(peer, f"it sent a frame that cannot be read: {error}")
        if peer.decoder.error is not None:
            self._break(peer, str(peer.decoder.error))
        if peer.handled != handled:
            self._rouse()  # the turn after it writes what there is to say

    # --- Pressure

    def _press(self, peer: Peer, sender: Cell | None, target: ActorId, behaviour: str) -> None:
        if sender is None:
            raise Overloaded(f"actor {show(target)}", behaviour, WINDOW)
        if peer.under_way >= 2 * WINDOW:
            raise MailboxFull(f"actor {show(target)}", behaviour, WINDOW)
        if peer.link is not None and peer.link.waiting >= _MOST_WAITING:
            where = f"actor {show(target)} (with {peer.link.waiting >> 20} MiB on the way to its process)"
            raise MailboxFull(where, behaviour, peer.under_way)
        self.mute(peer, sender)

    def mute(self, peer: Peer, sender: Cell) -> None:
        """Hold a sender until less is under way to this sibling."""
        if sender not in peer.held:
            if not peer.held:
                self._scheduler.after(_LONGEST_HOLD, lambda: self._release(peer))
            peer.held.add(sender)
            sender.hold()

    def _relieve(self, peer: Peer) -> None:
        if peer.under_way < WINDOW // 2 and (peer.link is None or peer.link.writable):
            self._release(peer)

    def _release(self, peer: Peer) -> None:
        held, peer.held = peer.held, set()
        for sender in held:
            sender.release()

    # --- Finding and losing

    def _peer(self, there: Place) -> Peer:
        first = actor_id(*there, 0)
        key = first >> _SERIAL
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = Peer(there, first, self.codec, self._rouse)
        return peer

    def _rouse(self) -> None:
        self._scheduler.post(_nothing)

    def _find(self, target: ActorId) -> Peer | None:
        """For a target whose process we have no link to: wait for one, if it may be on its way."""
        there = place(target)
        if (
            there.node != self._here.node
            or target >> _SERIAL in self._lost
            or there.incarnation <= self._newest.get(there.scheduler, 0)
            or (there[:2] == self._here[:2] and there.incarnation <= self._here.incarnation)
        ):
            return None
        peer = self._peer(there)

        def give_up() -> None:
            if peer.link is None and self._peers.get(target >> _SERIAL) is peer:
                self._lose(peer, "nobody knows of its process")

        self._scheduler.after(_LINK_PATIENCE, give_up)
        return peer

    def _break(self, peer: Peer, why: str) -> None:
        if self._peers.get(peer.first >> _SERIAL) is peer:
            self._lose(peer, why)
            # Otherwise the two would be deaf to each other for as long as they live.
            self._say(Relink(peer.place.scheduler, peer.place.incarnation))

    def _lose(self, peer: Peer, why: str) -> None:
        key = peer.first >> _SERIAL
        if self._peers.get(key) is not peer:
            return
        del self._peers[key]
        self._lost.add(key)
        if peer.link is not None:
            peer.link.close()
        scheduler = self._scheduler
        self.moves.lost(peer)
        for target, reply in peer.take_pending():
            reply.fail(ActorDead(target, f"lost: {why}"))
        if peer.under_way > 0:
            self.undelivered += peer.under_way
            scheduler.dead_letters.count += peer.under_way - 1
            scheduler.dead_letters.add(
                ActorId(peer.first), f"{peer.under_way} messages", f"under way when its process was lost: {why}"
            )
        self.inbox.parked_lost(peer)
        self._release(peer)
        for watcher, target in peer.watched:
            scheduler.monitors.remove(watcher, target)
        for watcher, target in list(peer.watches):
            scheduler.monitors.down(watcher, target, ExitReason("lost", why))

    def _dead(self, target: ActorId, behaviour: str, reply: Reply[Any]) -> None:
        self._scheduler.dead_letters.add(target, behaviour, "its process is gone")
        reply.fail(ActorDead(target, "lost: its process is gone"))

    def tell(self, peer: Peer, what: str, *args: Any) -> None:
        """A word of the runtime's own. NotPlainData: it is too long."""
        peer.put(ActorId(peer.first), what, args, None, None, 0)

    @property
    def quiet(self) -> bool:
        """Whether all that was sent to actors here, or by them, has been worked off. Timers are not waited for."""
        scheduler = self._scheduler
        return not (
            scheduler.statistics().queued
            or self.moves.under_way
            or any(peer.busy for peer in self._peers.values())
            or any(cell.count for cell in scheduler.cells.values())
        )

    def statistics(self) -> dict[str, int]:
        return {
            "peers": len(self._peers),
            "under_way": sum(peer.under_way for peer in self._peers.values()),
            "pending": sum(len(peer.pending) for peer in self._peers.values()),
            "held": sum(len(peer.held) for peer in self._peers.values()),
            "undelivered": self.undelivered,
        }

    def __repr__(self) -> str:
        return f"<Mailman of {self._here}: {len(self._peers)} peers>"


def _nothing() -> None:
    pass
