"""The blocking engine: effects one after another, time-outs that hold although a thread cannot be stopped."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Never

import msgspec
import pytest
from asgi_kit import Connection, ask, configured, serving, until
from scripted import A, B, C, Own, done, needing, own, show

from zerver import (
    App,
    Continue,
    CtxView,
    Decision,
    Done,
    Effect,
    Error,
    ErrorKind,
    Need,
    Retry,
    Slot,
    call,
    kv,
    need,
    sql,
    step,
    timer,
)
from zerver_runtime.outcome import Failure, Outcome, Success

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.engines("blocking")]


@pytest.fixture
def driver() -> Own:
    return Own()


def app_with(driver: Any, **sections: Any) -> App:
    app = configured(App(), **sections)
    app.effector("own", driver)
    return app


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


# Threads


async def test_steps_run_on_the_requests_thread_and_drivers_on_the_loops(driver: Own) -> None:
    seen: list[int] = []

    def first(ctx: CtxView) -> Decision:
        seen.append(threading.get_ident())
        return Need([own("a"), own("b")], then=second)

    def second(ctx: CtxView) -> Decision:
        seen.append(threading.get_ident())
        ctx.on_exit(lambda: seen.append(threading.get_ident()))
        return Done.empty()

    app = app_with(driver)
    app.get("/x", first)
    async with serving(app):
        await ask(app, path="/x")
        await until(lambda: len(seen) == 3)
    assert seen[0] == seen[1]
    assert driver.threads == {threading.get_ident()}
    assert driver.threads.isdisjoint(seen)


# Joins


async def test_an_effect_starts_when_the_one_before_it_has_settled(driver: Own) -> None:
    app = app_with(driver)
    app.get("/x", needing(own("a", held=True), own("b", held=True), own("c", held=True)))
    async with serving(app):
        connection = Connection(app, path="/x").start()
        for name in "abc":
            await until(lambda name=name: name in driver.holding)  # type: ignore[misc]
            assert list(driver.holding) == [name]
            driver.release(name)
        await connection.ended()
    assert connection.status == 200
    assert driver.log == ["+a", "+b", "+c"]


async def test_built_in_effects_run_one_after_another_too(tmp_path: Path) -> None:
    order: list[str] = []

    async def asynchronous(name: str) -> None:
        order.append(f"{name} begins")
        await asyncio.sleep(0.01)
        order.append(f"{name} ends")

    def blocking(name: str) -> int:
        order.append(name)
        return 3

    @step(then=(show,))
    def all_of_them(ctx: CtxView[Never, A | B | C]) -> Decision:
        effects: list[Effect[Any]] = [
            call.run(asynchronous, "async"),
            call.run(blocking, "blocking", into=C),
            sql.execute("create table if not exists t (n integer)"),
            sql.execute("insert into t values (1)"),
            sql.query_one("select count(*) from t", into=A),
            kv.put("a", 7),
            kv.get("a", into=B),
            timer.sleep(0.001),
        ]
        return Need(effects, then=show)

    stores = {"databases": {"default": f"sqlite:///{tmp_path}/a.db"}, "kv": f"sqlite:///{tmp_path}/kv.db"}
    app = configured(App(), effects=stores)
    app.get("/x", all_of_them)
    async with serving(app):
        answer = await ask(app, path="/x")
    assert answer.json() == {"values": [1, 7, 3], "errors": []}
    assert order == ["async begins", "async ends", "blocking"]


@pytest.mark.parametrize("kind", list(ErrorKind))
async def test_the_kind_of_a_required_effects_failure_is_the_status(driver: Own, kind: ErrorKind) -> None:
    app = app_with(driver)
    app.get("/x", needing(own("it", kind=kind), own("never")))
    async with serving(app):
        answer = await ask(app, path="/x")
    assert (answer.status, answer.json()["kind"], answer.json()["detail"]) == (kind.status, kind.name, "it")
    assert driver.log == ["+it"]


async def test_ten_thousand_continuations_run_on_one_thread(driver: Own) -> None:
    left = [10_000]

    def again(ctx: CtxView) -> Decision:
        left[0] -= 1
        if left[0] % 100 == 0:
            return Need([own("a")], then=again) if left[0] else Done.text("there")
        return Need([], then=again)

    app = app_with(driver, reactor={"continuation_pool": {"size": 1, "queue": 0}})
    app.get("/x", again)
    async with serving(app):
        assert (await ask(app, path="/x")).body == b"there"
    assert len(driver.log) == 99


# Detached effects


async def test_detached_effects_run_after_the_response_one_after_another_past_the_deadline(driver: Own) -> None:
    app = app_with(driver)
    effects = (
        own("required"),
        own("a", held=True, required=False),
        own("b", kind=ErrorKind.INTERNAL, required=False),
        own("c", held=True, required=False),
    )
    app.get("/x", needing(*effects, join="all_required", detach=True), deadline=0.5)
    async with serving(app):
        release = asyncio.Event()
        connection = Connection(app, path="/x")
        send = connection._send

        async def slowly(message: dict[str, Any]) -> None:
            await release.wait()
            await send(message)

        connection._send = slowly  # type: ignore[method-assign]
        connection.start()
        await until(lambda: driver.log)
        await asyncio.sleep(0.02)
        assert driver.log == ["+required"]
        release.set()
        await connection.ended()
        assert connection.status == 200
        await until(lambda: "a" in driver.holding)
        await asyncio.sleep(0.5)  # past the deadline of the request
        assert driver.log == ["+required", "+a"]
        driver.release("a")
        await until(lambda: "c" in driver.holding)
        driver.release("c")
    assert driver.log == ["+required", "+a", "+b", "+c"]


async def test_a_detached_effect_that_has_begun_goes_on_when_the_request_fails(driver: Own) -> None:
    """The deadline passes while the optional one, which is first, is under way."""
    app = app_with(driver)
    effects = (own("optional", held=True, required=False), own("required"))
    app.get("/x", needing(*effects, join="all_required", detach=True), deadline=0.05)
    async with serving(app):
        answer = await ask(app, path="/x")
        assert answer.status == 504
        assert driver.log == ["+optional"]
        driver.release("optional")
    assert driver.log == ["+optional"]


async def test_a_detached_effect_keeps_its_own_time_out(driver: Own) -> None:
    app = app_with(driver)
    effects = (own("a", held=True, required=False, timeout=0.05), own("b", required=False))
    app.get("/x", needing(*effects, join="all_required", detach=True))
    async with serving(app):
        await ask(app, path="/x")
        await until(lambda: "+b" in driver.log)
    assert driver.log == ["+a", "-a", "+b"]


async def test_a_detached_effect_runs_although_the_client_has_gone(driver: Own) -> None:
    app = app_with(driver)
    app.get("/x", needing(own("now", held=True), own("later", required=False), join="all_required", detach=True))
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(lambda: driver.holding)
        connection.disconnect()
        await connection.ended()
        await until(lambda: "+later" in driver.log)
    assert driver.log == ["+now", "-now", "+later"]


async def test_a_graceful_stop_waits_for_detached_effects(driver: Own) -> None:
    app = app_with(driver)
    effects = (own("a", held=True, required=False), own("b", held=True, required=False))
    app.get("/x", needing(*effects, join="all_required", detach=True))
    async with serving(app):
        await ask(app, path="/x")
        await until(lambda: "a" in driver.holding)
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, driver.release, "a")
        loop.call_later(0.04, driver.release, "b")
    assert driver.log == ["+a", "+b"]


async def test_past_the_grace_detached_effects_are_cancelled_and_no_more_begin(driver: Own) -> None:
    app = app_with(driver, server={"grace": 0.05})
    effects = (own("a", held=True, required=False), own("b", held=True, required=False))
    app.get("/x", needing(*effects, join="all_required", detach=True))
    # Its detached effect is known only when it is cancelled, after the grace.
    app.get("/y", needing(own("c", held=True), own("d", required=False), join="all_required", detach=True))
    async with serving(app):
        await ask(app, path="/x")
        other = Connection(app, path="/y").start()
        await until(lambda: {"a", "c"} <= set(driver.holding))
    await other.ended()
    assert sorted(driver.log) == ["+a", "+c", "-a", "-c"]


# Time-outs and deadlines


class Stuck:
    """A function that hangs until it is let go, whatever its thread is told."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.returned = 0

    def __call__(self) -> int:
        self.begun.release()
        assert self.go.wait(10)
        self.returned += 1
        return 7


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    one = Stuck()
    yield one
    one.go.set()


