"""Steps through the interpreter: decisions, continuations, bugs, deadlines, exits, ends."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Callable
from typing import Any, Never

import pytest
from interpreter_driver import SECOND, Driver, FakeSources, effect, failed, indexes, ok, render

from zerver import AppError, Continue, CtxView, Decision, Done, Error, ErrorKind, Fail, Need, Request, Response, Slot
from zerver.execution import Execution, Phase
from zerver.interpreter import advance
from zerver.need import need
from zerver.signals import (
    CancelEffect,
    Cancelled,
    Closed,
    DeadlinePassed,
    GoOn,
    Input,
    ReportBug,
    Respond,
    Settled,
    Start,
    StartEffect,
)
from zerver.surroundings import Surroundings
from zerver.trace.events import MOST_EVENTS, QUICK_NS


class A(Slot[str]):
    """Something."""


class B(Slot[int]):
    """Something else."""


class Count(Slot[int]):
    """How often."""


def go_on(ctx: CtxView) -> Decision:
    return Continue()


def end(ctx: CtxView) -> Decision:
    return Done.text("the end")


def ask(ctx: CtxView[Never, A]) -> Decision:
    return Need([effect(A)])


# --- Decisions


def test_continue_goes_on_with_the_next_step_until_one_ends() -> None:
    driver = Driver(go_on, go_on, end, go_on)
    assert driver.start() == [Respond(Done.text("the end").response)]
    assert driver.names("StepStart") == ["go_on", "go_on", "end"]
    assert driver.phase is Phase.ENDED


def test_slots_pass_from_step_to_step() -> None:
    def write(ctx: CtxView[Never, A | B]) -> Decision:
        ctx.put(A, "x")
        ctx.put(B, 1)
        return Continue()

    def read(ctx: CtxView[A | B]) -> Decision:
        return Done.text(f"{ctx.require(A)} {ctx.optional(B)}")

    assert Driver(write, read).answer() == Done.text("x 1").response


def test_fail_is_rendered_with_all_it_says_and_is_no_bug() -> None:
    rendered: list[tuple[Error, Request, BaseException | None]] = []

    def note(error: Error, request: Request, exception: BaseException | None) -> Response:
        rendered.append((error, request, exception))
        return Response(418)

    def refuse(ctx: CtxView) -> Decision:
        return Fail(ErrorKind.CONFLICT, "taken", "todo.7", {"by": 3}, 2.5)

    driver = Driver(refuse, end, render=note)
    driver.answer()
    assert driver.status == 418
    assert rendered == [
        (Error(ErrorKind.CONFLICT, "taken", "todo.7", {"by": 3}, 2.5), driver.run.request, None),
    ]
    assert driver.bugs == []
    assert driver.of("Fail")[0].detail == rendered[0][0]


def test_a_need_without_then_goes_on_with_the_next_step() -> None:
    driver = Driver(ask, end)
    (start,) = driver.start()
    assert start == StartEffect(1, 0, effect(A))
    driver.settle(0, ok("a"))
    assert driver.body == b"the end"
    assert driver.names("StepStart") == ["ask", "end"]


def show(ctx: CtxView[A]) -> Decision:
    return Done.text(ctx.require(A))


def test_a_need_with_then_goes_on_with_its_continuation_and_never_with_the_next_step() -> None:
    def ask_then(ctx: CtxView[Never, A]) -> Decision:
        return Need([effect(A)], then=show)

    driver = Driver(ask_then, end)
    driver.answer(ok("shown"))
    assert driver.body == b"shown"
    assert driver.names("ContinuationStart") == ["show"]
    assert driver.names("StepStart")[-1] == "show"


def test_continue_from_a_continuation_goes_on_after_the_step_that_asked() -> None:
    def ask_then(ctx: CtxView[Never, A]) -> Decision:
        return Need([effect(A)], then=look)

    def look(ctx: CtxView[A]) -> Decision:
        return Need([], then=look_again)

    def look_again(ctx: CtxView[A]) -> Decision:
        return Continue()

    driver = Driver(go_on, ask_then, go_on, end)
    driver.answer(ok("a"))
    assert [name.rpartition(".")[2] for name in driver.names("StepStart")] == [
        "go_on", "ask_then", "look", "look_again", "go_on", "end",
    ]  # fmt: skip


def test_a_need_without_then_from_a_continuation_goes_on_after_the_step_that_asked() -> None:
    def ask_then(ctx: CtxView) -> Decision:
        return Need([], then=ask_more)

    def ask_more(ctx: CtxView[Never, A]) -> Decision:
        return Need([effect(A)])

    driver = Driver(ask_then, go_on, end)
    driver.answer(ok("a"))
    assert driver.names("StepStart")[-2:] == ["go_on", "end"]


def test_a_continuation_may_ask_again_as_often_as_it_likes() -> None:
    left = 5

    def ask_first(ctx: CtxView) -> Decision:
        return Need([effect()], then=again)

    def again(ctx: CtxView) -> Decision:
        nonlocal left
        left -= 1
        return Need([effect()], then=again) if left else Done.text("enough")

    driver = Driver(ask_first)
    driver.answer(*[ok()] * 5)
    assert driver.body == b"enough"
    assert [event.need for event in driver.of("NeedScheduled")] == [1, 2, 3, 4, 5]


def test_a_continuation_made_by_the_step_may_ask_itself_again_into_its_own_slot() -> None:
    """It is the one writer of its slot, however often it runs."""

    def poll_first(ctx: CtxView) -> Decision:
        def poll(ctx: CtxView[Count, Count]) -> Decision:
            count = ctx.optional(Count)
            ctx.put(Count, 1 if count is None else count + 1)
            return Need([effect(Count)], then=poll) if count != 3 else Done.json(count)

        return Need([], then=poll)

    driver = Driver(poll_first)
    driver.answer(ok(1), ok(2), ok(3))
    assert (driver.body, driver.bugs) == (b"3", [])


class Poller:
    """A continuation that is a method."""

    def __init__(self, until: int) -> None:
        self.until = until

    def first(self, ctx: CtxView) -> Decision:
        return Need([], then=self.poll)

    def poll(self, ctx: CtxView[Count, Count]) -> Decision:
        count = ctx.optional(Count)
        return Done.json(count) if count == self.until else Need([effect(Count)], then=self.poll)


def test_methods_of_two_objects_at_the_same_time_do_not_disturb_each_other() -> None:
    one, other = Driver(Poller(2).first), Driver(Poller(3).first)
    one.start(), other.start()
    for count in (1, 2, 3):
        for driver in (one, other):
            if driver.phase is Phase.WAITING:
                driver.settle(0, ok(count))
    assert [(driver.body, driver.bugs) for driver in (one, other)] == [(b"2", []), (b"3", [])]


@pytest.mark.parametrize("length", [10_000])
def test_a_chain_of_continuations_of_any_length_neither_recurses_nor_piles_up(length: int) -> None:
    left = length

    def again(ctx: CtxView) -> Decision:
        nonlocal left
        left -= 1
        return Need([], then=again) if left else Done.text("enough")

    driver = Driver(again, trace=False)
    assert driver.start() == [Respond(Done.text("enough").response)]
    assert driver.run.need_id == length - 1


def test_a_chain_of_needs_that_settle_at_once_neither_recurses_nor_piles_up() -> None:
    left = 10_000

    def again(ctx: CtxView[Never, Count]) -> Decision:
        nonlocal left
        left -= 1
        return Need([effect(Count)], then=again) if left else Done.text("enough")

    driver = Driver(again, trace=False)
    driver.start()
    while driver.phase is Phase.WAITING:
        driver.settle(0, ok(left))
    assert driver.body == b"enough"
    assert len(driver.slots) == 1


def test_an_async_step_may_await_ten_thousand_needs() -> None:
    async def again(ctx: CtxView) -> Decision:
        total = 0
        for _ in range(10_000):
            total += await need(effect())
        return Done.json(total)

    driver = Driver(again, trace=False)
    driver.start()
    while driver.phase is Phase.WAITING:
        driver.settle(0, ok(1))
    assert driver.body == b"10000"


def test_the_events_of_a_request_that_goes_on_without_end_are_bounded() -> None:
    def again(ctx: CtxView) -> Decision:
        return Need([], then=again)

    driver = Driver(again, in_a_row=100)
    driver.start()
    driver.run.events = [(driver.now_ns,)] * (MOST_EVENTS - 2)
    driver.feed(GoOn())
    driver.cancel()
    driver.close()
    assert len(driver.run.events) <= MOST_EVENTS + 1, "RequestEnd is told in any case"


# --- Bugs


@pytest.mark.parametrize(
    "problem",
    [
        ValueError("secret"), KeyError("secret"), StopIteration("secret"), StopAsyncIteration("secret"),
        GeneratorExit("secret"), RecursionError("secret"), SystemExit("secret"), KeyboardInterrupt("secret"),
        asyncio.CancelledError("secret"), TimeoutError("secret"), BaseException("secret"),
        BaseExceptionGroup("secret", [KeyboardInterrupt()]), AppError("secret"),
    ],
    ids=lambda problem: type(problem).__name__,
)  # fmt: skip
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_step_that_raises_is_500_which_names_the_step_and_keeps_the_exception_for_the_log(
    problem: BaseException, form: str
) -> None:
    def sync_step(ctx: CtxView) -> Decision:
        raise problem

    async def async_step(ctx: CtxView) -> Decision:
        raise problem

    driver = Driver(sync_step if form == "sync" else async_step, end)
    driver.answer()
    assert driver.status == 500
    assert driver.body == f"step {form}_step failed".encode()
    (bug,) = driver.bugs
    assert bug.what == f"step {form}_step failed"
    assert bug.exception is not None
    # A coroutine that lets StopIteration out raises RuntimeError from it (PEP 479).
    assert problem in (bug.exception, bug.exception.__cause__)
    assert driver.names("StepStart") == [f"{form}_step"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "nothing (did you forget 'return'?)"),
        ({"a": 1}, "a dict"),
        (Done, "a StructMeta"),
        (Continue, "a StructMeta"),
        (Response(), "a Response"),
        (Error(ErrorKind.NOT_FOUND), "a Error"),
        (effect(), "a Effect"),
        (NotImplemented, "a NotImplementedType"),
    ],
    ids=["None", "dict", "Done", "Continue", "Response", "Error", "Effect", "NotImplemented"],
)
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_step_that_returns_no_decision_is_500_which_names_step_and_type(value: Any, found: str, form: str) -> None:
    def sync_step(ctx: CtxView) -> Any:
        return value

    async def async_step(ctx: CtxView) -> Any:
        return value

    driver = Driver(sync_step if form == "sync" else async_step, end)
    driver.answer()
    assert driver.status == 500
    (bug,) = driver.bugs
    assert bug == ReportBug(
        f"step {form}_step returned {found}; a step returns Continue(), Need(...), Done or Fail", None
    )


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("given", ["text", b"bytes", None, 404, Done, Response], ids=repr)
def test_a_step_that_is_done_with_no_response_is_500_which_names_step_and_type(given: Any, slow: bool) -> None:
    def show(ctx: CtxView) -> Decision:
        driver.now_ns += QUICK_NS * (2 if slow else 0)
        return Done(given)

    driver = Driver(show)
    driver.answer()
    assert driver.status == 500
    (bug,) = driver.bugs
    assert bug.what.startswith(f"step show returned Done({type(given).__name__}): give it a Response")
    assert driver.names("Done", "Fail") == [""], "it failed, and was not done"


def test_what_is_no_response_is_not_sent_after_the_deadline_either() -> None:
    def show(ctx: CtxView) -> Decision:
        driver.now_ns += 10**12
        return Done("text")  # type: ignore[arg-type]  # that is the mistake

    driver = Driver(show)
    driver.answer()
    assert driver.status == 504


def test_an_async_step_that_returns_a_coroutine_is_told_of_the_await_that_is_missing() -> None:
    async def inner() -> Decision:
        return Continue()

    async def forgets(ctx: CtxView) -> Any:
        return inner()

    driver = Driver(forgets)
    driver.answer()
    assert driver.bugs[0].what.startswith("step forgets returned a coroutine (did you forget 'await'?)")


@pytest.mark.parametrize("steps", [(), (go_on,), (go_on, ask), (go_on, go_on)])
def test_a_pipeline_without_an_end_is_500_which_names_the_last_step(steps: tuple[Any, ...]) -> None:
    driver = Driver(*steps)
    driver.answer(*[ok("a")] * steps.count(ask))
    assert driver.status == 500
    (bug,) = driver.bugs
    if steps:
        assert f"no end: step {steps[-1].__name__} went on, and none follows" in bug.what
        assert "return Done or Fail" in bug.what
    else:
        assert bug.what == "the pipeline has no steps"


def test_an_effect_into_a_slot_that_the_step_does_not_declare_is_refused_before_any_effect_starts() -> None:
    slots = [A, B]

    def undeclared(ctx: CtxView[Never, B]) -> Decision:
        return Need([effect(slot) for slot in slots])

    driver = Driver(undeclared, end)
    actions = driver.start()
    assert indexes(actions, StartEffect) == []
    assert driver.status == 500
    (bug,) = driver.bugs
    assert "step undeclared: effect test.do into A" in bug.what
    assert "CtxView[..., A | B]" in bug.what


def test_an_effect_into_a_slot_that_another_step_has_written_is_refused_before_any_effect_starts() -> None:
    def write(ctx: CtxView[Never, A]) -> Decision:
        ctx.put(A, "mine")
        return Continue()

    driver = Driver(write, ask, end)
    assert indexes(driver.start(), StartEffect) == []
    (bug,) = driver.bugs
    assert "step ask: effect test.do into A" in bug.what
    assert "step write has written" in bug.what
    assert driver.slots == {"A": "mine"}


def test_a_put_into_a_slot_that_another_step_has_written_is_500() -> None:
    def write(ctx: CtxView[Never, A]) -> Decision:
        ctx.put(A, "mine")
        return Continue()

    def steal(ctx: CtxView[Never, A]) -> Decision:
        ctx.put(A, "yours")
        return Continue()

    driver = Driver(write, steal, end)
    driver.answer()
    assert driver.status == 500
    assert "step steal writes slot A, which step write has written" in str(driver.bugs[0].exception)
    assert driver.slots == {"A": "mine"}


def test_the_step_that_wrote_a_slot_may_overwrite_it_also_by_an_effect() -> None:
    def write(ctx: CtxView[Never, A]) -> Decision:
        ctx.put(A, "first")
        ctx.put(A, "second")
        return Need([effect(A)])

    driver = Driver(write, end)
    driver.start()
    assert driver.slots == {"A": "second"}
    driver.settle(0, ok("third"))
    assert driver.slots == {"A": "third"}


def two_arguments(ctx: CtxView, more: int) -> Decision:
    return Continue()


def not_annotated(ctx) -> Decision:  # type: ignore[no-untyped-def]
    return Continue()


class Unreadable:
    """Callable, and whatever one asks it for, it fails."""

    def __call__(self, ctx: CtxView) -> Decision:
        return Continue()

    @property
    def __signature__(self) -> Any:
        raise ZeroDivisionError("nobody reads me")


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (two_arguments, "exactly one argument"),
        (not_annotated, "annotate its parameter"),
        (print, "exactly one argument"),
        (dict.get, ""),
        (int, "is not a step"),
        (Unreadable(), "nobody reads me"),
    ],
    ids=["two_arguments", "not_annotated", "print", "dict.get", "int", "Unreadable"],
)
def test_a_continuation_that_is_no_step_is_refused_before_any_effect_starts(then: Any, reason: str) -> None:
    def ask_then(ctx: CtxView) -> Decision:
        return Need([effect()], then=then)

    driver = Driver(ask_then, end)
    assert indexes(driver.start(), StartEffect) == []
    assert driver.status == 500
    (bug,) = driver.bugs
    assert bug.what == "step ask_then: its continuation cannot run"
    assert bug.exception is not None
    assert reason in str(bug.exception)


def test_no_file_path_and_no_exception_text_reaches_the_client() -> None:
    def ask_then(ctx: CtxView) -> Decision:
        return Need([effect()], then=two_arguments)

    def raises(ctx: CtxView) -> Decision:
        raise ValueError("the password is 1234")

    for step in (ask_then, raises):
        driver = Driver(step)
        driver.answer()
        assert driver.status == 500
        assert b".py" not in driver.body
        assert b"1234" not in driver.body


# --- Bad input


def test_bad_input_ends_the_request_as_fail_and_is_no_bug() -> None:
    def parse(ctx: CtxView) -> Decision:
        ctx.query("limit", int)
        return Continue()

    driver = Driver(parse, end, request=Request("GET", "/", b"limit=many", id="r1"))
    driver.answer()
    assert (driver.status, driver.bugs) == (422, [])
    assert b"limit" in driver.body


def test_a_step_cannot_swallow_bad_input_with_except_exception() -> None:
    def parse(ctx: CtxView) -> Decision:
        try:
            ctx.json()
        except Exception:
            return Done.text("swallowed")
        return Continue()

    driver = Driver(
        parse, end, request=Request("POST", "/", b"", ((b"content-type", b"application/json"),), b"{", id="r1")
    )
    driver.answer()
    assert driver.status == 400


async def parse_async(ctx: CtxView) -> Decision:
    ctx.query("limit", int)
    return Continue()


def test_bad_input_in_an_async_step_is_the_same() -> None:
    driver = Driver(parse_async, end)
    driver.answer()
    assert (driver.status, driver.bugs) == (422, [])


# --- Renderer


def test_a_renderer_that_raises_is_reported_and_the_client_still_gets_a_plain_500() -> None:
    def refuse(ctx: CtxView) -> Decision:
        return Fail(ErrorKind.NOT_FOUND)

    problem = KeyboardInterrupt()

    def broken(error: Error, request: Request, exception: BaseException | None) -> Response:
        raise problem

    driver = Driver(refuse, render=broken)
    assert driver.start() == [
        ReportBug("the error renderer failed", problem),
        Respond(
            Response(500, (("content-type", "text/plain; charset=utf-8"),), b"Internal Server Error"),
        ),
    ]


def test_a_renderer_that_returns_no_response_is_reported_and_the_client_still_gets_a_plain_500() -> None:
    def refuse(ctx: CtxView) -> Decision:
        return Fail(ErrorKind.NOT_FOUND)

    driver = Driver(refuse, render=lambda error, request, exception: None)
    driver.answer()
    assert (driver.status, driver.body) == (500, b"Internal Server Error")
    assert "NoneType" in str(driver.bugs[0].exception)


def test_the_renderer_gets_the_exception_behind_a_bug() -> None:
    seen: list[BaseException | None] = []

    def note(error: Error, request: Request, exception: BaseException | None) -> Response:
        seen.append(exception)
        return render(error, request, exception)

    problem = ValueError("x")

    def raises(ctx: CtxView) -> Decision:
        raise problem

    driver = Driver(raises, render=note)
    driver.answer()
    assert seen == [problem]


# --- Time and randomness


def test_now_random_and_uuid_are_recorded_in_order() -> None:
    def use(ctx: CtxView) -> Decision:
        assert ctx.random() < 1
        ctx.uuid()
        return Continue()

    def use_more(ctx: CtxView) -> Decision:
        return Done.json([ctx.now(), ctx.random()])

    driver = Driver(use, use_more)
    driver.answer()
    given = driver.run.given
    assert given is not None
    assert [kind for kind, _ in given] == ["random", "uuid", "now", "random"]
    assert [given[0][1], given[3][1]] == [0.001, 0.004]


def test_elapsed_and_deadline_are_fixed_while_a_step_runs_and_move_between_steps() -> None:
    seen: list[tuple[float, float]] = []

    def look(ctx: CtxView) -> Decision:
        seen.append((ctx.elapsed, ctx.deadline))
        driver.pass_time(1.5)
        seen.append((ctx.elapsed, ctx.deadline))
        return Continue()

    driver = Driver(look, look, end, deadline=10.0)
    driver.pass_time(2)
    driver.start()
    assert seen == [(2.0, 8.0), (2.0, 8.0), (3.5, 6.5), (3.5, 6.5)]


# --- The deadline


def late(ctx: CtxView) -> Decision:
    return Done.text("too late")


TIMED_OUT = (504, b"the request took longer than its deadline of 2 s")


@pytest.mark.parametrize("seconds", [2.0, 2.5])
def test_a_deadline_that_is_over_before_the_start_is_504_and_no_step_runs(seconds: float) -> None:
    driver = Driver(end, deadline=2.0)
    driver.pass_time(seconds)
    driver.start()
    assert (driver.status, driver.body) == TIMED_OUT
    assert driver.of("StepStart") == []


@pytest.mark.parametrize(
    "decision",
    [Done.text("late"), Continue(), Need([effect()]), Need([]), Fail(ErrorKind.NOT_FOUND)],
    ids=lambda decision: type(decision).__name__,
)
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_step_that_returns_too_late_is_504(decision: Any, form: str) -> None:
    def sync_step(ctx: CtxView) -> Decision:
        driver.pass_time(2)
        return decision  # type: ignore[no-any-return]

    async def async_step(ctx: CtxView) -> Decision:
        driver.pass_time(2)
        return decision  # type: ignore[no-any-return]

    driver = Driver(sync_step if form == "sync" else async_step, end, deadline=2.0)
    actions = driver.start()
    assert [type(action) for action in actions] == [Respond]
    assert (driver.status, driver.body) == TIMED_OUT
    assert driver.names("StepEnd") == [f"{form}_step"]


def test_a_step_that_finds_bad_input_too_late_is_504() -> None:
    def parse(ctx: CtxView) -> Decision:
        driver.pass_time(2)
        ctx.query("missing")
        return Continue()

    driver = Driver(parse, deadline=2.0)
    driver.start()
    assert (driver.status, driver.bugs) == (504, [])


def test_a_step_that_raises_too_late_is_still_a_bug() -> None:
    def raises(ctx: CtxView) -> Decision:
        driver.pass_time(2)
        raise ValueError

    driver = Driver(raises, deadline=2.0)
    driver.start()
    assert (driver.status, len(driver.bugs)) == (500, 1)


def test_one_nanosecond_before_the_deadline_is_in_time() -> None:
    def just(ctx: CtxView) -> Decision:
        driver.now_ns = driver.run.deadline_ns - 1
        return Done.text("in time")

    driver = Driver(just)
    driver.start()
    assert driver.body == b"in time"


def test_the_deadline_while_waiting_is_504_and_cancels_what_is_in_flight() -> None:
    driver = Driver(ask, end, deadline=2.0)
    driver.start()
    actions = driver.deadline_passes()
    assert indexes(actions, CancelEffect) == [0]
    assert (driver.status, driver.body) == TIMED_OUT
    assert driver.settle(0, ok("late")) == []
    assert driver.slots == {}


@pytest.mark.parametrize("outcome", [ok("a"), failed("upstream down")], ids=["success", "failure"])
def test_a_need_that_resolves_after_the_deadline_is_504_whatever_its_outcome(outcome: Any) -> None:
    """The engine's timer may be late; the clock decides."""
    driver = Driver(ask, end, deadline=2.0)
    driver.start()
    driver.pass_time(2)
    driver.settle(0, outcome)
    assert (driver.status, driver.body) == TIMED_OUT
    assert driver.names("StepStart") == ["ask"]


