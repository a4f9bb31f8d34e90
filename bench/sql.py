"""What SQL costs through the engine, and by hand on the same driver: SQLite on threads, PostgreSQL through asyncpg.

By hand is what somebody writes who counts: a task for each request, whose statements make one hop to a thread that has
a connection (SQLite), or go out at once on connections of asyncpg's pool (PostgreSQL). The engine's requests are traced
and time out, as they are in production; those by hand are not and do not.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Never

import asyncpg  # type: ignore[import-untyped]  # it has no types
import msgspec

from bench.engine_load import on_a_loop
from bench.harness import Figure, Figures
from bench.served import UVICORN, ZERVER, cpu_each, needs_wrk, serving
from bench.sql_apps import CONNECTIONS, NAMED, NUMBERED, READERS, Sqlite
from zerver import App, CtxView, Decision, Done, Effect, Need, Slot, sql
from zerver.config import Config, load
from zerver.effects.sql import SqlResult
from zerver.pipeline import Pipeline
from zerver.request import Request
from zerver.response import Response
from zerver.server.service import Host, Service
from zerver.server.tracing import tail_recorder
from zerver.step import compile_step

sys.path.append(str(Path(__file__).parent.parent / "tests" / "integration"))
from postgres_kit import PostgresServer  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]  # of tests/

__all__ = ["BENCHMARK"]

_REQUESTS = 320  # of each side in each round
_ROUNDS = 7
_AT_ONCE = 16
_ROWS = 1000
_COUNTS = (1, 5, 20)
_TIMEOUT = 5.0  # seconds; the machine's other load must not fail a request
_SCHEMA = "create table item (id integer primary key, name text not null, price integer not null)"
_WRITE = "update item set price = price + :by where id = :id"
_NUMBERED_WRITE = "update item set price = price + $1 where id = $2"

_Work = Callable[[int], Awaitable[None]]


def _chains(one: Callable[[int], Awaitable[object]]) -> _Work:
    """So many at once, each the next when the one before is answered."""

    async def chain(first: int, n: int) -> None:
        for number in range(first, n, _AT_ONCE):
            await one(number)

    async def work(n: int) -> None:
        await asyncio.gather(*[chain(first, n) for first in range(_AT_ONCE)])

    return work


# Through the engine


def _pipeline(effects: Callable[[CtxView[Any, Any], Sequence[Any]], list[Effect[Any]]], holds: Any, n: int) -> Pipeline:
    """A Need of these effects, whose values are then answered as JSON."""
    slots: list[Any] = [types.new_class(f"Value{k}", (Slot[holds],)) for k in range(n)]
    union = reduce(or_, slots)

    def answer(ctx: CtxView[Any]) -> Decision:
        return Done.json([ctx.require(slot) for slot in slots])

    def ask(ctx: CtxView[Never, Any]) -> Decision:
        return Need(effects(ctx, slots), then=answer)

    answer.__annotations__["ctx"] = CtxView[union]  # type: ignore[valid-type]  # made here
    ask.__annotations__["ctx"] = CtxView[Never, union]  # type: ignore[valid-type]  # the same
    return Pipeline("GET /", (compile_step(ask),), None)


def _requests(service: Service, pipeline: Pipeline) -> _Work:
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        answered: asyncio.Future[Response | None] = loop.create_future()
        request = Request("GET", "/", id=service.request_id(), params={"id": number % _ROWS})
        exchange = service.engine.begin(pipeline, request, service.engine.clock(), answered.set_result)
        response = await answered
        if exchange is not None:
            exchange.close()
        assert response is not None
        assert response.status == 200, response

    return _chains(one)


def _through_engine(service: Service, db: str) -> dict[str, _Work]:
    def reads(ctx: CtxView[Any, Any], slots: Sequence[Any]) -> list[Effect[Any]]:
        first = ctx.params["id"]
        return [
            sql.query_one(NAMED, {"id": (first + k) % _ROWS}, db=db, into=slot, timeout=_TIMEOUT)
            for k, slot in enumerate(slots)
        ]

    def writes(n: int) -> Callable[[CtxView[Any, Any], Sequence[Any]], list[Effect[Any]]]:
        def effects(ctx: CtxView[Any, Any], slots: Sequence[Any]) -> list[Effect[Any]]:
            first = ctx.params["id"]
            each = [sql.execute(_WRITE, {"by": 1, "id": (first + k) % _ROWS}, db=db) for k in range(n)]
            return [sql.transaction(each, into=slots[0], timeout=_TIMEOUT)]

        return effects

    sides = {f"{n} to read": _pipeline(reads, dict[str, Any], n) for n in _COUNTS}
    sides |= {f"{n} to update": _pipeline(writes(n), tuple[SqlResult, ...], 1) for n in _COUNTS}
    return {name: _requests(service, pipeline) for name, pipeline in sides.items()}


# By hand


def _tasks(handler: Callable[[int], Awaitable[bytes]]) -> _Work:
    """A task for each request, as servers make one."""
    loop = asyncio.get_running_loop()

    async def timed(number: int) -> bytes:
        return await handler(number)

    return _chains(lambda number: loop.create_task(timed(number)))


class _Sqlite(Sqlite):
    """And one connection that writes."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._writer = ThreadPoolExecutor(1)

    def _write(self, first: int, n: int) -> list[dict[str, Any]]:
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            counts = [connection.execute(_WRITE, {"by": 1, "id": (first + k) % _ROWS}).rowcount for k in range(n)]
        except BaseException:
            connection.rollback()
            raise
        connection.execute("COMMIT")
        return [{"rows_affected": count, "last_row_id": None} for count in counts]

    def sides(self) -> dict[str, _Work]:
        loop = asyncio.get_running_loop()

        def side(pool: ThreadPoolExecutor, work: Callable[[int, int], Any], n: int) -> _Work:
            async def handler(number: int) -> bytes:
                return msgspec.json.encode(await loop.run_in_executor(pool, work, number % _ROWS, n))

            return _tasks(handler)

        reads = {f"{n} to read": side(self.pool, self.read, n) for n in _COUNTS}
        return reads | {f"{n} to update": side(self._writer, self._write, n) for n in _COUNTS}

    def close(self) -> None:
        self.pool.shutdown()
        self._writer.shutdown()


