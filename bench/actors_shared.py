"""What is shared costs: the cache of all schedulers against one of this process and against Redis, and asking an actor.

Each server is a ``zerver serve`` with one scheduler; what counts is the CPU time of all its processes, and of Redis,
for each request. Needs wrk, and redis-server (or valkey-server) for its side.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Never

from bench.harness import Figure, Figures
from bench.served import ZERVER, cpu_each, free_port, needs_wrk, serving
from zerver import App, CtxView, Decision, Done, Need, Slot, actor, cache, step
from zerver_runtime.actor import Actor, Affinity, behaviour

__all__ = ["BENCHMARK"]

_CONNECTIONS = 16
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
    with tempfile.TemporaryDirectory() as folder:
        environment = {"ZERVER_TRACE__STORE": f"sqlite:///{folder}/traces.db", "ZERVER_EFFECTS__CACHE": cache_url}
        with serving(ZERVER, f"bench.actors_shared:{app}", environment, "/nothing") as server:
            yield server


@contextmanager
def _redis() -> Iterator[tuple[str, int] | None]:
    """Its URL and pid, where it is installed."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            _await(port, server)
            yield f"redis://127.0.0.1:{port}/0", server.pid
        finally:
            server.terminate()
            server.wait()


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


def _measure() -> list[Figure]:
    needs_wrk("actors_shared")
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
        medians = cpu_each(sides, connections=_CONNECTIONS, rounds=_ROUNDS)
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
