"""What does a second scheduler process cost? The CPU for a request of one scheduler, and of two at once."""

from __future__ import annotations

import statistics

from bench.harness import Figure, Figures
from bench.http import load, serving, zerver

__all__ = ["BENCHMARK"]

_ROUNDS = 5


def _measure() -> list[Figure]:
    rates: dict[int, list[float]] = {1: [], 2: []}
    micros: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(_ROUNDS):
        for schedulers in (1, 2) if turn % 2 == 0 else (2, 1):
            with serving(f"{schedulers} schedulers", zerver(schedulers), "0,1") as found:
                assert not isinstance(found, str), found
                load(*found, "0,1")  # warm
                rate, cpu = load(*found, "0,1")
                rates[schedulers].append(rate)
                micros[schedulers].append(cpu)
    one, two = statistics.median(micros[1]), statistics.median(micros[2])
    return [
        Figure("one scheduler", statistics.median(rates[1]), "requests/s"),
        Figure("two schedulers", statistics.median(rates[2]), "requests/s"),
        Figure("one scheduler: CPU for each", one, "us"),
        Figure("two schedulers: CPU for each", two, "us"),
        Figure("CPU for a request, two schedulers / one", two / one, "x", "1.1"),
    ]


BENCHMARK = Figures(
    name="schedulers",
    question="What does a second scheduler process cost? The request of the benchmark http, server and wrk on the same "
    "two CPUs, which two schedulers and wrk have to share; medians of rounds in turn.",
    measure=_measure,
)
