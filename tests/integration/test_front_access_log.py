"""The access log: one line for each answer, in which nothing of a client can pretend to be another."""

from __future__ import annotations

import io
import logging
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from front_kit import Front, Records, front, request, until

from zerver import App, CtxView, Decision, Done, Need, timer
from zerver.redaction import Redaction
from zerver.server.access_log import AccessLog
from zerver.server.log import LineFormatter
from zerver.wire import Head

app = App()


@app.get("/a/{name}")
def quick(ctx: CtxView) -> Decision:
    return Done.text("12345")


@app.get("/later")
def later(ctx: CtxView) -> Decision:
    return Need([timer.sleep(0.05)], then=quick)


@app.get("/stream")
def stream(ctx: CtxView) -> Decision:
    return Done.stream([b"123", b"4567"])


@app.get("/breaks")
def breaks(ctx: CtxView) -> Decision:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"123"
        raise ValueError("a bug")

    return Done.stream(chunks())


@app.post("/a/{name}")
def take(ctx: CtxView) -> Decision:
    return Done.empty()


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"made"})


app.mount("/mounted", mounted)


def logged(log: Records) -> list[str]:
    return [line for message in log.messages for line in message.split("\n")]


def wait_for(log: Records, lines: int, server: Front) -> list[dict[str, str]]:
    until(lambda: len(logged(log)) >= lines, f"{logged(log)}")
    server.at_rest()
    found = logged(log)
    assert len(found) == lines
    return [dict(part.split("=", 1) for part in line.split(" ")) for line in found]


