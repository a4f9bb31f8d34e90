"""Messages between two scheduler processes of one Node: one way in batches, and there and back.

Each measuring function starts a Node of its own in a fresh interpreter and returns a rate per second.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from bench.harness import Figure, Figures
from zerver_runtime.actor import Actor, behaviour
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.node_config import NodeConfig
from zerver_runtime.process import run_node
from zerver_runtime.reactor.loop import new_loop
from zerver_runtime.scheduler_process import SchedulerContext

__all__ = ["BENCHMARK", "bare_round_trips", "measure", "one_way", "round_trips"]

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


class Asker(Actor):
    running = 0

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    @behaviour
    async def ask(self, times: int, total: int) -> None:
        Asker.running += 1
        began = time.perf_counter()
        for _ in range(times):
            await self.sink.echo(PAYLOAD)
        Asker.running -= 1
        if not Asker.running:
            _report(total / (time.perf_counter() - began))


def _report(rate: float) -> None:
    print(json.dumps(rate), flush=True)
    os.kill(os.getppid(), signal.SIGTERM)


def _boot(context: SchedulerContext, what: str, count: int, at_once: int) -> None:
    if context.place.scheduler != 0:
        return

    def look() -> None:
        sink: Any = context.scheduler.whereis("sink")
        if sink is None:
            context.loop.call_later(0.01, look)
            return
        with context.scheduler:
            if what == "one_way":
                sink.begin(count)
                context.scheduler.spawn(Source, (sink,)).burst(count)
            else:
                for _ in range(at_once):
                    context.scheduler.spawn(Asker, (sink,)).ask(count // at_once, count)

    look()


def _run(what: str, count: int, at_once: int = 1) -> None:
    # The sink is the only actor that wants the efficiency class, so it is in the other process.
    config = NodeConfig(
        performance=1, efficiency=1, nice=0, actors={"sink": ("bench.actors_processes:Sink", (), "efficiency")}
    )
    run_node(config, lambda context: _boot(context, what, count, at_once), log=lambda text: None)


def _bare(times: int) -> None:
    """The same bytes between two loops with nothing of ours between them: what the machine allows."""
    ends = socket.socketpair()
    child = os.fork()
    end = ends[0] if child else ends[1]
    (ends[1] if child else ends[0]).close()
    end.setblocking(False)
    loop = new_loop()
    left = times
    began = time.perf_counter()

    def come() -> None:
        nonlocal left
        data = end.recv(4096)
        if not data:
            loop.stop()
        elif child:
            left -= 1
            if left:
                end.send(data)
            else:
                loop.stop()
        else:
            end.send(data)

    loop.add_reader(end.fileno(), come)
    if child:
        end.send(PAYLOAD)
    loop.run_forever()
    if not child:
        os._exit(0)
    print(json.dumps(times / (time.perf_counter() - began)))
    end.close()
    os.waitpid(child, 0)


def _measure(what: str, *arguments: int) -> float:
    command = [sys.executable, "-m", "bench.actors_processes", what, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return float(json.loads(done.stdout.splitlines()[0]))


def one_way(messages: int = 1_000_000) -> float:
    """Messages of 64 bytes per second, from one process to another, in batches; each runs a behaviour there."""
    return _measure("one_way", messages)


def round_trips(times: int = 50_000, at_once: int = 32) -> float:
    """Asks per second, 64 bytes there and back, with so many under way at once."""
    return _measure("round_trips", times, at_once)


def bare_round_trips(times: int = 20_000) -> float:
    """The same, one at a time, between two bare loops: with idle CPUs it measures how fast the machine wakes one."""
    return _measure("bare", times)


def measure() -> list[Figure]:
    """The figures of one run."""
    return [
        Figure("one way, in batches", one_way(), "messages/s", ">= 300,000 (aim 800,000)"),
        Figure("there and back, 32 under way", round_trips(), "/s", ">= 25,000"),
        Figure("there and back, one at a time", round_trips(20_000, 1), "/s"),
        Figure("the same between two bare uvloops", bare_round_trips(), "/s"),
    ]


BENCHMARK = Figures(
    name="actors_processes",
    question="How many messages of 64 bytes go from one scheduler process to another?",
    measure=measure,
)

if __name__ == "__main__":  # what one measurement runs in a process of its own
    numbers = [int(one) for one in sys.argv[2:]]
    if sys.argv[1] == "bare":
        _bare(*numbers)
    else:
        _run(sys.argv[1], *numbers)
