"""What does a connection cost that does nothing? Memory of the server for each, after one request."""

from __future__ import annotations

import socket

from bench.harness import Figure, Figures
from bench.slow_clients import GET, Served

__all__ = ["BENCHMARK"]

_CONNECTIONS = 2000


def _idle(port: int, count: int) -> list[socket.socket]:
    made = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(GET % b"/quick")
        answer = one.recv(65536)
        assert answer.endswith(b"quick"), answer
        made.append(one)
    return made


def _measure() -> list[Figure]:
    with Served() as served:
        first = _idle(served.port, 50)
        before = served.held()
        idle = _idle(served.port, _CONNECTIONS)
        after = served.held()
        for one in (*first, *idle):
            one.close()
    connections = after["connections"] - before["connections"]
    assert connections == _CONNECTIONS, connections
    each = {name: (after[name] - before[name]) / connections for name in ("rss", "objects", "timers")}
    return [
        Figure("memory of an idle connection", each["rss"] / 1000, "KB", "8"),
        Figure("Python objects of an idle connection", each["objects"], ""),
        Figure("timers of an idle connection", each["timers"], ""),
    ]


BENCHMARK = Figures(
    name="idle_connections",
    question=f"What does a connection cost that does nothing? {_CONNECTIONS} of them, each after one request.",
    measure=_measure,
)
