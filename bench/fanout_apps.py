"""The apps of the benchmark ``fanout``: three calls at once to ``BENCH_UPSTREAM``, and an answer made of theirs."""

from __future__ import annotations

import os
from typing import Any, Never

from zerver import App, CtxView, Decision, Done, Need, Slot, http, step

__all__: list[str] = []

_URL = os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:9")


class A(Slot[dict[str, Any]]):
    """The first answer."""


class B(Slot[dict[str, Any]]):
    """The second answer."""


class C(Slot[dict[str, Any]]):
    """The third answer."""


@step
def ask(ctx: CtxView[Never, A | B | C]) -> Decision:
    return Need(
        [http.get(f"{_URL}/a", into=A), http.get(f"{_URL}/b", into=B), http.get(f"{_URL}/c", into=C)], then=show
    )


def show(ctx: CtxView[A | B | C]) -> Decision:
    return Done.json({"a": ctx.require(A), "b": ctx.require(B), "c": ctx.require(C)})


def __getattr__(name: str) -> Any:
    """Each app is made when it is asked for, so that no server imports another's framework."""
    if name in ("lean_app", "aiohttp_app"):
        app = App()
        if name == "aiohttp_app":
            from zerver.effectors.http_aiohttp import AiohttpEffector

            app.effector("http", AiohttpEffector())
        app.get("/fan", ask)
        return app
    if name == "starlette_app":
        return _by_hand()
    raise AttributeError(name)


def _by_hand() -> Any:
    import asyncio
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    import aiohttp
    import orjson
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    one_second = aiohttp.ClientTimeout(total=1.0)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with aiohttp.ClientSession() as session:
            yield {"session": session}

    async def call(session: aiohttp.ClientSession, name: str) -> Any:
        async with session.get(f"{_URL}/{name}", timeout=one_second) as answer:
            answer.raise_for_status()
            return await answer.json(loads=orjson.loads)

    async def fan(request: Request) -> Response:
        session = request.state.session
        a, b, c = await asyncio.gather(call(session, "a"), call(session, "b"), call(session, "c"))
        return Response(orjson.dumps({"a": a, "b": b, "c": c}), media_type="application/json")

    return Starlette(routes=[Route("/fan", fan)], lifespan=lifespan)
