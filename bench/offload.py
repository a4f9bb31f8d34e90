"""Steps that leave the loop: what handing over costs, and what a busy thread beside the loop does to it.

Python's switch interval is how long a thread that computes keeps the interpreter when others want it. The loop gives
the interpreter up each time that it looks for I/O, so that it waits about so long in each round.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple, cast

from bench.engine_load import Engine, on_a_loop, percentile, work
from bench.harness import Figure, Figures
from zerver import App, CtxView, Decision, Done
from zerver.response import Response

__all__ = ["BENCHMARK", "Measured", "beside", "closed", "measure"]


def answers(ctx: CtxView) -> Decision:
    return Done.json({"ok": True})


APP = App()
APP.get("/x", answers)
INTERVALS = (0.005, 0.001, 0.0005, 0.0001)


@contextlib.contextmanager
def busy_thread() -> Iterator[list[int]]:
    """A thread that computes; it counts what it has done."""
    goes_on, done = [True], [0]

    def run() -> None:
        while goes_on:
            work(1)
            done[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        goes_on.clear()
        thread.join()


class Measured(NamedTuple):
    rate: float
    """Requests a second."""
    cpu: float
    """CPU microseconds of each."""
    p50: float
    p99: float
    """Milliseconds, from when the loop has read it to its answer."""


def closed(mode: str, clients: int, seconds: float = 1.0) -> Measured:
    """So many clients in a process of their own, each of which asks again when it is answered, by a byte on a socket:
    so the loop looks for I/O as often as a server's does."""
    pairs = [socket.socketpair() for _ in range(clients)]
    fds = [theirs.fileno() for _, theirs in pairs]
    command = [sys.executable, "-m", "bench.offload", *map(str, fds)]
    child = subprocess.Popen(command, pass_fds=fds)

    async def main() -> Measured:
        engine = Engine(APP, reactor={"continuation_pool": {"mode": mode}})
        pipeline = engine.pipeline("/x")
        took: list[int] = []

        class Connection(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = cast(asyncio.Transport, transport)

            def data_received(self, data: bytes) -> None:
                engine.begin(pipeline, time.monotonic_ns(), self.answer)

            def answer(self, response: Response | None, due_ns: int) -> None:
                took.append(time.monotonic_ns() - due_ns)
                self.transport.write(b"x")

        try:
            made = [await engine.loop.create_connection(Connection, sock=ours) for ours, _ in pairs]
            await asyncio.sleep(0.5)  # the child starts
            del took[:]
            began, cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(seconds)
            waits = [one / 1e6 for one in took]
            rate = len(took) / (time.monotonic() - began)
            cpu_each = (time.process_time() - cpu) / len(took) * 1e6
            for transport, _ in made:
                transport.close()
            return Measured(rate, cpu_each, percentile(waits, 0.5), percentile(waits, 0.99))
        finally:
            await engine.close()

    try:
        return on_a_loop(main)
    finally:
        for pair in pairs:
            for end in pair:
                end.close()
        child.wait()


def _clients(fds: list[int]) -> None:
    """Ask again and again on these sockets, until the other ends are closed."""
    with selectors.DefaultSelector() as selector:
        for fd in fds:
            selector.register(fd, selectors.EVENT_READ)
            os.write(fd, b"x")
        try:
            while True:
                for key, _ in selector.select():
                    if not os.read(key.fd, 16):
                        return
                    os.write(key.fd, b"x")
        except OSError:  # closed while it wrote
            return


def beside(interval: float) -> tuple[Measured, float]:
    """16 clients, with a busy thread and this switch interval; and what the thread does then, of what it does alone."""
    before = sys.getswitchinterval()
    with busy_thread() as done:
        time.sleep(0.2)
        alone = _rate(done)
        sys.setswitchinterval(interval)
        try:
            first, began = done[0], time.monotonic()
            measured = closed("inline", 16)
            return measured, (done[0] - first) / (time.monotonic() - began) / alone
        finally:
            sys.setswitchinterval(before)


def _rate(done: list[int]) -> float:
    first, began = done[0], time.monotonic()
    time.sleep(0.3)
    return (done[0] - first) / (time.monotonic() - began)


def measure() -> list[Figure]:
    """The figures of one run."""
    figures = []
    for clients in (1, 64):
        for mode in ("inline", "adaptive", "pool"):
            found = closed(mode, clients)
            figures += [
                Figure(f"{mode}, clients: {clients}", found.rate, "requests/s"),
                Figure(f"{mode}, clients: {clients}, CPU of a request", found.cpu, "us"),
            ]
    figures.append(Figure("16 clients, no busy thread", closed("inline", 16).rate, "requests/s"))
    for interval in INTERVALS:
        name = f"16 clients, a busy thread, switch interval {interval * 1e3:g} ms"
        found, share = beside(interval)
        figures += [
            Figure(name, found.rate, "requests/s"),
            Figure(f"{name}: what the thread does, of its pace alone", share, ""),
        ]
    return figures


BENCHMARK = Figures(
    name="offload",
    question="What does it cost to run steps on threads, and what does a busy thread do to the loop beside it?",
    measure=measure,
)

if __name__ == "__main__":  # the clients, in a process of their own
    _clients([int(one) for one in sys.argv[1:]])
