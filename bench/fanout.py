"""Three small HTTP calls at once and an answer made of them: ``zerver serve`` against Starlette and aiohttp by hand.

Needs wrk. Each server is one process; what counts is its CPU time for each request, over rounds in turn.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.harness import Figure, Figures
from bench.local_upstream import upstream
from bench.served import UVICORN, ZERVER, cpu_each, needs_wrk, serving

__all__ = ["BENCHMARK"]

_CONNECTIONS = 16
_ROUNDS = 7
_SIDES = {
    "Starlette and aiohttp by hand, on uvicorn": (UVICORN, "bench.fanout_apps:starlette_app"),
    "Zerver, aiohttp driver": (ZERVER, "bench.fanout_apps:aiohttp_app"),
    "Zerver, lean driver": (ZERVER, "bench.fanout_apps:lean_app"),
}


def _measure() -> list[Figure]:
    needs_wrk("fanout")
    with upstream() as calls, ExitStack() as stack:
        sides = {}
        for side, (command, app) in _SIDES.items():
            url, pid = stack.enter_context(serving(command, app, {"BENCH_UPSTREAM": calls}, "/fan"))
            sides[side] = (f"{url}/fan", (pid,))
        medians = cpu_each(sides, connections=_CONNECTIONS, rounds=_ROUNDS)
    hand, full, lean = medians.values()
    return [
        *(Figure(side, value, "us") for side, value in medians.items()),
        Figure("requests per CPU second, aiohttp driver / by hand", hand / full, "x", "at least 0.9"),
        Figure("requests per CPU second, lean driver / by hand", hand / lean, "x", "at least 2.5 (4)"),
    ]


BENCHMARK = Figures(
    name="fanout",
    question="What does a request cost that makes three small HTTP calls at once, on kept connections? CPU time of the "
    f"server, of {_CONNECTIONS} connections from wrk; through steps, join and answer.",
    measure=_measure,
)
