"""What a small keep-alive GET costs: the lean driver, the aiohttp driver, and aiohttp by hand; 16 at a time."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from bench.engine_load import on_a_loop
from bench.harness import Figure, Figures
from bench.local_upstream import upstream
from zerver.effect import Effect
from zerver.effectors.base import Effector
from zerver.effectors.http import HttpEffector
from zerver.effectors.http_aiohttp import AiohttpEffector
from zerver.effects import http
from zerver_runtime.outcome import Outcome, Success

__all__ = ["BENCHMARK"]

_REQUESTS = 2000
_ROUNDS = 7
_AT_ONCE = 16

_Work = Callable[[int], Awaitable[None]]


def _driven(effector: Effector, effect: Effect[Any]) -> _Work:
    """Each of so many chains starts its next request when the one before is answered."""

    async def work(n: int) -> None:
        over = asyncio.get_running_loop().create_future()
        left = n

        def done(outcome: Outcome) -> None:
            nonlocal left
            assert isinstance(outcome, Success), outcome
            left -= 1
            if left >= _AT_ONCE:
                effector.start(effect, done)
            elif not left:
                over.set_result(None)

        for _ in range(_AT_ONCE):
            effector.start(effect, done)
        await over

    return work


def _by_hand(session: aiohttp.ClientSession, url: str) -> _Work:
    async def chain(n: int) -> None:
        for _ in range(n):
            async with session.get(url) as answer:
                assert answer.status == 200
                await answer.read()

    async def work(n: int) -> None:
        await asyncio.gather(*[chain(n // _AT_ONCE) for _ in range(_AT_ONCE)])

    return work


async def _measured(url: str) -> dict[str, float]:
    lean, full = HttpEffector(), AiohttpEffector()
    async with aiohttp.ClientSession() as session:
        sides = {
            "lean": _driven(lean, http.get(f"{url}/a")),
            "unique": _driven(lean, http.get(f"{url}/unique")),
            "aiohttp": _driven(full, http.get(f"{url}/a")),
            "by hand": _by_hand(session, f"{url}/a"),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(_ROUNDS + 1):
            for name in list(sides) if turn % 2 else list(sides)[::-1]:
                began = time.process_time()
                await sides[name](_REQUESTS)
                times[name].append((time.process_time() - began) / _REQUESTS * 1e6)
        await lean.close()
        await full.close()
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # the first round warmed up


def _measure() -> list[Figure]:
    with upstream() as url:
        cpu = on_a_loop(lambda: _measured(url))
    return [
        Figure("lean driver", cpu["lean"], "us"),
        Figure("lean driver, no two answers with the same head", cpu["unique"], "us"),
        Figure("aiohttp driver", cpu["aiohttp"], "us"),
        Figure("aiohttp by hand", cpu["by hand"], "us"),
        Figure("aiohttp by hand / lean driver", cpu["by hand"] / cpu["lean"], "x"),
        Figure("aiohttp by hand / lean driver, no two heads the same", cpu["by hand"] / cpu["unique"], "x"),
        Figure("aiohttp by hand / aiohttp driver", cpu["by hand"] / cpu["aiohttp"], "x"),
    ]


BENCHMARK = Figures(
    name="http_client",
    question="What does a small GET on a kept connection cost the client, 16 at a time? (CPU per request, on uvloop)",
    measure=_measure,
)
