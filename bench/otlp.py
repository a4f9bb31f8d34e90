"""What export costs: `zerver serve` that keeps 1 in 100 requests, with and without export to a collector.

The CPU time of all its processes, and of the one that serves. Needs wrk (a Debian package) and the extra ``otel``.
"""

from __future__ import annotations

import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from bench.harness import Figure, Figures
from bench.http import CLIENT_CPU, cpu_seconds, load, serving, zerver

__all__ = ["BENCHMARK"]

_ROUNDS = 6
_SAMPLE = 100
_SIDES = ("nothing is kept", "1 in 100 is kept", "1 in 100 is kept and exported")


@contextmanager
def _collector() -> Iterator[int]:
    """The port of one in a process of its own, which only stores what it gets."""
    command = ["taskset", "-c", CLIENT_CPU, sys.executable, "-m", "bench.otlp"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate()


def _collect() -> None:
    """Keep what is posted; tell how many traces that were when asked."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self._answer(b"")

        def do_GET(self) -> None:
            from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

            found = [TracesData.FromString(body) for body in bodies]
            spans = [
                span for one in found for of in one.resource_spans for scope in of.scope_spans for span in scope.spans
            ]
            self._answer(str(len({span.trace_id for span in spans})).encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = self.command == "GET"

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def _collected(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/")
    return int(connection.getresponse().read())


def _children(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == pid:
                found.append(int(entry))
    return found


def _round(side: str, folder: str, collector: int) -> tuple[float, float]:
    """CPU microseconds for each request: of all processes, and of the one that serves."""
    settings = {
        "ZERVER_TRACE__STORE": f"sqlite:///{folder}/traces.db",
        "ZERVER_TRACE__SLOW_MS": "60000",
        "ZERVER_TRACE__SAMPLE": "0" if side == _SIDES[0] else str(_SAMPLE),
        "OTEL_SDK_DISABLED": "false" if side == _SIDES[2] else "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
    }
    os.environ.update(settings)
    with serving(side, zerver(1)) as found:
        assert not isinstance(found, str)
        port, pid = found
        load(port, pid)  # warm
        before = {child: cpu_seconds(child) for child in _children(pid)}
        began = cpu_seconds(pid)
        _, each = load(port, pid)
        requests = (cpu_seconds(pid) - began) / each * 1e6
        most = max(cpu_seconds(child) - seconds for child, seconds in before.items())
        return each, most / requests * 1e6


def _measure() -> list[Figure]:
    if shutil.which("wrk") is None:
        raise SystemExit("bench otlp: wrk is not installed (Debian: apt-get install wrk)")
    total: dict[str, list[float]] = {side: [] for side in _SIDES}
    own: dict[str, list[float]] = {side: [] for side in _SIDES}
    with tempfile.TemporaryDirectory() as folder, _collector() as collector:
        for turn in range(_ROUNDS):
            for side in _SIDES if turn % 2 == 0 else _SIDES[::-1]:
                all_of_it, serving_one = _round(side, folder, collector)
                total[side].append(all_of_it)
                own[side].append(serving_one)
        traces = _collected(collector)
    figures = [Figure(f"CPU of a request, {side}", round(statistics.median(total[side]), 2), "us") for side in _SIDES]
    for name, found, goal in (
        ("the process that serves", own, "at most 2"), ("all processes", total, ""),
    ):  # fmt: skip
        for one, other in ((_SIDES[1], _SIDES[0]), (_SIDES[2], _SIDES[1])):
            more = [mine / theirs * 100 - 100 for mine, theirs in zip(found[one], found[other], strict=True)]
            figures.append(Figure(f"{name}: {one}, more than {other}", round(statistics.median(more), 2), "%", goal))
    return [*figures, Figure("traces that the collector got", traces, "")]


BENCHMARK = Figures(
    name="otlp",
    question="What does it cost to keep 1 in 100 requests, and to export them? GET /todos/{id} through three steps, 64 "
    "connections, all processes on one core, wrk and the collector on the other; medians of rounds in turn.",
    measure=_measure,
)

if __name__ == "__main__":
    _collect()
