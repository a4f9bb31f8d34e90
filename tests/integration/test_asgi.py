"""Requests by ASGI: what reaches the app, what ends it, and where mounts take over."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from asgi_kit import Connection, ask, configured, serving, until
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from zerver import App, AppError, Continue, CtxView, Decision, Done, Error, Need, Request, Response, timer

pytestmark = pytest.mark.usefixtures("engine")

ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


def echo(ctx: CtxView) -> Decision:
    ran.append("echo")
    return Done.json(
        {"method": ctx.method, "path": ctx.path, "body": ctx.body.decode(), "ip": ctx.client_ip, "id": ctx.request_id}
    )


def before(ctx: CtxView) -> Decision:
    ran.append("before")
    return Continue()


def app_of(**routes: Any) -> App:
    """``get__x=step`` is ``app.get("/x", step)``."""
    app = App()
    for name, step in routes.items():
        method, _, path = name.partition("__")
        getattr(app, method)(f"/{path}", step)
    return configured(app, limits={"body_bytes": 10})


# Methods


async def test_head_is_get_without_its_body() -> None:
    app = app_of(get__x=hello)
    async with serving(app):
        get, head = await ask(app, "GET", "/x"), await ask(app, "HEAD", "/x")
    assert (get.status, head.status) == (200, 200)
    assert (get.body, head.body) == (b"hello", b"")
    assert head.complete
    assert head.header("content-length") == get.header("content-length") == "5"


def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")


async def test_a_head_route_of_its_own_goes_before_get() -> None:
    app = app_of(get__x=hello, head__x=echo)
    async with serving(app):
        assert (await ask(app, "HEAD", "/x")).header("content-type") == "application/json"


async def test_options_answers_itself_with_allow_and_runs_nothing() -> None:
    app = app_of(get__x=echo, put__x=echo)
    app.use(before)
    async with serving(app):
        answer = await ask(app, "OPTIONS", "/x")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("allow") == "GET, HEAD, OPTIONS, PUT"
    assert answer.header("content-length") is None
    assert ran == []


async def test_an_options_route_of_its_own_answers() -> None:
    app = app_of(get__x=echo, options__x=echo)
    async with serving(app):
        assert (await ask(app, "OPTIONS", "/x")).json()["method"] == "OPTIONS"


async def test_404_names_the_path_and_405_the_methods_and_neither_runs_before_steps() -> None:
    app = app_of(get__x=echo)
    app.use(before)
    async with serving(app):
        missing, wrong = await ask(app, "GET", "/y"), await ask(app, "DELETE", "/x", body=b"ignored")
        assert ran == []
        await ask(app, "GET", "/x")
        assert ran == ["before", "echo"]
    assert (missing.status, missing.json()["kind"]) == (404, "NOT_FOUND")
    assert "/y" in missing.json()["detail"]
    assert (wrong.status, wrong.json()["kind"]) == (405, "METHOD_NOT_ALLOWED")
    assert wrong.header("allow") == "GET, HEAD, OPTIONS"
    assert missing.header("content-type") == wrong.header("content-type") == "application/problem+json"


async def test_head_on_nothing_is_404_without_a_body() -> None:
    app = app_of(get__x=echo)
    async with serving(app):
        answer = await ask(app, "HEAD", "/y")
    assert (answer.status, answer.body, answer.complete) == (404, b"", True)


async def test_allow_is_also_on_the_405_of_on_error() -> None:
    def on_error(error: Error, request: Request) -> Response:
        return Done.text(error.kind.name, status=error.kind.status, headers={"x-own": "1"}).response

    app = configured(App(on_error=on_error))
    app.get("/x", echo)
    async with serving(app):
        answer = await ask(app, "PUT", "/x")
    assert (answer.status, answer.body) == (405, b"METHOD_NOT_ALLOWED")
    assert (answer.header("allow"), answer.header("x-own")) == ("GET, HEAD, OPTIONS", "1")


async def test_a_request_is_what_the_scope_says() -> None:
    seen: list[tuple[str | None, str]] = []

    def look(ctx: CtxView) -> Decision:
        seen.append((ctx.header("X-One", default=None), ctx.client_ip))
        return Done.json(ctx.query("q", list[str]))

    app = configured(App())
    app.get("/x", look)
    async with serving(app):
        headers = [(b"X-One", b"1")]
        answer = await ask(app, path="/x", headers=headers, query_string=b"q=%C3%BC&q=b", client=None)
    assert answer.json() == ["ü", "b"]
    assert seen == [("1", "")]


async def test_request_ids_are_unique_and_in_header_and_problem() -> None:
    app = app_of(get__x=echo)
    async with serving(app):
        answers = [await ask(app, path=path) for path in ("/x", "/x", "/y", "/y")]
    ids = [one.header("x-request-id") for one in answers]
    assert len(set(ids)) == 4
    assert [one.json().get("id") or one.json()["request_id"] for one in answers] == ids


# Bodies


@pytest.mark.parametrize(
    "chunks",
    [[b"0123456789"], [b"", b"01234", b"", b"56789", b""], [b"%d" % n for n in range(10)]],
)
async def test_a_body_is_whole_however_it_comes(chunks: list[bytes]) -> None:
    app = app_of(post__x=echo)
    async with serving(app):
        connection = Connection(app, "POST", "/x", body=None)
        for chunk in chunks:
            connection.feed(chunk, more=True)
        connection.feed(b"")
        await connection.ended()
    assert (connection.status, connection.json()["body"]) == (200, "0123456789")


@pytest.mark.parametrize("length", [b"11", b"9" * 20, b"9" * 5000])
async def test_413_by_content_length_does_not_ask_for_the_body(length: bytes) -> None:
    app = app_of(post__x=echo)
    async with serving(app):
        headers = [(b"Content-Length", length), (b"expect", b"100-continue")]
        connection = Connection(app, "POST", "/x", body=None, headers=headers)
        original = connection._send

        async def send(message: dict[str, Any]) -> None:
            assert connection.received == 0  # else the client is told to go on
            await original(message)

        connection._send = send  # type: ignore[method-assign]
        await connection.ended()
    assert (connection.status, connection.json()["kind"]) == (413, "PAYLOAD_TOO_LARGE")
    assert "10 bytes" in connection.json()["detail"]
    assert ran == []


@pytest.mark.parametrize("length", [b"10", b"0000000010", b"nonsense", b"-1", "\u0661\u0661".encode(), b""])
async def test_what_counts_is_what_comes_where_content_length_says_less_or_nothing(length: bytes) -> None:
    app = app_of(post__x=echo)
    async with serving(app):
        good = await ask(app, "POST", "/x", body=b"0123456789", headers=[(b"content-length", length)])
        bad = await ask(app, "POST", "/x", body=b"0123456789+", headers=[(b"content-length", length)])
    assert (good.status, bad.status) == (200, 413)


async def test_413_by_chunks_keeps_nothing_of_the_body() -> None:
    seen: list[Request] = []

    def on_error(error: Error, request: Request) -> Response:
        seen.append(request)
        return Done.empty(status=error.kind.status).response

    app = configured(App(on_error=on_error), limits={"body_bytes": 10})
    app.post("/x", echo)
    async with serving(app):
        connection = Connection(app, "POST", "/x", body=None).start()
        for _ in range(3):
            connection.feed(b"01234", more=True)  # the fourth never comes
        await connection.ended()
    assert connection.status == 413
    assert [one.body for one in seen] == [b""]
    assert ran == []


@pytest.mark.parametrize("trickle", [False, True], ids=["nothing", "a byte now and then"])
async def test_a_body_that_never_comes_to_its_end_is_504_at_the_deadline(trickle: bool) -> None:
    app = configured(App())
    app.post("/x", echo, deadline=0.1)
    async with serving(app):
        connection = Connection(app, "POST", "/x", body=None).start()

        async def feed() -> None:
            while True:
                connection.feed(b"x", more=True)
                await asyncio.sleep(0.01)

        feeding = asyncio.ensure_future(feed()) if trickle else None
        started = asyncio.get_running_loop().time()
        await connection.ended()
        assert asyncio.get_running_loop().time() - started < 2
        if feeding:
            feeding.cancel()
    assert (connection.status, connection.json()["kind"]) == (504, "TIMEOUT")
    assert "body" in connection.json()["detail"]
    assert ran == []


async def test_the_time_that_the_body_takes_counts_for_the_deadline() -> None:
    def sleep(ctx: CtxView) -> Decision:
        return Need([timer.sleep(3600)], then=hello)

    app = configured(App())
    app.post("/x", sleep, deadline=0.6)
    async with serving(app):
        loop = asyncio.get_running_loop()
        started = loop.time()
        connection = Connection(app, "POST", "/x", body=None).start()
        loop.call_later(0.5, connection.feed, b"late")
        await connection.ended()
        assert 0.5 < loop.time() - started < 1
    assert (connection.status, connection.json()["kind"]) == (504, "TIMEOUT")


# Clients that go


async def test_a_client_that_goes_while_its_body_comes_gets_nothing_and_runs_nothing() -> None:
    app = app_of(post__x=echo)
    async with serving(app):
        connection = Connection(app, "POST", "/x", body=None).start()
        connection.feed(b"01", more=True)
        connection.disconnect()
        await connection.ended()
    assert connection.sent == []
    assert ran == []


class Gate:
    """A step that waits until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.exits: list[str] = []

    def step(self, ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: self.exits.append("exit"))
        self.begun.set()
        assert self.go.wait(10)
        self.exits.append("returned")
        return Done.text("done")


