"""What the console's page gets to show: traces in pages, one trace, pipelines, processes, replays."""

from __future__ import annotations

from typing import Any, Never

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kept_traces import HOSTILE, checkout, simple

from zerver import App, Continue, CtxView, Decision, Done, Slot, step
from zerver.console.document import trace_document
from zerver.console.listing import trace_page
from zerver.console.system import system_view
from zerver.console.tables import Table, replay_view
from zerver.graph import PipelineGraph, graph_of
from zerver.metrics.snapshot import ActorView, Sample, Snapshot
from zerver.replay import Divergence, Limit, Move, Replay
from zerver.trace.asking import AskError, trace_query
from zerver.trace.reasons import reasons
from zerver.trace.record import ErrorNote, RequestNote, ResultNote, Summary
from zerver.trace.timeline import timeline
from zerver_runtime.reactor.breaker import BreakerState

MS = 1_000_000


def same(value: Any) -> Any:
    """As the page gets it."""
    return msgspec.json.decode(msgspec.json.encode(value))


# Filters


@pytest.mark.parametrize(
    ("asked", "field", "value"),
    [
        ({"status": "503"}, "status", (503, 503)),
        ({"status": "5XX"}, "status", (500, 599)),
        ({"slower": 1.5}, "slower_ns", 1_500_000),
        ({"slower": 0.0}, "slower_ns", 0),
        ({"why": "slow"}, "why", "slow"),
        ({"route": "GET /a%"}, "route", "GET /a%"),
        ({"text": "<b>"}, "text", "<b>"),
        ({}, "status", None),
    ],
)
def test_filters(asked: dict[str, Any], field: str, value: object) -> None:
    query = trace_query(**asked)
    assert getattr(query, field) == value
    assert sum(one is not None for one in msgspec.structs.astuple(query)) == (value is not None)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"status": "6xx"}, "--status 6xx: give a status such as 503, or a class such as 5xx"),
        ({"status": "50"}, "--status 50: "),
        ({"status": "\u0665\u0660\u0660"}, "--status \u0665\u0660\u0660: "),
        ({"why": "Error"}, "--why Error: it is one of error, slow, asked, sampled"),
        ({"slower": float("nan")}, "--slower nan: give milliseconds"),
        ({"slower": -1.0}, "--slower -1.0: give milliseconds"),
        ({"slower": float("inf")}, "--slower inf: give milliseconds"),
    ],
)
def test_a_filter_that_means_nothing_says_what_it_takes(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(AskError) as raised:
        trace_query(**asked, prefix="--")
    assert str(raised.value).startswith(told)


# Pages


def summary(seq: int, **changed: Any) -> Summary:
    given: dict[str, Any] = {
        "id": f"id-{seq}", "route": "GET /a", "method": "GET", "path": "/a", "status": 200, "started_ns": 1_500_000,
        "took_ns": MS, "why": "slow", "client": "127.0.0.1", "scheduler": 0, "error": "", **changed,
    }  # fmt: skip
    return Summary(seq=seq, **given)


@pytest.mark.parametrize(
    ("seqs", "oldest_first", "newest", "shown", "more", "cursor"),
    [
        ([], False, 0, [], False, 0),
        ([9, 8], False, 9, [9, 8], False, 9),
        ([9, 8, 7], False, 12, [9, 8], True, 12),  # what else there is does not match
        ([13, 12], False, 12, [13, 12], False, 13),  # it came while it was asked
        ([10, 11], True, 11, [11, 10], False, 11),
        ([10, 11, 12], True, 12, [11, 10], True, 11),  # go on where this ends
        ([], True, 12, [], False, 12),
    ],
)
def test_a_page_and_the_cursor_to_go_on_with(
    seqs: list[int], oldest_first: bool, newest: int, shown: list[int], more: bool, cursor: int
) -> None:
    page = trace_page(list(map(summary, seqs)), limit=2, newest=newest, total=None, oldest_first=oldest_first)
    assert ([one.seq for one in page.traces], page.more, page.newest) == (shown, more, cursor)


@pytest.mark.parametrize(
    ("status", "level"), [(200, "ok"), (399, "ok"), (404, "client"), (499, "client"), (500, "server"), (None, "server")]
)
def test_whose_fault_a_status_is(status: int | None, level: str) -> None:
    (one,) = trace_page([summary(1, status=status)], limit=1, newest=1, total=1).traces
    assert (one.level, one.took, one.started_ms) == (level, "1 ms", 1)


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in texts(one)]


@given(st.text(max_size=40))
def test_what_does_not_print_is_spelled_out(text: str) -> None:
    record = simple(text, path=f"/{text}", route=f"GET /{text}", client=text, error=ErrorNote("INTERNAL", text))
    line = summary(1, id=text, path=text, route=text, client=text, method=text)
    shown = [same(trace_document(record)), same(trace_page([line], limit=1, newest=1, total=1))]
    for one in texts(shown):
        assert one.isprintable(), one


# One trace


def test_the_sentences_are_those_of_the_terminal() -> None:
    record = checkout("a")
    assert list(trace_document(record).reasons) == reasons(record, timeline(record))


