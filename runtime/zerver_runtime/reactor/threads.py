"""A bounded pool of daemon threads for work that blocks.

The pool grows one thread at a time, when a job comes and no thread is free for it, up to `size`; then up to
`queue` jobs wait, and more are refused. Threads stay until the pool is closed. They are daemons: a job that
hangs never keeps the process alive, which is why this is not `concurrent.futures`, whose threads are joined at
exit.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

__all__ = ["Done", "Job", "PoolClosed", "ThreadPool", "ThreadPoolStatistics"]

Done: TypeAlias = Callable[[Any, BaseException | None], object]
"""Takes what a job returned, or what it raised."""

_log = logging.getLogger("zerver.threads")


class PoolClosed(Exception):
    """What `done` of a job gets that was waiting when its pool was closed."""


class ThreadPoolStatistics(msgspec.Struct, frozen=True):
    size: int
    """Threads at most."""
    threads: int
    running: int
    """Jobs on a thread."""
    queued: int
    """Jobs that wait for one."""
    completed: int
    refused: int


class Job:
    """A job that a pool has accepted."""

    __slots__ = ("_done", "_pool", "_work")

    def __init__(self, pool: ThreadPool, work: Callable[[], Any], done: Done | None) -> None:
        self._pool = pool
        self._work = work
        self._done = done

    def cancel(self) -> bool:
        """Take it out of the queue. True: it will never run, and its `done` is not called. False: it has begun, and
        nothing was done about it."""
        return self._pool._remove(self)

    def run(self) -> tuple[Any, BaseException | None]:
        """For the pool."""
        try:
            return self._work(), None
        except BaseException as problem:  # work may raise anything; it belongs to who waits for it
            return None, problem

    def finish(self, value: Any, problem: BaseException | None) -> None:
        """For the pool."""
        if self._done is None:
            if problem is not None and not isinstance(problem, PoolClosed):
                _log.error("a job failed, and nobody waits for it", exc_info=problem)
            return
        try:
            self._done(value, problem)
        except BaseException:  # must not end the thread, which others count on
            _log.exception("taking the result of a job failed")


class ThreadPool:
    """All methods may be called on any thread, and none waits.

    ending: called on each thread of the pool as it ends, so that a job may keep something open on its thread.
    """

    def __init__(
        self, size: int, queue: int, *, name: str = "zerver", ending: Callable[[], object] | None = None
    ) -> None:
        self._size = size
        self._queue = queue
        self._name = name
        self._ending = ending
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        # Guarded by the lock.
        self._jobs: OrderedDict[Job, None] = OrderedDict()
        self._threads = 0
        self._coming = 0  # of the threads, those on their way to take a job: they start, or hand over a result
        self._idle = 0  # of the threads, those that wait for one
        self._running = 0
        self._completed = 0
        self._refused = 0
        self._closed = False
        self._when_closed: list[Callable[[], object]] = []

    def submit(self, work: Callable[[], Any], done: Done | None = None) -> Job | None:
        """Run `work` on a thread, then call `done` with its result there. None: the pool is full, or closed."""
        job = Job(self, work, done)
        with self._lock:
            if self._closed or not self._room():
                self._refused += 1
                return None
            self._jobs[job] = None
            self._wake.notify()
        return job

    def close(self, closed: Callable[[], object] | None = None) -> None:
        """End the threads that are idle now, and the others after their job; `closed` is called when all have ended, on
        the last of them or at once. Jobs that wait are dropped: their `done` gets a `PoolClosed`, on this thread.
        Closing again does nothing but call `closed`, too."""
        with self._lock:
            self._closed = True
            dropped, self._jobs = self._jobs, OrderedDict()
            self._wake.notify_all()
            ended = self._threads == 0
            if closed is not None and not ended:
                self._when_closed.append(closed)
        for job in dropped:
            job.finish(None, PoolClosed(f"thread pool {self._name} was closed"))
        if closed is not None and ended:
            closed()

    def statistics(self) -> ThreadPoolStatistics:
        with self._lock:
            return ThreadPoolStatistics(
                self._size, self._threads, self._running, len(self._jobs), self._completed, self._refused
            )

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<ThreadPool {self._name}: {now.running} of {now.size} busy, {now.queued} queued, {now.refused} refused>"
        )

    def _room(self) -> bool:
        """Whether one more job can be taken; makes a thread for it if none is free and one may be made."""
        waiting = len(self._jobs) - self._idle - self._coming  # jobs that no thread is free for
        if waiting < 0:
            return True
        if self._threads < self._size:
            # Counted before it starts: it may run before start() returns.
            self._threads += 1
            self._coming += 1
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{self._threads}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads
                self._threads -= 1
                self._coming -= 1
                return self._threads > 0 and waiting < self._queue
            return True
        return waiting < self._queue

    def _remove(self, job: Job) -> bool:
        with self._lock:
            if job not in self._jobs:
                return False
            del self._jobs[job]
            return True

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            value, problem = job.run()
            with self._lock:
                self._running -= 1
                self._completed += 1
                self._coming += 1  # before it hands over: the next job may come in answer to this one
            job.finish(value, problem)
            del job, value, problem  # an idle thread must not keep the last job's result alive
        if self._ending is not None:
            try:
                self._ending()
            except BaseException:  # `closed` must be called whatever happens
                _log.exception("ending a thread of pool %s failed", self._name)
        with self._lock:
            self._threads -= 1
            waiting = self._when_closed if self._threads == 0 else []
            if waiting:
                self._when_closed = []
        for closed in waiting:
            try:
                closed()
            except BaseException:
                _log.exception("telling that pool %s is closed failed", self._name)

    def _next(self) -> Job | None:
        with self._lock:
            self._coming -= 1
            while not self._jobs:
                if self._closed:
                    return None
                self._idle += 1
                try:
                    self._wake.wait()
                finally:
                    self._idle -= 1
            self._running += 1
            return self._jobs.popitem(last=False)[0]