async def test_a_time_out_holds_although_the_thread_is_stuck_and_its_place_is_free_when_it_is_back(
    stuck: Stuck,
) -> None:
    def run() -> int:
        return stuck()

    places = {"in_flight": 1, "queue": 0}
    app = configured(App(), effects={"default_bulkhead": places})
    app.get("/x", needing(call.run(run, into=A, timeout=0.1), then=show))
    async with serving(app):
        started = time.monotonic()
        late = await ask(app, path="/x")
        assert time.monotonic() - started < 2
        assert (late.status, late.json()["kind"]) == (504, "TIMEOUT")
        assert "0.1 s" in late.json()["detail"]
        full = await ask(app, path="/x")
        assert (full.status, full.json()["kind"]) == (503, "OVERLOADED")
        assert int(full.header("retry-after") or 0) >= 1
        stuck.go.set()
        await until(lambda: stuck.returned)
        for _ in range(1000):
            again = await ask(app, path="/x")
            if again.status == 200:
                break
        assert again.json()["values"] == [7, None, None]


async def test_the_deadline_ends_the_wait_for_an_effect_and_cancels_it(driver: Own) -> None:
    app = app_with(driver)
    app.get("/x", needing(own("a", held=True), own("b")), deadline=0.05)
    async with serving(app):
        answer = await ask(app, path="/x")
        await until(lambda: "-a" in driver.log)
    assert (answer.status, answer.json()["kind"]) == (504, "TIMEOUT")
    assert driver.log == ["+a", "-a"]


