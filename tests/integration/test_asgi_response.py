"""Responses by ASGI: headers as the app gave them, errors, streams that are closed whatever happens, and files."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_kit import Connection, ask, configured, serving, until

from zerver import App, CtxView, Decision, Done, Error, ErrorKind, Fail, Request, Response
from zerver.response import StreamBody
from zerver.server.asgi_response import _OnThreads
from zerver_runtime.reactor.threads import ThreadPool

pytestmark = pytest.mark.usefixtures("engine")

Make = Callable[[], Any]


def app_that(done: Callable[[], Decision], **app: Any) -> App:
    """An app whose ``GET /x`` answers so."""

    def answer(ctx: CtxView) -> Decision:
        return done()

    made = configured(App(**app))
    made.get("/x", answer)
    return made


async def answer_of(done: Callable[[], Decision], method: str = "GET", **options: Any) -> Connection:
    app = app_that(done)
    async with serving(app):
        return await ask(app, method, "/x", **options)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


# Headers


async def test_headers_keep_their_order_and_their_duplicates() -> None:
    headers = (("Set-Cookie", "a=1"), ("X-B", "2"), ("set-cookie", "c=3"), ("x-latin", "\xe9"))
    answer = await answer_of(lambda: Done.text("hello", headers=headers))
    assert answer.headers[:-2] == [
        ("content-type", "text/plain; charset=utf-8"),
        ("set-cookie", "a=1"),
        ("x-b", "2"),
        ("set-cookie", "c=3"),
        ("x-latin", "\xe9"),
    ]
    assert sorted(name for name, _ in answer.headers[-2:]) == ["content-length", "x-request-id"]


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_204_and_304_have_neither_body_nor_length(status: int, method: str) -> None:
    answer = await answer_of(lambda: Done.empty(status=status), method)
    assert (answer.status, answer.body, answer.complete) == (status, b"", True)
    assert answer.header("content-length") is None


async def test_an_empty_body_has_a_length() -> None:
    answer = await answer_of(lambda: Done.empty(status=201))
    assert answer.header("content-length") == "0"


# Errors


async def test_an_error_is_problem_json_with_its_parts() -> None:
    fail = Fail(ErrorKind.CONFLICT, "taken", key="$.name", detail={"by": ["you"]}, retry_after=1.2)
    answer = await answer_of(lambda: fail)
    body = answer.json()
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("retry-after") == "2"
    assert body.pop("request_id") == answer.header("x-request-id")
    assert body == {
        "title": "Conflict", "status": 409, "detail": "taken", "instance": "/x", "kind": "CONFLICT", "key": "$.name",
        "info": {"by": ["you"]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "fail",
    [
        Fail(ErrorKind.CONFLICT, detail={"what": object()}),
        Fail(ErrorKind.CONFLICT, detail={"n": 2**70}),
        Fail(ErrorKind.CONFLICT, retry_after=float("inf")),
    ],
)
async def test_an_error_without_a_json_form_keeps_its_status(fail: Fail, caplog: pytest.LogCaptureFixture) -> None:
    answer = await answer_of(lambda: fail)
    assert (answer.status, answer.json()["kind"]) == (409, "CONFLICT")
    assert [one for one in errors(caplog) if "no JSON form" in one]


def secret() -> Decision:
    raise ValueError("the password is 12345")


async def test_a_bug_is_500_that_names_the_step_and_its_traceback_is_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await answer_of(secret)
    assert (answer.status, answer.json()["kind"]) == (500, "INTERNAL")
    assert "step answer failed" in answer.json()["detail"]
    for words in (b"12345", b"Traceback", b".py"):
        assert words not in answer.body
    assert "the password is 12345" in caplog.text
    assert answer.json()["request_id"] in caplog.text


async def test_a_traceback_is_in_the_answer_under_debug() -> None:
    app = app_that(secret)
    configured(app, observability={"debug": True})
    async with serving(app):
        bug, missing = await ask(app, path="/x"), await ask(app, path="/y")
    assert any("12345" in line for line in bug.json()["traceback"])
    assert "traceback" not in missing.json()


async def test_on_error_makes_every_error() -> None:
    seen: list[tuple[ErrorKind, str]] = []

    def on_error(error: Error, request: Request) -> Response:
        seen.append((error.kind, request.path))
        return Done.text(error.what, status=418, headers={"x-own": "1"}).response

    app = app_that(secret, on_error=on_error)
    configured(app, limits={"body_bytes": 3})
    async with serving(app):
        answers = [
            await ask(app, path="/x"),
            await ask(app, path="/y"),
            await ask(app, "PUT", "/x"),
            await ask(app, path="/x", body=b"1234"),
        ]
    assert [(one.status, one.header("x-own")) for one in answers] == [(418, "1")] * 4
    assert seen == [
        (ErrorKind.INTERNAL, "/x"),
        (ErrorKind.NOT_FOUND, "/y"),
        (ErrorKind.METHOD_NOT_ALLOWED, "/x"),
        (ErrorKind.PAYLOAD_TOO_LARGE, "/x"),
    ]


def raises(error: Error, request: Request) -> Response:
    raise ValueError("in on_error")


def exits(error: Error, request: Request) -> Response:
    raise SystemExit(3)


def wrong(error: Error, request: Request) -> Response:
    return {"error": error.what}  # type: ignore[return-value]


def unsendable(error: Error, request: Request) -> Response:
    return Response(200, (("x", "a\r\nb"),), b"")


@pytest.mark.parametrize("on_error", [raises, exits, wrong, unsendable])
@pytest.mark.parametrize(("path", "status"), [("/x", 500), ("/y", 404)])
async def test_an_on_error_that_fails_is_logged_and_the_default_answers(
    on_error: Any, path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_that(secret, on_error=on_error)
    async with serving(app):
        answer = await ask(app, path=path)
    assert (answer.status, answer.json()["status"]) == (status, status)
    assert [one for one in errors(caplog) if "on_error failed" in one]


async def test_what_on_error_streams_is_closed_when_the_client_goes() -> None:
    endless = Endless()
    app = app_that(secret, on_error=lambda error, request: Response(200, (), StreamBody(endless.asynchronously())))
    async with serving(app):
        connection = Connection(app, path="/y").start()
        await until(lambda: len(connection.sent) > 3)
        connection.disconnect()
        await connection.ended()
    assert endless.closed == 1


# Streams


class Endless:
    """Streams without an end, which say when they are closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.threads: set[int] = set()
        self.asked = 0

    def plainly(self) -> Iterator[bytes]:
        try:
            while True:
                self.asked += 1
                self.threads.add(threading.get_ident())
                yield b"chunk"
        finally:
            self.threads.add(threading.get_ident())
            self.closed += 1

    async def asynchronously(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.asked += 1
                self.threads.add(threading.get_ident())
                yield b"chunk"
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            self.closed += 1


class Iterable:
    """Makes a new generator each time, as a class with ``__iter__`` does."""

    def __init__(self, endless: Endless) -> None:
        self.endless = endless

    def __iter__(self) -> Iterator[bytes]:
        return self.endless.plainly()


class AsyncIterable:
    def __init__(self, endless: Endless) -> None:
        self.endless = endless

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.endless.asynchronously()


def generator() -> Iterator[bytes]:
    yield b"a"
    yield b"bc"


async def async_generator() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.sleep(0)
    yield b"bc"


@pytest.mark.parametrize(
    ("make", "chunks"),
    [
        (lambda: [b"a", b"bc"], [b"a", b"bc"]),
        (lambda: (b"a", b"", bytearray(b"b"), memoryview(b"c")), [b"a", b"", b"b", b"c"]),
        (lambda: iter([b"a", b"bc"]), [b"a", b"bc"]),
        (list, []),
        (generator, [b"a", b"bc"]),
        (async_generator, [b"a", b"bc"]),
    ],
)
async def test_a_stream_is_sent_chunk_by_chunk(make: Make, chunks: list[bytes]) -> None:
    answer = await answer_of(lambda: Done.stream(make(), content_type="text/plain"))
    assert (answer.status, answer.complete) == (200, True)
    assert [message["body"] for message in answer.sent[1:]] == [*chunks, b""]
    assert answer.header("content-type") == "text/plain"
    assert answer.header("content-length") is None


ENDLESS = {
    "generator": lambda endless: endless.plainly(),
    "async generator": lambda endless: endless.asynchronously(),
    "iterable": Iterable,
    "async iterable": AsyncIterable,
}


@pytest.mark.parametrize("make", ENDLESS.values(), ids=ENDLESS)
async def test_a_stream_is_closed_when_the_client_goes_and_then_exit_callbacks_run(make: Any) -> None:
    endless, closed_at_exit = Endless(), list[int]()

    def answer(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: closed_at_exit.append(endless.closed))
        return Done.stream(make(endless))

    app = configured(App())
    app.get("/x", answer)
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(lambda: len(connection.sent) > 3)
        assert closed_at_exit == []
        connection.disconnect()
        await connection.ended()
        await until(lambda: closed_at_exit)
    assert (endless.closed, closed_at_exit) == (1, [1])
    assert not connection.complete
    on_the_loop = make in (ENDLESS["async generator"], ENDLESS["async iterable"])
    assert (threading.get_ident() in endless.threads) is on_the_loop


@pytest.mark.parametrize("make", ENDLESS.values(), ids=ENDLESS)
async def test_a_stream_is_closed_when_the_server_cancels_or_cannot_send(make: Any) -> None:
    for end in ("kill", "send fails"):
        endless = Endless()
        app = app_that(lambda endless=endless: Done.stream(make(endless)))  # type: ignore[misc]
        async with serving(app):
            connection = Connection(app, path="/x").start()
            await until(lambda connection=connection: len(connection.sent) > 3)  # type: ignore[misc]
            if end == "kill":
                await connection.kill()
            else:
                connection.send_fails = OSError("gone")
                await connection.ended()
            await until(lambda endless=endless: endless.closed)  # type: ignore[misc]
        assert endless.closed == 1


async def test_a_generator_that_waits_when_the_client_goes_is_closed_when_it_is_back() -> None:
    waits, go, closed = threading.Event(), threading.Event(), list[str]()

    def chunks() -> Iterator[bytes]:
        try:
            yield b"first"
            waits.set()
            go.wait(10)
            yield b"second"
        finally:
            closed.append(threading.current_thread().name)

    app = app_that(lambda: Done.stream(chunks()))
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(waits.is_set)
        connection.disconnect()
        await asyncio.sleep(0.02)
        assert closed == []
        go.set()
        await connection.ended()
    assert closed[0].startswith("zerver-response")
    assert connection.body == b"first"


@pytest.mark.engines("pool", "blocking")  # its step blocks
async def test_a_stream_is_closed_although_the_client_went_before_it_was_sent() -> None:
    class Chunks:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("nobody reads it")

        def close(self) -> None:
            self.closed += 1

    begun, go, chunks = threading.Event(), threading.Event(), Chunks()

    def answer() -> Decision:
        begun.set()
        go.wait(10)
        return Done.stream(chunks)

    app = app_that(answer)
    async with serving(app):
        connection = Connection(app, path="/x").start()
        await until(begun.is_set)
        connection.disconnect()
        await asyncio.sleep(0.01)
        go.set()
        await connection.ended()
        head = await ask(app, "HEAD", "/x")
    assert connection.sent == []
    assert (head.status, head.complete, head.body, chunks.closed) == (200, True, b"", 2)


async def test_a_stream_that_comes_past_the_deadline_is_closed() -> None:
    closed: list[str] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("nobody reads it")

        def close(self) -> None:
            closed.append(threading.current_thread().name)

    def late(ctx: CtxView) -> Decision:
        time.sleep(0.05)
        return Done.stream(Chunks())

    app = configured(App())
    app.get("/x", late, deadline=0.02)
    async with serving(app):
        assert (await ask(app, path="/x")).status == 504
        await until(lambda: closed)
    assert closed[0].startswith("zerver-response")


def before_the_first() -> Iterator[bytes]:
    yield b"x" * int("a bug")


def in_mid_stream() -> Iterator[bytes]:
    yield b"half"
    raise ValueError("a bug")


async def in_mid_async_stream() -> AsyncIterator[bytes]:
    yield b"half"
    raise ValueError("a bug")


def exiting() -> Iterator[bytes]:
    yield b"half"
    raise SystemExit(3)


def interrupting() -> Iterator[bytes]:
    yield b"half"
    raise KeyboardInterrupt


async def exiting_asynchronously() -> AsyncIterator[bytes]:
    yield b"half"
    raise SystemExit(3)


async def cancelling_itself() -> AsyncIterator[bytes]:
    yield b"half"
    raise asyncio.CancelledError


def stopping() -> Any:
    class Stop:
        def __iter__(self) -> Any:
            raise StopIteration

    return Stop()


def cleaning_up_badly() -> Iterator[bytes]:
    try:
        yield b"half"
        yield b"text"
    finally:
        raise ValueError("a bug in finally")


@pytest.mark.parametrize(
    ("make", "body"),
    [
        (before_the_first, b""),
        (in_mid_stream, b"half"),
        (in_mid_async_stream, b"half"),
        (exiting, b"half"),
        (exiting_asynchronously, b"half"),
        (interrupting, b"half"),
        (cancelling_itself, b"half"),
        (stopping, b""),
        (cleaning_up_badly, b"halftext"),
        (lambda: [b"half", "text"], b"half"),
        (lambda: b"ints", b""),
        (lambda: None, b""),
    ],
)
async def test_a_stream_that_fails_is_cut_and_logged(make: Make, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    answer = await answer_of(lambda: Done.stream(make()))
    assert (answer.status, answer.body) == (200, body)
    assert not answer.complete  # so that a server cuts the connection
    assert [one for one in errors(caplog) if "response failed" in one]


async def test_the_next_chunk_is_not_asked_for_before_the_last_one_is_sent() -> None:
    for make in (Endless.plainly, Endless.asynchronously):
        endless = Endless()
        app = app_that(lambda endless=endless, make=make: Done.stream(make(endless)))  # type: ignore[misc]
        async with serving(app):
            connection = Connection(app, path="/x")
            send, release = connection._send, asyncio.Event()

            async def slowly(message: Any, send: Any = send, release: asyncio.Event = release) -> None:
                await release.wait()
                await send(message)

            connection._send = slowly  # type: ignore[method-assign]
            connection.start()
            await asyncio.sleep(0.02)
            assert endless.asked == 0
            release.set()
            await until(lambda endless=endless: endless.asked > 2)  # type: ignore[misc]
            connection.disconnect()
            await connection.ended()


async def test_streams_that_wait_keep_neither_requests_nor_each_other_waiting() -> None:
    go = threading.Event()

    def waits() -> Iterator[bytes]:
        yield b"a"
        go.wait(10)
        yield b"b"

    app = app_that(lambda: Done.stream(waits()))
    app.get("/y", empty)
    configured(app, reactor={"continuation_pool": {"size": 2, "queue": 100}})
    async with serving(app):
        waiting: list[Connection] = []

        def begun() -> bool:
            return all(one.body == b"a" for one in waiting)

        for _ in range(10):  # five at a time: as a burst they would be an overload of a loop that is debugged
            waiting += [Connection(app, path="/x").start() for _ in range(5)]
            await until(begun)
        assert (await ask(app, path="/y")).status == 200
        go.set()
        for one in waiting:
            await one.ended()
    assert {one.body for one in waiting} == {b"ab"}


def empty(ctx: CtxView) -> Decision:
    return Done.empty(status=200)


def test_a_stream_that_hangs_does_not_keep_the_process_alive() -> None:
    script = """
import asyncio, threading
from asgi_kit import Connection, configured, until
from zerver import App, CtxView, Decision, Done

def hangs():
    yield b"first"
    threading.Event().wait()

def step(ctx: CtxView) -> Decision:
    return Done.stream(hangs())

async def main():
    app = configured(App())
    app.get("/x", step)
    connection = Connection(app, path="/x").start()
    await until(lambda: connection.body)

asyncio.run(main())
print("over")
"""
    there = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    ended = subprocess.run([sys.executable, "-c", script], env=there, capture_output=True, text=True, timeout=20)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("over\n", "", 0)


# Files


CONTENT = b"0123456789" * 20_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_bytes(CONTENT)
    return path


async def get_file(path: Any, method: str = "GET", filename: str | None = None, **headers: str) -> Connection:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return await answer_of(lambda: Done.file(path, filename=filename), method, headers=pairs)


async def test_a_file_is_sent_with_type_length_and_validators(file: Path) -> None:
    answer = await get_file(file)
    assert (answer.status, answer.body, answer.complete) == (200, CONTENT, True)
    assert answer.header("content-length") == "200000"
    assert answer.header("content-type") == "text/plain; charset=utf-8"
    assert all(answer.header(name) for name in ("etag", "last-modified", "x-request-id"))
    assert answer.header("content-disposition") is None


async def test_head_on_a_file_has_its_length_and_no_body(file: Path) -> None:
    answer = await get_file(file, "HEAD")
    assert (answer.status, answer.header("content-length"), answer.body) == (200, "200000", b"")


@pytest.mark.parametrize(
    ("range", "status", "span", "body"),
    [
        ("bytes=0-4", 206, "bytes 0-4/200000", b"01234"),
        ("bytes=199998-", 206, "bytes 199998-199999/200000", b"89"),
        ("bytes=-3", 206, "bytes 199997-199999/200000", b"789"),
        ("Bytes=1-1", 206, "bytes 1-1/200000", b"1"),
        ("bytes=200000-", 416, "bytes */200000", b""),
        ("lines=0-4", 200, None, None),  # RFC 9110 section 14.2: a unit that is not known is ignored
        ("nonsense", 200, None, None),
    ],
)
async def test_ranges_of_a_file(file: Path, range: str, status: int, span: str | None, body: bytes | None) -> None:
    answer = await get_file(file, range=range)
    assert (answer.status, answer.header("content-range")) == (status, span)
    assert answer.body == (CONTENT if body is None else body)
    assert answer.header("x-request-id")


async def test_if_range_is_heeded(file: Path) -> None:
    etag = (await get_file(file)).header("etag")
    assert etag is not None
    assert (await get_file(file, range="bytes=0-4", if_range=etag)).status == 206
    assert (await get_file(file, range="bytes=0-4", if_range='"other"')).status == 200


@pytest.mark.parametrize("name", ["missing.txt", "", "nul\0", "data.txt/below", "\udce9.txt", "x" * 5000])
async def test_a_file_that_is_not_there_is_404(file: Path, name: str) -> None:
    answer = await get_file(file.parent / name)
    assert (answer.status, answer.json()["kind"]) == (404, "NOT_FOUND")
    assert str(file.parent) not in answer.body.decode()


async def test_a_missing_file_of_on_error_ends_in_an_error_and_not_in_circles(file: Path) -> None:
    missing = Done.file(file.parent / "missing.txt").response
    app = app_that(lambda: Done.file(file.parent / "other.txt"), on_error=lambda error, request: missing)
    async with serving(app):
        connection = Connection(app, path="/x")
        with pytest.raises(RuntimeError, match="does not exist"):
            await connection.ended()


@pytest.mark.parametrize(
    ("filename", "disposition"),
    [
        ("a.pdf", 'attachment; filename="a.pdf"'),
        ("été.pdf", "attachment; filename*=utf-8''%C3%A9t%C3%A9.pdf"),
        ('a"\r\nx: y.pdf', "attachment; filename*=utf-8''a%22%0D%0Ax%3A%20y.pdf"),
        ("\udce9.pdf", "attachment; filename*=utf-8''%3F.pdf"),
    ],
)
async def test_a_download_is_named_whatever_its_name(file: Path, filename: str, disposition: str) -> None:
    answer = await get_file(file, filename=filename)
    assert (answer.status, answer.header("content-disposition")) == (200, disposition)


async def test_headers_of_the_app_go_before_those_of_the_file(file: Path) -> None:
    own = (("Content-Type", "text/x-own"), ("ETag", '"own"'), ("set-cookie", "a=1"), ("set-cookie", "b=2"))
    answer = await answer_of(lambda: Done.file(file, headers=own))
    assert (answer.header("content-type"), answer.header("etag")) == ("text/x-own", '"own"')
    assert [value for name, value in answer.headers if name == "set-cookie"] == ["a=1", "b=2"]


async def test_a_client_that_goes_while_a_file_is_sent_stops_it(file: Path) -> None:
    app = app_that(lambda: Done.file(file))
    async with serving(app):
        connection = Connection(app, path="/x")
        send = connection._send

        async def stuck(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body":
                connection.disconnect()
                await asyncio.sleep(3600)

        connection._send = stuck  # type: ignore[method-assign]
        await connection.ended()
    assert len(connection.body) == 65536
    assert not connection.complete


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
async def test_a_file_that_cannot_be_read_is_500(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.chmod(file, 0)
    assert (await get_file(file)).status == 500
    assert "PermissionError" in caplog.text


async def test_a_stream_that_the_server_cancels_is_closed_although_its_threads_end() -> None:
    closed = threading.Event()

    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    pool = ThreadPool(1, 1, name="test")
    source = _OnThreads(chunks(), pool)
    assert await source.next() == b"x"
    pool.close()

    async def close() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await source.close()

    await asyncio.wait([asyncio.ensure_future(close())])
    assert closed.wait(5)
