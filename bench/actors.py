"""One scheduler's actors: what a message, an ask, an idle actor and a spawn cost; and the same on Pykka.

A minute; the million takes 0.6 GB. Each figure is the best of a few runs, because whatever else the machine does only
ever adds. The machine's own pace is shown first: compare figures of one run, not of two.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.harness import Figure, Figures
from zerver_runtime.actor import Actor, behaviour, spawn
from zerver_runtime.ids import Place
from zerver_runtime.scheduler import Scheduler

__all__ = ["BENCHMARK", "ask", "idle", "measure", "pykka_ask", "pykka_tell", "spawning", "spread", "tell"]


class Counter(Actor):
    """The receiver. Its one behaviour does as little as a real one may."""

    def __init__(self, start: int) -> None:
        self.total = start

    @behaviour
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total


class Teller(Actor):
    """Sends `count` messages in bursts of 100, so that it yields as any actor does."""

    def __init__(self, targets: list[Counter]) -> None:
        self.targets = targets
        self.next = 0

    @behaviour
    def go(self, count: int) -> None:
        targets = self.targets
        if len(targets) == 1:
            add = targets[0].add
            for _ in range(min(count, 100)):
                add(1)
        else:
            first, self.next = self.next, (self.next + 100) % len(targets)
            for target in targets[first : first + 100]:
                target.add(1)
        if count > 100:
            self.go(count - 100)


class Asker(Actor):
    def __init__(self, target: Counter) -> None:
        self.target = target

    @behaviour
    async def go(self, count: int) -> None:
        target = self.target
        for _ in range(count):
            await target.add(1)


def _scheduler() -> Scheduler:
    return Scheduler(Place(0, 0, 1), time.monotonic_ns)


def _timed(scheduler: Scheduler, start: Callable[[], object]) -> float:
    began = time.perf_counter()
    start()
    while scheduler.turn() == 0.0:
        pass
    return time.perf_counter() - began


def tell(n: int) -> float:
    """Messages a second from one actor to another, each run there."""
    scheduler = _scheduler()
    with scheduler:
        counter = spawn(Counter, 0)
        teller = spawn(Teller, [counter])
    seconds = _timed(scheduler, lambda: teller.go(n))
    assert scheduler.handled == n + -(-n // 100), scheduler.statistics()
    return n / seconds


def ask(n: int) -> float:
    """Seconds for one ask and its answer, one after another."""
    scheduler = _scheduler()
    with scheduler:
        asker = spawn(Asker, spawn(Counter, 0))
    seconds = _timed(scheduler, lambda: asker.go(n))
    assert scheduler.handled == n + 1, scheduler.statistics()
    return seconds / n


def idle(n: int) -> float:
    """Bytes of each of n idle actors that have had a message, ref included."""
    gc.collect()
    before = _resident()
    scheduler = _scheduler()
    with scheduler:
        refs = [spawn(Counter, 0) for _ in range(n)]
    for first in range(0, n, 10_000):
        for ref in refs[first : first + 10_000]:
            ref.add(1)
        while scheduler.turn() == 0.0:
            pass
    assert scheduler.handled == n
    gc.collect()
    return (_resident() - before) / n


def spawning(n: int) -> float:
    """Actors spawned a second. (The scheduler is dropped afterwards, outside of the measurement.)"""
    scheduler = _scheduler()
    began = time.perf_counter()
    with scheduler:
        for _ in range(n):
            spawn(Counter, 0)
    return n / (time.perf_counter() - began)


def spread(actors: int, n: int, targets: int = 1_000) -> float:
    """Seconds for one message, when there are so many actors and the messages go round `targets` of them."""
    scheduler = _scheduler()
    with scheduler:
        counters = [spawn(Counter, 0) for _ in range(actors)]
        # Every so manyth, so that they do not sit next to each other in memory.
        teller = spawn(Teller, counters[:: actors // targets][:targets])
    # The engine freezes what it has after its boot; what the collector does is in `spawning`.
    gc.collect()
    gc.freeze()
    try:
        _timed(scheduler, lambda: teller.go(max(targets, n // 10)))  # each has had one
        return _timed(scheduler, lambda: teller.go(n)) / n
    finally:
        gc.unfreeze()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def pykka_tell(n: int) -> float:
    """Messages a second on Pykka, a thread for each actor."""
    ref = _pykka_counter()
    began = time.perf_counter()
    for _ in range(n):
        ref.tell(1)
    ref.ask(1)
    seconds = time.perf_counter() - began
    ref.stop()
    return n / seconds


def pykka_ask(n: int) -> float:
    """Seconds for one ask and its answer on Pykka."""
    ref = _pykka_counter()
    began = time.perf_counter()
    for _ in range(n):
        ref.ask(1)
    seconds = time.perf_counter() - began
    ref.stop()
    return seconds / n


def _pykka_counter() -> Any:
    pykka: Any = importlib.import_module("pykka")  # by name: it is an extra, which checkers may not have

    class PykkaCounter(pykka.ThreadingActor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.total = 0

        def on_receive(self, message: int) -> int:
            self.total += message
            return self.total

    return PykkaCounter.start()


def _pace() -> float:
    """Nanoseconds for one turn of an empty loop with a call: what a figure has to be seen against."""

    def nothing() -> None: ...

    began = time.perf_counter()
    for _ in range(1_000_000):
        nothing()
    return (time.perf_counter() - began) * 1e3


_PYKKA = importlib.util.find_spec("pykka") is not None


def measure(scale: float = 1.0) -> list[Figure]:
    """scale: 0.01 for a quick look. The million is then 10,000."""

    def size(n: int) -> int:
        return max(1_000, round(n * scale) // 1_000 * 1_000)

    many = size(1_000_000)
    few = min(spread(1_000, size(500_000)) for _ in range(5))
    among = min(spread(many, size(500_000)) for _ in range(3))
    round_all = spread(many, size(1_000_000), many)
    figures = [
        Figure("the machine: a loop with an empty call", min(_pace() for _ in range(5)), "ns"),
        Figure("tell", max(tell(size(500_000)) for _ in range(7)), "messages/s", ">= 700,000 (aim 1,200,000)"),
        Figure("ask and its answer", min(ask(size(100_000)) for _ in range(7)) * 1e6, "us", "<= 4"),
        Figure("spawn", max(spawning(size(100_000)) for _ in range(5)), "actors/s", ">= 150,000"),
        Figure("a message with 1,000 actors, to each in turn", few * 1e9, "ns"),
        Figure(f"the same to 1,000 among {many:,}", among / few, "times that", "<= 1.3"),
        Figure(f"the same to each of {many:,} in turn", round_all / few, "times that"),
        Figure(f"an idle actor of {many:,}", idle(many), "bytes", "<= 1,024"),
    ]
    if importlib.util.find_spec("pykka") is not None:
        figures += [
            Figure("Pykka: tell", max(pykka_tell(size(100_000)) for _ in range(3)), "messages/s"),
            Figure("Pykka: ask and its answer", min(pykka_ask(size(20_000)) for _ in range(3)) * 1e6, "us"),
        ]
    return figures


BENCHMARK = Figures(
    name="actors",
    question="What do a message, an ask, a spawn and an idle actor cost on one scheduler, and on Pykka? (best runs)",
    measure=measure,
)