CASES: dict[str, tuple[bytes, dict[str, str]]] = {
    "an answer": (request("/a/b?c=d"), {"method": "GET", "target": "/a/b?c=d", "status": "200", "bytes": "5"}),
    "HEAD": (request("/a/b", method="HEAD"), {"method": "HEAD", "status": "200", "bytes": "0"}),
    "no body": (request("/a/b", method="POST", body=b"x"), {"status": "204", "bytes": "0"}),
    "a stream": (request("/stream"), {"status": "200", "bytes": "7"}),
    "a stream that broke": (request("/breaks"), {"status": "200", "bytes": "3"}),
    "a mounted app": (request("/mounted/x"), {"target": "/mounted/x", "status": "201", "bytes": "4"}),
    "no route": (request("/none"), {"target": "/none", "status": "404"}),
    "no request": (b"nonsense\r\n\r\n", {"method": "-", "target": "-", "status": "400"}),
    "a body that is too large": (
        request("/a/b", "Content-Length: 10000000", method="POST"), {"method": "POST", "status": "413"},
    ),
    "escapes": (request("/a/%0a%1b[31m"), {"target": "/a/%0a%1b[31m", "status": "200"}),
    "a space in a path": (request("/a/%20status=500"), {"target": "/a/%20status=500", "status": "200"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_answer_is_one_line(case: str) -> None:
    sent, expected = CASES[case]
    with Records("zerver"), Records("zerver.access") as log, front(app, access_log=True) as server:
        server.ask(sent, eof=True)
        (line,) = wait_for(log, 1, server)
    assert list(line) == ["client", "method", "target", "status", "bytes", "ms", "id"]
    assert {name: line[name] for name in expected} == expected
    assert line["client"] == "127.0.0.1"
    assert re.fullmatch(r"\d+\.\d{3}", line["ms"])


def test_the_answers_of_a_pipeline_are_a_line_each() -> None:
    with Records("zerver.access") as log, front(app, access_log=True) as server:
        with server.connect() as client:
            client.send(request("/a/b") * 2500 + request("/later"))
            until(lambda: server.held()["requests"])
            server.call(time.sleep, 0.02)
            client.send(b"nonsense\r\n\r\n")  # what comes meanwhile does not move its beginning
            client.eof()
            client.rest()
        lines = wait_for(log, 2502, server)
    assert [line["status"] for line in lines] == ["200"] * 2501 + ["400"]
    assert len({line["id"] for line in lines}) == 2502
    assert float(lines[2500]["ms"]) > 45  # 50, as coarsely as the loop's timers are; without the beginning it is 30
    assert float(lines[2501]["ms"]) < 45  # it began when the one before it was answered


def test_a_request_that_got_no_answer_has_no_line() -> None:
    with Records("zerver.access") as log, front(app, access_log=True) as server:
        client = server.connect()
        client.send(request("/later"))
        until(lambda: server.held()["requests"])
        client.reset()
        server.at_rest()
    assert log.messages == []


def test_the_line_says_who_the_client_is_behind_a_proxy() -> None:
    with Records("zerver.access") as log, front(app, access_log=True, trusted=["127.0.0.1"]) as server:
        server.get("/a/b", "X-Forwarded-For: 1.2.3.4, 203.0.113.7")
        server.get("/a/b")
        server.get("/mounted", "X-Forwarded-For: fe80::1%x status=500")
        lines = wait_for(log, 3, server)
    assert [line["client"] for line in lines] == ["203.0.113.7", "127.0.0.1", "fe80::1"]


def test_a_client_of_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets here")
    with Records("zerver.access") as log, front(app, access_log=True, uds=str(tmp_path / "s")) as server:
        server.get("/a/b")
        (line,) = wait_for(log, 1, server)
    assert line["client"] == "-"


class Timers:
    """Only remembers."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Any]] = []

    def call_later(self, delay: float, callback: Any, /, *args: Any) -> Any:
        self.set.append((delay, callback))
        return type("Handle", (), {"cancel": lambda self: None})()


HEAD = Head("GET", b"/a", "/a", b"", (), "1.1", True)


def test_lines_are_written_later_and_some_at_a_time() -> None:
    timers = Timers()
    log = AccessLog(timers.call_later, lambda: 0)
    with Records("zerver.access") as records:
        for n in range(2500):
            log.add("c", HEAD, str(n), 200, 5, 0)
        assert (records.records, len(timers.set)) == ([], 1)
        sizes = []
        while timers.set:
            _, flush = timers.set.pop()
            before = len(logged(records))
            flush()
            sizes.append(len(logged(records)) - before)
        assert sum(sizes) == 2500
        assert max(sizes) <= 1000


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (b"/a?x=1&token=p455", "/a?x=1&token=[redacted]"),
        (b"/a?%74oken=p455&user[password]=p455", "/a?%74oken=[redacted]&user[password]=[redacted]"),
        (b"/a?sig=p455?token=p455", "/a?sig=[redacted]"),
        (b"/a?", "/a?"),
        (b"/a?x=%zz&\xff", "/a?x=%zz&\xff"),
    ],
)
def test_values_of_secret_parameters_are_not_written(target: bytes, told: str) -> None:
    log = AccessLog(Timers().call_later, lambda: 0, Redaction(["sig"]))
    with Records("zerver.access") as records:
        log.add("c", Head("GET", target, "/a", b"", (), "1.1", True), "1", 200, 5, 0)
        log.close()
    assert f" target={told} status=200 " in logged(records)[0]


def test_lines_that_cannot_be_written_in_time_are_counted() -> None:
    timers = Timers()
    log = AccessLog(timers.call_later, lambda: 0)
    with Records("zerver.access") as records:
        for n in range(10_007):
            log.add("c", HEAD, str(n), 200, 5, 0)
        log.close()
    assert len(logged(records)) == 10_001
    assert logged(records)[-1] == "7 lines of the access log were dropped"


def test_nothing_piles_up_while_the_log_is_off() -> None:
    timers = Timers()
    log = AccessLog(timers.call_later, lambda: 0)
    with Records("zerver.access", logging.WARNING) as records:
        for n in range(10):
            log.add("c", HEAD, str(n), 200, 5, 0)
        timers.set.pop()[1]()
        assert timers.set == []
    assert records.records == []


def test_each_line_of_the_server_s_own_log_has_its_time() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    logger = logging.getLogger("zerver.access")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        log = AccessLog(Timers().call_later, time.monotonic_ns)
        for target in (b"/a", b"/b\x1b[31m\r\nc"):
            log.add("c", Head("GET", target, "/a", b"", (), "1.1", True), "id", 200, 5, time.monotonic_ns())
        log.close()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
    first, second, *rest = stream.getvalue().splitlines()
    assert rest == []
    pattern = r"[-\d]{10} [:\d]{8} INFO zerver\.access: client=c method=GET target=%s status=200 bytes=5 ms=.* id=id"
    assert re.fullmatch(pattern % "/a", first)
    assert re.fullmatch(pattern % re.escape(r"/b\x1b[31m\r\nc"), second)
