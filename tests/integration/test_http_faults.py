"""Both drivers of ``http`` against upstreams that do what they should not, at each stage of an answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from effector_conformance import Probe, until
from http_faults import BODY, CUT, FAULTS, LARGEST, OK, POISONED, Fault
from raw_upstream import RawUpstream, Script, Step

from zerver.effect import Effect
from zerver.effectors.http_aiohttp import AiohttpEffector
from zerver.effectors.http_client import LeanHttpEffector
from zerver.effects import http
from zerver.effects.http import HttpResult
from zerver.error import Error, ErrorKind
from zerver_runtime.outcome import Failure, Success

Driver = LeanHttpEffector | AiohttpEffector
DRIVERS: dict[str, Callable[..., Driver]] = {"lean": LeanHttpEffector, "aiohttp": AiohttpEffector}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
GOOD = Success(HttpResult(200, (("content-length", "5"),), BODY))


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def on(loop: str, main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())


@asynccontextmanager
async def upstream_and(driver: str) -> AsyncIterator[tuple[RawUpstream, Driver]]:
    """An upstream and a driver, which is closed at the end: then no connection is left."""
    async with RawUpstream() as upstream:
        effector = DRIVERS[driver](max_body_bytes=LARGEST)
        try:
            yield upstream, effector
        finally:
            await effector.close()
        if driver == "lean":
            assert repr(effector) == "<LeanHttpEffector: 0 in flight, 0 open, 0 idle>"
        await until(lambda: upstream.open == 0, "a connection is left open")


def scripted(upstream: RawUpstream, method: str = "GET", **options: Any) -> Effect[Any]:
    return http.request(method, upstream.url("/script"), **options)


async def good(upstream: RawUpstream, effector: Driver) -> None:
    """What comes next is not touched by what was before."""
    upstream.script, upstream.greeting = [OK], ()
    assert await Probe(effector, scripted(upstream)).settled() == GOOD


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_has_its_outcome_and_touches_no_other_request(driver: str, loop: str, fault: Fault) -> None:
    expected = fault.expected if driver == "lean" or fault.aiohttp is None else fault.aiohttp

    if expected is POISONED:
        pytest.xfail("aiohttp does not look at what comes on an idle connection")

    async def main() -> None:
        async with upstream_and(driver) as (upstream, effector):
            upstream.script = fault.script
            outcome = await Probe(effector, scripted(upstream, fault.method)).settled()
            if expected.body is None:
                assert isinstance(outcome, Failure), outcome
                assert isinstance(outcome.error, Error)
                assert (outcome.error.kind, outcome.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, expected.retryable)
            else:
                assert isinstance(outcome, Success), outcome
                assert isinstance(outcome.value, HttpResult)
                assert outcome.value.body == expected.body
            if not expected.kept:  # also when its end is seen a little later only
                await until(lambda: upstream.open == 0, "the connection was kept")
            await good(upstream, effector)
            if expected.kept:
                assert upstream.connections == 1
            else:  # aiohttp tries some a second time
                assert upstream.connections == 2 or (driver == "aiohttp" and upstream.connections == 3)

    on(loop, main)


@pytest.mark.parametrize("stage", [*CUT, "connecting"])
@pytest.mark.parametrize("closing", [False, True], ids=["cancel", "close"])
def test_a_cancel_or_close_at_any_stage_settles_once_and_leaves_nothing(
    driver: str, loop: str, stage: str, closing: bool
) -> None:
    """After a cancel the next request is answered; after a close, none is begun."""

    async def main() -> None:
        async with upstream_and(driver) as (upstream, effector):
            if stage == "connecting":
                upstream.greeting = [Step.HANG]
            else:
                upstream.script = [CUT[stage], Step.HANG]
            probe = Probe(effector, scripted(upstream))
            await until(lambda: upstream.connections if stage == "connecting" else upstream.requests)
            if stage != "connecting":
                await asyncio.sleep(0.005)  # the part of the answer has come, as a rule
            assert not probe.outcomes
            if closing:
                await effector.close()
            else:
                assert probe.cancel is not None
                probe.cancel()
                probe.cancel()
            await probe.settled()
            await until(lambda: upstream.open == 0, "the connection is left open")
            if closing:
                assert isinstance(await Probe(effector, scripted(upstream)).settled(), Failure)
                assert upstream.connections == 1
            else:
                await good(upstream, effector)
        assert len(probe.outcomes) == 1

    on(loop, main)


@pytest.mark.parametrize("turns", range(8))
def test_a_cancel_in_any_round_of_the_loop_settles_once_and_leaves_nothing(driver: str, loop: str, turns: int) -> None:
    """Also while it resolves, connects, and has just been answered."""

    async def main() -> None:
        async with upstream_and(driver) as (upstream, effector):
            await good(upstream, effector)
            probes = [Probe(effector, scripted(upstream)) for _ in range(3)]  # one of them on the kept connection
            for _ in range(turns):
                await asyncio.sleep(0)
            for probe in probes:
                assert probe.cancel is not None
                probe.cancel()
            for probe in probes:
                await probe.settled()
            await good(upstream, effector)
        assert [len(probe.outcomes) for probe in probes] == [1, 1, 1]

    on(loop, main)


STALE: dict[str, Script] = {"closed": [Step.CLOSE], "reset": [Step.RESET], "half-closed": [Step.HALF_CLOSE]}


@pytest.mark.parametrize("end", STALE)
@pytest.mark.parametrize(
    ("method", "idem", "again"),
    [("GET", None, True), ("POST", None, False), ("POST", "k", True), ("DELETE", None, True)],
)
def test_a_kept_connection_that_ends_before_the_answer_is_replaced_for_what_may_be_sent_twice(
    loop: str, end: str, method: str, idem: str | None, again: bool
) -> None:
    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            await good(upstream, effector)
            upstream.script = STALE[end]
            effect = http.request(method, upstream.url("/script"), idem=idem, body=b"x")
            upstream.then = [OK]
            outcome = await Probe(effector, effect).settled()
            if again:
                assert outcome == GOOD
                assert upstream.requests[1] == upstream.requests[2]
            else:
                assert isinstance(outcome, Failure)
                assert outcome.retryable
            assert upstream.connections == (2 if again else 1)

    on(loop, main)


@pytest.mark.parametrize("part", ["in the status line", "after an interim answer", "in the body"])
def test_it_is_not_when_a_byte_of_the_answer_has_come(loop: str, part: str) -> None:
    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            await good(upstream, effector)
            upstream.script = [CUT[part], Step.CLOSE]
            assert isinstance(await Probe(effector, scripted(upstream)).settled(), Failure)
            assert upstream.connections == 1

    on(loop, main)


def test_a_fresh_connection_that_ends_before_the_answer_is_no_reason_to_try_again(loop: str) -> None:
    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            for script in STALE.values():
                upstream.script = script
                assert isinstance(await Probe(effector, scripted(upstream)).settled(), Failure)
            assert len(upstream.requests) == upstream.connections == len(STALE)

    on(loop, main)


def test_nothing_is_replaced_at_a_close(loop: str) -> None:
    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            await good(upstream, effector)
            upstream.script = [Step.HANG]
            probe = Probe(effector, scripted(upstream))
            await until(lambda: len(upstream.requests) == 2)
            await effector.close()
            assert isinstance(probe.outcomes[0], Failure)
            assert len(probe.outcomes) == upstream.connections == 1

    on(loop, main)


def test_the_replacement_is_not_replaced_again(loop: str) -> None:
    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            await good(upstream, effector)
            upstream.script = [Step.CLOSE]
            assert isinstance(await Probe(effector, scripted(upstream)).settled(), Failure)
            assert len(upstream.requests) == 3

    on(loop, main)


@pytest.mark.parametrize(
    "end", [[Step.CLOSE], [Step.RESET], [Step.HALF_CLOSE], [OK, Step.HANG], [b"\r\n", Step.HANG]], ids=repr
)
def test_a_connection_on_which_anything_comes_while_it_is_idle_is_closed(loop: str, end: Script) -> None:
    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            upstream.script = [OK, Step.PAUSE, *end]
            assert await Probe(effector, scripted(upstream)).settled() == GOOD
            await until(lambda: repr(effector) == "<LeanHttpEffector: 0 in flight, 0 open, 0 idle>", "it was kept")

    on(loop, main)


def test_an_answer_that_comes_before_the_request_has_left_ends_the_connection(loop: str) -> None:
    """As 413 does: what is left of the body would be the next request."""

    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            upstream.reads_bodies = False
            upstream.script = [OK, Step.HANG]
            assert await Probe(effector, scripted(upstream, "POST", body=bytes(20_000_000))).settled() == GOOD
            await until(lambda: upstream.open == 0, "it was kept")
            await good(upstream, effector)

    on(loop, main)


def test_the_counts_of_connections_are_right(loop: str) -> None:
    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            upstream.script = [Step.PAUSE, OK]
            probes = [Probe(effector, scripted(upstream)) for _ in range(5)]
            assert repr(effector) == "<LeanHttpEffector: 5 in flight, 0 open, 0 idle>"
            for probe in probes:
                assert await probe.settled() == GOOD
            assert repr(effector) == "<LeanHttpEffector: 0 in flight, 5 open, 5 idle>"
            await good(upstream, effector)
            assert upstream.connections == 5
        assert repr(effector) == "<LeanHttpEffector: 0 in flight, 0 open, 0 idle>"

    on(loop, main)


def test_a_connection_is_for_one_origin_only(loop: str) -> None:
    """Not even another name of the same address has it."""

    async def main() -> None:
        async with upstream_and("lean") as (upstream, effector):
            await good(upstream, effector)
            by_name = http.get(f"http://localhost:{upstream.port}/script")
            assert await Probe(effector, by_name).settled() == GOOD
            assert upstream.connections == 2

    on(loop, main)


def test_a_name_that_does_not_resolve_is_worth_a_retry(driver: str, loop: str) -> None:
    async def main() -> None:
        async with upstream_and(driver) as (_, effector):
            outcome = await Probe(effector, http.get("http://name.invalid/")).settled()
            assert isinstance(outcome, Failure)
            assert isinstance(outcome.error, Error)
            assert (outcome.error.kind, outcome.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)

    on(loop, main)


def authority(folder: Path) -> Path:
    """A key and a certificate of our own, which a client may be told to trust."""
    made = folder / "authority.pem"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=authority",
            "-keyout", folder / "authority.key", "-out", made, "-days", "1")  # fmt: skip
    return made


def certified(folder: Path, name: str, *validity: str) -> ssl.SSLContext:
    """A server's context, with a certificate for ``name`` that the authority has signed."""
    key, request, made, names = (folder / f"server.{end}" for end in ("key", "csr", "pem", "ext"))
    names.write_text(f"subjectAltName={name}\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=server",
            "-keyout", key, "-out", request)  # fmt: skip
    openssl("x509", "-req", "-in", request, "-CA", folder / "authority.pem", "-CAkey", folder / "authority.key",
            "-CAcreateserial", "-extfile", names, "-out", made, *(validity or ("-days", "1")))  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("name", "validity", "trusted", "good"),
    [
        ("IP:127.0.0.1", (), True, True),
        ("IP:127.0.0.1", (), False, False),
        ("IP:127.0.0.2,DNS:localhost", (), True, False),
        ("IP:127.0.0.1", ("-days", "-1"), True, False),
    ],
    ids=["good", "signed by nobody", "of another host", "expired"],
)
def test_certificates_are_verified(
    driver: str, loop: str, tmp_path: Path, name: str, validity: tuple[str, ...], trusted: bool, good: bool
) -> None:
    signer = authority(tmp_path)
    trust = ssl.create_default_context(cafile=signer) if trusted else None
    context = certified(tmp_path, name, *validity)

    async def main() -> None:
        async with RawUpstream(context) as upstream:
            effector = DRIVERS[driver](tls=trust)
            upstream.script = [OK]
            outcomes = [await Probe(effector, scripted(upstream)).settled() for _ in range(2)]
            if good:
                assert outcomes == [GOOD, GOOD]
                assert upstream.connections == 1
            else:
                for outcome in outcomes:
                    assert isinstance(outcome, Failure)
                    assert isinstance(outcome.error, Error)
                    assert (outcome.error.kind, outcome.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, False)
                    assert "certificate" in outcome.error.what
                assert upstream.requests == []
            await effector.close()
            await until(lambda: upstream.open == 0, "a connection is left open")

    on(loop, main)


