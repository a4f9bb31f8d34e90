"""CR, LF and NUL at the drivers, on real servers: nothing but what was meant reaches them, and content comes back as it
was. What constructors refuse is in ``tests/unit/effects/test_line_breaks.py``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from effector_conformance import Probe
from postgres_kit import PostgresServer
from raw_upstream import RawUpstream
from redis_kit import RedisServer

from zerver.effect import Effect
from zerver.effectors.cache import CacheEffector
from zerver.effectors.file import FileEffector
from zerver.effectors.folder import Folder
from zerver.effectors.http import HttpEffector
from zerver.effectors.http_aiohttp import AiohttpEffector
from zerver.effectors.http_client import LeanHttpEffector
from zerver.effectors.kv import KvEffector
from zerver.effectors.sql import SqlEffector
from zerver.effects import cache, file, http, kv, sql
from zerver.effects.http import HttpRequest
from zerver.error import DefinitionError, Error, ErrorKind
from zerver_runtime.outcome import Failure, Outcome, Success

EVIL = "a\r\nb\0c\r\n\r\nSET x y\r\n"


def settle(make: Callable[[], Any], *effects: Effect[Any]) -> list[Outcome]:
    """The outcomes of effects, one after another, at a driver that is closed then."""

    async def main() -> list[Outcome]:
        effector = make()
        try:
            return [await Probe(effector, effect).settled() for effect in effects]
        finally:
            await effector.close()

    return asyncio.run(main())


def kind(outcome: Outcome) -> ErrorKind:
    assert isinstance(outcome, Failure), outcome
    assert isinstance(outcome.error, Error)
    assert EVIL not in outcome.error.what
    return outcome.error.kind


@pytest.mark.parametrize("driver", [LeanHttpEffector, AiohttpEffector])
@pytest.mark.parametrize("field", ["method", "path", "header name", "header value"])
@pytest.mark.parametrize("evil", ["\r\nx: y", "\n", "\r", "\0"], ids=repr)
async def test_a_request_that_no_constructor_has_seen_is_not_split(driver: Any, field: str, evil: str) -> None:
    async with RawUpstream() as upstream:
        parts = {one: f"a{evil}b" if one == field else "a" for one in ("method", "path", "header name", "header value")}
        headers = ((parts["header name"], parts["header value"]),)
        args = HttpRequest(parts["method"], upstream.url(f"/{parts['path']}"), headers, None, range(200, 400))
        effector = driver()
        effect: Effect[Any] = Effect(family="http", op="get", target="http:x", args=args)
        try:
            outcome = await Probe(effector, effect).settled()
        except DefinitionError:  # out of start(): a failure as well
            outcome = Failure(Error(ErrorKind.INTERNAL))
        await effector.close()
        assert isinstance(outcome, Failure)
        assert upstream.requests == []


@pytest.mark.parametrize(
    "effect",
    [
        sql.query("select :v::text", {"v": EVIL}),
        sql.query("select :v::varchar", {"v": EVIL}),
        sql.query("select :v::text[]", {"v": ["fine", EVIL]}),
        sql.query("select :v::jsonb", {"v": {"a": EVIL}}),
        sql.query("select :v::jsonb", {"v": [{EVIL: 1}]}),
        sql.transaction([sql.query("select 1"), sql.query("select :v::text", {"v": EVIL})]),
    ],
    ids=["text", "varchar", "array", "json value", "json key", "transaction"],
)
def test_text_with_nul_is_unprocessable_on_postgres_and_its_connection_is_well(
    postgres: PostgresServer, effect: Effect[Any]
) -> None:
    bad, good = settle(lambda: SqlEffector({"default": postgres.url}, size=1), effect, sql.query("select 1"))
    assert kind(bad) is ErrorKind.UNPROCESSABLE
    assert isinstance(good, Success)


def test_content_comes_back_from_postgres_as_it_was(postgres: PostgresServer) -> None:
    line, raw = EVIL.replace("\0", ""), EVIL.encode()
    asked = sql.query("select :line::text, :raw::bytea", {"line": line, "raw": raw})
    (outcome,) = settle(lambda: SqlEffector({"default": postgres.url}), asked)
    assert isinstance(outcome, Success), outcome
    assert outcome.value.rows == [(line, raw)]


def test_content_comes_back_from_sqlite_as_it_was(tmp_path: Path) -> None:
    asked = sql.query("select :line, :raw", {"line": EVIL, "raw": EVIL.encode()})
    (outcome,) = settle(lambda: SqlEffector({"default": f"sqlite:///{tmp_path}/a.db"}), asked)
    assert isinstance(outcome, Success), outcome
    assert outcome.value.rows == [(EVIL, EVIL.encode())]


def test_content_comes_back_from_redis_as_it_was_and_is_no_command(redis_server: RedisServer) -> None:
    redis_server.ask("FLUSHALL")
    value = EVIL.encode()
    _, found = settle(lambda: KvEffector(redis_server.url), kv.put("k", value), kv.get("k"))
    assert isinstance(found, Success)
    assert found.value == value
    _, cached = settle(lambda: CacheEffector(redis_server.url, most=0), cache.set("k", value, ttl=60), cache.get("k"))
    assert isinstance(cached, Success)
    assert cached.value == value
    assert not redis_server.ask("EXISTS", "x")


def test_no_file_has_nul_in_its_path(tmp_path: Path) -> None:
    for outcome in settle(
        lambda: FileEffector(str(tmp_path), max_bytes=1000),
        file.read("a\0b"),
        file.write("a\0b", b""),
        file.write("folder\0/b", b""),
        file.read(EVIL),
    ):
        assert kind(outcome) is ErrorKind.FORBIDDEN
    assert list(tmp_path.iterdir()) == []


async def test_no_download_goes_to_a_path_with_nul(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        effector = HttpEffector(files=Folder(str(tmp_path), 1000))
        for path in ("a\0b", "folder\0/b"):
            assert kind(await Probe(effector, http.get(upstream.url("/"), save=path)).settled()) is ErrorKind.FORBIDDEN
        await effector.close()
    assert os.listdir(tmp_path) == []
