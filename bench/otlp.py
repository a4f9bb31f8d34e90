"""What export costs: the parts of it, one by one; and `zerver serve` that keeps 1 in 100 requests, with and without.

The latter is the CPU time of all its processes, and of the one that serves; it wants a machine that does nothing else.
Needs wrk (a Debian package) and the extra ``otel``.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.harness import Figure, Figures
from bench.http import CLIENT_CPU, cpu_seconds, load, serving, zerver
from bench.tracing import Served, recorder, todos
from zerver.config import Config
from zerver.redaction import Redaction
from zerver.trace.export_actor import EXPORTER, ActorSink, ExportActor
from zerver.trace.record import Row
from zerver.trace.recorder import TailRecorder
from zerver.trace.recording import Recording
from zerver.trace.span_attributes import span_settings
from zerver.trace.span_exporter import SpanExporter
from zerver.trace.store import TraceReader
from zerver_runtime.actor import behaviour
from zerver_runtime.control import Named
from zerver_runtime.ids import Place, pack
from zerver_runtime.mailman import Mailman
from zerver_runtime.reactor.loop import new_loop
from zerver_runtime.ref import class_path, id_of
from zerver_runtime.scheduler import Scheduler
from zerver_runtime.testing.memory_link import memory_pair

__all__ = ["BENCHMARK"]

_ROUNDS = 10
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

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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


class _Server:
    """One side; it is idle while it is another's turn."""

    def __init__(self, port: int, pid: int) -> None:
        self._port = port
        self._pid = pid
        load(port, pid)  # warm
        self._serves = max(_children(pid), key=cpu_seconds)
        self._began = cpu_seconds(pid)
        self._requests = 0.0
        self.own: list[float] = []
        """CPU microseconds of the process that serves, for each request, by round."""

    def round(self) -> None:
        before, began = cpu_seconds(self._serves), cpu_seconds(self._pid)
        _, each = load(self._port, self._pid)
        requests = (cpu_seconds(self._pid) - began) / each * 1e6
        self._requests += requests
        self.own.append((cpu_seconds(self._serves) - before) / requests * 1e6)

    def total(self) -> float:
        """CPU microseconds of all its processes for each request so far."""
        return (cpu_seconds(self._pid) - self._began) / self._requests * 1e6


