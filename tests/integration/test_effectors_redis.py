"""What is Redis's alone, on a real server: commands sent together, connections, and a server that goes away."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from effector_conformance import Probe, until
from redis_kit import RedisServer

from zerver.config import ConfigError
from zerver.effect import Effect
from zerver.effectors.kv import KvEffector
from zerver.effects import kv
from zerver.error import Error, ErrorKind
from zerver_runtime.outcome import Failure, Success

Check = Callable[["Store"], Awaitable[None]]


class Store:
    def __init__(self, url: str) -> None:
        self.effector = KvEffector(url)

    async def raw(self, effect: Effect[Any]) -> Any:
        outcome = await Probe(self.effector, effect).settled()
        assert isinstance(outcome, Success), outcome
        return outcome.value

    async def failure(self, effect: Effect[Any]) -> tuple[ErrorKind, bool]:
        outcome = await Probe(self.effector, effect).settled()
        assert isinstance(outcome, Failure), outcome
        assert isinstance(outcome.error, Error)
        return outcome.error.kind, outcome.retryable


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    redis_server.ask("FLUSHALL")
    return redis_server


def run(check: Check, url: str) -> None:
    async def main() -> None:
        store = Store(url)
        try:
            await check(store)
        finally:
            await store.effector.close()

    asyncio.run(main(), debug=True)


def statistic(server: RedisServer, name: str) -> int:
    return int(server.ask("INFO")[name])


def test_what_starts_in_one_turn_goes_out_together(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k0", 0))
        reads = statistic(server, "total_reads_processed")
        probes = [Probe(store.effector, kv.put(f"k{n}", n)) for n in range(50)]
        probes += [Probe(store.effector, kv.get(f"k{n}")) for n in range(50)]
        outcomes = [await probe.settled() for probe in probes]
        assert outcomes[50:] == [Success(str(n).encode()) for n in range(50)]
        assert statistic(server, "total_reads_processed") - reads < 10
        assert server.ask("CLIENT", "LIST").count(b"\n") < 7

    run(check, server.url)


def test_more_than_goes_out_in_one_piece_goes_out_in_several(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        probes = [Probe(store.effector, kv.put(f"k{n}", "x" * 2000)) for n in range(1500)]
        for probe in probes:
            assert isinstance(await probe.settled(), Success)
        assert server.ask("ZCARD", "zerver:kv:keys") == 1500

    run(check, server.url)


def test_cancelled_or_not_each_has_its_own_reply(server: RedisServer) -> None:
    chance = random.Random(7)

    async def check(store: Store) -> None:
        for n in range(20):
            await store.raw(kv.put(f"k{n}", n))
        for _ in range(150):
            probes = []
            for _ in range(chance.randrange(1, 6)):
                number = chance.randrange(20)
                probes.append((number, Probe(store.effector, kv.get(f"k{number}"))))
                await asyncio.sleep(0)
            for _, probe in probes:
                if chance.random() < 0.6:
                    assert probe.cancel is not None
                    probe.cancel()
                    await asyncio.sleep(0)
            for number, probe in probes:
                outcome = await probe.settled()
                assert isinstance(outcome, Failure) or outcome == Success(str(number).encode())
                assert len(probe.outcomes) == 1

    run(check, server.url)


def test_idem_keys_live_for_a_day(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1, idem="é"))
        (key,) = server.ask("KEYS", "zerver:kv:idem:*")
        assert 24 * 3600 - 5 < server.ask("TTL", key) <= 24 * 3600
        server.ask("DEL", key)  # as if the day were over
        await store.raw(kv.put("k", 2, idem="é"))
        assert await store.raw(kv.get("k")) == b"2"

    run(check, server.url)


def test_idem_and_key_are_told_apart(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("b:c", 1, idem="a"))
        await store.raw(kv.put("c", 2, idem="a:b"))
        assert await store.raw(kv.get("c")) == b"2"

    run(check, server.url)


def test_a_server_that_has_forgotten_the_scripts_is_told_again(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1))
        server.ask("SCRIPT", "FLUSH")
        await store.raw(kv.put("k", 2, idem="a"))
        await store.raw(kv.delete("other"))
        assert await store.raw(kv.get("k")) == b"2"

    run(check, server.url)


def test_a_server_without_memory_is_unavailable_for_now_and_uses_up_no_idem_key(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1))
        server.ask("CONFIG", "SET", "maxmemory", "1")
        try:
            assert await store.failure(kv.put("k", 2, idem="a")) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
            assert await store.raw(kv.get("k")) == b"1"
        finally:
            server.ask("CONFIG", "SET", "maxmemory", "0")
        await store.raw(kv.put("k", 2, idem="a"))
        assert await store.raw(kv.get("k")) == b"2"

    run(check, server.url)


def test_a_key_that_something_else_has_made_is_a_bug(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    server.ask("RPUSH", "zerver:kv:value:k", "1")

    async def check(store: Store) -> None:
        assert await store.failure(kv.get("k")) == (ErrorKind.INTERNAL, False)
        assert await store.raw(kv.get("other")) is None

    run(check, server.url)
    assert "WRONGTYPE" in caplog.text


def test_a_wrong_password_is_a_bug_that_the_log_names(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def check(store: Store) -> None:
        assert await store.failure(kv.get("k")) == (ErrorKind.INTERNAL, False)

    run(check, server.url.replace("://", "://me:wrong@"))
    assert "AuthenticationError" in caplog.text
    assert "wrong@" not in caplog.text


def test_databases_are_apart(server: RedisServer) -> None:
    async def put(store: Store) -> None:
        await store.raw(kv.put("k", 1))

    async def see(store: Store) -> None:
        assert await store.raw(kv.get("k")) is None

    run(put, server.url)
    run(see, server.url.removesuffix("0") + "3")


def test_a_handshake_that_nobody_waits_for_any_more_is_for_the_next(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        for turn in range(200):
            probe = Probe(store.effector, kv.get("k"))
            await asyncio.sleep(0.0003)
            if probe.outcomes:
                assert probe.outcomes == [Success(None)]
                assert turn > 0
                return
            assert probe.cancel is not None
            probe.cancel()
            await probe.settled()
        pytest.fail("no attempt ever had a connection")

    run(check, server.url)


def test_a_connection_that_the_server_ends_is_replaced(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1))
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        outcomes = [await Probe(store.effector, kv.get("k")).settled() for _ in range(2)]
        assert outcomes[-1] == Success(b"1")

    run(check, server.url)


def test_a_server_that_is_killed_is_unavailable_until_it_is_back(server: RedisServer) -> None:
    async def check(store: Store) -> None:
        await store.raw(kv.put("k", 1))
        server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        in_flight = [Probe(store.effector, kv.put("k", n)) for n in range(3)]
        await until(lambda: b"cmd=evalsha" in server.ask("CLIENT", "LIST"))
        await asyncio.to_thread(server.kill)
        for probe in in_flight:
            outcome = await probe.settled()
            assert isinstance(outcome, Failure)
            assert outcome.retryable
        began = time.monotonic()
        for _ in range(10):
            assert await store.failure(kv.get("k")) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
        assert time.monotonic() - began < 2
        await asyncio.to_thread(server.start)
        await store.raw(kv.put("k", 2))
        assert await store.raw(kv.get("k")) == b"2"

    try:
        run(check, server.url)
    finally:
        server.start()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)
    with pytest.raises(ConfigError, match=r"effects.kv .* pip install 'zerver\[redis\]'"):
        KvEffector("redis://localhost")
