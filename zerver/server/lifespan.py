"""The lifespans of ASGI apps that are mounted in an app: run inside the app's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..error import AppError
from ..site import AsgiApp

__all__ = ["mounted_lifespan"]


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
