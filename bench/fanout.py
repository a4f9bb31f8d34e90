"""Three small HTTP calls at once and an answer made of them: through steps, join and trace-less engine, and by hand.

Everything runs in this process but the upstream; 16 requests at a time. The apps are called as ASGI applications,
without a server, so that what Starlette's server costs more is not counted; the last side is the engine alone, as the
schedulers of ``zerver serve`` call it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, Never

import aiohttp
import orjson
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route

from bench.engine_load import Engine, on_a_loop
from bench.harness import Figure, Figures
from bench.local_upstream import upstream
from zerver import App, CtxView, Decision, Done, Need, Slot, http
from zerver.effectors.http_aiohttp import AiohttpEffector
from zerver.response import Response

__all__ = ["BENCHMARK"]

_REQUESTS = 500
_ROUNDS = 9
_AT_ONCE = 16
_Work = Callable[[int], Awaitable[None]]


class A(Slot[dict[str, Any]]):
    """The first answer."""


class B(Slot[dict[str, Any]]):
    """The second answer."""


class C(Slot[dict[str, Any]]):
    """The third answer."""


def _app(url: str, driver: AiohttpEffector | None = None) -> App:
    def ask(ctx: CtxView[Never, A | B | C]) -> Decision:
        return Need(
            [http.get(f"{url}/a", into=A), http.get(f"{url}/b", into=B), http.get(f"{url}/c", into=C)], then=show
        )

    def show(ctx: CtxView[A | B | C]) -> Decision:
        return Done.json({"a": ctx.require(A), "b": ctx.require(B), "c": ctx.require(C)})

    app = App()
    if driver is not None:
        app.effector("http", driver)
    app.get("/fan", ask)
    return app


def _by_hand(url: str, session: aiohttp.ClientSession) -> Starlette:
    async def call(name: str) -> object:
        async with session.get(f"{url}/{name}", timeout=aiohttp.ClientTimeout(total=1.0)) as answer:
            answer.raise_for_status()
            return await answer.json(loads=orjson.loads)

    async def fan(request: StarletteRequest) -> StarletteResponse:
        a, b, c = await asyncio.gather(call("a"), call("b"), call("c"))
        return StarletteResponse(orjson.dumps({"a": a, "b": b, "c": c}), media_type="application/json")

    return Starlette(routes=[Route("/fan", fan)])


_SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "path": "/fan",
    "raw_path": b"/fan",
    "query_string": b"",
    "root_path": "",
    "scheme": "http",
    "headers": [(b"host", b"localhost")],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 80),
}


def _asgi(app: Callable[[Any, Any, Any], Awaitable[None]]) -> _Work:
    async def one() -> None:
        asked = False

        async def receive() -> Any:
            nonlocal asked
            if asked:
                await asyncio.get_running_loop().create_future()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        size = 0

        async def send(message: Any) -> None:
            nonlocal size
            assert message.get("status", 200) == 200
            size += len(message.get("body", b""))

        await app(dict(_SCOPE), receive, send)
        assert size > 200

    async def chain(n: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(n):
            await loop.create_task(one())  # as a server does

    async def work(n: int) -> None:
        await asyncio.gather(*[chain(n // _AT_ONCE) for _ in range(_AT_ONCE)])

    return work


def _engine(engine: Engine) -> _Work:
    pipeline = engine.pipeline("/fan")

    async def work(n: int) -> None:
        over = engine.loop.create_future()
        left = n

        def answered(response: Response | None, due_ns: int) -> None:
            nonlocal left
            assert response is not None
            assert response.status == 200
            left -= 1
            if left >= _AT_ONCE:
                engine.loop.call_soon(engine.begin, pipeline, time.monotonic_ns(), answered)
            elif not left:
                over.set_result(None)

        for _ in range(_AT_ONCE):
            engine.begin(pipeline, time.monotonic_ns(), answered)
        await over

    return work


async def _measured(url: str) -> dict[str, float]:
    full, lean = _app(url, AiohttpEffector()), _app(url)
    engine = Engine(_app(url))
    async with aiohttp.ClientSession() as session:
        sides = {
            "by hand": _asgi(_by_hand(url, session)),
            "aiohttp": _asgi(full),
            "lean": _asgi(lean),
            "engine": _engine(engine),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(_ROUNDS + 1):
            for name in list(sides) if turn % 2 else list(sides)[::-1]:
                began = time.process_time()
                await sides[name](_REQUESTS)
                times[name].append((time.process_time() - began) / _REQUESTS * 1e6)
        await engine.close()
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # the first round warmed up


def _measure() -> list[Figure]:
    with upstream() as url:
        cpu = on_a_loop(lambda: _measured(url))
    hand = cpu["by hand"]
    return [
        Figure("Starlette and aiohttp by hand", hand, "us"),
        Figure("Zerver, aiohttp driver", cpu["aiohttp"], "us"),
        Figure("Zerver, lean driver", cpu["lean"], "us"),
        Figure("Zerver's engine without ASGI, lean driver", cpu["engine"], "us"),
        Figure("requests per CPU second, aiohttp driver / by hand", hand / cpu["aiohttp"], "x", "at least 0.9"),
        Figure("requests per CPU second, lean driver / by hand", hand / cpu["lean"], "x", "at least 2.5 (4)"),
        Figure(
            "requests per CPU second, engine and lean driver / by hand", hand / cpu["engine"], "x", "at least 2.5 (4)"
        ),
    ]


BENCHMARK = Figures(
    name="fanout",
    question="What does a request cost that makes three small HTTP calls at once, on kept connections? (CPU, uvloop)",
    measure=_measure,
)
