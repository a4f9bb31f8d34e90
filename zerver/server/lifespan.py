"""Lifespans by the ASGI protocol: of the app that a server serves, and of those that are mounted in it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from ..error import AppError, ZerverError
from ..site import AsgiApp
from .app_traceback import first_app_line

__all__ = ["AppLifespan", "mounted_lifespan"]

_log = logging.getLogger("zerver")


class AppLifespan:
    """The app's own, for a server. Its failures are raised, and said nowhere else."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._problem: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """:raises AppError: the app could not start."""
        self._task = asyncio.create_task(self._run())
        with _silence():  # until the app has ended: it may fail just when nobody waits for its answer any more
            try:
                await self._exchange("startup")
            except BaseException:
                self._task.cancel()
                await asyncio.wait((self._task,))
                raise

    async def stop(self) -> None:
        """:raises AppError: the app could not stop as it should."""
        with _silence():
            await self._exchange("shutdown")

    async def _exchange(self, phase: str) -> None:
        self._answered.clear()
        self._to_app.put_nowait({"type": f"lifespan.{phase}"})
        await self._answered.wait()
        if self._problem is not None:
            _log.debug("the app's %s failed", phase, exc_info=self._problem)
            raise _failure(phase, self._problem) from self._problem

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._app(scope, self._to_app.get, self._send)
        except Exception as problem:
            self._problem = problem
        finally:
            self._answered.set()

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"].endswith(".failed"):
            self._problem = sys.exception() or AppError(message.get("message", ""))  # it is sent while handling that
        self._answered.set()


class _Silence(logging.Filter):
    """Drops the record of a failed lifespan: the failure is raised, once."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record."""
        return not (record.exc_info and str(record.msg).startswith("lifespan "))


@contextmanager
def _silence() -> Iterator[None]:
    silence = _Silence()
    _log.addFilter(silence)
    try:
        yield
    finally:
        _log.removeFilter(silence)


def _failure(phase: str, problem: BaseException) -> AppError:
    if isinstance(problem, ZerverError):
        reason = str(problem)
    else:
        reason = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    line = first_app_line(problem)
    return AppError(f"the app's {phase} failed: {reason}" + (f" ({line})" if line else ""))


@asynccontextmanager
async def mounted_lifespan(app: AsgiApp, where: str) -> AsyncIterator[dict[str, Any]]:
    """Start an ASGI app by the lifespan protocol (ASGI 3.0), and stop it at the end. Gives the state that the app keeps
    for its requests. An app that does not take the first message does not know the protocol, and is left alone.

    :raises AppError: its start or stop failed.
    """
    mounted = _Mounted(app, where)
    try:
        running = await mounted.tell("startup")
        try:
            yield mounted.state
        finally:
            if running:
                await mounted.tell("shutdown")
    finally:
        await mounted.end()


class _Mounted:
    def __init__(self, app: AsgiApp, where: str) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._where = where
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._asked = False
        self._task = asyncio.create_task(self._run())

    async def tell(self, phase: str) -> bool:
        """Whether the app has done its part; not, when it returned instead.

        :raises AppError: it failed.
        """
        self._to_app.put_nowait({"type": f"lifespan.{phase}"})
        answer = await self._from_app.get()
        reason = answer.get("message") or "no reason given"
        if answer["type"] == "returned":
            (problem,) = await asyncio.gather(self._task, return_exceptions=True)
            if problem is None or not self._asked:
                return False
            reason = f"{type(problem).__name__}: {problem}"
        elif answer["type"] == f"lifespan.{phase}.complete":
            return True
        when = "start" if phase == "startup" else "stop"
        raise AppError(f"mount {self._where}: its lifespan failed at {when}: {reason}")

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._from_app.put)
        finally:
            self._from_app.put_nowait({"type": "returned"})

    async def _receive(self) -> dict[str, Any]:
        self._asked = True
        return await self._to_app.get()
