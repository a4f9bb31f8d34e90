"""The timeline of a kept trace: the critical path, what became of each effect, and the sentences about it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreter_driver import failed, ok
from join_contract import Case, cases, contract, forms, steps_of
from reactor_kit import Asked, Reactor

from zerver import CtxView, Decision, Done, Effect, ErrorKind, Fail, Need, Retry
from zerver.cli.trace_view import trace_page
from zerver.error import Error
from zerver.redaction import Redaction
from zerver.trace.reasons import duration, queues, reasons
from zerver.trace.record import TraceRecord
from zerver.trace.recording import Recording
from zerver.trace.timeline import EffectSpan, Timeline, timeline
from zerver.trace.waterfall import waterfall
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


def record_of(request: Asked) -> TraceRecord:
    return Recording(Redaction(), bodies=True, engine="reactor").record(request.exchange.run, "asked", 0)


def hold_together(record: TraceRecord, line: Timeline) -> None:
    """What holds for every timeline."""
    path = line.critical
    assert sum(one.took_ns for one in path) == record.took_ns
    assert all(one.took_ns > 0 for one in path)
    assert all(one.end_ns == other.start_ns for one, other in pairwise(path))
    assert not path or (path[0].start_ns, path[-1].end_ns) == (0, record.took_ns)
    rows = waterfall(line)
    assert [row.label for row in rows if row.kind == "step"] == [step.name for step in line.steps]
    assert [row.label for row in rows if row.kind == "effect"] == [
        one.note.label for need in line.needs for one in need.effects
    ]
    for row in rows:
        assert all(bar.start_ns <= bar.end_ns for bar in row.bars), row
        assert all(bar.end_ns <= other.start_ns for bar, other in pairwise(row.bars)), "no bar hides another"
        assert (row.start_ns is None) <= (row.bars == ())
    for need in line.needs:
        assert sum(effect.critical for effect in need.effects) <= 1
        assert len(need.effects) == len(need.note.effects)


def ends(ctx: CtxView) -> Decision:
    return Done.text("ended")


@given(st.sampled_from(ALL), st.data())
def test_the_critical_path_is_the_whole_request_without_gaps(case: Case, data: st.DataObject) -> None:
    reactor = Reactor()
    form = data.draw(st.sampled_from(forms(len(case.required))))
    request = reactor.begin(*steps_of(case, form, []))
    pauses = st.integers(0, 3).map(lambda number: number * 0.01)
    for index in case.order:
        if index in reactor.attempts:
            reactor.loop_clock.advance(data.draw(pauses))
            reactor.settle(index, ok(index) if case.successes[index] else failed(str(index)))
            reactor.loop_clock.advance(data.draw(pauses))
            reactor.turn()
    reactor.loop_clock.advance(data.draw(pauses))
    reactor.turn()
    request.exchange.close()
    record = record_of(request)
    line = timeline(record)
    hold_together(record, line)
    reasons(record, line)
    expected = contract(case)
    (need,) = line.needs
    assert need.state == ("resumed" if expected.fails_with is None else "failed")
    for effect in need.effects:
        if effect.index in expected.cancelled:
            assert effect.end == "cancelled"
        elif effect.index in expected.values:
            assert (effect.end, effect.late) == ("ok", False)
        elif effect.index in expected.errors:
            assert effect.end == "failed"
    if expected.fails_with is not None and case.join in ("all", "all_required"):
        assert need.effects[expected.fails_with].critical


def effect(name: str, **options: Any) -> Effect[Any]:
    options = {"idempotent": True, "required": True, **options}
    return Effect(family="test", op=name, target="test:" + name, args=name, **options)


def asks(reactor: Reactor, *effects: Effect[Any], **options: Any) -> Asked:
    def asking(ctx: CtxView) -> Decision:
        return Need(effects, then=ends, **options)

    return reactor.begin(asking)


def told(request: Asked) -> tuple[Timeline, list[str]]:
    request.exchange.close()
    record = record_of(request)
    line = timeline(record)
    hold_together(record, line)
    return line, reasons(record, line)


def by_name(line: Timeline) -> dict[str, EffectSpan]:
    return {one.note.op: one for need in line.needs for one in need.effects}


def bars(line: Timeline, kind: str) -> list[tuple[str, int, int]]:
    return [
        (bar.kind, bar.start_ns // MS, bar.end_ns // MS)
        for row in waterfall(line)
        if row.kind == kind
        for bar in row.bars
    ]


def wait(reactor: Reactor, seconds: float) -> None:
    reactor.loop_clock.advance(seconds)
    reactor.turn()


def settle(reactor: Reactor, name: str, outcome: Any) -> None:
    reactor.settle(name, outcome)
    reactor.turn()


AWAY = Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, "no connection"), retryable=True)


def test_the_effect_that_the_join_waited_for_is_on_the_critical_path() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("short"), effect("long"))
    wait(reactor, 0.1)
    settle(reactor, "short", ok())
    wait(reactor, 0.2)
    settle(reactor, "long", ok())
    line, said = told(request)
    assert [(one.kind, one.name, one.took_ns // MS) for one in line.critical] == [("run", "test.long", 300)]
    assert not by_name(line)["short"].critical
    assert said == ["test.long took 300 ms, 100 % of the request"]


def test_effects_in_sequence_are_all_on_it() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("one"), effect("two"), mode="sequential")
    wait(reactor, 0.1)
    settle(reactor, "one", ok())
    wait(reactor, 0.2)
    settle(reactor, "two", ok())
    line, _ = told(request)
    assert [(one.name, one.took_ns // MS) for one in line.critical] == [("test.one", 100), ("test.two", 200)]


def test_a_retry_is_told_with_both_attempts_and_the_wait() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("flaky", retry=Retry(attempts=2, base=0.2)))
    wait(reactor, 0.5)
    settle(reactor, "flaky", AWAY)
    wait(reactor, 0.15)
    wait(reactor, 0.05)
    settle(reactor, "flaky", ok())
    line, said = told(request)
    first, second = by_name(line)["flaky"].attempts
    assert (first.number, first.start_ns, first.end_ns, first.wait_ns // MS) == (1, 0, 500 * MS, 100)
    assert first.error is not None
    assert first.error.what == "no connection"
    assert (second.number, second.error) == (2, None)
    assert [one.kind for one in line.critical] == ["run", "retry", "run"]
    assert bars(line, "effect") == [("failed", 0, 500), ("retry", 500, 600), ("run", 600, 700)]
    assert (
        "test.flaky: attempt 1 failed after 500 ms (UPSTREAM_UNAVAILABLE: no connection); tried again 100 ms later"
    ) in said
    assert "test.flaky: attempt 2 of test:flaky succeeded after 100 ms" in said


def test_a_retry_that_the_breaker_refuses_is_no_attempt_and_its_wait_is_a_wait() -> None:
    reactor = Reactor()
    for _ in range(4):
        asks(reactor, effect("down"))
        settle(reactor, "down", AWAY)
    request = asks(reactor, effect("down", retry=Retry(attempts=2, base=0.2), required=False))
    wait(reactor, 0.1)
    settle(reactor, "down", AWAY)  # the fifth: it opens
    wait(reactor, 0.1)
    line, said = told(request)
    assert by_name(line)["down"].not_again
    assert [(one.kind, one.took_ns // MS) for one in line.critical] == [("run", 100), ("retry", 100)]
    assert bars(line, "effect") == [("failed", 0, 100), ("retry", 100, 200)]
    assert "test.down waited to be tried again: 100 ms, 50 % of the request" in said
    assert (
        "test.down: attempt 1 failed after 100 ms (UPSTREAM_UNAVAILABLE: no connection); to be tried again 100 ms later"
    ) in said
    assert any(
        one.startswith("test.down (optional) was not tried again: UPSTREAM_UNAVAILABLE: test.down") for one in said
    )


def test_attempts_that_failed_show_as_such_the_last_one_too_and_however_short() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("flaky", retry=Retry(attempts=2, base=0.2), required=False))
    wait(reactor, 0.001)
    settle(reactor, "flaky", AWAY)
    wait(reactor, 0.1)
    wait(reactor, 0.001)
    settle(reactor, "flaky", AWAY)
    line, said = told(request)
    assert [kind for kind, _, _ in bars(line, "effect")] == ["failed", "retry", "failed"]
    (row,) = [row for row in trace_page(record_of(request), lambda text, _: text) if row.startswith(" > test.flaky")]
    assert re.search(r"flaky +x-+x ", row), row
    assert any(one.startswith("test.flaky: attempt 2 of test:flaky failed for good after ") for one in said)


def test_a_short_wait_between_long_attempts_shows() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("slow", retry=Retry(attempts=2, base=0.02), timeout=2.0))
    wait(reactor, 1)
    settle(reactor, "slow", AWAY)
    wait(reactor, 0.01)
    wait(reactor, 1)
    settle(reactor, "slow", ok())
    told(request)
    (row,) = [row for row in trace_page(record_of(request), lambda text, _: text) if row.startswith(" > test.slow")]
    assert re.search(r"slow +x+-▓+ ", row), row


def test_one_that_the_request_did_without_is_told_as_optional() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("extra", required=False))
    wait(reactor, 0.2)
    settle(reactor, "extra", AWAY)
    _, said = told(request)
    assert "test.extra (optional) failed after 200 ms: UPSTREAM_UNAVAILABLE: no connection" in said


def test_what_the_join_dropped_was_late_or_went_on_is_told_as_such() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("needed"), effect("extra", required=False), join="all_required")
    wait(reactor, 0.1)
    settle(reactor, "needed", ok())
    line, said = told(request)
    assert by_name(line)["extra"].end == "cancelled"
    assert "test.extra (optional) was dropped by the join (all_required), after 100 ms" in said

    reactor = Reactor()
    request = asks(reactor, effect("needed"), effect("extra", required=False), join="all_required", detach=True)
    wait(reactor, 0.1)
    settle(reactor, "needed", ok())
    wait(reactor, 0.2)
    settle(reactor, "extra", ok())
    line, said = told(request)
    assert (by_name(line)["extra"].end, by_name(line)["extra"].late) == ("ok", True)
    assert "test.extra (optional) went on in the background, and ended 200 ms after the join" in said
    assert [row.detached for row in waterfall(line) if row.kind == "effect"] == [False, True]

    reactor = Reactor()
    request = asks(reactor, effect("needed"), effect("extra", required=False), join="all_required", detach=True)
    settle(reactor, "needed", ok())
    line, said = told(request)
    assert by_name(line)["extra"].end == "unfinished"
    assert "test.extra (optional) went on in the background" in said


def test_a_request_past_its_deadline_tells_what_it_waited_for() -> None:
    reactor = Reactor()

    def asking(ctx: CtxView) -> Decision:
        return Need([effect("hangs", timeout=9.0)], then=ends)

    request = reactor.begin(asking, deadline=0.5)
    for _ in range(20):
        wait(reactor, 0.05)
    line, said = told(request)
    assert by_name(line)["hangs"].end in ("cancelled", "failed")
    assert said[0].startswith("answered 504 TIMEOUT: ")
    assert line.critical[0].name == "test.hangs"


def test_a_breaker_that_opens_and_what_it_refuses_are_told() -> None:
    reactor = Reactor()
    requests: list[Asked] = []
    for _ in range(5):
        requests.append(asks(reactor, effect("down")))
        settle(reactor, "down", AWAY)
    line, said = told(requests[-1])
    assert by_name(line)["down"].breaker[0].after == "open"
    assert "test.down: the breaker of test:down went from closed to open" in said
    line, said = told(asks(reactor, effect("down")))
    assert by_name(line)["down"].attempts == ()
    assert any(one.startswith("test.down was not tried: ") for one in said)


def test_a_failed_need_names_the_step_and_the_effect() -> None:
    reactor = Reactor()
    request = asks(reactor, effect("one"), effect("two"))
    settle(reactor, "two", failed("it is broken"))
    _, said = told(request)
    assert said[0] == "answered 502 UPSTREAM_UNAVAILABLE: it is broken, as step asking requires test.two"
    assert any("test.one was cancelled, as the Need had failed" in one for one in said)


def test_an_exception_in_a_step_is_told_as_such_and_where_its_traceback_is() -> None:
    def breaks(ctx: CtxView) -> Decision:
        raise ValueError("a bug")

    def gives_up(ctx: CtxView) -> Decision:
        return Fail(ErrorKind.INTERNAL, "step gives_up failed")

    raised = "step breaks raised an exception: its traceback is in the log, under the id of the request"
    _, said = told(Reactor().begin(breaks))
    assert said[:2] == ["answered 500 INTERNAL: step breaks failed, in step breaks", raised]
    _, said = told(Reactor().begin(gives_up))
    assert said[0] == "answered 500 INTERNAL: step gives_up failed, in step gives_up"
    assert not any("raised" in one for one in said)


def test_a_wait_for_a_place_is_told_apart_from_the_attempt() -> None:
    reactor = Reactor()
    requests = []
    for number in range(65):
        one = Effect(family="test", op="busy", target="test:busy", args=number, idempotent=True, timeout=5.0)
        requests.append(asks(reactor, one))
    wait(reactor, 0.3)
    reactor.settle(0, ok())
    reactor.turn()
    wait(reactor, 0.1)
    reactor.settle(64, ok())
    reactor.turn()
    line, said = told(requests[64])
    assert [(one.kind, one.took_ns // MS) for one in line.critical] == [("place", 300), ("run", 100)]
    assert bars(line, "effect") == [("place", 0, 300), ("run", 300, 400)]
    assert "test.busy: attempt 1 waited 300 ms for a place at test:busy" in said
    assert queues(line) == "0 us before its first step, 300 ms for places, 0 us for its turn"


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0 us"), (850_000, "850 us"), (999_600, "1 ms"), (12_345_678, "12.3 ms"), (999_600_000, "1.00 s"),
     (1_314_000_000, "1.31 s"), (100_000_000_000, "100 s")],
)  # fmt: skip
def test_durations_read_well(ns: int, text: str) -> None:
    assert duration(ns) == text
