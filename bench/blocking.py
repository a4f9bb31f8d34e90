"""The blocking engine against Starlette's way of running plain functions (its thread pool), as ASGI apps
without sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Never

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.harness import Benchmark, Side
from zerver import App, Continue, CtxView, Decision, Done, Slot

__all__ = ["BENCHMARK"]


class TodoId(Slot[str]):
    """The id in the path."""


class Todo(Slot[dict[str, object]]):
    """The answer."""


def parse(ctx: CtxView[Never, TodoId]) -> Decision:
    ctx.put(TodoId, ctx.param("id"))
    return Continue()


def load(ctx: CtxView[TodoId, Todo]) -> Decision:
    ctx.put(Todo, {"id": ctx.require(TodoId), "ok": True})
    return Continue()


def show(ctx: CtxView[Todo]) -> Decision:
    return Done.json(ctx.require(Todo))


def endpoint(request: Request) -> JSONResponse:
    return JSONResponse({"id": request.path_params["id"], "ok": True})


ZERVER = App()
ZERVER.get("/todos/{id}", parse, load, show)
STARLETTE = Starlette(routes=[Route("/todos/{id}", endpoint)])

SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "path": "/todos/42",
    "raw_path": b"/todos/42",
    "query_string": b"",
    "root_path": "",
    "scheme": "http",
    "headers": [(b"host", b"localhost")],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 80),
}


def requests(app: Callable[[Any, Any, Any], Awaitable[None]]) -> Callable[[int], None]:
    async def one() -> bytes:
        body = b""
        asked = False
        forever = asyncio.get_running_loop().create_future()

        async def receive() -> Any:
            nonlocal asked
            if asked:
                await forever
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal body
            body += message.get("body", b"")

        await app(dict(SCOPE), receive, send)
        return body

    async def several(n: int) -> None:
        assert await one() == b'{"id":"42","ok":true}'
        for _ in range(n):
            await one()

    return lambda n: asyncio.run(several(n))


BENCHMARK = Benchmark(
    name="blocking",
    question="What does GET /todos/{id} cost on the blocking engine (three steps, one worker thread), against a plain "
    "function that Starlette runs in its thread pool? One request at a time, no sockets.",
    sides=(Side("Starlette, def endpoint", requests(STARLETTE)), Side("Zerver, blocking engine", requests(ZERVER))),
    operations=2_000,
)