async def test_the_deadline_holds_although_the_thread_of_a_call_is_stuck(stuck: Stuck) -> None:
    app = configured(App())
    app.get("/x", needing(call.run(stuck)), deadline=0.05)
    async with serving(app):
        assert (await ask(app, path="/x")).status == 504
        assert stuck.returned == 0
        stuck.go.set()


async def test_a_step_that_returns_past_the_deadline_is_504(stuck: Stuck) -> None:
    def slow(ctx: CtxView) -> Decision:
        stuck()
        return Done.text("too late")

    app = configured(App())
    app.get("/x", slow, deadline=0.05)
    async with serving(app):
        asyncio.get_running_loop().call_later(0.1, stuck.go.set)
        answer = await ask(app, path="/x")
    assert (answer.status, answer.json()["kind"]) == (504, "TIMEOUT")
    assert "0.05 s" in answer.json()["detail"]


# Retries, breakers, bulkheads


async def test_retries_stop_at_the_attempts_and_at_the_budget_of_the_request(driver: Own) -> None:
    def failing(name: str) -> Effect[Any]:
        down = ErrorKind.UPSTREAM_UNAVAILABLE
        return own(name, kind=down, retryable=True, required=False, retry=Retry(3, base=1e-9))

    app = app_with(driver, limits={"retry_budget": 3}, effects={"default_breaker": {"failures": 100}})
    app.get("/x", needing(failing("a"), failing("b"), failing("c"), then=show))
    async with serving(app):
        for _ in range(2):  # each request has a budget of its own
            del driver.log[:]
            answer = await ask(app, path="/x")
            assert driver.log == ["+a"] * 3 + ["+b"] * 2 + ["+c"]
            assert answer.json()["errors"] == ["a", "b", "c"]


