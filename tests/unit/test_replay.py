"""Replay: what cannot be replayed is said as such, and never as a divergence; what is different is found where it is.

All kinds of divergence are planted in an example, and all joins replayed, in tests/integration/test_replay_*.py.
"""

from __future__ import annotations

import contextlib
import linecache
from pathlib import Path
from typing import Any, Never

import msgspec
import pytest
from interpreter_driver import Driver

from zerver import (
    App,
    Continue,
    CtxView,
    Decision,
    Done,
    Error,
    ErrorKind,
    Fail,
    Need,
    Request,
    Response,
    Slot,
    call,
    http,
    kv,
    need,
    sql,
)
from zerver.effect_results import interpret
from zerver.effects.http import HttpResult
from zerver.effects.sql import SqlRows
from zerver.execution import Execution, Phase
from zerver.match import Match
from zerver.problem import error_response
from zerver.redaction import Redaction
from zerver.replay import Replay, ReplayError, replay
from zerver.replay.answer import differs
from zerver.response import StreamBody
from zerver.signals import StartEffect
from zerver.step import compile_step
from zerver.trace.events import EventKind
from zerver.trace.observe import EffectObserver
from zerver.trace.record import ErrorNote, ResponseNote, ResultNote, TraceRecord, decode, encode
from zerver.trace.recording import Recording
from zerver_runtime.outcome import Failure


class Text(Slot[str]):
    """A value."""


class Items(Slot[list[Any]]):
    """Something that can be changed."""


class Account(Slot[dict[str, Any]]):
    """With a secret in it."""


class _Scope:
    def __init__(self, owner: Execution) -> None:
        self.owner = owner


class _Ticket:
    def __init__(self, run: Execution, start: StartEffect, raw: object) -> None:
        self.scope, self.tag, self.effect, self.raw = _Scope(run), start, start.what, raw


def app_of(*steps: Any, method: str = "POST", on_error: Any = None) -> App:
    app = App(on_error=on_error)
    app.route(method)("/x", *steps)
    return app


def recorded(
    app: App, request: Request | None = None, *gives: Any, bodies: bool = True, redact: tuple[str, ...] = ()
) -> TraceRecord:
    """What is kept of a request, when the drivers give these, one after another: raw values, or failures."""
    site = app.site()
    request = Request("POST", "/x") if request is None else request
    match = site.router.match(request.method, request.path)
    assert isinstance(match, Match)
    request = Request(
        request.method, request.path, request.query, request.headers, request.body, "192.0.2.1", "r1", match.params
    )
    driver = Driver(
        *match.endpoint.steps,
        request=request,
        render=lambda *given: error_response(*given, site.on_error, lambda *_: None),
    )
    driver.run.route = match.endpoint.label
    observer: Any = EffectObserver()
    driver.start()
    for raw in gives:
        (number, index), effect = next(iter(driver.in_flight.items()))
        driver.pass_time(0.01)
        outcome = raw if isinstance(raw, Failure) else interpret(effect, raw, lambda: 0.0)
        ticket = _Ticket(driver.run, StartEffect(number, index, effect), None if raw is outcome else raw)
        observer.effect("ReactorEffectCompleted", ticket, driver.now_ns / 1e9, outcome)
        driver.settle(index, outcome, need=number)
    assert driver.phase is Phase.ENDED, "more is to be given"
    driver.close()
    recording = Recording(Redaction(redact), bodies=bodies, engine="test")
    return decode(encode(recording.record(driver.run, "asked", 1_700_000_000_000_000_000)))


def replayed(*steps: Any, request: Request | None = None, gives: tuple[Any, ...] = (), **options: Any) -> Replay:
    app = app_of(*steps)
    return replay(app, recorded(app, request, *gives, **options))


def told(report: Replay) -> tuple[str, str, str]:
    limit = report.limit
    return (report.outcome, "" if limit is None else limit.step, "" if limit is None else limit.why)


