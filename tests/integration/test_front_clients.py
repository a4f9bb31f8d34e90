"""Clients that are slow, stop, or go: each time limit, each state in which a peer may reset, and the stop of the
server. Afterwards nothing is kept for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from front_kit import PATIENCE, Client, Front, Records, front, request, until

from zerver import App, CtxView, Decision, Done, Need, timer

app = App()
executed: list[str] = []
ended: list[str] = []
stuck = threading.Event()


def quick(ctx: CtxView) -> Decision:
    executed.append(ctx.path)
    return Done.text("quick")


def waits(ctx: CtxView) -> Decision:
    executed.append("waits")
    ctx.on_exit(lambda: ended.append("waits"))
    return Need([timer.sleep(3600)], then=quick)


def hangs(ctx: CtxView) -> Decision:
    """On a thread, in mode pool."""
    executed.append("hangs")
    ctx.on_exit(lambda: ended.append("hangs"))
    stuck.wait(PATIENCE)
    return Done.text("late")


def later(ctx: CtxView) -> Decision:
    executed.append("later")
    return Need([timer.sleep(0.3)], then=quick)


def large(ctx: CtxView) -> Decision:
    executed.append("large")
    ctx.on_exit(lambda: ended.append("large"))
    return Done.bytes(b"x" * 8_000_000)


def forever(ctx: CtxView) -> Decision:
    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            ended.append("chunks")

    executed.append("stream")
    ctx.on_exit(lambda: ended.append("stream"))
    return Done.stream(chunks())


def silent(ctx: CtxView) -> Decision:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.append("chunks")

    executed.append("silent")
    ctx.on_exit(lambda: ended.append("silent"))
    return Done.stream(chunks())


def file(ctx: CtxView) -> Decision:
    executed.append("file")
    ctx.on_exit(lambda: ended.append("file"))
    return Done.file(Path(ctx.header("x-file")))


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    """Reads its body; then it is told that the client has gone."""
    if scope["type"] != "http":
        return
    executed.append("mounted")
    try:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        ended.append(message["type"])
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise


for path, step in (
    ("/quick", quick), ("/waits", waits), ("/hangs", hangs), ("/large", large), ("/stream", forever),
    ("/silent", silent), ("/file", file), ("/later", later),
):  # fmt: skip
    app.get(path, step)
app.post("/quick", quick)
app.mount("/mounted", mounted)

LIMIT = 0.15  # seconds, of what is tested
LONG = 60.0  # of all others


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    executed.clear()
    ended.clear()
    stuck.clear()
    yield
    stuck.set()


@pytest.fixture
def big(tmp_path: Path) -> str:
    found = tmp_path / "big"
    found.write_bytes(b"x" * 8_000_000)
    return f"X-File: {found}"


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Time limits


@pytest.mark.parametrize(
    "sent", [b"G", b"GET /quick HTTP/1.1\r\n", request("/quick")[:-1], request("/quick")[:-2], b"\r\nG"]
)
def test_a_head_that_takes_too_long_is_408(loop: str, sent: bytes) -> None:
    with front(app, loop=loop, head_timeout=LIMIT, linger_timeout=LIMIT) as server, server.connect() as client:
        client.send(request("/quick"))
        assert client.answer().status == 200
        began = time.monotonic()
        client.send(sent)
        answer = client.answer()
        client.closed()
        assert (answer.status, answer.closes) == (408, True)
        assert LIMIT <= time.monotonic() - began < LIMIT + 1
        server.at_rest()
    assert executed == ["/quick"]


def test_a_head_that_drips_is_408(loop: str) -> None:
    """What comes does not move the limit."""
    with front(app, loop=loop, head_timeout=LIMIT, linger_timeout=LIMIT) as server, server.connect() as client:
        dripping = True

        def drip() -> None:
            while dripping:
                client.send(b"X-A: b\r\n")
                time.sleep(LIMIT / 10)

        client.send(b"GET /quick HTTP/1.1\r\n")
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert client.answer().status == 408
        finally:
            dripping = False
            thread.join()
        server.at_rest()
    assert executed == []


BODIES = {
    "by length": request("/quick", "Content-Length: 10", method="POST") + b"body",
    "by length, none of it": request("/quick", "Content-Length: 10", method="POST"),
    "by chunks": request("/quick", "Transfer-Encoding: chunked", method="POST") + b"4\r\nbody\r\n",
    "trailers": request("/quick", "Transfer-Encoding: chunked", method="POST") + b"0\r\nA: ",
    "mounted": request("/mounted", "Content-Length: 10", method="POST") + b"body",
    "unexpected": request("/quick", "Content-Length: 10", "Expect: 100-continue", method="POST"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_takes_too_long_is_408(loop: str, case: str) -> None:
    with front(app, loop=loop, body_timeout=LIMIT, linger_timeout=LIMIT) as server, server.connect() as client:
        client.send(BODIES[case])
        if case == "unexpected":
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        answer = client.answer()
        client.closed()
        assert (answer.status, answer.closes) == (408, True)
        server.at_rest()
    assert executed == (["mounted"] if case == "mounted" else [])
    assert ended == (["http.disconnect"] if case == "mounted" else [])


def test_bytes_of_a_body_earn_it_time(loop: str) -> None:
    body = b"x" * 100
    with front(app, loop=loop, body_timeout=LIMIT, body_rate=100) as server, server.connect() as client:
        client.send(request("/quick", "Content-Length: 400", method="POST"))
        began = time.monotonic()
        for _ in range(4):
            client.send(body)
            server.call(time.sleep, LIMIT * 0.7)  # nothing is read meanwhile
        assert client.answer().status == 200
        assert time.monotonic() - began > 2 * LIMIT


@pytest.mark.parametrize("asked", [b"", request("/quick"), request("/quick") + b"\r\n"])
def test_an_idle_connection_is_closed_without_a_word(loop: str, asked: bytes) -> None:
    with front(app, loop=loop, idle_timeout=LIMIT) as server:
        began = time.monotonic()
        client = server.connect()
        if asked:
            client.send(asked)
            assert client.answer().status == 200
        client.closed()
        assert LIMIT <= time.monotonic() - began < LIMIT + 1
        client.socket.close()
        server.at_rest()


def test_a_connection_in_use_is_not_idle(loop: str) -> None:
    with front(app, loop=loop, idle_timeout=LIMIT) as server, server.connect() as client:
        client.send(request("/later"))  # takes twice as long
        assert client.answer().status == 200
        for _ in range(6):
            time.sleep(LIMIT / 3)
            client.send(request("/quick"))
            assert client.answer().status == 200


@pytest.mark.parametrize("path", ["/large", "/stream", "/file"])
def test_a_client_that_does_not_read_is_cut_off(loop: str, path: str, big: str) -> None:
    with front(app, loop=loop, write_timeout=LIMIT) as server, server.connect(receive_buffer=4096) as client:
        began = time.monotonic()
        client.send(request(path, big))
        until(lambda: executed)
        server.at_rest()
        assert LIMIT <= time.monotonic() - began < LIMIT + 2
        assert not client.answer().whole
    until(lambda: path[1:] in ended)


@pytest.mark.parametrize("path", ["/quick", "/later"])
def test_a_client_that_does_not_read_a_few_bytes_is_cut_off_when_it_is_idle(loop: str, path: str) -> None:
    """Too few to pause for, but more than the kernel takes: closing must not wait for them."""
    limits = {"idle_timeout": LIMIT, "write_timeout": LIMIT, "send_buffer": 4096}
    with front(app, loop=loop, **limits) as server, server.connect(receive_buffer=4096) as client:
        for _ in range(8):
            client.send(request("/quick") * 30)
        client.send(request(path))
        server.at_rest()


def test_a_client_that_reads_slowly_gets_everything(loop: str) -> None:
    """The limit is on a client that does not read; one that does has its time."""
    with front(app, loop=loop, write_timeout=LIMIT, send_buffer=65536) as server:
        with server.connect(receive_buffer=65536) as client:
            client.send(request("/large", "Connection: close"))
            began, size = time.monotonic(), 0
            while data := client.socket.recv(65536):
                size += len(data)
                if size < 2_000_000:
                    time.sleep(LIMIT / 5)
            assert size > 8_000_000
            assert time.monotonic() - began > 4 * LIMIT
        server.at_rest()


# Resets

STATES: dict[str, tuple[bytes, list[str], list[str]]] = {
    "before a request": (b"", [], []),
    "in a head": (b"GET /quick HTTP/1.1\r\nHo", [], []),
    "in a body": (request("/quick", "Content-Length: 10", method="POST") + b"body", [], []),
    "in chunks": (request("/quick", "Transfer-Encoding: chunked", method="POST") + b"4\r\nbo", [], []),
    "while an effect runs": (request("/waits"), ["waits"], ["waits"]),
    "while an effect runs, with more behind": (request("/waits") + request("/quick") * 10, ["waits"], ["waits"]),
    "while a stream waits": (request("/silent"), ["silent"], ["chunks", "silent"]),
    "while a stream is sent": (request("/stream"), ["stream"], ["chunks", "stream"]),
    "while an answer is sent": (request("/large"), ["large"], ["large"]),
    "while a mounted app reads": (
        request("/mounted", "Content-Length: 10", method="POST") + b"body", ["mounted"], ["http.disconnect"],
    ),
    "while a mounted app works": (request("/mounted"), ["mounted"], ["http.disconnect"]),
    "after an answer": (request("/quick"), ["/quick"], []),
    "after a refusal": (b"nonsense\r\n\r\n", [], []),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_a_reset_leaves_nothing_behind(loop: str, state: str) -> None:
    sent, executes, ends = STATES[state]
    with Records() as log, front(app, loop=loop, idle_timeout=LONG) as server:
        clients = [server.connect(receive_buffer=4096) for _ in range(5)]
        for client in clients:
            client.send(sent)
        until(lambda: len(executed) == 5 * len(executes), f"{executed}")
        until(lambda: server.held()["connections"] == 5)
        for client in clients:
            client.reset()
        server.at_rest()
        until(lambda: sorted(ended) == sorted(ends * 5), f"{ended}")
        assert executed == executes * 5
    assert not log.records, log.messages


def test_a_reset_while_a_step_runs_on_a_thread_leaves_nothing_behind(loop: str) -> None:
    with front(app, loop=loop, mode="pool") as server:
        with server.connect() as client:
            client.send(request("/hangs"))
            until(lambda: executed == ["hangs"])
            client.reset()
        until(lambda: server.held()["connections"] == 0)
        stuck.set()
        server.at_rest()
        until(lambda: ended == ["hangs"])


def test_a_file_is_closed_when_its_client_resets(loop: str, big: str) -> None:
    with front(app, loop=loop) as server:
        client = server.connect(receive_buffer=4096)
        client.send(request("/file", big))
        client.until(b"\r\n\r\n")
        client.reset()
        server.at_rest()
        until(lambda: ended == ["file"])


def test_a_client_that_goes_after_a_half_close_is_noticed_when_it_is_written_to(loop: str) -> None:
    with front(app, loop=loop) as server:
        client = server.connect()
        client.send(request("/later") + request("/stream"))
        client.eof()
        client.reset()
        server.at_rest()


# The stop


def stopping(server: Front) -> None:
    """Begin to stop, as a server does."""
    server.call(lambda: tasks.append(asyncio.ensure_future(server.server.drain(PATIENCE))))
    until(lambda: server.server.stopping)


tasks: list[Any] = []  # the loop keeps none itself


def test_a_stop_ends_each_connection_after_its_answer(loop: str) -> None:
    with front(app, loop=loop, linger_timeout=LIMIT) as server:
        with server.connect() as idle, server.connect() as busy, server.connect() as half, server.connect() as stream:
            busy.send(request("/later") + request("/quick"))
            half.send(request("/quick")[:-2])
            stream.send(request("/silent"))
            stream.until(b"first")
            until(lambda: "later" in executed)
            stopping(server)
            assert busy.answer().closes
            busy.closed()
            half.send(b"\r\n")
            assert half.answer().closes
            half.closed()
            idle.closed()
            until(lambda: server.held()["connections"] == 1)
            stream.reset()
        server.at_rest()
    assert sorted(executed) == ["/later", "/quick", "later", "silent"]


def test_a_request_that_comes_just_after_the_stop_is_answered(loop: str) -> None:
    with front(app, loop=loop) as server, server.connect() as client:
        client.send(request("/quick"))
        client.answer()
        stopping(server)
        client.send(request("/quick"))
        assert client.answer().closes
        client.closed()
        server.at_rest()


def test_a_stop_does_not_wait_for_a_connection_whose_stream_has_ended(loop: str) -> None:
    """The answer had begun before the stop, so that it could not say that the connection closes."""
    go = threading.Event()

    def slow(ctx: CtxView) -> Decision:
        def chunks() -> Iterator[bytes]:
            yield b"first"
            go.wait(PATIENCE)

        return Done.stream(chunks())

    own = App()
    own.get("/slow", slow)
    with front(own, loop=loop) as server, server.connect() as client:
        client.send(request("/slow"))
        client.until(b"first\r\n")
        stopping(server)
        server.call(lambda: None)
        go.set()
        began = time.monotonic()
        assert client.until(b"0\r\n\r\n") == b"0\r\n\r\n"
        client.closed()
        assert time.monotonic() - began < 2
        server.at_rest()


def test_what_does_not_end_is_cut_off_at_the_end_of_the_grace(loop: str) -> None:
    with Records(level=50), front(app, loop=loop, grace=0.2) as server:
        clients = [server.connect() for _ in range(4)]
        for client, path in zip(clients, ("/waits", "/silent", "/mounted", "/stream"), strict=True):
            client.send(request(path))
        until(lambda: len(executed) == 4)
    for client in clients:
        client.rest()
        client.socket.close()
    until(lambda: sorted(ended) == ["cancelled", "chunks", "chunks", "silent", "stream", "waits"], str(ended))


def test_nothing_is_written_to_a_connection_that_has_gone(loop: str) -> None:
    """Answers that come too late go nowhere, and do no harm."""
    with Records("asyncio") as log, front(app, loop=loop) as server:
        clients = [Client(server.address) for _ in range(20)]
        for client in clients:
            client.send(request("/later") + request("/stream"))
        until(lambda: len(executed) == 20)
        for client in clients:
            client.reset()
        server.at_rest()
    assert not log.records