@contextmanager
def _serving(side: str, folder: str, collector: int) -> Iterator[_Server]:
    os.environ.update(
        {
            "ZERVER_TRACE__STORE": f"sqlite:///{folder}/{_SIDES.index(side)}.db",
            "ZERVER_TRACE__SLOW_MS": "60000",
            "ZERVER_TRACE__SAMPLE": "0" if side == _SIDES[0] else str(_SAMPLE),
            "OTEL_SDK_DISABLED": "false" if side == _SIDES[2] else "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        }
    )
    with serving(side, zerver(1)) as found:
        if isinstance(found, str):
            raise SystemExit(f"bench otlp: {found}")
        yield _Server(*found)


class _Rows:
    """Keeps what is kept."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def write(self, rows: Sequence[Row], /) -> bool:
        self.rows += rows
        return True

    async def close(self) -> None:
        pass


class _Taker(ExportActor):
    """Takes traces, and forgets them."""

    def __init__(self) -> None:
        pass

    @behaviour
    def take(self, records: list[bytes]) -> bool:
        return True


async def _request(loop: asyncio.AbstractEventLoop) -> tuple[float, list[Row]]:
    """CPU microseconds of a request of which nothing is kept; and 1 in 100 of them as they are kept."""
    own, _ = recorder(loop)
    keeps = _Rows()
    keeping = TailRecorder(
        keeps, Recording(Redaction(), bodies=True, engine="reactor"), sample=_SAMPLE, slow_ns=60_000_000_000,
        trusts=None, soon=loop.call_soon_threadsafe, call_later=loop.call_later,
    )  # fmt: skip
    served = [Served(todos(), loop, one) for one in (own, keeping)]
    for one in served:
        await one.start()
        await one.ask(4_000)
    micros = [await served[0].ask(400) for _ in range(60)]
    for one in served:
        one.client.close()
        await one.server.drain(1.0)
        one.server.close()
        await one.service.close()
    return statistics.median(micros), keeps.rows


def _hand_over(rows: Sequence[Row]) -> float:
    """CPU microseconds for each trace: to send it to another process, and to hear that it was taken."""
    here, there = (Scheduler(Place(0, slot, 1), time.monotonic_ns) for slot in (0, 1))
    here.mailman, there.mailman = mail, mail_there = Mailman(here, _unheard), Mailman(there, _unheard)
    near, far = memory_pair(capacity=1 << 20)
    mail.attach(1, 1, near)
    mail_there.attach(0, 1, far)
    actor = there.spawn(_Taker, ())
    mail.heard(Named(EXPORTER, pack(id_of(actor)), class_path(_Taker)))
    sink = ActorSink(here, lambda seconds, callback: None)  # type: ignore[arg-type]  # no timer goes off
    took = 0.0
    for _ in range(400):
        began = time.process_time()
        for start in range(0, 48, 4):
            sink.write(rows[start : start + 4])
        sink._send()
        here.turn()
        took += time.process_time() - began
        far.deliver()
        there.turn()
        began = time.process_time()
        near.deliver()
        here.turn()
        took += time.process_time() - began
    assert not sink.dropped
    assert not sink._asked, "all of it was taken"
    return took / 400 / 48 * 1e6


def _unheard(word: object) -> None:
    pass


def _export(rows: Sequence[Row], collector: int) -> float:
    """CPU microseconds for each trace, from its record to the collector's answer."""
    os.environ.update({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}", "OTEL_SDK_DISABLED": "false"})
    exporter = SpanExporter(span_settings(Config()))
    took = 0.0
    for number in range(12):
        began = time.process_time()
        exporter.put([rows[at % len(rows)].data for at in range(1000)])
        while exporter.statistics().exported < 1000 * (number + 1):
            time.sleep(0.01)
        if number > 1:  # the first ones import the SDK
            took += time.process_time() - began
    exporter.finish(5.0)
    return took / 10_000 * 1e6


def _parts(collector: int) -> list[Figure]:
    loop = new_loop()
    try:
        request, rows = loop.run_until_complete(_request(loop))
    finally:
        loop.close()
    hand_over, export = _hand_over(rows), _export(rows, collector)
    return [
        Figure("CPU of a request, within one process, nothing kept", round(request, 2), "us"),
        Figure("to hand a kept trace to the process that exports", round(hand_over, 2), "us"),
        Figure("for 1 in 100, of the CPU of a request", round(hand_over / request, 2), "%", "at most 2"),
        Figure("to export it there, by the SDK", round(export, 1), "us"),
        Figure("for 1 in 100, as much as of the CPU of a request", round(export / request, 2), "%"),
    ]


def _measure() -> list[Figure]:
    if shutil.which("wrk") is None:
        raise SystemExit("bench otlp: wrk is not installed (Debian: apt-get install wrk)")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        collector = stack.enter_context(_collector())
        parts = _parts(collector)
        servers = {side: stack.enter_context(_serving(side, folder, collector)) for side in _SIDES}
        for turn in range(_ROUNDS):
            for side in _SIDES if turn % 2 == 0 else _SIDES[::-1]:
                servers[side].round()
        time.sleep(3)  # what waits to be sent is theirs, too
        figures = [
            Figure(f"CPU of a request, {side}", round(statistics.median(servers[side].own), 2), "us") for side in _SIDES
        ]
        for one, other in ((_SIDES[1], _SIDES[0]), (_SIDES[2], _SIDES[1])):
            mine, theirs = servers[one], servers[other]
            more = [own / its * 100 - 100 for own, its in zip(mine.own, theirs.own, strict=True)]
            whole = mine.total() / theirs.total() * 100 - 100
            figures += [
                Figure(f"{one}, more than where {other}", round(statistics.median(more), 2), "%", "at most 2"),
                Figure("the same, of all processes together", round(whole, 2), "%"),
            ]
        with TraceReader(f"{folder}/{_SIDES.index(_SIDES[2])}.db") as reader:
            kept = reader.count()
        figures.append(
            Figure("of the traces that were kept, the collector got", _collected(collector) / kept * 100, "%")
        )
    return [*parts, *figures]


BENCHMARK = Figures(
    name="otlp",
    question="What does it cost to keep 1 in 100 requests, and to export them? GET /todos/{id} through three steps, 64 "
    "connections, all processes on one core, wrk and the collector on the other; medians of rounds in turn.",
    measure=_measure,
)

if __name__ == "__main__":
    _collect()
