"""The cache effector: in this process, in an actor, and on a real Redis server."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from effector_conformance import Probe
from node_kit import program
from redis_kit import RedisServer
from service_kit import running

from zerver import App, CtxView, Decision, Done, Need, Slot, need, step
from zerver.cache_actor import CACHE, CacheActor
from zerver.effect import Effect
from zerver.effect_results import interpret
from zerver.effectors.cache import CacheEffector
from zerver.effects import cache
from zerver.error import Error, ErrorKind
from zerver_runtime.ids import Place
from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.scheduler import Scheduler


class Stage:
    """A scheduler whose turns are the test's."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(Place(0, 0, 1), time.monotonic_ns, check_arguments=True)

    def spawn(self, most: int) -> Any:
        return self.scheduler.spawn(CacheActor, (most,), name=CACHE)

    def settle(self) -> None:
        while self.scheduler.turn() == 0.0:
            pass


PROGRAM = Path(__file__).with_name("cache_node.py")


class Rig:
    """A cache, a way to let time pass, and a way to let what it asked for come."""

    def __init__(self, effector: CacheEffector, later: Callable[[float], object], settle: Callable[[], object]) -> None:
        self.effector = effector
        self.later = later
        self._settle = settle

    async def outcome(self, effect: Effect[Any]) -> Outcome:
        probe = Probe(self.effector, effect)
        self._settle()
        outcome = await probe.settled()
        assert probe.threads == [threading.current_thread()]
        return interpret(effect, outcome.value, time.time) if isinstance(outcome, Success) else outcome

    async def value(self, effect: Effect[Any]) -> Any:
        outcome = await self.outcome(effect)
        assert isinstance(outcome, Success), outcome
        return outcome.value


@pytest.fixture(params=["process", "actor", "redis"])
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    clock = [1000.0]

    def later(seconds: float) -> None:
        clock[0] += seconds

    if request.param == "process":
        return Rig(CacheEffector("memory://", most=100_000, clock=lambda: clock[0]), later, lambda: None)
    if request.param == "actor":
        monkeypatch.setattr("zerver.cache_actor.time", type("Clock", (), {"monotonic": lambda: clock[0]}))
        stage = Stage()
        stage.spawn(100_000)
        return Rig(CacheEffector("memory://", most=0, stage=stage.scheduler), later, stage.settle)
    server: RedisServer = request.getfixturevalue("redis_server")
    server.ask("FLUSHALL")
    return Rig(CacheEffector(server.url, most=0), time.sleep, lambda: None)


def run(rig: Rig, check: Callable[[], Any]) -> None:
    async def main() -> None:
        try:
            await check()
        finally:
            await rig.effector.close()

    asyncio.run(main(), debug=True)


def test_what_is_set_is_read_until_it_is_deleted(rig: Rig) -> None:
    async def check() -> None:
        assert await rig.value(cache.get("k")) is None
        assert await rig.value(cache.set("k", {"a": [1]}, ttl=60)) is None
        assert await rig.value(cache.get("k")) == {"a": [1]}
        assert await rig.value(cache.get("k", as_=dict[str, list[int]])) == {"a": [1]}
        assert await rig.value(cache.set("é", b"\0\xff", ttl=60)) is None
        assert await rig.value(cache.get("é", as_=bytes)) == b"\0\xff"
        assert await rig.value(cache.delete("k")) is None
        assert await rig.value(cache.delete("k")) is None
        assert await rig.value(cache.get("k")) is None

    run(rig, check)


def test_it_is_gone_after_its_time(rig: Rig) -> None:
    async def check() -> None:
        await rig.value(cache.set("k", 1, ttl=0.05))
        await rig.value(cache.set("j", 1, ttl=1000))
        rig.later(0.06)
        assert await rig.value(cache.get("k")) is None
        assert await rig.value(cache.get("j")) == 1

    run(rig, check)


def test_the_shortest_time_is_one_that_the_store_knows(rig: Rig) -> None:
    async def check() -> None:
        await rig.value(cache.set("k", 1, ttl=1e-9))
        rig.later(0.01)
        assert await rig.value(cache.get("k")) is None

    run(rig, check)


