"""An actor on the wrong class of process: counted, and moved between two of its messages, with nothing lost or crossed.

The Node's decisions, the schedulers and the mailmen are the real ones; processes and links are in memory, and what goes
between them moves in the order that a test, or a seed, wants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest
from actor_kit import Stage

from zerver_runtime import control
from zerver_runtime.actor import Actor, behaviour, spawn_as
from zerver_runtime.codec import find_class
from zerver_runtime.ids import Place, pack, place
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.mailman import Mailman
from zerver_runtime.message import ActorDead, ExitReason, MailboxFull
from zerver_runtime.node import NodeState
from zerver_runtime.node_words import Exited, Fork, MakePair, NodeLimits, Received, Send, Start, Tick
from zerver_runtime.placement import ActorSpec
from zerver_runtime.ref import id_of
from zerver_runtime.scheduler import Scheduler
from zerver_runtime.scheduler_view import Class, Key
from zerver_runtime.testing.memory_link import MemoryLink, memory_pair

RAN: list[str] = []
"""What any Journal has run: it outlives them."""


class State(msgspec.Struct):
    lines: list[Any]


class Journal(Actor):
    """Moves. Its lines are the messages that it has run, in that order."""

    affinity = "efficiency"
    mailbox = MailboxPolicy(bound=64)

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.downs: list[Any] = []

    def snapshot(self) -> State:
        return State(self.lines)

    def restore(self, snapshot: State) -> None:
        self.lines = snapshot.lines
        self.downs = []

    @behaviour
    def add(self, line: Any) -> int:
        self.lines.append(line)
        RAN.append(str(line))
        return len(self.lines)

    @behaviour
    async def slow(self, seconds: float) -> str:
        await self.sleep(seconds)
        return "slept"

    @behaviour
    def watch(self, other: Actor) -> None:
        self.monitor(other)

    @behaviour
    def on_down(self, ref: Actor, reason: ExitReason) -> None:
        self.downs.append((ref, reason.kind))


class Settled(Actor):
    """As Journal, without snapshots."""

    affinity = "efficiency"

    @behaviour
    def add(self, line: Any) -> None: ...


class Opaque(Journal):
    def snapshot(self) -> Any:
        return object()


class Picky(Journal):
    def restore(self, snapshot: State) -> None:
        raise ValueError("not this one")


class Watcher(Actor):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    @behaviour
    def watch(self, ref: Actor) -> None:
        self.monitor(ref)

    @behaviour
    def unwatch(self, ref: Actor) -> None:
        self.demonitor(ref)

    @behaviour
    def on_down(self, ref: Actor, reason: ExitReason) -> None:
        self.seen.append((ref, reason.kind))


class Process(Stage):
    def __init__(self, net: Net, key: Key, kind: Class) -> None:
        super().__init__()
        self.net, self.key, self.kind = net, key, kind
        self.scheduler = Scheduler(
            Place(0, *key),
            lambda: self.now,
            process_class=kind,
            turn_tasks=1,  # short turns, so that much can come between
            turn_seconds=0.0,
            report=lambda where, error: self.reports.append((where, error)),
        )
        self.to_node: deque[control.ToNode] = deque()
        self.from_node: deque[tuple[control.FromNode, MemoryLink | None]] = deque()
        self.links: list[MemoryLink] = []
        self.mailman = self.scheduler.mailman = Mailman(self.scheduler, self.to_node.append)

    def beat(self) -> None:
        for affinity, count in self.mailman.moves.wishes().items():
            self.to_node.append(control.Misplaced(affinity, count))

    def hear(self) -> None:
        word, link = self.from_node.popleft()
        match word:
            case control.Peer(slot, incarnation):
                assert link is not None
                self.links.append(link)
                self.mailman.attach(slot, incarnation, link)
            case control.PeerLost(slot, incarnation, why):
                self.mailman.lose(slot, incarnation, why)
            case control.Named():
                self.mailman.heard(word)
            case control.Home(affinity, slot, incarnation):
                self.mailman.moves.depart(affinity, Place(0, slot, incarnation))
            case control.Spawn(request, path, arguments, name, affinity):
                args, kwargs = self.mailman.codec.arguments(arguments)
                self.mailman.grant(name)
                ref = self.scheduler.spawn(find_class(path), args, kwargs, name=name, affinity=affinity)
                self.mailman.grant(None)
                self.to_node.append(control.Spawned(request, pack(id_of(ref))))
            case _:
                pass

    def steps(self, rng: Random | None) -> list[Callable[[], Any]]:
        """What could happen next."""
        most = rng.choice((7, 50, 1000)) if rng is not None else None
        found: list[Callable[[], Any]] = []
        if self.scheduler.statistics().queued:
            found.append(self.scheduler.turn)
        if self.to_node:
            found.append(lambda: self.net.decide(Received(self.key, self.to_node.popleft())))
        if self.from_node:
            found.append(self.hear)
        found += [partial(link.deliver, most) for link in self.links if not link.idle]
        return found

    def actor(self, name: str) -> Any:
        cell = self.scheduler.names.get(name)
        return cell.actor if cell is not None else None


class Net:
    """Slots 0 and 1 are of the performance class, 2 is of the other, and not ready before `arrive()`."""

    def __init__(self, **actors: type[Actor]) -> None:
        RAN.clear()
        self.now = 100.0
        self.processes: dict[Key, Process] = {}
        encode = msgspec.msgpack.encode
        specs = {
            name: ActorSpec(f"{__name__}:{kind.__qualname__}", encode(((), None)), "efficiency")
            for name, kind in actors.items()
        }
        self.state = NodeState(2, 1, actors=specs, limits=NodeLimits(restart_first=0.01))
        self.decide(Start())
        self.one, self.two, self.three = self.processes.values()
        for process in (self.one, self.two):
            process.to_node.append(control.Ready())
        # It dies at its first boot, so that nobody waits for it any more.
        del self.processes[2, 1]
        self.settle()
        self.decide(Exited((2, 1), "exit 1"))
        self.advance(1)
        self.three = self.processes[2, 2]

    def arrive(self) -> None:
        self.three.to_node.append(control.Ready())
        self.settle()

    def beat(self) -> None:
        for process in self.processes.values():
            process.beat()

    def move(self) -> None:
        self.beat()
        self.settle()

    def decide(self, event: Any) -> None:
        for action in self.state.handle(event, self.now):
            match action:
                case Fork(key, kind):
                    self.processes[key] = Process(self, key, kind)
                case Send(key, word):
                    if key in self.processes:
                        self.processes[key].from_node.append((word, None))
                case MakePair(one, other):
                    if one in self.processes and other in self.processes:
                        ends = memory_pair()
                        self.processes[one].from_node.append((control.Peer(*other), ends[0]))
                        self.processes[other].from_node.append((control.Peer(*one), ends[1]))
                case _:
                    pass

    def settle(self, rng: Random | None = None, until: Callable[[], Any] = lambda: False) -> None:
        for _ in range(100_000):
            steps = [step for process in self.processes.values() for step in process.steps(rng)]
            if not steps or until():
                return
            for step in [rng.choice(steps)] if rng is not None else steps[:1]:
                step()
        raise AssertionError("it never settles")

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.decide(Tick())
        for process in self.processes.values():
            process.now += round(seconds * 1e9)
            process.scheduler.post(lambda: None)
        self.settle()

    def kill(self, process: Process) -> None:
        del self.processes[process.key]
        for link in process.links:
            link.close()
        self.decide(Exited(process.key, "signal 9"))

    def ask(self, reply: Any) -> Any:
        self.settle()
        return reply.result()


def home(net: Net, process: Process, name: str = "journal") -> int:
    """The slot where a process finds it."""
    return place(id_of(process.scheduler.whereis(name))).scheduler


# --- Counted


def test_an_actor_on_the_wrong_class_is_counted_until_it_is_gone() -> None:
    net = Net()
    ref = net.one.spawn(Settled)
    net.one.spawn(Journal, affinity="performance")  # what was asked for counts more than what its class says
    net.one.spawn(Watcher)
    net.one.spawn(Watcher, affinity="efficiency")
    assert net.one.scheduler.statistics().misplaced == 2
    net.one.scheduler.kill(ref)
    assert net.one.scheduler.statistics().misplaced == 1
    assert Stage().scheduler.process_class is None


def test_one_without_snapshots_stays_and_moves_at_its_next_restart() -> None:
    net = Net(settled=Settled)
    net.arrive()
    net.move()
    assert home(net, net.two, "settled") == 0
    assert net.one.scheduler.statistics().misplaced == 1
    net.one.scheduler.kill(net.one.scheduler.whereis("settled"))
    net.settle()
    net.advance(1)
    assert home(net, net.two, "settled") == 2
    assert [process.scheduler.statistics().misplaced for process in net.processes.values()] == [0, 0, 0]


@pytest.mark.parametrize("how", ["it has no name", "it has a supervisor", "it is one", "nobody of its class is ready"])
def test_these_stay_and_are_counted(how: str) -> None:
    net = Net()
    supervisor = net.one.spawn(Watcher)
    if how != "nobody of its class is ready":
        net.arrive()
    journal = net.one.spawn(
        Journal,
        name=None if how == "it has no name" else "journal",
        supervisor=supervisor if how == "it has a supervisor" else None,
    )
    if how == "it is one":
        net.one.spawn(Watcher, supervisor=journal)
    net.move()
    assert net.three.scheduler.cells == {}
    assert net.one.scheduler.statistics().misplaced == 1


# --- Moved


def test_a_top_level_actor_moves_with_its_state_and_its_name_finds_it() -> None:
    net = Net(journal=Journal)
    old = net.two.scheduler.whereis("journal")
    assert home(net, net.two) == 0
    assert net.ask(old.add("before")) == 1
    net.arrive()
    net.move()
    assert [home(net, process) for process in (net.one, net.two, net.three)] == [2, 2, 2]
    assert net.ask(net.two.scheduler.whereis("journal").add("after")) == 2
    assert net.three.actor("journal").lines == ["before", "after"]
    statistics = net.one.scheduler.statistics()
    assert (statistics.misplaced, statistics.departed, statistics.actors, statistics.died) == (0, 1, 0, 0)
    # A ref from before leads there, wherever it is held.
    local = net.one.scheduler.ref(Journal, id_of(old))
    fresh = net.three.scheduler.ref(Journal, id_of(old))
    assert [net.ask(ref.add(4)) for ref in (old, local, fresh)] == [3, 4, 5]


def test_one_spawned_by_an_actor_moves_too_and_the_refs_that_are_held_lead_there() -> None:
    net = Net()
    net.arrive()
    with net.one.scheduler:
        ref = spawn_as("journal", Journal)
    told = {ref: "still the same key"}
    assert net.ask(ref.add(1)) == 1
    net.move()
    assert home(net, net.one) == 2
    assert net.ask(ref.add(2)) == 2
    assert told[ref] == "still the same key"


def test_it_stays_at_the_right_place_and_its_supervision_goes_on_there() -> None:
    net = Net(journal=Journal)
    net.arrive()
    net.move()
    net.move()
    net.three.scheduler.kill(net.three.scheduler.whereis("journal"))
    net.settle()
    assert net.two.scheduler.whereis("journal") is None
    net.advance(1)
    assert home(net, net.two) == 2
    assert net.three.actor("journal").lines == []
    net.kill(net.three)
    net.advance(0.015)
    net.advance(1)
    assert home(net, net.two) in (0, 1)


def test_messages_and_asks_that_wait_in_its_mailbox_go_with_it() -> None:
    net = Net(journal=Journal)
    far, near = net.two.scheduler.whereis("journal"), net.one.scheduler.whereis("journal")
    net.arrive()
    net.beat()
    net.settle(until=lambda: bool(net.three.scheduler.cells))  # restored there, frozen here
    asks = [ref.add(f"{who} {number}") for number in range(40) for who, ref in (("far", far), ("near", near))]
    net.settle()
    assert sorted(ask.result() for ask in asks) == list(range(1, 81))
    for who in ("far", "near"):
        lines = [line for line in net.three.actor("journal").lines if line.startswith(who)]
        assert lines == [f"{who} {number}" for number in range(40)]


def test_what_it_watches_and_who_watches_it_stays_right() -> None:
    net = Net(journal=Journal)
    journal = net.two.scheduler.whereis("journal")
    others = [process.spawn(Journal, affinity="performance") for process in (net.one, net.two)]
    for process, other in zip((net.one, net.two), others, strict=True):
        process.scheduler.whereis("journal").watch(other)
    net.arrive()
    watchers = [process.spawn(Watcher) for process in net.processes.values()]
    forgetful = net.two.spawn(Watcher)
    forgetful.watch(journal)
    for watcher, process in zip(watchers, net.processes.values(), strict=True):
        watcher.watch(process.scheduler.ref(Journal, id_of(journal)))
    net.settle()
    net.move()
    forgetful.unwatch(journal)
    late = net.one.spawn(Watcher)
    late.watch(net.one.scheduler.ref(Journal, id_of(journal)))
    watchers.append(late)
    net.settle()

    def seen(watcher: Any) -> list[Any]:
        cells = [process.scheduler.cells.get(id_of(watcher)) for process in net.processes.values()]
        (cell,) = [cell for cell in cells if cell is not None]
        found: list[Any] = cell.actor.seen
        return found

    assert [seen(watcher) for watcher in watchers] == [[], [], [], []]
    net.one.scheduler.kill(others[0])
    net.settle()
    net.two.scheduler.kill(others[1])
    net.settle()
    assert net.three.actor("journal").downs == [(others[0], "killed"), (others[1], "killed")]
    net.three.scheduler.kill(net.three.scheduler.whereis("journal"))
    net.settle()
    assert [seen(watcher) for watcher in watchers] == [[(journal, "killed")]] * 4
    assert seen(forgetful) == []


def test_it_moves_between_two_messages_only() -> None:
    net = Net(journal=Journal)
    slow = net.two.scheduler.whereis("journal").slow(3)
    net.settle()
    net.arrive()
    net.move()
    assert home(net, net.two) == 0
    net.advance(4)
    assert slow.result() == "slept"
    net.move()
    assert home(net, net.two) == 2


@pytest.mark.parametrize("come_out", [False, True], ids=["still-queued", "come-out"])
def test_one_that_stays_after_all_is_queued_once(come_out: bool) -> None:
    process = Net(journal=Journal).one
    journal = process.spawn(Journal)
    process.settle()
    added = journal.add(1)
    cell = journal._cell
    assert cell.freeze()
    if come_out:
        process.settle()
    cell.thaw()
    assert process.scheduler.statistics().queued == 1
    process.settle()
    assert added.result() == 1


def test_it_does_not_move_while_a_behaviour_is_to_go_on() -> None:
    net = Net(journal=Journal)
    slow = net.one.scheduler.whereis("journal").slow(1)
    net.settle()
    net.arrive()
    other = net.one.spawn(Journal, affinity="performance").add("first in the queue")
    net.one.now += 10**9
    net.one.scheduler.turn()
    assert (other.done, slow.done) == (True, False)
    net.one.mailman.moves.depart("efficiency", Place(0, *net.three.key))
    assert not net.one.mailman.moves.under_way
    net.settle()
    assert slow.result() == "slept"


def test_who_begins_to_watch_it_before_he_has_heard_of_the_move_watches_it_where_it_is() -> None:
    net = Net(journal=Journal)
    journal = net.two.scheduler.whereis("journal")
    net.arrive()
    net.beat()
    net.settle(until=lambda: net.one.scheduler.departed)
    assert net.two.from_node
    watcher = net.two.spawn(Watcher)
    watcher.watch(journal)
    net.settle()
    seen = net.two.scheduler.cells[id_of(watcher)].actor.seen
    assert seen == []
    net.three.scheduler.kill(net.three.scheduler.whereis("journal"))
    net.settle()
    assert seen == [(journal, "killed")]


# --- Called off


@pytest.mark.parametrize(("kind", "why"), [(Opaque, "snapshot"), (Picky, "restore")])
def test_one_whose_hooks_fail_goes_on_where_it_is_and_is_not_tried_again(kind: type[Actor], why: str) -> None:
    net = Net(journal=kind)
    ref = net.two.scheduler.whereis("journal")
    net.arrive()
    net.move()
    assert net.ask(ref.add(1)) == 1
    assert home(net, net.two) == 0
    ((_, error),) = net.one.reports
    assert why in str(error)
    net.move()
    assert len(net.one.reports) == 1
    assert net.one.scheduler.statistics().misplaced == 1
    assert net.three.scheduler.cells == {}


def test_when_the_process_that_it_is_to_go_to_dies_it_stays_with_all_its_messages() -> None:
    net = Net(journal=Journal)
    ref = net.two.scheduler.whereis("journal")
    net.arrive()
    net.beat()
    net.settle(until=lambda: bool(net.three.scheduler.cells))
    asked = [ref.add(number) for number in range(10)]
    net.kill(net.three)
    net.settle()
    assert [ask.result() for ask in asked] == list(range(1, 11))
    assert home(net, net.two) == 0


def test_when_the_process_that_it_leaves_dies_before_the_node_has_decided_it_is_made_anew() -> None:
    net = Net(journal=Journal)
    net.two.scheduler.whereis("journal").add("lost with its process")
    net.settle()
    net.arrive()
    net.beat()
    net.settle(until=lambda: bool(net.three.scheduler.cells))
    net.kill(net.one)
    net.settle()
    net.advance(1)
    assert home(net, net.two) == 2
    assert net.three.actor("journal").lines == []
    assert len(net.three.scheduler.cells) == 1


@pytest.mark.parametrize("decided", [False, True])
def test_one_that_is_killed_while_it_moves_is_dead_and_made_anew(decided: bool) -> None:
    net = Net(journal=Journal)
    first = net.one.scheduler.whereis("journal")
    net.arrive()
    net.beat()
    net.settle(until=lambda: bool(net.three.scheduler.cells) and not (decided and net.three.to_node))
    assert net.one.scheduler.whereis("journal") is first
    net.one.scheduler.kill(first)
    net.settle()
    with pytest.raises(ActorDead):
        net.ask(first.add(1))
    net.advance(1)
    assert home(net, net.two) == 2
    assert net.three.scheduler.died == 1


def test_one_whose_name_somebody_else_has_stays_and_no_link_suffers() -> None:
    net = Net()
    for process in (net.one, net.two):
        process.scheduler.spawn(Journal, name="journal")
    net.settle()
    nameless = next(cell for cell in net.two.scheduler.cells.values() if cell.name is None)
    net.arrive()
    net.move()
    assert home(net, net.two) == 2
    assert net.two.scheduler.cells[nameless.id] is nameless
    assert len(net.two.mailman.peers) == 2


def test_when_the_node_refuses_it_stays_and_goes_on() -> None:
    net = Net(journal=Journal)
    ref = net.two.scheduler.whereis("journal")
    net.arrive()
    net.beat()
    net.settle(until=lambda: bool(net.three.scheduler.cells))
    net.state.views[net.three.key].state = "draining"
    assert net.ask(ref.add(1)) == 1
    assert home(net, net.two) == 0
    assert net.three.scheduler.cells == {}
    net.state.views[net.three.key].state = "ready"
    net.move()
    assert home(net, net.two) == 2


def test_one_that_dies_there_before_that_process_finds_it_by_its_name_is_made_anew() -> None:
    net = Net(journal=Journal)
    net.arrive()
    net.beat()
    net.settle(until=lambda: bool(net.three.scheduler.cells))
    net.three.scheduler.whereis("journal").add("on its way")
    net.settle(until=lambda: bool(net.three.mailman.moves.waiting))
    (cell,) = net.three.scheduler.cells.values()
    cell.stop(ExitReason("killed"))
    net.settle()
    assert net.two.scheduler.whereis("journal") is None
    net.advance(1)
    assert home(net, net.three) == 2


# --- Whatever the order


class Talker(Actor):
    """Sends numbers to it, by the old ref and by its name; every third is an ask."""

    def __init__(self, who: int, ref: Journal, scheduler: Scheduler, times: int) -> None:
        self.who, self.ref_, self.scheduler, self.times = who, ref, scheduler, times
        self.sent = 0
        self.asks: list[Any] = []

    @behaviour
    def talk(self) -> None:
        ref = self.ref_ if self.sent % 2 else self.scheduler.whereis("journal")
        try:
            reply = ref.add((self.who, self.sent))
        except MailboxFull:
            self.talk()  # again
            return
        if self.sent % 3 == 0:
            self.asks.append(reply)
        self.sent += 1
        if self.sent < self.times:
            self.talk()


@pytest.mark.parametrize("seed", range(30))
def test_each_senders_messages_are_run_once_and_in_order_whenever_it_moves(seed: int) -> None:
    rng = Random(seed)
    net = Net(journal=Journal)
    net.arrive()
    times = rng.choice((40, 150))
    talkers = []
    for who, process in enumerate(net.processes.values()):
        ref = process.scheduler.whereis("journal")
        for twin in range(2):
            talker = process.spawn(Talker, 2 * who + twin, ref, process.scheduler, times)
            talker.talk()
            talkers.append(process.scheduler.cells[id_of(talker)].actor)
    while True:
        wait = rng.randrange(times)
        net.settle(rng, until=lambda wait=wait: rng.randrange(max(1, wait)) == 0)
        net.beat()
        if home(net, net.two) == 2 or all(talker.sent == times for talker in talkers):
            break
    net.settle(rng)
    net.move()
    assert [home(net, process) for process in net.processes.values()] == [2, 2, 2]
    assert [process.reports for process in net.processes.values()] == [[], [], []]
    lines = net.three.actor("journal").lines
    for who in range(6):
        assert [number for one, number in lines if one == who] == list(range(times))
    assert all(reply.error is None and reply.done for talker in talkers for reply in talker.asks)
    assert [process.scheduler.dead_letters.count for process in net.processes.values()] == [0, 0, 0]
    for process in net.processes.values():
        assert not process.mailman.moves.under_way
        assert sum(peer.under_way for peer in process.mailman.peers) == 0


@pytest.mark.parametrize("seed", range(30))
def test_every_message_is_run_or_told_or_a_dead_letter_whichever_process_dies_meanwhile(seed: int) -> None:
    rng = Random(seed)
    net = Net(journal=Journal)
    net.arrive()
    net.beat()
    victim = rng.choice((net.one, net.three))
    talker = net.two.spawn(Talker, 0, net.two.scheduler.whereis("journal"), net.two.scheduler, 40)
    talker.talk()
    actor = net.two.scheduler.cells[id_of(talker)].actor
    actor.scheduler = _Fixed(actor.ref_)
    wait = rng.randrange(1, 60)
    net.settle(rng, until=lambda: rng.randrange(wait) == 0)
    net.kill(victim)
    net.settle(rng)
    net.advance(0.02)
    net.advance(1)
    assert actor.sent == 40
    assert all(reply.done for reply in actor.asks)
    assert not any(process.mailman.moves.under_way for process in net.processes.values())
    # One of the name, wherever it is now, and no other.
    cells = [cell for process in net.processes.values() for cell in process.scheduler.cells.values()]
    (found,) = [cell for cell in cells if cell.kind is Journal]
    for process in net.processes.values():
        assert id_of(process.scheduler.whereis("journal")) == found.id
    told = sum(reply.error is not None for reply in actor.asks)
    dead = sum(process.scheduler.dead_letters.count for process in (net.one, net.two, net.three))
    assert len(set(RAN)) + told + dead >= 40
    assert len(set(RAN)) == len(RAN)


class _Fixed:
    """Only the ref that it began with, so that what it sends is for one actor."""

    def __init__(self, ref: Any) -> None:
        self._ref = ref

    def whereis(self, name: str) -> Any:
        return self._ref
