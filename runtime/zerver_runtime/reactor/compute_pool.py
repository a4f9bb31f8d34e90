"""CPU work in processes of its own: what `ComputeQueue` decides is done here, on an asyncio loop.

A pool belongs to one loop and is called on its thread only. It has workers of its own, spawned when they are needed; or
those of a Node, which it shares with the other schedulers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NoReturn, TypeAlias

import msgspec

from . import compute_protocol as words
from .compute_link import ComputeLink, LentWorker, SpawnedWorker
from .compute_queue import ComputeQueue
from .compute_task import (
    ComputeCancelled,
    ComputeClosed,
    ComputeFull,
    ComputeTask,
    OverBudget,
    Untransferable,
    WorkerDied,
    pack,
    unpack,
)
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

__all__ = ["ComputeEvent", "ComputePool", "ComputeRun", "ComputeStatistics", "Done", "Observe"]

_LAST = 1.0  # seconds that a free worker has to end by itself
_PATIENCE = 5.0  # seconds until a process that was killed is gone; it takes milliseconds

ComputeEvent: TypeAlias = Literal["ComputeTaskScheduled", "ComputeTaskStarted", "ComputeTaskCompleted"]
Done: TypeAlias = Callable[[Any, BaseException | None], object]
"""Takes what the function returned, or an exception: what it raised, or a `ComputeProblem`."""
Observe: TypeAlias = Callable[[ComputeEvent, object, float, object], None]
"""Takes an event, the tag of its task, when it was (seconds, monotonic), and a detail; must not raise:

    ComputeTaskScheduled   how many tasks wait, this one included (int)
    ComputeTaskStarted     seconds that it waited (float)
    ComputeTaskCompleted   `ComputeRun`

