"""Three small HTTP calls at once and an answer made of them: ``zerver serve`` against Starlette and aiohttp by hand.

Needs wrk. Each server is one process; what counts is its CPU time for each request, over rounds in turn.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.harness import Figure, Figures
from bench.http import cpu_seconds
from bench.local_upstream import upstream

__all__ = ["BENCHMARK"]

_CONNECTIONS = 16
_SECONDS = 1
_ROUNDS = 7
_ZERVER = ["zerver", "serve", "--schedulers", "1"]
_UVICORN = ["uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"]
_SIDES = {
    "Starlette and aiohttp by hand, on uvicorn": [*_UVICORN, "bench.fanout_apps:starlette_app"],
    "Zerver, aiohttp driver": [*_ZERVER, "bench.fanout_apps:aiohttp_app"],
    "Zerver, lean driver": [*_ZERVER, "bench.fanout_apps:lean_app"],
}


@contextmanager
def _serving(command: list[str], upstream: str) -> Iterator[tuple[str, int]]:
    """The URL and the pid of a server that answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "BENCH_UPSTREAM": upstream, "ZERVER_OBSERVABILITY__ACCESS_LOG": "false"}
    server = subprocess.Popen(
        [sys.executable, "-m", *command, "--port", str(port)], env=environment, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/fan"
    try:
        until = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    answer.read()
                break
            except OSError:
                if time.monotonic() > until or server.poll() is not None:
                    raise
                time.sleep(0.05)
        yield url, server.pid
    finally:
        server.terminate()
        server.wait()


def _load(url: str, pid: int) -> float:
    """CPU microseconds of the server for each request."""
    began = cpu_seconds(pid)
    wrk = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}", url]
    told = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    return (cpu_seconds(pid) - began) / int(re.findall(r"(\d+) requests in", told)[0]) * 1e6


def _measure() -> list[Figure]:
    if shutil.which("wrk") is None:
        raise SystemExit("bench fanout: wrk is not installed (Debian: apt-get install wrk nginx-light)")
    micros: dict[str, list[float]] = {side: [] for side in _SIDES}
    with upstream() as calls, ExitStack() as stack:
        servers = {side: stack.enter_context(_serving(command, calls)) for side, command in _SIDES.items()}
        for turn in range(_ROUNDS + 1):
            for side in list(_SIDES) if turn % 2 else list(_SIDES)[::-1]:
                micros[side].append(_load(*servers[side]))
    medians = {side: statistics.median(values[1:]) for side, values in micros.items()}  # the first round warmed up
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
