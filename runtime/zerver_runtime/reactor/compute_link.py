"""A compute worker from the outside: the link to it, its CPU time, and, where it was spawned here, its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..link import SocketLink
from . import compute_protocol as words
from .compute_words import WorkerId

__all__ = ["ComputeLink", "LentWorker", "SpawnedWorker", "cpu_time"]

_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from {0} import main; main(int(sys.argv[2]), int(sys.argv[3]))"
_PATIENCE = 0.25  # seconds until somebody else who sees to a process has told that it ended
_LOOK = 0.01  # seconds between looks at whether a process has ended, where the system does not tell
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

Heard = Callable[[WorkerId, words.FromWorker], object]
Gone = Callable[[WorkerId, str, bool], object]
"""Called once, when the worker is gone and all that it said was heard: with why, and whether it surely has not read the
last that it was told."""


def cpu_time(pid: int) -> int | None:
    """Nanoseconds of CPU time that all threads of a process have used; None: there is no such process, or no way to
    know."""
    try:
        # clock_getcpuclockid(3): how Linux numbers the CPU clock of a process (include/linux/posix-timers.h).
        return time.clock_gettime_ns((~pid << 3) | 2)
    except (OSError, OverflowError):
        pass
    try:
        # proc_pid_stat(5): utime and stime are fields 14 and 15; the second is a name in parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK
    except (OSError, ValueError, IndexError):
        return None


class ComputeLink:
    """The words of one worker. Owns `end`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, worker: WorkerId, end: socket.socket, heard: Heard, gone: Gone
    ) -> None:
        self.worker = worker
        self.pid: int | None = None
        """Known from its first word on."""
        self._heard = heard
        self._gone: Gone | None = gone
        self._stream = words.stream()
        self._link = SocketLink(loop, end, words.MOST_BYTES)
        self._link.start(self._read, _nothing, self._lost)
        self.send(words.Path([os.path.abspath(entry) for entry in sys.path]))

    def send(self, word: words.ToWorker) -> None:
        self._link.write(words.frame(word))

    def cpu(self) -> int | None:
        return None if self.pid is None else cpu_time(self.pid)

    def kill(self) -> None:
        """End it now, whatever it does."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let it go. It is gone at once where it is not ours."""
        self._link.close()

    def lose(self, why: str) -> None:
        """Hear its last words, and take it for gone."""
        gone, self._gone = self._gone, None
        self._link.read()
        self._link.close()
        if gone is not None:
            gone(self.worker, why, self._link.unread)

    def _lost(self, why: str) -> None:
        self.lose(why)

    def _read(self, data: bytes) -> None:
        try:
            for frame in self._stream.feed(data):
                word = words.from_worker(frame.payload)
                if isinstance(word, words.Hello):
                    self.pid = word.pid
                self._heard(self.worker, word)
        except msgspec.MsgspecError as error:
            self._broken(f"it said a word that is none: {error}")
        if self._stream.error is not None:
            self._broken(str(self._stream.error))

    def _broken(self, why: str) -> None:
        # A task got hold of the channel, and what follows on it cannot be trusted.
        self._link.close()
        self.kill()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.worker}: pid {self.pid}, {self._link!r}>"


class LentWorker(ComputeLink):
    """A process that somebody else sees to, and who tells (`lose`) when it has ended.

    replace: has it killed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        worker: WorkerId,
        end: socket.socket,
        replace: Callable[[WorkerId], object],
        heard: Heard,
        gone: Gone,
    ) -> None:
        self._loop = loop
        self._replace = replace
        self._late: asyncio.TimerHandle | None = None
        super().__init__(loop, worker, end, heard, gone)

    def kill(self) -> None:
        self._replace(self.worker)

    def stop(self) -> None:
        super().stop()
        self.lose("let go")

    def lose(self, why: str) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        super().lose(why)

    def _lost(self, why: str) -> None:
        # Its process has ended, or else a task has closed the channel.
        if self._gone is not None:
            self._late = self._loop.call_later(_PATIENCE, self.kill)


class SpawnedWorker(ComputeLink):
    """A process of our own: an interpreter from scratch, never a fork of this one, whose locks it would copy as they
    are. It leads a process group, so that a kill reaches what its task has started.

    OSError, ValueError: it cannot be started.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, worker: WorkerId, nice: int, heard: Heard, gone: Gone) -> None:
        ours, theirs = socket.socketpair()
        root = os.fspath(Path(__file__).resolve().parents[2])
        boot = _BOOT.format(f"{__package__}.compute_worker")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", boot, root, str(theirs.fileno()), str(nice)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._loop = loop
        self._exited: int | None = None
        with contextlib.suppress(OSError, AttributeError):  # an old system, or none that is Linux
            self._exited = os.pidfd_open(self._process.pid)
        super().__init__(loop, worker, ours, heard, gone)
        self.pid = self._process.pid
        if self._exited is not None:
            loop.add_reader(self._exited, self._reap)

    def kill(self) -> None:
        if self._process.returncode is None:  # so its pid is nobody else's
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _lost(self, why: str) -> None:
        # It has closed its end, and may live on.
        self.kill()
        if self._exited is None:
            self._reap()

    def stop(self) -> None:
        super().stop()
        if self._exited is None:
            self._reap()

    def _reap(self) -> None:
        status = self._process.poll()
        if status is None:
            if self._exited is None:
                self._loop.call_later(_LOOK, self._reap)
            return
        if self._exited is not None:
            self._loop.remove_reader(self._exited)
            os.close(self._exited)
            self._exited = None
        self.lose(_shown(status))


def _shown(status: int) -> str:
    if status >= 0:
        return f"its worker ended by itself (exit code {status})"
    return f"its worker was ended by signal {-status} ({signal.strsignal(-status)})"


def _nothing() -> None:
    pass