Each Scheduled is followed by one Completed, just before `done`. A task that is refused has no event; one that is given
to another worker, since the first died before it began it, has one more Started."""

_log = logging.getLogger("zerver.compute")


class ComputeRun(msgspec.Struct, frozen=True):
    """How a task ended: "returned" also when its function raised."""

    name: str
    end: End
    seconds: float
    """That it ran; 0 when it was not begun."""
    cpu_seconds: float | None
    """CPU time that it used, by its end or when last looked at."""


class ComputeStatistics(msgspec.Struct, frozen=True):
    size: int
    """Workers at most."""
    workers: int
    running: int
    """Tasks on a worker, those included whose worker is being ended."""
    queued: int
    """Tasks that wait for one."""
    completed: int
    """Tasks that were done, however."""
    refused: int
    replaced: int
    """Workers that were ended in the middle of a task, or died."""


class _Pending:
    __slots__ = ("arguments", "done", "name", "result", "tag")

    def __init__(self, name: str, arguments: bytes, done: Done, tag: object) -> None:
        self.name = name
        self.arguments = arguments
        self.done = done
        self.tag = tag
        self.result: bytes | words.Raised = b""


class ComputePool:
    """size: workers at most. queue: tasks that may wait when all are busy. nice: added to the niceness of the workers.
    replace: the workers are lent; `join` brings each, and `lost` tells of its end. This has one killed, whose task has
        to end.
    loop: by default the one that runs when the pool is first used.

    A worker that runs a task which is cancelled or past its budget is killed and replaced. One that dies is replaced
    after a while that grows; a task that it surely had not begun is given to another one.
    """

    def __init__(
        self,
        size: int,
        queue: int = 256,
        *,
        nice: int = 5,
        observe: Observe | None = None,
        replace: Callable[[WorkerId], object] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._size = size
        self._replace = replace
        self._nice = nice
        self._observe = observe
        self._queue = ComputeQueue(size, queue, lent=replace is not None)
        self._pending: dict[int, _Pending] = {}
        self._links: dict[WorkerId, ComputeLink] = {}
        self._numbers = 0
        self._completed = 0
        self._loop = loop
        # Events that are to be handled: what an action brings about waits until all actions before it are done.
        self._events: deque[Event] = deque()
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0
        self._empty: asyncio.Event | None = None  # set when the last worker is gone, while it is closed

    def submit(self, task: ComputeTask, done: Done, tag: object = None) -> Callable[[], None]:
        """Have a worker call the function. `done` is called exactly once on the loop's thread, maybe before this
        returns. tag: for the observer.

        What is returned cancels the task: one that waits is dropped, one that runs is ended with its worker. `done` is
        called then, too, when it has let go. Nothing, when the task is done.
        """
        self._loop = self._loop or asyncio.get_running_loop()
        arguments = b""
        if self._handling or self._queue.refusal() is None:  # nothing is made of what is refused at once
            try:
                arguments = pack(task)
            except Untransferable as problem:
                done(None, problem)
                return _nothing
        self._numbers += 1
        number = self._numbers
        self._pending[number] = _Pending(task.name, arguments, done, tag)
        budget = None if task.cpu_budget is None else int(task.cpu_budget * 1e9)
        self._handle(Submitted(number, task.batch, budget))
        return lambda: self._handle(Cancelled(number))

    async def close(self, grace: float = 1.0) -> None:
        """Take no more, drop what waits, let what runs go on for `grace` seconds, then end it; return when no process
        is left. Closing again waits for the same. What was submitted is done when this returns."""
        self._loop = self._loop or asyncio.get_running_loop()
        if self._empty is None:
            self._empty = asyncio.Event()
        self._handle(Closed())
        empty = self._empty
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(empty.wait(), grace if self._queue.running else _LAST)
        finally:
            self._handle(Halted())
            for link in list(self._links.values()):
                link.kill()
        try:
            await asyncio.wait_for(empty.wait(), _PATIENCE)
        except TimeoutError:
            _log.error("%d compute workers are left behind: they do not end when killed", len(self._links))

    def join(self, worker: WorkerId, end: socket.socket) -> None:
        """A worker is lent; `end` is the link to it, which belongs to the pool from here on."""
        if self._replace is None or self._queue.closed:
            end.close()
            return
        self._loop = self._loop or asyncio.get_running_loop()
        self._links[worker] = LentWorker(self._loop, worker, end, self._replace, self._heard, self._gone)
        self._handle(Joined(worker))

    def lost(self, worker: WorkerId, why: str) -> None:
        """A worker that was lent has ended; why: "signal 9 (Killed)"."""
        link = self._links.get(worker)
        if link is not None:
            link.lose(f"its worker has ended: {why}")

    def statistics(self) -> ComputeStatistics:
        queue = self._queue
        return ComputeStatistics(
            self._size, queue.workers, queue.running, queue.queued, self._completed, queue.refused, queue.replaced
        )

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<ComputePool: {now.running} of {now.size} busy, {now.queued} queued, {now.refused} refused, "
            f"{now.replaced} replaced>"
        )

    # --- Events in, actions out

    def _handle(self, event: Event) -> None:
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                now = time.monotonic_ns()
                for action in self._queue.handle(self._events.popleft(), now):
                    self._do(action, now)
        finally:
            self._handling = False
        if self._empty is not None and not self._links:
            self._empty.set()
        self._arm()

    def _do(self, action: Action, now: int) -> None:
        match action:
            case Start(worker):
                self._start(worker)
            case Enqueued(number, waiting):
                self._tell("ComputeTaskScheduled", self._pending[number], now, waiting)
            case Offer(worker, urgency):
                if link := self._links.get(worker):  # it may just have failed to start
                    link.send(words.Offer(urgency))
            case Assign(worker, number, more, waited):
                pending = self._pending[number]
                link = self._links[worker]
                try:
                    link.send(words.Task(number, pending.name, pending.arguments, more))
                except MemoryError:  # it may have half of it
                    _log.error("%s: no memory to send its arguments to a worker", pending.name)
                    link.kill()
                self._tell("ComputeTaskStarted", pending, now, waited / 1e9)
            case Nothing(worker, more):
                self._links[worker].send(words.Nothing(more))
            case Settle():
                self._settle(action, now)
            case Kill(worker):
                self._links[worker].kill()
            case Stop(worker):
                self._links[worker].stop()

    def _start(self, worker: WorkerId) -> None:
        assert self._loop is not None
        try:
            self._links[worker] = SpawnedWorker(self._loop, worker, self._nice, self._heard, self._gone)
        except (OSError, ValueError) as error:
            _log.error("a compute worker cannot be started: %s", error)
            self._events.append(Lost(worker, f"{type(error).__name__}: {error}"))

    def _heard(self, worker: WorkerId, word: words.FromWorker) -> None:
        match word:
            case words.Hello():
                self._handle(Ready(worker))
            case words.Pull(other):
                self._handle(Pulled(worker, other, self._links[worker].cpu()))
            case words.Returned(number, result, other):
                pending = self._pending.get(number)
                if pending is not None:
                    pending.result = result
                self._handle(Returned(worker, number, other, self._links[worker].cpu()))

    def _gone(self, worker: WorkerId, why: str, unread: bool) -> None:
        self._links.pop(worker, None)
        self._handle(Lost(worker, why, unread))

    def _settle(self, settled: Settle, now: int) -> None:
        pending = self._pending.pop(settled.task)
        self._completed += 1
        cpu = None if settled.cpu is None else settled.cpu / 1e9
        if settled.end != "refused":
            self._tell(
                "ComputeTaskCompleted", pending, now, ComputeRun(pending.name, settled.end, settled.ran / 1e9, cpu)
            )
        value: Any = None
        problem: BaseException | None = None
        if settled.end == "returned":
            value, problem = unpack(pending.name, pending.result)
        else:
            problem = _problem(pending.name, settled)
        try:
            pending.done(value, problem)
        except BaseException as error:  # its own bug, and nobody's above it on the stack
            assert self._loop is not None
            self._loop.call_soon(_raise, error)

    def _tell(self, event: ComputeEvent, pending: _Pending, now: int, detail: object) -> None:
        if self._observe is not None:
            self._observe(event, pending.tag, now / 1e9, detail)

    # --- Time

    def _arm(self) -> None:
        """One timer, and none while nothing is due. It may fire early: that costs less than a new one each time."""
        now = time.monotonic_ns()
        due = self._queue.wake_at(now)
        timer = self._timer
        if due is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
            return
        if timer is not None:
            if self._due <= due:
                return
            timer.cancel()
        assert self._loop is not None
        self._due = due
        self._timer = self._loop.call_later(max(0, due - now) / 1e9, self._tick)

    def _tick(self) -> None:
        self._timer = None
        readings = {}
        for worker in self._queue.watched():
            cpu = self._links[worker].cpu()
            if cpu is not None:
                readings[worker] = cpu
        self._handle(Tick(readings))


_ENDS: dict[End, tuple[type[Exception], str]] = {
    "refused": (ComputeFull, "too many compute tasks wait"),
    "closed": (ComputeClosed, "the compute pool was closed"),
    "cancelled": (ComputeCancelled, "it was cancelled"),
    "crashed": (WorkerDied, ""),
    "over budget": (OverBudget, ""),
}


def _problem(name: str, settled: Settle) -> Exception:
    kind, what = _ENDS[settled.end]
    return kind(f"{name}: {settled.why or what}")


def _raise(error: BaseException) -> NoReturn:
    raise error


def _nothing() -> None:
    pass
