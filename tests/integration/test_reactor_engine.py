"""The reactor engine on a loop: where steps run, what leaves the loop, and that nothing holds up the others."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import compute_functions
import pytest
from asgi_kit import until
from scripted import Own, done, needing, own
from service_kit import Stuck, running

from zerver import App, Continue, CtxView, Decision, Done, Need, compute, need, timer
from zerver.trace.events import EventKind
from zerver_runtime.reactor.offloading import GOOD_RUNS

MODES = ("adaptive", "inline", "pool")
every_mode = pytest.mark.parametrize("mode", MODES)


def steps(mode: str, **options: Any) -> dict[str, Any]:
    """The configuration of where steps run."""
    return {"enabled": True, "continuation_pool": {"mode": mode, **options}}


@pytest.fixture
def driver() -> Own:
    return Own()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    one = Stuck()
    yield one
    one.go.set()


@pytest.fixture
def app(driver: Own) -> App:
    made = App()
    made.effector("own", driver)
    made.get("/probe", done)
    return made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of where steps run."""
    return [one.getMessage() for one in caplog.records if "step" in one.getMessage() and one.name == "zerver"]


def burn(seconds: float) -> None:
    until_ns = time.thread_time_ns() + int(seconds * 1e9)
    while time.thread_time_ns() < until_ns:
        pass


# Steps that block


class Blocks:
    """Steps that wait: the first time for 100 ms, most of which is no work also on a busy machine, and then until they
    are let go."""

    def __init__(self) -> None:
        self.hangs = Stuck()
        self.runs: list[str] = []

    def __call__(self) -> None:
        self.runs.append(threading.current_thread().name)
        if len(self.runs) == 1:
            time.sleep(0.1)
        else:
            self.hangs()


def plain(app: App, blocks: Blocks) -> None:
    def waits(ctx: CtxView) -> Decision:
        blocks()
        return Done.text("waited")

    app.get("/x", waits)


def of_a_pipeline(app: App, blocks: Blocks) -> None:
    def waits(ctx: CtxView) -> Decision:
        blocks()
        return Continue()

    def ends(ctx: CtxView) -> Decision:
        return Done.text("waited")

    app.get("/x", ends, before=[waits])


def continuation(app: App, blocks: Blocks) -> None:
    def waits(ctx: CtxView) -> Decision:
        blocks()
        return Done.text("waited")

    app.get("/x", needing(own("a"), then=waits))


def closure(app: App, blocks: Blocks) -> None:
    def asks(ctx: CtxView) -> Decision:
        text = "waited"

        def waits(ctx: CtxView) -> Decision:  # another function for each request
            blocks()
            return Done.text(text)

        return Need([own("a")], then=waits)

    app.get("/x", asks)


def asynchronous(app: App, blocks: Blocks) -> None:
    async def waits(ctx: CtxView) -> Decision:
        await need(own("a"))
        blocks()
        await need(own("b"))
        return Done.text("waited")

    app.get("/x", waits)


@pytest.mark.parametrize("declare", [plain, of_a_pipeline, continuation, closure, asynchronous])
async def test_a_step_that_blocks_holds_up_others_once(
    app: App, declare: Callable[[App, Blocks], None], caplog: pytest.LogCaptureFixture
) -> None:
    blocks = Blocks()
    declare(app, blocks)
    async with running(app, reactor=steps("adaptive")) as rig:
        first = await rig.ask("/x")
        assert first is not None
        assert first.body == b"waited"
        held = [rig.get("/x") for _ in range(3)]
        await until(lambda: blocks.hangs.begun == 3)
        probe = await rig.ask("/probe")  # while three of them hang
        assert probe is not None
        assert probe.status == 200
        assert not any(one.answers for one in held)
        blocks.hangs.go.set()
        assert [await one.status() for one in held] == [200] * 3
        moves = rig.trace.of(EventKind.StepOffloaded)
    assert blocks.runs[0] == "MainThread"
    assert all(one.startswith("zerver-step") for one in blocks.runs[1:])
    assert [(name.rpartition(".")[2], move.to) for name, move in moves] == [(moves[0][0].rpartition(".")[2], "blocks")]
    assert len(lines(caplog)) == 1
    assert "declare an effect" in lines(caplog)[0]


async def test_a_compute_task_tells_of_itself_in_the_trace_of_its_request(app: App) -> None:
    app.get("/compute", needing(compute.run(compute_functions.add, 1, 2)))
    async with running(app) as rig:
        answer = await rig.ask("/compute")
        assert answer is not None
        assert answer.status == 200
        told = [event.kind.name for event in rig.trace.events if event.effect == 0]
    assert told == [
        "ReactorEffectScheduled", "EffectStart", "ComputeTaskScheduled", "ComputeTaskStarted", "ComputeTaskCompleted",
        "ReactorEffectCompleted", "ContinuationEnqueued",
    ]  # fmt: skip