def test_a_recording_of_somebody_else_raises_nothing() -> None:
    def asks(ctx: CtxView) -> Decision:
        return Need([kv.get("k")])

    def ends(ctx: CtxView) -> Decision:
        return Done.text("ended")

    app = app_of(asks, ends)
    record = recorded(app, None, None)
    for index in (-2, 1, 2**63 - 1):
        events = tuple([
            one._replace(effect=index) if one.kind is EventKind.ContinuationEnqueued else one for one in record.events
        ])  # fmt: skip
        report = replay(app, msgspec.structs.replace(record, events=events))
        assert report.outcome == "partial"
    failed = ResultNote(1, 0, error=ErrorNote("TIMEOUT"), detail=b"\xc1")
    assert replay(app, msgspec.structs.replace(record, results=(failed,))).outcome == "diverged"


# What is redacted


HEADERS = ((b"authorization", b"Bearer x"), (b"content-type", b"application/json"))


def reads_header(ctx: CtxView) -> Decision:
    ctx.header("Authorization")
    return Continue()


@pytest.mark.parametrize("about", ["", "&more=" + "m" * 300, "&" + "m" * 145 + "=1&sig=s"])
def test_a_url_whose_parameters_were_redacted_by_names_of_ones_own_is_the_same(about: str) -> None:
    def asks(ctx: CtxView) -> Decision:
        return Need([http.get(f"http://h/a?long-name={'l' * 9}&sig=s455{about}")])

    def ends(ctx: CtxView) -> Decision:
        return Done.text("ended")

    app = app_of(asks, ends)
    record = recorded(app, None, HttpResult(200, (), b""), redact=("sig",))
    assert b"s455" not in encode(record)
    assert told(replay(app, record)) == ("identical", "", "")


def tells_header(ctx: CtxView) -> Decision:
    return Done.text(ctx.header("authorization"))


def guards(ctx: CtxView) -> Decision:
    return Continue() if ctx.header("authorization") == "Bearer x" else Fail(ErrorKind.UNAUTHORIZED)


def tells_query(ctx: CtxView) -> Decision:
    return Done.text(ctx.query("token"))


def tells_other_query(ctx: CtxView) -> Decision:
    return Done.text(ctx.query("a"))


def tells_json(ctx: CtxView) -> Decision:
    return Done.text(str(ctx.json()))


def tells_a(ctx: CtxView) -> Decision:
    return Done.text(str(ctx.json(dict[str, Any])["a"]))


def wants_number(ctx: CtxView) -> Decision:
    return Done.text(str(ctx.json(dict[str, int])["token"]))


def tells_body(ctx: CtxView) -> Decision:
    return Done.text(ctx.body.decode())


def tells_size(ctx: CtxView) -> Decision:
    return Done.text(str(len(ctx.body)))


def answers(ctx: CtxView) -> Decision:
    return Done.text("yes")


HEADER = "it reads header authorization, which is redacted"
TOKEN = b'{"token": "t", "a": 1}'
BODY = "it reads the body, in which token is redacted"


