"""One scheduler: the actors of one process, run in turns. Pure: its clock is given, and whoever owns it calls `turn`.

    scheduler = Scheduler(Place(0, 0, 1), time.monotonic_ns)
    with scheduler:
        counter = spawn(Counter, 3)
    scheduler.turn()    # 0.0: call again soon; 1.5: in 1.5 s, or when woken; None: when woken

A turn runs system work (completions, due timers, what other processes sent) and then tasks, of which each is an actor
with messages; it is bounded in number and time, so that its caller gets to do I/O. Everything here happens on one
thread: what comes from another one has to be handed to that thread first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.cell import QUEUED, Cell
from zerver_runtime.dead_letters import DeadLetters
from zerver_runtime.discipline import Discipline, PriorityWithAgeing, TimerEntry, TimerTree
from zerver_runtime.elsewhere import Elsewhere
from zerver_runtime.ids import ActorId, Place, actor_id
from zerver_runtime.mailman_protocol import Mailman
from zerver_runtime.message import ActorDead, AnswerTo, ExitReason, MailboxFull, UnknownBehaviour, describe
from zerver_runtime.monitors import Monitors
from zerver_runtime.plain_data import check_arguments
from zerver_runtime.ref import ActorRef, check_name, class_path, id_of, new_ref
from zerver_runtime.reply import Reply
from zerver_runtime.run_queue import Irq, RunQueue
from zerver_runtime.scheduler_view import Class
from zerver_runtime.timer import Timer, nanoseconds

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Mailman", "Scheduler", "Statistics", "current"]

_SERIAL_MASK = (1 << 40) - 1


class Statistics(msgspec.Struct, frozen=True):
    """Of one scheduler; counters are since it began."""

    actors: int
    queued: int
    """Actors and system work that wait to run."""
    timers: int
    handled: int
    """Messages run."""
    dead_letters: int
    died: int
    failures: int
    """Exceptions that killed an actor, or came out of system work."""
    muted: int
    """Times that an actor was muted."""
    late_replies: int
    """Answers that came after their time-out."""
    misplaced: int
    """Actors that prefer another class of process than this one's."""
    departed: int
    """Actors that have moved to another process."""


_KILLED = ExitReason("killed")
_current: Scheduler | None = None


def current() -> Scheduler:
    """The scheduler whose turn it is, or that a `with` has entered. RuntimeError: none."""
    if _current is None:
        raise RuntimeError("no scheduler is running here; do this in a behaviour, or inside of `with scheduler:`")
    return _current


