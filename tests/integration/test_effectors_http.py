"""The http effector against real sockets, and what the value or failure of its effects is in the end."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvloop
from effector_conformance import Probe, until
from raw_upstream import RawUpstream, Step

from zerver.effect import Effect
from zerver.effect_results import interpret
from zerver.effectors.folder import Folder
from zerver.effectors.http import HttpEffector
from zerver.effectors.http_aiohttp import AiohttpEffector
from zerver.effectors.http_client import LeanHttpEffector
from zerver.effects import http
from zerver.effects.http import HttpResult
from zerver.error import Error, ErrorKind
from zerver_runtime.outcome import Failure, Outcome, Success

Driver = LeanHttpEffector | AiohttpEffector
DRIVERS: dict[str, Callable[..., Driver]] = {"lean": LeanHttpEffector, "aiohttp": AiohttpEffector}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Check = Callable[[RawUpstream, Driver], Awaitable[None]]


class Run(Protocol):
    """Runs a check with an upstream and a driver, and sees that no connection is left."""

    def __call__(self, check: Check, /, **options: Any) -> None: ...


@pytest.fixture(params=[(driver, loop) for driver in DRIVERS for loop in LOOPS], ids="-".join)
def run(request: pytest.FixtureRequest) -> Run:
    driver, loop = request.param

    def run(check: Check, /, **options: Any) -> None:
        async def main() -> None:
            async with RawUpstream() as upstream:
                effector = DRIVERS[driver](**options)
                try:
                    await check(upstream, effector)
                finally:
                    await effector.close()
                await until(lambda: upstream.open == 0, "a connection is left open")

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(main())

    return run


async def outcome(effector: Driver | HttpEffector, effect: Effect[Any]) -> Outcome:
    raw = await Probe(effector, effect).settled()
    return interpret(effect, raw.value, time.time) if isinstance(raw, Success) else raw


async def failure(effector: Driver | HttpEffector, effect: Effect[Any]) -> tuple[Failure, Error]:
    failed = await outcome(effector, effect)
    assert isinstance(failed, Failure), failed
    assert isinstance(failed.error, Error)
    return failed, failed.error


def test_an_answer_comes_raw_with_status_headers_and_body(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        raw = await Probe(effector, http.get(upstream.url("/x"))).settled()
        headers = (("x-name", "a"), ("x-name", "bé"), ("content-length", "8"))
        assert raw == Success(HttpResult(200, headers, b'{"a": 1}'))
        raw = await Probe(effector, http.get(upstream.url("/status/404"))).settled()
        assert isinstance(raw, Success)  # whether that is a failure is decided above

    run(check)


def test_a_request_is_sent_as_it_was_described_and_nothing_is_added_but_the_necessary(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        await outcome(effector, http.get(upstream.url("/a b/%2F?q=1"), params={"x": "é&"}))
        await outcome(effector, http.post(upstream.url("/p"), json={"a": 1}, headers={"X-Mine": "y"}, idem="k-1"))
        await outcome(effector, http.post(upstream.url("/p")))
        await outcome(effector, http.request("PROPFIND", upstream.url("/p"), body="é"))
        await outcome(effector, http.get(upstream.url("/%7Ea/../%2e/b?c=%2B+%20&%61")))
        get, post, empty, other, exact = upstream.requests
        assert exact.line == "GET /%7Ea/../%2e/b?c=%2B+%20&%61 HTTP/1.1"
        assert get.line == "GET /a%20b/%2F?q=1&x=%C3%A9%26 HTTP/1.1"
        assert set(get.headers) == {"host", "accept", "accept-encoding", "user-agent"}
        assert get.headers["user-agent"] == "zerver"
        assert post.body == b'{"a":1}'
        assert (post.headers["content-type"], post.headers["x-mine"]) == ("application/json", "y")
        assert post.headers["idempotency-key"] == "k-1"
        assert (empty.body, empty.headers["content-length"]) == (b"", "0")
        assert "content-type" not in empty.headers
        assert (other.line, other.body) == ("PROPFIND /p HTTP/1.1", "é".encode())

    run(check)


@pytest.mark.parametrize(
    "answer", [b"HTTP/9 nonsense", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n", b""]
)
def test_what_is_logged_of_a_failure_has_no_secret_of_the_request(
    run: Run, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        upstream.script = (answer, Step.CLOSE)
        headers = {"Authorization": "Bearer s455", "Cookie": "a=s455"}
        await failure(effector, http.get(upstream.url("/script?token=s455"), headers=headers))

    caplog.set_level(logging.DEBUG)
    run(check)
    assert [one for one in caplog.messages if one.startswith("http.get (http:")]
    assert "s455" not in caplog.text


def test_an_effects_own_headers_win(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        await outcome(
            effector, http.get(upstream.url("/"), headers={"User-Agent": "mine", "Host": "b", "Accept": "text/x"})
        )
        headers = upstream.requests[0].headers
        assert (headers["user-agent"], headers["host"], headers["accept"]) == ("mine", "b", "text/x")

    run(check)


def test_a_connection_is_kept_for_the_next_request(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        for _ in range(5):
            assert isinstance(await outcome(effector, http.get(upstream.url("/chunked"), as_=str)), Success)
        assert upstream.connections == 1

    run(check)


def test_more_than_a_hundred_may_be_in_flight(run: Run) -> None:
    """The bulkhead says how many; the client has no limit of its own."""

    async def check(upstream: RawUpstream, effector: Driver) -> None:
        probes = [Probe(effector, http.get(upstream.url("/hang"))) for _ in range(130)]
        await until(lambda: len(upstream.requests) == 130)
        assert not any(probe.outcomes for probe in probes)

    run(check)


def test_redirects_are_not_followed_and_cookies_not_kept(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        answer = await outcome(effector, http.get(upstream.url("/redirect")))
        assert isinstance(answer, Success)
        assert isinstance(answer.value, HttpResult)
        assert (answer.value.status, answer.value.header("location")) == (302, "/elsewhere")
        by_name = upstream.url("/").replace("127.0.0.1", "localhost")  # addresses have no cookies
        await outcome(effector, http.get(by_name + "cookie"))
        await outcome(effector, http.get(by_name))
        assert len(upstream.requests) == 3
        assert "cookie" not in upstream.requests[-1].headers

    run(check)


def test_proxies_of_the_environment_are_not_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def check(upstream: RawUpstream, effector: Driver) -> None:
        assert isinstance(await outcome(effector, http.get(upstream.url("/"))), Success)

    run(check)


def test_head_has_no_body_whatever_it_announces(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        for _ in range(2):
            answer = await outcome(effector, http.head(upstream.url("/head")))
            assert isinstance(answer, Success)
            assert isinstance(answer.value, HttpResult)
            assert answer.value.body == b""

    run(check)


@pytest.mark.parametrize(
    "path",
    [
        "/reset", "/reset/body", "/close", "/half", "/short", "/short/chunked", "/garbage", "/bad/chunk", "/bad/gzip",
        "/endless/head",
    ],
)  # fmt: skip
def test_a_broken_connection_or_answer_is_the_upstreams_fault_and_worth_a_retry(run: Run, path: str) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        failed, error = await failure(effector, http.get(upstream.url(path), as_=bytes))
        assert (error.kind, failed.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)
        assert error.what.startswith("http.get: ")
        assert str(upstream.port) not in error.what
        assert isinstance(await outcome(effector, http.get(upstream.url("/"))), Success)  # and it goes on

    run(check)


def test_what_comes_after_the_announced_length_is_not_part_of_the_answer(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        surplus = await outcome(effector, http.get(upstream.url("/long"), as_=bytes))
        assert isinstance(surplus, Failure) or surplus == Success(b"{}")
        assert await outcome(effector, http.get(upstream.url("/"), as_=bytes)) == Success(b'{"a": 1}')

    run(check)


def test_nobody_listening_is_the_upstreams_fault_and_worth_a_retry(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        failed, error = await failure(effector, http.get("http://127.0.0.1:1/"))
        assert (error.kind, failed.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)

    run(check)


def test_a_host_that_cannot_exist_is_not_worth_one(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        failed, error = await failure(effector, http.get("http://a..b/"))
        assert (error.kind, failed.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, False)

    run(check)


@pytest.mark.parametrize("path", ["/endless", "/bomb"])
def test_a_body_that_is_too_large_is_given_up_and_not_tried_again(run: Run, path: str) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        failed, error = await failure(effector, http.get(upstream.url(path)))
        assert (error.kind, failed.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, False)
        assert "larger than 100000 bytes" in error.what

    run(check, max_body_bytes=100_000)


def test_a_body_of_just_the_largest_size_is_taken(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        assert await outcome(effector, http.get(upstream.url("/"), as_=bytes)) == Success(b'{"a": 1}')

    run(check, max_body_bytes=8)


def test_compressed_bodies_are_decompressed(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        answer = await outcome(effector, http.get(upstream.url("/bomb"), as_=bytes))
        assert isinstance(answer, Success)
        assert answer.value == bytes(2_000_000)

    run(check)


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (429, True), (500, False), (503, True)])
def test_a_status_is_judged_with_its_retry_after(run: Run, status: int, retryable: bool) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        failed, error = await failure(effector, http.get(upstream.url(f"/status/{status}")))
        assert error.detail == {"status": status}
        assert (failed.retryable, failed.retry_after) == (retryable, 7.0 if retryable else None)

    run(check)


@pytest.mark.parametrize("path", ["/hang", "/drip", "/endless"])
def test_cancelling_closes_the_connection(run: Run, path: str) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        probe = Probe(effector, http.get(upstream.url(path)))
        await until(lambda: upstream.requests)
        assert probe.cancel is not None
        probe.cancel()
        await probe.settled()
        if path != "/hang":  # that one does not look
            await until(lambda: upstream.open == 0 or path == "/drip")
        assert isinstance(await outcome(effector, http.get(upstream.url("/"))), Success)
        assert upstream.connections == 2

    run(check, max_body_bytes=2**40)


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate that nobody has signed."""
    key, made = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(made),
            "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


