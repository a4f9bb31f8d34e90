"""The harness: runs the sides of a benchmark in turn, and writes what came out as JSON and Markdown.

A side is a function that does ``n`` operations. What counts is CPU time per operation, and its ratio to the
first side: the machine's load shifts absolute times, and both sides alike.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

__all__ = ["Benchmark", "Figure", "Figures", "Side", "run"]

RESULTS = Path(__file__).parent / "results"


class Side(msgspec.Struct, frozen=True):
    """One side: its name, and a function that does ``n`` operations."""

    name: str
    work: Callable[[int], object]


class Benchmark(msgspec.Struct, frozen=True):
    """What is compared. ``operations`` of each side in each of ``rounds`` rounds; the first side is the measure."""

    name: str
    question: str
    sides: tuple[Side, ...]
    operations: int
    rounds: int = 9


class Figure(msgspec.Struct, frozen=True):
    """One measured number, and what it ought to be."""

    name: str
    value: float
    unit: str
    goal: str = ""


class Figures(msgspec.Struct, frozen=True):
    """What is measured on its own scale: rates, sizes, round trips. ``measure`` gives the figures of one run."""

    name: str
    question: str
    measure: Callable[[], list[Figure]]


def run(benchmark: Benchmark | Figures) -> None:
    """Measure, print, and write ``bench/results/NAME.json`` and ``.md``."""
    if isinstance(benchmark, Figures):
        figures = benchmark.measure()
        lines = ["| figure | value | goal |", "|---|---|---|"]
        lines += [f"| {one.name} | {_shown(one.value)} {one.unit} | {one.goal} |" for one in figures]
        _write(benchmark, "", lines, msgspec.to_builtins(figures))
        return
    micros = _interleaved(benchmark)
    first = statistics.median(micros[benchmark.sides[0].name])
    rows = [
        {
            "side": name,
            "cpu_us_median": round(statistics.median(values), 3),
            "cpu_us_min": round(min(values), 3),
            "cpu_us_max": round(max(values), 3),
            "ratio": round(statistics.median(values) / first, 3),
        }
        for name, values in micros.items()
    ]
    lines = ["| side | CPU per operation, median (min - max) | ratio |", "|---|---|---|"]
    lines += [
        f"| {row['side']} | {row['cpu_us_median']} us ({row['cpu_us_min']} - {row['cpu_us_max']}) | {row['ratio']} |"
        for row in rows
    ]
    how = f"; {benchmark.rounds} rounds of {benchmark.operations} operations, sides in turn; CPU time of the process"
    _write(benchmark, how, lines, rows)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _interleaved(benchmark: Benchmark) -> dict[str, list[float]]:
    """CPU microseconds per operation, by side, of each round."""
    micros: dict[str, list[float]] = {side.name: [] for side in benchmark.sides}
    for side in benchmark.sides:
        side.work(max(1, benchmark.operations // 10))  # warm caches and pools
    for turn in range(benchmark.rounds):
        for side in benchmark.sides if turn % 2 == 0 else benchmark.sides[::-1]:
            gc.collect()
            started = time.process_time()
            side.work(benchmark.operations)
            micros[side.name].append((time.process_time() - started) / benchmark.operations * 1e6)
    return micros


def _write(benchmark: Benchmark | Figures, how: str, table: list[str], rows: object) -> None:
    machine = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, "
    machine += f"{os.cpu_count()} CPUs"
    heading = [f"# {benchmark.name}", "", benchmark.question, ""]
    text = "\n".join([*heading, f"`python -m bench {benchmark.name}`; {machine}{how}.", "", *table, ""])
    record = {"benchmark": benchmark.name, "question": benchmark.question, "machine": machine, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{benchmark.name}.md").write_text(text)
    (RESULTS / f"{benchmark.name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(text)