@pytest.mark.parametrize(
    ("steps", "request_", "expected"),
    [
        ((answers,), Request("POST", "/x", headers=HEADERS), ("identical", "", "")),
        ((reads_header, answers), Request("POST", "/x", headers=HEADERS), ("identical", "reads_header", HEADER)),
        ((tells_header,), Request("POST", "/x", headers=HEADERS), ("partial", "tells_header", HEADER)),
        ((guards, answers), Request("POST", "/x", headers=HEADERS), ("partial", "guards", HEADER)),
        ((tells_query,), Request("POST", "/x", b"token=t&a=1"),
         ("partial", "tells_query", "it reads query parameter token, which is redacted")),
        ((tells_other_query,), Request("POST", "/x", b"token=t&a=1"), ("identical", "", "")),
        ((tells_json,), Request("POST", "/x", b"", HEADERS, TOKEN), ("partial", "tells_json", BODY)),
        ((tells_a,), Request("POST", "/x", b"", HEADERS, TOKEN), ("identical", "tells_a", BODY)),
        ((wants_number,), Request("POST", "/x", b"", HEADERS, b'{"token": 7}'), ("partial", "wants_number", BODY)),
        ((tells_body,), Request("POST", "/x", b"", HEADERS, b'{"token": 7}'), ("identical", "tells_body", BODY)),
        ((tells_size,), Request("POST", "/x", b"", HEADERS, b'{"token": 7}'), ("partial", "tells_size", BODY)),
        ((tells_body,), Request("POST", "/x", b"", (), b"my token: 7"),
         ("partial", "tells_body", "it reads the body, of which the recording has its size only (11 bytes)")),
        ((answers,), Request("POST", "/x", b"", (), b"my token: 7"), ("identical", "", "")),
    ],
)  # fmt: skip
def test_a_read_of_what_is_redacted_is_never_a_divergence(
    steps: Any, request_: Request, expected: tuple[str, str, str]
) -> None:
    assert told(replayed(*steps, request=request_)) == expected


def test_what_differs_before_a_redacted_read_diverges() -> None:
    def early(ctx: CtxView) -> Decision:
        return Fail(ErrorKind.CONFLICT) if planted else Continue()

    planted, app = False, app_of(early, guards, answers)
    record = recorded(app, Request("POST", "/x", headers=HEADERS))
    planted = True
    assert replay(app, record).outcome == "diverged"


def looks_up(ctx: CtxView[Never, Account]) -> Decision:
    """As most apps find out who is asking: the key is redacted, what the database has for it is not."""
    key = {"key": ctx.header("authorization")}
    return Need([sql.query_one("select id from t where k = :key", key, into=Account, required=False)], then=admits)


def admits(ctx: CtxView[Account]) -> Decision:
    return Continue() if ctx.optional(Account) is not None else Fail(ErrorKind.UNAUTHORIZED)


def welcomes(ctx: CtxView[Account]) -> Decision:
    return Done.text(f"{GREETING['word']}, {ctx.require(Account)['id']}")


GREETING = {"word": "hello"}
FOUND = SqlRows(("id",), ((7,),), 0)


def test_what_comes_after_a_redacted_read_is_certain_where_it_sees_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_of(looks_up, welcomes)
    record = recorded(app, Request("POST", "/x", headers=HEADERS), FOUND)
    report = replay(app, record)
    assert told(report) == ("identical", "looks_up", HEADER)
    assert (report.status, report.effects) == (200, 1)
    monkeypatch.setitem(GREETING, "word", "good bye")
    found = replay(app, record).divergence
    assert found is not None
    assert (found.step, found.expected, found.got) == ("welcomes", "body hello, 7", "body good bye, 7")


def keeps(ctx: CtxView[Never, Text]) -> Decision:
    ctx.put(Text, ctx.header("authorization"))
    return Continue()


def shows_kept(ctx: CtxView[Text]) -> Decision:
    return Done.text(ctx.require(Text))


def asks_with_it(ctx: CtxView) -> Decision:
    key = ctx.header("authorization")

    def tells(ctx: CtxView) -> Decision:
        return Done.text(key)

    return Need([], then=tells)


async def waits_with_it(ctx: CtxView) -> Decision:
    key = ctx.header("authorization")
    await need(http.get("http://a/", as_=str))
    return Done.text(key)


@pytest.mark.parametrize(
    ("steps", "gives", "step"),
    [
        ((keeps, answers), (), ""),
        ((keeps, shows_kept), (), "shows_kept"),
        ((asks_with_it,), (), "asks_with_it"),
        ((waits_with_it,), (HttpResult(200, (), b"a"),), "waits_with_it"),
    ],
)
def test_what_comes_after_a_redacted_read_is_not_certain_where_it_sees_some_of_it(
    steps: Any, gives: Any, step: str
) -> None:
    report = replayed(*steps, request=Request("POST", "/x", headers=HEADERS), gives=gives)
    assert told(report)[:2] == (("partial", step) if step else ("identical", "keeps"))


