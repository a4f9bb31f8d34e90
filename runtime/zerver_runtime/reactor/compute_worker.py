"""A compute worker from the inside: takes tasks from schedulers, one at a time, and runs each on its main thread.

It waits for words while it is free, and reads none while it works: whoever wants a task to end kills the process. What
a task prints goes where the parent's output goes; results have a channel of their own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

import msgspec

from . import compute_protocol as words
from .compute_task import call, unpack

__all__ = ["ComputeWorker", "main"]

_READ = 1024 * 1024
_LOOK = 0.5  # seconds between looks at whether there is a task to watch over
_ABANDONED = 5  # exit code: nobody waits any more for what it was working on


class _Scheduler:
    """One that this worker works for, at the other end of `end`."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.stream = words.stream()
        self.urgency: int | None = None
        """Of the best that it has on offer; None: nothing."""


class ComputeWorker:
    """Owns the ends that it is given."""

    def __init__(self) -> None:
        self._schedulers: dict[int, _Scheduler] = {}
        self._others: dict[int, Callable[[], bool]] = {}
        self._poll = select.poll()
        # Whose answer to a Pull or Returned is to come; until then it is nobody else's.
        self._asked: _Scheduler | None = None
        # Whose task runs; read by the thread that watches.
        self._working_for: _Scheduler | None = None
        self._pid = os.getpid()

    def attach(self, end: socket.socket) -> None:
        """Work for the scheduler at the other end, until that is closed."""
        end.setblocking(True)
        self._schedulers[end.fileno()] = scheduler = _Scheduler(end)
        self._poll.register(end, select.POLLIN)
        self._send(scheduler, words.Hello(os.getpid()))

    def listen(self, fd: int, readable: Callable[[], bool]) -> None:
        """Call this when there is something to read; False from it ends `run`."""
        self._others[fd] = readable
        self._poll.register(fd, select.POLLIN)

    def ignore(self, fd: int) -> None:
        """Listen to it no more."""
        if self._others.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def run(self) -> None:
        """Work, until there is nobody left to work for or to listen to."""
        threading.Thread(target=self._watch, name="zerver-compute-watch", daemon=True).start()
        while self._schedulers or self._others:
            self._pull()
            for fd, _ in self._poll.poll():
                readable = self._others.get(fd)
                if readable is not None:
                    if not readable():
                        return
                elif (scheduler := self._schedulers.get(fd)) is not None:
                    self._hear(scheduler)

    # --- Words

    def _pull(self) -> None:
        """Ask for the most urgent task there is."""
        while self._asked is None:
            offers = [one for one in self._schedulers.values() if one.urgency is not None]
            best = min(offers, key=_urgency, default=None)
            if best is None:
                return
            best.urgency = None
            self._asked = best
            self._send(best, words.Pull(self._elsewhere(best)))

    def _elsewhere(self, here: _Scheduler) -> int | None:
        urgencies = [one.urgency for one in self._schedulers.values() if one is not here and one.urgency is not None]
        return min(urgencies, default=None)

    def _hear(self, scheduler: _Scheduler) -> None:
        try:
            data = scheduler.end.recv(_READ, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose(scheduler)
            return
        for frame in scheduler.stream.feed(data):
            try:
                word = words.to_worker(frame.payload)
            except msgspec.MsgspecError as error:
                sys.stderr.write(f"compute worker {os.getpid()}: a word that is none: {error}\n")
                self._lose(scheduler)
                return
            self._heard(scheduler, word)
        if scheduler.stream.error is not None:
            self._lose(scheduler)

    def _heard(self, scheduler: _Scheduler, word: words.ToWorker) -> None:
        match word:
            case words.Offer(urgency):
                scheduler.urgency = urgency
            case words.Path(entries):
                sys.path[:] = entries
            case words.Nothing(more):
                scheduler.urgency = more
                if self._asked is scheduler:
                    self._asked = None
            case words.Task(number, name, arguments, more):
                scheduler.urgency = more
                self._asked = scheduler
                self._work(scheduler, number, name, arguments)

    def _work(self, scheduler: _Scheduler, number: int, name: str, arguments: bytes) -> None:
        self._working_for = scheduler
        result = call(name, arguments)
        for output in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):  # the function may have closed or replaced it
                output.flush()
        if os.getpid() != self._pid:
            # The function has forked, and its child came back as well, or exited. Its parent is the one that answers.
            os._exit(_status(unpack(name, result)[1]))
        self._send(scheduler, words.Returned(number, result, self._elsewhere(scheduler)))
        self._working_for = None

    def _send(self, scheduler: _Scheduler, word: words.FromWorker) -> None:
        try:
            scheduler.end.sendall(words.frame(word))
        except OSError:
            self._lose(scheduler)

    def _lose(self, scheduler: _Scheduler) -> None:
        fd = scheduler.end.fileno()
        if fd >= 0:
            self._poll.unregister(fd)
            del self._schedulers[fd]
            scheduler.end.close()
        if self._asked is scheduler:
            self._asked = None

    # --- The watch

    def _watch(self) -> None:
        """On a thread of its own: a task whose scheduler is gone would run on with nobody to end it."""
        while True:
            scheduler = self._working_for
            if scheduler is None:
                time.sleep(_LOOK)
                continue
            poll = select.poll()
            try:
                poll.register(scheduler.end, 0)  # only its hang-up
            except (OSError, ValueError):  # closed meanwhile
                continue
            if poll.poll(_LOOK * 1000) and self._working_for is scheduler:
                if os.getpgrp() == os.getpid():
                    os.killpg(0, signal.SIGKILL)  # and what the task has started
                os._exit(_ABANDONED)


def _status(problem: BaseException | None) -> int:
    """The exit code of a process that ends like this."""
    if isinstance(problem, SystemExit) and (problem.code is None or isinstance(problem.code, int)):
        return (problem.code or 0) & 0xFF
    return 0 if problem is None else 1


def _urgency(scheduler: _Scheduler) -> int:
    return scheduler.urgency or 0


def main(fd: int, nice: int) -> None:
    """Of a process that was spawned: work for the one at the other end of a socket."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The parent says when to stop. No SIG_IGN, which programs that a task starts would inherit.
        signal.signal(number, _ignore)
    if nice:
        with contextlib.suppress(OSError):
            os.nice(nice)
    worker = ComputeWorker()
    worker.attach(socket.socket(fileno=fd))
    worker.run()


def _ignore(number: int, frame: object) -> None:
    pass