async def test_a_breaker_opens_over_requests_and_recovers(driver: Own) -> None:
    answers: list[Outcome] = []
    driver.outcome = lambda script: answers.pop(0)  # type: ignore[method-assign]
    app = app_with(driver, effects={"default_breaker": {"failures": 2, "cooldown": 0.1}})
    app.get("/x", needing(own("a", into=A), then=show))
    down = Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, "down"), retryable=True)
    async with serving(app):
        answers += [down, down]
        assert [(await ask(app, path="/x")).status for _ in range(2)] == [502, 502]
        refused = await ask(app, path="/x")
        assert (refused.status, len(driver.log)) == (502, 2)
        assert refused.header("retry-after") == "1"
        assert "failed too often" in refused.json()["detail"]
        answers += [Success(1), Success(2)]
        await asyncio.sleep(0.11)
        assert (await ask(app, path="/x")).json()["values"][0] == 1
        assert (await ask(app, path="/x")).json()["values"][0] == 2


async def test_what_finds_no_place_in_the_bulkhead_waits_or_is_overloaded(driver: Own) -> None:
    app = app_with(driver, effects={"default_bulkhead": {"in_flight": 1, "queue": 1}})
    app.get("/x", needing(own("a", held=True)))
    async with serving(app):
        first = Connection(app, path="/x").start()
        await until(lambda: driver.holding)
        second = Connection(app, path="/x").start()
        third = Connection(app, path="/x").start()
        await until(lambda: second.complete or third.complete)
        if second.complete:
            second, third = third, second
        assert (third.status, third.json()["kind"], third.header("retry-after")) == (503, "OVERLOADED", "1")
        assert driver.log == ["+a"]
        for connection in (first, second):
            await until(lambda: driver.holding)
            driver.release("a")
            await connection.ended()
        assert (first.status, second.status) == (200, 200)


# Clients that go


async def test_a_client_that_goes_cancels_the_effect_under_way_and_the_rest_never_starts(driver: Own) -> None:
    exits: list[str] = []

    def ask_for(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: exits.append("exit"))
        return Need([own("a", held=True), own("b")], then=done)

    app = app_with(driver)
    app.get("/x", ask_for)
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(lambda: driver.holding)
        connection.disconnect()
        await connection.ended()
        await until(lambda: exits)
    assert connection.sent == []
    assert driver.log == ["+a", "-a"]


async def test_no_effect_starts_for_a_client_that_went_while_the_step_ran(driver: Own, stuck: Stuck) -> None:
    def slow(ctx: CtxView) -> Decision:
        stuck()
        return Need([own("a")], then=done)

    app = app_with(driver)
    app.get("/x", slow)
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(lambda: stuck.begun.acquire(blocking=False))
        connection.disconnect()
        await asyncio.sleep(0.02)
        stuck.go.set()
        await connection.ended()
    assert driver.log == []


async def test_an_async_step_is_closed_when_its_client_goes(driver: Own) -> None:
    closed: list[str] = []

    async def waits(ctx: CtxView) -> Decision:
        try:
            await need(own("a", held=True))
        finally:
            closed.append("closed")
        return Done.empty()

    app = app_with(driver)
    app.get("/x", waits)
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(lambda: driver.holding)
        connection.disconnect()
        await connection.ended()
    assert closed == ["closed"]
    assert driver.log == ["+a", "-a"]


# A pool that is full


def full_app(driver: Any, step: Any, queue: int, **options: Any) -> App:
    app = app_with(driver, reactor={"continuation_pool": {"size": 1, "queue": queue}})
    app.get("/stuck", step)
    app.get("/x", done, **options)
    return app


async def test_a_full_pool_answers_503_at_once_with_retry_after(driver: Own, stuck: Stuck) -> None:
    def slow(ctx: CtxView) -> Decision:
        stuck()
        return Done.empty()

    app = full_app(driver, slow, queue=0)
    async with serving(app):
        connection = Connection(app, path="/stuck").start()
        await until(lambda: stuck.begun.acquire(blocking=False))
        started = time.monotonic()
        refused = await asyncio.gather(*(ask(app, path="/x") for _ in range(100)))
        assert time.monotonic() - started < 2
        for one in refused:
            assert (one.status, one.json()["kind"], one.header("retry-after")) == (503, "OVERLOADED", "1")
        stuck.go.set()
        await connection.ended()


