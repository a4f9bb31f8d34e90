"""Moves an actor to a process of the class that it prefers, between two of its messages.

    here                            there                       the Node, and everybody
    freezes it
    "arrive" name, snapshot  ---->  restores it, frozen
                                    Moved name, old id, new id  ---->  gives the name to the new id
    hears of it: forwards what waits, and what still comes, to the new id
                                    hears of it: thaws it
                                                                hear of it: send to the new id, see below

The Node decides in one place, so there is one actor of the name at every time. As long as it has not, whatever goes
wrong (the snapshot, the restoring, the process there, a reload) leaves the actor here, and thaws it: its messages have
waited in its mailbox. An ask that has come here is answered through here.

Who has messages on the way to it holds further ones back until those have been run, and only then goes straight: so
they keep their order. That ends with an ask of the runtime's own (`Actor._passed`), sent by the old way. (Two refs are
not held to one order: who was handed the new one by somebody else, and uses both meanwhile, may see them cross.)
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.cell import Cell, no_room
from zerver_runtime.codec import Conversion, conversion, find_class
from zerver_runtime.control import Moved, Named, ToNode, Unclaim
from zerver_runtime.elsewhere import Elsewhere
from zerver_runtime.ids import ActorId, Place, actor_id, pack, unpack
from zerver_runtime.message import ActorDead, ActorError, AnswerTo, ExitReason, MailboxFull, NotPlainData, Overloaded
from zerver_runtime.peer import WINDOW, Incoming, Peer
from zerver_runtime.ref import class_path
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler

if TYPE_CHECKING:
    from zerver_runtime.mailman import Mailman

__all__ = ["Moves"]

_AT_ONCE = 100
"""Actors that are sent away in one go: their snapshots are taken one after the other, and nothing else runs."""


class _HeldBack(msgspec.Struct):
    behaviour: str
    arguments: bytes
    reply: Reply[Any]


class _Turn(msgspec.Struct):
    """From the old way to the new one."""

    word: Named
    new: ActorId
    held: deque[_HeldBack]
    passed: bool = False


class _Arriving(msgspec.Struct):
    old: ActorId
    cell: Cell
    peer: Peer


class Moves:
    """Belongs to one mailman. What it is told comes between turns."""

    def __init__(self, scheduler: Scheduler, mailman: Mailman, say: Callable[[ToNode], None]) -> None:
        self._scheduler = scheduler
        self._mailman = mailman
        self._say = say
        self._departing: dict[Cell, Peer] = {}
        self._arriving: dict[str, _Arriving] = {}
        self._names: dict[str, tuple[ActorId, ActorId]] = {}  # old and new id of the actor that has the name
        self._restores: dict[type[Any], Conversion | None] = {}
        self.waiting: dict[ActorId, _Turn] = {}
        """By old id: what is held back, because not all that went the old way has been run."""

    @property
    def under_way(self) -> bool:
        return bool(self._departing or self._arriving or self.waiting)

    # --- Away from here

    def wishes(self) -> dict[str, int]:
        """How many actors here could be moved, by the class of process that they prefer."""
        scheduler = self._scheduler
        return Counter([wanted for cell, wanted in scheduler.movable.items() if self._may_go(cell)])

    def depart(self, affinity: str, there: Place) -> None:
        """The Node says where they may go. Those that cannot just now are asked for again with the next heartbeat."""
        first = actor_id(*there, 0)
        peer = next((one for one in self._mailman.peers if one.first == first and one.link is not None), None)
        if peer is None:
            return
        going = [cell for cell, wanted in self._scheduler.movable.items() if wanted == affinity]
        for cell in going[:_AT_ONCE]:
            if self._may_go(cell) and cell.freeze():
                self._depart(cell, peer)

    def _may_go(self, cell: Cell) -> bool:
        # One whose name somebody else has would be found by nobody.
        return cell not in self._departing and cell.name is not None

    def _depart(self, cell: Cell, peer: Peer) -> None:
        mailman = self._mailman
        self._departing[cell] = peer
        try:
            with self._scheduler:
                snapshot = mailman.codec.encode(cell.actor.snapshot())
            mailman.tell(peer, "arrive", pack(cell.id), cell.name, class_path(cell.kind), snapshot)
        except Exception as error:
            self._stay(cell, f"snapshot(): {type(error).__name__}: {error}")

    def _stay(self, cell: Cell, why: str) -> None:
        """why: it could not be done, so it is not tried again; empty: not now."""
        del self._departing[cell]
        if why:
            self._scheduler.movable.pop(cell, None)
            self._scheduler.report(f"the move of {cell}", RuntimeError(why))
        cell.thaw()

    def _leave(self, cell: Cell, new: ActorId) -> None:
        """The Node has decided: it is there now."""
        scheduler, mailman = self._scheduler, self._mailman
        self._departing.pop(cell, None)
        if cell.name is not None:
            scheduler.names.pop(cell.name, None)
            mailman.hand_over(cell.name, None)
            cell.name = None
        watched = scheduler.monitors.left(cell)
        messages = scheduler.moved_away(cell, new)
        peer = mailman.to(new)
        if peer is not None and watched:
            mailman.tell(peer, "watch", pack(new), watched)
        for behaviour, args, kwargs, reply in messages:
            self.forward(new, behaviour.name, args, kwargs, reply)
        if peer is not None and cell.stopping is not None:
            mailman.tell(peer, "kill", pack(new), cell.stopping.kind, cell.stopping.text)
        for watcher in cell.watchers or ():
            if scheduler.is_here(watcher):
                scheduler.monitors.follow(watcher, cell.id, new)
            elif (watching := mailman.to(watcher)) is not None:
                self.moved_on(watching, cell.id)

    def forward(
        self, new: ActorId, behaviour: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, answer: AnswerTo
    ) -> None:
        """A message to where its actor is now; its answer comes back this way."""
        scheduler = self._scheduler
        if self._mailman.to(new) is None:
            scheduler.dead_letters.add(new, behaviour, "its process is gone")
            answer.fail(ActorDead(new, "lost: its process is gone"))
            return
        if isinstance(answer, Reply):
            reply: Reply[Any] = answer
        else:
            # Also when nobody wants the answer: it is under way until it has been run.
            reply = Reply(Elsewhere(scheduler, new, object), behaviour)

            def pass_on(reply: Reply[Any]) -> None:
                if reply.error is None:
                    answer.settle(reply.value)
                    return
                if isinstance(answer, Peer) and isinstance(reply.error, ActorDead) and reply.error.lost:
                    scheduler.dead_letters.add(new, behaviour, reply.error.reason)
                answer.fail(reply.error)

            reply.notify(pass_on)
        try:
            self._mailman.put(new, behaviour, args, kwargs, reply)
        except NotPlainData as error:
            scheduler.dead_letters.add(new, behaviour, str(error))
            reply.fail(error)

    def moved_on(self, peer: Peer, old: ActorId) -> bool:
        """Tell a sibling that watches it, if it has moved."""
        new = self._scheduler.moved.get(old)
        if new is not None:
            self._mailman.tell(peer, "moved", pack(old), pack(new))
        return new is not None

    # --- To here

    def take(self, peer: Peer, what: str, args: tuple[Any, ...]) -> bool:
        """A word of a sibling's. False: not one of ours."""
        scheduler = self._scheduler
        match what, args:
            case "arrive", (bytes(old), str(name), str(path), bytes(snapshot)):
                self._arrive(peer, unpack(old), name, path, snapshot)
            case "stay", (bytes(old), str(why)):
                cell = scheduler.cells.get(unpack(old))
                if cell is not None and self._departing.get(cell) is peer:
                    self._stay(cell, why)
            case "watch", (bytes(new), list(refs)):
                if (cell := scheduler.cells.get(unpack(new))) is not None:
                    for ref in refs:
                        scheduler.monitors.watch(cell, ref)
            case "kill", (bytes(new), str(kind), str(text)):
                if (cell := scheduler.cells.get(unpack(new))) is not None:
                    cell.stop(msgspec.convert({"kind": kind, "text": text}, ExitReason))
            case "moved", (bytes(old), bytes(new)):
                for watcher, target in list(peer.watches):
                    if target == unpack(old):
                        peer.watches.discard((watcher, target))
                        scheduler.monitors.follow(watcher, target, unpack(new))
            case _:
                return False
        return True

    def _arrive(self, peer: Peer, old: ActorId, name: str, path: str, data: bytes) -> None:
        scheduler = self._scheduler
        if name in scheduler.names or name in self._arriving:
            self._mailman.tell(peer, "stay", pack(old), "")
            return
        try:
            kind = find_class(path)
            if kind not in self._restores:
                self._restores[kind] = conversion(Behaviour(kind.restore))
            change = self._restores[kind]
            args: tuple[Any, ...] = (self._mailman.codec.decode(data),)
            if change is not None:
                args, _ = change.arguments(args, None)
            with scheduler:
                cell = scheduler.restore(kind, *args)
        except Exception as error:
            self._mailman.tell(peer, "stay", pack(old), f"restore(): {type(error).__name__}: {error}")
            return
        self._arriving[name] = _Arriving(old, cell, peer)
        self._say(Moved(name, pack(old), pack(cell.id), path))

    # --- The Node's word

    def heard(self, word: Named) -> bool:
        """Whether nothing is left to be done for this word."""
        scheduler = self._scheduler
        new = unpack(word.actor) if word.actor else None
        arriving = self._arriving.pop(word.name, None)
        if arriving is not None and arriving.cell.id != new:
            # Not this one: it has never run.
            arriving.cell.actor = None
            arriving.cell.die(ExitReason("shutdown", "its move was called off"))
            self._mailman.tell(arriving.peer, "stay", pack(arriving.old), "")
        if (known := self._names.get(word.name)) is not None and known[1] != new:
            del self._names[word.name]
            scheduler.moved.pop(known[0], None)
        if not word.was or new is None:
            return False
        old = unpack(word.was)
        self._names[word.name] = (old, new)
        if scheduler.is_here(old):
            scheduler.moved[old] = new
            if (cell := scheduler.cells.get(old)) is not None:
                self._leave(cell, new)
            return False
        if scheduler.is_here(new):
            if arriving is None:
                self._say(Unclaim(word.name, word.actor, "its move was called off"))
                return True
            arriving.cell.name = word.name
            self._mailman.hand_over(word.name, new)
            arriving.cell.thaw()
        self._turn_to(word, old, new)
        return True

    def _turn_to(self, word: Named, old: ActorId, new: ActorId) -> None:
        """Send straight to it from now on, or from when all that is under way by the old way has been run."""
        turn = _Turn(word, new, deque())
        peer = self._mailman.to(old)
        if peer is None or not peer.under_way:
            self._go_straight(old, turn)
            return
        self.waiting[old] = turn
        passed: Reply[Any] = Reply(Elsewhere(self._scheduler, old, object), "_passed")

        def over(_: Reply[Any]) -> None:
            turn.passed = True
            self._scheduler.post(_nothing)  # so that a turn ends

        passed.notify(over)
        self._mailman.put(old, "_passed", (), None, passed)

    def go_on(self) -> None:
        """A turn of the scheduler's is over: let go of what need not be held back any more."""
        for old, turn in list(self.waiting.items()):
            if turn.passed and self._release(turn):
                del self.waiting[old]
                self._go_straight(old, turn)

    def _release(self, turn: _Turn) -> bool:
        """False: its mailbox, here, has no room for all of it as yet."""
        mailman = self._mailman
        while turn.held:
            cell = self._scheduler.cells.get(turn.new)
            if cell is not None and no_room(cell):
                return False
            one = turn.held.popleft()
            try:
                args, kwargs = mailman.codec.arguments(one.arguments)
            except LookupError as error:  # a ref of a class that nobody can import
                self._scheduler.dead_letters.add(turn.new, one.behaviour, str(error))
                one.reply.fail(ActorError(str(error)))
                continue
            if self._scheduler.is_here(turn.new):
                mailman.inbox.deliver(turn.new, cell, Incoming(0, one.behaviour, args, kwargs or None), one.reply)
            else:
                self.forward(turn.new, one.behaviour, args, kwargs or None, one.reply)
        return True

    def _go_straight(self, old: ActorId, turn: _Turn) -> None:
        scheduler = self._scheduler
        word, new = turn.word, turn.new
        if self._names.get(word.name) != (old, new):
            return  # somebody else has the name by now
        scheduler.moved[old] = new
        scheduler.names_elsewhere.pop(word.name, None)
        if (cell := scheduler.cells.get(new)) is not None:
            scheduler.names[word.name] = cell
        elif not scheduler.is_here(new):
            try:
                scheduler.names_elsewhere[word.name] = scheduler.ref(find_class(word.path), new)
            except LookupError as error:
                scheduler.report(f"the name {word.name!r}", error)

    def hold_back(
        self,
        sender: Cell | None,
        target: ActorId,
        behaviour: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        reply: Reply[Any],
    ) -> None:
        """MailboxFull, Overloaded, NotPlainData: as `Mailman.send`."""
        held = self.waiting[target].held
        if len(held) >= WINDOW:
            raise (Overloaded if sender is None else MailboxFull)(str(reply.source), behaviour, WINDOW)
        try:
            arguments = self._mailman.codec.encode((args, kwargs))
        except Exception:
            raise self._mailman.codec.blame(getattr(reply.source, "kind", None), behaviour, args, kwargs) from None
        held.append(_HeldBack(behaviour, arguments, reply))
        peer = self._mailman.to(target)
        if sender is not None and peer is not None and len(held) > WINDOW // 2:
            self._mailman.mute(peer, sender)

    # --- Loss

    def lost(self, peer: Peer) -> None:
        """Its process is gone. What comes from there the Node still decides about; what was to go there stays."""
        for cell in [cell for cell, there in self._departing.items() if there is peer]:
            self._stay(cell, "")

    def __repr__(self) -> str:
        return f"<Moves: {len(self._departing)} leave, {len(self._arriving)} arrive, {len(self.waiting)} turn>"


def _nothing() -> None:
    pass