def test_a_waterfall_tells_queueing_running_and_waiting_apart() -> None:
    document = trace_document(checkout("a"))
    rows = {row.about: row for row in document.rows if row.kind == "effect"}
    stock = rows["GET http://stock.internal/levels?sku=8142"]
    assert [(bar.kind, bar.tells) for bar in stock.bars] == [
        ("place", "waited for a place at its target: 44.8 ms"),
        ("failed", "failed attempt 1: 250 ms"),
        ("retry", "waited before attempt 2: 33 ms"),
        ("run", "attempt 2: 61 ms"),
    ]
    assert (stock.critical, stock.attempts, stock.took) == (True, 2, "389 ms")
    offers = rows["GET http://offers.internal/today"]
    assert (offers.fate, offers.required, offers.critical) == ("dropped", False, False)
    total = next(row for row in document.rows if row.label == "total")
    assert [bar.kind for bar in total.bars] == ["turn", "step"]
    assert document.rows[0].kind == "queue"
    assert sum(one.end_ns - one.start_ns for one in document.critical) == document.took_ns
    assert document.ran == ("parse", "load", "total", "show")


@given(st.integers(0, 10**13))
def test_marks_on_the_axis_are_round_and_few(took_ns: int) -> None:
    ticks = trace_document(simple("a", took_ns=took_ns)).ticks
    assert ticks[0].at_ns == 0
    assert len(ticks) <= 7
    assert took_ns < 3 or len(ticks) >= 3
    assert all(0 <= tick.at_ns <= took_ns for tick in ticks)
    if len(ticks) > 1:
        assert str(ticks[1].at_ns).rstrip("0") in ("1", "2", "5")
        assert {one.at_ns - other.at_ns for one, other in zip(ticks[1:], ticks, strict=False)} == {ticks[1].at_ns}


@pytest.mark.parametrize(
    ("body", "kind", "text", "note"),
    [
        (b"", b"text/plain", None, "empty"),
        (None, b"text/plain", None, "not kept: 7 bytes"),
        (b"a\n\tb\x1b[2J", b"text/plain", "a\n\tb\\x1b[2J", ""),
        (b"\xff\xfe", b"text/plain", None, "2 bytes that are no text"),
        (b'{"a":[1]}', b"application/json", '{\n  "a": [\n    1\n  ]\n}', ""),
        (b'{"a":', b"application/problem+json", '{"a":', ""),
        (b"x" * 70_000, b"text/plain", "x" * 65_536, "the first 65536 of 70000 characters"),
        ("\u202egnp".encode(), b"text/plain", "\\u202egnp", ""),
        (b"[" * 2_000 + b"]" * 2_000, b"application/json", "[" * 2_000 + "]" * 2_000, ""),
    ],
)
def test_bodies(body: bytes | None, kind: bytes, text: str | None, note: str) -> None:
    note_of = RequestNote("POST", "/", headers=((b"content-type", kind),), body=body, size=7)
    shown = trace_document(msgspec.structs.replace(simple("a"), request=note_of)).request.body
    assert (shown.text, shown.note) == (text, note)


def test_results_of_effects_are_readable() -> None:
    packed = msgspec.msgpack.encode({"status": 200, "body": b"\xff", b"text": [b"ok", 1.5, None]})
    results = (
        ResultNote(1, 0, raw=packed),
        ResultNote(1, 1, 3, error=ErrorNote("TIMEOUT", "too late")),
        ResultNote(1, 2, missing="a Lock cannot be encoded"),
        ResultNote(9, 0, raw=b"\xc1"),
    )
    first, second, third, last = trace_document(msgspec.structs.replace(checkout("a"), results=results)).results
    assert msgspec.json.decode(first.body.text or "") == {"status": 200, "body": "(1 bytes)", "text": ["ok", 1.5, None]}
    assert (second.label, second.attempts, second.error) == ("http.get", 3, "TIMEOUT: too late")
    assert third.body.note == "a Lock cannot be encoded"
    assert (last.label, last.body.note) == ("effect 0 of need 9", "1 bytes that cannot be shown")


def test_markup_stays_as_it_is() -> None:
    document = trace_document(simple("a", path=f"/{HOSTILE}", headers=((b"x-evil", b"<b>"),)))
    assert "<script>document.title='pwned'</script>\\u202egnp" in document.target
    assert document.request.headers == (("x-evil", "<b>"),)


# Pipelines


class Name(Slot[str]):
    """A slot."""


class Page(Slot[str]):
    """Another."""


def fill(ctx: CtxView[Never, Name]) -> Decision:
    ctx.put(Name, "you")
    return Continue()


def shown(ctx: CtxView[Name | Page]) -> Decision:
    return Done.text(ctx.require(Name))


@step(then=(shown,))
def asks(ctx: CtxView[Name, Page]) -> Decision:
    return Continue()


def graph(*steps: Any) -> PipelineGraph:
    app = App()
    app.get("/", *steps, deadline=2)
    ((_, _, pipeline),) = app.site().router.routes()
    return graph_of(pipeline)


