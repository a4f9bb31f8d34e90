"""Starts and stops by ASGI: in which order, what a failure leaves behind, and servers that know of no lifespan."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Never

import pytest
import uvloop
from asgi_kit import Connection, Lifespan, ask, configured, serving, until
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from zerver import (
    App,
    AppError,
    AsyncEffector,
    Continue,
    CtxView,
    Decision,
    Done,
    Effect,
    EffectFailed,
    ErrorKind,
    Need,
    Slot,
    call,
    kv,
    need,
    sql,
    timer,
)
from zerver.server.lifespan import AppLifespan

pytestmark = pytest.mark.usefixtures("engine")


def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")


class Log(list[str]):
    """What happened, in order."""

    def lifespan(self, name: str, start: Exception | None = None, stop: Exception | None = None) -> Any:
        @asynccontextmanager
        async def of(app: object) -> AsyncIterator[None]:
            if start:
                raise start
            self.append(f"{name} starts")
            try:
                yield
            finally:
                self.append(f"{name} stops")
            if stop:
                raise stop

        return of

    def app(self, name: str, start: Exception | None = None, stop: Exception | None = None) -> App:
        app = configured(App(lifespan=self.lifespan(name, start, stop)))
        app.get("/x", hello)
        return app

    def driver(self, name: str, opening: Exception | None = None, closing: Exception | None = None) -> AsyncEffector:
        async def perform(effect: Effect[Any]) -> str:
            return name

        async def open() -> None:
            if opening:
                raise opening
            self.append(f"{name} opens")

        async def close() -> None:
            self.append(f"{name} closes")
            if closing:
                raise closing

        return AsyncEffector(perform, open=open, close=close)


@pytest.fixture
def log() -> Log:
    return Log()


# Order


async def test_drivers_open_first_mounts_run_inside_and_all_stops_in_reverse(log: Log) -> None:
    app = log.app("app")
    app.effector("own", log.driver("driver"))
    app.mount("/a", Starlette(lifespan=log.lifespan("mount")))
    async with serving(app):
        assert log == ["driver opens", "app starts", "mount starts"]
        assert (await ask(app, path="/x")).body == b"hello"
        del log[:]
    assert log == ["mount stops", "app stops", "driver closes"]


@pytest.mark.engines("pool", "blocking")  # its step blocks
async def test_what_is_in_flight_comes_to_its_end_before_anything_stops(log: Log) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: log.append("exit"))
        begun.set()
        assert go.wait(10)
        return Need([timer.sleep(0)], then=last)

    def last(ctx: CtxView) -> Decision:
        log.append("last step")
        return Done.text("in time")

    app = log.app("app")
    app.mount("/a", Starlette(lifespan=log.lifespan("mount")))
    app.get("/wait", wait)
    async with serving(app):
        connection = Connection(app, path="/wait").start()
        await until(begun.is_set)
        del log[:]
        asyncio.get_running_loop().call_later(0.05, go.set)
    await connection.ended()
    assert (connection.status, connection.body) == (200, b"in time")
    assert log == ["last step", "exit", "mount stops", "app stops"]


async def test_past_the_grace_what_waits_for_effects_is_cancelled_and_told_503(log: Log) -> None:
    exits: list[str] = []

    def sleep(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: exits.append("exit"))
        return Need([timer.sleep(3600)], then=hello)

    app = configured(log.app("app"), server={"grace": 0.05})
    app.get("/sleep", sleep)
    async with serving(app):
        connection = Connection(app, path="/sleep").start()
        await until(lambda: app._servers[0]._services)
        await asyncio.sleep(0.05)
    await connection.ended()
    assert (connection.status, connection.json()["kind"]) == (503, "OVERLOADED")
    assert connection.header("retry-after")
    assert exits == ["exit"]


@pytest.mark.engines("pool", "blocking")  # its step blocks
async def test_a_stop_waits_no_second_time_for_a_step_that_hung_until_it_was_killed(log: Log) -> None:
    begun, go = threading.Event(), threading.Event()

    def hangs(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: log.append("exit"))
        begun.set()
        go.wait(10)
        return Done.empty()

    app = configured(log.app("app"), server={"grace": 60})
    app.get("/hangs", hangs)
    async with serving(app):
        connection = Connection(app, path="/hangs").start()
        await until(begun.is_set)
        await connection.kill()
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert log == ["app starts", "app stops"]
    go.set()
    await until(lambda: log[-1] == "exit")


# Failures


async def failed_start(app: App) -> str:
    """The message of a start that has to fail."""
    lifespan = Lifespan(app)
    answer = await lifespan.start()
    assert answer["type"] == "lifespan.startup.failed"
    assert await lifespan.ended() is not None  # for servers that look at that
    assert app._servers[0]._services == {}
    return str(answer["message"])


async def failed_stop(app: App) -> str:
    lifespan = Lifespan(app)
    assert (await lifespan.start())["type"] == "lifespan.startup.complete"
    answer = await lifespan.stop()
    assert answer["type"] == "lifespan.shutdown.failed"
    assert await lifespan.ended() is not None
    assert app._servers[0]._services == {}
    return str(answer["message"])


async def test_a_failing_start_of_the_app_closes_what_was_open(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    app = log.app("app", start=ValueError("no disk"))
    app.effector("own", log.driver("driver"))
    assert await failed_start(app) == "no disk"
    assert log == ["driver opens", "driver closes"]
    assert "no disk" in caplog.text
    assert "Traceback" in caplog.text


async def test_a_failing_start_of_a_mount_stops_the_ones_before_it_and_names_it(log: Log) -> None:
    app = log.app("app")
    app.mount("/longest", Starlette(lifespan=log.lifespan("first")))
    app.mount("/bad", Starlette(lifespan=log.lifespan("second", start=ValueError("no disk"))))
    message = await failed_start(app)
    assert "mount /bad" in message
    assert "no disk" in message
    assert log == ["app starts", "first starts", "first stops", "app stops"]


async def test_a_driver_that_does_not_open_fails_the_start_and_those_before_it_are_closed(log: Log) -> None:
    app = log.app("app")
    app.effector("one", log.driver("one"))
    app.effector("two", log.driver("two", opening=OSError("refused")))
    app.effector("three", log.driver("three"))
    assert "refused" in await failed_start(app)
    assert log == ["one opens", "one closes"]


async def test_an_app_with_errors_does_not_start_and_says_why() -> None:
    app = configured(App())
    app.get("/x", hello)
    app.get("/x", hello)
    assert "same shape" in await failed_start(app)


async def test_a_start_that_failed_can_be_tried_again(log: Log) -> None:
    problems: list[Exception | None] = [ValueError("not yet"), None]

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        if problem := problems.pop(0):
            raise problem
        yield

    app = configured(App(lifespan=lifespan))
    app.get("/x", hello)
    await failed_start(app)
    async with serving(app):
        assert (await ask(app, path="/x")).status == 200


async def test_a_start_that_is_cancelled_leaves_nothing(log: Log) -> None:
    opening = asyncio.Event()

    class Slow:
        async def open(self) -> None:
            opening.set()
            await asyncio.sleep(3600)

        def start(self, effect: Any, done: Any, /) -> None:
            raise AssertionError

    app = log.app("app")
    app.effector("own", Slow())
    lifespan = Lifespan(app)
    starting = asyncio.ensure_future(lifespan.start())
    await opening.wait()
    assert lifespan._task is not None
    lifespan._task.cancel()
    await asyncio.wait((lifespan._task,))
    starting.cancel()
    assert app._servers[0]._services == {}
    assert log == []


async def test_a_server_that_gives_up_its_start_logs_no_failure_of_the_app_that_comes_later(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two schedulers whose app cannot start, one says so, and the other is told to end meanwhile."""
    closing = asyncio.Event()

    class Slow:
        def start(self, effect: Any, done: Any, /) -> None:
            raise AssertionError

        async def close(self) -> None:
            closing.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    app = log.app("app", KeyError("the url"))
    app.effector("own", Slow())
    starting = asyncio.create_task(AppLifespan(app).start())
    await closing.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert caplog.messages == []


