"""Cancelled, past its deadline or stopped in the middle of anything: nothing is left, and each request is over once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import compute_functions
import pytest
from asgi_kit import Connection, configured, serving, until
from scripted import Own, done, needing, own
from service_kit import Asked, Rig, Stuck, running

from zerver import App, Continue, CtxView, Decision, Done, ErrorKind, Retry, call, compute
from zerver_runtime.reactor.compute_pool import ComputePool, ComputeStatistics

Reach = Callable[[Rig, Own, Stuck], Awaitable[tuple[Asked, ...]]]
"""Brings a request to a point; gives it, and the others that it took."""


@pytest.fixture
def driver() -> Own:
    return Own()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    one = Stuck()
    yield one
    one.go.set()


# The points


async def at_effect(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    asked = rig.get("/effect")
    await until(lambda: driver.holding)
    return (asked,)


async def at_half_a_join(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    asked = rig.get("/join")
    await until(lambda: len(driver.holding) == 2)
    driver.release("a")
    await until(lambda: rig.engine.tasks.idle)
    return (asked,)


async def at_retry(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    asked = rig.get("/retry")
    await until(lambda: rig.dispatcher.statistics().retries)
    assert (rig.dispatcher.pending, rig.dispatcher.in_flight) == (1, 0)
    return (asked,)


async def at_bulkhead(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    first = rig.get("/effect")
    asked = rig.get("/behind")
    await until(lambda: rig.dispatcher.pending == 2)
    assert driver.log == ["+held"]
    return asked, first


async def at_queued_continuation(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    (asked,) = await at_effect(rig, driver, stuck)
    driver.release("held")
    assert not rig.engine.tasks.idle
    return (asked,)


async def at_queued_beginning(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    (first,) = await at_queued_continuation(rig, driver, stuck)
    asked = rig.get("/join")
    assert not asked.answers
    assert len(driver.holding) == 0
    return asked, first


async def at_call(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    asked = rig.get("/call")
    await until(lambda: stuck.begun)
    return (asked,)


async def at_compute(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    """One task runs on the one worker, and one waits for it."""
    one, other = rig.get("/compute"), rig.get("/compute")
    await until(lambda: _compute(rig).running == 1, "no worker has come")
    assert _compute(rig).queued == 1
    return one, other


def _compute(rig: Rig) -> ComputeStatistics:
    pool: ComputePool = rig.dispatcher._around.effectors["compute"]._pool
    return pool.statistics()


async def at_step_on_a_thread(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    asked = rig.get("/step")
    await until(lambda: stuck.begun)
    return (asked,)


async def at_step_that_waits_for_a_thread(rig: Rig, driver: Own, stuck: Stuck) -> tuple[Asked, ...]:
    (first,) = await at_step_on_a_thread(rig, driver, stuck)
    asked = rig.get("/step")
    assert rig.engine.tasks.statistics().waiting == 1
    return asked, first


EVERYWHERE: dict[str, Reach] = {
    "effect": at_effect,
    "half a join": at_half_a_join,
    "retry": at_retry,
    "bulkhead": at_bulkhead,
    "queued continuation": at_queued_continuation,
    "call": at_call,
    "compute": at_compute,
}
ON_THE_LOOP: dict[str, Reach] = {**EVERYWHERE, "queued beginning": at_queued_beginning}
ON_THREADS: dict[str, Reach] = {
    **EVERYWHERE,
    "step on a thread": at_step_on_a_thread,
    "step that waits for a thread": at_step_that_waits_for_a_thread,
}
every_point = pytest.mark.parametrize(
    ("mode", "reach"),
    [
        pytest.param(mode, reach, id=f"{mode}, {name}")
        for mode, points in (("adaptive", ON_THE_LOOP), ("pool", ON_THREADS))
        for name, reach in points.items()
    ],
)


class Routes:
    """An app whose requests come to all these points. ``exits``: the paths of those whose exit callbacks have run."""

    def __init__(self, driver: Own, stuck: Stuck, deadline: float = 86_400) -> None:
        self.app = App()
        self.app.effector("own", driver)
        self.begun = 0
        self.exits: list[str] = []
        self.ended: list[str] = []
        self.stuck = stuck
        options: dict[str, Any] = {"before": [self.leaves], "deadline": deadline}
        for path, effects in (
            ("/effect", [own("held", held=True)]),
            ("/behind", [own("behind")]),
            ("/join", [own("a", held=True, target="a"), own("b", held=True, target="b")]),
            ("/retry", [own("retried", target="c", kind=ErrorKind.UPSTREAM_UNAVAILABLE, retryable=True,
                            retry=Retry(2, base=80_000, cap=80_000))]),
            ("/call", [call.run(stuck, timeout=80_000)]),
            ("/compute", [compute.run(compute_functions.hang)]),
        ):  # fmt: skip
            self.app.get(path, needing(*effects, then=self.last), **options)
        self.app.get("/step", self.slow, **options)
        self.app.get("/probe", done)

    def leaves(self, ctx: CtxView) -> Decision:
        self.begun += 1
        path = ctx.path
        ctx.on_exit(lambda: self.exits.append(path))
        return Continue()

    def slow(self, ctx: CtxView) -> Decision:
        self.stuck()
        return Done.empty()

    def last(self, ctx: CtxView) -> Decision:
        self.ended.append(ctx.path)
        return Done.empty()

    async def over(self, rig: Rig) -> None:
        """Nothing is live, and the exit callbacks of all requests that had begun have run, once each."""
        await until(lambda: rig.engine.live.empty)
        assert len(self.exits) == self.begun


def sections(mode: str) -> dict[str, Any]:
    return {
        "reactor": {"continuation_pool": {"mode": mode, "size": 1, "queue": 4}, "compute_pool": {"size": 1}},
        "effects": {"default_bulkhead": {"in_flight": 1, "per_request": 1, "queue": 4}},
    }


def let_all_go(driver: Own, stuck: Stuck) -> None:
    stuck.go.set()
    for name in list(driver.holding):
        driver.release(name)


# Cancelled


@every_point
@pytest.mark.parametrize("kill", [False, True])
async def test_a_request_that_is_cancelled_there_is_over_at_once(
    driver: Own, stuck: Stuck, mode: str, reach: Reach, kill: bool
) -> None:
    routes = Routes(driver, stuck)
    async with running(routes.app, **sections(mode)) as rig:
        asked, *others = await reach(rig, driver, stuck)
        assert asked.exchange is not None
        (asked.exchange.kill if kill else asked.exchange.cancel)("the client has gone")
        assert asked.answers == [None]
        for one in others:
            one.cancel()
        let_all_go(driver, stuck)
        await routes.over(rig)
    assert routes.ended == []


@every_point
async def test_the_others_go_on_when_it_is_cancelled(driver: Own, stuck: Stuck, mode: str, reach: Reach) -> None:
    routes = Routes(driver, stuck)
    async with running(routes.app, **sections(mode)) as rig:
        asked, *others = await reach(rig, driver, stuck)
        asked.cancel()
        let_all_go(driver, stuck)
        for one in others:
            if reach is at_compute:
                await until(lambda: _compute(rig).running == 1 and _compute(rig).replaced == 1)
                one.cancel()
            else:
                assert await one.status() == 204
        assert stuck.begun <= 1  # what waited for a thread is not run for nobody
        await routes.over(rig)


# The deadline


@every_point
async def test_a_request_that_is_past_its_deadline_there_is_504(
    driver: Own, stuck: Stuck, mode: str, reach: Reach
) -> None:
    if reach is at_retry:
        pytest.skip("a retry that would come past the deadline is not made")
    if reach is at_compute:
        pytest.skip("a worker takes longer to start than this deadline")
    routes = Routes(driver, stuck, deadline=0.2)
    async with running(routes.app, **sections(mode)) as rig:
        reached = await reach(rig, driver, stuck)
        if reach in (at_queued_continuation, at_queued_beginning):
            time.sleep(0.25)  # noqa: ASYNC251  # the loop itself is late
        statuses = [await one.status() for one in reached]
        # Whoever waited for the place of another's effect may have it in the end.
        assert statuses[0] == 504 or (reach is at_bulkhead and statuses == [204, 504])
        let_all_go(driver, stuck)
        await routes.over(rig)


# A stop


@every_point
async def test_a_stop_lets_what_is_under_way_come_to_its_end(
    driver: Own, stuck: Stuck, mode: str, reach: Reach
) -> None:
    routes = Routes(driver, stuck)
    async with running(routes.app, **sections(mode)) as rig:
        reached = await reach(rig, driver, stuck)
        ends = None if reach in (at_retry, at_compute) else 204  # these two never end by themselves
        draining = asyncio.ensure_future(rig.service.drain(0.05 if ends is None else 30))
        while not draining.done():
            let_all_go(driver, stuck)
            await asyncio.sleep(0.001)
        await draining
        assert [await one.status() for one in reached] == [ends] * len(reached)
        await rig.nothing_is_left()
        await routes.over(rig)


@every_point
async def test_past_the_grace_what_is_under_way_is_cancelled(
    driver: Own, stuck: Stuck, mode: str, reach: Reach
) -> None:
    routes = Routes(driver, stuck)
    async with running(routes.app, **sections(mode)) as rig:
        reached = await reach(rig, driver, stuck)
        hangs = reach in (at_call, at_step_on_a_thread, at_step_that_waits_for_a_thread)
        await rig.service.drain(0.02)
        statuses = [await one.status() for one in reached]
        if reach is at_queued_continuation:
            assert statuses == [204]  # its turn came within the grace
        else:
            assert statuses[0] is None
        await rig.service.close()
        if not hangs:
            await rig.nothing_is_left()
        stuck.go.set()
        await routes.over(rig)
        await until(lambda: rig.dispatcher.in_flight == 0)


@every_point
async def test_closing_without_a_grace_leaves_nothing(driver: Own, stuck: Stuck, mode: str, reach: Reach) -> None:
    routes = Routes(driver, stuck)
    async with running(routes.app, **sections(mode)) as rig:
        reached = await reach(rig, driver, stuck)
        await rig.service.close()
        assert [await one.status() for one in reached] == [None] * len(reached)
        stuck.go.set()
        await routes.over(rig)
        await until(lambda: rig.dispatcher.in_flight == 0)
    assert routes.ended == []


@pytest.mark.parametrize("mode", ["adaptive", "pool"])
@pytest.mark.parametrize("path", ["/effect", "/join", "/retry", "/call", "/compute"])
async def test_a_server_that_stops_tells_its_clients(driver: Own, stuck: Stuck, mode: str, path: str) -> None:
    """Over ASGI, past the grace."""
    routes = Routes(driver, stuck)
    app = configured(routes.app, server={"grace": 0.02}, **sections(mode))
    async with serving(app):
        (service,) = app._servers[0]._services.values()
        connections = [Connection(app, path=path).start() for _ in range(3)]
        await until(lambda: len(list(service.engine.live)) == 3)
    await asyncio.gather(*(one.ended() for one in connections))
    assert [one.status for one in connections] == [503] * 3
    assert service.engine.live.empty or path == "/call"
    stuck.go.set()
    await until(lambda: len(routes.exits) == 3)
    assert routes.ended == []


@pytest.mark.parametrize("mode", ["adaptive", "pool"])
@pytest.mark.parametrize("path", ["/effect", "/join", "/retry", "/call", "/compute"])
async def test_a_client_that_goes_ends_its_request(driver: Own, stuck: Stuck, mode: str, path: str) -> None:
    routes = Routes(driver, stuck)
    app = configured(routes.app, **sections(mode))
    async with serving(app):
        (service,) = app._servers[0]._services.values()
        connection = Connection(app, path=path).start()
        await until(lambda: service.dispatcher.pending)
        connection.disconnect()
        await connection.ended()
        assert connection.sent == []
        assert service.dispatcher.pending == 0
        stuck.go.set()
        await until(lambda: routes.exits == [path])
    assert routes.ended == []


# What outlives the answer


def background(driver: Own, *effects: Any) -> App:
    app = App()
    app.effector("own", driver)
    app.get("/x", needing(own("now"), *effects, join="all_required", detach=True))
    return app


@pytest.mark.parametrize("mode", ["adaptive", "inline", "pool"])
async def test_a_stop_waits_for_the_background_and_past_the_grace_cancels_it(driver: Own, mode: str) -> None:
    app = background(driver, own("a", held=True, required=False), own("b", held=True, required=False))
    async with running(app, reactor={"continuation_pool": {"mode": mode}}) as rig:
        assert await rig.get("/x").status() == 200
        assert set(driver.holding) == {"a", "b"}
        draining = asyncio.ensure_future(rig.service.drain(30))
        driver.release("a")
        await until(lambda: rig.engine.tasks.idle)
        assert not draining.done()
        driver.release("b")
        await draining
        assert await rig.get("/x").status() == 200
        await rig.service.drain(0.02)
        await rig.nothing_is_left()
    assert driver.log == ["+now", "+a", "+b", "+now", "+a", "+b", "-a", "-b"]


async def test_a_stop_waits_for_exit_callbacks_and_past_the_grace_leaves_them(stuck: Stuck) -> None:
    app = App()

    def leaves(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: stuck() and None)
        return Done.empty()

    app.get("/x", leaves)
    async with running(app) as rig:
        assert await rig.get("/x").status() == 204
        await until(lambda: stuck.begun)
        await rig.service.drain(0.02)
        assert not rig.engine.live.empty
        await rig.service.close()
        stuck.go.set()
    assert (stuck.begun, stuck.returned) == (1, 1)


@pytest.mark.parametrize("mode", ["adaptive", "pool"])
async def test_an_answer_that_is_not_out_yet_is_waited_for(driver: Own, mode: str) -> None:
    """A stop must not take the threads of a stream that is being sent from under it."""
    app = App()
    app.get("/probe", done)
    async with running(app, reactor={"continuation_pool": {"mode": mode}}) as rig:
        asked = rig.get("/probe", closes=False)
        assert await asked.status() == 200
        draining = asyncio.ensure_future(rig.service.drain(30))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not draining.done()
        asked.close()
        await draining