def _asyncpg(pool: Any) -> dict[str, _Work]:
    async def row(key: int) -> dict[str, Any]:
        return dict(await pool.fetchrow(NUMBERED, key))

    def reads(n: int) -> _Work:
        async def handler(number: int) -> bytes:
            if n == 1:
                return msgspec.json.encode([await row(number % _ROWS)])
            return msgspec.json.encode(await asyncio.gather(*[row((number + k) % _ROWS) for k in range(n)]))

        return _tasks(handler)

    def writes(n: int) -> _Work:
        async def handler(number: int) -> bytes:
            async with pool.acquire() as connection, connection.transaction():
                told = [await connection.execute(_NUMBERED_WRITE, 1, (number + k) % _ROWS) for k in range(n)]
            return msgspec.json.encode([{"rows_affected": int(one.split()[1]), "last_row_id": None} for one in told])

        return _tasks(handler)

    sides = {f"{n} to read": reads(n) for n in _COUNTS}
    return sides | {f"{n} to update": writes(n) for n in _COUNTS}


# Both


async def _measured(engine: dict[str, _Work], hand: dict[str, _Work]) -> dict[str, tuple[float, float]]:
    """Of each case: CPU microseconds of a request through the engine, and by hand."""
    sides = {(name, way): works[name] for name in engine for way, works in enumerate((engine, hand))}
    times: dict[tuple[str, int], list[float]] = {side: [] for side in sides}
    for turn in range(_ROUNDS + 1):
        for side in list(sides) if turn % 2 else list(sides)[::-1]:
            gc.collect()
            began = time.process_time()
            await sides[side](_REQUESTS)
            times[side].append((time.process_time() - began) / _REQUESTS * 1e6)
    medians = {side: statistics.median(values[1:]) for side, values in times.items()}  # the first round warmed up
    return {name: (medians[name, 0], medians[name, 1]) for name in engine}


