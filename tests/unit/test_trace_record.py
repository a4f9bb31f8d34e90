"""What is recorded of a request: its form, and that no secret is in it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreter_driver import Driver, effect, failed, ok

from zerver import CtxView, Decision, Done, Effect, Need, http, sql
from zerver.effects.http import HttpResult
from zerver.effects.sql import SqlRows
from zerver.redaction import REDACTED, SECRETS, Redaction
from zerver.request import Request
from zerver.signals import StartEffect
from zerver.trace.events import EventKind
from zerver.trace.record import (
    VERSION,
    EventNote,
    GivenNote,
    RecordError,
    RequestNote,
    TraceRecord,
    decode,
    encode,
)
from zerver.trace.recording import Recording
from zerver_runtime.outcome import Outcome, Success

RECORDING = Recording(Redaction(["X-Tenant-Key"]), bodies=True, engine="test", scheduler=3)
EPOCH = 1_700_000_000_000_000_000
FORM = b"application/x-www-form-urlencoded"


def record_of(driver: Driver, recording: Recording = RECORDING) -> TraceRecord:
    """What is kept, as it is read back."""
    return decode(encode(recording.record(driver.run, "asked", EPOCH)))


def with_result(what: Effect[Any], raw: object, outcome: Outcome | None = None) -> TraceRecord:
    """A request that asked for one effect, whose driver gave this."""

    def asks(ctx: CtxView) -> Decision:
        return Need([what])

    def ends(ctx: CtxView) -> Decision:
        return Done.text("ended")

    driver = Driver(asks, ends)
    driver.start()
    start = StartEffect(1, 0, what)
    outcome = Success(raw) if outcome is None else outcome
    for name, detail in (("EffectStart", 0.0), ("ReactorEffectCompleted", outcome)):
        driver.run.tell((name, driver.now_ns / 1e9, start, detail, raw))
    driver.settle(0, outcome)
    driver.close()
    return record_of(driver)


def test_a_record_tells_all_of_the_request() -> None:
    def asks(ctx: CtxView) -> Decision:
        ctx.now(), ctx.random(), ctx.uuid()
        driver.pass_time(0.25)
        return Need([effect(), effect(required=False, op="look")], join="all_required", then=ends)

    def ends(ctx: CtxView) -> Decision:
        return Done.json({"it": "is"}, status=201, headers={"set-cookie": "a=b"})

    request = Request(
        "POST", "/a/b", b"x=1&token=t", ((b"host", b"h"), (b"cookie", b"c"), (b"traceparent", b"00-1-2-01")),
        b'{"a": 1}', "192.0.2.7", "id1",
    )  # fmt: skip
    driver = Driver(asks, request=request)
    driver.start()
    driver.settle(1, failed("no look"))
    driver.settle(0, ok(1))
    driver.close()
    driver.run.route = "POST /a/{x}"
    record = record_of(driver)
    assert (record.id, record.route, record.why, record.status) == ("id1", "POST /a/{x}", "asked", 201)
    assert (record.client, record.engine, record.scheduler) == ("192.0.2.7", "test", 3)
    assert (record.parent, record.version) == ("00-1-2-01", VERSION)
    assert record.started_ns == EPOCH + driver.run.started_ns
    assert record.took_ns == 250_000_000
    assert record.request == RequestNote(
        "POST", "/a/b", b"x=1&token=[redacted]",
        ((b"host", b"h"), (b"cookie", b"[redacted]"), (b"traceparent", b"00-1-2-01")),
        b'{"a": 1}', 8, ("header:cookie", "query:token"),
    )  # fmt: skip
    assert record.response is not None
    assert dict(record.response.headers)["set-cookie"] == REDACTED
    assert (record.response.body, record.response.size) == (b'{"it":"is"}', 11)
    assert record.given == (
        GivenNote("now", "2030-01-01T00:00:01+00:00"), GivenNote("random", 0.002),
        GivenNote("uuid", "00000000-0000-0000-0000-000000000003"),
    )  # fmt: skip
    assert [note.name.rpartition(".")[2] for note in record.steps] == ["asks", "ends"]
    assert all(len(note.digest) == 16 for note in record.steps)
    assert [(event.kind.name, event.at_ns // 1_000_000) for event in record.events] == [
        ("RequestStart", 0), ("StepStart", 0), ("StepEnd", 250), ("NeedScheduled", 250), ("JoinSatisfied", 250),
        ("ContinuationStart", 250), ("StepStart", 250), ("StepEnd", 250), ("Done", 250), ("RequestEnd", 250),
    ]  # fmt: skip
    need: Any = record.events[3].detail
    assert (need.join, need.mode, [one.required for one in need.effects]) == ("all_required", "parallel", [True, False])
    assert need.then.rpartition(".")[2] == "ends"


def test_results_are_what_drivers_gave() -> None:
    rows = SqlRows(("id", "title"), [(1, "a")], 0, None)
    (result,) = with_result(sql.query("select id, title from t"), rows).results
    assert msgspec.msgpack.decode(result.raw or b"", type=SqlRows) == rows
    assert result.missing == ""


def test_a_failed_effect_has_its_error_and_no_result() -> None:
    (result,) = with_result(effect(), None, failed("it is away")).results
    assert result.error is not None
    assert (result.error.kind, result.error.what, result.raw) == ("UPSTREAM_UNAVAILABLE", "it is away", None)


def test_what_cannot_be_recorded_says_why() -> None:
    (result,) = with_result(effect(), object()).results
    assert (result.raw, result.missing) == (None, "a object cannot be encoded")
    (result,) = with_result(effect(), b"x" * 70_000).results
    assert result.raw is None
    assert result.missing.startswith("it has 70")
    (result,) = with_result(sql.query("select 1"), SqlRows(("password",), [("p",)])).results
    assert (result.raw, result.missing) == (None, "a column of it is secret")
    answer = HttpResult(200, (("content-type", "text/plain"),), b"password: x")
    (result,) = with_result(http.get("http://a/"), answer).results
    assert (result.raw, result.missing) == (None, "its body may hold secrets")


def test_secrets_in_answers_of_upstreams_are_redacted() -> None:
    answer = HttpResult(200, (("set-cookie", "s=1"), ("content-type", "application/json")), b'{"token": "t", "a": 1}')
    (result,) = with_result(http.get("http://a/x?api_key=k&b=1"), answer).results
    kept = msgspec.msgpack.decode(result.raw or b"", type=HttpResult)
    assert kept.header("set-cookie") == REDACTED
    assert json.loads(kept.body) == {"token": REDACTED, "a": 1}


def test_an_effect_is_told_without_its_arguments() -> None:
    record = with_result(http.post("http://a/x?api_key=k&b=1", json={"secret": 1}), HttpResult(200, (), b""))
    need: Any = next(event.detail for event in record.events if event.kind is EventKind.NeedScheduled)
    (note,) = need.effects
    assert note.what == "POST http://a/x?api_key=[redacted]&b=1"
    again = with_result(http.post("http://a/x?api_key=k&b=1", json={"secret": 2}), HttpResult(200, (), b""))
    other: Any = next(event.detail for event in again.events if event.kind is EventKind.NeedScheduled)
    assert note.digest
    assert note.digest != other.effects[0].digest


def test_without_bodies_none_is_kept() -> None:
    def ends(ctx: CtxView) -> Decision:
        return Done.text("yes")

    driver = Driver(ends, request=Request("POST", "/", body=b"x", id="r"))
    driver.answer()
    record = record_of(driver, Recording(Redaction(), bodies=False, engine="test"))
    assert (record.request.body, record.request.size) == (None, 1)
    assert record.response is not None
    assert (record.response.body, record.response.size) == (None, 3)


def test_results_are_kept_in_bounds_however_many_there_are() -> None:
    def asks(ctx: CtxView) -> Decision:
        return Need([effect(op=str(n)) for n in range(100)], then=ends)

    def ends(ctx: CtxView) -> Decision:
        return Done.text("ended")

    driver = Driver(asks)
    driver.start()
    for index, (_, what) in enumerate(list(driver.in_flight.items())):
        raw = "x" * 60_000
        driver.run.tell(("ReactorEffectCompleted", 0.0, StartEffect(1, index, what), Success(raw), raw))
        driver.settle(index, Success(raw))
    driver.close()
    kept = record_of(driver)
    assert len(kept.results) == 100
    assert 4 * 1024**2 <= len(encode(kept)) < 4.2 * 1024**2
    assert kept.results[0].raw is not None
    assert kept.results[-1].missing == "what came before it has 4194304 bytes, and more is not kept"


def test_a_request_of_any_number_of_events_is_cut() -> None:
    def again(ctx: CtxView) -> Decision:
        return Need([effect()], then=again)

    driver = Driver(again)
    driver.start()
    for _ in range(1_500):
        driver.settle(0, ok())
    driver.cancel()
    driver.close()
    assert len(record_of(driver).events) <= 5_000


def test_a_record_of_a_later_version_is_refused_as_such() -> None:
    data = msgspec.msgpack.encode({"version": VERSION + 1, "anything": "else"})
    with pytest.raises(RecordError, match=f"is of version {VERSION + 1}; this Zerver reads up to {VERSION}"):
        decode(data)
    with pytest.raises(RecordError, match="this is no trace"):
        decode(b"nonsense")


def test_a_record_of_this_version_stays_readable() -> None:
    """As it was written first. A change that breaks this needs a new version."""
    data = bytes.fromhex(
        "86a26964a161a5726f757465a547455420 2fa3776879a56572726f72aa737461727465645f6e7301a7746f6f6b5f6e7302".replace(
            " ", ""
        )
        + "a77265717565737482a66d6574686f64a3474554a470617468a12f"
    )
    assert decode(data) == TraceRecord(
        id="a", route="GET /", why="error", started_ns=1, took_ns=2, request=RequestNote("GET", "/")
    )


# Redaction


@pytest.mark.parametrize(
    "name",
    [*SECRETS, "Set-Cookie", "API-KEY", "X_API_KEY", "x-tenant-key", "accessToken", "ClientSecret", "xTenantKey"],
)
def test_a_secret_is_known_by_its_name_in_any_form(name: str) -> None:
    assert Redaction(["X-Tenant-Key"]).secret(name)


@pytest.mark.parametrize(
    ("body", "kind", "kept", "found"),
    [
        (b'{"a": {"password": "p", "b": [1, {"token": 2}]}}', b"application/json",
         b'{"a":{"password":"[redacted]","b":[1,{"token":"[redacted]"}]}}', ["body:a.password", "body:a.b[1].token"]),
        (b'{"p\\u0061ssword": "p"}', b"application/json", b'{"password":"[redacted]"}', ["body:password"]),
        (b'{"a":  1}', b"application/json", b'{"a":  1}', []),
        (b'{"token": null}', b"application/json", b'{"token": null}', []),
        (b"a=1&password=p&pass%77ord=q", FORM, b"a=1&password=[redacted]&pass%77ord=[redacted]",
         ["body:password", "body:password"]),
        (b'{"password": "p"}', FORM, b'{"password":"[redacted]"}', ["body:password"]),
        (b"my password is p", b"text/plain", None, ["body"]),
        (b'{"accessToken": "p"}', b"application/json", b'{"accessToken":"[redacted]"}', ["body:accessToken"]),
        (b"user[password]=p&user%5Bname%5D=a&user.token=p", FORM,
         b"user[password]=[redacted]&user%5Bname%5D=a&user.token=[redacted]",
         ["body:user[password]", "body:user.token"]),
        (b'{"a": "{\\"token\\": 1}"}', b"application/json", b'{"a":"{\\"token\\":\\"[redacted]\\"}"}',
         ["body:a.token"]),
        (b"payload=%7B%22token%22%3A+1%7D", FORM, b"payload=%7B%22token%22%3A%22[redacted]%22%7D",
         ["body:payload"]),
        (b'{"password": 1, "a": ' + b"[" * 700 + b"]" * 700 + b"}", b"application/json", None, ["body"]),
        (b"plain text, 100 %", b"text/plain", b"plain text, 100 %", []),
        (b"\x00\xff", b"", b"\x00\xff", []),
    ],
)  # fmt: skip
def test_bodies(body: bytes, kind: bytes, kept: bytes | None, found: list[str]) -> None:
    places: list[str] = []
    assert Redaction().body(body, kind, places) == kept
    assert places == found


def test_places_are_told_in_bounds_however_long_names_are_and_many_secrets() -> None:
    for body in ({"k" * 30_000: [{"token": 1}] * 1_000}, {str(n): {"token": n} for n in range(1_000)}):
        found: list[str] = []
        kept = Redaction().body(msgspec.json.encode(body), b"application/json", found)
        assert kept is not None
        assert kept.count(b"[redacted]") == 1_000
        assert 1 <= len(found) <= 100
        assert max(map(len, found)) < 300


def test_urls_in_headers_are_looked_through() -> None:
    found: list[str] = []
    headers = [
        (b"referer", b"https://h/a?x=1&access_token=p"), (b"location", b"/b#id_token=p"),
        (b"link", b"</a?x=1>; rel=next"),
    ]  # fmt: skip
    kept = Redaction().headers(headers, found)
    assert kept == ((b"referer", b"[redacted]"), (b"location", b"[redacted]"), headers[2])
    assert found == ["header:referer", "header:location"]


def test_what_is_compressed_is_not_kept() -> None:
    def ends(ctx: CtxView) -> Decision:
        return Done.bytes(b"zip", content_type="text/plain", headers={"content-encoding": "gzip"})

    driver = Driver(ends, request=Request("POST", "/", b"", ((b"content-encoding", b"gzip"),), b"zip", "", "id1"))
    driver.start()
    kept = record_of(driver)
    assert kept.response is not None
    assert (kept.request.body, kept.request.size, kept.response.body, kept.response.size) == (None, 3, None, 3)


@pytest.mark.parametrize(
    ("what", "raw"),
    [
        (sql.query("SELECT data FROM t"), SqlRows(("data",), [({"a": [{"password": "p455"}]},)])),
        (sql.query("SELECT data FROM t"), SqlRows(("data",), [('{"password": "p455"}',)])),
        (sql.query("SELECT data FROM t"), SqlRows(("data",), [(b'{"password": "p455"}',)])),
        (effect(op="look"), '{"password": "p455"}'),
        (effect(op="look"), '\n [{"password": "p455"}]'),
    ],
)
def test_secrets_within_values_are_redacted(what: Effect[Any], raw: object) -> None:
    kept = with_result(what, raw)
    (result,) = kept.results
    assert result.redacted, result.missing
    assert b"p455" not in encode(kept)


def test_what_is_nested_too_deeply_to_be_looked_through_is_not_kept_and_all_else_is() -> None:
    deep: Any = "p455"
    for _ in range(700):
        deep = [deep]
    kept = with_result(sql.query("SELECT data FROM t"), SqlRows(("data",), [(deep,)]))
    assert [one.missing for one in kept.results] == ["it may hold secrets, and cannot be looked through"]


def test_names_of_ones_own_are_redacted_in_urls_of_effects_too() -> None:
    kept = with_result(http.get("http://h/a?X-Tenant-Key=p455&x=1"), HttpResult(200, (), b""))
    assert b"p455" not in encode(kept)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "Password", "x-api-key", "token"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_nothing_below_a_secret_name_stays(value: Any) -> None:
    kept = Redaction().body(msgspec.json.encode(value), b"application/json", [])
    assert kept is not None

    def hold(before: Any, after: Any) -> None:
        if isinstance(before, dict):
            for name, inner in before.items():
                if name != "a" and inner is not None:
                    assert after[name] == REDACTED
                else:
                    hold(inner, after[name])
        elif isinstance(before, list):
            for one, other in zip(before, after, strict=True):
                hold(one, other)
        else:
            assert before == after

    hold(value, msgspec.json.decode(kept))


def test_events_are_small() -> None:
    """A number more for each would be seen in the store."""
    event = EventNote(EventKind.StepStart, 1_000_000, "load", 0, -1, None)
    assert len(msgspec.msgpack.encode(event)) <= 16


def test_what_is_told_of_an_effect_first_says_that_it_was_scheduled() -> None:
    told = [(one.kind.name, one.at_ns) for one in with_result(effect(), 1).events if one.effect == 0]
    assert [kind for kind, _ in told][:3] == ["ReactorEffectScheduled", "EffectStart", "ReactorEffectCompleted"]
    assert told[0][1] == told[1][1]
