"""Mounted ASGI apps on connections of our own: as the ASGI specification has it, and as uvicorn does it."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, UploadFile
from front_kit import PATIENCE, Client, Records, front, request, until
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.staticfiles import StaticFiles

from zerver import App, CtxView, Decision, Done

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"done"}


def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")


def app_with(mounted: Asgi, path: str = "/m") -> App:
    async def http(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await mounted(scope, receive, send)

    app = App()
    app.get("/hello", hello)
    app.mount(path, http)
    return app


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Real apps


def test_static_files(loop: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000
    (tmp_path / "a.bin").write_bytes(content)
    app = App()
    app.get("/hello", hello)
    app.mount("/static", StaticFiles(directory=tmp_path))
    with front(app, loop=loop) as server, server.connect() as client:
        client.send(request("/static/a.bin") + request("/hello"))
        answer = client.answer()
        assert (answer.body, answer.field("content-length")) == (content, str(len(content)))
        assert client.answer().body == b"hello"
        client.send(request("/static/a.bin", method="HEAD") + request("/hello"))
        assert client.answer("HEAD").field("content-length") == str(len(content))
        assert client.answer().body == b"hello"
        etag = answer.field("etag")
        client.send(request("/static/a.bin", f"If-None-Match: {etag}") + request("/hello"))
        assert client.answer().status == 304
        assert client.answer().body == b"hello"
        client.send(request("/static/a.bin", "Range: bytes=10-19") + request("/static/none") + request("/hello"))
        assert client.answer().body == content[10:20]
        assert client.answer().status == 404
        assert client.answer().body == b"hello"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"made": "at the start"}


api = FastAPI(lifespan=lifespan)
ran: list[str] = []


@api.get("/items/{item}")
async def item(item: int, request: Request) -> dict[str, Any]:
    return {"item": item, "state": request.state.made, "url": str(request.url_for("item", item=1))}


@api.post("/upload")
async def upload(file: UploadFile) -> dict[str, Any]:
    return {"name": file.filename, "size": len(await file.read())}


@api.get("/background")
async def background() -> PlainTextResponse:
    return PlainTextResponse("answered", background=BackgroundTask(ran.append, "background"))


@api.get("/stream")
async def stream() -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for n in range(3):
            yield b"%d" % n
            await asyncio.sleep(0)

    return StreamingResponse(pieces())


@api.get("/bug")
async def bug() -> None:
    raise ValueError("secret")


async def middleware(request: Request, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["x-seen"] = "yes"
    return response


def test_a_fastapi_app(loop: str) -> None:
    app = App()
    app.get("/hello", hello)
    app.mount("/api", api)
    ran.clear()
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 300_000 + b"\r\n--b--\r\n"
    )
    with front(app, loop=loop) as server, server.connect() as client:
        client.send(request("/api/items/7") + request("/api/items/x") + request("/hello"))
        assert client.answer().json() == {"item": 7, "state": "at the start", "url": "http://h/api/items/1"}
        assert client.answer().status == 422
        assert client.answer().body == b"hello"
        client.send(request("/api/upload", "Content-Type: multipart/form-data; boundary=b", method="POST", body=form))
        assert client.answer().json() == {"name": "f", "size": 300_000}
        client.send(request("/api/background") + request("/api/stream") + request("/api/openapi.json"))
        assert client.answer().body == b"answered"
        assert client.answer().chunks == [b"0", b"1", b"2"]
        assert "/upload" in client.answer().json()["paths"]
        until(lambda: ran == ["background"])
        with Records() as log:
            client.send(request("/api/bug") + request("/hello"))
            answer = client.answer()
            assert (answer.status, answer.body) == (500, b"Internal Server Error")
            assert client.answer().body == b"hello"
            until(lambda: log.tracebacks == ["ValueError('secret')"])


def test_a_middleware_that_listens_beside_its_app(loop: str) -> None:
    """Two of its tasks wait for messages at once."""
    wrapped = FastAPI()
    wrapped.add_middleware(BaseHTTPMiddleware, dispatch=middleware)
    wrapped.get("/stream")(stream)
    app = App()
    app.mount("/api", wrapped)
    with front(app, loop=loop) as server, server.connect() as client:
        for _ in range(3):
            client.send(request("/api/stream"))
            answer = client.answer()
            assert (answer.body, answer.field("x-seen")) == (b"012", "yes")


# Scopes

SCOPES = {
    "plain": request("/m/a"),
    "HTTP/1.0": request("/m/a", version="1.0"),
    "query and escapes": request("/m/%C3%A4%2Fb%20c;d/?q=%20a&b=+c&&"),
    "no UTF-8": request("/m/%ff"),
    "fields": request("/m/a", "X-A: 1", "x-a:  2", "X-Latin: \xe4", "Cookie: a=b", "Cookie: c=d", "Empty:"),
    "absolute-form": request("http://other:8080/m/a?b"),
    "a body": request("/m/a", method="POST", body=b"body"),
    "another method": request("/m/a", method="PROPFIND"),
    "the mount itself": request("/m"),
    "an upgrade": request("/m/a", "Connection: upgrade", "Upgrade: foo"),
    "forwarded": request("/m/a", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"),
}


def scopes_of(app: App, serve: Callable[[App], Any], sent: list[bytes], seen: list[Any]) -> list[Any]:
    seen.clear()
    with serve(app) as address:
        for one in sent:
            with Client(address) as client:
                client.send(one)
                assert client.answer().status == 200
    return list(seen)


class _Uvicorn:
    def __init__(self, app: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(
            uvicorn.Config(app, http="httptools", lifespan="on", log_config=None, access_log=False, proxy_headers=False)
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> Any:
        self._thread.start()
        until(lambda: self._server.started)
        return self._socket.getsockname()

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)


class _Ours:
    def __init__(self, app: App) -> None:
        self._front = front(app)

    def __enter__(self) -> Any:
        return self._front.__enter__().address

    def __exit__(self, *problem: Any) -> None:
        self._front.__exit__(*problem)


def test_a_scope_is_what_uvicorn_makes_of_the_same_request() -> None:
    seen: list[Any] = []

    async def record(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send(START)
        await send(END)

    sent = list(SCOPES.values())
    # Under uvicorn, too, it is below a mount: by the ASGI form of the app.
    ours = scopes_of(app_with(record), _Ours, sent, seen)
    theirs = scopes_of(app_with(record), _Uvicorn, sent, seen)
    for name, one, other in zip(SCOPES, ours, theirs, strict=True):
        assert one["asgi"] == {"version": "3.0", "spec_version": "2.4"}
        for scope in (one, other):
            for key in ("client", "server"):  # of one connection and another
                host, port = scope[key]
                assert (host, type(port)) == ("127.0.0.1", int)
            for key in ("client", "server", "asgi", "starlette.exception_handlers"):
                del scope[key]
        if name == "absolute-form":  # the host of the target stands for that of Host, RFC 9112 section 3.2.2
            assert (b"host", b"other:8080") in one["headers"]
            assert (b"host", b"h") in other["headers"]
            del one["headers"], other["headers"]
        assert one == other, name


def test_each_request_has_a_state_of_its_own(loop: str) -> None:
    seen: list[Any] = []

    async def record(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["shared"] = [1]
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen.append(dict(scope["state"]))
        scope["state"]["own"] = True
        await send(START)
        await send(END)

    app = App()
    app.mount("/m", record)
    with front(app, loop=loop) as server:
        for _ in range(2):
            server.get("/m")
    assert seen == [{"shared": [1]}, {"shared": [1]}]
    assert seen[0]["shared"] is seen[1]["shared"]


# Receiving


def test_a_body_waits_at_its_sender_while_the_app_is_busy(loop: str) -> None:
    """An app that reads slowly keeps no more than a few pieces in memory; and the time-out stands still meanwhile."""
    go, received = threading.Event(), []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        received.append(len(message["body"]))
        await asyncio.to_thread(go.wait, PATIENCE)
        while message["more_body"]:
            message = await receive()
            received.append(len(message["body"]))
        await send(START)
        await send(END)

    size = 20_000_000
    options = {"receive_buffer": 65536, "body_timeout": 0.3, "body_rate": 10**9, "body_bytes": None}
    with front(app_with(slow), loop=loop, **options) as server, server.connect(send_buffer=65536) as client:
        client.send(request("/m", f"Content-Length: {size}", method="POST"))
        client.socket.setblocking(False)
        sent, last = 0, time.monotonic()
        while time.monotonic() - last < 0.5:
            try:
                sent += client.socket.send(b"x" * 65536)
                last = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 3_000_000
        client.socket.settimeout(PATIENCE)
        go.set()
        client.send(b"x" * (size - sent))
        assert client.answer().status == 200
    assert sum(received) == size
    assert max(received) <= 64 * 1024 + 256 * 1024  # what waited, and one read more


@pytest.mark.parametrize("reads_on", [True, False])
def test_a_body_that_stalls_is_late_also_after_a_pause(loop: str, reads_on: bool) -> None:
    """Its time stands still while the app is busy, and goes on when the app has taken what was there."""
    seen = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await receive()
        while reads_on and (message := await receive())["type"] != "http.disconnect":
            pass
        seen.append(message["type"] if reads_on else "")
        await asyncio.sleep(0 if reads_on else 3600)

    limits: dict[str, Any] = {"body_timeout": 0.2, "body_rate": 10**9, "body_bytes": None, "grace": 0.1}
    with front(app_with(slow), loop=loop, **limits) as server, server.connect() as client:
        server.loop.call_soon_threadsafe(time.sleep, 0.1)  # so that one read takes it all, and no other follows
        client.send(request("/m", "Content-Length: 1000000", method="POST") + b"x" * 100_000)
        assert client.answer().status == 408
        client.closed()
    assert seen == ["http.disconnect" if reads_on else ""]


def test_an_app_that_wants_the_body_has_the_client_told_to_go_on(loop: str) -> None:
    async def reads(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send(START)
        await send({**END, "body": body})

    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "status": 401})
        await send(END)

    head = request("/m", "Expect: 100-continue", "Content-Length: 4", method="POST")
    with front(app_with(reads), loop=loop) as server, server.connect() as client:
        client.send(head)
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"body")
        assert client.answer().body == b"body"
    with front(app_with(refuses), loop=loop) as server, server.connect() as client:
        client.send(head)
        answer = client.answer()
        assert (answer.status, answer.closes) == (401, True)
        client.closed()


@pytest.mark.parametrize("size", [10_000, 400_000])  # the more is more than what waits for an app
def test_an_app_may_answer_before_the_body_has_come(loop: str, size: int) -> None:
    async def early(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await send(START)
        await send(END)

    with front(app_with(early), loop=loop, linger_timeout=60.0) as server, server.connect() as client:
        client.send(request("/m", "Content-Length: 1000000", method="POST") + b"x" * size)
        answer = client.answer()
        assert (answer.body, answer.closes) == (b"done", True)
        client.send(b"x" * 500_000)  # is read and dropped, so that the answer is not lost
        client.closed()
        assert not client.was_reset
        client.socket.close()
        server.at_rest()  # it has read to the end


@pytest.mark.parametrize("when", ["early", "in a stream"])
def test_an_app_hears_that_the_client_has_gone(loop: str, when: str) -> None:
    seen: list[str] = []
    begun = threading.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["type"])
        if when == "in a stream":
            await send(START)
            await send({**END, "more_body": True})
        begun.set()
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        try:
            await send(START if when == "early" else END)
        except OSError:
            seen.append("OSError")
            raise

    with Records() as log, front(app_with(waits), loop=loop) as server:
        client = server.connect()
        client.send(request("/m"))
        assert begun.wait(PATIENCE)
        client.reset()
        server.at_rest()
        assert seen == ["http.request", "http.disconnect", "http.disconnect", "OSError"]
    assert not log.records  # it is nobody's fault


def test_after_its_answer_an_app_hears_that_it_is_over_and_may_go_on_with_something_else(loop: str) -> None:
    """The next request does not wait for it, nor is it disturbed by it."""
    seen: list[Any] = []
    go = threading.Event()

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/m/next":
            await send(START)
            await send({**END, "body": b"next"})
            return
        await receive()
        await send(START)
        await send(END)
        seen.append((await receive())["type"])
        await asyncio.to_thread(go.wait, PATIENCE)
        with pytest.raises(Exception, match="out of order"):
            await send(END)
        seen.append("end")

    with front(app_with(busy), loop=loop) as server, server.connect() as client:
        client.send(request("/m") + request("/m/next"))
        assert client.answer().body == b"done"
        assert client.answer().body == b"next"
        client.send(request("/m", "Connection: close"))
        assert client.answer().body == b"done"
        client.closed()  # though the app still works
        assert server.held()["tasks"] == 2
        go.set()
        server.at_rest()
    assert seen == ["http.disconnect", "http.disconnect", "end", "end"]


def test_what_an_app_sets_for_its_request_is_not_seen_in_the_next(loop: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
    seen = []

    async def sets(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set("left over")
        await send(START)
        await send(END)

    with front(app_with(sets), loop=loop) as server, server.connect() as client:
        client.send(request("/m") * 3)
        for _ in range(3):
            client.answer()
    assert seen == ["", "", ""]


# Faults


def sends(*messages: Any) -> Asgi:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def raises(problem: BaseException, *before: Any) -> Asgi:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in before:
            await send(message)
        raise problem

    return app


def start(*headers: Any, status: Any = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


MORE = {**END, "more_body": True}

FAILS: dict[str, Asgi] = {
    "returns at once": sends(),
    "returns after its start": sends(START),
    "raises at once": raises(ValueError("secret")),
    "raises after its start": raises(ValueError("secret"), START),
    "exits": raises(SystemExit(3)),
    "cancels itself": raises(asyncio.CancelledError()),
    "has a body before its start": sends(END),
    "starts twice": sends(START, START, END),
    "sends what is unknown": sends({"type": "http.response.nonsense"}),
    "sends what has no type": sends({}),
    "has no status": sends({"type": "http.response.start", "headers": []}),
    "has a status that is text": sends(start(status="200"), END),
    "has an informational status": sends(start(status=101), END),
    "has a status of four digits": sends(start(status=1000), END),
    "has a header that is text": sends(start(("a", "b")), END),
    "has a header name that is no token": sends(start((b"a b", b"c")), END),
    "has a line end in a header": sends(start((b"a", b"b\r\nc: d")), END),
    "has NUL in a header": sends(start((b"a", b"b\0c")), END),
    "has a body that is text": sends(START, {**END, "body": "text"}),
    "has a body that is a number": sends(START, {**END, "body": 5}),
    "has a length that is none": sends(start((b"content-length", b"+4")), END),
    "has two lengths": sends(start((b"content-length", b"4"), (b"content-length", b"5")), END),
    "has a length that is too short": sends(start((b"content-length", b"3")), END),
    "has a length that is too long": sends(start((b"content-length", b"5")), END),
}


@pytest.mark.parametrize("case", FAILS)
def test_an_app_that_fails_before_its_answer_has_begun_is_500(loop: str, case: str) -> None:
    with Records() as log, front(app_with(FAILS[case]), loop=loop) as server, server.connect() as client:
        client.send(request("/m") + request("/hello"))
        answer = client.answer()
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        assert client.answer().body == b"hello"
        until(lambda: len(log.tracebacks) == 1)


CUT: dict[str, Asgi] = {
    "raises in the middle": raises(ValueError("secret"), START, MORE),
    "returns in the middle": sends(START, MORE),
    "exits in the middle": raises(SystemExit(3), START, MORE),
    "starts again": sends(START, MORE, START),
    "has less than its length": sends(start((b"content-length", b"10")), MORE, END),
    "has more than its length": sends(start((b"content-length", b"6")), MORE, END),
    "has a body that is text": sends(START, MORE, {**END, "body": "text"}),
}


@pytest.mark.parametrize("case", CUT)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_app_that_fails_in_the_middle_is_cut_off(loop: str, case: str, version: str) -> None:
    with Records() as log, front(app_with(CUT[case]), loop=loop) as server, server.connect() as client:
        client.send(request("/m", version=version) + request("/hello"))
        head = client.until(b"\r\n\r\n")  # a reset may overtake it
        rest = client.rest()
        assert b"hello" not in head + rest
        assert not rest.endswith(b"0\r\n\r\n")
        if version == "1.0" and "length" not in case:
            assert client.was_reset  # nothing else tells that this is not the end of the answer
        until(lambda: len(log.tracebacks) == 1)
        server.at_rest()


def test_a_fault_after_the_answer_is_logged_and_nothing_else(loop: str) -> None:
    app = app_with(raises(ValueError("secret"), START, END))
    with Records() as log, front(app, loop=loop) as server, server.connect() as client:
        client.send(request("/m") + request("/hello"))
        assert client.answer().body == b"done"
        assert client.answer().body == b"hello"
        until(lambda: log.tracebacks == ["ValueError('secret')"])


async def read_once(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"X-A", b"b"), (b"Content-Length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": iter(headers)})
    await send(END)


BODIES: dict[str, tuple[Asgi, str, dict[str, str | None]]] = {
    "HEAD with a body": (sends(START, END), "HEAD", {"content-length": "4"}),
    "HEAD with a length": (
        sends(start((b"content-length", b"100")), {**END, "body": b""}), "HEAD", {"content-length": "100"},
    ),
    "HEAD in pieces": (sends(START, MORE, END), "HEAD", {"transfer-encoding": "chunked"}),
    "204 with a body": (sends(start(status=204), END), "GET", {"content-length": None, "transfer-encoding": None}),
    "204 with a length": (
        sends(start((b"content-length", b"0"), status=204), {**END, "body": b""}), "GET", {"content-length": None},
    ),
    "204 in pieces": (sends(start(status=204), MORE, END), "GET", {"transfer-encoding": None}),
    "304 with a length": (
        sends(start((b"content-length", b"100"), status=304), {**END, "body": b""}), "GET", {"content-length": None},
    ),
    "framing of its own": (
        sends(start((b"Transfer-Encoding", b"chunked"), (b"Keep-Alive", b"1"), (b"Trailer", b"a")), END),
        "GET", {"transfer-encoding": None, "content-length": "4", "keep-alive": None, "trailer": None},
    ),
    "an unknown status": (sends(start(status=599), END), "GET", {"content-length": "4"}),
    "headers that can be read once": (
        read_once,
        "GET", {"x-a": "b", "content-length": "4"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_what_an_app_says_of_its_body_is_framed_as_http_wants_it(loop: str, case: str) -> None:
    app, method, fields = BODIES[case]
    with front(app_with(app), loop=loop) as server, server.connect() as client:
        client.send(request("/m", method=method) + request("/hello"))
        answer = client.answer(method)
        for name, value in fields.items():
            assert answer.field(name) == value, name
        assert answer.whole
        assert client.answer().body == b"hello"


def test_an_app_may_close_the_connection(loop: str) -> None:
    app = app_with(sends(start((b"Connection", b"foo, Close")), END))
    with front(app, loop=loop) as server, server.connect() as client:
        client.send(request("/m") + request("/hello"))
        assert client.answer().closes
        client.closed()


def test_pieces_wait_for_a_client_that_does_not_read(loop: str) -> None:
    """What an app sends does not pile up in memory."""
    sent = 0

    async def floods(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(150):
            await send({**END, "body": b"x" * 65536, "more_body": True})
            sent += 1
        await send(END)

    with front(app_with(floods), loop=loop, send_buffer=65536) as server:
        with server.connect(receive_buffer=65536) as client:
            client.send(request("/m"))
            before = -1
            until(lambda: sent)
            while before != (before := sent):
                time.sleep(0.1)
            assert sent < 60
            assert len(client.answer().body) == 150 * 65536 + 4
        server.at_rest()