@pytest.mark.engines("pool", "blocking")  # its step blocks
async def test_a_client_that_goes_while_a_step_runs_gets_nothing_and_exit_callbacks_wait_for_the_step() -> None:
    gate = Gate()
    app = app_of(get__x=gate.step)
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(gate.begun.is_set)
        connection.disconnect()
        await asyncio.sleep(0.02)
        assert gate.exits == []
        gate.go.set()
        await connection.ended()
        await until(lambda: "exit" in gate.exits)
    assert connection.sent == []
    assert gate.exits == ["returned", "exit"]


@pytest.mark.engines("pool", "blocking")  # its step blocks
async def test_a_killed_request_ends_with_its_step_and_its_thread_is_free() -> None:
    gate = Gate()
    app = configured(App(), reactor={"continuation_pool": {"size": 1, "queue": 0}})
    app.get("/x", gate.step)
    app.get("/y", echo)
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(gate.begun.is_set)
        await connection.kill()
        assert gate.exits == []
        gate.go.set()
        await until(lambda: gate.exits == ["returned", "exit"])
        for _ in range(1000):
            if (after := await ask(app, path="/y")).status == 200:
                break
        assert after.status == 200


@pytest.mark.engines("pool", "blocking")  # its step blocks
@pytest.mark.parametrize("fails", [RuntimeError("the server's own bug"), OSError("reset")])
async def test_a_server_that_can_no_longer_tell_counts_as_a_client_that_has_gone(
    fails: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    app = app_of(get__x=gate.step)
    async with serving(app):
        connection = Connection(app, path="/x")
        receive = connection._receive

        async def broken() -> dict[str, Any]:
            if connection.received:
                await until(gate.begun.is_set)
                raise fails
            return await receive()

        connection._receive = broken  # type: ignore[method-assign]
        connection.start()
        await until(lambda: "receive() failed" in caplog.text)
        gate.go.set()
        await connection.ended()
    assert connection.sent == []


async def test_a_send_to_a_client_that_has_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app = app_of(get__x=echo)
    async with serving(app):
        for path in ("/x", "/y"):
            connection = Connection(app, path=path)
            connection.send_fails = OSError("the client has gone")
            await connection.ended()
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


# Paths below a root


@pytest.mark.parametrize(
    ("root_path", "path", "seen"),
    [
        ("", "/x", "/x"),
        ("/api", "/api/x", "/x"),
        ("/api/", "/api/x", "/x"),
        ("/api", "/x", "/x"),  # a proxy that has taken it off
        ("/x", "/x/x", "/x"),
        ("/", "/x", "/x"),
    ],
)
async def test_routes_are_below_the_root_path(root_path: str, path: str, seen: str) -> None:
    app = app_of(get__x=echo)
    async with serving(app):
        answer = await ask(app, path=path, root_path=root_path)
    assert (answer.status, answer.json()["path"]) == (200, seen)


async def test_the_root_path_itself_is_the_root() -> None:
    app = configured(App())
    app.get("/", echo)
    async with serving(app):
        assert (await ask(app, path="/api", root_path="/api")).json()["path"] == "/"
        assert (await ask(app, path="/apix", root_path="/api")).status == 404


# Mounts


async def show_scope(scope: Any, receive: Any, send: Any) -> None:
    """A plain ASGI function, which knows nothing of lifespans."""
    assert scope["type"] == "http"
    body = b"%s|%s" % (scope["root_path"].encode(), scope["path"].encode())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def test_a_mounted_app_sees_the_scope_that_it_sees_below_starlettes_mount() -> None:
    ours = configured(App())
    ours.mount("/mnt", show_scope)
    theirs = Starlette(routes=[Mount("/mnt", app=show_scope)])
    for root_path in ("", "/root"):
        with TestClient(ours, root_path=root_path) as one, TestClient(theirs, root_path=root_path) as other:
            for path in ("/mnt/", "/mnt/a", "/mnt/a/b", "/mnt/mnt", "/mnt//a"):
                full = root_path + path
                assert one.get(full).text == other.get(full).text, full


async def test_a_mounts_own_path_goes_to_it_as_it_is() -> None:
    app = configured(App())
    app.mount("/mnt/", show_scope)
    async with serving(app):
        assert (await ask(app, path="/mnt")).body == b"/mnt|/mnt"
        assert (await ask(app, path="/mntx")).status == 404


async def test_native_routes_go_first_then_the_longest_mount() -> None:
    app = app_of(get__a=echo)

    def named(name: str) -> Any:
        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": name.encode()})

        return mounted

    app.use(before)
    for path in ("/", "/a", "/a/b", "/a/b/c"):
        app.mount(path, named(path))
    async with serving(app):
        found = {path: (await ask(app, path=path)).body for path in ("/", "/x", "/a/x", "/a/b", "/a/b/cd", "/a/b/c/d")}
        assert (await ask(app, path="/a")).json()["path"] == "/a"
        assert (await ask(app, "POST", "/a")).status == 405
    assert found == {
        "/": b"/", "/x": b"/", "/a/x": b"/a", "/a/b": b"/a/b", "/a/b/cd": b"/a/b", "/a/b/c/d": b"/a/b/c"
    }  # fmt: skip
    assert ran == ["before", "echo"]


async def test_a_mounted_app_reads_its_own_body_and_has_no_limit_of_ours() -> None:
    async def length(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % size})

    app = app_of()
    app.mount("/mnt", length)
    async with serving(app):
        assert (await ask(app, "POST", "/mnt/x", body=b"x" * 1000)).body == b"1000"