@pytest.mark.parametrize("bad", ["app", "mount", "driver"])
async def test_a_failing_stop_is_reported_and_the_rest_stops_all_the_same(log: Log, bad: str) -> None:
    problem = {bad: ValueError(f"{bad} is stuck")}
    app = log.app("app", stop=problem.get("app"))
    app.mount("/m", Starlette(lifespan=log.lifespan("mount", stop=problem.get("mount"))))
    app.effector("bad", log.driver("driver", closing=problem.get("driver")))
    app.effector("good", log.driver("good"))
    message = await failed_stop(app)
    assert f"{bad} is stuck" in message
    assert ("mount /m" in message) is (bad == "mount")
    assert log[-4:] == ["mount stops", "app stops", "good closes", "driver closes"]


def test_a_failing_start_is_raised_in_the_test_client(log: Log) -> None:
    with pytest.raises(ValueError, match="no disk"), TestClient(log.app("app", start=ValueError("no disk"))):
        raise AssertionError("it has not started")


# Mounts and the protocol


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(f"what is {scope['type']}?")


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"mounted"})


async def returns_without_an_answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        return
    await returns_at_once(scope, receive, send)


@pytest.mark.parametrize("mounted", [raises_at_once, returns_at_once, returns_without_an_answer])
async def test_a_mount_that_does_not_know_the_protocol_is_left_alone(log: Log, mounted: Any) -> None:
    app = log.app("app")
    app.mount("/m", mounted)
    async with serving(app):
        if mounted is not raises_at_once:
            assert (await ask(app, path="/m/x")).body == b"mounted"
    assert log == ["app starts", "app stops"]