def test_the_deadline_after_the_end_changes_nothing() -> None:
    driver = Driver(end)
    driver.start()
    assert driver.deadline_passes() == []
    assert driver.run.dropped == 1


# --- Ends


def test_cancelled_while_waiting_answers_nothing_and_cancels_the_effects() -> None:
    driver = Driver(ask, end)
    driver.start()
    actions = driver.cancel()
    assert indexes(actions, CancelEffect) == [0]
    assert driver.response is None
    assert driver.of("Fail")[0].detail == "the client has gone"


@pytest.mark.parametrize("last", ["close", "cancel", "deadline_passes", "start"])
def test_what_comes_after_closed_does_nothing(last: str) -> None:
    driver = Driver(end)
    driver.answer()
    dropped = driver.run.dropped
    assert getattr(driver, last)() == []
    assert driver.phase is Phase.CLOSED
    assert driver.run.dropped == dropped + 1


def noting(ran: list[str], *names: str) -> Callable[[CtxView], Decision]:
    def register(ctx: CtxView) -> Decision:
        for name in names:
            ctx.on_exit(lambda name=name: ran.append(name))
        return Continue()

    return register


@pytest.mark.parametrize("way", ["Done", "Fail", "bug", "deadline", "cancelled", "closed"])
def test_exit_callbacks_run_once_in_reverse_order_when_the_request_is_over_however_it_ended(way: str) -> None:
    ran: list[str] = []

    def finish(ctx: CtxView) -> Any:
        return {"Done": Done.empty(), "Fail": Fail(ErrorKind.NOT_FOUND), "bug": None}.get(way, Need([effect()]))

    driver = Driver(noting(ran, "a", "b"), noting(ran, "c"), finish, end)
    driver.start()
    if way == "deadline":
        driver.deadline_passes()
    elif way == "cancelled":
        driver.cancel()
    assert ran == [], "not before it is closed"
    driver.close()
    assert ran == ["c", "b", "a"]
    driver.close()
    driver.cancel()
    assert ran == ["c", "b", "a"]
    assert len(driver.of("OnExit")) == 3
    assert len(driver.of("RequestEnd")) == 1