def test_an_on_error_that_may_read_what_is_redacted_is_no_divergence() -> None:
    def on_error(error: Error, request: Request) -> Response:
        return Response(400, (), request.header(b"authorization") or b"")

    def fails(ctx: CtxView) -> Decision:
        return Fail(ErrorKind.CONFLICT)

    app = app_of(fails, on_error=on_error)
    record = recorded(app, Request("POST", "/x", headers=HEADERS))
    assert told(replay(app, record)) == ("partial", "fails", "on_error may read what is redacted in the request")


# What effects gave


def fetch(ctx: CtxView[Never, Text]) -> Decision:
    return Need([http.get("http://a/", into=Text)])


def load(ctx: CtxView[Never, Account]) -> Decision:
    return Need([sql.query_one("select * from t", into=Account)])


def compute_items(ctx: CtxView[Never, Items]) -> Decision:
    return Need([call.run(list, into=Items)])


def changes_items(ctx: CtxView[Items]) -> Decision:
    items = ctx.require(Items)
    items.append("changed")
    return Done.json(items)


def shows_items(ctx: CtxView[Items]) -> Decision:
    return Done.text(repr(ctx.require(Items)))


def counts_items(ctx: CtxView[Items]) -> Decision:
    return Done.text(str(len(ctx.require(Items))))


def shows_text(ctx: CtxView[Text]) -> Decision:
    return Done.text(ctx.require(Text))


def shows_account(ctx: CtxView[Account]) -> Decision:
    return Done.text(str(ctx.require(Account)))


def ignores_account(ctx: CtxView[Account]) -> Decision:
    return Done.text("yes")


async def awaits_account(ctx: CtxView) -> Decision:
    account = await need(sql.query_one("select * from t"))
    return Done.text(str(account))


async def awaits_and_ignores(ctx: CtxView) -> Decision:
    await need(sql.query_one("select * from t"))
    return Done.text("yes")


def tells_nobody(ctx: CtxView) -> Decision:
    return Need([call.run(print)], then=answers)


SECRET = SqlRows(("id", "password"), [(1, "p")])
PLAIN = HttpResult(200, (("content-type", "application/json"),), b'"ok"')
HIDDEN = HttpResult(200, (("content-type", "application/json"),), b'{"id": 1, "token": "t"}')
COLUMN = "what sql.query_one gave is not in the recording: a column of it is secret"
INTO = "what sql.query_one into Account gave is not in the recording: a column of it is secret"


def ask_hidden(ctx: CtxView[Never, Account]) -> Decision:
    return Need([http.get("http://a/", into=Account)])


def shows_id(ctx: CtxView[Account]) -> Decision:
    return Done.text(str(ctx.require(Account)["id"]))


REDACTED = "it reads slot Account: body:token of what http.get into Account gave is redacted"


@pytest.mark.parametrize(
    ("steps", "gives", "expected"),
    [
        ((fetch, shows_text), (PLAIN,), ("identical", "", "")),
        ((load, shows_account), (SECRET,), ("partial", "shows_account", f"it reads slot Account: {INTO}")),
        ((load, ignores_account), (SECRET,), ("identical", "", "")),
        ((awaits_account,), (SECRET,), ("partial", "awaits_account", COLUMN)),
        ((awaits_and_ignores,), (SECRET,), ("partial", "awaits_and_ignores", COLUMN)),
        ((ask_hidden, shows_account), (HIDDEN,), ("partial", "shows_account", REDACTED)),
        ((ask_hidden, shows_id), (HIDDEN,), ("identical", "shows_id", REDACTED)),
        ((ask_hidden, ignores_account), (HIDDEN,), ("identical", "", "")),
        ((compute_items, changes_items), ([1, (2, 3), {"a": 4}],), ("identical", "", "")),
        ((compute_items, shows_items), ([1, (2, 3), {4}, {5: None}],), ("identical", "", "")),
        ((compute_items, counts_items), ([object],),
         ("partial", "counts_items", "it reads slot Items: what call.run into Items gave is not in the recording: "
          "a list cannot be encoded")),
        ((tells_nobody,), (object(),), ("identical", "", "")),
    ],
)  # fmt: skip
def test_what_the_recording_does_not_have_ends_a_replay_where_it_is_read(
    steps: Any, gives: Any, expected: tuple[str, str, str]
) -> None:
    assert told(replayed(*steps, gives=gives)) == expected


