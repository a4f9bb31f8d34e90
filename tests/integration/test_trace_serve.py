"""Traces under ``zerver serve``: what is kept, by whom, and that its id is everywhere the same."""

from __future__ import annotations

import http.client
import http.server
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from serve_kit import PATIENCE, Process, Start, wait_for

from zerver.trace.record import Summary, TraceRecord
from zerver.trace.store import StoreError, TraceReader

APP = """
import os
from zerver import App, CtxView, Decision, Done, ErrorKind, Fail, Need, Retry, http, timer

def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")

def boom(ctx: CtxView) -> Decision:
    raise ValueError("a bug")

def slow(ctx: CtxView) -> Decision:
    return Need([timer.sleep(0.03), timer.sleep(60, required=False)], join="all_required", then=slept)

def slept(ctx: CtxView) -> Decision:
    return Done.text("slept")

def away(ctx: CtxView) -> Decision:
    return Need([http.get("http://127.0.0.1:1/stock?token=t", retry=Retry(attempts=2))], then=slept)

def motto(ctx: CtxView) -> Decision:
    return Need([http.head(f"http://127.0.0.1:{os.environ['MOTTO']}/")], then=slept)

app = App()
app.get("/motto", motto)
app.get("/", hello)
app.get("/boom", boom)
app.get("/slow", slow)
app.get("/away", away)
"""