def test_an_exit_callback_that_raises_is_reported_and_stops_no_other() -> None:
    ran: list[str] = []

    def quit() -> None:
        raise SystemExit

    def register(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: ran.append("first"))
        ctx.on_exit(quit)
        ctx.on_exit(lambda: ran.append("last"))
        return Done.empty()

    driver = Driver(register)
    driver.start()
    (bug,) = driver.close()
    assert isinstance(bug, ReportBug)
    assert bug.what.startswith("on_exit callback test_")
    assert bug.what.endswith("quit failed")
    assert isinstance(bug.exception, SystemExit)
    assert ran == ["last", "first"]


def test_an_exit_callback_that_is_async_is_reported_since_nothing_would_await_it() -> None:
    async def cleanup() -> None:
        raise AssertionError("never run")

    def register(ctx: CtxView) -> Decision:
        ctx.on_exit(cleanup)
        return Done.empty()

    driver = Driver(register)
    driver.start()
    (bug,) = driver.close()
    assert isinstance(bug, ReportBug)
    assert "cleanup failed" in bug.what
    assert "async" in str(bug.exception)


def test_an_exit_callback_may_register_another_which_runs_next() -> None:
    ran: list[str] = []

    def register(ctx: CtxView) -> Decision:
        def again() -> None:
            ran.append("again")
            ctx.on_exit(lambda: ran.append("one more"))

        ctx.on_exit(lambda: ran.append("first"))
        ctx.on_exit(again)
        return Done.empty()

    driver = Driver(register)
    driver.answer()
    assert ran == ["again", "one more", "first"]


