"""What is PostgreSQL's alone, on a real server: types, cancellation, connections, and a server that goes away."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from effector_conformance import Probe, until
from postgres_kit import PostgresServer
from service_kit import Recorder, Rig
from sql_store_kit import Store

from zerver import App, CtxView, Decision, Done, Need, Retry
from zerver.config import ConfigError, load
from zerver.effects import sql
from zerver.effects.sql import SqlResult
from zerver.error import ErrorKind
from zerver_runtime.outcome import Failure, Success

Check = Callable[[Store], Awaitable[None]]

SLEEP = sql.query("select pg_sleep(3600)")
SLEEPING = "select count(*) from pg_stat_activity where query like 'select pg_sleep(3600)%' and state = 'active'"


@pytest.fixture
def awake(postgres: PostgresServer) -> None:
    """Ends what sleeps for tests before this one. A cancel that comes before its statement has begun is lost; when its
    client has gone, the server goes on with it."""
    postgres.ask(f"select pg_terminate_backend(pid) {SLEEPING.removeprefix('select count(*)')}")


nobody_sleeps = pytest.mark.usefixtures("awake")


def run(check: Check, url: str, **options: Any) -> None:
    async def main() -> None:
        store = Store({"default": url}, **options)
        try:
            await check(store)
        finally:
            await store.effector.close()

    asyncio.run(main(), debug=True)


async def counted(server: PostgresServer, query: str, wanted: int) -> None:
    """Wait until the server says so."""
    end = time.monotonic() + 5
    while (found := (await server.rows(query))[0][0]) != wanted:
        assert time.monotonic() < end, f"{found} instead of {wanted}: {query}"
        await asyncio.sleep(0.005)


class Colour(enum.Enum):
    RED = "red"


NOON = datetime.datetime(2024, 5, 17, 12, 0, 0, 500, tzinfo=datetime.UTC)
SEVEN = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        ("int", None, None),
        ("bool", True, True),
        ("int", -(2**31), -(2**31)),
        ("bigint", 2**63 - 1, 2**63 - 1),
        ("bigint", 2.0, 2),
        ("int", True, 1),
        ("float8", 1.5, 1.5),
        ("float8", 2, 2.0),
        ("numeric", decimal.Decimal("1.50"), decimal.Decimal("1.50")),
        ("numeric", 10**30, decimal.Decimal(10**30)),
        ("text", "é🎈'\\", "é🎈'\\"),
        ("text", Colour.RED, "red"),
        ("text", SEVEN, str(SEVEN)),
        ("text", decimal.Decimal("1.50"), "1.50"),
        ("text", NOON, "2024-05-17T12:00:00.000500+00:00"),
        ("varchar", NOON.date(), "2024-05-17"),
        ("bytea", b"\0\xff", b"\0\xff"),
        ("bytea", bytearray(b"a"), b"a"),
        ("uuid", SEVEN, SEVEN),
        ("uuid", str(SEVEN), SEVEN),
        ("timestamptz", NOON, NOON),
        ("timestamptz", "2024-05-17T12:00:00.000500Z", NOON),
        ("timestamptz", NOON.replace(tzinfo=None), NOON),
        ("timestamp", NOON, NOON.replace(tzinfo=None)),
        ("timestamp", "2024-05-17 12:00:00.0005", NOON.replace(tzinfo=None)),
        ("date", NOON.date(), NOON.date()),
        ("date", "2024-05-17", NOON.date()),
        ("time", "12:30", datetime.time(12, 30)),
        ("interval", datetime.timedelta(days=1, seconds=5), datetime.timedelta(days=1, seconds=5)),
        ("int[]", [1, None, 3], [1, None, 3]),
        ("int[]", (1, 2), [1, 2]),
        ("text[]", ["a,b", '"', Colour.RED], ["a,b", '"', "red"]),
        ("int[][]", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ("uuid[]", [SEVEN], [SEVEN]),
        ("json", {"a": [1, None, "é"]}, {"a": [1, None, "é"]}),
        ("jsonb", {"at": NOON, "id": SEVEN}, {"at": "2024-05-17T12:00:00.000500Z", "id": str(SEVEN)}),
        ("jsonb", [1, 2.5, "x"], [1, 2.5, "x"]),
        ("jsonb", '{"text": "is JSON"}', {"text": "is JSON"}),
        ("jsonb", 5, 5),
        ("inet", "10.0.0.1", "10.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0/8"),
    ],
)
def test_values_go_and_come_as_what_they_are_in_python(
    postgres: PostgresServer, kind: str, given: Any, read: Any
) -> None:
    async def check(store: Store) -> None:
        row = await store.value(sql.query_one(f"select :v::{kind} as v", {"v": given}))
        if kind == "jsonb" and isinstance(row["v"], dict) and "at" in row["v"]:
            row["v"]["at"] = row["v"]["at"].replace("+00:00", "Z")
        assert row["v"] == read
        assert isinstance(row["v"], type(read))

    run(check, postgres.url)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int", 2**31), ("smallint", -(2**15) - 1), ("bigint", 2**63), ("float8", 10**400), ("text", "a\0b"),
        ("uuid", "no uuid"), ("date", "17.5.2024"), ("timestamptz", "noon"), ("numeric", "eleven"), ("int[]", [2**31]),
        ("int", 1.5), ("bigint", float("inf")), ("smallint", decimal.Decimal("0.1")),
        ("json", "{no json"), ("inet", "10.0.0.999"),
    ],
)  # fmt: skip
def test_a_value_that_its_type_does_not_hold_is_unprocessable(postgres: PostgresServer, kind: str, given: Any) -> None:
    async def check(store: Store) -> None:
        error = await store.error(sql.query_one(f"select 1 as one, :value::{kind} as v", {"value": given}))
        assert error.kind is ErrorKind.UNPROCESSABLE
        assert error.key == (None if kind in ("json", "inet") else "value")  # the server does not say which
        assert str(given) not in error.what
        assert await store.value(sql.query_one("select 1", as_=int)) == 1

    run(check, postgres.url)


@pytest.mark.parametrize(("kind", "given"), [("int", "7"), ("text", 7), ("bool", "true"), ("date", 7)])
def test_a_value_of_the_wrong_kind_is_a_bug_that_the_log_names(
    postgres: PostgresServer, kind: str, given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(store: Store) -> None:
        error = await store.error(sql.query_one(f"select :value::{kind}", {"value": given}))
        assert error.kind is ErrorKind.INTERNAL

    run(check, postgres.url)
    assert "parameter :value is of a type that the statement does not take" in caplog.text


@pytest.mark.parametrize(
    ("statement", "given"),
    [
        ("insert into kept (a, b) values (:value, null)", "s455"),
        ("insert into kept (a, b) values (:value, 'short')", "s455"),
        ("select cast(:value::text as int)", "s455"),
        ("select :value::int", "s455"),
        ("select :value::uuid", "s455"),
        ("select :value::text", 455455),
        ("select :value::date", "s455"),
    ],
)
def test_what_is_logged_of_a_failure_has_no_values_in_it(
    postgres: PostgresServer, statement: str, given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(store: Store) -> None:
        await store.value(
            sql.execute("create table if not exists kept (a text, b text not null check (length(b) > 9))")
        )
        await store.error(sql.execute(statement, {"value": given}))

    caplog.set_level(logging.INFO)
    run(check, postgres.url)
    assert "455" not in caplog.text


def test_a_value_that_is_too_long_for_its_column_is_unprocessable(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        await store.value(sql.execute("create table if not exists short (a varchar(3))"))
        error = await store.error(sql.execute("insert into short values (:a)", {"a": "secret"}))
        assert error.kind is ErrorKind.UNPROCESSABLE
        assert "secret" not in error.what

    run(check, postgres.url)


class Point(msgspec.Struct):
    x: int
    label: str


class Row(msgspec.Struct):
    mood: Colour
    at: Point
    path: list[Point]
    extra: dict[str, list[int]]
    price: decimal.Decimal
    id: uuid.UUID
    day: datetime.date


def test_enums_composites_arrays_and_json_are_decoded_to_structs(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        await store.value(sql.execute("create type mood as enum ('red', 'green')"))
        await store.value(sql.execute("create type spot as (x int, label text)"))
        query = """select 'red'::mood as mood, row(1, 'a')::spot as at, array[row(2, 'b'), row(3, 'c')]::spot[] as path,
            '{"n": [1, 2]}'::jsonb as extra, 1.50 as price, :id::uuid as id, date '2024-05-17' as day"""
        assert await store.value(sql.query_one(query, {"id": SEVEN}, as_=Row)) == Row(
            Colour.RED, Point(1, "a"), [Point(2, "b"), Point(3, "c")], {"n": [1, 2]}, decimal.Decimal("1.50"), SEVEN,
            datetime.date(2024, 5, 17),
        )  # fmt: skip
        assert (await store.value(sql.query_one(query, {"id": SEVEN})))["at"] == {"x": 1, "label": "a"}

    run(check, postgres.url)


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        (r"select E'it\'s :a' || :v::text", "it's :aV"),
        ("select $$ :a ' $$ || :v::text", " :a ' V"),
        ("select $tag$ $$ :a $other$ $tag$ || :v::text", " $$ :a $other$ V"),
        ("select /* one /* :a ' */ two */ :v::text", "V"),
        ("select (array[:v::text, 'b'])[1]", "V"),
        ("select (array['a', :v, 'c'])[2:2]", ["V"]),
        ("""select '{"a": 1}'::jsonb ? 'a' and :v::text = 'V'""", True),
        ("""select '{"a": 1}'::jsonb ?| array['a', :v]""", True),
        ("""select '{"a": 1}'::jsonb @> :j::jsonb""", True),
        ("""select '{"a": [1]}'::jsonb @? '$.a[*]'""", True),
        ("select make_interval(hours := :h)", datetime.timedelta(hours=2)),
        ("select :v || 'é' -- :w", "Vé"),
        ('select "x:y" from (select :v::text) as t("x:y")', "V"),
        ("select case when :v::text is null then 1 else 2 end", 2),
    ],
)
def test_parameters_are_found_in_what_only_postgresql_writes(
    postgres: PostgresServer, statement: str, value: Any
) -> None:
    async def check(store: Store) -> None:
        row = await store.value(sql.query_one(statement, {"v": "V", "h": 2, "j": {"a": 1}}))
        assert list(row.values()) == [value]

    run(check, postgres.url)


def test_a_parameter_without_a_value_that_only_postgresql_sees_is_a_bug(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(store: Store) -> None:
        assert (await store.error(sql.query("select array[:v::int]"))).kind is ErrorKind.INTERNAL

    run(check, postgres.url)
    assert "parameter :v has no value" in caplog.text


@nobody_sleeps
def test_a_cancelled_statement_ends_on_the_server_and_its_connection_is_used_again(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        backend = sql.query_one("select pg_backend_pid()", as_=int)
        process = await store.value(backend)
        for effect in (SLEEP, sql.transaction([sql.query("select 1"), SLEEP])):
            probe = Probe(store.effector, effect)
            await counted(postgres, SLEEPING, 1)
            assert probe.cancel is not None
            probe.cancel()
            assert isinstance(await probe.settled(), Failure)
            assert await postgres.rows(SLEEPING) == [(0,)]
            assert await store.value(backend) == process

    run(check, postgres.url, size=1)


@nobody_sleeps
def test_no_more_connections_are_made_than_may_be_and_who_waits_may_leave(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        probes = [Probe(store.effector, SLEEP) for _ in range(5)]
        await counted(postgres, SLEEPING, 2)
        for probe in (probes[3], probes[0], probes[4]):
            assert probe.cancel is not None
            probe.cancel()
            await probe.settled()
        await counted(postgres, SLEEPING, 2)
        connections = "select count(*) from pg_stat_activity where application_name = 'two'"
        assert await postgres.rows(connections) == [(2,)]
        assert [len(probe.outcomes) for probe in probes] == [1, 0, 0, 1, 1]

    run(check, postgres.url + "?application_name=two", size=2)


@nobody_sleeps
def test_closing_cancels_on_the_server_and_leaves_no_connection(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        await store.value(sql.query("select 1"))
        Probe(store.effector, SLEEP)
        await counted(postgres, SLEEPING, 1)

    run(check, postgres.url + "?application_name=closing")
    query = "select count(*) from pg_stat_activity where application_name = 'closing'"
    asyncio.run(counted(postgres, query, 0))
    assert postgres.ask(SLEEPING) == [(0,)]


def test_a_handshake_that_nobody_waits_for_any_more_is_for_the_next(postgres: PostgresServer) -> None:
    """With a time-out below what a connection takes, there would never be one."""

    async def check(store: Store) -> None:
        for turn in range(200):
            probe = Probe(store.effector, sql.query_one("select 1", as_=int))
            await asyncio.sleep(0.0005)
            if probe.outcomes:
                assert isinstance(probe.outcomes[0], Success)
                assert turn > 0
                return
            assert probe.cancel is not None
            probe.cancel()
            await probe.settled()
        pytest.fail("no attempt ever had a connection")

    run(check, postgres.url, size=1)


def test_what_a_statement_sets_on_its_connection_is_gone_for_the_next(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        shown = sql.query_one("select current_setting('statement_timeout')", as_=str)
        for effect in (
            sql.execute("set statement_timeout = '77s'"),
            sql.query("select set_config('statement_timeout', '77s', false)"),
            sql.transaction([sql.execute("set statement_timeout = '77s'"), sql.query("select 1")]),
        ):
            await store.value(effect)
            assert await store.value(shown) == "0"
        await store.value(sql.query("select pg_advisory_lock(7)"))
        assert await postgres.rows("select pg_try_advisory_lock(7)") == [(True,)]

    run(check, postgres.url, size=1)


def test_time_outs_and_locks_of_the_server_are_worth_a_retry(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        error, retryable = await store.failure(SLEEP)
        assert (error.kind, retryable) == (ErrorKind.TIMEOUT, True)
        await store.value(sql.execute("create table if not exists locked (a int)"))
        hold = sql.transaction([sql.execute("lock table locked"), sql.query("select pg_sleep(0.3)")])
        holder = Probe(store.effector, hold)
        query = "select count(*) from pg_locks where relation = 'locked'::regclass and granted"
        await counted(postgres, query, 1)
        error, retryable = await store.failure(sql.execute("insert into locked values (1)"))
        assert (error.kind, retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
        assert isinstance(await holder.settled(), Success)

    run(check, postgres.url + "?statement_timeout=400&lock_timeout=50")


def test_a_backend_that_does_not_answer_a_cancellation_is_given_up(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        process = await store.value(sql.query_one("select pg_backend_pid()", as_=int))
        os.kill(process, signal.SIGSTOP)
        try:
            probe = Probe(store.effector, sql.query("select 1"))
            await asyncio.sleep(0)
            assert probe.cancel is not None
            probe.cancel()
            began = time.monotonic()
            await until(lambda: probe.outcomes, seconds=8)
            assert 1 < time.monotonic() - began < 4
            assert await store.value(sql.query_one("select pg_backend_pid()", as_=int)) != process
        finally:
            os.kill(process, signal.SIGCONT)

    run(check, postgres.url, size=1)


@nobody_sleeps
@pytest.mark.parametrize("idle", [True, False], ids=["idle", "in use"])
def test_a_connection_that_the_server_ends_is_replaced(postgres: PostgresServer, idle: bool) -> None:
    async def check(store: Store) -> None:
        process = await store.value(sql.query_one("select pg_backend_pid()", as_=int))
        probe = None if idle else Probe(store.effector, SLEEP)
        if not idle:
            await counted(postgres, SLEEPING, 1)
        await postgres.rows(f"select pg_terminate_backend({process})")
        if probe is not None:
            outcome = await probe.settled()
            assert isinstance(outcome, Failure)
            assert outcome.retryable
            assert outcome.error.kind is ErrorKind.UPSTREAM_UNAVAILABLE  # type: ignore[attr-defined]
        await counted(postgres, f"select count(*) from pg_stat_activity where pid = {process}", 0)
        for _ in range(20):  # the end may be on its way still
            if isinstance(await store.outcome(sql.query("select 1")), Success):
                break
        assert await store.value(sql.query_one("select pg_backend_pid()", as_=int)) != process

    run(check, postgres.url, size=1)


@nobody_sleeps
def test_a_server_that_is_killed_is_unavailable_until_it_is_back(postgres: PostgresServer) -> None:
    async def check(store: Store) -> None:
        await store.value(sql.execute("create table if not exists lasting (a int)"))
        write = sql.transaction([sql.execute("insert into lasting values (1)"), SLEEP])
        in_flight = [Probe(store.effector, effect) for effect in (SLEEP, write)]
        await counted(postgres, SLEEPING, 2)
        await asyncio.to_thread(postgres.kill)
        for probe in in_flight:
            outcome = await probe.settled()
            assert isinstance(outcome, Failure)
            assert outcome.retryable
            assert outcome.error.kind is ErrorKind.UPSTREAM_UNAVAILABLE  # type: ignore[attr-defined]
        began = time.monotonic()
        for _ in range(10):
            error, retryable = await store.failure(sql.query("select 1"))
            assert (error.kind, retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
            assert str(postgres.port) not in error.what
        assert time.monotonic() - began < 2  # at once, not after a time-out
        await asyncio.to_thread(postgres.start)
        assert await store.value(sql.query("select * from lasting")) == []
        assert await store.value(sql.execute("insert into lasting values (1)")) == SqlResult(1)

    try:
        run(check, postgres.url)
    finally:
        postgres.start()


def count(ctx: CtxView) -> Decision:
    return Need([sql.query("select 1", retry=Retry(2))], then=counted_now)


def counted_now(ctx: CtxView) -> Decision:
    return Done.json({"sees": "the database"})


def test_the_breaker_leaves_a_server_alone_that_is_away_and_finds_it_again(postgres: PostgresServer) -> None:
    async def main() -> None:
        app = App()
        app.get("/", count)
        breaker = {"failures": 3, "window": 60.0, "cooldown": 0.05}
        effects = {
            "databases": {"default": postgres.url},
            "targets": {"sql:default": {"breaker": breaker, "timeout": 5.0}},
        }
        rig = Rig(app, load({"effects": effects}, {}, {}), Recorder())  # the server is a child that comes and goes
        try:
            assert await rig.get("/").status() == 200
            await asyncio.to_thread(postgres.kill)
            said = []
            for _ in range(4):
                asked = rig.get("/")
                assert await asked.status() == 502
                said.append((await asked.json())["detail"])
            assert "cannot be reached" in said[0]
            assert "left alone for now, because it failed too often" in said[-1]
            await asyncio.to_thread(postgres.start)
            end = time.monotonic() + 5
            while await rig.get("/").status() != 200:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
        finally:
            await rig.service.close()
        await rig.nothing_is_left()

    try:
        asyncio.run(main(), debug=True)
    finally:
        postgres.start()


@pytest.mark.parametrize("change", [("postgres", "nothing"), ("zerver@", "nobody@")])
def test_a_database_that_does_not_exist_or_is_not_ours_is_a_bug_that_the_log_names(
    postgres: PostgresServer, change: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def check(store: Store) -> None:
        error, retryable = await store.failure(sql.query("select 1"))
        assert (error.kind, retryable) == (ErrorKind.INTERNAL, False)
        assert "not exist" not in error.what

    scheme, rest = postgres.url.split("://")
    run(check, f"{scheme}://{rest.replace(*change)}")
    assert "does not exist" in caplog.text


def test_without_asyncpg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"database default .* pip install 'zerver\[postgres\]'"):
        Store({"default": "postgresql://localhost/db"})
