"""Load for an engine in this process: requests that come when they come, whether or not those before are answered.

Not a benchmark. Latencies count from when a request was to come: a loop that is late with it has kept it waiting.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
import orjson

from zerver import App
from zerver.config import load
from zerver.match import Match
from zerver.pipeline import Pipeline
from zerver.request import Request
from zerver.response import Response
from zerver.server.service import Service
from zerver_runtime.reactor.loop import new_loop

__all__ = ["Engine", "Load", "Sent", "on_a_loop", "percentile", "work"]

T = TypeVar("T")
_ROUND = 0.001  # seconds between two looks at what is due


def on_a_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it on a loop of its own, as a scheduler has it."""
    threshold = gc.get_threshold()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)  # as the schedulers of `zerver serve` have it
        try:
            return runner.run(main())
        finally:
            gc.set_threshold(*threshold)
            gc.unfreeze()


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them (0 to 1) does not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


_DOCUMENT = orjson.dumps([{"id": n, "name": "something or other", "tags": ["a", "b", "c"]} for n in range(10)])


def work(times: int) -> None:
    """What steps do: decode and encode some JSON. About 10 microseconds each time."""
    for _ in range(times):
        orjson.dumps(orjson.loads(_DOCUMENT))


class Sent(msgspec.Struct):
    """What was sent in some seconds, and what came back meanwhile: seconds from when each request was to come."""

    offered: int = 0
    answered: list[float] = []
    refused: list[float] = []
    other: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    """CPU seconds of the process meanwhile."""

    @property
    def goodput(self) -> float:
        return len(self.answered) / self.seconds


class Engine:
    """The service of an app on the running loop."""

    def __init__(self, app: App, **sections: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.service = Service(app.site(), load(sections, {}, {}), self.loop)
        self._serial = itertools.count(1)

    def pipeline(self, path: str) -> Pipeline:
        found = self.service.site.router.match("GET", path)
        assert isinstance(found, Match)
        return found.endpoint

    def begin(self, pipeline: Pipeline, due_ns: int, answered: Callable[[Response | None, int], object]) -> None:
        """One request. Closed when it is answered, as if the answer had been written out at once."""
        exchange: Any = None
        over = False

        def take(response: Response | None) -> bool:
            nonlocal over
            answered(response, due_ns)
            over = True
            if exchange is not None:
                exchange.close()
            return True

        request = Request("GET", "/", id=f"b{next(self._serial)}")
        exchange = self.service.engine.begin(pipeline, request, due_ns, take)
        if over and exchange is not None:
            exchange.close()

    async def close(self) -> None:
        await self.service.close()


class Load:
    """So many requests a second of each kind, by their paths: evenly, the kinds at random, always the same ones."""

    def __init__(self, engine: Engine, rates: dict[str, float]) -> None:
        self._engine = engine
        self.sent = {path: Sent() for path in rates}
        self._kinds = [
            (engine.pipeline(path), functools.partial(self._answered, sent), sent) for path, sent in self.sent.items()
        ]
        self._weights = list(itertools.accumulate(rates.values()))
        self._random = random.Random(1)
        self._gap_ns = 1e9 / self._weights[-1]
        self._from_ns = self._made = 0
        self._timer: asyncio.TimerHandle | None = None
        self._counts = False

    def _go_on(self) -> None:
        due = int((time.monotonic_ns() - self._from_ns) / self._gap_ns)
        for n, kind in enumerate(
            self._random.choices(self._kinds, cum_weights=self._weights, k=due - self._made), self._made + 1
        ):
            pipeline, answered, sent = kind
            sent.offered += self._counts
            self._engine.begin(pipeline, self._from_ns + int(n * self._gap_ns), answered)
        self._made = due
        self._timer = self._engine.loop.call_later(_ROUND, self._go_on)

    def _answered(self, sent: Sent, response: Response | None, due_ns: int) -> None:
        if not self._counts:
            return
        took = (time.monotonic_ns() - due_ns) / 1e9
        if response is not None and response.status < 300:
            sent.answered.append(took)
        elif response is not None and response.status == 503:
            sent.refused.append(took)
        else:
            sent.other += 1

    async def run(self, warm_up: float, seconds: float) -> dict[str, Sent]:
        """Offer it for some seconds, after others that do not count."""
        self._from_ns = time.monotonic_ns()
        self._go_on()
        await asyncio.sleep(warm_up)
        self._counts = True
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(seconds)
        self._counts = False
        for sent in self.sent.values():
            sent.seconds, sent.cpu = time.monotonic() - began, time.process_time() - cpu
        assert self._timer is not None
        self._timer.cancel()
        await self._engine.service.engine.live.idle(5, killed=False)
        return self.sent
