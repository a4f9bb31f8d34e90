"""What the front end answers, byte for byte: framing of answers, keep-alive, pipelining, half-close, streams, files."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from front_kit import PATIENCE, Front, Records, answers, cuts, front, request, until

from zerver import App, CtxView, Decision, Done, Fail, Need, timer
from zerver.error import Error, ErrorKind
from zerver.request import Request
from zerver.response import Response

executed: list[str] = []
app = App()


@app.get("/fast/{name}")
def fast(ctx: CtxView) -> Decision:
    executed.append(ctx.param("name"))
    return Done.text(ctx.param("name"))


@app.get("/slow/{name}")
def slow(ctx: CtxView) -> Decision:
    executed.append(ctx.param("name"))
    return Need([timer.sleep(0.01)], then=slept)


def slept(ctx: CtxView) -> Decision:
    return Done.text(ctx.param("name"))


@app.post("/echo")
def echo(ctx: CtxView) -> Decision:
    executed.append("echo")
    return Done.bytes(ctx.body)


@app.get("/status/{status:int}")
def status(ctx: CtxView) -> Decision:
    return Done.empty(status=ctx.param("status", int))


@app.get("/fail")
def fail(ctx: CtxView) -> Decision:
    return Fail(ErrorKind.CONFLICT, what="taken")


@app.get("/bug")
def bug(ctx: CtxView) -> Decision:
    raise ValueError("secret")


@app.get("/large/{size:int}")
def large(ctx: CtxView) -> Decision:
    executed.append("large")
    return Done.bytes(b"x" * ctx.param("size", int))


class Chunks:
    """What a stream gives, how, and what became of it."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.go = threading.Event()

    def plain(self) -> Iterator[bytes]:
        try:
            yield from (b"one", b"", b"two")
        finally:
            self.closed.set()

    async def awaited(self) -> AsyncIterator[bytes]:
        for one in self.plain():
            yield one

    def broken(self) -> Iterator[bytes]:
        yield b"half"
        raise ValueError("secret")

    async def broken_awaited(self) -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("secret")

    def no_bytes(self) -> Iterator[bytes]:
        yield b"half"
        yield "text"  # type: ignore[misc]

    async def early(self) -> AsyncIterator[bytes]:
        raise ValueError("secret")
        yield b""

    def waits(self) -> Iterator[bytes]:
        yield b"data: 1\n\n"
        assert self.go.wait(PATIENCE)
        yield b"data: 2\n\n"


chunks = Chunks()


@app.get("/stream/{name}")
def stream(ctx: CtxView) -> Decision:
    return Done.stream(getattr(chunks, ctx.param("name"))())


@app.get("/events")
def events(ctx: CtxView) -> Decision:
    return Done.stream(chunks.waits(), content_type="text/event-stream")


FILE = bytes(range(256)) * 1000


@app.get("/file/{name}")
def file(ctx: CtxView) -> Decision:
    return Done.file(Path(ctx.header("x-root")) / ctx.param("name"))


exits: list[str] = []
exited = threading.Event()


def on_exit(ctx: CtxView) -> Decision:
    exited.clear()
    path, kind = ctx.path, ctx.param("kind")

    def callback() -> None:
        exits.append(path)
        exited.set()
        exit_may_end.wait(PATIENCE)

    ctx.on_exit(callback)
    executed.append("exit")
    if kind == "stream":
        return Done.stream(chunks.plain())
    if kind == "bug":
        raise ValueError("secret")
    return Done.text("done") if kind == "fast" else Need([timer.sleep(0.001)], then=done)


def done(ctx: CtxView) -> Decision:
    return Done.text("done")


app.get("/exit/{kind}", on_exit)
exit_may_end = threading.Event()


@pytest.fixture(params=["uvloop", "asyncio", "pool"])
def server(request: pytest.FixtureRequest) -> Iterator[Front]:
    pool = request.param == "pool"
    with front(
        app, loop="uvloop" if pool else request.param, mode="pool" if pool else "adaptive", pipeline_bytes=4096
    ) as serving:
        yield serving
        serving.at_rest()


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def clean() -> None:
    executed.clear()


# One answer