@pytest.mark.parametrize("problem", [OSError("no disk"), asyncio.CancelledError()])
async def test_a_mount_that_took_the_start_and_raised_has_failed_to_start(log: Log, problem: BaseException) -> None:
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise problem

    app = log.app("app")
    app.mount("/m", mounted)
    message = await failed_start(app)
    assert "mount /m" in message
    assert f"{type(problem).__name__}: {problem}" in message


async def test_a_mount_that_raises_while_it_runs_or_stops_has_failed_to_stop(log: Log) -> None:
    for early in (True, False):

        async def mounted(scope: Any, receive: Any, send: Any, early: bool = early) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            if not early:
                await receive()
            raise OSError("lost")

        app = log.app("app")
        app.mount("/m", mounted)
        message = await failed_stop(app)
        assert "mount /m" in message
        assert "OSError: lost" in message


async def test_the_state_of_a_mounts_lifespan_reaches_its_requests_and_nobody_elses() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"database": "open"}

    def show(request: StarletteRequest) -> PlainTextResponse:
        given = getattr(request.state, "database", "closed") + getattr(request.state, "outer", "")
        request.state.database = "changed by a request"
        return PlainTextResponse(given)

    app = configured(App())
    app.mount("/a", Starlette(routes=[Route("/", show)], lifespan=lifespan))
    app.mount("/b", Starlette(routes=[Route("/", show)]))
    async with serving(app):
        for _ in range(2):
            assert (await ask(app, path="/a/", state={"outer": "!"})).body == b"open!"
        assert (await ask(app, path="/b/")).body == b"closed"


async def test_the_lifespan_of_an_app_in_an_app_runs_inside(log: Log) -> None:
    inner, outer = log.app("inner"), log.app("outer")
    inner.mount("/m", Starlette(lifespan=log.lifespan("innermost")))
    outer.mount("/inner", inner)
    async with serving(outer):
        assert (await ask(outer, path="/inner/x")).body == b"hello"
    assert log == [
        "outer starts", "inner starts", "innermost starts", "innermost stops", "inner stops", "outer stops"
    ]  # fmt: skip


