"""What metrics cost: a request that is counted against one that is not, what a look at a scheduler takes, and the text.

A request is what a client on a keep-alive connection sends, answered within the process, with tracing on; see
`bench.tracing`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import msgspec

from bench.harness import Figure, Figures
from bench.interpreter import AROUND, REQUEST, START, STEPS
from bench.tracing import Served, ask_in_turn, recorder, todos
from zerver.execution import Execution
from zerver.interpreter import advance
from zerver.metrics.exposition import exposition
from zerver.metrics.meters import Meters
from zerver.metrics.request_meter import RequestMeter
from zerver.server.measure import measure, service_samples
from zerver.server.service import Host
from zerver.signals import Closed
from zerver_runtime.reactor.loop import new_loop

__all__ = ["BENCHMARK"]

_ROUNDS = 160
_CALLS = 200_000
_ROUTES = 100
_CLOSED = Closed()


def _measure() -> list[Figure]:
    loop = new_loop()
    try:
        return loop.run_until_complete(_run(loop))
    finally:
        loop.close()


async def _run(loop: asyncio.AbstractEventLoop) -> list[Figure]:
    app = todos()
    meters = Meters([*app.site().labels, *[f"GET /route/{number}" for number in range(_ROUTES - 1)]])
    off = Served(todos(), loop, recorder(loop)[0])
    on = Served(app, loop, recorder(loop)[0], Host(meters=meters))
    asked = await ask_in_turn((off, on), _ROUNDS)
    more = statistics.median([one - other for one, other in zip(on.cpu, off.cpu, strict=True)])
    figures = [
        Figure("CPU of GET /todos/{id} that is not counted", round(statistics.median(off.cpu), 2), "us"),
        Figure("counted, more by", round(more, 3), "us", "at most 0.2"),
        Figure("in the interpreter alone, more by", round(_in_the_interpreter(loop), 3), "us", "at most 0.2"),
        Figure("the count alone", round(_count_alone(), 3), "us"),
        *_look(on),
    ]
    for side in (off, on):
        await side.close()
    counted = sum(one.value for one in meters.requests.samples() if one.name == "zerver_requests_total")
    assert counted == asked, "each request was counted"
    return figures


def _in_the_interpreter(loop: asyncio.AbstractEventLoop) -> float:
    """A run of three steps, without HTTP: there is less that differs from one time to the next."""
    around = msgspec.structs.replace(AROUND, trace=recorder(loop)[0])
    arounds = (around, msgspec.structs.replace(around, count=RequestMeter(["GET /todos/{id}"]).count))
    cpu: list[list[float]] = [[], []]
    for turn in range(400):
        for side in (0, 1) if turn % 2 else (1, 0):
            started = time.process_time()
            for _ in range(100):
                now = time.monotonic_ns()
                run = Execution(STEPS, REQUEST, arounds[side], now, now + 30_000_000_000, "GET /todos/{id}")
                advance(run, START)
                advance(run, _CLOSED)
            cpu[side].append((time.process_time() - started) / 100 * 1e6)
    return statistics.median([one - other for one, other in zip(cpu[1], cpu[0], strict=True)])


def _count_alone() -> float:
    """Beyond a call of a function that does nothing."""

    def nothing(route: str, status: int, took_ns: int) -> None:
        pass

    return _time(RequestMeter(["GET /"]).count) - _time(nothing)


def _time(call: Callable[[str, int, int], object]) -> float:
    times = []
    for _ in range(9):
        started = time.process_time()
        for _ in range(_CALLS):
            call("GET /", 200, 60_000)
        times.append((time.process_time() - started) / _CALLS * 1e6)
    return statistics.median(times)


def _look(side: Served) -> list[Figure]:
    """Once a second in each scheduler; the text only when somebody asks."""
    service = side.service
    started = time.process_time()
    for _ in range(50):
        found = measure(service.stage, "performance", service_samples(service), lambda: 1)
    looked = time.process_time()
    for _ in range(50):
        exposition(found.samples)
    written = time.process_time()
    return [
        Figure(f"a look at a scheduler, {_ROUTES} routes", round((looked - started) / 50 * 1e6), "us"),
        Figure(f"the text of {len(found.samples)} values", round((written - looked) / 50 * 1e6), "us"),
    ]


BENCHMARK = Figures(
    name="metrics",
    question="What do metrics cost a request, and those who look?",
    measure=_measure,
)
