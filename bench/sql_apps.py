"""The apps of the benchmark ``sql``: some rows by their ids, from ``BENCH_SQLITE`` and ``BENCH_POSTGRES``, as JSON."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Never

from zerver import App, CtxView, Decision, Done, Need, Slot, sql

__all__: list[str] = []

READERS = 4
CONNECTIONS = 10
NAMED = "select id, name, price from item where id = :id"
NUMBERED = "select id, name, price from item where id = $1"


class A(Slot[dict[str, Any]]):
    """The first row."""


class B(Slot[dict[str, Any]]):
    """The second."""


class C(Slot[dict[str, Any]]):
    """The third."""


class D(Slot[dict[str, Any]]):
    """The fourth."""


class E(Slot[dict[str, Any]]):
    """The fifth."""


def ask(ctx: CtxView[Never, A | B | C | D | E]) -> Decision:
    first, db = ctx.param("id", int), ctx.param("db")
    slots = (A, B, C, D, E)[: ctx.param("count", int)]
    found = [sql.query_one(NAMED, {"id": first + n}, db=db, into=slot, timeout=5) for n, slot in enumerate(slots)]
    return Need(found, then=show)


def show(ctx: CtxView[A | B | C | D | E]) -> Decision:
    return Done.json([ctx.optional(slot) for slot in (A, B, C, D, E)[: ctx.param("count", int)]])


def __getattr__(name: str) -> Any:
    """Each app is made when it is asked for, so that no server imports another's framework."""
    if name == "zerver_app":
        app = App()
        app.get("/{db}/{count:int}/{id:int}", ask)
        return app
    if name == "starlette_app":
        return _by_hand()
    raise AttributeError(name)


class Sqlite:
    """A connection for each thread, as the effector has them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self.pool = ThreadPoolExecutor(READERS)

    def connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = sqlite3.connect(self._path, isolation_level=None)
            for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "journal_mode=WAL"):
                connection.execute(f"PRAGMA {pragma}")
        return connection

    def read(self, first: int, count: int) -> list[dict[str, Any]]:
        connection = self.connection()
        found = []
        for n in range(count):
            cursor = connection.execute(NAMED, {"id": first + n})
            found.append(dict(zip([one[0] for one in cursor.description], cursor.fetchone(), strict=True)))
        return found


def _by_hand() -> Any:
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    import asyncpg  # type: ignore[import-untyped]  # it has no types
    import orjson
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    database = Sqlite(os.environ["BENCH_SQLITE"])

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with asyncpg.create_pool(os.environ["BENCH_POSTGRES"], min_size=1, max_size=CONNECTIONS) as pool:
            yield {"pool": pool}

    async def on_sqlite(request: Request) -> Response:
        first, count = request.path_params["id"], request.path_params["count"]
        found = await asyncio.get_running_loop().run_in_executor(database.pool, database.read, first, count)
        return Response(orjson.dumps(found), media_type="application/json")

    async def on_postgres(request: Request) -> Response:
        first, count, pool = request.path_params["id"], request.path_params["count"], request.state.pool
        rows = await asyncio.gather(*[pool.fetchrow(NUMBERED, first + n) for n in range(count)])
        return Response(orjson.dumps([dict(row) for row in rows]), media_type="application/json")

    return Starlette(
        routes=[
            Route("/default/{count:int}/{id:int}", on_sqlite),
            Route("/postgres/{count:int}/{id:int}", on_postgres),
        ],
        lifespan=lifespan,
    )
