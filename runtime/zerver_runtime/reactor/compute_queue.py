"""Which task runs on which compute worker, and which worker is replaced. Pure: events and time in, actions out.

A task waits, then runs on one worker, then settles: once, whatever happens to it. As the worker's state goes:

    state       leaves it when                          for
    ----------  --------------------------------------  ------------------------------------------------
    starting    its first word comes                    free
    free        it pulls                                running; waiting, or free where it is lent
    waiting     there is a task                         running
    running     its result comes                        running the next one; waiting, or free where it is lent
                its task is cancelled, or uses more     doomed
                CPU time than its budget
    doomed      it is gone                              the task settles, and another worker is started
    stopping    it is gone                              the queue was closed

Gone it can be in each state; a task that it ran then settles as crashed, or waits once more, if the worker surely had
not begun it. Workers are either the queue's own, started
one by one when tasks come for which none is free, and then wait here with their pull unanswered; or they are lent
(`Joined`) and serve other queues, too.

Interactive tasks go before batch; a batch task that has waited for `AGEING` seconds longer goes first.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..discipline import PriorityWithAgeing
from .compute_words import (
    Action,
    Assign,
    Cancelled,
    Closed,
    End,
    Enqueued,
    Event,
    Halted,
    Joined,
    Kill,
    Lost,
    Nothing,
    Offer,
    Pulled,
    Ready,
    Returned,
    Settle,
    Start,
    Stop,
    Submitted,
    Tick,
    WorkerId,
)

__all__ = ["AGEING", "ComputeQueue", "WorkerState"]

AGEING = 1.0
"""Seconds that a batch task waits longer than an interactive one to be as urgent."""

_STEP = int(AGEING * 1e9)
_LOOK_LEAST, _LOOK_MOST = 5_000_000, 100_000_000  # nanoseconds between looks at the CPU time of a task
_RESTART_FIRST, _RESTART_CAP = 50_000_000, 2_000_000_000  # nanoseconds until a worker is started for one that died
_FREE = ("starting", "free", "waiting")
_HOPELESS = 3  # workers in a row that died before they had started, or that died before they had begun one task

WorkerState: TypeAlias = Literal["starting", "free", "waiting", "running", "doomed", "stopping"]


class _Task:
    __slots__ = ("added", "batch", "budget", "given", "number")

    def __init__(self, number: int, batch: bool, budget: int | None, added: int) -> None:
        self.number = number
        self.batch = batch
        self.budget = budget
        self.added = added
        self.given = 0  # so often to a worker


class _Worker:
    __slots__ = ("cpu", "end", "since", "spent", "state", "task", "told", "why")

    def __init__(self, state: WorkerState) -> None:
        self.state: WorkerState = state
        self.told: int | None = None
        """The urgency that it was last told, when it has not pulled since."""
        self.cpu: int | None = None  # of the process, when it pulled
        # Of the task: set in running and doomed.
        self.task: _Task | None = None
        self.since = 0
        self.spent: int | None = None  # of the task, when last looked at
        # How the task is to settle: set in doomed.
        self.end: End = "crashed"
        self.why = ""


class ComputeQueue:
    """size: workers, of its own or (`lent`) of others. bound: tasks that wait when each worker has one."""

    def __init__(self, size: int, bound: int, *, lent: bool = False) -> None:
        self._size = size
        self._bound = bound
        self._lent = lent
        # Tasks that wait: in `_waiting` by number, and in `_order`, where cancelled ones are skipped later.
        self._waiting: dict[int, _Task] = {}
        self._order: PriorityWithAgeing[int] = PriorityWithAgeing(_STEP)
        # Workers, the one that became free last at the end; and the task that each runs.
        self._workers: dict[WorkerId, _Worker] = {}
        self._runs: dict[int, WorkerId] = {}
        # Own workers: how many there should be, when the next may be started, how many died since one was of use.
        self._wanted = 0
        self._made = 0
        self._start_at = 0
        self._died = 0
        self._stillborn = 0
        self.closed = False
        # Counted for statistics.
        self.refused = 0
        self.replaced = 0

    # --- Events

    def handle(self, event: Event, now: int) -> list[Action]:
        """What is to be done now, in order. now: nanoseconds. Events about tasks and workers that are gone ask for
        nothing."""
        actions: list[Action] = []
        match event:
            case Submitted(task, batch, budget):
                self._submitted(_Task(task, batch, budget, now), actions)
            case Pulled(key, other, cpu):
                worker = self._workers.get(key)
                if worker is not None and worker.state in ("starting", "free"):
                    self._answer(key, worker, other, cpu, now, actions)
            case Returned(key, task, other, cpu):
                self._returned(key, task, other, cpu, now, actions)
            case Cancelled(task):
                self._cancelled(task, actions)
            case Tick(cpu):
                self._look(cpu, actions)
            case Joined(key):
                if not self.closed:
                    self._workers[key] = _Worker("starting")
            case Ready(key):
                worker = self._workers.get(key)
                if worker is not None and worker.state == "starting":
                    worker.state = "free"
                    self._stillborn = 0
            case Lost(key, why, unread):
                self._lost(key, why, unread, now, actions)
            case Closed():
                self._close(actions)
            case Halted():
                self._close(actions)
                for key, worker in self._workers.items():
                    if worker.state == "running":
                        self._doom(key, worker, "closed", "", actions)
        if not self.closed:
            self._start(now, actions)
            self._offer(now, actions)
        return actions

    def wake_at(self, now: int) -> int | None:
        """When the next `Tick` is due at the latest (nanoseconds); None: only when something happens."""
        times = []
        if self._short() and not self.closed:
            times.append(self._start_at)
        for worker in self._workers.values():
            task = worker.task
            if worker.state == "running" and task is not None and task.budget is not None:
                left = task.budget - (worker.spent or 0)  # on one core it takes at least as long
                times.append(now + min(max(left, _LOOK_LEAST), _LOOK_MOST))
        return min(times, default=None)

    # --- What there is

    def refusal(self) -> End | None:
        """Why a task would not be taken now."""
        if self.closed:
            return "closed"
        return "refused" if len(self._waiting) + len(self._runs) >= self._size + self._bound else None

    def watched(self) -> list[WorkerId]:
        """The workers whose CPU time a `Tick` should tell."""
        return [
            key
            for key, worker in self._workers.items()
            if worker.state == "running" and worker.task is not None and worker.task.budget is not None
        ]

    def state(self, worker: WorkerId) -> WorkerState | None:
        """None: it is gone."""
        found = self._workers.get(worker)
        return None if found is None else found.state

    @property
    def workers(self) -> int:
        return len(self._workers)

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Tasks on a worker, those included whose worker is being killed."""
        return len(self._runs)

    def __repr__(self) -> str:
        return (
            f"<ComputeQueue{' closed' * self.closed}: {self.running} of {self._size} busy, "
            f"{self.queued} of {self._bound} queued, {self.refused} refused>"
        )

    # --- Tasks

    def _submitted(self, task: _Task, actions: list[Action]) -> None:
        refusal = self.refusal()
        if refusal is not None:
            self.refused += 1
            actions.append(Settle(task.number, refusal))
        else:
            self._waiting[task.number] = task
            actions.append(Enqueued(task.number, len(self._waiting)))
            self._order.add(task.number, 0 if task.batch else 1, task.added)
            free = sum(worker.state in _FREE for worker in self._workers.values())
            self._wanted = min(self._size, max(self._wanted, len(self._workers) - free + len(self._waiting)))

    def _cancelled(self, number: int, actions: list[Action]) -> None:
        if self._waiting.pop(number, None) is not None:
            actions.append(Settle(number, "cancelled"))
            stale = len(self._order) - len(self._waiting)
            if stale > 64 and stale > len(self._waiting):  # so each sweep is paid for by the cancellations before it
                self._put_in_order()
            return
        key = self._runs.get(number)
        if key is not None and self._workers[key].state == "running":
            self._doom(key, self._workers[key], "cancelled", "", actions)

    def _look(self, cpu: dict[WorkerId, int], actions: list[Action]) -> None:
        for key, used in cpu.items():
            worker = self._workers.get(key)
            if worker is None or worker.state != "running" or worker.task is None:
                continue
            if worker.cpu is None:
                worker.cpu = used
            worker.spent = used - worker.cpu
            budget = worker.task.budget
            if budget is not None and worker.spent > budget:
                why = f"it used {worker.spent / 1e9:.3g} s of CPU time, and its budget is {budget / 1e9:g} s"
                self._doom(key, worker, "over budget", why, actions)

    def _put_in_order(self) -> None:
        self._order = PriorityWithAgeing(_STEP)
        for task in self._waiting.values():
            self._order.add(task.number, 0 if task.batch else 1, task.added)

    def _head(self) -> int | None:
        """The urgency of the task that is next."""
        while (found := self._order.peek()) is not None:
            if found[1] in self._waiting:
                return found[0]
            self._order.select(0)
        return None

    # --- Workers

    def _answer(
        self, key: WorkerId, worker: _Worker, other: int | None, cpu: int | None, now: int, actions: list[Action]
    ) -> None:
        del self._workers[key]
        self._workers[key] = worker
        if self.closed:
            worker.state = "stopping"
            actions.append(Stop(key))
            return
        worker.cpu = cpu
        head = self._head()
        if head is not None and (other is None or head <= other):
            self._assign(key, worker, now, actions)
        elif self._lent:
            worker.state, worker.told = "free", head
            actions.append(Nothing(key, head))
        else:
            worker.state = "waiting"

    def _assign(self, key: WorkerId, worker: _Worker, now: int, actions: list[Action]) -> None:
        """The task that is next; there is one."""
        number = self._order.select(now)
        assert number is not None
        task = self._waiting.pop(number)
        task.given += 1
        worker.state, worker.task, worker.since, worker.spent = "running", task, now, None
        self._runs[number] = key
        actions.append(Assign(key, number, self._head(), now - task.added))

    def _returned(
        self, key: WorkerId, number: int, other: int | None, cpu: int | None, now: int, actions: list[Action]
    ) -> None:
        worker = self._workers.get(key)
        if worker is None or worker.state != "running" or worker.task is None or worker.task.number != number:
            return
        spent = None if cpu is None or worker.cpu is None else cpu - worker.cpu
        self._died = 0
        del self._runs[number]
        worker.task = None
        actions.append(Settle(number, "returned", "", now - worker.since, spent))
        self._answer(key, worker, other, cpu, now, actions)

    def _doom(self, key: WorkerId, worker: _Worker, end: End, why: str, actions: list[Action]) -> None:
        worker.state, worker.end, worker.why = "doomed", end, why
        self.replaced += 1
        actions.append(Kill(key))

    def _lost(self, key: WorkerId, why: str, unread: bool, now: int, actions: list[Action]) -> None:
        worker = self._workers.pop(key, None)
        if worker is None:
            return
        task = worker.task
        if task is not None:
            del self._runs[task.number]
            if worker.state == "doomed":
                actions.append(Settle(task.number, worker.end, worker.why, now - worker.since, worker.spent))
            elif unread and self.closed:
                actions.append(Settle(task.number, "closed"))
            elif unread and task.given < _HOPELESS:
                self._waiting = dict(sorted([(task.number, task), *self._waiting.items()]))  # before what came later
                self._put_in_order()
            else:
                actions.append(Settle(task.number, "crashed", why, now - worker.since, worker.spent))
        if worker.state in ("doomed", "stopping") or self._lent:
            return
        self.replaced += 1
        self._start_at = now + min(_RESTART_CAP, _RESTART_FIRST << min(self._died, 30))
        self._died += 1
        if worker.state == "starting":
            self._stillborn += 1
            if self._stillborn >= _HOPELESS:
                # Whoever waits is told; the next submission is the next try.
                self._wanted = len(self._workers)
                if not self._workers:
                    actions += [
                        Settle(number, "crashed", f"compute workers do not start: {why}") for number in self._waiting
                    ]
                    self._waiting.clear()

    def _short(self) -> bool:
        return not self._lent and len(self._workers) < self._wanted

    def _start(self, now: int, actions: list[Action]) -> None:
        while self._short() and now >= self._start_at:
            key = (self._made, 1)
            self._made += 1
            self._workers[key] = _Worker("starting")
            actions.append(Start(key))

    def _offer(self, now: int, actions: list[Action]) -> None:
        """A task has come, maybe: to one that waits for it, or tell of it those that may be free, if it is more urgent
        than what they were told."""
        head = self._head()
        if head is None:
            return
        for key, worker in reversed(self._workers.items()):  # who worked last has the warmest caches
            if worker.state == "waiting":
                self._assign(key, worker, now, actions)
                return  # there was no other task, or it would not have waited
        for key, worker in self._workers.items():
            if worker.state in ("starting", "free") and (worker.told is None or head < worker.told):
                worker.told = head
                actions.append(Offer(key, head))

    def _close(self, actions: list[Action]) -> None:
        self.closed = True
        actions += [Settle(number, "closed") for number in self._waiting]
        self._waiting.clear()
        for key, worker in self._workers.items():
            if worker.state in _FREE:
                worker.state = "stopping"
                actions.append(Stop(key))
