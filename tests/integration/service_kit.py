"""A service without a server: requests go straight into its engine, and all that comes of them is seen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from asgi_kit import PATIENCE, until

from zerver import App
from zerver.config import Config, load
from zerver.engine.live import Exchange
from zerver.execution import Execution
from zerver.match import Match
from zerver.request import Request
from zerver.response import Response
from zerver.server.service import Service
from zerver.trace.events import EventKind, Record
from zerver.trace.reading import told

__all__ = ["Asked", "Recorder", "Rig", "Stuck", "running"]


class Recorder:
    """A trace: the events of all requests of a rig, over or not."""

    least_ns = -1

    def __init__(self) -> None:
        self.runs: list[Execution] = []

    def end(self, run: Execution) -> None:
        assert run in self.runs

    @property
    def events(self) -> list[Record]:
        """In the order of their times."""
        return sorted((event for run in self.runs for event in told(run)), key=lambda event: event.at_ns)

    def of(self, kind: EventKind) -> list[tuple[str, Any]]:
        """The names and details of the events of one kind."""
        return [(event.name, event.detail) for event in self.events if event.kind is kind]


class Stuck:
    """A function that hangs until it is let go, whatever its thread is told."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = 0
        self.returned = 0

    def __call__(self) -> int:
        self.begun += 1
        assert self.go.wait(PATIENCE)
        self.returned += 1
        return 7


class Asked:
    """One request. Closed as soon as its answer is there, as a server does that has sent it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, closes: bool) -> None:
        self.answers: list[Response | None] = []
        self.exchange: Exchange | None = None
        self.answered_at: list[int] = []
        self._loop = loop
        self._closes = closes
        self._closed = False

    def take(self, response: Response | None) -> None:
        self.answers.append(response)
        self.answered_at.append(threading.get_ident())
        if self._closes:
            self._loop.call_soon(self.close)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self.exchange is not None:
                self.exchange.close()

    def cancel(self, reason: str = "the client has gone") -> None:
        if self.exchange is not None:
            self.exchange.cancel(reason)

    async def answer(self) -> Response | None:
        await until(lambda: self.answers, "there is no answer")
        return self.answers[0]

    async def status(self) -> int | None:
        answer = await self.answer()
        return None if answer is None else answer.status

    async def json(self) -> Any:
        answer = await self.answer()
        assert answer is not None
        assert isinstance(answer.body, bytes)
        return orjson.loads(answer.body)


class Rig:
    """A service, and the requests that it was asked."""

    def __init__(self, app: App, config: Config, trace: Recorder) -> None:
        self.loop = asyncio.get_running_loop()
        self.service = Service(app.site(), config, self.loop, trace)
        self.trace = trace
        self.asked: list[Asked] = []
        self._serial = itertools.count(1)

    @property
    def engine(self) -> Any:
        """The engine, and what it is made of."""
        return self.service.engine

    @property
    def dispatcher(self) -> Any:
        return self.service.dispatcher

    def get(self, path: str, *, closes: bool = True) -> Asked:
        found = self.service.site.router.match("GET", path)
        assert isinstance(found, Match), path
        asked = Asked(self.loop, closes)
        self.asked.append(asked)
        request = Request("GET", path, id=f"r{next(self._serial)}", params=found.params)
        asked.exchange = self.engine.begin(found.endpoint, request, time.monotonic_ns(), asked.take)
        assert asked.exchange is not None, "take() does not say that the answer is out"
        self.trace.runs.append(asked.exchange.run)
        return asked

    async def ask(self, path: str) -> Response | None:
        return await self.get(path).answer()

    async def nothing_is_left(self) -> None:
        """Each request is answered or cancelled, once, and nothing of it is under way; once drivers have let go of what
        they were told to cancel."""
        await until(lambda: self.dispatcher.in_flight == 0, "a driver does not let go")
        assert [len(one.answers) for one in self.asked] == [1] * len(self.asked)
        assert self.engine.live.empty, list(self.engine.live)
        assert self.dispatcher.pending == 0
        tasks = getattr(self.engine, "tasks", None)
        if tasks is not None:
            now = tasks.statistics()
            assert (now.queued, now.running, now.waiting) == (0, 0, 0)
        for one in self.asked:
            if one.exchange is not None:
                assert one.exchange.run.offloaded is None


@asynccontextmanager
async def running(app: App, trace: Recorder | None = None, **sections: Any) -> AsyncIterator[Rig]:
    """The app's service, until it is closed; then nothing may be left."""
    children = _children()
    rig = Rig(app, load(sections, {}, {}), trace or Recorder())
    await rig.service.ready()
    try:
        yield rig
    finally:
        await rig.service.close()
    await until(lambda: rig.engine.live.empty, "something stays live")
    await until(lambda: _children() <= children, "processes are left")
    await rig.nothing_is_left()


def _children() -> set[str]:
    """The processes that this one has started; none where the system does not tell."""
    found: set[str] = set()
    for one in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found.update(one.read_text().split())
    return found