async def test_a_request_that_waits_for_a_thread_is_504_at_its_deadline(driver: Own, stuck: Stuck) -> None:
    def slow(ctx: CtxView) -> Decision:
        stuck()
        return Done.empty()

    app = full_app(driver, slow, queue=1, deadline=0.05)
    async with serving(app):
        connection = Connection(app, path="/stuck").start()
        await until(lambda: stuck.begun.acquire(blocking=False))
        for _ in range(2):  # the first has left the queue
            late = await ask(app, path="/x")
            assert (late.status, late.json()["kind"]) == (504, "TIMEOUT")
        stuck.go.set()
        await connection.ended()


async def test_a_client_that_goes_gives_its_place_in_the_queue_back(driver: Own, stuck: Stuck) -> None:
    def slow(ctx: CtxView) -> Decision:
        stuck()
        return Done.empty()

    app = full_app(driver, slow, queue=1)
    async with serving(app):
        first = Connection(app, path="/stuck").start()
        await until(lambda: stuck.begun.acquire(blocking=False))
        for _ in range(3):
            waiting = Connection(app, path="/x").start()
            await asyncio.sleep(0.01)
            assert waiting.running
            waiting.disconnect()
            await waiting.ended()
            assert waiting.sent == []
        last = Connection(app, path="/x").start()
        await asyncio.sleep(0.01)
        stuck.go.set()
        await last.ended()
        await first.ended()
    assert last.status == 200


# Exit callbacks


async def test_exit_callbacks_run_after_the_response_the_last_one_first(
    driver: Own, caplog: pytest.LogCaptureFixture
) -> None:
    order: list[str] = []

    def answer(ctx: CtxView) -> Decision:
        def fails() -> None:
            raise SystemExit(3)

        ctx.on_exit(lambda: order.append("first"))
        ctx.on_exit(fails)
        ctx.on_exit(lambda: order.append("last"))
        return Done.text("done")

    app = app_with(driver)
    app.get("/x", answer)
    async with serving(app):
        connection = Connection(app, path="/x")
        send = connection._send

        async def noted(message: dict[str, Any]) -> None:
            order.append("sent")
            await send(message)

        connection._send = noted  # type: ignore[method-assign]
        await connection.ended()
        await until(lambda: len(order) == 4)
    assert order == ["sent", "sent", "last", "first"]
    assert [one for one in messages(caplog) if "on_exit" in one]


async def test_a_failed_request_runs_its_exit_callbacks_too(driver: Own) -> None:
    exits: list[str] = []

    def fails(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: exits.append(ctx.path))
        return Need([own("a", kind=ErrorKind.CONFLICT)], then=done)

    app = app_with(driver)
    app.get("/x", fails)
    async with serving(app):
        assert (await ask(app, path="/x")).status == 409
        await until(lambda: exits)


# Steps that misbehave


