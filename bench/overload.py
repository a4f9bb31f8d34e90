"""Three times as many requests as the engine can serve: what it still serves, how soon, and what a refusal costs.

Each request has a step, an effect of about 10 ms, and a continuation; the steps decode and encode JSON for about
0.2 ms. Requests come in their own time. The generator is in the same process, so that what it does is part of the load.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Any

from bench.engine_load import Engine, Load, Sent, on_a_loop, percentile, work
from bench.harness import Figure, Figures
from zerver import App, CtxView, Decision, Done, Need, timer

__all__ = ["BENCHMARK", "capacity", "measure", "offered"]


def begins(ctx: CtxView) -> Decision:
    work(10)
    return Need([timer.sleep(0.01)], then=ends)


def ends(ctx: CtxView) -> Decision:
    work(10)
    return Done.json({"ok": True})


APP = App()
APP.get("/x", begins)


def offered(rate: float, seconds: float = 3.0, warm_up: float = 1.0, **sections: Any) -> Sent:
    """What comes of so many requests a second."""

    async def main() -> Sent:
        engine = Engine(APP, **sections)
        try:
            return (await Load(engine, {"/x": rate}).run(warm_up, seconds))["/x"]
        finally:
            await engine.close()

    return on_a_loop(main)


def capacity(seconds: float = 2.0, clients: int = 64) -> float:
    """Answers a second, with so many clients each of which asks again as soon as it is answered."""

    async def main() -> float:
        engine = Engine(APP)
        pipeline = engine.pipeline("/x")
        answered, asking = 0, True

        def ask() -> None:
            engine.begin(pipeline, time.monotonic_ns(), again)

        def again(response: Any, due_ns: int) -> None:
            nonlocal answered
            answered += response is not None and response.status == 200
            if asking:
                engine.loop.call_soon(ask)

        try:
            for _ in range(clients):
                ask()
            await asyncio.sleep(0.5)
            answered, began = 0, time.monotonic()
            await asyncio.sleep(seconds)
            asking = False
            return answered / (time.monotonic() - began)
        finally:
            await engine.close()

    return on_a_loop(main)


def cpu_of(refused: bool, seconds: float = 1.0) -> float:
    """CPU microseconds of one request: one that is served, or one that finds the queue full."""

    async def main() -> float:
        engine = Engine(APP, reactor={"continuation_pool": {"queue": 0}} if refused else {})
        pipeline = engine.pipeline("/x")
        answers: list[Any] = []
        began, cpu, count = time.monotonic(), time.process_time(), 0
        try:
            if not refused:
                sent = (await Load(engine, {"/x": 1000.0}).run(0.1, seconds))["/x"]
                return sent.cpu / len(sent.answered) * 1e6
            tasks: Any = engine.service.engine
            tasks.tasks.add(_Nothing(), 0)  # something waits
            while time.monotonic() - began < seconds:
                for _ in range(100):
                    engine.begin(pipeline, time.monotonic_ns(), lambda response, due: answers.append(response))
                count += 100
            assert all(one.status == 503 for one in answers)
            return (time.process_time() - cpu) / count * 1e6
        finally:
            await engine.close()

    return on_a_loop(main)


class _Nothing:
    def proceed(self) -> None:
        """It only was in the queue."""


def measure(rounds: int = 5) -> list[Figure]:
    """The figures of one run. What is compared is measured in turn: the machine's own pace changes."""
    found = []
    for _ in range(rounds):
        best = capacity()
        unloaded, over = offered(best / 10, 2.0), offered(best * 3, 2.0)
        calm, accepted = percentile(unloaded.answered, 0.99), percentile(over.answered, 0.99)
        refusal = percentile(over.refused, 0.99)
        found.append((best, over.goodput, over.goodput / best, calm, accepted, accepted / calm, refusal))
    best, goodput, share, calm, accepted, ratio, refusal = map(median, zip(*found, strict=True))
    served, refused = [cpu_of(False) for _ in range(3)], [cpu_of(True) for _ in range(3)]
    return [
        Figure("capacity: answers to 64 clients that ask again at once", best, "requests/s"),
        Figure("goodput at 3 times that", goodput, "requests/s"),
        Figure("goodput at 3 times that, of the capacity", share, "", ">= 0.9"),
        Figure("p99 at a tenth of the capacity", calm * 1e3, "ms"),
        Figure("p99 of what is accepted at 3 times", accepted * 1e3, "ms"),
        Figure("p99 of what is accepted at 3 times, of that at a tenth", ratio, "", "<= 2"),
        Figure("p99 of a refusal at 3 times", refusal * 1e3, "ms"),
        Figure("CPU of a request that is served", median(served), "us"),
        Figure("CPU of one that is refused", median(refused), "us"),
        Figure("CPU of a refusal, of that of a request", median(refused) / median(served), "", "a small fraction"),
    ]


BENCHMARK = Figures(
    name="overload",
    question="Three times the requests that the engine can serve: what is still served, how soon, and what does a "
    "refusal cost? One process, no sockets, an effect of 10 ms and about 0.2 ms of work in each request.",
    measure=measure,
)
