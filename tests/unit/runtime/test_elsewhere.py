"""Two schedulers and a mailman between them: the same code works where the actor is not here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from actor_kit import Stage

from zerver_runtime.actor import Actor
from zerver_runtime.behaviour import behaviour
from zerver_runtime.cell import Cell
from zerver_runtime.codec import Codec
from zerver_runtime.ids import ActorId, Place, place
from zerver_runtime.mailman_protocol import Mailman
from zerver_runtime.message import ActorDead, ExitReason, NotPlainData, Overloaded
from zerver_runtime.ref import class_path, id_of
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler


class Carrier:
    """Hands everything over when it is told to, and keeps what is on its way."""

    def __init__(self, scheduler: Scheduler, schedulers: dict[Place, Scheduler]) -> None:
        self.scheduler = scheduler
        self.schedulers = schedulers
        self.bag: list[Callable[[], object]] = []
        self.names: list[tuple[str, ActorId | None, str]] = []
        self.flushed = 0
        self.room = 100
        self.held: list[Cell] = []

    def send(
        self,
        sender: Cell | None,
        target: ActorId,
        behaviour: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        reply: Reply[Any],
    ) -> None:
        if not self.room:
            if sender is None:
                raise Overloaded("link", behaviour, 0)
            sender.hold()
            self.held.append(sender)
        try:
            Codec(self.scheduler.ref).encode((args, kwargs))
        except NotImplementedError:
            raise NotPlainData(behaviour, "an argument", "of some kind") from None
        there = self.schedulers.get(place(target))
        if there is None:
            reply.fail(ActorDead(target, "lost: its process is gone"))
        else:
            self.bag.append(lambda: there.deliver(target, behaviour, args, kwargs, reply))

    def monitor(self, watcher: ActorId, target: ActorId) -> None:
        there = self.schedulers.get(place(target))
        if there is None:
            self.scheduler.monitors.down(watcher, target, ExitReason("lost"))
        else:
            self.bag.append(lambda: there.monitors.add(watcher, target))

    def demonitor(self, watcher: ActorId, target: ActorId) -> None:
        self.bag.append(lambda: self.schedulers[place(target)].monitors.remove(watcher, target))

    def down(self, watcher: ActorId, target: ActorId, reason: ExitReason) -> None:
        self.bag.append(lambda: self.schedulers[place(watcher)].monitors.down(watcher, target, reason))

    def named(self, name: str, id: ActorId | None, path: str) -> None:
        self.names.append((name, id, path))

    def flush(self) -> None:
        self.flushed += 1


class Two:
    def __init__(self) -> None:
        self.here, self.there = Stage(), Stage()
        self.there.scheduler = Scheduler(Place(0, 1, 1), lambda: self.here.now)
        both = (self.here.scheduler, self.there.scheduler)
        schedulers = {scheduler.place: scheduler for scheduler in both}
        self.carriers = [Carrier(scheduler, schedulers) for scheduler in both]
        for scheduler, carrier in zip(both, self.carriers, strict=True):
            mailman: Mailman = carrier
            scheduler.mailman = mailman

    def settle(self) -> None:
        while True:
            self.here.settle()
            self.there.settle()
            if not any(carrier.bag or carrier.scheduler.statistics().queued for carrier in self.carriers):
                return
            for carrier in self.carriers:
                bag, carrier.bag = carrier.bag, []
                for hand_over in bag:
                    hand_over()

    def ref(self, ref: Any) -> Any:
        """As it arrives here."""
        return self.here.scheduler.ref(type(ref)._class, id_of(ref))


class Echo(Actor):
    def __init__(self) -> None:
        self.downs: list[Any] = []

    @behaviour
    def echo(self, value: Any, *, twice: bool = False) -> Any:
        return (value, value) if twice else value

    @behaviour
    async def ask(self, other: Echo, value: Any) -> Any:
        return await other.echo(value, twice=True)

    @behaviour
    def watch(self, other: Echo) -> None:
        self.monitor(other)

    @behaviour
    def unwatch(self, other: Echo) -> None:
        self.demonitor(other)

    @behaviour
    def on_down(self, ref: Actor, reason: ExitReason) -> None:
        self.downs.append((ref, reason.kind))

    @behaviour
    def seen(self) -> list[Any]:
        return self.downs


def test_an_ask_crosses_and_its_answer_comes_back() -> None:
    two = Two()
    far = two.ref(two.there.spawn(Echo))
    reply = two.here.spawn(Echo).ask(far, 7)
    two.settle()
    assert reply.result() == (7, 7)
    assert repr(far) == "<Echo 0.1.1.1>"
    assert two.carriers[0].flushed > 0


def test_what_is_not_plain_data_is_refused_before_it_leaves_also_without_checks() -> None:
    two = Two()
    two.here.scheduler.check_arguments = False
    far = two.ref(two.there.spawn(Echo))
    with pytest.raises(NotPlainData, match=r"Echo\.echo\(\): value\[0\] is a builtins\.object"):
        far.echo([object()])
    with pytest.raises(TypeError, match=r"Echo\.echo\(\)"):
        far.echo()


def test_an_ask_to_a_process_that_is_gone_fails() -> None:
    two = Two()
    gone = Stage()
    gone.scheduler = Scheduler(Place(0, 9, 1), lambda: 0)
    reply = two.ref(gone.spawn(Echo)).echo(1)
    with pytest.raises(ActorDead, match="its process is gone"):
        reply.result()


def test_the_mailman_can_mute_a_sender_and_turn_others_away() -> None:
    two = Two()
    far, sender = two.ref(two.there.spawn(Echo)), two.here.spawn(Echo)
    two.carriers[0].room = 0
    with pytest.raises(Overloaded):
        far.echo(1)
    reply, after = sender.ask(far, 1), sender.echo("after")
    two.settle()
    assert not reply.done
    assert not after.done
    two.carriers[0].held.pop().release()
    two.settle()
    assert (reply.result(), after.result()) == ((1, 1), "after")


def test_monitors_cross() -> None:
    two = Two()
    actor, other = two.there.spawn(Echo), two.there.spawn(Echo)
    far, forgotten, watcher = two.ref(actor), two.ref(other), two.here.spawn(Echo)
    watcher.watch(far)
    watcher.watch(forgotten)
    watcher.unwatch(forgotten)
    two.settle()
    assert two.there.scheduler.cells[id_of(actor)].watchers == {id_of(watcher)}
    assert two.there.scheduler.cells[id_of(other)].watchers == set()
    two.there.scheduler.kill(actor)
    two.there.scheduler.kill(other)
    watcher.watch(far)
    two.settle()
    assert two.here.ask(watcher.seen()) == [(far, "killed")]
    watcher.watch(far)
    two.settle()
    assert two.here.ask(watcher.seen())[1:] == [(far, "lost")]


def test_names_are_told_and_found_when_they_come_and_go() -> None:
    two = Two()
    actor = two.there.spawn(Echo, name="echo")
    path = class_path(Echo)
    assert two.carriers[1].names == [("echo", id_of(actor), path)]
    two.here.scheduler.names_elsewhere["echo"] = two.ref(actor)
    assert two.here.scheduler.whereis("echo") == actor
    two.there.scheduler.kill(actor)
    assert two.carriers[1].names[1:] == [("echo", None, path)]
