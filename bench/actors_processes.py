"""Messages between two scheduler processes of one Node: one way in batches, and there and back.

    python -m bench.actors_processes

Each measuring function starts a Node of its own in a fresh interpreter and returns a rate per second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from zerver_runtime.actor import Actor, behaviour
from zerver_runtime.child import SchedulerContext
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.node_config import NodeConfig
from zerver_runtime.process import run_node

__all__ = ["one_way", "round_trips"]

PAYLOAD = b"x" * 64


class Sink(Actor):
    """Counts what arrives; when all has come, says how long it took from the first to the last."""

    mailbox = MailboxPolicy(bound=16384)

    def __init__(self) -> None:
        self.count = self.expected = 0
        self.began = 0.0

    @behaviour
    def begin(self, expected: int) -> None:
        self.count, self.expected, self.began = 0, expected, time.perf_counter()

    @behaviour
    def take(self, payload: bytes) -> None:
        self.count += 1
        if self.count == self.expected:
            _report(self.expected / (time.perf_counter() - self.began))

    @behaviour
    def echo(self, payload: bytes) -> bytes:
        return payload


class Source(Actor):
    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    @behaviour
    def burst(self, left: int) -> None:
        take = self.sink.take
        for _ in range(min(200, left)):
            take(PAYLOAD)
        if left > 200:
            self.burst(left - 200)

    @behaviour
    async def ask(self, times: int) -> None:
        began = time.perf_counter()
        for _ in range(times):
            await self.sink.echo(PAYLOAD)
        _report(times / (time.perf_counter() - began))


def _report(rate: float) -> None:
    print(json.dumps(rate), flush=True)
    os.kill(os.getppid(), signal.SIGTERM)


def _boot(context: SchedulerContext, what: str, count: int) -> None:
    if context.place.scheduler != 0:
        return

    def look() -> None:
        sink: Any = context.scheduler.whereis("sink")
        if sink is None or sink._cell.id == 0:
            context.loop.call_later(0.01, look)
            return
        with context.scheduler:
            source = context.scheduler.spawn(Source, (sink,))
            if what == "one_way":
                sink.begin(count)
                source.burst(count)
            else:
                source.ask(count)

    look()


def _run(what: str, count: int) -> None:
    # The sink is the only actor that wants the efficiency class, so it is in the other process.
    config = NodeConfig(
        performance=1, efficiency=1, nice=0, actors={"sink": ("bench.actors_processes:Sink", (), "efficiency")}
    )
    run_node(config, lambda context: _boot(context, what, count), log=lambda text: None)


def _measure(what: str, count: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench.actors_processes", what, str(count)], capture_output=True, check=True, timeout=120
    )
    return float(json.loads(done.stdout.splitlines()[0]))


def one_way(messages: int = 1_000_000) -> float:
    """Messages of 64 bytes per second, from one process to another, in batches; each runs a behaviour there."""
    return _measure("one_way", messages)


def round_trips(times: int = 50_000) -> float:
    """Asks per second, 64 bytes there and back, one after the other."""
    return _measure("round_trips", times)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _run(sys.argv[1], int(sys.argv[2]))
    else:
        print(f"one way      {one_way():>12,.0f} messages/s  (at least 300,000; goal 800,000)")
        print(f"round trips  {round_trips():>12,.0f} /s          (at least 25,000)")
