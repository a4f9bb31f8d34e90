"""The task system of one loop: the continuation queue, and the threads for what may not run on the loop.

Continuations run on the loop's thread in turns, which are bounded in number and time, so that I/O never waits for
long. What may not run there (see `offloading`) runs on threads: what blocks on a pool of them, what burns CPU on one.
Results of all threads come back in one wake-up of the loop.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from ..discipline import PriorityWithAgeing
from ..run_queue import RunQueue
from .controlled_delay import ControlledDelay
from .thread_clock import ThreadClock
from .threads import ThreadPool

__all__ = [
    "BATCH", "CONTINUE", "START", "SWITCH_INTERVAL", "Measured", "Returned", "Task", "TaskSystem",
    "TaskSystemStatistics",
]  # fmt: skip

BATCH, START, CONTINUE = 0, 1, 2
"""Priorities: what was begun is finished before more is begun. Each millisecond of waiting counts for one more, so that
nothing starves: not even behind requests that go on for ever, whose steps always come first."""

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that holds the interpreter gives it to one that wants it. Measured with
`python -m bench offload`: with one busy thread beside the loop, at Python's own 5 ms the loop gets it back 200 times a
second at most."""

_SLICE = 2_000_000  # nanoseconds
_AGEING = 1_000_000  # nanoseconds of waiting that make up for one priority: well below what turns new work away
_STALL = 20_000_000  # nanoseconds: what takes longer in one piece is no sign of too much work, but of one bad piece

_log = logging.getLogger("zerver.tasks")


class Task(Protocol):
    """What waits in the continuation queue."""

    def proceed(self) -> None:
        """Its turn has come. May raise nothing: what it raises is logged, and ends nothing."""
        ...


class Measured(msgspec.Struct, frozen=True):
    """A run on a thread, in nanoseconds: of the clock on the wall, less the time in which the machine ran others, and
    of the CPU."""

    value: Any
    took_ns: int
    cpu_ns: int


Returned: TypeAlias = Callable[[Measured | None], object]
"""Takes what a run on a thread gave; None when it was never begun, because the system was closed."""


class TaskSystemStatistics(msgspec.Struct, frozen=True):
    queued: int
    """Tasks that wait for their turn on the loop."""
    refused: int
    """New work that was turned away, because the queue was full, or kept it waiting for too long."""
    running: int
    """Tasks on a thread."""
    waiting: int
    """Tasks that wait for a thread."""


