"""The actors of an app in a process that belongs to no Node, on its event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from zerver_runtime.ids import Place
from zerver_runtime.reactor.loop import Turns
from zerver_runtime.scheduler import Scheduler
from zerver_runtime.supervisor import Intensity, Supervisor, child

from ..error import AppError
from ..site import HostedActor

__all__ = ["LocalStage"]

_log = logging.getLogger("zerver.actors")

_PATIENCE = 6.0  # seconds; a supervisor gives its child 5 to stop
_INTENSITY = Intensity(restarts=5, seconds=10.0)  # as a Node has it


class LocalStage:
    """One scheduler on ``loop``; all calls on its thread. Arguments are checked as if they left the process: an app is
    to work on a Node too."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns = Turns(loop)
        self.scheduler = Scheduler(
            Place(0, 0, 1), time.monotonic_ns, self._turns.wake, check_arguments=True, report=_report
        )
        self._supervisors: list[Any] = []

    def start(self, actors: Mapping[str, HostedActor]) -> None:
        """Start each actor, under a supervisor of its own.

        :raises AppError: the ``__init__`` of one raised.
        """
        self._turns.attach(self.scheduler)
        for name, one in actors.items():
            try:
                spec = child(name, one.kind, *one.args, **one.kwargs)
                self._supervisors.append(self.scheduler.spawn(Supervisor, ([spec],), {"intensity": _INTENSITY}))
            except Exception as problem:
                raise AppError(f"actor {name!r} could not start: {type(problem).__name__}: {problem}") from problem

    async def close(self) -> None:
        """Stop the actors, each after what was sent to it before, and take no more turns."""
        loop = asyncio.get_running_loop()
        stopping = []
        for supervisor in self._supervisors:
            stopped: asyncio.Future[object] = loop.create_future()
            with self.scheduler:
                supervisor.stop("shutdown").on_done(stopped.set_result)
            stopping.append(stopped)
        if stopping:
            await asyncio.wait(stopping, timeout=_PATIENCE)
        self._supervisors.clear()
        self.abandon()

    def abandon(self) -> None:
        """No turn any more."""
        self._turns.close()


def _report(where: str, problem: BaseException) -> None:
    _log.error("%s failed", where, exc_info=problem)