# --- Trace and state


def test_the_trace_tells_the_whole_way_in_order() -> None:
    def ask_then(ctx: CtxView[Never, A]) -> Decision:
        return Need([effect(A)], then=show)

    driver = Driver(go_on, ask_then)
    driver.start()
    driver.pass_time(0.25)
    driver.settle(0, ok("a"))
    driver.close()
    start = 1_000 * SECOND
    assert [(event.kind.name, event.at_ns - start, event.name, event.need) for event in driver.events] == [
        ("RequestStart", 0, "/", 0),
        ("StepStart", 0, "go_on", 0),
        ("StepEnd", 0, "go_on", 0),
        ("StepStart", 0, "ask_then", 0),
        ("StepEnd", 0, "ask_then", 0),
        ("NeedScheduled", 0, "ask_then", 1),
        ("JoinSatisfied", SECOND // 4, "", 1),
        ("ContinuationStart", SECOND // 4, "show", 1),
        ("StepStart", SECOND // 4, "show", 1),
        ("StepEnd", SECOND // 4, "show", 1),
        ("Done", SECOND // 4, "show", 1),
        ("RequestEnd", SECOND // 4, "", 1),
    ]
    assert [event.detail for event in driver.of("StepEnd")] == ["Continue", "Need", "Done"]
    assert {event.effect for event in driver.events} == {-1}, "of no effect"


def test_the_state_is_told_in_one_line() -> None:
    driver = Driver(ask, request=Request("GET", "/todos/1", id="r7"))
    assert repr(driver.run) == "<Execution r7 GET /todos/1: new, need 0>"
    driver.start()
    assert repr(driver.run) == "<Execution r7 GET /todos/1: waiting for effects, need 1>"


def asks_in_a_closure(ctx: CtxView[Never, A]) -> Decision:
    here = ctx.elapsed

    def shown(ctx: CtxView[A]) -> Decision:
        ctx.on_exit(lambda: None)
        return Done.json([ctx.require(A), here])

    return Need([effect(A), effect(required=False)], join="all_required", then=shown)


async def asks_and_awaits(ctx: CtxView[Never, B]) -> Decision:
    await need(effect(B))
    return Continue()


def shows(here: float, ctx: CtxView[A]) -> Decision:
    return Done.json([ctx.require(A), here])


class Shows:
    def __init__(self, here: float) -> None:
        self.here = here

    def __call__(self, ctx: CtxView[A]) -> Decision:
        return Done.json([ctx.require(A), self.here])

    def method(self, ctx: CtxView[A]) -> Decision:
        return self(ctx)


def asks_in(form: str) -> Callable[[CtxView[Never, A]], Decision]:
    def ask_in_form(ctx: CtxView[Never, A]) -> Decision:
        here = ctx.elapsed
        then: Any = {"partial": functools.partial(shows, here), "object": Shows(here), "method": Shows(here).method}[
            form
        ]
        return Need([effect(A)], then=then)

    return ask_in_form


@pytest.mark.parametrize("form", ["partial", "object", "method"])
def test_a_continuation_may_be_made_for_one_request_in_any_form(form: str) -> None:
    for _ in range(2):
        driver = Driver(asks_in(form))
        driver.answer(ok("a"))
        assert (driver.body, driver.bugs) == (b'["a",0.0]', [])


def test_a_request_leaves_nothing_to_the_garbage_collector() -> None:
    """No reference cycles: what a request held is gone when the engine lets go of it."""
    model = Driver(asks_and_awaits, asks_in_a_closure)
    forms = [Driver(asks_in(form)).run.steps for form in ("partial", "object", "method")]
    around = Surroundings(clock=lambda: 0, sources=FakeSources(), render=render)

    def run(*inputs: Input, steps: Any = model.run.steps) -> None:
        execution = Execution(steps, model.run.request, around, 0, 1)
        for event in (Start(), *inputs, Closed()):
            advance(execution, event)
        assert execution.phase is Phase.CLOSED

    def run_all() -> None:
        for steps in forms:
            run(Settled(1, 0, 1, ok("a")), steps=steps)
        run(Settled(1, 0, 1, ok(1)), Settled(2, 0, 1, ok("a")))
        run(Settled(1, 0, 1, ok(1)), Settled(2, 0, 1, failed()))
        run(Settled(1, 0, 1, failed()))
        run(DeadlinePassed())
        run(Cancelled("gone"))

    run_all()
    gc.collect()
    gc.disable()
    try:
        run_all()
        assert gc.collect() == 0
    finally:
        gc.enable()