@pytest.mark.parametrize("raised", [ValueError("secret"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_what_a_step_raises_is_500_and_the_server_goes_on(
    driver: Own, raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(ctx: CtxView) -> Decision:
        raise raised

    app = app_with(driver)
    app.get("/x", breaks)
    app.get("/y", done)
    async with serving(app):
        answer = await ask(app, path="/x")
        assert (await ask(app, path="/y")).status == 200
    assert (answer.status, answer.json()["detail"]) == (500, "step breaks failed")
    assert b"secret" not in answer.body
    (record,) = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is raised
    assert "step breaks failed" in record.getMessage()


async def test_async_steps_get_values_and_none_for_optional_ones_that_failed(driver: Own) -> None:
    async def both(ctx: CtxView) -> Decision:
        first = await need(own("a", 1))
        pair = await need(own("b", 2), own("c", kind=ErrorKind.CONFLICT, required=False))
        return Done.json([first, *pair])

    app = app_with(driver)
    app.get("/x", both)
    async with serving(app):
        assert (await ask(app, path="/x")).json() == [1, 2, None]


async def test_an_async_step_that_awaits_something_else_is_told_to_declare_an_effect(driver: Own) -> None:
    async def sleeps(ctx: CtxView) -> Decision:
        await asyncio.sleep(1)
        return Done.empty()

    app = app_with(driver)
    app.get("/x", sleeps)
    async with serving(app):
        answer = await ask(app, path="/x")
    assert answer.status == 500
    assert "step sleeps" in answer.json()["detail"]
    assert "declare an effect" in answer.json()["detail"]


# Drivers that misbehave


def sloppy(start: Callable[[Effect[Any], Callable[[Outcome], None]], Any], **options: Any) -> App:
    class Sloppy:
        def start(self, effect: Effect[Any], done: Callable[[Outcome], None], /) -> Any:
            return start(effect, done)

    app = app_with(Sloppy())
    app.get("/x", needing(own("a", into=A, **options), own("b", into=B, **options), then=show))
    return app


async def test_a_driver_that_calls_done_twice_is_heard_once() -> None:
    def start(effect: Effect[Any], done: Callable[[Outcome], None]) -> None:
        loop = asyncio.get_running_loop()
        for value in (1, 2):
            loop.call_soon(done, Success(value))

    app = sloppy(start)
    async with serving(app):
        assert (await ask(app, path="/x")).json() == {"values": [1, 1, None], "errors": []}


async def test_a_driver_that_never_calls_done_runs_into_the_time_out() -> None:
    app = sloppy(lambda effect, done: None, timeout=0.05)
    async with serving(app):
        answer = await ask(app, path="/x")
    assert (answer.status, answer.json()["kind"]) == (504, "TIMEOUT")


class Noted(msgspec.Struct):
    """Notes the threads on which results are decoded."""

    n: int

    def __post_init__(self) -> None:
        decoded_on.add(threading.get_ident())


class Result(Slot[Noted]):
    """What the driver gave."""


decoded_on: set[int] = set()


async def test_a_driver_that_calls_done_on_another_thread_is_heard_on_the_loops() -> None:
    threads: list[threading.Thread] = []

    class Driver:
        def start(self, effect: Effect[Any], done: Callable[[Outcome], None], /) -> None:
            threads.append(threading.Timer(0.002, done, (Success({"n": effect.args.value}),)))  # after start()
            threads[-1].start()

    @step
    def ask_for(ctx: CtxView[Never, Result]) -> Decision:
        return Need([own("a", ctx.param("n", int), into=Result)], then=tell)

    def tell(ctx: CtxView[Result]) -> Decision:
        return Done.json(ctx.require(Result).n)

    app = app_with(Driver())
    app.get("/{n:int}", ask_for)
    async with serving(app):
        answers = await asyncio.gather(*(ask(app, path=f"/{n}") for n in range(50)))
    assert [one.json() for one in answers] == list(range(50))
    assert decoded_on == {threading.get_ident()}
    for one in threads:
        one.join()


@pytest.mark.parametrize("when", ["before done", "after done"])
async def test_a_driver_that_raises_in_start_is_500_and_logged(when: str, caplog: pytest.LogCaptureFixture) -> None:
    def start(effect: Effect[Any], done: Callable[[Outcome], None]) -> None:
        if when == "after done":
            done(Success(1))
        raise ValueError("secret")

    app = sloppy(start)
    async with serving(app):
        answer = await ask(app, path="/x")
    assert (answer.status, answer.json()["kind"]) == (500, "INTERNAL")
    assert "own.do into A" in answer.json()["detail"]
    assert b"secret" not in answer.body
    assert "secret" in caplog.text


@pytest.mark.parametrize("given", [None, 7, "a value", ValueError("secret")])
async def test_a_driver_that_gives_no_outcome_is_500_and_logged(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = sloppy(lambda effect, done: done(given))
    async with serving(app):
        assert (await ask(app, path="/x")).status == 500
    assert "an outcome is a Success or a Failure" in caplog.text


async def test_an_effect_that_cannot_be_performed_is_500_at_once(driver: Own, caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(driver)
    app.get("/x", needing(own("a", target=None)))  # type: ignore[arg-type]
    app.get("/y", needing(Effect(family="nobody", op="does", target="it", args=None)))
    async with serving(app):
        for path in ("/x", "/y"):
            started = time.monotonic()
            assert (await ask(app, path=path)).status == 500
            assert time.monotonic() - started < 2
    assert "cannot be performed" in caplog.text


# Many at once


class Name(Slot[str]):
    """Who asks; differs for each request."""


async def test_concurrent_requests_get_their_own_answers_and_no_slot_of_another(driver: Own) -> None:
    together = threading.Barrier(20)

    def remember(ctx: CtxView[Name, Name | A]) -> Decision:
        assert ctx.optional(Name) is None
        name = ctx.param("name")
        ctx.put(Name, name)
        if int(name) < 20:
            together.wait(10)  # these are in their steps at the same time
        return Need([own(name, int(name), into=A), timer.sleep(0.001)], then=compare)

    @step
    def compare(ctx: CtxView[Name | A, B]) -> Decision:
        assert ctx.require(Name) == ctx.param("name")
        ctx.put(B, ctx.require(A) * 2)
        return Need([call.run(int, ctx.require(Name))], then=tell)

    def tell(ctx: CtxView[Name | A | B]) -> Decision:
        return Done.json([ctx.require(Name), ctx.require(A), ctx.require(B)])

    app = app_with(driver, reactor={"continuation_pool": {"size": 32, "queue": 256}})
    app.get("/{name}", remember)
    async with serving(app):
        answers = await asyncio.gather(*(ask(app, path=f"/{n}") for n in range(200)))
        ids = {one.header("x-request-id") for one in answers}
    assert [one.json() for one in answers] == [[str(n), n, 2 * n] for n in range(200)]
    assert len(ids) == 200
    assert sorted(driver.log) == sorted(f"+{n}" for n in range(200))


async def test_clients_that_come_and_go_at_any_time_leave_nothing_behind(driver: Own) -> None:
    """Disconnects and kills at every stage of a request, while others go on."""

    def first(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: exits.append(1))
        return Need([timer.sleep(0.001), call.run(time.sleep, 0.001)], then=second)

    async def second(ctx: CtxView) -> Decision:
        await need(own("a"), timer.sleep(0.001))
        return Need([own("b", required=False)], join="all_required", detach=True, then=third)

    def third(ctx: CtxView) -> Decision:
        return Done.stream(b"chunk" for _ in range(5))

    exits: list[int] = []
    app = app_with(driver, reactor={"continuation_pool": {"size": 4, "queue": 8}})
    app.get("/x", go_on, first)
    async with serving(app):
        loop = asyncio.get_running_loop()
        connections = []
        for n in range(300):
            connection = Connection(app, path="/x").start()
            connections.append(connection)
            if n % 3 == 1:
                loop.call_later((n % 20) / 1000, connection.disconnect)
            elif n % 3 == 2:
                task = connection._task
                assert task is not None
                loop.call_later((n % 20) / 1000, task.cancel)
            if n % 4 == 0:
                await asyncio.sleep(0.002)
        await asyncio.wait([one._task for one in connections if one._task], timeout=10)
        engine = app._servers[0]._services[loop].engine
        await until(lambda: engine.live.empty)
        assert engine.dispatcher.pending == engine.dispatcher.in_flight == 0
        statuses = [one.status for n, one in enumerate(connections) if n % 3 == 0]
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > 10
        assert (await ask(app, path="/x")).body == b"chunk" * 5


def go_on(ctx: CtxView) -> Decision:
    return Continue()
