"""A million requests, and fifty thousand connections that their peer resets: what does a server keep of them?"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time

from bench.harness import Figure, Figures
from bench.slow_clients import GET, Served

__all__ = ["BENCHMARK"]

REQUESTS, RESETS = 1_000_000, 50_000
_CONNECTIONS = 64
_POST = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
# One batch in a pipeline: mostly plain requests, each other kind once.
_BATCH = [GET % b"/quick"] * 16 + [GET % b"/later", GET % b"/stream", _POST, GET % b"/none"]
_RESET = struct.pack("ii", 1, 0)


def _requests(port: int, count: int) -> float:
    """Requests per second."""
    began = time.perf_counter()
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(_CONNECTIONS)]
    sent, done = b"".join(_BATCH), 0
    while done < count:
        for one in connections:
            one.sendall(sent)
        for one in connections:
            read = bytearray()
            while read.count(b"HTTP/1.1 ") < len(_BATCH) or not _ended(read):
                data = one.recv(65536)
                assert data, "the server has closed"
                read += data
            done += len(_BATCH)
    for one in connections:
        one.close()
    return done / (time.perf_counter() - began)


def _ended(read: bytearray) -> bool:
    # The last of a batch is a 404, in JSON.
    return read.endswith(b"}")


def _resets(port: int, count: int, chance: random.Random) -> None:
    for n in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        sent = chance.choice([*set(_BATCH), GET % b"/large"])
        if n % 4:
            one.sendall(sent if n % 2 else sent[: chance.randrange(len(sent))])
        if n % 8 == 0:
            one.settimeout(0.001)
            with contextlib.suppress(TimeoutError):
                one.recv(100)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.close()


def _at_rest(served: Served) -> dict[str, int]:
    end = time.monotonic() + 10
    while (held := served.held())["connections"] and time.monotonic() < end:
        time.sleep(0.1)
    return held


def _measure() -> list[Figure]:
    chance = random.Random(1)
    with Served() as served:
        _requests(served.port, REQUESTS // 20)
        _resets(served.port, RESETS // 20, chance)
        before = _at_rest(served)
        rate = _requests(served.port, REQUESTS)
        between = _at_rest(served)
        _resets(served.port, RESETS, chance)
        after = _at_rest(served)
    figures = [Figure("requests per second, in pipelines", rate, "")]
    for what, held in (("requests", between), ("resets", after)):
        figures += [
            Figure(f"{name} more after {what}", held[name] - before[name], "", "< 20" if name == "objects" else "0")
            for name in ("connections", "requests", "tasks", "timers", "fds", "objects")
        ]
        figures.append(Figure(f"memory more after {what}", (held["rss"] - before["rss"]) / 1e6, "MB", "< 5"))
    return figures


BENCHMARK = Figures(
    name="endurance",
    question=f"What does one scheduler keep of {REQUESTS:,} requests, and of {RESETS:,} connections that their peer "
    "reset in all states? Compared with what it holds after a twentieth of both.",
    measure=_measure,
)
