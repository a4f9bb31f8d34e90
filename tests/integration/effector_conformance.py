"""What every effector is tried with: each a way to make one, effects that settle, and one that does not by itself."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import compute_functions
from postgres_kit import PostgresServer
from raw_upstream import RawUpstream
from redis_kit import RedisServer

from zerver.effect import Effect
from zerver.effectors.base import AsyncEffector, Effector
from zerver.effectors.cache import CacheEffector
from zerver.effectors.call import CallEffector
from zerver.effectors.compute import ComputeEffector
from zerver.effectors.file import FileEffector
from zerver.effectors.folder import Folder
from zerver.effectors.http import HttpEffector
from zerver.effectors.http_aiohttp import AiohttpEffector
from zerver.effectors.kv import KvEffector
from zerver.effectors.sql import SqlEffector
from zerver.effectors.timer import TimerEffector
from zerver.effects import cache, call, compute, file, http, kv, sql, timer
from zerver.testing.effectors import Probe, Trial, until
from zerver_runtime.reactor.compute_pool import ComputePool
from zerver_runtime.reactor.threads import ThreadPool

__all__ = ["SUBJECTS", "Probe", "Subject", "Trial", "threads", "until"]


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


@asynccontextmanager
async def timers(folder: Path) -> AsyncIterator[Trial]:
    yield Trial(TimerEffector(), [timer.sleep(0), timer.sleep(0.001)], timer.sleep(3600))


@asynccontextmanager
async def blocking_calls(folder: Path) -> AsyncIterator[Trial]:
    pool = ThreadPool(2, 100, name="trial")
    go, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait(20)

    try:
        quick = [call.run(len, "abc"), call.run(int, "x")]
        yield Trial(CallEffector(pool), quick, call.run(wait), go.set, begun.is_set)
    finally:
        go.set()
        pool.close()


async def echo(value: str) -> str:
    return value


async def slow() -> None:
    await asyncio.sleep(3600)


@asynccontextmanager
async def async_calls(folder: Path) -> AsyncIterator[Trial]:
    pool = ThreadPool(1, 1, name="trial")
    yield Trial(CallEffector(pool), [call.run(echo, "a")], call.run(slow))
    pool.close()


@asynccontextmanager
async def computations(folder: Path) -> AsyncIterator[Trial]:
    path = folder / "pid"
    quick = [
        compute.run(compute_functions.add, 1),
        compute.run(compute_functions.raise_expected),
        compute.run(compute_functions.echo, threading.Lock()),
    ]
    slow = compute.run(compute_functions.note, str(path))
    yield Trial(ComputeEffector(ComputePool(2, 100)), quick, slow, under_way=path.exists)


def custom(kind: str) -> Effect[Any]:
    return Effect(family="custom", op=kind, target="custom", args=None)


@asynccontextmanager
async def async_effectors(folder: Path) -> AsyncIterator[Trial]:
    async def perform(effect: Effect[Any]) -> str:
        if effect.op == "raises":
            raise ValueError(effect.op)
        if effect.op == "slow":
            await asyncio.sleep(3600)
        return effect.op

    yield Trial(AsyncEffector(perform), [custom("a"), custom("raises")], custom("slow"))


@asynccontextmanager
async def stubborn_effectors(folder: Path) -> AsyncIterator[Trial]:
    """It needs a while to let go."""

    async def perform(effect: Effect[Any]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)

    async def quick(effect: Effect[Any]) -> None:
        await (asyncio.sleep(0) if effect.op == "a" else perform(effect))

    yield Trial(AsyncEffector(quick), [custom("a")], custom("slow"))


FOR_EVER = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"


@asynccontextmanager
async def sql_reads(folder: Path) -> AsyncIterator[Trial]:
    effector = SqlEffector({"default": f"sqlite:///{folder}/a.db"}, readers=2)
    yield Trial(effector, [sql.query("select 1"), sql.query("select nothing")], sql.query_one(FOR_EVER))


@asynccontextmanager
async def sql_writes(folder: Path) -> AsyncIterator[Trial]:
    effector = SqlEffector({"default": f"sqlite:///{folder}/a.db"})
    table = sql.execute("create table if not exists t (a)")
    slow = sql.transaction([table, sql.execute(f"insert into t {FOR_EVER}")])
    yield Trial(effector, [table, sql.transaction([table, sql.query("select 1")])], slow)


@asynccontextmanager
async def sql_in_memory(folder: Path) -> AsyncIterator[Trial]:
    effector = SqlEffector({"default": "sqlite://"})
    yield Trial(
        effector, [sql.query("select 1"), sql.execute("create table if not exists t (a)")], sql.query_one(FOR_EVER)
    )


@asynccontextmanager
async def postgres_reads(folder: Path, server: PostgresServer) -> AsyncIterator[Trial]:
    effector = SqlEffector({"default": server.url}, size=4)
    yield Trial(effector, [sql.query("select 1"), sql.query("select nothing")], sql.query("select pg_sleep(3600)"))


@asynccontextmanager
async def postgres_transactions(folder: Path, server: PostgresServer) -> AsyncIterator[Trial]:
    """Also those that wait for a connection."""
    effector = SqlEffector({"default": server.url}, size=2, prepared=False)
    table = sql.execute("create temp table if not exists t (a int)")
    slow = sql.transaction([table, sql.query("select pg_sleep(3600)")])
    yield Trial(effector, [sql.transaction([table, sql.query("select 1")]), sql.execute("nonsense")], slow)


@asynccontextmanager
async def kv_writes(folder: Path) -> AsyncIterator[Trial]:
    """Slow is what waits for a lock that another process holds, at most for the busy time-out."""
    path = os.fspath(folder / "kv.db")
    effector = KvEffector(f"sqlite:///{path}", busy_timeout=0.3)
    first = Probe(effector, kv.put("k", 1))
    await first.settled()
    locker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    locker.execute("begin immediate")
    try:
        yield Trial(effector, [kv.get("k"), kv.scan("")], kv.put("k", 2))
    finally:
        locker.close()


@asynccontextmanager
async def lean_https(folder: Path) -> AsyncIterator[Trial]:
    async with https(HttpEffector()) as trial:
        yield trial


@asynccontextmanager
async def full_https(folder: Path) -> AsyncIterator[Trial]:
    async with https(AiohttpEffector()) as trial:
        yield trial


@asynccontextmanager
async def kv_on_redis(folder: Path, server: RedisServer) -> AsyncIterator[Trial]:
    """Slow is what writes while the server does not take writes."""
    server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
    try:
        yield Trial(KvEffector(server.url), [kv.get("k"), kv.scan("")], kv.put("k", 1))
    finally:
        server.ask("CLIENT", "UNPAUSE")


@asynccontextmanager
async def files(folder: Path) -> AsyncIterator[Trial]:
    """Slow is what a disk does not answer: all threads hang in it until it does."""
    go, begun = threading.Event(), threading.Event()

    class Hanging(Folder):
        def write(self, path: str, content: bytes, stopped: Callable[[], bool]) -> None:
            if path == "slow":
                begun.set()
                go.wait(20)
            super().write(path, content, stopped)

    effector = FileEffector(str(folder), max_bytes=1000)
    effector._folder = Hanging(str(folder), 1000)
    quick = [file.write("a", b"1"), file.read("none"), file.read("../a")]
    yield Trial(effector, quick, file.write("slow", b"2"), go.set, begun.is_set)


@asynccontextmanager
async def cache_on_redis(folder: Path, server: RedisServer) -> AsyncIterator[Trial]:
    server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
    try:
        quick = [cache.get("k"), cache.get("j")]
        yield Trial(CacheEffector(server.url, most=0), quick, cache.set("k", 1, ttl=1))
    finally:
        server.ask("CLIENT", "UNPAUSE")


@asynccontextmanager
async def https(effector: Effector) -> AsyncIterator[Trial]:
    async with RawUpstream() as upstream:
        quick = [
            http.get(upstream.url("/")),
            http.post(upstream.url("/status/503"), json={}),
            http.get(upstream.url("/close")),
        ]
        begun = lambda: any("/drip" in one.line for one in upstream.requests)  # noqa: E731
        yield Trial(effector, quick, http.get(upstream.url("/drip")), under_way=begun)


class Subject(NamedTuple):
    name: str
    make: Callable[..., AbstractAsyncContextManager[Trial]]
    """Of a folder, and of the server where it needs one."""
    server: str | None = None
    """The fixture of that."""


SUBJECTS = [
    Subject("timer", timers),
    Subject("blocking call", blocking_calls),
    Subject("async call", async_calls),
    Subject("compute", computations),
    Subject("async effector", async_effectors),
    Subject("stubborn effector", stubborn_effectors),
    Subject("sql read", sql_reads),
    Subject("sql write", sql_writes),
    Subject("sql in memory", sql_in_memory),
    Subject("sql on postgres", postgres_reads, "postgres"),
    Subject("sql on postgres, transactions", postgres_transactions, "postgres"),
    Subject("kv", kv_writes),
    Subject("kv on redis", kv_on_redis, "redis_server"),
    Subject("cache on redis", cache_on_redis, "redis_server"),
    Subject("file", files),
    Subject("http", lean_https),
    Subject("http with aiohttp", full_https),
]
