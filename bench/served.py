"""Not a benchmark: servers as processes of their own, and what wrk has them do."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.http import cpu_seconds

__all__ = ["UVICORN", "ZERVER", "cpu_each", "free_port", "needs_wrk", "serving"]

ZERVER = ("zerver", "serve", "--schedulers", "1")
UVICORN = ("uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error")


def needs_wrk(benchmark: str) -> None:
    """:raises SystemExit: wrk is not there."""
    if shutil.which("wrk") is None:
        raise SystemExit(f"bench {benchmark}: wrk is not installed (Debian: apt-get install wrk nginx-light)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving(command: tuple[str, ...], app: str, environment: Mapping[str, str], path: str) -> Iterator[tuple[str, int]]:
    """The URL, without a path, and the pid of a server of ``app`` that answers at ``path``."""
    port = free_port()
    given = {**os.environ, "ZERVER_OBSERVABILITY__ACCESS_LOG": "false", **environment}
    server = subprocess.Popen(
        [sys.executable, "-m", *command, app, "--port", str(port)], env=given, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(url + path, timeout=5) as answer:
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


def cpu_each(
    sides: Mapping[str, tuple[str, tuple[int, ...]]], *, connections: int, rounds: int, seconds: int = 1
) -> dict[str, float]:
    """CPU microseconds for each request, by side: of the processes of its pids and all below them, the median of
    ``rounds``, in turn. A side is its URL and those pids."""
    micros: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(rounds + 1):
        for side in list(sides) if turn % 2 else list(sides)[::-1]:
            url, pids = sides[side]
            began = sum(map(cpu_seconds, pids))
            wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", url]
            told = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
            if "Non-2xx" in told or "Socket errors" in told:
                raise RuntimeError(f"{side}: {told}")
            answered = int(re.findall(r"(\d+) requests in", told)[0])
            micros[side].append((sum(map(cpu_seconds, pids)) - began) / answered * 1e6)
    return {side: statistics.median(values[1:]) for side, values in micros.items()}  # the first round warmed up