def test_what_a_function_gave_is_recorded_as_it_was_then() -> None:
    """Later the app may change it."""
    app = app_of(compute_items, changes_items)
    record = recorded(app, None, ["new"])
    assert record.response is not None
    assert record.response.body == b'["new","changed"]'
    assert replay(app, record).outcome == "identical"


def test_without_bodies_a_replay_ends_at_the_first_value() -> None:
    report = replayed(fetch, shows_text, gives=(PLAIN,), bodies=False)
    assert told(report)[:2] == ("partial", "shows_text")
    assert told(report)[2].endswith("trace.bodies is off")


@pytest.mark.parametrize(
    "failure",
    [
        HttpResult(503, (), b"away"),
        HttpResult(200, (), b"\xff"),
        Failure(Error(ErrorKind.TIMEOUT, "http.get: no result within 1 s")),
        Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, "it answered 502", detail={"status": 502})),
        Failure(Error(ErrorKind.CONFLICT, "it is there", detail={"constraint": "t.a", "tries": (1, 2)})),
        Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, "left alone", retry_after=2.5)),
    ],
)
def test_failures_of_effects_replay_with_all_that_they_tell(failure: Any) -> None:
    report = replayed(fetch, shows_text, gives=(failure,))
    assert told(report) == ("identical", "", "")


def test_a_failure_that_came_of_what_the_driver_gave_is_recorded_with_that() -> None:
    given = [HttpResult(404, (), b""), HttpResult(200, (), b"\xff")]
    results = [recorded(app_of(fetch, shows_text), None, one).results[0] for one in given]
    assert all(one.error is not None and one.raw is not None for one in results)


def test_kv_values_with_secrets_are_redacted() -> None:
    class Session(Slot[dict[str, Any]]):
        """Of a user."""

    def session(ctx: CtxView[Never, Session]) -> Decision:
        return Need([kv.get("s", into=Session)], then=shown)

    def shown(ctx: CtxView[Session]) -> Decision:
        return Done.text(str(ctx.require(Session)))

    compile_step(session, locals())
    compile_step(shown, locals())
    report = replayed(session, shown, gives=(b'{"token": "t"}',))
    assert told(report)[:2] == ("partial", "shown")


# Time


def test_elapsed_deadline_time_and_randomness_are_as_recorded() -> None:
    def look(ctx: CtxView) -> Decision:
        return Done.json([ctx.now(), ctx.random(), ctx.uuid(), ctx.elapsed, ctx.deadline])

    report = replayed(fetch, look, gives=(PLAIN,))
    assert told(report) == ("identical", "", "")


def test_a_read_that_was_not_recorded_diverges() -> None:
    def look(ctx: CtxView) -> Decision:
        return Done.json(ctx.elapsed if planted else 0)

    planted, app = False, app_of(look)
    record = recorded(app)
    planted = True
    found = replay(app, record).divergence
    assert found is not None
    assert (found.kind, found.got) == ("given", "it reads ctx.elapsed")


def test_a_step_that_catches_everything_hides_nothing() -> None:
    def look(ctx: CtxView) -> Decision:
        with contextlib.suppress(BaseException):
            ctx.random() if planted else None
        return Done.text("yes")

    planted, app = False, app_of(look)
    record = recorded(app)
    planted = True
    assert replay(app, record).outcome == "diverged"


# What is said


