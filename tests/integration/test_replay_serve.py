"""From a request under ``zerver serve`` to its replay in another process, without anything that it used."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_kit import PATIENCE, Process

pytestmark = pytest.mark.engines("reactor", "blocking")

APP = """
from typing import Never

from zerver import App, CtxView, Decision, Done, Need, Retry, Slot, call, http, kv, sql, timer


class Row(Slot[dict[str, int]]): ...
class Word(Slot[str]): ...
class Kept(Slot[list[int]]): ...


def words() -> str:
    return "seven"


def look(ctx: CtxView[Never, Row | Word]) -> Decision:
    return Need([
        sql.query_one("select 7 as number", into=Row), call.run(words, into=Word),
        http.get("http://127.0.0.1:1/away", required=False, retry=Retry(2)), timer.sleep(60, required=False),
    ], join="all_required", then=keep)


def keep(ctx: CtxView[Row, Kept]) -> Decision:
    return Need([kv.put("k", [ctx.require(Row)["number"]]), kv.get("k", into=Kept)], mode="sequential", then=tell)


def tell(ctx: CtxView[Row | Word | Kept]) -> Decision:
    found = [ctx.require(Row), ctx.require(Word), ctx.require(Kept)]
    return Done.json([*found, ctx.uuid(), ctx.now(), ctx.elapsed, ctx.deadline], status=500)


def breaks(ctx: CtxView) -> Decision:
    raise ValueError("a bug")


app = App()
app.get("/all", look)
app.get("/bug", breaks)
"""


@pytest.fixture
def server(tmp_path: Path, engine: str) -> Iterator[Process]:
    (tmp_path / "app.py").write_text(APP)
    process = Process(
        tmp_path, "-m", "zerver", "serve", "app:app", "--port", "0", "--engine", engine, env={"ZERVER_DEBUG": "1"}
    )
    yield process
    process.kill()


def test_what_was_served_is_replayed_where_nothing_of_it_is_there(server: Process, tmp_path: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port(), timeout=PATIENCE)
    ids = []
    for path in ("/all", "/bug"):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read() != b"") == (500, True)
        ids.append(answer.headers["x-request-id"])
    connection.close()
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    for name in ("zerver.db", "kv.db"):
        (tmp_path / "var" / name).unlink()
    headlines = ("identical: 500, 6 effects in 3 steps", "identical: 500, 0 effects in 1 step")
    for id, told in zip(ids, headlines, strict=True):
        done = subprocess.run(
            [sys.executable, "-m", "zerver", "replay", id], cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip
        assert (done.returncode, told in done.stdout) == (0, True), done.stdout + done.stderr
    assert not (tmp_path / "var/kv.db").exists(), "no driver was used"
