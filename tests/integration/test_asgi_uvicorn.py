"""The app under plain uvicorn, ``uvicorn module:app``: what only real connections show."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from asgi_kit import PATIENCE, configured

from zerver import App, CtxView, Decision, Done, Need, timer

pytestmark = pytest.mark.usefixtures("engine")

exits: list[str] = []
begun: list[str] = []


def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")


def body(ctx: CtxView) -> Decision:
    return Done.bytes(ctx.body)


def sleep(ctx: CtxView) -> Decision:
    ctx.on_exit(lambda: exits.append(ctx.path))
    begun.append(ctx.path)
    return Need([timer.sleep(3600)], then=hello)


def chunks() -> Iterator[bytes]:
    try:
        while True:
            yield b"x" * 1000
            time.sleep(0.001)
    finally:
        exits.append("stream")


def stream(ctx: CtxView) -> Decision:
    return Done.stream(chunks())


def half() -> Iterator[bytes]:
    yield b"half"
    raise ValueError("a bug")


def breaks(ctx: CtxView) -> Decision:
    return Done.stream(half())


def wait(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


@contextmanager
def uvicorn_serves(app: App, loop: Any, grace: Any = 2) -> Iterator[int]:
    """Its port, while uvicorn serves the app on a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, loop=loop, log_config=None, timeout_graceful_shutdown=grace)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait(lambda: server.started or not thread.is_alive())
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    del exits[:]
    app = configured(App(), limits={"body_bytes": 1000}, server={"grace": 1})
    app.get("/hello", hello)
    app.post("/body", body)
    app.get("/sleep", sleep)
    app.get("/stream", stream)
    app.get("/breaks", breaks)
    with uvicorn_serves(app, request.param) as port:
        yield port


def connect(port: int, text: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connection.sendall(text)
    return connection


def everything(connection: socket.socket) -> bytes:
    found = b""
    while more := connection.recv(65536):
        found += more
    return found


def test_requests_follow_each_other_on_one_connection(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for _ in range(3):
        client.request("POST", "/body", b"1234", {"content-type": "text/plain"})
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b"1234")
        client.request("HEAD", "/hello")
        answer = client.getresponse()
        assert (answer.status, answer.headers["content-length"], answer.read()) == (200, "5", b"")
    client.close()


def test_a_client_that_hangs_up_ends_its_request(port: int) -> None:
    begun.clear()
    connection = connect(port, b"GET /sleep HTTP/1.1\r\nhost: a\r\n\r\n")
    wait(lambda: begun == ["/sleep"])
    assert exits == []
    connection.close()
    wait(lambda: exits == ["/sleep"])


def test_a_client_that_hangs_up_ends_its_stream(port: int) -> None:
    connection = connect(port, b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.close()
    wait(lambda: exits == ["stream"])


def test_a_stream_that_breaks_is_seen_by_the_client(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    client.request("GET", "/breaks")
    answer = client.getresponse()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    client.close()


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(port: int) -> None:
    head = (
        b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    )
    connection = connect(port, head)
    answer = everything(connection)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


@pytest.mark.engines("pool", "blocking")  # its step blocks
def test_a_stop_lets_what_is_in_flight_come_to_its_end() -> None:
    begun, go = threading.Event(), threading.Event()

    def step(ctx: CtxView) -> Decision:
        begun.set()
        assert go.wait(PATIENCE)
        return Done.text("in time")

    app = configured(App())
    app.get("/x", step)
    with uvicorn_serves(app, "uvloop") as port:
        connection = connect(port, b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
        wait(begun.is_set)
        threading.Timer(0.2, go.set).start()
    answer = everything(connection)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"in time")


def test_a_stop_ends_what_does_not_come_to_its_end() -> None:
    del exits[:]
    app = configured(App(), server={"grace": 60})
    app.get("/sleep", sleep)
    app.get("/stream", stream)
    with uvicorn_serves(app, "uvloop", grace=0.2) as port:
        connections = [connect(port, b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % path) for path in (b"sleep", b"stream")]
        assert connections[1].recv(100)
        time.sleep(0.05)
    for one in connections:
        one.close()
    wait(lambda: sorted(exits) == ["/sleep", "stream"])
