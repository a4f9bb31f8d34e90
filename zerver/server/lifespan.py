"""The lifespans of ASGI apps that are mounted in an app: run inside the app's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..app import AsgiApp
from ..error import AppError

__all__ = ["mounted_lifespan"]


@asynccontextmanager
async def mounted_lifespan(app: AsgiApp, where: str) -> AsyncIterator[None]:
    """Start an ASGI app by the lifespan protocol (ASGI 3.0), and stop it at the end. An app that does not know the
    protocol is left alone.

    :raises AppError: its start failed.
    """
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def run() -> None:
        try:
            await app(scope, to_app.get, from_app.put)
        finally:
            from_app.put_nowait({"type": "returned"})

    task = asyncio.create_task(run())
    try:
        to_app.put_nowait({"type": "lifespan.startup"})
        started = await from_app.get()
        if started["type"] == "lifespan.startup.failed":
            raise AppError(
                f"mount {where}: its lifespan failed at start: {started.get('message') or 'no reason given'}"
            )
        supported = started["type"] == "lifespan.startup.complete"
        yield
        if supported and not task.done():
            to_app.put_nowait({"type": "lifespan.shutdown"})
            stopped = await from_app.get()
            if stopped["type"] == "lifespan.shutdown.failed":
                raise AppError(
                    f"mount {where}: its lifespan failed at stop: {stopped.get('message') or 'no reason given'}"
                )
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