def test_an_exception_is_told_with_its_line() -> None:
    def breaks(ctx: CtxView) -> Decision:
        if planted:
            inner()
        return Done.text("yes")

    def inner() -> None:
        raise ValueError("planted")

    planted, app = False, app_of(breaks)
    record = recorded(app)
    planted = True
    found = replay(app, record).divergence
    assert found is not None
    assert (found.kind, found.expected, found.got) == ("exception", "Done 200", "raised ValueError: planted")
    file, _, line = found.where.rpartition(":")
    assert "raise ValueError" in linecache.getline(file, int(line))


def test_a_bug_replays_as_the_same_bug_also_where_the_server_told_its_traceback() -> None:
    def breaks(ctx: CtxView) -> Decision:
        raise ValueError("a bug")

    app = app_of(breaks)
    record = recorded(app)
    assert replay(app, record).outcome == "identical"
    assert record.response is not None
    body = (record.response.body or b"")[:-1] + b',"traceback":["line"]}'
    debugged = msgspec.structs.replace(record, response=msgspec.structs.replace(record.response, body=body))
    assert replay(app, debugged).outcome == "identical"


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("do not look at me")


def done_with_nothing(ctx: CtxView) -> Decision:
    return Done(None)  # type: ignore[arg-type]  # that is the mistake


def raises_what_cannot_be_told(ctx: CtxView) -> Decision:
    raise Untold


def gives_what_lies(ctx: CtxView) -> Any:
    return type("Evil", (), {"__class__": property(lambda self: 1 / 0)})()


@pytest.mark.parametrize(
    "step", [done_with_nothing, raises_what_cannot_be_told, gives_what_lies], ids=lambda step: step.__name__
)
def test_a_step_that_came_to_what_cannot_be_told_replays_as_such(step: Any) -> None:
    def other(ctx: CtxView) -> Decision:
        return step(ctx) if planted else Continue()

    planted, app = True, app_of(other, answers)
    assert replay(app, recorded(app)).outcome == "identical"
    planted = False
    record = recorded(app)
    planted = True
    assert replay(app, record).outcome == "diverged"


def test_a_step_whose_source_changed_is_told(tmp_path: Path) -> None:
    file = tmp_path / "stepped.py"
    text = "from zerver import *\ndef plain(ctx: CtxView) -> Decision:\n    return Done.text('yes')\n"

    def app() -> App:
        linecache.checkcache(str(file))
        names: dict[str, Any] = {}
        exec(compile(file.read_text(), str(file), "exec"), names)
        return app_of(names["plain"])

    file.write_text(text)
    record = recorded(app())
    assert replay(app(), record).changed == ()
    file.write_text(text.replace("'yes'", "'ye' + 's'"))
    report = replay(app(), record)
    assert (report.outcome, report.changed) == ("identical", ("plain",))
    assert "note: step plain changed since the recording" in [*report.lines]


def test_the_coroutine_of_a_replay_that_stops_is_closed() -> None:
    closed = []

    async def waits(ctx: CtxView) -> Decision:
        try:
            await need(http.get("http://b/" if planted else "http://a/"))
            return Done.text("yes")
        finally:
            closed.append(True)

    planted, app = False, app_of(waits)
    record = recorded(app, None, PLAIN)
    planted = True
    closed.clear()
    assert replay(app, record).outcome == "diverged"
    assert closed == [True]


def test_effects_are_compared_with_their_idempotency_key() -> None:
    def puts(ctx: CtxView) -> Decision:
        return Need([call.run(print, idem="2" if planted else "1")], then=answers)

    planted, app = False, app_of(puts)
    record = recorded(app, None, None)
    planted = True
    found = replay(app, record).divergence
    assert found is not None
    assert (found.kind, found.effect) == ("effect", 0)


