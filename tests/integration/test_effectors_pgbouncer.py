"""``effects.postgres.prepared`` false: nothing is kept prepared on a connection, so that pgbouncer may give each
transaction another one. Tried with a real pgbouncer where one is installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from effector_conformance import Probe
from postgres_kit import PostgresServer

from zerver.effectors.sql import SqlEffector
from zerver.effects import sql
from zerver.effects.sql import SqlRows
from zerver_runtime.outcome import Failure, Success

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
NAMED = sql.query("select name from pg_prepared_statements where name <> ''")
CONFIG = """
[databases]
postgres = host=127.0.0.1 port={server} dbname=postgres user=zerver
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


@pytest.fixture
def bouncer(postgres: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """The URL of a pgbouncer in its transaction mode, with three connections to the server."""
    if PGBOUNCER is None:
        pytest.skip("NOT TESTED: there is no pgbouncer; install it (Debian: apt-get install pgbouncer)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = postgres.folder / f"bouncer{port}"  # that user may look into
    folder.mkdir()
    (folder / "ini").write_text(CONFIG.format(server=postgres.port, port=port))
    user: list[str] = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([PGBOUNCER, *user, folder / "ini"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until, (tmp_path / "log").read_text()
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.01)
        yield f"postgresql://zerver@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(10)


async def rows(effector: SqlEffector, effect: Any) -> list[tuple[Any, ...]]:
    outcome = await Probe(effector, effect).settled()
    assert isinstance(outcome, Success), outcome
    assert isinstance(outcome.value, SqlRows)
    return list(outcome.value.rows)


async def all_sorts(effector: SqlEffector, n: int) -> None:
    """Statements with and without parameters, of types that are introspected; a transaction; and one that fails."""
    assert await rows(effector, sql.query("select :n::int as n", {"n": n})) == [(n,)]
    assert await rows(effector, sql.query_one("select :n::int * 2", {"n": n})) == [(2 * n,)]
    assert await rows(effector, sql.query("select :v::jsonb", {"v": {"a": [n]}})) == [({"a": [n]},)]
    assert await rows(effector, sql.query("select array[:n::int], (:n::int, 'x')", {"n": n}))
    add = [sql.execute("insert into pooled values (:n)", {"n": n}), sql.query_one("select max(n) from pooled")]
    moved = await Probe(effector, sql.transaction(add)).settled()
    assert isinstance(moved, Success), moved
    assert isinstance(await Probe(effector, sql.query("select nothing")).settled(), Failure)
    undone = sql.transaction([add[0], sql.query_one("select n from pooled where n < 0")])
    assert isinstance(await Probe(effector, undone).settled(), Failure)


def tried(url: str, server: PostgresServer, clients: int, prepared: bool) -> list[tuple[Any, ...]]:
    """Names of statements that are left prepared on the one connection, or on any of them."""
    server.ask("drop table if exists pooled")
    server.ask("create table pooled (n int)")

    async def main() -> list[tuple[Any, ...]]:
        effector = SqlEffector({"default": url}, size=clients, prepared=prepared)
        try:
            for turn in range(3):
                await asyncio.gather(*[all_sorts(effector, turn * clients + n) for n in range(clients)])
            return [one for _ in range(clients) for one in await rows(effector, NAMED)]
        finally:
            await effector.close()

    left = asyncio.run(main())
    assert server.ask("select count(*), count(distinct n) from pooled") == [(3 * clients, 3 * clients)]
    return left


@pytest.mark.parametrize("prepared", [False, True])
def test_no_named_statement_reaches_the_server_unless_they_are_to_be_kept(
    postgres: PostgresServer, prepared: bool
) -> None:
    assert bool(tried(postgres.url, postgres, 1, prepared)) == prepared


def test_behind_pgbouncer_any_transaction_may_have_any_connection(bouncer: str, postgres: PostgresServer) -> None:
    """Twenty connections of ours share three of the server."""
    assert tried(bouncer, postgres, 20, prepared=False) == []


def test_behind_pgbouncer_an_attempt_that_is_cancelled_ends_on_the_server_and_harms_no_other(
    bouncer: str, postgres: PostgresServer
) -> None:
    async def main() -> None:
        effector = SqlEffector({"default": bouncer}, size=5, prepared=False)
        try:
            slow = [Probe(effector, sql.query("select pg_sleep(3600)")) for _ in range(3)]
            sleeping = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
            end = time.monotonic() + 5
            while (await postgres.rows(sleeping)) != [(3,)]:
                assert time.monotonic() < end
            for probe in slow:
                assert probe.cancel is not None
                probe.cancel()
            for probe in slow:
                await probe.settled()
            assert await postgres.rows(sleeping) == [(0,)]
            assert await rows(effector, sql.query("select 1")) == [(1,)]
        finally:
            await effector.close()

    asyncio.run(main())
