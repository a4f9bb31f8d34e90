"""The trace store: several processes in one file, its bounds, and what becomes of it when it fails."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from serve_kit import wait_for

from zerver.trace.record import RequestNote, Row, TraceRecord, encode
from zerver.trace.sink import StoreSink
from zerver.trace.store import StoreError, TraceQuery, TraceReader, TraceStore

MB = 1024 * 1024
DAY = 86_400.0


def row(id: str, *, size: int = 0, **changed: Any) -> Row:
    given: dict[str, Any] = {
        "route": "GET /todos/{id}", "path": "/todos/1", "status": 200, "started_ns": time.time_ns(),
        "took_ns": 1_000_000, "why": "sampled", **changed,
    }  # fmt: skip
    record = TraceRecord(
        id=id, route=given["route"], why=given["why"], started_ns=given["started_ns"], took_ns=given["took_ns"],
        status=given["status"], request=RequestNote("GET", given["path"], body=b"x" * size),
    )  # fmt: skip
    return Row(
        id, given["route"], "GET", given["path"], given["status"], given["started_ns"], given["took_ns"], given["why"],
        "127.0.0.1", 0, "", encode(record),
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "traces.db")


def store(path: str, *, max_bytes: int = 64 * MB, max_age: float = DAY, **options: Any) -> TraceStore:
    return TraceStore(path, max_bytes=max_bytes, max_age=max_age, **options)


def ids(path: str, **query: Any) -> list[str]:
    with TraceReader(path) as reader:
        return [one.id for one in reader.summaries(TraceQuery(**query))]


def test_what_is_written_is_read_back(path: str) -> None:
    writer = store(path)
    writer.write([row("a1"), row("b2", status=500, why="error"), row("a1", took_ns=7)])
    writer.close()
    with TraceReader(path) as reader:
        newest, *_ = reader.summaries()
        assert (newest.seq, newest.id, newest.took_ns, newest.why) == (3, "a1", 7, "sampled")
        assert reader.last_seq() == reader.count() == 3
        found = reader.get("a1")
        assert found is not None
        assert found.took_ns == 7, "the newest of an id"
        by_end = reader.get("2")
        assert by_end is not None
        assert by_end.id == "b2"
        assert reader.get("c") is None
        assert reader.get("") is None
        assert [one.id for one in reader.records(oldest=True, limit=2)] == ["a1", "b2"]


def test_the_file_is_for_its_user_alone(path: str) -> None:
    store(path).write([row("a")])
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_queries(path: str) -> None:
    store(path).write(
        [
            row("a", route="GET /Todos/{id}", status=200, took_ns=5, started_ns=time.time_ns() - 10**9),
            row("b", path="/other/todos", status=404, took_ns=50),
            row("c", route="POST /x", path="/x", status=503, took_ns=500, why="error"),
            row("d", route="POST /x", path="/100%", status=None, took_ns=5_000),
        ]
    )
    assert ids(path) == ["d", "c", "b", "a"]
    assert ids(path, route="tODOs") == ["b", "a"]
    assert ids(path, route="100%") == ["d"]
    assert ids(path, route="%") == ["d"], "it is text, and no pattern"
    assert ids(path, status=(400, 499)) == ["b"]
    assert ids(path, status=(200, 599)) == ["c", "b", "a"]
    assert ids(path, slower_ns=500) == ["d", "c"]
    assert ids(path, why="error") == ["c"]
    assert ids(path, since_ns=time.time_ns() - 5 * 10**8) == ["d", "c", "b"]
    assert ids(path, after_seq=1, before_seq=4) == ["c", "b"]
    assert ids(path, route="x", slower_ns=1_000) == ["d"]
    assert ids(path, text="OTHER") == ["b"]
    assert ids(path, text="d", status=(200, 599)) == ["b", "a"], "in routes and paths"
    assert ids(path, text="%") == ["d"]
    with TraceReader(path) as reader:
        assert reader.routes() == [("POST /x", 2), ("GET /Todos/{id}", 1), ("GET /todos/{id}", 1)]


def test_the_oldest_make_room(path: str) -> None:
    writer = store(path, max_bytes=2 * MB)
    for number in range(60):
        writer.write([row(f"{number}-{one}", size=10_000) for one in range(10)])
        assert Path(path).stat().st_size < 2.2 * MB
    with TraceReader(path) as reader:
        kept = reader.summaries(limit=1_000)
    assert [one.seq for one in kept] == list(range(600, 600 - len(kept), -1)), "the newest, without a gap"
    assert 100 < len(kept) < 220


def test_one_that_is_larger_than_all_the_room_is_kept_until_the_next(path: str) -> None:
    writer = store(path, max_bytes=MB)
    for id in ("a", "b"):
        writer.write([row(id, size=3 * MB)])
        assert ids(path) == [id]


def test_what_is_too_old_goes(path: str) -> None:
    old = time.time_ns() - int(2 * DAY * 1e9)
    store(path).write([row("new"), row("old", started_ns=old)])
    assert ids(path) == ["new"]


def _write_many(path: str, name: str) -> None:
    writer = store(path, max_bytes=2 * MB)
    for number in range(40):
        writer.write([row(f"{name}-{number}-{one}", size=3_000) for one in range(5)])


def test_several_processes_write_at_once(path: str) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(path, name)) for name in "abcd"]
    for one in writers:
        one.start()
    for one in writers:
        one.join(20)
        assert one.exitcode == 0, "each of them waits for its turn"
    with TraceReader(path) as reader:
        assert reader.last_seq() == 4 * 40 * 5
        assert all(reader.get(one.id) for one in reader.summaries(limit=50))


def test_who_opens_a_new_store_at_once_with_others_waits_for_them(tmp_path: Path) -> None:
    """As schedulers that stop together do, each with its first traces."""
    for number in range(40):
        path = str(tmp_path / f"{number}.db")
        together, failed = threading.Barrier(8), list[StoreError]()

        def write(who: int, path: str = path, together: Any = together, failed: Any = failed) -> None:
            writer = store(path)
            together.wait()
            try:
                writer.write([row(str(who))])
            except StoreError as problem:
                failed.append(problem)
            writer.close()

        writers = [threading.Thread(target=write, args=(who,)) for who in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert failed == []
        assert sorted(ids(path)) == [str(who) for who in range(8)]


def test_reading_where_there_is_nothing_says_so(path: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="it is not there"):
        TraceReader(path)
    other = tmp_path / "other.db"
    other.write_text("this is no database at all, and long enough to be seen as such" * 20)
    with pytest.raises(StoreError, match="not a database"):
        TraceReader(str(other))
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    empty.touch()
    with pytest.raises(StoreError, match="of form 0"):
        TraceReader(str(empty))


def test_a_store_of_another_form_is_not_touched(path: str) -> None:
    store(path).write([row("a")])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(StoreError, match="of form 9, and this Zerver knows form 1; move the file away"):
        store(path).write([row("b")])


# The sink


def sink(path: str, **options: Any) -> StoreSink:
    return StoreSink(lambda: store(path, **options))


async def test_a_stop_writes_what_waits(path: str) -> None:
    one = sink(path)
    for number in range(20):
        assert one.write([row(str(number))])
    await one.close()
    assert len(ids(path)) == 20
    assert not one.write([row("after")])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zerver-trace")]


async def test_without_a_trace_there_is_no_file_and_no_thread(path: str) -> None:
    one = sink(path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zerver-trace")]
    await one.close()
    assert not os.listdir(os.path.dirname(os.path.dirname(path)))


async def test_a_store_that_fails_is_told_of_once_and_used_again(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deep").write_text("a file where a folder has to be")
    one = sink(path)
    for number in range(3):
        assert one.write([row(str(number)), row("x")])
    wait_for(lambda: one.lost == 6)
    (tmp_path / "deep").unlink()
    one.write([row("works")])
    await one.close()
    assert ids(path) == ["works"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith(f"trace store {path}: ")
    assert said[0].endswith("; traces are lost until it can be written")
    assert said[1] == "the trace store is written again; 6 traces were lost"


async def test_a_store_that_hangs_fills_up_and_holds_up_no_stop_for_long(
    path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, hangs = threading.Event(), threading.Event()

    class Hangs(TraceStore):
        def write(self, rows: Any) -> None:
            hangs.set()
            assert go.wait(20)

    monkeypatch.setattr("zerver.trace.sink._PATIENCE", 0.05)
    one = StoreSink(lambda: Hangs(path, max_bytes=MB, max_age=DAY))
    assert one.write([row("a")])
    wait_for(hangs.is_set)
    assert [one.write([row("a")]) for _ in range(70)].count(True) == 64
    await one.close()
    go.set()
    assert "the trace store does not answer; what was to be written to it is lost" in caplog.messages
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("zerver-trace")])


def test_it_needs_no_loop_to_be_read(path: str) -> None:
    """A reader may be used on another thread than it was made on: the console has several."""
    store(path).write([row("a")])
    with TraceReader(path) as reader:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(reader.get("a")))
        thread.start()
        thread.join()
    assert found[0].id == "a"
