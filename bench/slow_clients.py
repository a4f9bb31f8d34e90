"""Two thousand clients that are slow (with the head, with the body, in reading) beside thirty-two good ones.

`python -m bench.slow_clients serve` is the server's side, in a process of its own; it tells what it holds when asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator

from bench.harness import Figure, Figures
from zerver import App, CtxView, Decision, Done, Need, timer
from zerver.config import load
from zerver.server.client_address import ClientAddress
from zerver.server.http_protocol import accept
from zerver.server.http_server import HttpServer
from zerver.server.service import Service
from zerver.wire import Limits
from zerver_runtime.reactor.loop import Timers, new_loop

__all__ = ["BENCHMARK", "GET", "Served"]

GOOD, SLOW = 32, 2000
LIMIT = 10.0  # seconds, of each kind of slowness
GET = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n"
_LARGE = b"x" * 300_000
_KINDS = (
    b"GET /quick HTTP/1.1\r\nHost: h\r\nX-A: ",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n",
    GET % b"/large",
)


def _app() -> App:
    app = App()

    @app.get("/quick")
    def quick(ctx: CtxView) -> Decision:
        return Done.text("quick")

    @app.get("/later")
    def later(ctx: CtxView) -> Decision:
        return Need([timer.sleep(0.001)], then=quick)

    @app.get("/large")
    def large(ctx: CtxView) -> Decision:
        return Done.bytes(_LARGE)

    @app.get("/stream")
    def stream(ctx: CtxView) -> Decision:
        return Done.stream(_chunks())

    @app.post("/echo")
    def echo(ctx: CtxView) -> Decision:
        return Done.bytes(ctx.body)

    return app


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"chunk"


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    service = Service(_app().site(), load({"reactor": {"enabled": True}}, {}, {}), loop)
    await service.ready()
    timers = Timers(loop)
    server = HttpServer(
        service, {}, None, limits=Limits(head_timeout=LIMIT, body_timeout=LIMIT), write_timeout=LIMIT,
        client_address=ClientAddress(), secure=False, call_later=timers.call_later,
    )  # fmt: skip
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)  # else the kernel takes it all
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    listener.setblocking(False)

    def arrived() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            accept(server, connection)

    def tell() -> None:
        if not os.read(0, 100):
            os._exit(0)
        gc.collect()
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        held = {
            "connections": len(server),
            "requests": len(list(service.engine.live)),
            "tasks": len(asyncio.all_tasks()),
            "timers": len(timers._wheel) + len(service._timers._wheel),
            "fds": len(os.listdir("/proc/self/fd")),
            "objects": len(gc.get_objects()),
            "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        }
        print(json.dumps(held), flush=True)

    loop.add_reader(listener, arrived)
    loop.add_reader(0, tell)
    gc.collect()
    gc.freeze()
    print(listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


class Served:
    """The server in a process of its own."""

    def __enter__(self) -> Served:
        command = [sys.executable, "-m", "bench.slow_clients", "serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self._line())
        return self

    def held(self) -> dict[str, int]:
        """What it keeps."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"?")
        self._process.stdin.flush()
        held: dict[str, int] = json.loads(self._line())
        return held

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


async def _good(port: int, seconds: float, took: list[float]) -> None:
    """A request every 20 ms."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        writer.write(GET % b"/quick")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(5)
        assert head.startswith(b"HTTP/1.1 200"), head
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.02)
    writer.close()
    await writer.wait_closed()


async def _p99(port: int, seconds: float) -> float:
    took: list[float] = []
    await asyncio.gather(*(_good(port, seconds, took) for _ in range(GOOD)))
    return statistics.quantiles(took, n=100)[98]


def _connect(port: int, sent: bytes) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect(("127.0.0.1", port))
    one.send(sent)
    one.setblocking(False)
    return one


async def _drip(slow: list[socket.socket]) -> None:
    """A byte a second from each that sends; those that do not read do not."""
    while True:
        for at in range(0, len(slow), 100):
            for one in slow[at : at + 100]:
                with contextlib.suppress(OSError):
                    one.send(b"a")
            await asyncio.sleep(100 / len(slow))


async def _measure() -> list[Figure]:
    with Served() as served:
        await _p99(served.port, 1.0)
        alone = await _p99(served.port, LIMIT / 2)
        slow = []
        for n in range(SLOW):  # in a second or two: what is measured is slowness, not a burst
            slow.append(_connect(served.port, _KINDS[n % len(_KINDS)]))
            if n % 50 == 0:
                await asyncio.sleep(0.04)
        began = time.monotonic()
        dripping = asyncio.create_task(_drip([one for n, one in enumerate(slow) if n % len(_KINDS) < 2]))
        among = await _p99(served.port, LIMIT / 2)
        there = served.held()["connections"]
        while left := served.held()["connections"]:
            if time.monotonic() - began > LIMIT + 10:
                break
            await asyncio.sleep(0.1)
        gone = time.monotonic() - began
        dripping.cancel()
        for one in slow:
            one.close()
    return [
        Figure("p99 of the good ones, alone", alone * 1e3, "ms"),
        Figure("p99 of the good ones, among slow ones", among * 1e3, "ms"),
        Figure("ratio", among / alone, "", "<= 2"),
        Figure("slow ones that were there while that was measured", there, "", str(SLOW)),
        Figure("slow ones that stayed", left, "", "0"),
        Figure("until the last was gone", gone, "s", f"<= {LIMIT + Limits().linger_timeout + 0.5:g}"),
    ]


def _measured() -> list[Figure]:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_measure())


BENCHMARK = Figures(
    name="slow_clients",
    question=f"Do {SLOW:,} slow connections (head, body, reading) change what {GOOD} good ones see, and when are they "
    f"gone? Each kind of slowness has {LIMIT:g} s. One scheduler; the clients share the machine with it.",
    measure=_measured,
)

if __name__ == "__main__":
    assert sys.argv[1:] == ["serve"]
    with asyncio.Runner(loop_factory=new_loop) as serving:
        serving.run(_serve())