class Scheduler:
    """place: this process, for the ids of its actors.
    clock: nanoseconds, monotonic.
    wake: called when there is work again, or an earlier timer, after `turn` returned something else than 0.
    process_class: of this process, for the affinity of its actors; None: it is of none, and they stay where they are.
    check_arguments: check each argument of each send, also within this stage (development and tests).
    tasks: the discipline among actors. turn_tasks, turn_seconds: bounds of a turn.
    report: told of each exception that killed an actor or came out of system work: (where, exception).
    """

    def __init__(
        self,
        place: Place,
        clock: Callable[[], int],
        wake: Callable[[], object] = lambda: None,
        mailman: Mailman | None = None,
        *,
        process_class: Class | None = None,
        check_arguments: bool = False,
        tasks: Discipline[Cell] | None = None,
        turn_tasks: int = 256,
        turn_seconds: float = 0.002,
        report: Callable[[str, BaseException], object] | None = None,
    ) -> None:
        # Set by the owner.
        self.place = place
        self.clock = clock
        self.mailman = mailman
        self.process_class = process_class
        self.check_arguments = check_arguments
        self.names_elsewhere: dict[str, ActorRef] = {}  # written by the mailman
        self._wake = wake
        self._report = report
        # Who is here.
        self.cells: dict[ActorId, Cell] = {}
        self.names: dict[str, Cell] = {}
        # Those that prefer another class of process; and of them those that can be moved there, with that class.
        self.misplaced: set[Cell] = set()
        self.movable: dict[Cell, str] = {}
        self.moved: dict[ActorId, ActorId] = {}  # by the id that it was known by; written by `moves`
        self._first = actor_id(*place, 0)
        self._last = self._first
        self.monitors = Monitors(self)
        # What there is to do.
        self._run_queue: RunQueue[Cell] = RunQueue(
            tasks if tasks is not None else PriorityWithAgeing(), most=turn_tasks, longest=round(turn_seconds * 1e9)
        )
        self._add = self._run_queue.add
        self._timers: TimerTree[Irq] = TimerTree()
        self._turn_tasks = turn_tasks
        # The turn under way, and whether its caller will come back by itself.
        self.running: Cell | None = None
        self._now = clock()
        self._awake = False
        self._outer: list[Scheduler | None] = []
        # Counters.
        self.dead_letters = DeadLetters()
        self.failures: deque[tuple[str, str]] = deque(maxlen=100)  # (where, exception), the last ones
        self.handled = 0  # messages run
        self.died = 0
        self.crashes = 0  # exceptions reported
        self.muted = 0  # times that an actor was muted
        self.late_replies = 0  # answers that came after their time-out
        self.departed = 0  # actors that have moved away

    # --- Turns

    def turn(self) -> float | None:
        """Do a bounded amount of work. Seconds until the next turn is due: 0.0, there is more to do; None, only when
        woken. What is no Exception (KeyboardInterrupt, say) comes out of it, and the actor that raised it is dead.
        """
        self._awake = True
        try:
            self._turn()
        except BaseException:
            self._awake = False
            raise
        return self._rest()

    def _turn(self) -> None:
        queue = self._run_queue
        clock = self.clock
        with self:
            now = self._now = clock()
            queue.begin(now)
            self._post_due_timers(now)
            while True:
                while (irq := queue.irq()) is not None:
                    self._run_irq(irq)
                cell = queue.task(now)
                if cell is None:
                    break
                self.handled += cell.run()
                now = self._now = clock()
            if self.mailman is not None:
                self.mailman.flush()

    def _post_due_timers(self, now: int) -> None:
        timers = self._timers
        for _ in range(self._turn_tasks):
            irq = timers.select(now)
            if irq is None:
                return
            self._run_queue.post(irq)

    def _run_irq(self, irq: Irq) -> None:
        try:
            irq()
        except Exception as error:
            self.report(f"system work {getattr(irq, '__qualname__', irq)!s}", error)

    def _rest(self) -> float | None:
        if len(self._run_queue):
            return 0.0
        due = self._timers.next_due()
        delay = None if due is None else max(0, due - self.clock()) / 1e9
        self._awake = delay == 0
        return delay

    def _rouse(self) -> None:
        if not self._awake:
            self._awake = True
            self._now = self.clock()
            self._wake()

    def overdue(self) -> bool:
        """Whether the turn has used up its time."""
        return self._run_queue.over(self.clock())

    # --- Work

    def ready(self, cell: Cell) -> None:
        """For cells: it has something to run."""
        cell.state = QUEUED
        self._add(cell, cell.priority, self._now)
        if not self._awake:
            self._rouse()

    def post(self, irq: Irq) -> None:
        """System work, done before any actor runs again. From this thread only."""
        self._run_queue.post(irq)
        if not self._awake:
            self._rouse()

    def at(self, due: int, irq: Irq) -> TimerEntry:
        """System work for a time (nanoseconds of the clock)."""
        entry = self._timers.add(irq, due, self._now)
        if not self._awake and self._timers.next_due() == due:
            self._rouse()
        return entry

    def after(self, seconds: float, irq: Irq) -> TimerEntry:
        return self.at(self.clock() + nanoseconds(seconds), irq)

    def cancel(self, entry: TimerEntry) -> None:
        self._timers.cancel(entry)

    def timer(self, seconds: float, call: Callable[[], object], *, every: bool, owner: Cell | None) -> Timer:
        """ValueError: seconds below 0, or less than a nanosecond for an interval."""
        length = nanoseconds(seconds) if seconds >= 0 else -1
        if length < 0 or (every and length == 0):
            raise ValueError(f"a timer of {seconds!r} s: give 0 or more seconds, and more than 0 for an interval")
        timer = Timer(self, owner, call, length, length if every else None)
        if owner is not None:
            if owner.timers is None:
                owner.timers = set()
            owner.timers.add(timer)
        return timer

    # --- Actors

    def spawn(
        self,
        kind: type[Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        supervisor: Any = None,
        affinity: str = "none",
    ) -> Any:
        """Make an actor here, and return its ref. What its `__init__` raises comes out of here, and there is no actor.

        name: what `whereis` finds it by, as long as it lives. supervisor: the ref of a local actor to tell of its end.
        affinity: the class of process that it prefers, instead of what its class says.

        ValueError: the name is taken, or is none. TypeError: not an actor class.
        """
        if not isinstance(kind, type) or not hasattr(kind, "mailbox"):
            raise TypeError(f"{kind!r} is not an actor class; derive one from Actor, and give the class itself")
        if name is not None:
            check_name(name)
        if name is not None and name in self.names:
            raise ValueError(f"the name {name!r} is taken, by {self.names[name]}; stop that one first, or use another")
        cell = self._begin(kind, kind.__init__, args, kwargs or {}, supervisor)
        if name is not None:
            cell.name = name
            self.names[name] = cell
            if self.mailman is not None:
                self.mailman.named(name, cell.id, class_path(kind))
        if supervisor is not None and (above := self.cells.get(id_of(supervisor))) is not None:
            self.movable.pop(above, None)
        if self.process_class is not None:
            wanted = affinity if affinity != "none" else kind.affinity
            if wanted not in ("none", self.process_class):
                self.misplaced.add(cell)
                # A move is found by the name. A supervisor and its children stay together.
                if kind.movable and name is not None and supervisor is None:
                    self.movable[cell] = wanted
        started = kind._started
        if started is not None:
            cell.system(started)
        return cell.ref

    def restore(self, kind: type[Any], snapshot: Any) -> Cell:
        """For moves: an actor that comes from elsewhere, frozen and without a name as yet. What its `restore` raises
        comes out of here."""
        cell = self._begin(kind, kind.restore, (snapshot,), {}, None)
        if not cell.freeze():
            cell.actor = None
            cell.die(ExitReason("crash", "muted in restore()"))
            raise RuntimeError(
                "it sent so much that it was muted; all that restore() may do is set its state and timers"
            )
        return cell

    def _begin(
        self,
        kind: type[Any],
        init: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        supervisor: Any,
    ) -> Cell:
        self._last = id = ActorId(self._last + 1)
        cell = Cell(self, id, kind.mailbox, kind.priority)
        cell.ref = new_ref(kind, cell)
        cell.supervisor = supervisor
        actor = cell.actor = object.__new__(kind)
        actor._cell = cell
        self.cells[id] = cell
        running, self.running = self.running, cell
        try:
            init(actor, *args, **kwargs)
        except BaseException as error:
            cell.actor = cell.supervisor = None  # its hooks and its supervisor have never known it
            cell.die(ExitReason("crash", f"{describe(error)} in {init.__name__}()"))
            raise
        finally:
            self.running = running
        return cell

    def kill(self, ref: object, reason: ExitReason = _KILLED) -> None:
        """End an actor of this scheduler: after the behaviour that it is in, if any, and before all messages."""
        cell = self.cells.get(id_of(ref))
        if cell is not None:
            cell.stop(reason)

    def whereis(self, name: str) -> Any:
        """The ref of the actor of this name, here or in a sibling; None."""
        cell = self.names.get(name)
        return cell.ref if cell is not None else self.names_elsewhere.get(name)

    def ref(self, kind: type[Any], id: ActorId) -> Any:
        """The ref for an id that came from elsewhere. Sending to one that is no more gives a dead letter."""
        cell = self.cells.get(id)
        return cell.ref if cell is not None else new_ref(kind, Elsewhere(self, id, kind))

    def is_here(self, id: ActorId) -> bool:
        """Whether the actor, if there is one, is of this process in this incarnation."""
        return id & ~_SERIAL_MASK == self._first

    def buried(self, cell: Cell, reason: ExitReason) -> None:
        """For cells: it has died; tell everybody."""
        self.died += 1
        self._forget(cell)
        # One that has just moved here may not be among the names yet; the name is its own all the same.
        if cell.name is not None and self.names.get(cell.name, cell) is cell:
            self.names.pop(cell.name, None)
            if self.mailman is not None:
                self.mailman.named(cell.name, None, class_path(cell.kind))
        self.monitors.buried(cell, reason)
        if cell.supervisor is not None:
            supervisor = self.cells.get(id_of(cell.supervisor))
            if supervisor is not None:
                supervisor.system(supervisor.kind.child_exited, cell.ref, reason)

    def moved_away(self, cell: Cell, new: ActorId) -> list[Any]:
        """For moves: it has another id now, in another process. Returns the messages that waited."""
        self.departed += 1
        self._forget(cell)
        self.moved[cell.id] = new
        messages = cell.leave()
        # All refs of it here are this one.
        object.__setattr__(cell.ref, "_cell", Elsewhere(self, cell.id, cell.kind))
        return messages

    def _forget(self, cell: Cell) -> None:
        self.cells.pop(cell.id, None)
        self.misplaced.discard(cell)
        self.movable.pop(cell, None)

    # --- Messages from elsewhere

    def deliver(
        self,
        target: ActorId,
        behaviour: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        reply: AnswerTo | None,
    ) -> None:
        """Put a message from outside into the mailbox of an actor here. Never raises: what cannot be delivered is a
        dead letter, and its reply fails with the reason.
        """
        cell = self.cells.get(target)
        if cell is None:
            self.dead_letters.add(target, behaviour, "no such actor")
            if reply is not None:
                reply.fail(ActorDead(target, "no such actor"))
            return
        if reply is None:
            reply = Reply(cell, behaviour)
        found = getattr(cell.kind, behaviour, None)
        try:
            if not isinstance(found, Behaviour):
                raise TypeError("its class has no such behaviour")
            bound, options = found.bind(*args, **(kwargs or {}))
            cell.accept((found, bound, options, reply))
        except TypeError as error:
            self.dead_letters.add(target, behaviour, str(error))
            reply.fail(UnknownBehaviour(str(cell), behaviour, str(error)))
        except MailboxFull as error:
            self.dead_letters.add(target, behaviour, "its mailbox is full")
            reply.fail(error)

    # --- For all of it

    def check(self, behaviour: Behaviour[Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """NotPlainData."""
        check_arguments(f"{behaviour.owner}.{behaviour.name}", behaviour.names, args, kwargs, ActorRef)

    def report(self, where: str, error: BaseException) -> None:
        """For the runtime: an exception that nobody will see otherwise."""
        self.crashes += 1
        self.failures.append((where, describe(error)))
        if self._report is not None:
            self._report(where, error)

    def statistics(self) -> Statistics:
        return Statistics(
            actors=len(self.cells),
            queued=len(self._run_queue),
            timers=len(self._timers),
            handled=self.handled,
            dead_letters=self.dead_letters.count,
            died=self.died,
            failures=self.crashes,
            muted=self.muted,
            late_replies=self.late_replies,
            misplaced=len(self.misplaced),
            departed=self.departed,
        )

    def __enter__(self) -> Self:
        global _current
        self._outer.append(_current)
        _current = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _current
        _current = self._outer.pop()

    def __repr__(self) -> str:
        return f"<Scheduler {'.'.join(map(str, self.place))}: {len(self.cells)} actors, {len(self._run_queue)} queued>"
