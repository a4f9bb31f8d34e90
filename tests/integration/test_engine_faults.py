"""What upstreams do wrong, through the whole engine, under each policy: what the client gets, when, and what the trace
says of it. Over real sockets; the drivers by themselves have ``test_http_faults.py``.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from socket import socket
from typing import Any, Final, NamedTuple, Never

import orjson
import pytest
from asgi_kit import until
from raw_upstream import RawUpstream, Script, Step
from service_kit import Asked, Rig, running

from zerver import App, CtxView, Decision, Done, Effect, Need, Retry, Slot, http, step
from zerver.redaction import Redaction
from zerver.trace.reasons import reasons
from zerver.trace.recording import Recording
from zerver.trace.timeline import timeline
from zerver_runtime.reactor.join import Mode

RESET, CLOSE, HALF_CLOSE, HANG, PAUSE = Step
TIMEOUT: Final = 0.06  # seconds for an attempt at what never comes in time
PATIENT: Final = 3.0  # seconds for one at anything else
DEADLINE: Final = 10.0  # seconds for a request; none of these may come near
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BODY: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


def status(code: int, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} Status", "Content-Length: 2", *fields, "", "{}"]).encode()


class Fault(NamedTuple):
    name: str
    script: Script | None
    """None: nobody listens."""
    status: int
    """What the client of the app gets, where the effect is required."""
    why: str
    """What it and the trace are told."""
    again: bool = True
    """Whether another attempt may help."""
    counts: bool = True
    """Whether the breaker takes it for a failure of the target."""

    @property
    def timeout(self) -> float:
        return TIMEOUT if self.why == LATE else PATIENT


LATE: Final = f"TIMEOUT: http.get into Value: no result within {TIMEOUT:g} s"
BROKE: Final = "UPSTREAM_UNAVAILABLE: http.get into Value: the connection broke"
NO_HTTP: Final = "UPSTREAM_UNAVAILABLE: http.get into Value: the answer is not valid HTTP"
SAID: Final = "UPSTREAM_UNAVAILABLE: http.get into Value: the upstream answered "
NOBODY: Final = "UPSTREAM_UNAVAILABLE: http.get into Value: no connection"
FAULTS: Final = (
    Fault("hangs", [HANG], 504, LATE),
    Fault("is slow", [PAUSE] * 20 + [OK], 504, LATE),
    Fault("drips", [BODY, *([b"x", PAUSE] * 20), HANG], 504, LATE),
    Fault("resets", [RESET], 502, BROKE),
    Fault("resets within the body", [BODY + b"x", RESET], 502, BROKE),
    Fault("half-closes", [BODY + b"x", HALF_CLOSE], 502, BROKE),
    Fault("says a wrong length", [BODY + b"short", CLOSE], 502, BROKE),
    Fault("is no HTTP", [b"\x00\x01 nonsense\r\n\r\n", CLOSE], 502, NO_HTTP),
    Fault("answers 500", [status(500)], 502, SAID + "500", again=False, counts=False),
    Fault("answers 503", [status(503)], 502, SAID + "503"),
    Fault("wants to be left alone", [status(503, "Retry-After: 60")], 502, SAID + "503", again=False),
    Fault("refuses", None, 502, NOBODY),
)


class Value(Slot[str]):
    """What the upstream says."""


class World:
    """A service whose steps ask an upstream with a fault, and one that is well."""

    def __init__(self, rig: Rig, faulty: RawUpstream) -> None:
        self.rig = rig
        self.faulty = faulty

    async def ask(self) -> tuple[int, Any, str]:
        """Status, body, and what ``zerver trace show`` says of it. It is answered well within its deadline."""
        asked = self.rig.get("/")
        return await self.told(asked)

    async def told(self, asked: Asked) -> tuple[int, Any, str]:
        began = time.monotonic()
        answer = await asked.answer()
        assert time.monotonic() - began < DEADLINE / 2
        assert answer is not None
        assert asked.exchange is not None
        asked.close()
        run = asked.exchange.run
        await until(lambda: run.ended_ns, "its trace never ends")
        record = Recording(Redaction(), bodies=True, engine="reactor").record(run, "asked", 0)
        body: Any = answer.body
        return answer.status, orjson.loads(body), "\n".join(reasons(record, timeline(record)))


Ask = Callable[[str, str], Need]


@asynccontextmanager
async def world(
    fault: Fault, engine: str, ask: Ask, deadline: float = DEADLINE, **effects: Any
) -> AsyncIterator[World]:
    """``ask`` gives the Need, of the URLs of the faulty upstream and of the other. When all is over, no connection is
    open."""
    async with RawUpstream() as faulty, RawUpstream() as well:
        with socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            faulty.script, well.script = fault.script or (), [OK]
            url = faulty.url("/script") if fault.script else f"http://127.0.0.1:{nobody.getsockname()[1]}/"
            app = App()

            @step
            def asks(ctx: CtxView[Never, Value]) -> Decision:
                return ask(url, well.url("/script"))

            app.get("/", asks)
            enabled = {"enabled": engine == "reactor"}
            async with running(app, limits={"deadline": deadline}, reactor=enabled, effects=effects) as rig:
                yield World(rig, faulty)
        await until(lambda: faulty.open == 0 and well.open == 0, "a connection is left open")


def show(ctx: CtxView[Value]) -> Decision:
    return Done.json(ctx.optional(Value))


def asking(url: str, fault: Fault, **options: Any) -> Effect[Any]:
    return http.get(url, into=Value, **{"timeout": fault.timeout, **options})


def alone(fault: Fault, **options: Any) -> Ask:
    return lambda faulty, well: Need([asking(faulty, fault, **options)], then=show)


pytestmark = pytest.mark.parametrize("engine_name", ["reactor", "blocking"])
each = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


@each
async def test_without_any_policy_but_the_time_out_it_fails_the_request(fault: Fault, engine_name: str) -> None:
    async with world(fault, engine_name, alone(fault)) as here:
        code, body, why = await here.ask()
        assert (code, len(here.faulty.requests)) == (fault.status, int(fault.script is not None))
        assert f"{body['kind']}: {body['detail']}" == fault.why
        assert f"answered {code} {fault.why}, as step asks requires http.get into Value" in why
        assert re.search(rf"^http.get into Value failed after [0-9.]+ [um]?s: {re.escape(fault.why)}$", why, re.M), why


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.why == LATE], ids=lambda fault: fault.name)
async def test_a_deadline_that_comes_before_the_time_out_is_met(fault: Fault, engine_name: str) -> None:
    async with world(fault, engine_name, alone(fault, timeout=30), deadline=TIMEOUT) as here:
        code, _, why = await here.ask()
        assert code == 504
        assert "deadline" in why


@each
async def test_a_retry_helps_where_it_may_and_the_trace_has_the_failure_before(fault: Fault, engine_name: str) -> None:
    async with world(fault, engine_name, alone(fault, retry=Retry(2, base=0.001))) as here:
        here.faulty.then = [OK]
        code, body, why = await here.ask()
        again = re.search(rf"attempt 1 failed after [^(]* \({re.escape(fault.why)}\); tried again", why)
        assert bool(again) == fault.again, why
        if fault.again and fault.script is not None:
            assert (code, body, len(here.faulty.requests)) == (200, "hello", 2)
        else:
            assert code == fault.status
            assert fault.why in why


@each
async def test_an_open_breaker_leaves_it_alone_and_says_until_when(fault: Fault, engine_name: str) -> None:
    async with world(fault, engine_name, alone(fault), default_breaker={"failures": 2, "cooldown": 60}) as here:
        first, second, third = [await here.ask() for _ in range(3)]
        assert first[0] == second[0] == fault.status
        assert ("went from closed to open" in second[2]) == fault.counts
        if not fault.counts:
            assert third[2].count(fault.why) == 2  # a target that answers is well
            return
        assert third[0] == 502
        assert "was not tried: UPSTREAM_UNAVAILABLE: http.get into Value: left alone for now" in third[2]
        assert len(here.faulty.requests) == 2 * (fault.script is not None)
        answer = here.rig.asked[-1].answers[0]
        assert answer is not None
        assert ("retry-after", "60") in answer.headers


@each
async def test_a_full_bulkhead_refuses_at_once_and_has_room_again_later(fault: Fault, engine_name: str) -> None:
    if engine_name == "blocking" and fault.script is None:
        return  # it is over before another thread can come
    one = {"in_flight": 1, "per_request": 1, "queue": 0}
    # Each answer takes a while, so that the other request comes meanwhile.
    fault = fault._replace(script=fault.script and [PAUSE, PAUSE, PAUSE, PAUSE, *fault.script])
    async with world(fault, engine_name, alone(fault), default_bulkhead=one) as here:
        first = here.rig.get("/")
        if engine_name == "blocking":  # else it is under way already
            await until(lambda: here.rig.dispatcher.in_flight)
        code, body, why = await here.ask()
        assert (code, body["kind"]) == (503, "OVERLOADED")
        assert "was not tried: OVERLOADED: http.get into Value: too many are under way" in why
        assert (await here.told(first))[0] == fault.status
        await until(lambda: not here.rig.dispatcher.in_flight)
        assert (await here.ask())[0] == fault.status


@each
async def test_an_optional_effect_fails_no_request_and_the_trace_says_that_it_did(
    fault: Fault, engine_name: str
) -> None:
    async with world(fault, engine_name, alone(fault, required=False)) as here:
        code, body, why = await here.ask()
        assert (code, body) == (200, None)
        assert re.search(rf"^http.get into Value \(optional\) failed after .*: {re.escape(fault.why)}$", why, re.M), why


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
@pytest.mark.parametrize("first", [True, False], ids=["faulty first", "faulty last"])
@each
async def test_of_two_targets_the_one_that_is_well_answers(
    fault: Fault, engine_name: str, mode: Mode, first: bool
) -> None:
    def both(faulty: str, well: str) -> Need:
        effects = [asking(faulty, fault), asking(well, fault, timeout=PATIENT)]
        return Need(effects if first else effects[::-1], then=show, join="first_success", mode=mode)

    async with world(fault, engine_name, both) as here:
        code, body, why = await here.ask()
        assert (code, body) == (200, "hello")
        if first and (mode == "sequential" or engine_name == "blocking"):
            assert f": {fault.why}" in why
        elif mode == "sequential" or engine_name == "blocking":
            assert not here.faulty.requests
        else:  # in parallel, whichever was first
            assert fault.why in why or "was dropped by the join (first_success)" in why
