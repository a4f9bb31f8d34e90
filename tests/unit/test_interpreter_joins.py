"""Joins through the interpreter: what is started, cancelled, detached, written and answered, in every order."""

from __future__ import annotations

from typing import Any, Never, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter_driver import Driver, effect, failed, indexes, ok
from join_contract import SLOTS, A, B, C, Case, Form, Reads, cases, compiled, contract, forms, seen_by, value, what

from zerver import CtxView, Decision, Done, Effect, Error, Need, Slot, step
from zerver.execution import Phase
from zerver.signals import CancelEffect, DetachEffect, Respond, Settled, StartEffect
from zerver_runtime.reactor.join import Join, Mode


def hold_against_the_contract(case: Case, form: Form) -> None:
    size = len(case.required)
    expected = contract(case)
    steps, seen = compiled(case, form)
    driver = Driver(*steps)
    background = case.background
    dropped = 0

    def noise(index: int, *, need: int | None = None) -> None:
        nonlocal dropped
        before = dict(driver.slots)
        assert driver.settle(index, ok("never to be seen"), need=need) == []
        dropped += 1
        assert driver.run.dropped == dropped
        assert driver.slots == before

    def makes_noise(moment: int) -> None:
        noise(0, need=0)
        noise(0, need=2)
        noise(-1)
        noise(size)
        for index in case.order[:moment]:
            noise(index)
        if moment < expected.moment and case.mode == "sequential":
            for index in case.order[moment + 1 :]:
                noise(index)  # not started yet

    actions = driver.start()
    started = [*range(size)] if case.mode == "parallel" else [0] if expected.moment else []
    for moment in range(expected.moment):
        if case.mode == "sequential":
            started = [moment]
        assert actions == [
            StartEffect(1, index, driver.run.pending.need.effects[index], index in background)  # type: ignore[union-attr]
            for index in started
        ]
        started = []
        assert driver.phase is Phase.WAITING
        assert driver.slots == {}, "nothing is written before the resolution"
        makes_noise(moment)
        index = case.order[moment]
        actions = driver.settle(index, ok(value(index)) if case.successes[index] else failed(what(index)))

    assert indexes(actions, StartEffect) == ([*range(size)] if expected.moment == 0 and case.mode == "parallel" else [])
    assert indexes(actions, CancelEffect) == expected.cancelled
    assert indexes(actions, DetachEffect) == expected.detached
    assert driver.in_flight == {}
    assert [type(action) for action in actions][-1] is Respond
    assert driver.phase is Phase.ENDED

    assert [error.what for error in driver.run.errors] == [what(index) for index in expected.errors]
    assert seen == seen_by(case, form, expected)
    if expected.fails_with is None:
        assert driver.body == b"resumed"
        written = [(SLOTS[index].__name__, given) for index, given in expected.values.items()]
        assert list(driver.slots.items()) == written, "written in the order of the declaration"
    else:
        assert (driver.status, driver.body) == (502, what(expected.fails_with).encode())
        assert driver.slots == {}, "nothing is written when the Need fails"
    for index in range(-1, size + 1):
        noise(index)
    assert driver.bugs == []
    assert driver.close() == []
    for index in range(size):
        noise(index)
    assert len(driver.of("EffectLate")) == dropped, "and each is told of"


@pytest.mark.parametrize("size", range(4))
@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("join", get_args(Join))
def test_every_history_of_up_to_three_effects_ends_as_the_contract_says(join: Join, mode: Mode, size: int) -> None:
    """Whatever else comes in between: duplicates, late ones, ones that nobody asked for."""
    held = 0
    for number, case in enumerate(cases(size, join, mode)):
        for form in forms(size) if size < 3 else (forms(size)[number % 3],):
            hold_against_the_contract(case, form)
            held += 1
    assert held


@st.composite
def larger_cases(draw: st.DrawFn) -> Case:
    size = draw(st.integers(4, len(SLOTS)))
    flags = st.tuples(*[st.booleans()] * size)
    required, successes = draw(flags), draw(flags)
    join: Join = draw(st.sampled_from(get_args(Join)))
    mode: Mode = draw(st.sampled_from(get_args(Mode)))
    detach = join == "all_required" and (True not in required or draw(st.booleans()))
    order = tuple(draw(st.permutations(range(size)))) if mode == "parallel" else tuple(range(size))
    return Case(required, join, mode, detach, order, successes)


@settings(max_examples=60, deadline=None)
@given(larger_cases(), st.sampled_from(get_args(Form)))
def test_larger_needs_end_as_the_contract_says(case: Case, form: Form) -> None:
    hold_against_the_contract(case, form)


# --- What the table does not say


def waiting(*effects: Effect[Any], join: Join = "all", mode: Mode = "parallel", detach: bool = False) -> Driver:
    """A request that waits for these effects."""

    def ask(ctx: CtxView[Never, Reads]) -> Decision:
        return Need(effects, join=join, mode=mode, detach=detach)

    def end(ctx: CtxView) -> Decision:
        return Done.text("resumed")

    driver = Driver(ask, end)
    driver.start()
    return driver


def test_alternatives_may_share_a_slot_and_the_winner_writes_it() -> None:
    driver = waiting(effect(A), effect(A), join="first_success", mode="sequential")
    driver.settle(0, failed())
    driver.settle(1, ok("second"))
    assert driver.slots == {"A": "second"}


class Maybe(Slot[str | None]):
    """A slot that may hold None."""


@step
def asks_for_nothing(ctx: CtxView[Never, Maybe | A]) -> Decision:
    return Need([effect(Maybe), effect(A)], then=ends)


def ends(ctx: CtxView[A | Maybe]) -> Decision:
    return Done.empty()


