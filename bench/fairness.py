"""Interactive requests, batch work, blocking calls and compute together, at 75 % load and at 200 %: who waits for whom.

Interactive: a step, an effect of 10 ms and a continuation, 0.1 ms of work each. Batch: the same with an effect of
priority ``batch``, and a continuation of 1 ms. Calls: functions of 1 ms on the thread pool. Compute: functions of 1 ms
in a worker process.
"""

from __future__ import annotations

import time
from statistics import median

import msgspec

from bench.engine_load import Engine, Load, Sent, on_a_loop, percentile, work
from bench.harness import Figure, Figures
from zerver import App, CtxView, Decision, Done, Need, call, compute, timer

__all__ = ["BENCHMARK", "measure", "mixed"]


def interactive(ctx: CtxView) -> Decision:
    work(5)
    return Need([timer.sleep(0.01)], then=ends)


def batch(ctx: CtxView) -> Decision:
    work(5)
    return Need([msgspec.structs.replace(timer.sleep(0.01), priority="batch")], then=ends_late)


def calls(ctx: CtxView) -> Decision:
    return Need([call.run(time.sleep, 0.001)], then=ends)


def computes(ctx: CtxView) -> Decision:
    return Need([compute.run(work, 80)], then=ends)


def ends(ctx: CtxView) -> Decision:
    work(5)
    return Done.empty()


def ends_late(ctx: CtxView) -> Decision:
    work(80)
    _ended.append(time.monotonic())
    return Done.empty()


_ended: list[float] = []
PATHS = {"/interactive": interactive, "/batch": batch, "/calls": calls, "/compute": computes}
APP = App()
for path, step in PATHS.items():
    APP.get(path, step)


RATES = {"/interactive": 12.0, "/batch": 1.0, "/calls": 1.0, "/compute": 1.0}
"""How much there is of each kind."""


def mixed(rate: float, seconds: float = 4.0) -> tuple[dict[str, Sent], float]:
    """What comes of so many times `RATES` requests a second, and the share of a CPU that it takes."""

    async def main() -> tuple[dict[str, Sent], float]:
        engine = Engine(APP)
        try:
            sent = await Load(engine, {path: rate * share for path, share in RATES.items()}).run(1.0, seconds)
            any_of_them = sent["/batch"]
            return sent, any_of_them.cpu / any_of_them.seconds
        finally:
            await engine.close()

    return on_a_loop(main)


def full_load() -> float:
    """The rate that would take all of the CPU, found at about three quarters of it: with more to do at once, each
    request takes less."""
    rate = 100.0
    for _ in range(4):
        rate *= 0.75 / mixed(rate, 1.0)[1]
    return rate / 0.75


def least_of_batch(window: float = 0.2) -> int:
    """Batch continuations in the window that had the fewest."""
    windows: dict[int, int] = {}
    for at in _ended:
        windows[int(at / window)] = windows.get(int(at / window), 0) + 1
    first, last = min(windows), max(windows)
    return min(windows.get(n, 0) for n in range(first + 1, last))


def measure(rounds: int = 5) -> list[Figure]:
    """The figures of one run: medians, for the machine's own pace changes."""
    found: dict[str, list[tuple[float, str, str]]] = {}
    for _ in range(rounds):
        for one in _round():
            found.setdefault(one.name, []).append((one.value, one.unit, one.goal))
    return [Figure(name, median(value for value, _, _ in values), *values[0][1:]) for name, values in found.items()]


def _round() -> list[Figure]:
    rate = full_load()
    calm, busy = mixed(rate * 0.75, 2.0)
    del _ended[:]
    over, _ = mixed(rate * 2, 2.0)
    waits = {path: [one * 1e3 for one in sent.answered] for path, sent in calm.items()}
    p95, p99 = (percentile(waits["/interactive"], share) for share in (0.95, 0.99))
    return [
        Figure("share of a CPU at 75 % load", busy, ""),
        Figure("interactive, p50 at 75 % load", percentile(waits["/interactive"], 0.5), "ms"),
        Figure("interactive, p95", p95, "ms"),
        Figure("interactive, p99", p99, "ms"),
        Figure("interactive, p99 / p95", p99 / p95, "", "<= 1.5"),
        Figure("batch, p50", percentile(waits["/batch"], 0.5), "ms"),
        Figure("batch, p99", percentile(waits["/batch"], 0.99), "ms"),
        Figure("calls, p99", percentile(waits["/calls"], 0.99), "ms"),
        Figure("compute, p99", percentile(waits["/compute"], 0.99), "ms"),
        Figure("batch at twice the full load: continuations in the worst 200 ms", least_of_batch(), "", "> 0"),
        Figure("batch at twice the full load: answered of all that came", _share(over["/batch"]), "", "> 0"),
        Figure("interactive at twice the full load: the same", _share(over["/interactive"]), ""),
        Figure("compute at twice the full load: the same", _share(over["/compute"]), ""),
        Figure("batch at twice the full load, p99", percentile(over["/batch"].answered, 0.99) * 1e3, "ms"),
        Figure("interactive at twice the full load, p99", percentile(over["/interactive"].answered, 0.99) * 1e3, "ms"),
    ]


def _share(sent: Sent) -> float:
    return len(sent.answered) / max(sent.offered, 1)


BENCHMARK = Figures(
    name="fairness",
    question="Interactive requests, batch work, blocking calls and compute in one engine: does any of them starve?",
    measure=measure,
)