async def test_an_app_mounted_twice_serves_in_both_places(log: Log) -> None:
    inner, outer = log.app("inner"), log.app("outer")
    outer.mount("/a", inner)
    outer.mount("/b", inner)
    async with serving(outer):
        assert [(await ask(outer, path=path)).body for path in ("/a/x", "/b/x")] == [b"hello"] * 2
    assert inner._servers[0]._services == {}


# Without a lifespan, again, and in several loops


def stores(tmp_path: Path) -> dict[str, Any]:
    return {"databases": {"default": f"sqlite:///{tmp_path}/a.db"}, "kv": f"sqlite:///{tmp_path}/kv.db"}


def use_everything(ctx: CtxView) -> Decision:
    return Need(
        [
            sql.execute("create table if not exists t (n integer)"),
            sql.query_one("select 1"),
            kv.put("a", 1),
            call.run(len, "abc"),
            timer.sleep(0.001),
        ],
        then=hello,
    )


def test_without_a_lifespan_each_loop_gets_a_service_and_takes_it_with_it(tmp_path: Path, log: Log) -> None:
    """Threads, connections and files of each are gone at the end of each request: see the fixture no_leaks."""
    app = configured(log.app("app"), effects=stores(tmp_path))
    app.effector("own", log.driver("driver"))
    app.get("/all", use_everything)
    client = TestClient(app)
    for _ in range(3):
        assert client.get("/all").text == "hello"
        assert app._servers[0]._services == {}
        assert app._servers[0]._keepers == {}
    assert log == ["driver opens", "driver closes"] * 3


def test_without_a_lifespan_uvloop_takes_the_service_with_it_too(tmp_path: Path, log: Log) -> None:
    app = configured(log.app("app"), effects=stores(tmp_path))
    app.effector("own", log.driver("driver"))
    app.get("/all", use_everything)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask(app, path="/all")).status == 200
        assert log == ["driver opens"]
    assert log == ["driver opens", "driver closes"]


async def test_without_a_lifespan_requests_of_one_loop_share_a_service(log: Log) -> None:
    app = log.app("app")
    app.effector("own", log.driver("driver"))
    answers = await asyncio.gather(*(ask(app, path="/x") for _ in range(10)))
    assert [one.status for one in answers] == [200] * 10
    assert log == ["driver opens"]


async def test_without_a_lifespan_a_driver_that_does_not_open_is_tried_again(log: Log) -> None:
    opening = [OSError("refused"), None]

    class Driver:
        async def open(self) -> None:
            if problem := opening.pop(0):
                raise problem

        def start(self, effect: Any, done: Any, /) -> None:
            raise AssertionError

    app = log.app("app")
    app.effector("own", Driver())
    refused = await asyncio.gather(*(ask(app, path="/x") for _ in range(5)), return_exceptions=True)
    assert [str(one) for one in refused] == ["refused"] * 5
    assert (await ask(app, path="/x")).status == 200


def test_in_a_starlette_app_that_starts_no_mounts_everything_is_closed_with_the_loop(tmp_path: Path) -> None:
    app = configured(App(), effects=stores(tmp_path))
    app.get("/all", use_everything)
    with TestClient(Starlette(routes=[Mount("/m", app=app)])) as client:
        for _ in range(2):
            assert client.get("/m/all").text == "hello"
    assert app._servers[0]._services == {}


def test_the_same_app_can_be_started_again_with_other_settings(tmp_path: Path, log: Log) -> None:
    app = configured(log.app("app"), effects=stores(tmp_path))
    app.get("/all", use_everything)
    for limit in (1, 5):
        configured(app, effects=stores(tmp_path), limits={"body_bytes": limit})
        with TestClient(app) as client:
            assert client.get("/all").text == "hello"
            assert client.request("GET", "/x", content=b"123").status_code == (413 if limit == 1 else 200)
    assert log == ["app starts", "app stops"] * 2


