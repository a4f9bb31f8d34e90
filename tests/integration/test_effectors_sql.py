"""The sql effector on real SQLite files."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import functools
import os
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from effector_conformance import FOR_EVER, Probe, threads, until

from zerver.effect import Effect
from zerver.effect_results import interpret
from zerver.effectors.sql import SqlEffector
from zerver.effects import sql
from zerver.error import Error, ErrorKind
from zerver_runtime.outcome import Failure, Outcome, Success

TABLES = (
    "create table author (id integer primary key, name text unique not null check (name <> ''))",
    "create table book (author integer references author (id))",
    "create table pair (a, b, primary key (a, b)) without rowid",
)


class Database:
    """A file, an effector on it, and how effects on it settle."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.effector = SqlEffector({"default": f"sqlite:///{path}"}, **options)

    async def outcome(self, effect: Effect[Any]) -> Outcome:
        """As the dispatcher would see it, without retries."""
        outcome = await Probe(self.effector, effect).settled()
        return interpret(effect, outcome.value, time.time) if isinstance(outcome, Success) else outcome

    async def value(self, effect: Effect[Any]) -> Any:
        outcome = await self.outcome(effect)
        assert isinstance(outcome, Success), outcome
        return outcome.value

    async def error(self, effect: Effect[Any]) -> Error:
        outcome = await self.outcome(effect)
        assert isinstance(outcome, Failure), outcome
        assert isinstance(outcome.error, Error)
        return outcome.error


def run(check: Callable[[Database], Awaitable[None]], path: Path, tables: bool = True, **options: Any) -> None:
    """Run it, and see that all threads have ended when the effector is closed."""
    before = threads()

    async def main() -> None:
        database = Database(path, **options)
        try:
            if tables:
                await database.value(sql.execute(TABLES[0]))
                await database.value(sql.execute("create table t (id integer primary key, a, b)"))
            await check(database)
        finally:
            await database.effector.close()

    asyncio.run(main())
    for thread in threads() - before:
        thread.join(5)  # they have said goodbye, and may not be quite gone
    assert threads() <= before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "deep" / "app.db"


def test_nothing_is_made_before_it_is_needed_and_then_directories_too(path: Path, tmp_path: Path) -> None:
    async def check(database: Database) -> None:
        assert os.listdir(tmp_path) == []
        assert await database.value(sql.query_one("select 1", as_=int)) == 1

    run(check, path, tables=False)
    assert path.exists()


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Words(str):
    __slots__ = ()


NOON = datetime.datetime(2024, 5, 17, 12, 0, 0, 500, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, None),
        (True, 1),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (1.5, 1.5),
        ("é🎈\0", "é🎈\0"),
        (Words("w"), "w"),
        (b"\0\xff", b"\0\xff"),
        (bytearray(b"a"), b"a"),
        (NOON, "2024-05-17T12:00:00.000500+00:00"),
        (NOON.date(), "2024-05-17"),
        (datetime.time(12, 30), "12:30:00"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (decimal.Decimal("1.50"), "1.50"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
    ],
)
def test_parameters_are_stored_as_their_nearest_plain_form(path: Path, given: Any, stored: Any) -> None:
    async def check(database: Database) -> None:
        row = await database.value(sql.query_one("select :v as v, typeof(:v) as kind", {"v": given}))
        assert row["v"] == stored
        assert type(row["v"]) is type(stored)

    run(check, path, tables=False)


def test_reads_run_beside_each_other_and_beside_a_write(path: Path) -> None:
    async def check(database: Database) -> None:
        slow = [Probe(database.effector, sql.query_one(FOR_EVER)) for _ in range(2)]
        slow.append(Probe(database.effector, sql.execute(f"insert into t (a) {FOR_EVER}")))
        assert await database.value(sql.query_one("select 7", as_=int)) == 7  # the third reader
        assert not any(one.outcomes for one in slow)
        names = sorted(thread.name for thread in threading.enumerate() if "sql:default" in thread.name)
        assert names == [*(f"zerver-sql:default-reader-{n}" for n in (1, 2, 3)), "zerver-sql:default-writer-1"]

    run(check, path, readers=3)


def test_a_statement_that_waits_is_taken_out_of_the_queue(path: Path) -> None:
    async def check(database: Database) -> None:
        running = Probe(database.effector, sql.query_one(FOR_EVER))
        waiting = Probe(database.effector, sql.query_one("select 1"))
        assert waiting.cancel is not None
        waiting.cancel()
        assert len(waiting.outcomes) == 1  # at once: nothing has to be waited for
        assert not running.outcomes

    run(check, path, tables=False, readers=1)


def test_an_interrupt_that_comes_too_late_does_not_hit_the_next_statement(path: Path) -> None:
    """The statement has ended on its thread, and the loop does not know yet."""
    counting = FOR_EVER.replace("from n) select", "from n limit 1000000) select")

    async def check(database: Database) -> None:
        await database.value(sql.query("select 1"))
        doomed = Probe(database.effector, sql.query_one("select 1"))
        innocent = Probe(database.effector, sql.query_one(counting))
        time.sleep(0.02)  # noqa: ASYNC251  the loop is to be blind; enough for the first, too little for the second
        assert doomed.cancel is not None
        doomed.cancel()
        assert isinstance(await innocent.settled(), Success)

    run(check, path, tables=False, readers=1)


def writes_much(path: Path) -> bool:
    return path.with_name("app.db-wal").stat().st_size > 1_000_000