@pytest.mark.parametrize(
    "greeting", [[Step.HANG], [b"HTTP/1.1 400 No\r\n\r\n", Step.HANG], [Step.CLOSE], [Step.RESET]], ids=repr
)
def test_a_handshake_that_fails_or_hangs_leaves_nothing(driver: str, loop: str, greeting: Script) -> None:
    async def main() -> None:
        async with upstream_and(driver) as (upstream, effector):
            upstream.greeting = greeting
            probe = Probe(effector, http.get(f"https://127.0.0.1:{upstream.port}/"))
            if greeting == [Step.HANG]:
                await until(lambda: upstream.connections)
                assert probe.cancel is not None
                probe.cancel()
                await probe.settled()
            else:
                outcome = await probe.settled()
                assert isinstance(outcome, Failure)
                assert isinstance(outcome.error, Error)
                assert (outcome.error.kind, outcome.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
            await until(lambda: upstream.open == 0, "the connection is left open")

    on(loop, main)


def test_a_connection_that_nobody_accepts_can_be_cancelled(driver: str, loop: str) -> None:
    async def main() -> None:
        with socket.socket() as listening, socket.socket() as first:
            listening.bind(("127.0.0.1", 0))
            listening.listen(0)
            first.connect(listening.getsockname())  # the one place that it has
            effector = DRIVERS[driver]()
            probes = [Probe(effector, http.get(f"http://127.0.0.1:{listening.getsockname()[1]}/")) for _ in range(4)]
            await asyncio.sleep(0.02)  # nothing tells how far it is; whether it waits to connect is all the same
            assert not any(probe.outcomes for probe in probes)
            for probe in probes[:2]:
                assert probe.cancel is not None
                probe.cancel()
                await probe.settled()
            await effector.close()
            assert [len(probe.outcomes) for probe in probes] == [1, 1, 1, 1]

    on(loop, main)
