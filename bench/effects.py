"""What effects cost in the reactor engine: each one, and twenty in one Need against ``asyncio.gather`` by hand."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.harness import Figure, Figures
from zerver import App, CtxView, Decision, Done, Effect, Need
from zerver.config import Config
from zerver.effectors.base import Done as Settle
from zerver.pipeline import Pipeline
from zerver.request import Request
from zerver.response import Response
from zerver.server.service import Service
from zerver.step import compile_step
from zerver_runtime.outcome import Success
from zerver_runtime.reactor.loop import new_loop

__all__ = ["BENCHMARK"]

_MANY = 20
_ROUNDS = 9
_REQUESTS = 1000
_ONE = Success(1)


class _AtOnce:
    """A driver that answers within ``start``."""

    def start(self, effect: Effect[Any], done: Settle, /) -> None:
        done(_ONE)


class _NextRound:
    """A driver that answers in the next round of the loop, as a socket would."""

    def start(self, effect: Effect[Any], done: Settle, /) -> None:
        asyncio.get_running_loop().call_soon(done, _ONE)


def _step(family: str, count: int) -> Callable[[CtxView], Decision]:
    effects: list[Effect[Any]] = [
        Effect(family=family, op="do", target=family, args=None, idempotent=True) for _ in range(count)
    ]

    def end(ctx: CtxView) -> Decision:
        return Done.empty()

    def ask(ctx: CtxView) -> Decision:
        return Need(effects, then=end)

    return ask


async def _requests(service: Service, pipeline: Pipeline, n: int) -> None:
    """One request after another, each answered before the next."""
    loop = asyncio.get_running_loop()
    request = Request("GET", "/", id="1")
    for _ in range(n):
        answered: asyncio.Future[Response | None] = loop.create_future()
        exchange = service.engine.begin(pipeline, request, service.engine.clock(), answered.set_result)
        response = await answered
        assert exchange is not None
        exchange.close()
        assert response is not None
        assert response.status == 204, response


async def _gathered(n: int, seconds: float | None = None) -> None:
    """Tasks by hand. ``seconds``: the time-out of each, as effects have one."""
    loop = asyncio.get_running_loop()

    async def do() -> int:
        value: asyncio.Future[int] = loop.create_future()
        loop.call_soon(value.set_result, 1)
        return await value

    async def timed() -> int:
        async with asyncio.timeout(seconds):
            return await do()

    async def handler() -> int:
        return sum(await asyncio.gather(*[(do if seconds is None else timed)() for _ in range(_MANY)]))

    for _ in range(n):
        assert await loop.create_task(handler()) == _MANY


async def _cpu(work: Callable[[int], Awaitable[None]], times: list[float]) -> None:
    gc.collect()
    began = time.process_time()
    await work(_REQUESTS)
    times.append((time.process_time() - began) / _REQUESTS * 1e6)


async def _measured() -> dict[str, list[float]]:
    app = App()
    app.effector("once", _AtOnce())
    app.effector("next", _NextRound())
    service = Service(app.site(), Config(), asyncio.get_running_loop())
    await service.ready()

    def route(family: str, count: int) -> Callable[[int], Awaitable[None]]:
        pipeline = Pipeline("GET /", (compile_step(_step(family, count)),), None)
        return lambda n: _requests(service, pipeline, n)

    sides = {
        "none": route("once", 0),
        "at once": route("once", _MANY),
        "next round": route("next", _MANY),
        "gather": _gathered,
        "gather with time-outs": lambda n: _gathered(n, 1.0),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(_ROUNDS + 1):
        for name in list(sides) if turn % 2 else list(sides)[::-1]:
            await _cpu(sides[name], times[name])
    await service.close()
    return {name: values[1:] for name, values in times.items()}  # the first round warmed up


def _measure() -> list[Figure]:
    loop = new_loop()
    times = {name: statistics.median(values) for name, values in loop.run_until_complete(_measured()).items()}
    loop.close()
    return [
        Figure("an effect whose driver answers at once", (times["at once"] - times["none"]) / _MANY, "us", "5 (2.5)"),
        Figure("a request with a Need of none", times["none"], "us"),
        Figure("a request with a Need of 20, answered in the next round", times["next round"], "us"),
        Figure("the same 20 by hand: a task and asyncio.gather", times["gather"], "us"),
        Figure("Need of 20 / asyncio.gather of 20", times["next round"] / times["gather"], "x", "at most 1"),
        Figure(
            "Need of 20 / asyncio.gather of 20, each within asyncio.timeout()",
            times["next round"] / times["gather with time-outs"],
            "x",
        ),
    ]


BENCHMARK = Figures(
    name="effects",
    question="What does an effect cost in the reactor engine, and twenty of them against asyncio.gather by hand? (CPU)",
    measure=_measure,
)
