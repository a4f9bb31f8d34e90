"""Requests of an app, recorded as they are in production, but all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from asgi_kit import PATIENCE

from zerver import App
from zerver.config import load
from zerver.effect import Effect
from zerver.execution import Execution
from zerver.match import Match
from zerver.redaction import Redaction
from zerver.request import Request
from zerver.response import Response
from zerver.server.service import Service
from zerver.trace.record import TraceRecord, decode, encode
from zerver.trace.recording import Recording

__all__ = ["ask", "recorded"]


class _All:
    """A trace of every request."""

    least_ns = -1

    def __init__(self) -> None:
        self.runs: list[Execution] = []

    def end(self, run: Execution) -> None:
        self.runs.append(run)


def ask(method: str, target: str, body: bytes = b"", **headers: str) -> Request:
    """A request; ``content_type`` is JSON unless it is given."""
    path, _, query = target.partition("?")
    named = {"content_type": "application/json"} | headers if body else headers
    return Request(
        method, path, query.encode(), tuple((name.replace("_", "-").encode(), value.encode())
                                            for name, value in named.items()), body, "192.0.2.1",
    )  # fmt: skip


async def recorded(
    app: App, requests: Iterable[Request], *, first: Iterable[Effect[Any]] = (), at_once: int = 1, **sections: Any
) -> list[TraceRecord]:
    """What is kept of each, in their order. ``first``: performed before them. So many are under way ``at_once``."""
    trace = _All()
    service = Service(app.site(), load(sections, {}, {}), asyncio.get_running_loop(), trace)
    places = asyncio.Semaphore(at_once)

    async def one(number: int, request: Request) -> None:
        match = service.site.router.match(request.method, request.path)
        assert isinstance(match, Match), request.path
        request = Request(
            request.method, request.path, request.query, request.headers, request.body, request.client_ip,
            f"r{number:05}", match.params,
        )  # fmt: skip
        async with places:
            answered: asyncio.Future[Response | None] = service.loop.create_future()
            clock = service.engine.clock
            exchange = service.engine.begin(match.endpoint, request, clock(), answered.set_result)
            await asyncio.wait_for(answered, PATIENCE)
            assert exchange is not None
            exchange.close()

    try:
        await service.ready()
        for effect in first:
            await service.perform(effect)
        await asyncio.gather(*[one(number, request) for number, request in enumerate(requests)])
        await service.engine.live.idle(PATIENCE, killed=True)
    finally:
        await service.close()
    recording = Recording(Redaction(), bodies=True, engine=service.config.reactor.engine)
    runs = sorted(trace.runs, key=lambda run: run.request.id)
    return [decode(encode(recording.record(run, "sampled", 1_700_000_000_000_000_000))) for run in runs]