def test_loops_of_several_threads_serve_the_same_app_side_by_side(tmp_path: Path, log: Log) -> None:
    app = configured(App(lifespan=log.lifespan("app")), effects=stores(tmp_path))
    app.get("/all", use_everything)
    together, problems = threading.Barrier(4), []

    def client() -> None:
        try:
            together.wait(10)
            with TestClient(app) as client:
                ids = [client.get("/all").headers["x-request-id"] for _ in range(5)]
            assert len(set(ids)) == 5
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert problems == []
    assert app._servers[0]._services == {}
    assert sorted(log) == ["app starts"] * 4 + ["app stops"] * 4


def test_a_loop_that_was_closed_without_a_word_is_let_go_by_the_next(tmp_path: Path, log: Log) -> None:
    app = log.app("app")
    for _ in range(3):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(ask(app, path="/x")).status == 200
        loop.close()
    assert len(app._servers[0]._services) == 1
    asyncio.run(ask(app, path="/x"))
    assert app._servers[0]._services == {}


# App.perform


async def test_perform_gives_the_decoded_value_in_the_lifespan_and_while_the_app_runs(tmp_path: Path) -> None:
    rows: list[Any] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        await app.perform(sql.execute("create table t (n integer)"))
        await app.perform(sql.execute("insert into t values (1), (2)"))
        rows.append(await app.perform(sql.query("select n from t order by n", as_=list[int])))
        yield
        rows.append(await app.perform(sql.query_one("select count(*) from t", as_=int)))

    app = configured(App(lifespan=lifespan), effects=stores(tmp_path))
    async with serving(app):
        rows.append(await app.perform(call.run(len, "abc")))
    assert rows == [[1, 2], 3, 2]


async def test_perform_raises_what_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = configured(App(), effects=stores(tmp_path))
    async with serving(app):
        for effect, kind in (
            (sql.query_one("select 1 where 0"), ErrorKind.NOT_FOUND),
            (call.run(int, "x"), ErrorKind.INTERNAL),
            (timer.sleep(60, timeout=0.01), ErrorKind.TIMEOUT),
            (Effect(family="nobody", op="does", target="it", args=None), ErrorKind.INTERNAL),
        ):
            with pytest.raises(EffectFailed, match=kind.name) as failed:
                await app.perform(effect)
            assert failed.value.error.kind is kind
    assert "nothing performs" in str(failed.value)


async def test_perform_that_is_cancelled_cancels_its_effect() -> None:
    cancelled: list[bool] = []

    async def perform(effect: Effect[Any]) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    app = configured(App())
    app.effector("own", AsyncEffector(perform))
    async with serving(app):
        performing = asyncio.ensure_future(app.perform(Effect(family="own", op="x", target="x", args=None)))
        await asyncio.sleep(0.01)
        performing.cancel()
        await until(lambda: cancelled)


async def test_perform_outside_of_the_lifespan_is_refused_and_starts_nothing(log: Log) -> None:
    app = log.app("app")
    with pytest.raises(AppError, match="not running"):
        await app.perform(timer.sleep(0))
    async with serving(app):
        await app.perform(timer.sleep(0))
    with pytest.raises(AppError, match="not running"):
        await app.perform(timer.sleep(0))
    assert app._servers[0]._services == {}


# Warnings


class Unread(Slot[int]):
    """Nobody reads it."""


async def test_warnings_of_the_check_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def write(ctx: CtxView[Never, Unread]) -> Decision:
        ctx.put(Unread, 1)
        return Continue()

    app = configured(App())
    app.get("/x", write, hello)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            async with serving(app):
                pass
    assert len([one for one in caplog.records if "Unread" in one.getMessage()]) == 1


def test_an_app_with_an_async_effector_of_its_own_starts_again_after_its_stop() -> None:
    async def perform(effect: Effect[Any]) -> str:
        return "done"

    app = App()
    app.effector("again", AsyncEffector(perform))

    async def wants(ctx: CtxView) -> Decision:
        value = await need(Effect[str](family="again", op="do", target="again", args=None))
        return Done.text(value)

    app.get("/", wants)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/").text == "done"
