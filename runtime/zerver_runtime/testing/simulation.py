"""Several schedulers in one process and one thread, where everything that may happen happens in an order that a seed
decides. No sleeps, no sockets: a hundred steps take some two milliseconds, and a failure comes again with its seed.

    class Counter(Actor):
        def __init__(self) -> None:
            self.total = 0

        @behaviour
        def add(self, amount: int) -> int:
            self.total += amount
            return self.total

    def boot(process: SimulatedProcess) -> None:        # prepares each new scheduler, as for `run_node`
        spawn_as(f"counter-{process.place.scheduler}", Counter)

    def work(simulation: Simulation) -> None:           # comes from outside, now and then
        for process in simulation.processes.values():
            counter = process.scheduler.whereis("counter-1")
            if counter is not None:
                counter.add(1)

    def debts(simulation: Simulation) -> str | None:    # what is wrong, or None
        cells = (cell for process in simulation.processes.values() for cell in process.scheduler.cells.values())
        return next((f"{cell} has {cell.actor.total}" for cell in cells if cell.actor.total < 0), None)

    def test_no_total_is_below_zero() -> None:
        for seed in seeds(100):
            simulation = Simulation(seed, boot)
            simulation.invariant("no total is below zero", lambda: debts(simulation))
            simulation.run(100, work)                   # steps, faults among them
            simulation.settle()                         # no more faults: what was begun comes to its end

One step is one of: a scheduler takes a turn, and the actors in it in any order; a link delivers some of its bytes, cut
anywhere; a word passes between the Node and a process; the clock moves on; or a fault. The Node's decisions, the
schedulers and the mailmen are the real ones; only sockets and processes are not.

Always checked, beside your own invariants: an actor is queued once; mailboxes keep their bounds; frames arrive whole;
system work never fails; and at rest no actor stays muted or waits for ever, no message is forgotten, and nothing stays
under way. What breaks is raised as `InvariantViolated`, with the last events and the seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from random import Random
from typing import Any, TypeAlias

import msgspec

from zerver_runtime import control
from zerver_runtime.cell import Cell
from zerver_runtime.ids import Place
from zerver_runtime.node import NodeState
from zerver_runtime.node_words import Exited, NodeLimits, Signalled, Start, Tick
from zerver_runtime.placement import ActorSpec
from zerver_runtime.scheduler_view import Class, Key
from zerver_runtime.testing.any_order import AnyOrder
from zerver_runtime.testing.faults import Faults
from zerver_runtime.testing.invariant import Check, InvariantViolated, at_any_time, at_rest, replay, seeds
from zerver_runtime.testing.memory_link import memory_pair
from zerver_runtime.testing.simulated_node import SimulatedNode
from zerver_runtime.testing.simulated_process import SimulatedProcess
from zerver_runtime.testing.wire import Wire

__all__ = ["Faults", "InvariantViolated", "SimulatedProcess", "Simulation", "seeds"]

Boot: TypeAlias = Callable[[SimulatedProcess], object]
Work: TypeAlias = Callable[["Simulation"], object]


def _specs(actors: Mapping[str, tuple[str, tuple[Any, ...], str]]) -> dict[str, ActorSpec]:
    encode = msgspec.msgpack.encode
    return {name: ActorSpec(path, encode((args, None)), affinity) for name, (path, args, affinity) in actors.items()}


_LIMITS = NodeLimits(stuck_after=inf, replace_after=inf, boot=inf, intensity=1_000_000, restart_first=0.005)
_CLOCK = (1_000, 1_000_000, 20_000_000)  # nanoseconds that the clock moves on in a step, if not to what is due next
_WORK = 0.25  # of all steps
_MOST = 200_000  # steps of one settle(); more can only be actors that never come to rest


class Simulation:
    """One Node with its schedulers, and all that happens to it.

    seed: decides everything. boot: called as `boot(process)` in each new process; what it raises fails the boot.
    schedulers, efficiency: processes of each class. actors: top-level actors, as in NodeConfig.
    faults: how much goes wrong in `run`. limits: of the Node; by default it never gives up, and waits for ever.
    link_bound, link_capacity: bytes that wait in a link before it is full, and that are on its wire.
    check_arguments: check each argument of each send, as under development. keep: events that the trace holds.
    """

    def __init__(
        self,
        seed: int,
        boot: Boot | None = None,
        *,
        schedulers: int = 3,
        efficiency: int = 0,
        actors: Mapping[str, tuple[str, tuple[Any, ...], str]] | None = None,
        faults: Faults = Faults(),  # noqa: B008 (frozen)
        limits: NodeLimits = _LIMITS,
        link_bound: int = 2048,
        link_capacity: int = 512,
        check_arguments: bool = True,
        keep: int = 60,
    ) -> None:
        self.seed = seed
        self.rng = Random(seed)
        """For your own choices too: any other source of them would not come again with the seed."""
        self.nanoseconds = 1_000_000_000
        self.steps = 0
        self._boot = boot
        self._faults = faults
        self._check_arguments = check_arguments
        self._limits = limits
        self._checks: list[tuple[str, Check]] = []
        self._rest_checks: list[tuple[str, Check]] = []
        self._trace: deque[tuple[int, tuple[Any, ...]]] = deque(maxlen=keep)
        self._violation: tuple[str, str] | None = None
        self.node = SimulatedNode(
            NodeState(schedulers, efficiency, actors=_specs(actors or {}), limits=limits),
            self._process,
            lambda: self.nanoseconds,
            self.note,
            self.rng,
            lambda: memory_pair(link_bound, link_capacity),
        )
        self.node.hear(Start())

    # --- What a test does

    def run(self, steps: int, work: Work | None = None) -> None:
        """Take so many steps, faults among them. A quarter of them are calls of `work(simulation)`.

        InvariantViolated. Whatever else is raised has a note with the seed and the last events.
        """
        for _ in range(steps):
            self._guarded(lambda: self._step(work))

    def settle(self, seconds: float = 60.0) -> bool:
        """Without faults, let everything that was begun come to its end, for so many simulated seconds at most.
        True: nothing is left to do, no timer is set, and the invariants of rest hold.

        InvariantViolated; RuntimeError: there is no end to what happens at one moment.
        """
        for wire in self.node.wires:
            wire.delayed = 0
        for process in self.processes.values():
            process.paused = 0
            process.tasks.relent()
        end = self.nanoseconds + round(seconds * 1e9)
        for _ in range(_MOST):
            possible = self._possible()
            if possible:
                self._guarded(self.rng.choice(possible))
                continue
            due = self._next_due()
            if due is None:
                self._guarded(self._check_rest)
                return True
            if due > end:
                return False
            self._pass(due - self.nanoseconds)
        raise RuntimeError(f"no rest after {_MOST} steps of settle()\n{replay(self.seed, self.trace)}")

    def kill(self, process: SimulatedProcess) -> None:
        """Let it die now, in the middle of whatever it writes. The Node starts another one in its slot."""
        self.note("FAULT:", process, "is killed")
        self.node.end(process, "signal 9 (Killed)", cut=True)

    def signal(self, name: str) -> None:
        """Send the Node a signal: HUP reloads, TTOU takes one scheduler away, TERM stops."""
        self.note("the Node gets SIG" + name)
        self.node.hear(Signalled(name))

    def process(self, slot: int) -> SimulatedProcess | None:
        """The newest one in that slot that lives and has booted."""
        found = [one for key, one in self.processes.items() if key[0] == slot and one.booted]
        return found[-1] if found else None

    def invariant(self, name: str, check: Check) -> None:
        """Call `check()` after each step: it says what is wrong, or None."""
        self._checks.append((name, check))

    def rest_invariant(self, name: str, check: Check) -> None:
        """The same, when `settle` has come to rest."""
        self._rest_checks.append((name, check))

    def violated(self, invariant: str, detail: str) -> None:
        """For actors and callbacks that find something wrong: this step raises InvariantViolated at its end, also when
        what is raised by the caller would only end an actor."""
        if self._violation is None:
            self._violation = invariant, detail

    def note(self, *what: object) -> None:
        """Put something into the trace. Its text is made when the trace is read."""
        self._trace.append((self.nanoseconds, what))

    @property
    def processes(self) -> dict[Key, SimulatedProcess]:
        """Those that live, by slot and incarnation."""
        return self.node.processes

    @property
    def buried(self) -> list[SimulatedProcess]:
        """Those that have died, as they were then."""
        return self.node.buried

    @property
    def now(self) -> float:
        """Seconds of the simulated clock, which begins at 1."""
        return self.nanoseconds / 1e9

    @property
    def trace(self) -> list[str]:
        """The last events, the oldest first."""
        return [f"{at / 1e9:.6f} {' '.join(map(str, what))}" for at, what in self._trace]

    # --- Steps

    def _step(self, work: Work | None) -> None:
        rng = self.rng
        roll = rng.random()
        faults = self._faults
        for chance, strike in (
            (faults.kill, self._strike_kill),
            (faults.delay, self._strike_delay),
            (faults.pause, self._strike_pause),
            (faults.stall, self._strike_stall),
        ):
            if roll < chance:
                strike()
                return
            roll -= chance
        if work is not None and rng.random() < _WORK:
            work(self)
        else:
            possible = self._possible()
            possible.append(self._pass_some)
            rng.choice(possible)()

    def _possible(self) -> list[Callable[[], object]]:
        now = self.nanoseconds
        found: list[Callable[[], object]] = []
        for process in self.processes.values():
            if process.paused > now:
                continue
            if not process.booted:
                found.append(partial(self._start, process))
                continue
            if process.due is not None and process.due <= now:
                found.append(partial(self._turn, process))
            if process.heard:
                found.append(partial(self._hear, process))
        for wire in self.node.wires:
            if wire.attached and wire.delayed <= now and not wire.end.idle:
                receiver = self.processes.get(wire.receiver)
                if receiver is not None and receiver.paused <= now:
                    found.append(partial(self._deliver, wire, receiver))
        for key, said in self.node.said.items():
            if said:
                found.append(partial(self._node_hears, key))
        if self.node.due is not None and self.node.due <= now:
            found.append(self._tick)
        return found

    def _start(self, process: SimulatedProcess) -> None:
        process.booted = True
        self.note(process, "boots")
        if self._boot is not None:
            try:
                with process.scheduler:
                    self._boot(process)
            except Exception as error:
                process.say(control.BootFailed(f"{type(error).__name__}: {error}"))
                self.node.end(process, "exit 3", cut=False)
                return
        process.say(control.Ready())
        self._check(process)

    def _turn(self, process: SimulatedProcess) -> None:
        handled = process.scheduler.handled
        process.turn()
        self.note(process, "takes a turn, messages:", process.scheduler.handled - handled)
        if self.nanoseconds >= process.beat:
            process.beat = self.nanoseconds + round(self._limits.heartbeat * 1e9)
            process.say_beat()
        self._check(process)

    def _hear(self, process: SimulatedProcess) -> None:
        word = process.hear()
        self.note(process, "hears", word)
        self._check(process)

    def _deliver(self, wire: Wire, receiver: SimulatedProcess) -> None:
        rng = self.rng
        how_many = rng.randrange(3)
        count = wire.end.deliver(None if how_many == 0 else 1 if how_many == 1 else rng.randrange(1, 64))
        self.note(receiver, "gets", count, "bytes of", f"{wire.sender[0]}.{wire.sender[1]}")
        sender = self.processes.get(wire.sender)
        if sender is not None and all(peer.place != sender.place for peer in receiver.mailman.peers):
            self.violated("frames arrive whole", f"{receiver} gave up the link to {sender}, which lives")
        self._check(receiver)

    def _node_hears(self, key: Key) -> None:
        event = self.node.said[key].popleft()
        if isinstance(event, Exited):
            del self.node.said[key]  # its last word
        self.note("the Node hears", event)
        self.node.hear(event)

    def _tick(self) -> None:
        self.note("the Node ticks")
        self.node.hear(Tick())

    def _pass_some(self) -> None:
        due = self._next_due()
        if due is not None and due > self.nanoseconds and self.rng.random() < 0.5:
            self._pass(min(due - self.nanoseconds, 1_000_000_000))
        else:
            self._pass(self.rng.choice(_CLOCK))

    def _pass(self, nanoseconds: int) -> None:
        self.nanoseconds += max(1, nanoseconds)

    def _next_due(self) -> int | None:
        dues = [one.due for one in self.processes.values() if one.due is not None and one.booted]
        if self.node.due is not None:
            dues.append(self.node.due)
        return min(dues, default=None)

    # --- Faults

    def _some_process(self) -> SimulatedProcess | None:
        living = list(self.processes.values())
        return self.rng.choice(living) if living else None

    def _some_time(self) -> int:
        return self.nanoseconds + round(self.rng.random() * self._faults.longest * 1e9)

    def _strike_kill(self) -> None:
        process = self._some_process()
        if process is not None:
            # Half of them in the middle of a turn, whose last writes are cut.
            if process.booted and not process.paused and self.rng.random() < 0.5:
                process.turn()
            self.kill(process)

    def _strike_delay(self) -> None:
        if self.node.wires:
            wire = self.rng.choice(self.node.wires)
            wire.delayed = self._some_time()
            self.note("FAULT: the link from", wire.sender, "to", wire.receiver, "is delayed")

    def _strike_pause(self) -> None:
        process = self._some_process()
        if process is not None:
            process.paused = self._some_time()
            self.note("FAULT:", process, "gets no turn for a while")

    def _strike_stall(self) -> None:
        process = self._some_process()
        if process is not None and process.scheduler.cells:
            id = self.rng.choice(list(process.scheduler.cells))
            process.tasks.stall(id, self._some_time())
            self.note("FAULT:", process.scheduler.cells[id], "gets no turn for a while")

    # --- A process

    def _process(self, key: Key, kind: Class, say: Callable[[control.ToNode], None]) -> SimulatedProcess:
        return SimulatedProcess(
            Place(0, *key),
            kind,
            self.rng,
            lambda: self.nanoseconds,
            say,
            AnyOrder(self.rng, self._queued_twice),
            self._reported,
            self._check_arguments,
        )

    # --- Checks

    def _queued_twice(self, cell: Cell) -> None:
        self.violated("an actor is queued once", f"{cell!r} was queued while it was queued")

    def _reported(self, process: SimulatedProcess, where: str, error: BaseException) -> None:
        self.note(process, "reports:", where, repr(error))
        if where.startswith("a frame from"):
            self.violated("frames arrive whole", f"{process}: {where}: {error!r}")
        elif where.startswith("system work"):
            self.violated("system work never fails", f"{process}: {where}: {error!r}")

    def _check(self, process: SimulatedProcess) -> None:
        """Something has happened to it."""
        for name, wrong in at_any_time(process):
            self.violated(name, wrong)
        if process.draining and process.mailman.quiet:
            process.mailman.close()
            self.node.end(process, "exit 0", cut=False)

    def _check_own(self) -> None:
        for name, check in self._checks:
            found = check()
            if found is not None:
                self.violated(name, found)

    def _check_rest(self) -> None:
        # The test's own first: they say more.
        for name, check in self._rest_checks:
            found = check()
            if found is not None:
                self.violated(name, found)
        for process in self.processes.values():
            for name, wrong in at_rest(process):
                self.violated(name, wrong)

    def _guarded(self, step: Callable[[], object]) -> None:
        self.steps += 1
        try:
            step()
            self._check_own()
        except BaseException as error:
            error.add_note(replay(self.seed, self.trace))
            raise
        if self._violation is not None:
            raise InvariantViolated(*self._violation, self.seed, self.trace)

    def __repr__(self) -> str:
        return f"<Simulation of seed {self.seed}: {len(self.processes)} processes, {self.steps} steps>"