async def test_it_comes_back_to_the_loop_when_it_keeps_within_its_budget(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    threads: list[str] = []

    def waits(ctx: CtxView) -> Decision:
        threads.append(threading.current_thread().name)
        if len(threads) == 1:
            time.sleep(0.03)
        return Done.empty()

    caplog.set_level(logging.INFO)
    app.get("/x", waits)
    async with running(app, reactor=steps("adaptive")) as rig:
        for _ in range(GOOD_RUNS + 2):
            await rig.ask("/x")
        moves = [move.to for _, move in rig.trace.of(EventKind.StepOffloaded)]
    assert threads[0] == threads[-1] == "MainThread"
    assert "MainThread" not in threads[1:-1]
    assert moves == ["blocks", "inline"]
    assert [one.levelname for one in caplog.records if one.name == "zerver"] == ["WARNING", "INFO"]


async def test_what_computes_goes_to_the_one_busy_thread_with_one_warning(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    held = Stuck()
    threads: list[str] = []

    def computes(ctx: CtxView) -> Decision:
        threads.append(threading.current_thread().name)
        if len(threads) == 1:
            burn(0.04)
        else:
            held()
        return Done.empty()

    app.get("/x", computes)
    async with running(app, reactor=steps("adaptive")) as rig:
        await rig.ask("/x")
        assert [move.to for _, move in rig.trace.of(EventKind.StepOffloaded)] == ["burns"]
        several = [rig.get("/x") for _ in range(3)]
        await until(lambda: held.begun)
        probe = await rig.ask("/probe")
        assert probe is not None
        statistics = rig.engine.tasks.statistics()
        assert (held.begun, statistics.running, statistics.waiting) == (1, 1, 2)
        assert len(lines(caplog)) == 1
        assert "compute" in lines(caplog)[0]
        held.go.set()
        assert [await one.status() for one in several] == [204] * 3
    assert threads[0] == "MainThread"
    assert set(threads[1:2]) == {"zerver-busy-1"}


async def test_inline_never_leaves_the_loop(app: App, caplog: pytest.LogCaptureFixture) -> None:
    threads: list[str] = []

    def waits(ctx: CtxView) -> Decision:
        threads.append(threading.current_thread().name)
        time.sleep(0.02)
        return Done.empty()

    app.get("/x", waits)
    async with running(app, reactor=steps("inline")) as rig:
        for _ in range(3):
            await rig.ask("/x")
        assert rig.trace.of(EventKind.StepOffloaded) == []
    assert threads == ["MainThread"] * 3
    assert lines(caplog) == []


async def test_pool_runs_no_step_on_the_loop(app: App, caplog: pytest.LogCaptureFixture) -> None:
    threads: list[str] = []

    def note(ctx: CtxView) -> Decision:
        threads.append(threading.current_thread().name)
        return Continue()

    async def awaits(ctx: CtxView) -> Decision:
        threads.append(threading.current_thread().name)
        await need(own("a"))
        threads.append(threading.current_thread().name)
        return Need([own("b")], then=last)

    def last(ctx: CtxView) -> Decision:
        threads.append(threading.current_thread().name)
        time.sleep(0.02)
        return Done.empty()

    app.get("/x", note, awaits)
    async with running(app, reactor=steps("pool")) as rig:
        assert await rig.get("/x").status() == 204
        assert rig.trace.of(EventKind.StepOffloaded) == []
    assert len(threads) == 4
    assert all(one.startswith("zerver-step") for one in threads)
    assert lines(caplog) == []


# Deep chains


@every_mode
async def test_deep_chains_of_continuations_neither_recurse_nor_deadlock_with_one_worker(
    app: App, driver: Own, mode: str
) -> None:
    def begin(ctx: CtxView) -> Decision:
        left = [500]

        def again(ctx: CtxView) -> Decision:
            left[0] -= 1
            if not left[0]:
                return Done.text("there")
            return Need([own("a")] if left[0] % 3 == 0 else [], then=again)

        return Need([], then=again)

    app.get("/x", begin)
    async with running(app, reactor=steps(mode, size=1, queue=8)) as rig:
        several = [rig.get("/x") for _ in range(5)]
        assert [await one.status() for one in several] == [200] * 5


@every_mode
async def test_a_chain_of_needs_without_effects_gives_the_loop_back(app: App, mode: str) -> None:
    def again(ctx: CtxView) -> Decision:
        return Need([], then=again)

    app.get("/x", again, deadline=0.2)
    async with running(app, reactor=steps(mode)) as rig:
        endless = rig.get("/x")
        assert not endless.answers, "the others had to wait for its deadline"
        assert await rig.get("/probe").status() == 200
        endless.cancel()


@every_mode
async def test_a_continuation_of_effects_that_wait_gives_its_worker_back(app: App, driver: Own, mode: str) -> None:
    """One worker, and two requests that each wait for what the other one lets go."""

    def first(ctx: CtxView) -> Decision:
        return Need([own("first", held=True)], then=releases_second)

    def releases_second(ctx: CtxView) -> Decision:
        return Need([own("x")], then=done)

    def second(ctx: CtxView) -> Decision:
        return Need([own("second", held=True)], then=done)

    app.get("/first", first)
    app.get("/second", second)
    async with running(app, reactor=steps(mode, size=1, queue=2)) as rig:
        one, other = rig.get("/first"), rig.get("/second")
        await until(lambda: set(driver.holding) == {"first", "second"})
        assert await rig.ask("/probe")
        driver.release("second")
        assert await other.status() == 200
        driver.release("first")
        assert await one.status() == 200


# What a step sees


def asks_asyncio() -> None:
    asyncio.get_running_loop()


def asks_anyio() -> None:
    anyio.get_current_task()


@every_mode
@pytest.mark.parametrize("asks", [asks_asyncio, asks_anyio])
async def test_a_step_sees_no_loop_wherever_it_runs(app: App, mode: str, asks: Callable[[], None]) -> None:
    def plain(ctx: CtxView) -> Decision:
        asks()
        return Done.empty()

    async def later(ctx: CtxView) -> Decision:
        await need(timer.sleep(0))
        asks()
        return Done.empty()

    app.get("/plain", plain)
    app.get("/later", later)
    app.get("/then", needing(own("a"), then=plain))
    async with running(app, reactor=steps(mode)) as rig:
        for path in ("/plain", "/later", "/then"):
            asked = rig.get(path)
            assert await asked.status() == 500, path
            assert "declare an effect" in (await asked.json())["detail"]
        assert asyncio.get_running_loop() is rig.loop


@every_mode
@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
async def test_whatever_a_step_raises_is_500_and_the_engine_goes_on(app: App, mode: str, raised: BaseException) -> None:
    def fails(ctx: CtxView) -> Decision:
        raise raised

    async def fails_later(ctx: CtxView) -> Decision:
        await need(own("a"))
        raise raised

    app.get("/x", fails)
    app.get("/y", fails_later)
    app.get("/z", needing(own("a"), then=fails))
    async with running(app, reactor=steps(mode, size=1)) as rig:
        for path in ("/x", "/y", "/z"):
            assert await rig.get(path).status() == 500
        assert await rig.get("/probe").status() == 200


# Exit callbacks


@every_mode
async def test_exit_callbacks_that_block_do_not_block_the_loop(app: App, stuck: Stuck, mode: str) -> None:
    def registers(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: stuck() and None)
        return Done.empty()

    app.get("/x", registers)
    async with running(app, reactor=steps(mode)) as rig:
        assert await rig.get("/x").status() == 204
        await until(lambda: stuck.begun)
        assert await rig.get("/probe").status() == 200
        assert not rig.engine.live.empty  # a stop waits for it
        stuck.go.set()
    assert (stuck.begun, stuck.returned) == (1, 1)


async def test_exit_callbacks_wait_for_a_step_that_still_runs(app: App, stuck: Stuck) -> None:
    order: list[str] = []

    def slow(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: order.append(f"exit on {threading.current_thread().name[:15]}"))
        stuck()
        ctx.on_exit(lambda: order.append("exit, registered after the end"))
        order.append("step")
        return Done.empty()

    app.get("/x", slow)
    async with running(app, reactor=steps("pool")) as rig:
        asked = rig.get("/x")
        await until(lambda: stuck.begun)
        asked.cancel()
        assert await asked.answer() is None
        asked.close()
        await rig.ask("/probe")
        assert order == []
        stuck.go.set()
        await until(lambda: len(order) == 3)
    assert order == ["step", "exit, registered after the end", "exit on zerver-response"]


# Full


async def test_a_full_queue_refuses_new_work_at_once_and_finishes_what_it_took(app: App, driver: Own) -> None:
    app.get("/x", needing(own("a", held=True)))
    async with running(app, reactor=steps("adaptive", queue=3)) as rig:
        first = rig.get("/x")
        await until(lambda: driver.holding)
        driver.release("a")  # its continuation waits for its turn now
        several = [rig.get("/probe") for _ in range(10)]
        refused = [one for one in several if one.answers]
        assert len(refused) == 7 or len(refused) == 8
        for one in refused:
            answer = one.answers[0]
            assert answer is not None
            assert (answer.status, dict(answer.headers)["retry-after"]) == (503, "1")
        assert await first.status() == 200
        assert [await one.status() for one in several if one not in refused] == [200] * (10 - len(refused))
        assert rig.engine.tasks.statistics().refused == len(refused)


async def test_without_a_thread_to_be_had_a_step_is_refused(app: App, stuck: Stuck) -> None:
    def slow(ctx: CtxView) -> Decision:
        stuck()
        return Done.empty()

    app.get("/x", slow)
    async with running(app, reactor=steps("pool", size=1, queue=1)) as rig:
        first = rig.get("/x")
        await until(lambda: stuck.begun)
        waits = rig.get("/probe")
        refused = rig.get("/probe")
        assert await refused.status() == 503
        assert not waits.answers
        stuck.go.set()
        assert [await first.status(), await waits.status()] == [204, 200]