def test_a_pipeline_as_data() -> None:
    found = graph(fill, asks, shown)
    assert (found.label, found.deadline, found.slots) == ("GET /", 2, ("Name", "Page"))
    assert [(one.name, one.position, one.asker, one.reads, one.writes) for one in found.steps] == [
        ("fill", 1, None, (), ("Name",)),
        ("asks", 2, None, ("Name",), ("Page",)),
        ("shown", 2, 1, ("Name", "Page"), ()),
        ("shown", 3, None, ("Name", "Page"), ()),
    ]
    assert [(one.goes_on, one.ends, one.unknown) for one in found.steps] == [
        ("asks", False, False), ("shown", False, False), (None, True, False), (None, True, False),
    ]  # fmt: skip


# Processes


def snapshot(slot: int, *samples: Sample, **changed: Any) -> Snapshot:
    given = {"incarnation": 1, "kind": "performance", "pid": 100 + slot, "at": 0.0, **changed}
    return Snapshot(slot=slot, samples=samples, **given)


def tables(*snapshots: Snapshot) -> dict[str, Table]:
    return {table.title: table for table in system_view(snapshots).tables}


def test_no_process_is_told_as_such() -> None:
    assert system_view(()).problem == "no scheduler has said anything of itself yet"


def test_processes_are_in_order_and_a_silent_one_stands_out() -> None:
    busy = Sample("zerver_scheduler_busy_ratio", ("1", "performance"), 0.97)
    found = tables(snapshot(1, busy, incarnation=3, up=False), snapshot(0))["Schedulers"]
    assert [row[0].text for row in found.rows] == ["0", "1"]
    cells = dict(zip(found.columns, found.rows[1], strict=True))
    assert (cells["state"].text, cells["state"].mood) == ("does not answer", "bad")
    assert (cells["start"].text, cells["start"].mood) == ("3", "warn")
    assert (cells["busy"].text, cells["busy"].mood) == ("97%", "warn")


def test_targets_are_added_up_over_schedulers() -> None:
    samples = (
        Sample("zerver_effects_total", ("http:a", "success"), 1000),
        Sample("zerver_effects_total", ("http:a", "cancelled"), 3),
        Sample("zerver_effects_total", ("http:a", "TIMEOUT"), 2),
        Sample("zerver_breakers", ("http:a", "open"), 1),
    )
    (row,) = tables(snapshot(0, *samples), snapshot(1, *samples))["Targets"].rows
    assert [cell.text for cell in row] == ["http:a", "2 open", "0", "0", "2\u202f000", "4", "6", "0"]
    assert row[1].mood == "bad"


@pytest.mark.parametrize(("state", "mood"), [("closed", ""), ("half-open", "warn"), ("open", "bad")])
def test_each_state_of_a_breaker_is_shown(state: BreakerState, mood: str) -> None:
    samples = (Sample("zerver_effects_in_flight", ("kv",), 1), Sample("zerver_breakers", ("kv", state), 1))
    (row,) = tables(snapshot(0, *samples))["Targets"].rows
    assert (row[1].text, row[1].mood) == (f"1 {state}", mood)


def test_a_mailbox_that_fills_stands_out() -> None:
    actors = (ActorView("b", "shop:B", 1024, 1024), ActorView("a", "shop:A\x1b", 600, 1024), ActorView("c", "x", 0, 0))
    rows = tables(snapshot(2, kind="efficiency", actors=actors, dead_letters=("to\nnobody",)))["Actors"].rows
    assert [(row[0].text, row[3].text, row[3].mood) for row in rows] == [
        ("a", "600", "warn"), ("b", "1024", "bad"), ("c", "0", ""),
    ]  # fmt: skip
    assert rows[0][1].text == "shop:A\\x1b"


def test_tables_are_whole() -> None:
    for table in tables(snapshot(0, Sample("zerver_tasks_queued", (), 1)), snapshot(1, kind="efficiency")).values():
        assert all(len(row) == len(table.columns) for row in table.rows), table.title
        assert table.rows or table.empty, table.title
        assert all(index < len(table.columns) for index in table.numbers)


# Replays


def report(**changed: Any) -> Replay:
    return Replay(id="a", route="GET /", status=200, steps=1, effects=0, **changed)


def test_a_replay_that_diverges_shows_both_sides() -> None:
    found = Divergence(kind="decision", step="load", expected="Done\x1b", got="Fail")
    view = replay_view(
        report(outcome="diverged", divergence=found, changed=("load",), moves=(Move("step", "parse", "Continue"),))
    )
    assert (view.outcome, view.expected, view.got) == ("diverged", "Done\\x1b", "Fail")
    assert "diverged at step load" in view.headline
    assert view.notes == ("step load changed since the recording",)
    assert [(one.kind, one.text) for one in view.moves] == [("step", "parse: Continue")]


def test_a_replay_that_ends_early_says_why() -> None:
    view = replay_view(report(outcome="partial", limit=Limit("load", "its body was not kept"), notes=("a note",)))
    assert "up to step load" in view.headline
    assert view.notes == ("its body was not kept", "a note")
    assert (view.expected, view.got) == ("", "")