def test_a_check_fails_with_the_report() -> None:
    def look(ctx: CtxView) -> Decision:
        return Done.text("no" if planted else "yes")

    planted, app = False, app_of(look)
    record = recorded(app)
    replay(app, record).check()
    planted = True
    with pytest.raises(ReplayError, match=r"(?s)diverged at step look .*expected  body yes.*got       body no"):
        replay(app, record).check()
    with pytest.raises(ReplayError):
        replay(app, record).check(until="look")


def test_a_check_of_a_part_says_up_to_where() -> None:
    app = app_of(guards, answers)
    report = replay(app, recorded(app, Request("POST", "/x", headers=HEADERS)))
    report.check(until="guards")
    with pytest.raises(ReplayError, match="replayable up to step guards"):
        report.check()
    with pytest.raises(ReplayError, match="replayable up to step guards"):
        report.check(until="answers")


def test_moves_tell_what_was_the_same() -> None:
    report = replayed(fetch, shows_text, gives=(PLAIN,))
    assert [(move.kind, move.step, move.text) for move in report.moves] == [
        ("step", "fetch", "Need"), ("need", "fetch", "Need all [http.get into Text]"),
        ("effect", "fetch", "http.get into Text at http:a:80: GET http://a/"),
        ("step", "shows_text", "Done 200"), ("answer", "shows_text", "answer 200"),
    ]  # fmt: skip
    assert [*report.lines] == ["POST /x: identical: 200, 1 effect in 2 steps"]


# Answers


JSON = (("content-type", "application/json"),)
PROBLEM = (("content-type", "application/problem+json"),)


@pytest.mark.parametrize(
    ("recorded_", "got", "told_"),
    [
        (None, None, None),
        (None, Response(200), ("no answer", "answer 200")),
        (ResponseNote(200, (), b"a", 1), None, ("answer 200", "no answer")),
        (ResponseNote(200, (), b"a", 1), Response(200, (), b"a"), None),
        (ResponseNote(200, (), b"a", 1), Response(201, (), b"a"), ("status 200", "status 201")),
        (ResponseNote(200, (), b"a", 1), Response(200, (), b"b"), ("body a", "body b")),
        (ResponseNote(200, (("a", "b"),), b""), Response(200, (("a", "c"),)), ("header a: b", "header a: c")),
        (ResponseNote(200, (("a", "b"),), b""), Response(200), ("header a: b", "no further header")),
        (ResponseNote(200, (("cookie", "[redacted]"),), b""), Response(200, (("cookie", "c"),)), None),
        (ResponseNote(200, (), None, 3), Response(200, (), b"abc"), None),
        (ResponseNote(200, (), None, 3), Response(200, (), b"abcd"), ("a body of 3 bytes", "one of 4 bytes")),
        (ResponseNote(200, (), None, None), Response(200, (), StreamBody([])), None),
        (ResponseNote(200, (), None, None), Response(200, (), b"a"), ("a stream or a file", "body a")),
        (ResponseNote(200, (), b"a", 1), Response(200, (), StreamBody([])),
         ("a body that is known beforehand", "a stream or a file")),
        (ResponseNote(200, JSON, b'{"token":"[redacted]","a":[1]}', 30), Response(200, JSON, b'{"token":"t","a":[1]}'),
         None),
        (ResponseNote(200, JSON, b'{"token":"[redacted]","a":1}', 28), Response(200, JSON, b'{"token":"t","a":true}'),
         ('body {"token":"[redacted]","a":1}', 'body {"token":"t","a":true}')),
        (ResponseNote(500, PROBLEM, b'{"a":1,"traceback":["x"]}', 25), Response(500, PROBLEM, b'{"a":1}'), None),
        (ResponseNote(500, PROBLEM, b'{"a":1,"traceback":["x"]}', 25), Response(500, PROBLEM, b'{"a":2}'),
         ('body {"a":1,"traceback":["x"]}', 'body {"a":2}')),
    ],
)  # fmt: skip
def test_answers_are_compared_as_far_as_the_recording_goes(
    recorded_: ResponseNote | None, got: Response | None, told_: tuple[str, str] | None
) -> None:
    assert differs(recorded_, got) == told_
