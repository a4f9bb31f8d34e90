"""Actors that keep a ledger of every message, and what the ledger has to say in the end."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from zerver_runtime.actor import Actor, behaviour
from zerver_runtime.dead_letters import DeadLetters
from zerver_runtime.ids import ActorId, Place, place, show
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import (
    ActorDead,
    ActorError,
    BehaviourFailed,
    ExitReason,
    MailboxFull,
    ReplyTimeout,
    SelfAsk,
)
from zerver_runtime.ref import id_of
from zerver_runtime.reply import Reply
from zerver_runtime.supervisor import Intensity, Supervisor, child
from zerver_runtime.testing.simulation import Faults, SimulatedProcess, Simulation

SLOTS = 3
NAMES = [f"{name}-{slot}" for slot in range(SLOTS) for name in ("first", "second")]


class Sent:
    """One message that a mailbox or the mailman took."""

    def __init__(self, number: int, sender: object, origin: Place, target: ActorId, ask: bool) -> None:
        self.number = number
        self.sender = sender  # whose order has to be kept
        self.origin = origin  # the process that sent it
        self.target = target
        self.ask = ask
        self.handled = 0
        self.answers: list[str] = []
        self.abandoned = False  # whoever asked has died


class Ledger:
    """Of one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.sent: dict[int, Sent] = {}
        self.watched: Counter[tuple[ActorId, ActorId]] = Counter()  # (watcher, whom) -> how often
        self.told: Counter[tuple[ActorId, ActorId]] = Counter()
        self.seen: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._last: dict[tuple[object, ActorId], int] = {}

    def tell(self, sender: object, origin: Place, ref: Any) -> None:
        self._send(sender, origin, ref, ask=False)

    def ask(self, sender: object, origin: Place, ref: Any) -> tuple[Sent, Reply[int]] | None:
        return self._send(sender, origin, ref, ask=True)

    def _send(self, sender: object, origin: Place, ref: Any, *, ask: bool) -> Any:
        number = next(self._numbers)
        sent = Sent(number, sender, origin, id_of(ref), ask)
        self.sent[number] = sent
        try:
            reply = ref.take(number)
        except MailboxFull:
            del self.sent[number]  # its sender was told
            self.seen["refused"] += 1
            return None
        return (sent, reply) if ask else None

    def taken(self, number: int, by: ActorId) -> None:
        sent = self.sent.get(number)
        if sent is None:
            self.simulation.violated("a refused message is not delivered", f"message {number} was run by {show(by)}")
            return
        sent.handled += 1
        if sent.handled > 1:
            self.simulation.violated("a message is run once", f"message {number} was run again by {show(by)}")
        if sent.target != by:
            self.simulation.violated("a message reaches whom it is for", f"message {number} was run by {show(by)}")
        last = self._last.get((sent.sender, by), 0)
        if last > number:
            self.simulation.violated("order per pair", f"{show(by)} ran {number} after {last}, both of {sent.sender}")
        self._last[sent.sender, by] = number

    def answered(self, sent: Sent, reply: Reply[int]) -> None:
        sent.answers.append(repr(reply))
        error = reply.error
        self.seen[type(error).__name__ if error is not None else "value"] += 1
        if len(sent.answers) > 1:
            self.simulation.violated("an ask is answered once", f"ask {sent.number}: {sent.answers}")
        if error is None and reply.value != sent.number:
            self.simulation.violated("nobody gets another's reply", f"ask {sent.number} got that of {reply.value}")
        if error is not None and not isinstance(error, ActorDead | BehaviourFailed | MailboxFull | ReplyTimeout):
            self.simulation.violated("an ask fails for a reason", f"ask {sent.number}: {error!r}")

    def watches(self, watcher: ActorId, target: ActorId) -> None:
        self.watched[watcher, target] += 1

    def down(self, watcher: ActorId, target: ActorId) -> None:
        self.seen["down"] += 1
        self.told[watcher, target] += 1
        if self.told[watcher, target] > self.watched[watcher, target]:
            self.simulation.violated("an end is told once", f"{show(watcher)} heard again of {show(target)}")

    # --- At rest

    def untold(self) -> str | None:
        living = {id for one in self.simulation.processes.values() for id in one.scheduler.cells}
        for watcher, target in self.watched:
            if watcher in living and target not in living and not self.told[watcher, target]:
                return f"{show(watcher)} does not know of the end of {show(target)}"
        return None

    def unanswered(self) -> str | None:
        living = {one.place for one in self.simulation.processes.values()}
        for sent in self.sent.values():
            if sent.ask and not sent.answers and not sent.abandoned and sent.origin in living:
                return f"ask {sent.number} from {sent.origin} to {show(sent.target)}"
        return None

    def lost(self) -> str | None:
        """What nobody ran is a dead letter, if its sender lives: whatever the dead had sent may be lost with them."""
        simulation = self.simulation
        living = {one.place for one in simulation.processes.values()}
        letters: Counter[Place] = Counter()
        for process in (*simulation.processes.values(), *simulation.buried):
            for letter in process.scheduler.dead_letters.last:
                many = letter.behaviour.endswith(" messages")
                letters[place(letter.actor)] += int(letter.behaviour.split()[0]) if many else 1
        missing: defaultdict[Place, list[int]] = defaultdict(list)
        for sent in self.sent.values():
            if not sent.ask and not sent.handled and sent.origin in living:
                missing[place(sent.target)].append(sent.number)
        for there, numbers in missing.items():
            if len(numbers) > letters[there]:
                return f"{len(numbers)} messages to {there} were not run, with {letters[there]} dead letters: {numbers}"
        return None

    def crashed(self) -> str | None:
        for process in (*self.simulation.processes.values(), *self.simulation.buried):
            for where, error in process.scheduler.failures:
                if error != "RuntimeError: planned":
                    return f"{where}: {error}"
        return None

    def not_back(self) -> str | None:
        for process in self.simulation.processes.values():
            here = process.scheduler.cells
            top = [cell.actor for cell in here.values() if cell.kind is Supervisor]
            missing = [ref for ref in top[0]._refs.values() if id_of(ref) not in here] if top else ["its supervisor"]
            if missing or len(top[0]._refs) != 2:
                return f"{process} lacks {missing}"
            if self._find(process, "hub") is None:
                return f"{process} finds no living hub"
        return None

    def not_found(self) -> str | None:
        for process in self.simulation.processes.values():
            for name in NAMES:
                if self._find(process, name) is None:
                    return f"{process} finds no living {name}"
        return None

    def _find(self, process: SimulatedProcess, name: str) -> Any:
        ref = process.scheduler.whereis(name)
        home = next((p for p in self.simulation.processes.values() if ref and p.place == place(id_of(ref))), None)
        return ref if home is not None and id_of(ref) in home.scheduler.cells else None


