"""A scheduler's process without a process: its scheduler and mailman, and what passes between it and the Node."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from zerver_runtime import control
from zerver_runtime.codec import find_class
from zerver_runtime.ids import Place, pack
from zerver_runtime.mailman import Mailman
from zerver_runtime.ref import id_of
from zerver_runtime.scheduler import Scheduler
from zerver_runtime.scheduler_view import Class, Key
from zerver_runtime.testing.any_order import AnyOrder
from zerver_runtime.testing.wire import Wire

__all__ = ["SimulatedProcess"]


class SimulatedProcess:
    """What a boot gets in a simulation, as it gets a SchedulerContext in a process: `scheduler`, `mailman`, `place`,
    `kind`, `spawn_elsewhere`.
    """

    def __init__(
        self,
        place: Place,
        kind: Class,
        rng: Random,
        clock: Callable[[], int],
        say: Callable[[control.ToNode], None],
        tasks: AnyOrder,
        report: Callable[[SimulatedProcess, str, BaseException], object],
        check_arguments: bool,
    ) -> None:
        self.place = place
        self.kind: Class = kind
        self.tasks = tasks
        self.say = say
        # Short turns, so that a fault can come between any two.
        self.scheduler = Scheduler(
            place,
            clock,
            self._wake,
            process_class=kind,
            check_arguments=check_arguments,
            tasks=tasks,
            turn_tasks=rng.choice((1, 2, 8)),
            turn_seconds=rng.choice((0.0, 0.002)),
            report=lambda where, error: report(self, where, error),
        )
        self.mailman = Mailman(self.scheduler, say)
        self.scheduler.mailman = self.mailman
        self.heard: deque[tuple[control.FromNode, Wire | None]] = deque()  # words of the Node that wait to be read
        self.booted = False
        self.draining = False
        self.due: int | None = None  # when its next turn is (nanoseconds); None: when woken
        self.beat = 0
        self.paused = 0
        self._clock = clock
        self._wanted: dict[int, Callable[[control.Placed], None]] = {}

    @property
    def key(self) -> Key:
        """(slot, incarnation)"""
        return self.place.scheduler, self.place.incarnation

    def spawn_elsewhere(
        self,
        path: str,
        args: tuple[object, ...],
        done: Callable[[control.Placed], None],
        *,
        affinity: str = "none",
        name: str | None = None,
    ) -> None:
        """As `SchedulerContext.spawn_elsewhere`."""
        correlation = len(self._wanted) + 1
        self._wanted[correlation] = done
        self.say(control.Wanted(correlation, path, self.mailman.codec.encode((args, None)), affinity, name))

    def turn(self) -> None:
        delay = self.scheduler.turn()
        now = self._clock()
        self.due = None if delay is None else now + round(delay * 1e9)

    def say_beat(self) -> None:
        found = self.scheduler.statistics()
        load = found.queued + sum(peer.under_way for peer in self.mailman.peers)
        self.say(control.Beat(load, found.handled, found.dead_letters))
        if not self.draining:
            for affinity, count in self.mailman.moves.wishes().items():
                self.say(control.Misplaced(affinity, count))

    def hear(self) -> control.FromNode:
        """Read the next word of the Node's."""
        word, wire = self.heard.popleft()
        match word:
            case control.Peer(slot, incarnation):
                if wire is not None:
                    wire.attached = True
                    self.mailman.attach(slot, incarnation, wire.end)
            case control.PeerLost(slot, incarnation, why):
                self.mailman.lose(slot, incarnation, why)
            case control.Spawn(request, path, arguments, name, affinity):
                self._spawn(request, path, arguments, name, affinity)
            case control.Home(affinity, slot, incarnation):
                if not self.draining:
                    self.mailman.moves.depart(affinity, Place(self.place.node, slot, incarnation))
            case control.Placed(correlation):
                done = self._wanted.get(correlation)
                if done is not None:
                    self.scheduler.post(lambda: done(word))
            case control.Named():
                self.mailman.heard(word)
            case control.Drain():
                self.draining = True
                self._wake()
            case _:
                pass  # there are no listeners
        return word

    def _spawn(self, request: int, path: str, arguments: bytes, name: str | None, affinity: str) -> None:
        try:
            kind = find_class(path)
            args, kwargs = self.mailman.codec.arguments(arguments)
            self.mailman.grant(name)
            with self.scheduler:
                ref = self.scheduler.spawn(kind, args, kwargs, name=name, affinity=affinity)
        except Exception as error:
            self.say(control.Spawned(request, b"", f"{type(error).__name__}: {error}"))
        else:
            self.say(control.Spawned(request, pack(id_of(ref))))
        finally:
            self.mailman.grant(None)

    def _wake(self) -> None:
        self.due = self._clock()

    def __str__(self) -> str:
        return f"{self.place.scheduler}.{self.place.incarnation}"

    def __repr__(self) -> str:
        return f"<SimulatedProcess {self}: {self.scheduler!r}>"