pytestmark = pytest.mark.engines("reactor", "blocking")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def zerver(folder: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start(*arguments: str, env: dict[str, str] | None = None) -> Process:
        process = Process(folder, "-m", "zerver", *arguments, env=env)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def ask(port: int, path: str, **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers["x-request-id"], answer.read()
    finally:
        connection.close()


def kept(folder: Path) -> list[Summary]:
    try:
        with TraceReader(str(folder / "var/traces.db")) as reader:
            return reader.summaries(oldest=True)
    except StoreError:
        return []


def record(folder: Path, id: str) -> TraceRecord:
    with TraceReader(str(folder / "var/traces.db")) as reader:
        found = reader.get(id)
    assert found is not None
    return found


def cli(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "zerver", "trace", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        timeout=PATIENCE, env={"COLUMNS": "80", "PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_request_has_one_id_everywhere(folder: Path, zerver: Start, engine: str) -> None:
    server = zerver("serve", "app:app", "--port", "0", "--engine", engine)
    status, id, body = ask(server.port(), "/boom")
    assert status == 500
    assert json.loads(body)["request_id"] == id
    wait_for(lambda: kept(folder))
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert [(one.id, one.why, one.status, one.error) for one in kept(folder)] == [(id, "error", 500, "INTERNAL")]
    assert f"ERROR zerver: request {id}: step boom failed" in server.errors
    assert len(re.findall(rf"zerver\.access: .* id={id}$", server.errors, re.MULTILINE)) == 1
    assert record(folder, id).engine == engine


def test_what_is_well_leaves_nothing(folder: Path, zerver: Start, engine: str) -> None:
    server = zerver("serve", "app:app", "--port", "0", "--engine", engine)
    port = server.port()
    assert ask(port, "/")[0] == 200
    assert ask(port, "/none")[0] == 404
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert not (folder / "var").exists()


def test_what_is_kept_at_the_end_is_written_at_the_stop(folder: Path, zerver: Start, engine: str) -> None:
    server = zerver("serve", "app:app", "--port", "0", "--engine", engine)
    _, id, _ = ask(server.port(), "/boom")
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert [one.id for one in kept(folder)] == [id]


def test_slow_asked_and_sampled_requests_are_kept_by_all_schedulers(folder: Path, zerver: Start) -> None:
    env = {"ZERVER_TRACE__SLOW_MS": "20", "ZERVER_TRACE__TRUSTED": '["127.0.0.1"]'}
    server = zerver("serve", "app:app", "--port", "0", "--schedulers", "2", env=env)
    port = server.port()
    asked = [ask(port, "/slow")[1] for _ in range(6)]
    asked += [ask(port, "/", x_zerver_trace="1")[1] for _ in range(6)]
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    found = kept(folder)
    assert sorted(one.id for one in found) == sorted(asked)
    assert [one.why for one in found].count("slow") == 6
    assert {one.scheduler for one in found} <= {0, 1}
    assert "trace" not in server.errors.replace("target=", ""), "nothing went wrong"


def test_it_can_be_turned_off(folder: Path, zerver: Start, engine: str) -> None:
    env = {"ZERVER_TRACE__ENABLED": "false"}
    server = zerver("serve", "app:app", "--port", "0", "--engine", engine, env=env)
    assert ask(server.port(), "/boom")[0] == 500
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert not (folder / "var").exists()


def test_a_store_that_cannot_be_opened_is_told_of_once_and_harms_no_request(folder: Path, zerver: Start) -> None:
    (folder / "var").write_text("a file")
    server = zerver("serve", "app:app", "--port", "0", "--schedulers", "1")
    port = server.port()
    for _ in range(3):
        assert ask(port, "/boom")[0] == 500
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert server.errors.count("traces are lost until it can be written") == 1


def test_the_terminal_tells_which_upstream_was_away_and_that_it_was_retried(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", "--schedulers", "1")
    status, id, _ = ask(server.port(), "/away")
    assert status == 502
    server.signal(signal.SIGTERM)
    assert server.ended() == 0

    (head, line) = cli(folder, "list", "--status", "5xx").splitlines()
    assert head.split() == ["TIME", "ID", "STATUS", "TOOK", "WHY", "ROUTE"]
    assert f" {id} 502 " in line
    assert line.endswith("error   GET /away")
    assert cli(folder, "list", "--route", "nowhere") == "no traces\n"

    page = cli(folder, "show", "last").splitlines()
    assert page == cli(folder, "show", id[-6:]).splitlines() == cli(folder, "show", id).splitlines()
    assert page[0] == "502  GET /away"
    assert max(map(len, page)) <= 80
    text = " ".join(one.strip() for one in page)
    assert "2 attempts, failed: GET http://127.0.0.1:1/stock?token=[redacted]" in text
    assert "http.get: attempt 1 failed after " in text
    assert "as step away requires http.get" in text
    assert "\x1b" not in text, "colours are for terminals"

    (exported,) = cli(folder, "export").splitlines()
    assert json.loads(exported)["id"] == id
    assert cli(folder, "export", id) == exported + "\n"


def test_tail_shows_traces_as_they_are_kept(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", "--schedulers", "1")
    port = server.port()
    tail = zerver("trace", "tail")
    tail.read_until("waiting for var/traces.db")
    _, id, _ = ask(port, "/boom")
    wait_for(lambda: kept(folder))
    found = b""
    assert tail.child.stdout is not None
    while id.encode() not in found:
        line = tail.child.stdout.readline()
        assert line, "it ended"
        found += line
    tail.signal(signal.SIGINT)
    assert tail.ended() == 0


def test_a_list_says_of_which_day_its_times_are_unless_that_is_today(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", "--schedulers", "1")
    port = server.port()
    for _ in range(3):
        assert ask(port, "/boom")[0] == 500
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    then = datetime(2026, 1, 31, 12)
    with closing(sqlite3.connect(folder / "var/traces.db")) as store, store:
        store.execute("UPDATE traces SET started_ns = ? WHERE seq < 3", (int(then.timestamp() * 1e9),))
    lines = cli(folder, "list").splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["2026-01-31:", "12:00:00", "12:00:00"]


def test_a_breaker_that_opens_and_closes_is_a_line_of_log_each(zerver: Start, engine: str) -> None:
    env = {"ZERVER_EFFECTS__DEFAULT_BREAKER__COOLDOWN": "0.05"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = zerver(
        "serve", "app:app", "--port", "0", "--engine", engine, "--schedulers", "1", env={**env, "MOTTO": str(port)}
    )
    at, target = server.port(), f"http:127.0.0.1:{port}"
    for _ in range(5):
        assert ask(at, "/motto")[0] == 502
    server.read_until(f"WARNING zerver.effects: {target} failed too often: its circuit breaker is open")
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler)
    with upstream:
        answering = threading.Thread(target=upstream.serve_forever)
        answering.start()
        try:
            wait_for(lambda: ask(at, "/motto")[0] == 200)
            server.read_until(f"WARNING zerver.effects: {target} is well again: its circuit breaker is closed")
        finally:
            upstream.shutdown()
            answering.join()
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert "breaker" not in server.errors, "once is enough"


@pytest.mark.parametrize(
    ("sample", "whys"),
    [({}, ["sampled"] * 5 + ["error"]), ({"ZERVER_TRACE__SAMPLE": "1000"}, ["error"])],
)
def test_dev_keeps_every_request_unless_told_of_how_many(
    folder: Path, zerver: Start, engine: str, sample: dict[str, str], whys: list[str]
) -> None:
    server = zerver(
        "dev", "app:app", "--port", "0", "--engine", engine, env={"ZERVER_OBSERVABILITY__ADMIN": "off", **sample}
    )
    port = server.port()
    for _ in range(5):
        assert ask(port, "/")[0] == 200
    assert ask(port, "/boom")[0] == 500
    wait_for(lambda: "error" in [one.why for one in kept(folder)])
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert sorted((one.why for one in kept(folder)), reverse=True) == whys