_ledger: Ledger | None = None


def ledger() -> Ledger:
    assert _ledger is not None
    return _ledger


class Probe(Actor):
    def __init__(self) -> None:
        self.inside = False

    def enter(self, what: str) -> None:
        if self.inside:
            ledger().simulation.violated("no actor runs twice at once", f"{self.ref!r} began {what}")
        self.inside = True

    @behaviour
    def take(self, number: int) -> int:
        self.enter("take()")
        ledger().taken(number, id_of(self.ref))
        self.inside = False
        return number

    @behaviour
    def burst(self, targets: list[Probe], count: int) -> None:
        self.enter("burst()")
        for _ in range(count):
            for target in targets:
                ledger().tell(self.ref, place(id_of(self.ref)), target)
        self.inside = False

    @behaviour
    async def ask(self, target: Probe, seconds: float, before: int) -> None:
        self.enter("ask()")
        for _ in range(before):
            ledger().tell(self.ref, place(id_of(self.ref)), target)
        asked = ledger().ask(self.ref, place(id_of(self.ref)), target)
        if asked is not None:
            sent, reply = asked
            del asked
            sent.abandoned = True
            try:
                await reply.with_timeout(seconds)
            except SelfAsk:
                pass  # refused at once; its answer would be that of a tell
            except ActorError:
                sent.abandoned = False
                ledger().answered(sent, reply)
            else:
                sent.abandoned = False
                ledger().answered(sent, reply)
        self.inside = False

    @behaviour
    async def sleepy(self, seconds: float) -> None:
        self.enter("sleepy()")
        await self.sleep(seconds)
        self.inside = False

    @behaviour
    def watch(self, target: Probe) -> None:
        ledger().watches(id_of(self.ref), id_of(target))
        self.monitor(target)

    @behaviour
    def on_down(self, ref: Probe, reason: ExitReason) -> None:  # type: ignore[override]
        ledger().down(id_of(self.ref), id_of(ref))

    @behaviour
    def crash(self) -> None:
        raise RuntimeError("planned")