def test_a_value_that_does_not_fit_its_type_is_a_bug(rig: Rig) -> None:
    async def check() -> None:
        await rig.value(cache.set("k", "text", ttl=60))
        outcome = await rig.outcome(cache.get("k", as_=int))
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, Error)
        assert outcome.error.kind is ErrorKind.INTERNAL

    run(rig, check)


def test_in_memory_it_is_bounded() -> None:
    rig = Rig(CacheEffector("memory://", most=10_000), time.sleep, lambda: None)

    async def check() -> None:
        for number in range(100):
            await rig.value(cache.set(f"k{number}", "x" * 1000, ttl=60))
        there = [number for number in range(100) if await rig.value(cache.get(f"k{number}")) is not None]
        assert there == list(range(92, 100))

    run(rig, check)


def failed(probe: Probe) -> tuple[ErrorKind, bool]:
    (outcome,) = probe.outcomes
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, Error)
    return outcome.error.kind, outcome.retryable


def test_an_actor_that_is_not_there_or_dies_is_unavailable_for_now_and_found_again() -> None:
    stage = Stage()
    effector = CacheEffector("memory://", most=0, stage=stage.scheduler)
    assert failed(Probe(effector, cache.get("k"))) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
    actor = stage.spawn(1000)
    asked = Probe(effector, cache.get("k"))
    stage.scheduler.kill(actor)
    stage.settle()
    assert failed(asked) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
    stage.spawn(1000)
    again = Probe(effector, cache.get("k"))
    stage.settle()
    assert again.outcomes == [Success(None)]


def test_an_actor_with_too_much_to_do_is_overloaded() -> None:
    stage = Stage()
    effector = CacheEffector("memory://", most=0, stage=stage.scheduler)
    stage.spawn(1000)
    probes = [Probe(effector, cache.get("k")) for _ in range(8200)]
    assert failed(probes[-1]) == (ErrorKind.OVERLOADED, False)
    stage.settle()
    assert probes[0].outcomes == [Success(None)]
    assert {len(probe.outcomes) for probe in probes} == {1}


def test_a_cancelled_ask_is_over_at_once_and_its_answer_is_dropped() -> None:
    stage = Stage()
    effector = CacheEffector("memory://", most=0, stage=stage.scheduler)
    stage.spawn(1000)
    probe = Probe(effector, cache.get("k"))
    assert probe.cancel is not None
    probe.cancel()
    assert len(probe.outcomes) == 1
    left = Probe(effector, cache.get("k"))
    asyncio.run(effector.close())
    assert len(left.outcomes) == 1
    stage.settle()
    assert (len(probe.outcomes), len(left.outcomes)) == (1, 1)
    assert failed(Probe(effector, cache.get("k")))[0] is ErrorKind.OVERLOADED


def test_processes_of_a_node_share_the_actor() -> None:
    with program(programs=PROGRAM) as node:
        assert node.expect(lambda line: "found" in line)["found"] == {"from": 0}
        node.signal(signal.SIGTERM)
        assert node.expect(lambda line: "exit" in line)["exit"] == 0
        node.end()


class Page(Slot[dict[str, int] | None]):
    """What the cache has."""


@step
async def show(ctx: CtxView[Page, Page]) -> Decision:
    page = await need(cache.get("page", into=Page))
    if page is not None:
        return Done.json({"cached": page})
    return Need([cache.set("page", {"n": 1}, ttl=60)], then=made)


def made(ctx: CtxView) -> Decision:
    return Done.json({"made": {"n": 1}})


@pytest.mark.parametrize("reactor", [True, False])
def test_an_app_has_a_cache_without_any_setting(reactor: bool) -> None:
    app = App()
    app.get("/", show)

    async def main() -> None:
        async with running(app, reactor={"enabled": reactor}) as rig:
            assert await rig.get("/").json() == {"made": {"n": 1}}
            assert await rig.get("/").json() == {"cached": {"n": 1}}

    asyncio.run(main())