def test_starlette_and_its_static_files_work_when_mounted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("static")
    (tmp_path / "index.html").write_text("index")

    def page(request: StarletteRequest) -> JSONResponse:
        return JSONResponse({"url": str(request.url), "for": str(request.url_for("page"))})

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.url.path + await websocket.receive_text())
        await websocket.close()

    inner = Starlette(routes=[Route("/page", page), WebSocketRoute("/talk", talk)])
    app = configured(App())
    app.mount("/app", inner)
    app.mount("/files", StaticFiles(directory=tmp_path, html=True))
    with TestClient(app) as client:
        assert client.get("/app/page").json() == {
            "url": "http://testserver/app/page",
            "for": "http://testserver/app/page",
        }
        assert client.get("/app/nothing").status_code == 404
        assert client.get("/files/a.txt").text == "static"
        assert client.get("/files").text == "index"
        assert client.get("/files/missing").status_code == 404
        with client.websocket_connect("/app/talk") as websocket:
            websocket.send_text("!")
            assert websocket.receive_text() == "/app/talk!"


def test_a_websocket_without_a_mount_is_refused() -> None:
    app = app_of(get__x=echo)
    with TestClient(app) as client, pytest.raises(WebSocketDisconnect), client.websocket_connect("/x"):
        pass


def test_the_app_works_mounted_in_another_starlette_app() -> None:
    app = app_of(get__x=echo)
    with TestClient(Starlette(routes=[Mount("/outer", app=app)])) as client:
        assert client.get("/outer/x").json()["path"] == "/x"
        assert client.get("/outer/y").json()["instance"] == "/y"
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/outer/x"):
            pass


def test_an_app_works_mounted_in_an_app_in_an_app() -> None:
    inner, middle, outer = app_of(get__x=echo), configured(App()), configured(App())
    middle.mount("/middle", inner)
    outer.mount("/outer", middle)
    with TestClient(outer, root_path="/root") as client:
        assert client.get("/root/outer/middle/x").json()["path"] == "/x"


async def test_a_scope_of_another_kind_is_an_error_as_the_specification_asks() -> None:
    app = app_of(get__x=echo)
    with pytest.raises(AppError, match="'smtp'"):
        await ask(app, type="smtp")
