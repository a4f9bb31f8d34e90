"""What is shared costs: the cache of all schedulers against one of this process and against Redis, and asking an actor.

Each server is a ``zerver serve`` with one scheduler; what counts is the CPU time of all its processes, and of Redis,
for each request. Needs wrk, and redis-server (or valkey-server) for its side.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Never

from bench.harness import Figure, Figures
from bench.http import cpu_seconds
from zerver import App, CtxView, Decision, Done, Need, Slot, actor, cache, step
from zerver_runtime.actor import Actor, Affinity, behaviour

__all__ = ["BENCHMARK"]

_CONNECTIONS = 16
_SECONDS = 1
_ROUNDS = 5


# The app


class Counter(Actor):
    """It is where the steps are."""

    affinity: ClassVar[Affinity] = "performance"

    def __init__(self) -> None:
        self.value = 0

    @behaviour
    def add(self, by: int) -> int:
        self.value += by
        return self.value


class Elsewhere(Actor):
    """It is in the process for what is not hurried."""

    affinity: ClassVar[Affinity] = "efficiency"

    def __init__(self) -> None:
        self.value = 0

    @behaviour
    def add(self, by: int) -> int:
        self.value += by
        return self.value


class Cached(Slot[dict[str, Any] | None]):
    """What the cache has."""


class Total(Slot[int]):
    """What the actor has counted."""


def nothing(ctx: CtxView) -> Decision:
    return Need([], then=done)


def done(ctx: CtxView) -> Decision:
    return Done.json({"id": 42})


@step
def get(ctx: CtxView[Never, Cached]) -> Decision:
    return Need([cache.get("key", into=Cached, timeout=5)], then=found)


def found(ctx: CtxView[Cached]) -> Decision:
    value = ctx.optional(Cached)
    if value is None:
        return Need([cache.set("key", {"id": 42}, ttl=3600, timeout=5)], then=done)
    return Done.json(value)


@step
def near(ctx: CtxView[Never, Total]) -> Decision:
    return Need([actor.ask("near", Counter.add, 1, into=Total)], then=total)


@step
def far(ctx: CtxView[Never, Total]) -> Decision:
    return Need([actor.ask("far", Elsewhere.add, 1, into=Total)], then=total)


def total(ctx: CtxView[Total]) -> Decision:
    return Done.json({"id": ctx.require(Total)})


def __getattr__(name: str) -> Any:
    if name not in ("app", "own_app"):
        raise AttributeError(name)
    app = App()
    if name == "own_app":
        from zerver.effectors.cache import CacheEffector

        app.effector("cache", CacheEffector("memory://", most=1 << 20))
    else:
        app.actor("near", Counter)
        app.actor("far", Elsewhere)
        app.get("/near", near)
        app.get("/far", far)
    app.get("/nothing", nothing)
    app.get("/get", get)
    return app


# The servers


@contextmanager
def _serving(app: str, cache_url: str) -> Iterator[tuple[str, int]]:
    port = _free_port()
    environment = {
        **os.environ, "ZERVER_OBSERVABILITY__ACCESS_LOG": "false", "ZERVER_EFFECTS__CACHE": cache_url,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        environment["ZERVER_TRACE__STORE"] = f"sqlite:///{folder}/traces.db"
        command = [sys.executable, "-m", "zerver", "serve", f"bench.actors_shared:{app}", "--schedulers", "1"]
        server = subprocess.Popen([*command, "--port", str(port)], env=environment, stderr=subprocess.DEVNULL)
        try:
            _await(port, server)
            yield f"http://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()
            server.wait()


@contextmanager
def _redis() -> Iterator[tuple[str, int] | None]:
    """Its URL and pid, where it is installed."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        yield None
        return
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            _await(port, server)
            yield f"redis://127.0.0.1:{port}/0", server.pid
        finally:
            server.terminate()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until or server.poll() is not None:
                raise
            time.sleep(0.02)


def _load(url: str, pids: tuple[int, ...]) -> float:
    """CPU microseconds of these processes, and of all below them, for each request."""
    began = sum(map(cpu_seconds, pids))
    wrk = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}", url]
    told = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    return (sum(map(cpu_seconds, pids)) - began) / int(re.findall(r"(\d+) requests in", told)[0]) * 1e6


def _measure() -> list[Figure]:
    if shutil.which("wrk") is None:
        raise SystemExit("bench actors_shared: wrk is not installed (Debian: apt-get install wrk)")
    with ExitStack() as stack:
        url, pid = stack.enter_context(_serving("app", "memory://"))
        own, own_pid = stack.enter_context(_serving("own_app", "memory://"))
        sides: dict[str, tuple[str, tuple[int, ...]]] = {
            "no effect": (f"{url}/nothing", (pid,)),
            "cache.get, a cache of this process": (f"{own}/get", (own_pid,)),
            "cache.get, the cache of all schedulers": (f"{url}/get", (pid,)),
        }
        redis = stack.enter_context(_redis())
        if redis is not None:
            other, other_pid = stack.enter_context(_serving("app", redis[0]))
            sides["cache.get, Redis"] = (f"{other}/get", (other_pid, redis[1]))
        sides["actor.ask, in the same process"] = (f"{url}/near", (pid,))
        sides["actor.ask, in another process"] = (f"{url}/far", (pid,))
        micros: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(_ROUNDS + 1):
            for name in list(sides) if turn % 2 else list(sides)[::-1]:
                micros[name].append(_load(*sides[name]))
    medians = {name: statistics.median(values[1:]) for name, values in micros.items()}  # the first round warmed up
    none = medians.pop("no effect")
    return [
        Figure("a request with a Need of none", none, "us"),
        *(Figure(f"more for {name}", value - none, "us") for name, value in medians.items()),
    ]


BENCHMARK = Figures(
    name="actors_shared",
    question="What does it cost to ask what all schedulers share? CPU time of all processes for each request, of "
    f"{_CONNECTIONS} connections from wrk, beyond that of a request that asks nothing.",
    measure=_measure,
)
