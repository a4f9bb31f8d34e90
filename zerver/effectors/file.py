"""Performs ``file`` effects, on threads of its own."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Callable
from typing import Any, Final

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.threads import Job, PoolClosed, ThreadPool

from ..effect import Effect
from ..effects.file import FileRead
from ..error import Error, ErrorKind
from .base import Done, cancelled, closed, hand_over, internal
from .folder import Folder, FolderProblem, Stopped

__all__ = ["FileEffector", "file_failure"]

_THREADS: Final = 4
_PATIENCE: Final = 2.0  # seconds that close() waits for a disk that does not answer

_log = logging.getLogger("zerver.effects")


class FileEffector:
    """``root``: the folder; ``max_bytes``: of one file.

    Raw results are ``bytes`` for ``read``, and ``None``. An attempt that is cancelled is done when its thread has
    noticed; a write has changed nothing then, or all.
    """

    def __init__(self, root: str, *, max_bytes: int) -> None:
        self._folder = Folder(root, max_bytes)
        # What waits here is bounded above, by the bulkhead.
        self._pool = ThreadPool(_THREADS, sys.maxsize, name="zerver-file")
        self._runs: set[_Run] = set()

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        run = _Run(self._folder, self._runs, effect, done)
        job = self._pool.submit(run.on_thread, run.finished)
        if job is None:
            done(closed(effect))
            return None
        run.job = job
        self._runs.add(run)
        return run.cancel

    async def close(self) -> None:
        """Cancel what is in flight and end the threads. One that hangs in the kernel is left behind after 2 seconds; it
        keeps no process alive."""
        loop = asyncio.get_running_loop()
        for run in list(self._runs):
            run.cancel()
        gone = asyncio.Event()
        self._pool.close(functools.partial(hand_over, loop, gone.set))
        try:
            async with asyncio.timeout(_PATIENCE):
                await gone.wait()
        except TimeoutError:
            _log.warning("the disk did not answer for %g s; %d attempts are left behind", _PATIENCE, len(self._runs))

    def __repr__(self) -> str:
        return f"<FileEffector: {len(self._runs)} in flight>"


def file_failure(effect: Effect[Any], path: str, problem: FolderProblem | OSError) -> Failure:
    """What a folder could not do. Permissions and a full disk are not the client's fault, and not to be told."""
    if isinstance(problem, OSError):
        return internal(effect, f"{path!r}: {problem}", problem)
    if problem.kind is ErrorKind.INTERNAL:
        return internal(effect, f"{path!r}: {problem.what}")
    return Failure(Error(problem.kind, f"{effect.label}: {problem.what}"))


class _Run:
    """One attempt, from the queue to its ``done``."""

    __slots__ = ("_done", "_effect", "_folder", "_loop", "_runs", "_stopped", "job")

    def __init__(self, folder: Folder, runs: set[_Run], effect: Effect[Any], done: Done) -> None:
        self._folder = folder
        self._runs = runs
        self._effect = effect
        self._done: Done | None = done
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self.job: Job | None = None

    def cancel(self) -> None:
        """Leave the queue, or have the thread notice."""
        self._stopped = True
        if self._done is not None and self.job is not None and self.job.cancel():
            self._settle(cancelled(self._effect))

    def on_thread(self) -> Outcome:
        effect, args = self._effect, self._effect.args
        try:
            if isinstance(args, FileRead):
                return Success(self._folder.read(args.path, self._is_stopped))
            self._folder.write(args.path, args.content, self._is_stopped)
        except Stopped:
            return cancelled(effect)
        except (FolderProblem, OSError) as problem:
            return file_failure(effect, args.path, problem)
        return Success(None)

    def finished(self, outcome: Outcome | None, problem: BaseException | None) -> None:
        """On the thread, or where the pool was closed."""
        if outcome is None:
            what = f"{type(problem).__name__} on its thread"
            outcome = closed(self._effect) if isinstance(problem, PoolClosed) else internal(self._effect, what, problem)
        hand_over(self._loop, self._settle, outcome)

    def _is_stopped(self) -> bool:
        return self._stopped

    def _settle(self, outcome: Outcome) -> None:
        done, self._done = self._done, None
        self._runs.discard(self)
        if done is not None:
            done(outcome)