def test_a_certificate_that_cannot_be_verified_is_refused_and_one_that_can_is_taken(tmp_path: Path) -> None:
    context = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")

    async def main() -> None:
        async with RawUpstream(context) as upstream:
            careful, trusted = HttpEffector(), HttpEffector(tls=trusting)
            effect = http.get(upstream.url("/"), as_=bytes)
            failed, error = await failure(careful, effect)
            assert (error.kind, failed.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, False)
            assert "certificate" in error.what
            assert upstream.requests == []
            assert await outcome(trusted, effect) == Success(b'{"a": 1}')
            await careful.close()
            await trusted.close()

    asyncio.run(main())


def test_a_server_that_speaks_no_tls_is_the_upstreams_fault(run: Run) -> None:
    async def check(upstream: RawUpstream, effector: Driver) -> None:
        failed, error = await failure(effector, http.get(f"https://127.0.0.1:{upstream.port}/"))
        assert (error.kind, failed.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, True)

    run(check)


def test_aiohttp_is_imported_when_an_effect_needs_it_and_not_before() -> None:
    program = (
        "import asyncio, sys\n"
        "from zerver.effectors.http import HttpEffector\n"
        "from zerver.effects import http\n"
        "async def main():\n"
        "    effector = HttpEffector()\n"
        "    async def failed(effect):\n"
        "        settled = asyncio.get_running_loop().create_future()\n"
        "        effector.start(effect, settled.set_result)\n"
        "        return type(await settled).__name__ == 'Failure'\n"
        "    assert await failed(http.post('http://127.0.0.1:1/', json={}, headers={'X-A': 'b'}))\n"
        "    assert 'aiohttp' not in sys.modules\n"
        "    assert await failed(http.get('http://127.0.0.1:1/', headers={'Accept-Encoding': 'deflate'}))\n"
        "    assert 'aiohttp' in sys.modules\n"
        "    await effector.close()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=20)


NEEDS = {"lean": {}, "aiohttp": {"Accept-Encoding": "deflate"}}  # headers that have it done by this driver


@pytest.mark.parametrize("headers", NEEDS.values(), ids=NEEDS)
def test_redirects_are_followed_as_far_as_was_asked_for(headers: dict[str, str]) -> None:
    async def main() -> None:
        async with RawUpstream() as upstream:
            effector = HttpEffector()
            effect = http.post(upstream.url("/redirect"), json={}, headers=headers, redirects=1, as_=bytes)
            assert await outcome(effector, effect) == Success(b'{"a": 1}')
            assert [one.line for one in upstream.requests] == ["POST /redirect HTTP/1.1", "GET /elsewhere HTTP/1.1"]
            assert upstream.connections == 1
            failed, error = await failure(effector, http.get(upstream.url("/loop"), headers=headers, redirects=3))
            assert (error.kind, failed.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, False)
            assert "too many redirects" in error.what
            assert len(upstream.requests) == 6
            probe = Probe(effector, http.get(upstream.url("/to/hang"), headers=headers, redirects=3))
            await until(lambda: len(upstream.requests) == 8)
            assert probe.cancel is not None
            probe.cancel()
            await probe.settled()
            await effector.close()
            await until(lambda: upstream.open == 0, "a connection is left open")
            assert len(probe.outcomes) == 1

    asyncio.run(main())


@pytest.mark.parametrize("headers", NEEDS.values(), ids=NEEDS)
def test_an_attempt_carries_the_trace_that_it_belongs_to_unless_it_brings_its_own(headers: dict[str, str]) -> None:
    parent = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    trace = f"traceparent: {parent}\r\ntracestate: a=b\r\n"
    given = [trace, "", trace]

    async def main() -> None:
        async with RawUpstream() as upstream:
            effector = HttpEffector(propagate=lambda: given.pop(0))
            await outcome(effector, http.get(upstream.url("/"), headers=headers))
            await outcome(effector, http.get(upstream.url("/"), headers=headers))
            await outcome(effector, http.get(upstream.url("/"), headers={**headers, "Traceparent": "mine"}))
            sent = [(one.headers.get("traceparent"), one.headers.get("tracestate")) for one in upstream.requests]
            assert sent == [(parent, "a=b"), (None, None), ("mine", None)]
            await effector.close()

    asyncio.run(main())


@pytest.mark.parametrize("headers", NEEDS.values(), ids=NEEDS)
def test_the_trace_follows_a_redirect_to_the_same_origin_and_to_no_other(headers: dict[str, str]) -> None:
    parent = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"

    async def main() -> None:
        async with RawUpstream() as upstream, RawUpstream() as other:
            effector = HttpEffector(propagate=lambda: f"traceparent: {parent}\r\n")
            followed = http.get(upstream.url("/redirect"), headers=headers, redirects=1, as_=bytes)
            assert await outcome(effector, followed) == Success(b'{"a": 1}')
            assert [one.headers.get("traceparent") for one in upstream.requests] == [parent] * 2
            location = f"Location: {other.url('/')}".encode()
            upstream.script = (b"HTTP/1.1 302 Found\r\n" + location + b"\r\nContent-Length: 0\r\n\r\n",)
            followed = http.get(upstream.url("/script"), headers=headers, redirects=1, as_=bytes)
            assert await outcome(effector, followed) == Success(b'{"a": 1}')
            assert upstream.requests[-1].headers.get("traceparent") == parent
            assert [one.headers.get("traceparent") for one in other.requests] == [None]
            await effector.close()

    asyncio.run(main())


def test_proxies_of_the_environment_are_used_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with RawUpstream() as proxy:
            for name in ("HTTP_PROXY", "http_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            effector = HttpEffector(proxies=True)
            assert await outcome(effector, http.get("http://name.invalid/x", as_=bytes)) == Success(b'{"a": 1}')
            assert proxy.requests[0].line == "GET http://name.invalid/x HTTP/1.1"
            await effector.close()

    asyncio.run(main())


def saving(folder: Path, most: int = 3_000_000) -> HttpEffector:
    return HttpEffector(files=Folder(str(folder / "files"), most), max_body_bytes=1000)


def test_a_body_is_saved_piece_by_piece_to_a_file_that_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """Whatever the largest body in memory is."""

    async def main() -> None:
        async with RawUpstream() as upstream:
            effector = saving(tmp_path)
            answer = await outcome(effector, http.get(upstream.url("/bomb"), save="a/b.bin"))
            assert isinstance(answer, Success)
            assert isinstance(answer.value, HttpResult)
            assert (answer.value.status, answer.value.body) == (200, b"")
            assert (tmp_path / "files/a/b.bin").read_bytes() == bytes(2_000_000)
            for path in ("/reset/body", "/short", "/bad/chunk", "/bad/gzip", "/endless"):
                failed, error = await failure(effector, http.get(upstream.url(path), save="a/b.bin"))
                assert (error.kind, failed.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, path != "/endless")
            _, error = await failure(effector, http.get(upstream.url("/status/404"), save="a/b.bin"))
            assert error.detail == {"status": 404}
            assert [path.name for path in (tmp_path / "files/a").iterdir()] == ["b.bin"]
            assert (tmp_path / "files/a/b.bin").stat().st_size == 2_000_000
            await effector.close()
            await until(lambda: upstream.open == 0, "a connection is left open")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "kind"),
    [("../x", ErrorKind.FORBIDDEN), ("/x", ErrorKind.FORBIDDEN), ("d", ErrorKind.CONFLICT), ("l", ErrorKind.FORBIDDEN)],
)
def test_a_body_is_saved_to_the_folder_only(tmp_path: Path, path: str, kind: ErrorKind) -> None:
    (tmp_path / "files/d").mkdir(parents=True)
    (tmp_path / "files/l").symlink_to(tmp_path / "outside")

    async def main() -> None:
        async with RawUpstream() as upstream:
            effector = saving(tmp_path)
            failed, error = await failure(effector, http.get(upstream.url("/"), save=path))
            assert (error.kind, failed.retryable) == (kind, False)
            assert not path.startswith((".", "/")) or upstream.requests == []
            assert not (tmp_path / "outside").exists()
            assert not (tmp_path / "x").exists()
            await effector.close()
            await until(lambda: upstream.open == 0, "a connection is left open")

    asyncio.run(main())


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20, None])
def test_a_download_that_is_cancelled_leaves_no_file(tmp_path: Path, turns: int | None) -> None:
    async def main() -> None:
        async with RawUpstream() as upstream:
            effector = saving(tmp_path)
            await outcome(effector, http.get(upstream.url("/bomb"), save="before"))
            probe = Probe(effector, http.get(upstream.url("/drip"), save="x"))
            if turns is None:
                await until(lambda: len(list((tmp_path / "files").iterdir())) == 2, "it never began to write")
            else:
                for _ in range(turns):
                    await asyncio.sleep(0)
            assert probe.cancel is not None
            probe.cancel()
            probe.cancel()
            await probe.settled()
            assert [path.name for path in (tmp_path / "files").iterdir()] == ["before"]
            await effector.close()
            await until(lambda: upstream.open == 0, "a connection is left open")

    asyncio.run(main())