class Mute(Probe):
    mailbox = MailboxPolicy(bound=32)


class Drop(Probe):
    mailbox = MailboxPolicy(bound=4, full="drop")


class Fail(Probe):
    mailbox = MailboxPolicy(bound=4, full="fail")


def boot(process: SimulatedProcess) -> None:
    process.scheduler.dead_letters = DeadLetters(keep=1_000_000)
    slot = process.place.scheduler
    children = [child(f"first-{slot}", Mute), child(f"second-{slot}", (Mute, Drop, Fail)[slot])]
    process.scheduler.spawn(Supervisor, (children,), {"intensity": Intensity(1_000_000, 1)})


CALM = ("tell",) * 3 + ("ask",) * 3 + ("burst",) * 3 + ("await",) * 4 + ("watch", "sleep")
EVERYTHING = (*CALM, "crash", "stop")
ASKS = ("ask",) * 8 + ("sleep",)


def work(simulation: Simulation, mix: Sequence[str], reloads: float) -> None:
    """Something comes from outside, to some scheduler."""
    rng = simulation.rng
    if reloads and rng.random() < reloads:
        simulation.signal("HUP")
    process = simulation.process(rng.randrange(SLOTS))
    if process is None:
        return
    scheduler = process.scheduler

    def some() -> Any:
        return scheduler.whereis(rng.choice((*NAMES, "hub")))

    one, other = some(), some()
    if one is None or other is None:
        return
    what = rng.choice(mix)
    simulation.note("work on", process, what, one, other)
    try:
        match what:
            case "tell":
                ledger().tell(process.place, process.place, one)
            case "ask":
                asked = ledger().ask(process.place, process.place, one)
                if asked is not None:
                    sent, reply = asked
                    reply.on_done(lambda reply: ledger().answered(sent, reply))
            case "burst":
                one.burst([other, some() or other], rng.randrange(1, 24))
            case "await":
                one.ask(other, rng.choice((0.001, 0.1, 5.0)), rng.choice((0, 1, 18)))
            case "watch":
                one.watch(other)
            case "sleep":
                one.sleepy(rng.choice((0.001, 0.1, 1.0)))
            case "crash":
                one.crash()
            case "stop":
                one.stop()
            case _:
                raise ValueError(what)
    except MailboxFull:
        pass


FAULTS = Faults(kill=0.012, delay=0.02, pause=0.01, stall=0.02)


def simulate(
    seed: int,
    steps: int = 100,
    faults: Faults = FAULTS,
    *,
    names: bool = False,
    mix: Sequence[str] = EVERYTHING,
    reloads: float = 0.0,
    **options: Any,
) -> Ledger:
    """Run one history to its end. InvariantViolated.

    names: look for each actor under its name, too. mix: what comes from outside, each as often as it is in it.
    reloads: the chance that a reload begins with it.
    """
    global _ledger
    hub = {"hub": (f"{__name__}:Mute", (), "none")}
    simulation = Simulation(seed, boot, schedulers=SLOTS, actors=hub, faults=faults, **options)
    found = _ledger = Ledger(simulation)
    simulation.rest_invariant("every ask is answered", found.unanswered)
    simulation.rest_invariant("no message is lost", found.lost)
    simulation.rest_invariant("every watcher is told", found.untold)
    simulation.rest_invariant("no actor fails but by plan", found.crashed)
    simulation.rest_invariant("supervised actors are back", found.not_back)
    if names:
        simulation.rest_invariant("a name finds who lives", found.not_found)
    try:
        simulation.settle()
        simulation.run(steps, partial(work, mix=mix, reloads=reloads))
        assert simulation.settle(), simulation.trace
    finally:
        _ledger = None
    return found