def test_an_answer_says_when_it_was_made_and_which_request_it_answers(server: Front) -> None:
    one, other = server.get("/fast/a"), server.get("/fast/a")
    date = one.field("date")
    assert date is not None
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert abs((parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()) < 3
    assert one.field("x-request-id") != other.field("x-request-id")
    assert one.reason == "OK"
    assert one.field("server") is None


@pytest.mark.parametrize(
    ("path", "like"),
    [("/fast/a", 200), ("/fail", 409), ("/bug", 500), ("/none", 404), ("/large/100000", 200), ("/stream/plain", 200)],
)
def test_head_is_get_without_the_body(server: Front, path: str, like: int) -> None:
    with Records(level=50), server.connect() as client:
        client.send(request(path))
        get = client.answer()
        client.send(request(path, method="HEAD") + request("/fast/next"))
        head = client.answer("HEAD")
        assert client.answer().body == b"next"  # nothing of a body was in between
    assert (get.status, head.status, head.body) == (like, like, b"")
    varies = {"x-request-id", "date"}
    if like < 400:
        assert [one for one in head.fields if one[0] not in varies] == [
            one for one in get.fields if one[0] not in varies
        ]
    else:
        assert [name for name, _ in head.fields] == [name for name, _ in get.fields]


@pytest.mark.parametrize("code", [204, 304])
def test_what_has_no_body_has_no_length(server: Front, code: int) -> None:
    with server.connect() as client:
        client.send(request(f"/status/{code}") + request("/fast/next"))
        answer = client.answer()
        assert (answer.status, answer.field("content-length"), answer.field("transfer-encoding")) == (code, None, None)
        assert client.answer().body == b"next"


def test_options_and_methods_that_are_not_there_name_those_that_are(server: Front) -> None:
    with server.connect() as client:
        client.send(request("/fast/a", method="OPTIONS") + request("/fast/a", method="DELETE") + request("/none"))
        found = [client.answer() for _ in range(3)]
    assert [one.status for one in found] == [204, 405, 404]
    assert [one.field("allow") for one in found] == ["GET, HEAD, OPTIONS", "GET, HEAD, OPTIONS", None]


def test_a_bug_is_told_to_the_log_alone(server: Front) -> None:
    with Records() as log:
        answer = server.get("/bug")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert log.tracebacks == ["ValueError('secret')"]


# The connection

KEEP = [
    ("1.1", [], True, None),
    ("1.1", ["Connection: close"], False, "close"),
    ("1.1", ["Connection: foo, Close ,bar"], False, "close"),
    ("1.1", ["Connection: foo", "Connection: close"], False, "close"),
    ("1.1", ["Connection: closed"], True, None),
    ("1.1", ["Connection: keep-alive"], True, None),
    ("1.0", [], False, "close"),
    ("1.0", ["Connection: keep-alive"], True, "keep-alive"),
    ("1.0", ["Connection: foo, Keep-Alive"], True, "keep-alive"),
    ("1.0", ["Connection: keep-alive, close"], False, "close"),
]


@pytest.mark.parametrize(("version", "fields", "keeps", "says"), KEEP)
@pytest.mark.parametrize("path", ["/fast/a", "/slow/a"])
def test_a_connection_goes_on_if_the_client_wants_it(
    server: Front, path: str, version: str, fields: list[str], keeps: bool, says: str | None
) -> None:
    with server.connect() as client:
        client.send(request(path, *fields, version=version))
        answer = client.answer()
        assert answer.field("connection") == says
        client.send(request("/fast/b", "Connection: close"))
        if keeps:
            assert client.answer().body == b"b"
        client.closed()
    assert executed == ["a", "b"] if keeps else ["a"]


@pytest.mark.parametrize("fields", [[], ["Connection: keep-alive"]])
def test_a_stream_to_http_1_0_ends_with_the_connection(server: Front, fields: list[str]) -> None:
    with server.connect() as client:
        client.send(request("/stream/plain", *fields, version="1.0"))
        answer = client.answer()
    assert (answer.body, answer.closes, answer.whole) == (b"onetwo", True, True)


def test_a_client_that_asks_a_thousand_times_is_answered_a_thousand_times(server: Front) -> None:
    with server.connect() as client:
        for n in range(1000):
            client.send(request(f"/fast/{n}"))
            assert client.answer().body == b"%d" % n


# Pipelining


def test_answers_come_in_the_order_of_requests(server: Front) -> None:
    paths = ["/slow/a", "/fast/b", "/fast/c", "/slow/d", "/slow/e", "/stream/plain", "/fast/f", "/none", "/fast/g"]
    sent = b"".join(request(path) for path in paths)
    expected = [b"a", b"b", b"c", b"d", b"e", b"onetwo", b"f", None, b"g"]
    for pieces in [*cuts(sent)][::40]:
        executed.clear()
        raw = server.ask(*pieces, eof=True)
        found = answers(raw)
        assert [one.status for one in found] == [200] * 7 + [404, 200]
        assert [one.body for one in found if one.status == 200] == [one for one in expected if one]
        assert executed == list("abcdefg")


def test_a_request_is_begun_when_the_one_before_it_is_answered(server: Front) -> None:
    chunks.go.clear()
    with server.connect() as client:
        client.send(request("/events") + request("/fast/b"))
        assert client.until(b"data: 1\n\n\r\n")
        assert executed == []
        chunks.go.set()
        client.until(b"0\r\n\r\n")
        assert client.answer().body == b"b"


@pytest.mark.parametrize(
    "error", [b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n"]
)
def test_what_is_before_an_error_is_answered_and_what_is_behind_it_is_not_executed(server: Front, error: bytes) -> None:
    sent = request("/slow/a") + request("/fast/b") + error + request("/fast/c")
    found = answers(server.ask(sent))
    assert [one.status for one in found] == [200, 200, 400]
    assert executed == ["a", "b"]


def test_nothing_is_executed_behind_an_answer_that_closes(server: Front) -> None:
    found = answers(server.ask(request("/slow/a") + request("/fast/b", "Connection: close") + request("/fast/c")))
    assert [one.body for one in found] == [b"a", b"b"]
    assert executed == ["a", "b"]


def test_a_deep_pipeline_is_not_read_ahead_of_its_answers() -> None:
    """Reading pauses, so that what is asked for does not fill the memory."""
    chunks.go.clear()
    one = request("/fast/x")
    with front(app, pipeline_bytes=4096, receive_buffer=4096) as server, server.connect(send_buffer=4096) as client:
        client.send(request("/events"))
        client.until(b"data: 1\n\n\r\n")
        client.socket.setblocking(False)
        sent, last = 0, time.monotonic()
        while time.monotonic() - last < 0.2:  # for so long nothing is taken
            try:
                sent += client.socket.send((one * 100)[sent % len(one) :])
                last = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
            assert sent < 1_000_000
        client.socket.settimeout(PATIENCE)
        chunks.go.set()
        client.until(b"0\r\n\r\n")
        client.send(one[sent % len(one) :])
        client.eof()
        raw = client.rest()
    assert raw.count(b"HTTP/1.1 200 OK") == sent // len(one) + 1 == len(executed)


@pytest.mark.parametrize(("size", "most"), [(200_000, 8), (10_000, 80)])
def test_a_client_that_reads_nothing_of_a_deep_pipeline_gets_no_more_done(loop: str, size: int, most: int) -> None:
    with front(app, loop=loop, send_buffer=16384) as server, server.connect(receive_buffer=4096) as client:
        client.send(request(f"/large/{size}") * 200)
        until(lambda: executed)
        before = -1
        while before != (before := len(executed)):
            time.sleep(0.05)
        assert len(executed) <= most
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.eof()
        raw = client.rest()
    assert raw.count(b"HTTP/1.1 200 OK") == 200
    assert len(executed) == 200


def test_what_is_asked_for_faster_than_it_is_answered_waits_at_its_sender(loop: str) -> None:
    waiting = 0

    def measure() -> int:
        return max([len(one._wire._data) for one in server.server._connections], default=0)

    with front(app, loop=loop) as server, server.connect() as client:
        sending = threading.Thread(target=lambda: (client.send(request("/fast/x") * 30_000), client.eof()))
        reading = threading.Thread(target=client.rest)
        sending.start()
        reading.start()
        while reading.is_alive():
            waiting = max(waiting, server.call(measure))
        sending.join()
    assert len(executed) == 30_000
    assert waiting < 64 * 1024 + 256 * 1024 + 1000  # what may wait, and one read more


@pytest.mark.parametrize("path", ["/fast/x", "/none"])  # what the engine answers, and what it never sees
def test_one_deep_pipeline_does_not_keep_the_others_waiting(loop: str, path: str) -> None:
    """Five thousand requests in one go: whoever comes meanwhile has its turn in between."""

    def count(error: Error, asked: Request) -> Response:
        executed.append("x")
        return Response(404)

    own = App(on_error=count)
    own.get("/fast/{name}", fast)
    with front(own, loop=loop) as server, server.connect() as busy, server.connect() as other:
        until(lambda: server.held()["connections"] == 2)
        server.loop.call_soon_threadsafe(time.sleep, 0.1)  # so that all is there when it is read
        busy.send(request(path) * 5000)
        other.send(request("/fast/y"))
        assert other.answer().body == b"y"
        assert executed.index("y") < 500
        for _ in range(5000):
            busy.answer()
    assert executed.count("x") == 5000


# Bodies


def test_a_client_that_waits_for_it_is_told_to_go_on(server: Front) -> None:
    with server.connect() as client:
        client.send(request("/echo", "Expect: 100-Continue", "Content-Length: 4", method="POST"))
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"body" + request("/fast/next"))
        assert client.answer().body == b"body"
        assert client.answer().body == b"next"


def test_a_client_that_waits_is_not_told_to_send_what_is_refused(server: Front) -> None:
    with server.connect() as client:
        client.send(request("/echo", "Expect: 100-continue", "Content-Length: 2000000", method="POST"))
        assert client.answer().status == 413
        client.closed()
    with server.connect() as client:
        client.send(request("/none", "Expect: 100-continue", "Content-Length: 4", method="POST"))
        answer = client.answer()
        assert (answer.status, answer.closes) == (404, True)
        client.closed()


def test_a_client_that_does_not_wait_is_not_told(server: Front) -> None:
    raw = server.ask(request("/echo", "Expect: 100-continue", method="POST", body=b"body"), eof=True)
    (answer,) = answers(raw)
    assert (answer.status, answer.body) == (200, b"body")


def test_chunks_come_as_one_body(server: Front) -> None:
    head = request("/echo", "Transfer-Encoding: chunked", method="POST")
    sent = head + b'3;a="b;\\"c"\r\none\r\n0003\r\ntwo\r\n0\r\nTrailer: x\r\n\r\n' + request("/fast/next")
    for pieces in [*cuts(sent)][::20]:
        found = answers(server.ask(*pieces, eof=True))
        assert [one.body for one in found] == [b"onetwo", b"next"]


def test_a_large_body_comes_whole(server: Front) -> None:
    body = FILE * 4
    with server.connect() as client:
        client.send(request("/echo", method="POST", body=body) + request("/fast/next"))
        assert client.answer().body == body
        assert client.answer().body == b"next"


# Half-close


@pytest.mark.parametrize("path", ["/fast/a", "/slow/a", "/stream/plain", "/large/5000000"])
def test_a_request_is_answered_though_the_client_has_closed_its_side(server: Front, path: str) -> None:
    with server.connect() as client:
        client.send(request(path) * 2)
        client.eof()
        time.sleep(0)
        first, second = client.answer(), client.answer()
        client.closed()
    assert first.whole
    assert second.whole
    assert first.body == second.body != b""


INCOMPLETE = [
    b"GET /fast/a HT",
    b"GET /fast/a HTTP/1.1\r\nHost: h\r\n",
    b"GET /fast/a HTTP/1.1\r\nHost: h\r\n\r",
    request("/echo", "Content-Length: 5", method="POST") + b"body",
    request("/echo", "Transfer-Encoding: chunked", method="POST") + b"4\r\nbody\r\n",
    request("/echo", "Transfer-Encoding: chunked", method="POST") + b"4\r\nbody\r\n0\r\n",
]


@pytest.mark.parametrize("sent", INCOMPLETE)
def test_an_incomplete_request_is_not_executed(server: Front, sent: bytes) -> None:
    (answer,) = answers(server.ask(sent, eof=True))
    assert (answer.status, answer.closes) == (400, True)
    assert executed == []


def test_a_connection_without_a_request_is_closed_without_a_word(server: Front) -> None:
    assert server.ask(eof=True) == b""
    with server.connect() as client:
        client.send(request("/fast/a"))
        client.answer()
        client.eof()
        client.closed()


# Streams


@pytest.mark.parametrize("name", ["plain", "awaited"])
def test_a_stream_goes_in_chunks(server: Front, name: str) -> None:
    chunks.closed.clear()
    with server.connect() as client:
        client.send(request(f"/stream/{name}") + request("/fast/next"))
        answer = client.answer()
        assert answer.chunks == [b"one", b"two"]  # an empty chunk would have ended it
        assert client.answer().body == b"next"
    assert chunks.closed.wait(PATIENCE)


@pytest.mark.parametrize("name", ["broken", "broken_awaited", "no_bytes"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_stream_that_fails_in_the_middle_does_not_look_complete(server: Front, name: str, version: str) -> None:
    with Records() as log, server.connect() as client:
        client.send(request(f"/stream/{name}", version=version) + request("/fast/next"))
        answer = client.answer()
        assert answer.status == 200
        assert answer.body in (b"half", b"")  # a reset may overtake what was sent
        assert not answer.whole
        client.closed()
        until(lambda: len(log.tracebacks) == 1)
    assert executed == []


def test_a_stream_that_fails_before_its_first_piece_is_cut_or_500(server: Front) -> None:
    with Records() as log, server.connect() as client:
        client.send(request("/stream/early"))
        raw = client.rest()
        until(lambda: len(log.tracebacks) == 1)
    found = answers(raw)
    assert found == [] or found[0].status == 500 or not found[0].whole


def test_an_event_is_sent_when_it_happens(server: Front) -> None:
    chunks.go.clear()
    with server.connect() as client:
        client.send(request("/events"))
        assert b"content-type: text/event-stream" in client.until(b"\r\n\r\n")
        assert client.until(b"\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
        chunks.go.set()
        assert client.until(b"0\r\n\r\n") == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


# Files


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    (directory / "data.bin").write_bytes(FILE)
    (directory / "empty").write_bytes(b"")
    return directory


def test_a_file_is_sent_with_its_length(server: Front, root: Path) -> None:
    with server.connect() as client:
        client.send(request("/file/data.bin", f"X-Root: {root}") + request("/fast/next"))
        answer = client.answer()
        assert answer.field("content-length") == str(len(FILE))
        assert answer.body == FILE
        assert client.answer().body == b"next"
        client.send(request("/file/data.bin", f"X-Root: {root}", method="HEAD") + request("/fast/next"))
        assert client.answer("HEAD").field("content-length") == str(len(FILE))
        assert client.answer().body == b"next"
        client.send(request("/file/empty", f"X-Root: {root}") + request("/fast/next"))
        assert (answer := client.answer()).field("content-length") == "0", answer
        assert client.answer().body == b"next"


@pytest.mark.parametrize(
    ("asked", "code", "content"),
    [
        ("bytes=0-9", 206, FILE[:10]),
        ("bytes=100-", 206, FILE[100:]),
        ("bytes=-10", 206, FILE[-10:]),
        ("bytes=999999999-", 416, None),
        ("lines=1-2", 200, FILE),
    ],
)
def test_a_part_of_a_file_is_sent(server: Front, root: Path, asked: str, code: int, content: bytes | None) -> None:
    answer = server.get("/file/data.bin", f"X-Root: {root}", f"Range: {asked}")
    assert answer.status == code
    if content is not None:
        assert answer.body == content


def test_several_parts_of_a_file_are_sent(server: Front, root: Path) -> None:
    answer = server.get("/file/data.bin", f"X-Root: {root}", "Range: bytes=0-9,50-59")
    assert answer.status == 206
    assert (answer.field("content-type") or "").startswith("multipart/byteranges")
    assert FILE[50:60] in answer.body


def test_a_file_that_is_not_there_is_404(server: Front, root: Path) -> None:
    assert server.get("/file/none", f"X-Root: {root}").status == 404


# Afterwards


@pytest.mark.parametrize("kind", ["fast", "slow", "stream", "bug"])
def test_exit_callbacks_run_when_the_answer_is_out(server: Front, kind: str) -> None:
    exits.clear()
    exit_may_end.clear()
    with Records(level=50), server.connect() as client:
        client.send(request(f"/exit/{kind}") + request("/fast/next"))
        client.answer()  # the callback has not ended
        assert client.answer().body == b"next"
        assert exited.wait(PATIENCE)
        exit_may_end.set()
    assert exits == [f"/exit/{kind}"]


def test_exit_callbacks_run_when_the_client_goes(server: Front) -> None:
    exits.clear()
    exit_may_end.set()
    chunks.go.clear()
    with server.connect() as client:
        client.send(request("/exit/stream"))
        until(lambda: executed)
        client.reset()
    until(lambda: exits == ["/exit/stream"])


@pytest.mark.parametrize("kind", ["fast", "slow", "stream"])
def test_an_answer_is_written_before_its_exit_callbacks_begin(kind: str) -> None:
    """Also where many answers are written at once."""
    seen: list[bytes] = []

    def at_once(work: Any, done: Any) -> bool:
        done(work(), None)
        return True

    def step(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: seen.append(client.socket.recv(100_000, socket.MSG_PEEK)))
        return Done.stream([b"done"]) if ctx.path == "/stream" else Done.text("done")

    def sleep(ctx: CtxView) -> Decision:
        return Need([timer.sleep(0.001)], then=step)

    own = App()
    own.get("/fast", step)
    own.get("/slow", sleep)
    own.get("/stream", step)
    with front(own, loop="asyncio") as server, server.connect() as client:
        server.call(setattr, server.server.engine.afterwards, "submit", at_once)
        client.send(request("/fast") + request(f"/{kind}"))
        until(lambda: len(seen) == 2)
    first, second = seen
    assert first.count(b"HTTP/1.1 200") == 1
    assert second.count(b"HTTP/1.1 200") == 2
