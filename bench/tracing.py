"""What tracing costs: requests through the HTTP front end with and without it, and one event.

A request is what a client on a keep-alive connection sends, answered within the process through a socket pair, so
that reading and writing are in it. What a kept trace costs is measured apart, as it is off the request's path.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import statistics
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from bench.harness import Figure, Figures
from bench.interpreter import AROUND, REQUEST, START, STEPS, load, parse, show
from zerver import App, CtxView, Decision, Done, Effect, Need, step
from zerver.compiled_step import CompiledStep
from zerver.config import Config
from zerver.execution import WAITING, Execution
from zerver.interpreter import advance
from zerver.redaction import Redaction
from zerver.server.client_address import ClientAddress
from zerver.server.http_protocol import accept
from zerver.server.http_server import HttpServer
from zerver.server.service import Host, Service
from zerver.signals import Closed, Settled
from zerver.step import compile_step
from zerver.surroundings import Surroundings
from zerver.trace.reading import told
from zerver.trace.record import Row
from zerver.trace.recorder import TailRecorder
from zerver.trace.recording import Recording
from zerver.wire import Limits
from zerver_runtime.outcome import Success
from zerver_runtime.reactor.loop import Timers, new_loop

__all__ = ["BENCHMARK", "Served", "ask_in_turn", "recorder", "todos"]

_GET = b"GET /todos/42 HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n"
_BLOCK = 400  # requests of one side before it is the other's turn
_ROUNDS = 120
_WARM = 2_000
_CLOSED = Closed()
_SUCCESS = Success(None)
_NEED = Need([Effect(family="test", op="do", target="test", args=None)])
_STEPS = 40  # of the pipeline that shows what an event costs


class _Nowhere:
    """Takes what is kept, and forgets it."""

    rows = 0
    bytes = 0

    def write(self, rows: Sequence[Row], /) -> bool:
        self.rows += len(rows)
        self.bytes += sum(len(row.data) for row in rows)
        return True

    async def close(self) -> None:
        pass


def recorder(loop: asyncio.AbstractEventLoop, sample: int = 0) -> tuple[TailRecorder, _Nowhere]:
    sink = _Nowhere()
    made = TailRecorder(
        sink, Recording(Redaction(), bodies=True, engine="reactor"), sample=sample, slow_ns=None,
        trusts=None, soon=loop.call_soon_threadsafe, call_later=loop.call_later,
    )  # fmt: skip
    return made, sink


class Served:
    """A server, and a client connection to it."""

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop, trace: Any, host: Host = Host()) -> None:  # noqa: B008  # it is frozen
        self.service = Service(app.site(), Config(), loop, trace, host)
        self.server = HttpServer(
            self.service, {}, None, limits=Limits(), write_timeout=30.0, client_address=ClientAddress(), secure=False,
            call_later=Timers(loop).call_later,
        )  # fmt: skip
        if isinstance(trace, TailRecorder):
            trace.requests = lambda: self.service.requests
        self.loop = loop
        self.client, self._own = socket.socketpair()
        self.cpu: list[float] = []

    async def start(self) -> None:
        await self.service.ready()
        self._own.setblocking(False)
        self.client.setblocking(False)
        accept(self.server, self._own)

    async def ask(self, requests: int) -> float:
        """Microseconds of CPU for each."""
        started = time.process_time()
        for _ in range(requests):
            self.client.send(_GET)
            while True:
                await asyncio.sleep(0)
                try:
                    self.client.recv(4096)
                    break
                except BlockingIOError:
                    continue
        return (time.process_time() - started) / requests * 1e6

    async def close(self) -> None:
        self.client.close()
        await self.server.drain(1.0)
        self.server.close()
        await self.service.close()


async def ask_in_turn(sides: Sequence[Served], rounds: int) -> int:
    """Ask each, a block at a time, for ``cpu``. How many requests each has had, those to warm up with them."""
    for side in sides:
        await side.start()
        await side.ask(_WARM)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)  # as a scheduler does
    for turn in range(rounds):
        first = turn % len(sides)  # by rotation no side is more often asked twice running, and so warm, than others
        for side in (*sides[first:], *sides[:first]):
            side.cpu.append(await side.ask(_BLOCK))
    return _WARM + rounds * _BLOCK


def todos() -> App:
    app = App()
    app.get("/todos/{id}", parse, load, show)
    return app


@step
def _asks(ctx: CtxView) -> Decision:
    return _NEED


@step
def _ends(ctx: CtxView) -> Decision:
    return Done.empty()


def _measure() -> list[Figure]:
    loop = new_loop()
    try:
        return loop.run_until_complete(_run(loop))
    finally:
        loop.close()


async def _run(loop: asyncio.AbstractEventLoop) -> list[Figure]:
    own, _ = recorder(loop)
    sampling, kept = recorder(loop, sample=100)
    off, on, sampled = (Served(todos(), loop, trace) for trace in (None, own, sampling))
    sides = (off, on, sampled)
    asked = await ask_in_turn(sides, _ROUNDS)
    base, encoding = statistics.median(off.cpu), _encoding(loop)
    extra = [one / other * 100 - 100 for one, other in zip(on.cpu, off.cpu, strict=True)]
    more = [one / other * 100 - 100 for one, other in zip(sampled.cpu, on.cpu, strict=True)]
    figures = [
        Figure("CPU of GET /todos/{id} without tracing", round(base, 2), "us"),
        Figure("tracing on, nothing kept, more by", round(statistics.median(extra), 2), "%", "at most 5, better 3"),
        # A timer has them encoded, mostly between the blocks: so that is measured by itself.
        Figure("1 in 100 kept, on the way of the request, more by", round(statistics.median(more), 2), "%"),
        Figure("encoding 1 in 100, more by", round(encoding / base, 2), "%", "at most 2, both together"),
    ]
    for side in sides:
        await side.close()
    assert abs(kept.rows - asked / 100) < 10, "one in a hundred was kept"
    return [*figures, *_events(loop), _record_size(kept), Figure("encoding a kept trace", round(encoding, 1), "us")]


def _events(loop: asyncio.AbstractEventLoop) -> list[Figure]:
    """What one event costs: steps that each ask for an effect, with tracing and without, in the interpreter alone."""
    steps = tuple([compile_step(one) for one in [_asks] * _STEPS + [_ends]])
    own, _ = recorder(loop)
    cpu: list[list[float]] = [[], []]
    arounds = (AROUND, msgspec.structs.replace(AROUND, trace=own))
    for turn in range(60):
        for side in (0, 1) if turn % 2 else (1, 0):
            started = time.process_time()
            for _ in range(100):
                _run_through(steps, arounds[side])
            cpu[side].append((time.process_time() - started) / 100 * 1e6)
    events = len(told(_run_through(steps, arounds[1])))
    each = statistics.median([one - other for one, other in zip(cpu[1], cpu[0], strict=True)]) / events
    return [Figure("one event", round(each, 4), "us", "at most 0.5")]


def _run_through(steps: tuple[CompiledStep, ...], around: Surroundings) -> Execution:
    now = time.monotonic_ns()
    run = Execution(steps, REQUEST, around, now, now + 30_000_000_000, "GET /todos/{id}")
    advance(run, START)
    while run.phase is WAITING:
        advance(run, Settled(run.need_id, 0, 1, _SUCCESS))
    advance(run, _CLOSED)
    return run


def _record_size(kept: _Nowhere) -> Figure:
    return Figure("size of a kept trace", kept.bytes // max(kept.rows, 1), "bytes")


def _encoding(loop: asyncio.AbstractEventLoop) -> float:
    """Microseconds of CPU for a trace."""
    own, _ = recorder(loop)
    run = _run_through(STEPS, msgspec.structs.replace(AROUND, trace=own))
    recording = Recording(Redaction(), bodies=True, engine="reactor")
    started = time.process_time()
    for _ in range(2_000):
        recording.row(run, "sampled", 0)
    return (time.process_time() - started) / 2_000 * 1e6


BENCHMARK = Figures(
    name="tracing",
    question="What does tracing cost a request that is not kept, and one that is?",
    measure=_measure,
)
