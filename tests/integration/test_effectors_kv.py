"""The kv effector on real SQLite files, and the same on a real Redis server."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from effector_conformance import Probe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_kit import RedisServer

from zerver.effect import Effect
from zerver.effect_results import interpret
from zerver.effectors.kv import KvEffector
from zerver.effects import kv
from zerver.effects.kv import KvPage
from zerver.error import Error, ErrorKind
from zerver_runtime.outcome import Failure, Success


class Store:
    def __init__(self, url: str) -> None:
        self.now = 1_000_000.0
        self.effector = KvEffector(url, clock=lambda: self.now, busy_timeout=0.05)

    async def raw(self, effect: Effect[Any]) -> Any:
        outcome = await Probe(self.effector, effect).settled()
        assert isinstance(outcome, Success), outcome
        return outcome.value

    async def value(self, effect: Effect[Any]) -> Any:
        outcome = interpret(effect, await self.raw(effect), time.time)
        assert isinstance(outcome, Success), outcome
        return outcome.value


def run(check: Callable[[Store], Awaitable[None]], url: str = "sqlite://") -> None:
    async def main() -> None:
        store = Store(url)
        try:
            await check(store)
        finally:
            await store.effector.close()

    asyncio.run(main())


@pytest.fixture(params=["file", "memory", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param != "redis":
        return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path}/deep/kv.db"
    server: RedisServer = request.getfixturevalue("redis_server")
    server.ask("FLUSHALL")
    return server.url


def test_values_are_raw_bytes_or_none(url: str) -> None:
    async def check(store: Store) -> None:
        assert await store.raw(kv.get("k")) is None
        assert await store.raw(kv.put("k", {"a": 1})) is None
        assert await store.raw(kv.get("k")) == b'{"a":1}'
        assert await store.raw(kv.put("k", b"\0\xff")) is None
        assert await store.raw(kv.get("k")) == b"\0\xff"
        assert await store.raw(kv.delete("k")) is None
        assert await store.raw(kv.delete("k")) is None
        assert await store.raw(kv.get("k")) is None

    run(check, url)


def test_an_empty_value_is_a_value(url: str) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k", b""))
        assert await store.value(kv.get("k", as_=bytes)) == b""

    run(check, url)


def test_values_outlive_the_process(url: str) -> None:
    if url == "sqlite://":
        return

    async def put(store: Store) -> None:
        await store.raw(kv.put("k", 1, idem="once"))

    async def see(store: Store) -> None:
        await store.raw(kv.put("k", 2, idem="once"))
        assert await store.value(kv.get("k")) == 1

    run(put, url)
    run(see, url)


def test_with_a_key_a_write_is_applied_at_most_once(url: str) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1, idem="a"))
        await store.raw(kv.put("k", 2))
        await store.raw(kv.put("k", 3, idem="a"))
        assert await store.value(kv.get("k")) == 2
        await store.raw(kv.delete("k", idem="d"))
        await store.raw(kv.put("k", 4))
        await store.raw(kv.delete("k", idem="d"))
        assert await store.value(kv.get("k")) == 4

    run(check, url)


def test_one_key_of_a_request_may_stand_for_several_writes(url: str) -> None:
    """An app passes on the request's own idempotency key: it must not make its second write a repetition of its
    first.
    """

    async def check(store: Store) -> None:
        await store.raw(kv.put("a", 1, idem="request"))
        await store.raw(kv.put("b", 2, idem="request"))
        await store.raw(kv.delete("a", idem="request"))
        assert await store.value(kv.get("b")) == 2
        assert await store.value(kv.get("a")) is None

    run(check, url)


def test_keys_of_writes_are_forgotten_after_a_day() -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1, idem="a"))
        store.now += 24 * 3600 - 1
        await store.raw(kv.put("k", 2, idem="a"))
        assert await store.value(kv.get("k")) == 1
        store.now += 2
        await store.raw(kv.put("k", 3, idem="a"))
        assert await store.value(kv.get("k")) == 3

    run(check)


def test_forgotten_keys_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "kv.db"

    async def check(store: Store) -> None:
        for number in range(10):
            await store.raw(kv.put("k", 1, idem=str(number)))
        store.now += 2 * 24 * 3600
        await store.raw(kv.put("k", 1, idem="last"))

    run(check, f"sqlite:///{path}")
    connection = sqlite3.connect(path)
    assert connection.execute("select idem from kv_idem").fetchall() == [("last",)]
    connection.close()


def test_a_write_that_fails_does_not_use_up_its_key(tmp_path: Path) -> None:
    path = tmp_path / "kv.db"

    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("create trigger no before insert on kv begin select raise(abort, 'no'); end")
        assert isinstance(await Probe(store.effector, kv.put("k", 2, idem="a")).settled(), Failure)
        other.execute("drop trigger no")
        other.close()
        await store.raw(kv.put("k", 3, idem="a"))
        assert await store.value(kv.get("k")) == 3

    run(check, f"sqlite:///{path}")


def test_a_locked_store_is_unavailable_for_now(tmp_path: Path) -> None:
    path = tmp_path / "kv.db"

    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        for effect in (kv.put("k", 2), kv.put("k", 2, idem="a"), kv.delete("k")):
            outcome = await Probe(store.effector, effect).settled()
            assert isinstance(outcome, Failure)
            assert isinstance(outcome.error, Error)
            assert (outcome.error.kind, outcome.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
        assert await store.value(kv.get("k")) == 1
        other.close()

    run(check, f"sqlite:///{path}")


def test_a_scan_gives_pages_in_order(url: str) -> None:
    async def check(store: Store) -> None:
        for key in ("user:3", "user:1", "user:2", "users", "use", "user", "user:1:x", "user:é"):
            await store.raw(kv.put(key, key))
        page = await store.value(kv.scan("user:", limit=2))
        assert page == KvPage([("user:1", "user:1"), ("user:1:x", "user:1:x")], "user:1:x")
        page = await store.value(kv.scan("user:", limit=2, after=page.cursor))
        assert [key for key, _ in page.items] == ["user:2", "user:3"]
        page = await store.value(kv.scan("user:", limit=2, after=page.cursor))
        assert page == KvPage([("user:é", "user:é")], None)
        assert (await store.value(kv.scan("user:", after="user:é"))) == KvPage([], None)
        assert (await store.value(kv.scan("nothing"))) == KvPage([], None)
        assert (await store.value(kv.scan("user:", after="a"))).items[0][0] == "user:1"
        assert (await store.value(kv.scan("user:", after="z"))) == KvPage([], None)
        assert len((await store.value(kv.scan(""))).items) == 8

    run(check, url)


def test_a_page_that_is_just_full_is_the_last(url: str) -> None:
    async def check(store: Store) -> None:
        for key in "ab":
            await store.raw(kv.put(key, 1))
        assert (await store.value(kv.scan("", limit=2))).cursor is None
        assert (await store.value(kv.scan("", limit=1))).cursor == "a"

    run(check, url)


KEYS = st.text(st.sampled_from("aAé_%*\\'\U0010ffff\ue000 "), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, st.integers(0, 9), max_size=12), KEYS | st.just(""), st.integers(1, 4))
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_pages_together_are_all_keys_with_the_prefix_in_code_point_order(
    request: pytest.FixtureRequest, kind: str, stored: dict[str, int], prefix: str, limit: int
) -> None:
    url = "sqlite://"
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.ask("FLUSHALL")
        url = server.url

    async def check(store: Store) -> None:
        for key, value in stored.items():
            await store.raw(kv.put(key, value))
        found: list[tuple[str, int]] = []
        after = None
        while True:
            page = await store.value(kv.scan(prefix, limit=limit, after=after))
            assert len(page.items) <= limit
            found += page.items
            if page.cursor is None:
                break
            after = page.cursor
        assert found == sorted((key, value) for key, value in stored.items() if key.startswith(prefix))

    run(check, url)
