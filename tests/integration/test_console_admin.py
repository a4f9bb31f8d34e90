"""The console where it is in earnest: on the admin address of a running app, and opened by ``zerver dev``."""

from __future__ import annotations

import http.client
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kept_traces import checkout, row_of
from serve_kit import PATIENCE, Process, Start, get, wait_for

from zerver.app import App
from zerver.console.reading import read_graphs, read_page, read_routes, read_trace, run_replay
from zerver.error import AppError
from zerver.trace.store import TraceQuery, TraceStore

APP = """
from zerver import App, CtxView, Decision, Done

def boom(ctx: CtxView) -> Decision:
    raise ValueError("a bug")

app = App()
app.get("/boom", boom)
"""
ADMIN = {"ZERVER_OBSERVABILITY__ADMIN": "127.0.0.1:0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def console(process: Process) -> int:
    """The port of the console that a server tells of."""
    return int(process.read_until(r"console at http://127\.0\.0\.1:([0-9]+)/console/\n")[1])


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/console/{path}", headers=named)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if "json" in answer.headers["content-type"] else body.decode()
    finally:
        connection.close()


@pytest.mark.engines("reactor", "blocking")
def test_a_request_that_failed_is_seen_and_replayed(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", env=ADMIN)
    admin = console(server)
    port = server.port()
    assert get(port, "/boom")[0] == 500
    wait_for(lambda: ask(admin, "api/traces")[1]["traces"])
    _, page = ask(admin, "api/traces?status=5xx")
    (one,) = page["traces"]
    assert (one["route"], one["status"], one["why"]) == ("GET /boom", 500, "error")
    _, trace = ask(admin, f"api/traces/{one['id']}")
    assert trace["reasons"][0].startswith("answered 500 INTERNAL")
    _, graphs = ask(admin, "api/graphs")
    assert [graph["label"] for graph in graphs["routes"]] == ["GET /boom"]
    wait_for(lambda: ask(admin, "api/system")[1]["tables"])
    status, replay = ask(admin, f"api/traces/{one['id']}/replay", "POST", sec_fetch_site="same-origin")
    assert (status, replay["outcome"], replay["problem"]) == (200, "identical", "")
    assert get(admin, "/")[0] == 308
    assert "Zerver console" in ask(admin, "")[1]


@pytest.mark.engines("reactor")
def test_other_names_and_other_pages_are_refused(folder: Path, zerver: Start) -> None:
    admin = console(zerver("serve", "app:app", "--port", "0", env=ADMIN))
    assert ask(admin, "api/traces", host="rebound.example")[0] == 403
    assert ask(admin, "", host="rebound.example")[0] == 403
    assert ask(admin, "main.js", host=f"localhost:{admin}")[0] == 200
    assert ask(admin, "api/traces/last/replay", "POST", origin="http://elsewhere.example")[0] == 403


@pytest.mark.engines("reactor")
def test_a_reload_shows_the_new_pipelines(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", env=ADMIN)
    admin = console(server)
    server.listening()

    def labels() -> list[str]:
        return [graph["label"] for graph in ask(admin, "api/graphs")[1].get("routes", ())]

    assert labels() == ["GET /boom"]
    (folder / "app.py").write_text(APP.replace("/boom", "/bang"))
    server.signal(signal.SIGHUP)
    server.read_until("reloaded")
    wait_for(lambda: labels() == ["GET /bang"])


def test_it_tells_what_it_cannot_have(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")

    def load() -> App:
        raise AppError("module 'shop' is gone")

    assert "No trace has been kept yet" in read_page(path, TraceQuery(), 10).problem
    assert read_page(None, TraceQuery(), 10).problem == "nothing is traced here: trace.enabled is false"
    assert read_routes(path) == read_routes(None) == ()
    assert read_trace(path, "last") is read_trace(None, "last") is None
    assert run_replay(None, "last", load) is None
    assert read_graphs(load).problem == "the app cannot be looked at: module 'shop' is gone"
    store = TraceStore(path, max_bytes=1 << 30, max_age=86_400.0)
    store.write([row_of(checkout("a1"))])
    store.close()
    replayed = run_replay(path, "a1", load)
    assert replayed is not None
    assert replayed.problem == "it cannot be replayed here: module 'shop' is gone"
    found = read_trace(path, "last")
    assert found is not None
    assert found.id == "a1"


@pytest.mark.parametrize(
    ("screen", "opened"), [({"DISPLAY": ":0"}, True), ({"DISPLAY": ":0", "CI": "1"}, False), ({}, False)]
)
def test_dev_opens_the_console_where_somebody_looks(folder: Path, screen: dict[str, str], opened: bool) -> None:
    """A browser that writes down what it is to open; a terminal that nobody reads but this."""
    told = folder / "opened"
    (folder / "browser").write_text(f'#!/bin/sh\necho "$1" > {told}.part && mv {told}.part {told}\n')
    (folder / "browser").chmod(0o755)
    ours = {name: value for name, value in os.environ.items() if name not in ("CI", "DISPLAY", "WAYLAND_DISPLAY")}
    environment = {**ours, **screen, "BROWSER": str(folder / "browser"), "PYTHONDONTWRITEBYTECODE": "1"}
    head, tail = pty.openpty()
    command = [sys.executable, "-m", "zerver", "dev", "app:app", "--port", "0", "--schedulers", "1"]
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=tail, stdout=tail, stderr=tail, start_new_session=True
    )
    try:
        os.close(tail)
        said = b""
        while b"listening on" not in said:
            said += os.read(head, 65_536)
        if opened:
            wait_for(told.exists)
            assert told.read_text().strip().encode() in said
            assert told.read_text().strip().endswith("/console/")
        else:
            assert b"/console/" in said
            assert not told.exists()
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        os.close(head)