def test_none_sets_a_slot_whose_type_has_it_and_leaves_any_other_unset() -> None:
    driver = Driver(asks_for_nothing)
    driver.start()
    driver.settle(0, ok(None))
    driver.settle(1, ok(None))
    assert driver.slots == {"Maybe": None}


def test_effects_without_a_slot_write_nothing() -> None:
    driver = waiting(effect(), effect(A))
    driver.settle(1, ok("a"))
    driver.settle(0, ok("nowhere"))
    assert driver.slots == {"A": "a"}


def test_the_errors_are_those_of_the_need_that_resolved_last() -> None:
    seen: list[tuple[Error, ...]] = []

    def look(ctx: CtxView) -> Decision:
        seen.append(ctx.errors)
        assert ctx.last_error is (ctx.errors[-1] if ctx.errors else None)
        return Need([effect(required=False)])

    def end(ctx: CtxView) -> Decision:
        seen.append(ctx.errors)
        return Done.empty()

    driver = Driver(look, look, end)
    driver.start()
    driver.settle(0, failed("first"))
    driver.settle(0, ok())
    assert [[error.what for error in errors] for errors in seen] == [[], ["first"], []]


def test_the_error_that_fails_the_request_is_the_effects_own_with_kind_key_and_retry_after() -> None:
    from zerver import ErrorKind
    from zerver_runtime.outcome import Failure

    error = Error(ErrorKind.TOO_MANY_REQUESTS, "slow down", "limit", {"status": 429}, 7.0)
    rendered: list[Error] = []

    def ask(ctx: CtxView) -> Decision:
        return Need([effect()])

    def render(error: Error, request: object, exception: BaseException | None) -> Any:
        rendered.append(error)
        return Done.text("no").response

    driver = Driver(ask, render=render)
    driver.answer(Failure(error))
    assert rendered == [error]
    assert driver.bugs == [], "an expected failure is no bug"


@pytest.mark.parametrize("garbage", [None, "broken", ValueError("broken")])
def test_a_failure_whose_error_is_not_an_error_is_internal(garbage: object) -> None:
    from zerver_runtime.outcome import Failure

    driver = waiting(effect())
    driver.settle(0, Failure(garbage))
    assert (driver.status, driver.body) == (500, b"an effect failed")


def test_an_outcome_that_is_neither_success_nor_failure_is_internal() -> None:
    driver = waiting(effect())
    garbage: Any = "not an outcome"
    driver.settle(0, garbage)
    assert driver.status == 500


def test_completions_carry_the_attempt_and_any_attempt_counts() -> None:
    driver = waiting(effect(A))
    driver.feed(Settled(1, 0, 7, ok("after retries")))
    assert driver.slots == {"A": "after retries"}


def test_a_need_takes_completions_of_its_own_number_only() -> None:
    def ask(ctx: CtxView[Never, A]) -> Decision:
        return Need([effect(A)])

    def ask_again(ctx: CtxView[Never, B]) -> Decision:
        return Need([effect(B)])

    driver = Driver(ask, ask_again)
    driver.start()
    driver.settle(0, ok("a"), need=1)
    driver.settle(0, ok("late"), need=1)
    assert driver.phase is Phase.WAITING
    assert (driver.slots, driver.run.dropped) == ({"A": "a"}, 1)
    assert driver.of("EffectLate")[0].need == 1


def test_a_late_effect_of_one_request_is_recorded_with_its_need_and_effect() -> None:
    driver = waiting(effect(A), effect(B), join="any")
    driver.settle(0, ok("a"))
    driver.settle(1, failed("too late"))
    (late,) = driver.of("EffectLate")
    assert (late.need, late.effect, late.detail) == (1, 1, failed("too late"))


def test_what_is_cancelled_is_traced_by_its_label() -> None:
    driver = waiting(effect(A), effect(B), join="any")
    driver.settle(0, ok("a"))
    (cancelled,) = driver.of("EffectCancelled")
    assert (cancelled.name, cancelled.need, cancelled.effect) == ("test.do into B", 1, 1)


@pytest.mark.parametrize("end", ["deadline_passes", "cancel", "close"])
def test_an_end_while_waiting_cancels_the_required_and_leaves_the_detached_in_the_background(end: str) -> None:
    driver = waiting(effect(A), effect(B, required=False), effect(C), join="all_required", detach=True)
    driver.settle(2, ok("c"))
    actions = getattr(driver, end)()
    assert indexes(actions, CancelEffect) == [0]
    assert indexes(actions, DetachEffect) == [1]
    assert driver.slots == {}


def test_in_sequence_an_end_while_waiting_detaches_also_what_has_not_begun() -> None:
    """With detach, every optional effect is performed, whatever becomes of the request."""
    driver = waiting(
        effect(A), effect(B, required=False), effect(C), join="all_required", mode="sequential", detach=True
    )
    actions = driver.deadline_passes()
    assert indexes(actions, CancelEffect) == [0, 2]
    assert indexes(actions, DetachEffect) == [1]


def test_compensations_are_carried_through_the_whole_pipeline() -> None:
    from zerver import Compensation

    first = Compensation("give back the stock", "on_failure", effect(op="restock"))
    second = Compensation("give back the money", "on_cancel", effect(op="refund"))

    def ask(ctx: CtxView) -> Decision:
        return Need([effect()], compensations=[first], then=ask_again)

    def ask_again(ctx: CtxView) -> Decision:
        return Need([effect()], compensations=[second])

    def end(ctx: CtxView) -> Decision:
        return Done.empty()

    driver = Driver(ask, end)
    driver.answer(ok(), ok())
    assert driver.run.compensations == (first, second)
    assert [event.detail.compensations for event in driver.of("NeedScheduled")] == [(first,), (second,)]