async def _on_sqlite(folder: Path, config: Config) -> dict[str, tuple[float, float]]:
    loop = asyncio.get_running_loop()
    service = Service(App().site(), config, loop, tail_recorder(config, loop, Host()))
    by_hand = _Sqlite(f"{folder}/bench.db")
    try:
        await service.ready()
        return await _measured(_through_engine(service, "default"), by_hand.sides())
    finally:
        await service.close()
        by_hand.close()


async def _on_postgres(config: Config, url: str) -> dict[str, tuple[float, float]]:
    loop = asyncio.get_running_loop()
    service = Service(App().site(), config, loop, tail_recorder(config, loop, Host()))
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(_SCHEMA)
        await pool.executemany("insert into item values ($1, $2, $3)", list(_rows()))
        try:
            await service.ready()
            return await _measured(_through_engine(service, "postgres"), _asyncpg(pool))
        finally:
            await service.close()


def _rows() -> Iterator[tuple[int, str, int]]:
    return ((n, f"a thing with the number {n}", n * 7) for n in range(_ROWS))


@contextmanager
def _server() -> Iterator[str]:
    server = PostgresServer()
    try:
        server.start()
        yield server.url
    finally:
        server.close()


def _served(folder: Path, url: str) -> Iterator[Figure]:
    """The same with an HTTP front end on both sides."""
    given = {
        "BENCH_SQLITE": f"{folder}/bench.db", "ZERVER_EFFECTS__DATABASES__DEFAULT": f"sqlite:///{folder}/bench.db",
        "BENCH_POSTGRES": url, "ZERVER_EFFECTS__DATABASES__POSTGRES": url,
        "ZERVER_TRACE__STORE": f"sqlite:///{folder}/served.db",
    }  # fmt: skip
    with (
        serving(UVICORN, "bench.sql_apps:starlette_app", given, "/default/1/1") as hand,
        serving(ZERVER, "bench.sql_apps:zerver_app", given, "/default/1/1") as engine,
    ):
        for database, name in (("default", "SQLite"), ("postgres", "PostgreSQL")):
            for count in (1, 5):
                path = f"/{database}/{count}/7"
                sides = {"by hand": (hand[0] + path, (hand[1],)), "engine": (engine[0] + path, (engine[1],))}
                each = cpu_each(sides, connections=_AT_ONCE, rounds=5)
                what = f"{name}, {count} to read, served"
                yield Figure(f"{what}: zerver serve", each["engine"], "us")
                yield Figure(f"{what}: by hand on Starlette and uvicorn", each["by hand"], "us")
                yield Figure(f"{what}: ratio", each["engine"] / each["by hand"], "x", "at most 1.25")


def _figures(database: str, found: dict[str, tuple[float, float]]) -> Iterator[Figure]:
    for name, (engine, hand) in found.items():
        yield Figure(f"{database}, {name}: engine", engine, "us")
        yield Figure(f"{database}, {name}: by hand", hand, "us")
        yield Figure(f"{database}, {name}: engine / by hand", engine / hand, "x", "at most 1.25")


def _measure() -> list[Figure]:
    needs_wrk("sql")
    with tempfile.TemporaryDirectory() as name, _server() as url:
        folder = Path(name)
        with sqlite3.connect(folder / "bench.db") as connection:
            connection.execute(_SCHEMA)
            connection.executemany("insert into item values (?, ?, ?)", _rows())
        connection.close()
        effects = {
            "databases": {"default": f"sqlite:///{folder}/bench.db", "postgres": url},
            "postgres": {"size": CONNECTIONS},
            "sqlite": {"readers": READERS},
        }
        config = load({"effects": effects, "trace": {"store": f"sqlite:///{folder}/trace.db"}}, {}, {})
        sqlite = on_a_loop(lambda: _on_sqlite(folder, config))
        postgres = on_a_loop(lambda: _on_postgres(config, url))
        served = list(_served(folder, url))
    return [*served, *_figures("SQLite", sqlite), *_figures("PostgreSQL", postgres)]


BENCHMARK = Figures(
    name="sql",
    question="What does a request cost that asks SQL and answers with what it found, through the engine and by hand? "
    f"{_AT_ONCE} requests at once; the queries of a request in parallel, its updates in one transaction; "
    "CPU time, traces included; served through HTTP, and the rest straight into the engine and into a task.",
    measure=_measure,
)
