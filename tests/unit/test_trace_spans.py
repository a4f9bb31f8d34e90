"""Spans of a kept trace: their tree, their times, and what they tell, by OpenTelemetry's conventions."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreter_driver import failed, ok
from join_contract import Case, cases, forms, steps_of
from reactor_kit import Asked, Reactor

from zerver import CtxView, Decision, Done, Effect, ErrorKind, Need, Retry
from zerver.config import Config, load
from zerver.effects.http import HttpResult
from zerver.error import Error
from zerver.redaction import Redaction
from zerver.trace.events import EventKind
from zerver.trace.record import (
    ComputeNote,
    EffectNote,
    ErrorNote,
    EventNote,
    NeedNote,
    OutcomeNote,
    RequestNote,
    ResultNote,
    TraceRecord,
)
from zerver.trace.recording import Recording
from zerver.trace.span_attributes import SpanSettings, effect_attributes, effect_name, request_attributes, span_settings
from zerver.trace.spans import SpanData, spans
from zerver.trace.trace_context import attempt_span_id, own_context
from zerver_runtime.outcome import Failure
from zerver_runtime.reactor.join import Join, Mode

MS = 1_000_000
ALL = [
    case
    for join in get_args(Join)
    for mode in get_args(Mode)
    for size in range(3)
    for case in cases(size, join, mode)
]  # fmt: skip
AWAY = Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, "no connection"), retryable=True)


def record_of(request: Asked) -> TraceRecord:
    request.exchange.close()
    return Recording(Redaction(), bodies=True, engine="reactor").record(request.exchange.run, "asked", 0)


def hold_together(record: TraceRecord, found: list[SpanData]) -> None:
    """What holds for all spans of any trace."""
    root = found[0]
    assert (root.kind, root.start_ns, root.end_ns) == (
        "server", record.started_ns, record.started_ns + record.took_ns,
    )  # fmt: skip
    assert len({one.span_id for one in found}) == len(found)
    assert len({one.context.trace_id for one in found}) == 1
    seen: dict[str, SpanData] = {}
    for one in found:
        if one is not root:
            parent = seen[one.parent_id]  # before its children
            above = {"client": ("step",), "internal": ("server", "client")}[one.kind]
            assert (parent.kind if parent.kind != "internal" else "step") in above
        assert one.end_ns >= one.start_ns >= root.start_ns
        assert all(one.start_ns <= event.at_ns <= one.end_ns for event in one.events)
        assert one.failed == ("error.type" in one.attributes)
        seen[one.span_id] = one


def ends(ctx: CtxView) -> Decision:
    return Done.text("ended")


@given(st.sampled_from(ALL), st.data())
def test_whatever_a_need_comes_to_its_spans_are_a_tree(case: Case, data: st.DataObject) -> None:
    reactor = Reactor()
    request = reactor.begin(*steps_of(case, data.draw(st.sampled_from(forms(len(case.required)))), []))
    pauses = st.integers(0, 3).map(lambda number: number * 0.01)
    for index in case.order:
        if index in reactor.attempts:
            reactor.loop_clock.advance(data.draw(pauses))
            reactor.settle(index, ok(index) if case.successes[index] else failed(str(index)))
            reactor.loop_clock.advance(data.draw(pauses))
            reactor.turn()
    record = record_of(request)
    found = spans(record)
    hold_together(record, found)
    assert spans(record) == found, "the same each time"


def effect(name: str, **options: Any) -> Effect[Any]:
    return Effect(family="test", op=name, target="test:" + name, args=name, **{"idempotent": True, **options})


def asks(reactor: Reactor, *effects: Effect[Any], **options: Any) -> Asked:
    def asking(ctx: CtxView) -> Decision:
        return Need(effects, then=ends, **options)

    return reactor.begin(asking)


def wait(reactor: Reactor, seconds: float) -> None:
    reactor.loop_clock.advance(seconds)
    reactor.turn()


def settle(reactor: Reactor, name: Any, outcome: Any) -> None:
    reactor.settle(name, outcome)
    reactor.turn()


def found_in(request: Asked) -> list[SpanData]:
    record = record_of(request)
    found = spans(record)
    hold_together(record, found)
    return found


def shown(found: list[SpanData]) -> list[tuple[str, str, str, int, int]]:
    names = {one.span_id: one.name for one in found}
    start = found[0].start_ns
    return [
        (names.get(one.parent_id, ""), one.name, one.kind, (one.start_ns - start) // MS, (one.end_ns - start) // MS)
        for one in found
    ]


def test_each_attempt_is_a_span_below_the_step_that_waits_for_it() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("flaky", retry=Retry(attempts=2, base=0.2)))
    wait(reactor, 0.5)
    settle(reactor, "flaky", AWAY)
    wait(reactor, 0.15)
    wait(reactor, 0.05)
    settle(reactor, "flaky", ok())
    found = found_in(request)
    assert shown(found) == [
        ("", found[0].name, "server", 0, 700), (found[0].name, "asking", "internal", 0, 700),
        ("asking", "test.flaky", "client", 0, 500), ("asking", "test.flaky", "client", 600, 700),
        (found[0].name, "ends", "internal", 700, 700),
    ]  # fmt: skip
    first, second = found[2:4]
    assert (first.failed, first.description, second.failed) == (True, "no connection", False)
    assert first.attributes["error.type"] == "UPSTREAM_UNAVAILABLE"
    assert [(one.name, one.attributes) for one in first.events] == [("retry", {"zerver.retry.wait": 0.1})]
    id = request.exchange.run.request.id
    assert [first.span_id, second.span_id] == [attempt_span_id(id, 1, 0, 1), attempt_span_id(id, 1, 0, 2)], (
        "what upstreams were told"
    )
    assert found[0].context == own_context(id, sampled=True)
    assert found[0].parent_id == ""


def test_a_wait_for_a_place_is_a_job_where_it_is_long() -> None:
    for seconds, jobs in ((0.004, 0), (0.25, 1)):
        reactor = Reactor()
        for number in range(65):
            busy = Effect(family="test", op="busy", target="test:busy", args=number, idempotent=True, timeout=5.0)
            last = asks(reactor, busy)
        wait(reactor, seconds)
        settle(reactor, 0, ok())
        wait(reactor, 0.1)
        settle(reactor, 64, ok())
        waits = [one for one in shown(found_in(last)) if one[1].startswith("wait: ")]
        assert waits == [("test.busy", "wait: place", "internal", 0, 250)][:jobs]


def test_what_came_to_no_attempt_is_told_and_what_never_began_is_not() -> None:
    reactor = Reactor()
    for _ in range(5):
        request = asks(reactor, effect("down"))
        settle(reactor, "down", AWAY)
    assert found_in(request)[2].attributes["zerver.breaker"] == "open"
    refused = found_in(asks(reactor, effect("down")))[2]
    assert (refused.name, refused.failed, "zerver.effect.attempt" in refused.attributes) == ("test.down", True, False)
    request = asks(reactor, effect("one"), effect("two"), mode="sequential", join="first_success")
    settle(reactor, "one", ok())
    assert [one.name for one in found_in(request) if one.kind == "client"] == ["test.one"]


def test_what_the_join_dropped_is_no_error() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("needed"), effect("extra", required=False), join="all_required")
    settle(reactor, "needed", ok())
    extra = found_in(request)[3]
    assert (extra.attributes["zerver.effect.end"], extra.failed) == ("cancelled", False)
    assert extra.attributes["zerver.effect.required"] is False


def record(**fields: Any) -> TraceRecord:
    note = RequestNote("GET", "/todos/7", b"token=[redacted]&x=1", ((b"host", b"shop.example:8080"),))
    defaults = {"id": "r1", "route": "GET /todos/{id:int}", "why": "sampled", "started_ns": 10**18, "took_ns": 5 * MS}
    return TraceRecord(**{**defaults, "status": 200, "request": note, **fields})


@pytest.mark.parametrize(
    ("status", "why", "failed", "kind"),
    [
        (200, "sampled", False, None), (404, "asked", False, None), (499, "slow", False, None),
        (500, "error", True, "500"), (503, "error", True, "503"), (400, "error", False, None),
        (None, "slow", False, None),
    ],
)  # fmt: skip
def test_a_request_is_an_error_only_where_the_server_is_to_blame(
    status: int | None, why: Any, failed: bool, kind: str | None
) -> None:
    root = spans(record(status=status, why=why))[0]
    assert (root.failed, root.attributes.get("error.type")) == (failed, kind)
    assert root.attributes.get("http.response.status_code") == status


@given(st.binary(max_size=12) | st.sampled_from([b"[a", b"[::1", b"a:b:c", b"//", b"[v1.x]:9"]))
def test_a_host_that_is_none_costs_no_trace(host: bytes) -> None:
    root = spans(record(request=RequestNote("GET", "/", b"", ((b"host", host),))))[0]
    assert root.attributes["url.path"] == "/"


def test_a_request_tells_what_the_conventions_ask_for() -> None:
    headers = (
        (b"host", b"shop.example:8080"), (b"user-agent", b"curl"), (b"x-forwarded-proto", b"HTTPS"),
        (b"traceparent", b"[redacted]"), (b"tracestate", b"a=1"),
    )  # fmt: skip
    note = RequestNote("GET", "/todos/7", b"x=1&token=[redacted]", headers)
    trace, caller = "1" * 32, "2" * 16
    one = record(request=note, client="192.0.2.7", parent=f"00-{trace}-{caller}-00", engine="reactor", scheduler=1)
    root = spans(one)[0]
    assert root.name == "GET /todos/{id:int}"
    assert root.attributes == {
        "http.request.method": "GET", "url.path": "/todos/7", "url.scheme": "http", "http.route": "/todos/{id:int}",
        "url.query": "x=1&token=[redacted]", "server.address": "shop.example", "server.port": 8080,
        "client.address": "192.0.2.7", "user_agent.original": "curl", "http.response.status_code": 200,
        "zerver.request_id": "r1", "zerver.kept": "sampled", "zerver.engine": "reactor", "zerver.scheduler": 1,
    }  # fmt: skip
    assert (root.context.trace_id, root.parent_id, root.context.flags, root.context.state) == (trace, caller, 0, "a=1")
    assert request_attributes(one, SpanSettings(proxied=True))["url.scheme"] == "https"
    odd = record(request=RequestNote("BREW", "/", b"", ((b"host", b"a:b:c"),)), route="", parent="00-nonsense")
    root = spans(odd)[0]
    assert (root.name, root.parent_id) == ("HTTP", "")
    assert root.attributes["http.request.method"] == "_OTHER"
    assert root.attributes["http.request.method_original"] == "BREW"
    assert "server.address" not in root.attributes


SETTINGS = span_settings(
    load({"effects": {"databases": {"pg": "postgresql://u:secret@db.example:5433/shop"}, "cache": "redis://:pw@r/2"}})
)


def test_nothing_secret_of_the_configuration_is_in_what_spans_tell() -> None:
    assert "secret" not in repr(SETTINGS)
    assert "pw" not in repr(SETTINGS)
    assert span_settings(Config()).stores == {
        "sql:default": {"db.system.name": "sqlite", "db.namespace": "zerver.db"},
        "kv": {"db.system.name": "sqlite", "db.namespace": "kv.db"},
    }


@pytest.mark.parametrize(
    ("note", "name", "told"),
    [
        (
            EffectNote("http.get into X", "http", "get", "http:api.example:8443", "GET https://api.example:8443/a?b=c"),
            "GET",
            {
                "http.request.method": "GET", "url.full": "https://api.example:8443/a?b=c",
                "server.address": "api.example", "server.port": 8443, "http.request.resend_count": 1,
            },
        ),
        (
            EffectNote("http.request", "http", "request", "http:[::1]:80", "PURGE http://[::1]/"),
            "HTTP",
            {
                "http.request.method": "_OTHER", "http.request.method_original": "PURGE", "server.address": "::1",
                "server.port": 80, "url.full": "http://[::1]/", "http.request.resend_count": 1,
            },
        ),
        (
            EffectNote("sql.query", "sql", "query", "sql:pg", "select 'x' from t where id = :id"),
            "SELECT shop",
            {
                "db.system.name": "postgresql", "db.namespace": "shop", "server.address": "db.example",
                "server.port": 5433, "db.operation.name": "SELECT", "db.query.text": "select ? from t where id = :id",
            },
        ),
        (
            EffectNote("sql.transaction", "sql", "transaction", "sql:default", "insert into a values (1); update b"),
            "BATCH zerver.db",
            {
                "db.system.name": "sqlite", "db.namespace": "zerver.db", "db.operation.name": "BATCH",
                "db.query.text": "insert into a values (?); update b",
            },
        ),
        (
            EffectNote("kv.put", "kv", "put", "kv", "some key"), "put kv.db",
            {"db.system.name": "sqlite", "db.namespace": "kv.db", "db.operation.name": "put"},
        ),
        (
            EffectNote("cache.set", "cache", "set", "cache", "some key"), "SET 2",
            {"db.system.name": "redis", "db.namespace": "2", "db.operation.name": "SET", "server.address": "r"},
        ),
        (EffectNote("timer.sleep", "timer", "sleep", "timer"), "timer.sleep", {}),
    ],
)  # fmt: skip
def test_effects_tell_what_the_conventions_ask_for(note: EffectNote, name: str, told: dict[str, Any]) -> None:
    assert effect_name(note, SETTINGS) == name
    own = {"zerver.effect": note.label, "zerver.effect.target": note.target, "zerver.effect.attempt": 2}
    assert effect_attributes(note, 2, SETTINGS) == {**own, **told}


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (
            "select * from t2 where a1 = $1 and b = ?2 and c = :p3",
            "select * from t2 where a1 = $1 and b = ?2 and c = :p3",
        ),
        ("values (1, -2.5, 1e9, 0x1F, 'it''s', '')", "values (?, -?, ?, ?, ?, ?)"),
        ("select 'cut off in the midd…", "select ?"),
        ("select $$secret$$, $a$it's$a$, 'x'", "select ?, ?, ?"),
        ("select a -- secret 1\nfrom t /* secret 'x */ where b", "select a \nfrom t  where b"),
        ('select "col 1"."x" limit 10', 'select "col ?"."x" limit ?'),
        (r"select E'it\'s secret', e'\\', 'like\', b", "select ?, ?, ?, b"),
        (r"select a where b like'\' and c = 'secret'", "select a where b like? and c = ?"),
        (r"select E'cut off in \'the midd\\"[:-1] + "…", "select ?"),
        ("select .5, t.a5, 1.5 /* a /* secret */ secret */, b", "select ?, t.a5, ? "),
    ],
)
def test_statements_are_told_without_the_values_in_them(sql: str, text: str) -> None:
    note = EffectNote("sql.query", "sql", "query", "sql:default", sql)
    assert effect_attributes(note, 1, SETTINGS)["db.query.text"] == text


@given(st.text(alphabet="ab1'$-/*\n ?:", max_size=30), st.integers(1000, 9999).map(str))
def test_no_value_is_in_a_statement_whatever_is_around_it(around: str, secret: str) -> None:
    for statement in (f"{around} '{secret}'", f"{around.replace(chr(39), '')} {secret} {around}"):
        note = EffectNote("sql.query", "sql", "query", "sql:default", statement)
        assert secret not in str(effect_attributes(note, 1, SETTINGS)["db.query.text"])


def test_waits_for_the_loop_and_for_a_worker_are_jobs_where_they_are_long() -> None:
    def found(first: int, worker: int, turn: int) -> list[tuple[str, str, str, int, int]]:
        note = NeedNote((EffectNote("compute.run", "compute", "run", "compute:app.f"),))
        ran, joined = first + 1 + worker + 10, first + 1 + worker + 10 + turn
        events = [
            (EventKind.RequestStart, 0, "/", 0, -1, None), (EventKind.StepStart, first, "asks", 0, -1, None),
            (EventKind.StepEnd, first + 1, "asks", 0, -1, "Need"),
            (EventKind.NeedScheduled, first + 1, "asks", 1, -1, note),
            (EventKind.ReactorEffectScheduled, first + 1, "compute.run", 1, 0, None),
            (EventKind.EffectStart, first + 1, "compute.run", 1, 0, 0.0),
            (EventKind.ComputeTaskScheduled, first + 1, "compute.run", 1, 0, 1),
            (EventKind.ComputeTaskStarted, first + 1 + worker, "compute.run", 1, 0, worker / 1000),
            (EventKind.ComputeTaskCompleted, ran, "compute.run", 1, 0, ComputeNote("done", 0.01)),
            (EventKind.ReactorEffectCompleted, ran, "compute.run", 1, 0, OutcomeNote(True)),
            (EventKind.JoinSatisfied, joined, "asks", 1, -1, "resumed"),
            (EventKind.StepStart, joined, "ends", 1, -1, None), (EventKind.StepEnd, joined + 1, "ends", 1, -1, "Done"),
            (EventKind.Done, joined + 1, "ends", 1, -1, None), (EventKind.RequestEnd, joined + 1, "", 1, -1, None),
        ]  # fmt: skip
        notes = tuple([EventNote(kind, at * MS, *rest) for kind, at, *rest in events])  # type: ignore[arg-type]
        one = record(took_ns=(joined + 1) * MS, events=notes)
        hold_together(one, spans(one))
        return [span for span in shown(spans(one)) if span[1].startswith("wait: ")]

    assert found(5, 5, 5) == []
    assert found(6, 7, 8) == [
        ("compute.run", "wait: worker", "internal", 7, 14),
        ("GET /todos/{id:int}", "wait: first step", "internal", 0, 6),
        ("GET /todos/{id:int}", "wait: turn", "internal", 24, 32),
    ]  # fmt: skip


def test_what_an_upstream_answered_is_told() -> None:
    def status_of(error: ErrorNote | None, raw: bytes | None) -> tuple[Any, Any]:
        reactor = Reactor()
        request = asks(reactor, effect("x"))
        settle(reactor, "x", ok() if error is None else AWAY)
        one = record_of(request)
        text = msgspec.msgpack.encode(one).replace(b"\xa4test\xa2op", b"\xa4http\xa2op")
        one = msgspec.msgpack.decode(text, type=TraceRecord)
        one = msgspec.structs.replace(one, results=(ResultNote(1, 0, raw=raw),))
        told = spans(one)[2].attributes
        return told.get("http.response.status_code"), told.get("error.type")

    assert status_of(None, msgspec.msgpack.encode(HttpResult(204, (), b""))) == (204, None)
    assert status_of(None, b"\xc0") == (None, None)
    assert status_of(None, None) == (None, None)
    assert status_of(ErrorNote("UPSTREAM_UNAVAILABLE"), None) == (None, "UPSTREAM_UNAVAILABLE")


def test_all_other_names_are_those_of_the_conventions() -> None:
    known = set()
    for package in ("opentelemetry.semconv.attributes", "opentelemetry.semconv._incubating.attributes"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            names = vars(importlib.import_module(f"{package}.{module.name}"))
            known |= {value for name, value in names.items() if name.isupper() and isinstance(value, str)}
    reactor = Reactor()
    request = asks(reactor, effect("down"))
    settle(reactor, "down", AWAY)
    used = {name for one in found_in(request) for name in one.attributes}
    for note in (
        EffectNote("h", "http", "get", "http:a:1", "PURGE http://a:1/"),
        EffectNote("s", "sql", "q", "sql:pg", "x 1"),
    ):
        used |= set(effect_attributes(note, 2, SETTINGS))
    odd = record(request=RequestNote("BREW", "/", b"q", ((b"host", b"a:1"), (b"user-agent", b"x"))), client="c")
    used |= set(request_attributes(odd, SETTINGS))
    assert {name for name in used if not name.startswith("zerver.")} <= known
    assert len(used & known) > 15