class _ShortInterval:
    """The interpreter's switch interval is one for the whole process, where each loop may have a task system: short
    from the first that holds it to the last, then what it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before = 0.0

    def hold(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(SWITCH_INTERVAL, self._before))

    def let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                sys.setswitchinterval(self._before)


_SHORT_INTERVAL = _ShortInterval()


class TaskSystem:
    """All calls on the loop's thread.

    call_soon, call_soon_threadsafe: the loop's. clock: monotonic, in nanoseconds.
    bound: how many tasks may wait in the continuation queue before new work is refused.
    size, waiting: threads for what blocks, and how many tasks may wait for one; there is one thread for what burns.
    delayed: nanoseconds for which the system has kept the loop's thread from running (see `ThreadClock`). While it runs
        others nothing moves here, but that is no reason to turn work away: so turns and waits are measured in the
        loop's own time, which is the clock's less these.
    """

    def __init__(
        self,
        call_soon: Callable[..., object],
        call_soon_threadsafe: Callable[..., object],
        clock: Callable[[], int],
        *,
        bound: int,
        size: int,
        waiting: int,
        delayed: Callable[[], int] = lambda: 0,
    ) -> None:
        self._call_soon = call_soon
        self._call_soon_threadsafe = call_soon_threadsafe
        self._clock = clock
        self._delayed = delayed
        self._stalled = 0  # nanoseconds, of all stalls
        self._lost = delayed()  # with the stalls, when it was last asked
        self._bound = bound
        self._blocking = ThreadPool(size, waiting, name="zerver-step")
        self._burning = ThreadPool(1, waiting, name="zerver-busy")
        self._closed = False
        _SHORT_INTERVAL.hold()  # not for its own threads alone: those of effects and of the trace store are as busy
        # The continuation queue.
        self._queue: RunQueue[Task] = RunQueue(PriorityWithAgeing(_AGEING))
        self._size = 0
        self._refused = 0
        self._scheduled = False
        self._due = 0  # when the next turn could have been, at the soonest
        self._slice_ends = self.now()  # of work that runs at once
        self._went_round = True  # the loop, since that began
        self._new = 0  # of its tasks, those that were offered
        self._delay = ControlledDelay(self.now())
        # Threads append to the first, and set the second; the loop takes.
        self._returned: deque[tuple[Returned, Measured | None]] = deque()
        self._woken = False

    # The continuation queue

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._size

    def now(self) -> int:
        """The loop's own time, in nanoseconds."""
        return self._clock() - self._lost

    def at_once(self) -> bool:
        """Whether new work may run where it is, without queueing: when nothing waits, and the loop goes round. Where
        much comes in one round, the first `_SLICE` of it runs at once, and the rest queues: else work that was begun
        would wait for all of it, and nothing would know how long."""
        if self._size:
            return False
        if self._clock() - self._lost >= self._slice_ends:
            self._lost = self._delayed() + self._stalled
            now = self.now()
            if now >= self._slice_ends:
                if not self._went_round:
                    return False
                self._slice_ends = now + _SLICE
                self._went_round = False
                self._call_soon(self._goes_round)
        self._delay.begun += 1
        return True

    def _goes_round(self) -> None:
        self._went_round = True

    def add(self, task: Task, priority: int) -> None:
        """Let a task proceed when its turn comes. Never refused: its request was let in."""
        now = self.now()
        self._queue.add(task, priority, now)
        self._size += 1
        if not self._scheduled:
            self._scheduled = True
            self._due = now
            self._delay.empty(now)
            self._call_soon(self._turn)

    def has_room(self) -> bool:
        """Whether new work may be offered. If not, it is counted as refused."""
        if self._size < self._bound and not self._closed and self._delay.admits(self._new, self.now()):
            return True
        self._refused += 1
        return False

    def offer(self, task: Task) -> None:
        """`add` for new work that there is room for. In its turn it asks whether it is in time."""
        self._new += 1
        self.add(task, START)

    def in_time(self, since: int) -> bool:
        """Whether work that was offered at `since`, as `now()` told, and has its turn, may begin: else it had better be
        refused. To be asked once for each."""
        self._new -= 1
        now = self.now()
        if self._delay.late(now - since, now):
            self._refused += 1
            return False
        return True

    def _turn(self) -> None:
        """One turn; then I/O has its own, before the next."""
        queue, now = self._queue, self.now
        self._lost = self._delayed() + self._stalled
        self._forgive(now() - self._due)
        before = now()
        queue.begin(before)
        try:
            while (task := queue.task(before)) is not None:
                self._size -= 1
                try:
                    task.proceed()
                except Exception:  # others count on the turn going on
                    _log.exception("%r failed", task)
                self._forgive(now() - before)
                before = now()
        finally:
            self._due = now()
            if self._size:
                self._call_soon(self._turn)
            else:
                self._scheduled = False
                self._delay.empty(now())

    def _forgive(self, took: int) -> None:
        """One thing has taken so long: a step that blocks and was not yet known to, an import, a collection of garbage.
        What waited meanwhile has not waited because there is too much of it."""
        if took > _STALL:
            self._stalled += took - _STALL
            self._lost += took - _STALL

    # Threads

    def run_on_thread(
        self, lane: Literal["blocks", "burns"], work: Callable[[], Any], returned: Returned
    ) -> Callable[[], bool] | None:
        """Run `work` on a thread, and call `returned` with what it gave, on the loop. What `work` raises ends nothing,
        is logged, and comes back as the value None, so it had better not raise.

        Given back is what takes it out again: False when it runs already. None: there is no room."""
        pool = self._blocking if lane == "blocks" else self._burning

        def measured() -> Measured:
            machine = ThreadClock()  # of the thread that this runs on
            delayed, began, cpu = machine.delayed(), time.perf_counter_ns(), time.thread_time_ns()
            value = work()
            ran, took = time.thread_time_ns() - cpu, time.perf_counter_ns() - began
            took -= min(machine.delayed() - delayed, max(took - ran, 0))
            machine.close()
            return Measured(value, took, ran)

        def done(value: Measured | None, problem: BaseException | None) -> None:
            self._returned.append((returned, value))
            if not self._woken:
                self._woken = True
                try:
                    self._call_soon_threadsafe(self._take)
                except RuntimeError:  # the loop is closed, and nobody waits any more
                    self._returned.clear()

        job = pool.submit(measured, done)
        return None if job is None else job.cancel

    def _take(self) -> None:
        self._woken = False  # before they are taken: who appends from here on wakes the loop again
        while self._returned:
            returned, value = self._returned.popleft()
            try:
                returned(value)
            except Exception:
                _log.exception("taking a result failed")

    # The end

    def close(self) -> None:
        """Refuse new work, and end the threads: idle ones now, the others after their task. Tasks that wait for a
        thread are dropped, and told so; those in the queue still proceed. Twice does nothing."""
        if self._closed:
            return
        self._closed = True
        _SHORT_INTERVAL.let_go()
        self._blocking.close()
        self._burning.close()

    def statistics(self) -> TaskSystemStatistics:
        blocking, burning = self._blocking.statistics(), self._burning.statistics()
        return TaskSystemStatistics(
            self._size, self._refused, blocking.running + burning.running, blocking.queued + burning.queued
        )

    def __repr__(self) -> str:
        return f"<TaskSystem: {self._size} queued>"