def test_an_interrupted_write_is_rolled_back(path: Path) -> None:
    async def check(database: Database) -> None:
        endless = "insert into t (a) with recursive n(x) as (select 1 union all select x + 1 from n) select x from n"
        for effect in (sql.execute(endless), sql.transaction([sql.execute("delete from t"), sql.execute(endless)])):
            probe = Probe(database.effector, effect)
            await until(functools.partial(writes_much, path))
            assert probe.cancel is not None
            probe.cancel()
            await probe.settled()
            assert await database.value(sql.query_one("select count(*) from t", as_=int)) == 0

    run(check, path)


def test_a_database_that_another_process_has_locked_is_unavailable_for_now(path: Path) -> None:
    async def check(database: Database) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        try:
            for effect in (
                sql.execute("insert into t (a) values (1)"),
                sql.transaction([sql.execute("insert into t (a) values (1)")]),
                sql.transaction([sql.query("select 1")]),  # locks at its beginning, not half-way through
            ):
                outcome = await database.outcome(effect)
                assert isinstance(outcome, Failure)
                assert isinstance(outcome.error, Error)
                assert (outcome.error.kind, outcome.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
            assert await database.value(sql.query_one("select count(*) from t", as_=int)) == 0  # readers go on
        finally:
            other.close()
        await database.value(sql.execute("insert into t (a) values (1)"))

    run(check, path, busy_timeout=0.05)


def test_a_short_lock_is_waited_for(path: Path) -> None:
    async def check(database: Database) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        probe = Probe(database.effector, sql.execute("insert into t (a) values (1)"))
        assert await database.value(sql.query_one("select count(*) from t", as_=int)) == 0
        other.close()
        assert isinstance(await probe.settled(), Success)

    run(check, path, busy_timeout=5.0)


def test_connections_are_set_up_for_a_server(path: Path) -> None:
    async def check(database: Database) -> None:
        expected = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 1500}
        for name, value in expected.items():
            assert await database.value(sql.query_one(f"pragma {name}")) == {name.replace("busy_", ""): value}
        assert await database.value(sql.query_one("pragma query_only", as_=int)) == 0  # pragmas run on the writer
        assert await database.value(sql.query_one("select query_only from pragma_query_only", as_=int)) == 1
        assert await database.value(sql.query_one("select foreign_keys from pragma_foreign_keys", as_=int)) == 1

    run(check, path, tables=False, busy_timeout=1.5)


PROCESS = """
import asyncio, sys
from zerver.effectors.sql import SqlEffector
from zerver.effects import sql

async def main():
    effector = SqlEffector({"default": sys.argv[1]}, readers=2)
    loop = asyncio.get_running_loop()
    for effect in [sql.query("select 1"), sql.execute("create table if not exists t (a)"),
                   *[sql.execute("insert into t values (1)")] * 20, sql.query("select * from t")]:
        settled = loop.create_future()
        effector.start(effect, settled.set_result)
        outcome = await settled
        assert type(outcome).__name__ == "Success", outcome
    await effector.close()

asyncio.run(main())
"""


def test_processes_may_open_a_new_file_at_the_same_time(path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, f"sqlite:///{path}"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    results = [(process.communicate(timeout=25)[1], process.returncode) for process in processes]
    assert [code for _, code in results] == [0, 0, 0], results
    connection = sqlite3.connect(path)
    assert connection.execute("select count(*) from t").fetchone() == (60,)
    connection.close()


def test_a_lock_that_keeps_a_new_file_from_wal_is_waited_for(path: Path) -> None:
    """SQLite refuses the switch at once then, whatever the busy time-out."""
    path.parent.mkdir(parents=True)

    async def check(database: Database) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("create table t (a)")
        other.execute("begin immediate")
        probe = Probe(database.effector, sql.query("select * from t"))
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert probe.outcomes == []
        other.close()
        assert isinstance(await probe.settled(), Success)

    run(check, path, tables=False)


def test_in_memory_all_share_one_connection(tmp_path: Path) -> None:
    async def main() -> None:
        for url in ("sqlite://", "sqlite:///:memory:"):
            effector = SqlEffector({"default": url})
            for effect in (
                sql.execute("create table t (a)"),
                sql.transaction([sql.execute("insert into t values (1)"), sql.query_one("select a from t")]),
                sql.query("select * from t"),
            ):
                assert isinstance(await Probe(effector, effect).settled(), Success)
            await effector.close()

    asyncio.run(main())
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_opened_is_a_bug_that_the_log_names_until_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "place"
    place.write_text("a file where a directory is needed")

    async def check(database: Database) -> None:
        for _ in range(2):
            assert (await database.error(sql.query("select 1"))).kind is ErrorKind.INTERNAL
        place.unlink()
        await database.value(sql.query("select 1"))

    run(check, place / "app.db", tables=False)
    assert f"opening database sql:default, {place}/app.db" in caplog.text


def test_a_file_that_is_no_database_is_a_bug_and_stays_as_it_is(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database, but something dear to its owner" * 100)
    before = path.read_bytes()

    async def check(database: Database) -> None:
        assert (await database.error(sql.query("select 1"))).kind is ErrorKind.INTERNAL
        assert (await database.error(sql.execute("create table t (a)"))).kind is ErrorKind.INTERNAL

    run(check, path, tables=False)
    assert path.read_bytes() == before


def test_a_relative_path_is_relative_to_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        effector = SqlEffector({"default": "sqlite:///var/x.db"})
        assert isinstance(await Probe(effector, sql.query("select 1")).settled(), Success)
        await effector.close()

    asyncio.run(main())
    assert (tmp_path / "var" / "x.db").exists()


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite:relative.db", "x.db", ""])
def test_other_urls_are_refused_when_it_is_made(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite"):
        SqlEffector({"default": url})
