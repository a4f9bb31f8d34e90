"""The dispatcher: an effect settles once, whoever calls back at the worst moment; what is told of it."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from dispatcher_kit import BUSY, GONE, ONE_PLACE, RETRY, Ask, Exit, Run, World, breaker

from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.breaker import StateChange
from zerver_runtime.reactor.budget import RetryBudget
from zerver_runtime.reactor.bulkhead import BulkheadPolicy
from zerver_runtime.reactor.effector import Policy, Retrying
from zerver_runtime.reactor.ticket import Scope

# --- An effect settles


def test_an_effect_settles_once_with_its_interpreted_value() -> None:
    world = World(Policy(timeout=1.0))
    world.interpret = lambda effect, value: Success((effect.family, value))
    world.start("a")
    assert world.settled == []
    world.http.runs[0].answer(Success("raw"))
    assert world.settled == [("a", 1, Success(("http", "raw")))]
    world.clean()


def test_an_effect_that_is_answered_at_once_settles_within_start_and_sets_no_timer() -> None:
    world = World(Policy(timeout=1.0, breaker=breaker(), bulkhead=ONE_PLACE))
    world.http.on_start = Run.answer
    world.start("a", deadline=10.0)
    assert (world.settled, world.timers) == ([("a", 1, Success("a"))], 0)
    world.clean()


def test_an_effect_without_time_out_and_deadline_needs_no_timer() -> None:
    world = World()
    world.start("a")
    world.clock.advance(1e6)
    assert world.timers == 0
    world.http.runs[0].answer()
    world.clean()


def test_a_failure_of_the_effector_is_not_interpreted() -> None:
    world = World()
    world.interpret = lambda effect, value: pytest.fail("there is nothing to interpret")
    world.start("a")
    world.http.runs[0].answer(GONE)
    assert world.settled == [("a", 1, GONE)]


def test_an_interpretation_may_turn_a_success_into_a_failure() -> None:
    world = World()
    world.interpret = lambda effect, value: GONE
    world.start("a")
    world.http.runs[0].answer()
    assert world.settled == [("a", 1, GONE)]


# --- Calling back at the worst moment


def test_a_long_chain_of_effects_that_settle_at_once_does_not_recurse() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.http.on_start = Run.answer

    def again() -> None:
        if len(world.settled) < 5000:
            world.start("next", then=again)

    world.start("first", then=again)
    assert len(world.settled) == 5000
    world.clean()


def test_a_long_queue_of_effects_that_settle_at_once_does_not_recurse() -> None:
    world = World(Policy(bulkhead=BulkheadPolicy(in_flight=1, per_request=5000, queue=5000)))
    for number in range(5000):
        world.start(str(number))
    world.http.on_start = Run.answer
    world.http.runs[0].answer()
    assert [name for name, _, _ in world.settled] == [str(number) for number in range(5000)]
    world.clean()


def test_an_effect_may_be_cancelled_within_its_own_start() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    tickets = [world.start("hangs"), world.start("b")]
    world.http.on_start = lambda run: tickets[1].cancel()
    world.http.runs[0].answer()
    assert (world.http.runs[1].cancelled, world.dispatcher.in_flight, world.clock.pending) == (1, 1, 0)
    world.http.runs[1].answer()
    assert world.outcomes == {"hangs": "hangs"}
    world.clean()


@pytest.mark.parametrize("order", ["cancel, then done", "done, then cancel"])
def test_an_effect_may_be_cancelled_and_be_done_within_its_own_start(order: str) -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE, breaker=breaker()))
    tickets = [world.start("hangs"), world.start("b"), world.start("c")]

    def both(run: Run) -> None:
        if run.effect.name == "b":
            calls = [tickets[1].cancel, run.answer]
            for call in calls if order.startswith("cancel") else reversed(calls):
                call()
        else:
            run.answer()

    world.http.on_start = both
    world.http.runs[0].answer()
    assert world.outcomes == {"hangs": "hangs", "c": "c"}
    assert world.http.runs[1].cancelled == 0, "there is nothing left to cancel"
    world.clean()


def test_what_an_effector_says_a_second_time_is_counted_and_dropped() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    for at_once in (False, True):
        world.http.on_start = Run.answer if at_once else lambda run: None
        world.start(f"at once: {at_once}")
        for _ in range(2):
            world.http.runs[-1].answer(GONE)
    assert world.settled == [("at once: False", 1, GONE), ("at once: True", 1, Success("at once: True"))]
    statistics = world.dispatcher.statistics()
    assert (statistics.settled, statistics.stray) == (2, 3)
    world.clean()


def test_an_effector_that_is_done_and_then_raises_has_crashed() -> None:
    def both(run: Run) -> None:
        run.answer()
        raise ValueError("after all")

    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.http.on_start = both
    world.start("a")
    assert world.outcomes == {"a": ("crashed", "a", "ValueError", "after all")}
    world.clean()


@pytest.mark.parametrize("done_too", [False, True])
def test_an_effector_that_raises_when_nobody_waits_any_more_is_reported_on_the_loop(done_too: bool) -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE, breaker=breaker()))
    tickets = [world.start("hangs"), world.start("b")]

    def crash(run: Run) -> None:
        tickets[1].cancel()
        if done_too:
            run.answer()
        raise ValueError("nobody hears")

    world.http.on_start = crash
    world.http.runs[0].answer()
    with pytest.raises(ValueError, match="nobody hears"):
        world.clock.advance(0)
    world.clean()


def test_what_an_effector_says_after_its_start_raised_is_counted_and_dropped() -> None:
    world = World(Policy(bulkhead=ONE_PLACE))
    world.http.on_start = lambda run: 1 / 0
    world.start("a")
    world.http.runs[0].done(Success("still alive"))
    assert world.dispatcher.statistics().stray == 1
    assert len(world.settled) == 1
    world.clean()


def test_cancelling_may_make_the_effector_let_go_at_once() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE, retry=RETRY))
    world.http.on_cancel = lambda run: run.answer(GONE)
    world.start("a")
    world.start("b")
    world.clock.advance(1.0)
    assert [run.effect.name for run in world.http.runs] == ["a", "b"]
    world.clock.advance(0.5)
    world.http.runs[1].answer()
    world.http.runs[2].answer()
    assert world.settled == [("b", 1, Success("b")), ("a", 2, Success("a"))]
    assert world.dispatcher.statistics().late == 1
    world.clean()


def test_an_effect_may_be_cancelled_between_getting_its_place_and_starting() -> None:
    """The settlement of x frees the place of a, which goes to b; b is cancelled before its turn, c has it."""
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.http.on_cancel = Run.answer
    tickets = {name: world.start(name) for name in "abc"}

    def cancel_two() -> None:
        tickets["a"].cancel()
        assert len(world.http.runs) == 2, "nobody is started from within a callback"
        tickets["b"].cancel()

    world.start("x", target="http:x", then=cancel_two)
    world.http.runs[1].answer()
    assert [run.effect.name for run in world.http.runs] == ["a", "x", "c"]
    world.http.runs[2].answer()
    assert world.outcomes == {"x": "x", "c": "c"}
    world.clean()


def test_an_effect_may_be_cancelled_between_its_answer_and_its_settlement() -> None:
    world = World()
    world.http.on_start = Run.answer
    tickets = []

    def start_and_cancel() -> None:
        tickets.append(world.start("b"))
        assert [name for name, _, _ in world.settled] == ["a"], "it settles when this callback has returned"
        tickets[0].cancel()

    world.start("a", then=start_and_cancel)
    assert world.outcomes == {"a": "a"}
    assert world.dispatcher.statistics().cancelled == 1
    assert [(name, detail) for _, _, name, _, detail in world.seen("EffectCancelled")] == [("b", "settling")]
    world.clean()


def test_interpret_may_cancel_the_effect() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    ticket = world.start("a")

    def cancel(effect: Ask, value: Any) -> Success:
        ticket.cancel()
        return Success(value)

    world.interpret = cancel
    world.http.runs[0].answer()
    assert (world.settled, world.http.runs[0].cancelled) == ([], 0)
    world.clean()


def test_an_effector_may_use_the_dispatcher_within_its_start() -> None:
    world = World(Policy(timeout=1.0))
    world.http.on_start = lambda run: (
        world.start("inner", target="http:b", then=run.answer) if run.effect.name == "outer" else run.answer()
    )
    world.start("outer")
    assert [name for name, _, _ in world.settled] == ["inner", "outer"]
    world.clean()


@pytest.mark.parametrize("problem", [ValueError("mine"), Exit("mine")], ids=repr)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_settled_raises_surfaces_on_the_loop_and_harms_nobody_else(problem: BaseException, at_once: bool) -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))

    def crash() -> None:
        raise problem

    if at_once:
        world.http.on_start = Run.answer
    world.start("a", then=crash)
    world.start("b")
    if not at_once:
        world.http.runs[0].answer()
        world.http.runs[1].answer()
    assert world.outcomes == {"a": "a", "b": "b"}
    with pytest.raises(type(problem), match="mine"):
        world.clock.advance(0)
    world.clean()


@pytest.mark.parametrize("at_once", [True, False])
def test_what_an_observer_raises_at_the_end_of_an_effect_surfaces_on_the_loop_and_harms_nobody(at_once: bool) -> None:
    world = World()
    observe = world.observe

    def raises(event: str, *args: Any) -> None:
        observe(event, *args)
        if event == "ReactorEffectCompleted":
            raise LookupError("mine")

    world.dispatcher._around.observe = raises  # type: ignore[assignment]  # it is called as one
    if at_once:
        world.http.on_start = Run.answer
    for name in "ab":
        world.start(name)
        if not at_once:
            world.http.runs[-1].answer()
        with pytest.raises(LookupError, match="mine"):
            world.clock.advance(0)
    assert world.outcomes == {"a": "a", "b": "b"}
    world.clean()


def test_what_an_effectors_cancel_raises_surfaces_on_the_loop_and_the_effect_goes_on_failing() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY))
    world.http.on_cancel = lambda run: 1 / 0
    world.start("a")
    world.start("b").cancel()
    with pytest.raises(ZeroDivisionError):
        world.clock.advance(0)
    with pytest.raises(ZeroDivisionError):
        world.clock.advance(1.0)
    world.clock.advance(0.1)
    world.http.runs[2].answer()
    assert world.settled == [("a", 2, Success("a"))]


# --- Draining


def test_drained_calls_back_at_once_when_there_is_nothing_to_wait_for() -> None:
    world, calls = World(), []
    world.dispatcher.drained(lambda: calls.append("drained"))
    assert calls == ["drained"]


def test_drained_waits_for_retries_for_cancelled_attempts_and_for_what_settled_starts() -> None:
    world, calls = World(Policy(retry=RETRY)), []
    world.start("cancelled").cancel()
    world.start("a", then=lambda: world.start("b"))
    world.dispatcher.drained(lambda: calls.append("drained"))
    world.http.runs[0].answer()
    world.http.runs[1].answer(BUSY)
    assert calls == []
    world.clock.advance(0.1)
    world.http.runs[2].answer()
    assert calls == [], "b runs"
    world.http.runs[3].answer()
    assert calls == ["drained"]
    world.start("c")
    world.http.runs[4].answer()
    assert calls == ["drained"], "once"


def test_drained_calls_back_after_a_cancellation_that_leaves_nothing() -> None:
    world, calls = World(Policy(retry=RETRY)), []
    ticket = world.start("a")
    world.http.runs[0].answer(BUSY)
    world.dispatcher.drained(lambda: calls.append("drained"))
    ticket.cancel()
    assert calls == ["drained"]


# --- What is told


def test_a_retried_effect_is_observed_with_times_and_attempts() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY, breaker=breaker(failures=2), bulkhead=ONE_PLACE))
    world.start("a")
    world.clock.advance(0.25)
    world.start("b")
    world.clock.advance(0.25)
    world.http.runs[0].answer(BUSY)
    world.clock.advance(0.1)
    world.http.runs[1].answer(BUSY)
    opened = StateChange("closed", "open")
    assert world.events == [
        (0.0, "EffectStart", "a", 1, 0.0),
        (0.25, "ReactorEffectScheduled", "b", 1, None),
        (0.5, "EffectRetry", "a", 1, Retrying(0.1, "busy")),
        (0.5, "EffectStart", "b", 1, 0.25),
        (0.6, "BreakerStateChanged", "b", 1, opened),
        (0.6, "EffectRetry", "b", 1, Retrying(0.1, "busy")),
        (0.6, "ReactorEffectCompleted", "a", 2, Failure(("breaker open", "a", 5.0), retry_after=5.0)),
    ]


def test_every_change_of_a_breaker_is_observed() -> None:
    world = World(Policy(breaker=breaker()))
    world.http.on_start = lambda run: run.answer(BUSY)
    world.start("a")
    world.clock.advance(5)
    world.start("b")
    world.clock.advance(5)
    world.http.on_start = Run.answer
    world.start("c")
    changes = [(name, change.before, change.after) for _, _, name, _, change in world.seen("BreakerStateChanged")]
    assert changes == [
        ("a", "closed", "open"),
        ("b", "open", "half-open"),
        ("b", "half-open", "open"),
        ("c", "open", "half-open"),
        ("c", "half-open", "closed"),
    ]


def test_a_probe_that_changes_nothing_is_not_observed_as_a_change() -> None:
    world = World(Policy(breaker=breaker(probes=2)))
    world.start("a")
    world.http.runs[0].answer(BUSY)
    world.clock.advance(5)
    world.start("b"), world.start("c")
    assert [name for _, _, name, _, _ in world.seen("BreakerStateChanged")] == ["a", "b"]


def test_what_an_effector_gave_is_on_the_ticket_before_it_was_interpreted() -> None:
    world = World()
    world.interpret = lambda effect, value: Success(value * 2)
    ticket = world.start("a")
    world.http.runs[0].answer(Success(7))
    assert (ticket.raw, world.outcomes) == (7, {"a": 14})


def test_a_cancellation_is_observed_with_what_was_going_on_and_nothing_after_it() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY))
    running, retrying = world.start("running"), world.start("retrying")
    world.http.runs[1].answer(BUSY)
    running.cancel(), retrying.cancel()
    world.http.runs[0].answer()
    assert [(name, detail) for _, _, name, _, detail in world.seen("EffectCancelled")] == [
        ("running", "trying"),
        ("retrying", "waiting to retry"),
    ]
    assert world.seen("ReactorEffectCompleted") == []


def test_nobody_has_to_observe() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY, breaker=breaker(failures=1, cooldown=0.1), bulkhead=ONE_PLACE))
    world.dispatcher._around.observe = None
    answers = iter([BUSY, Success(1)])
    world.http.on_start = lambda run: run.answer(next(answers))
    world.start("a")
    world.clock.advance(1)
    world.http.on_start = lambda run: None
    world.start("b").cancel()
    world.start("c")  # waits for the place of the one before it
    assert world.settled == [("a", 2, Success(1))]
    assert world.events == []


def test_statistics_and_repr_tell_what_goes_on() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY))
    first = world.start("a")
    world.start("b").cancel()
    world.http.runs[0].answer(BUSY)
    statistics = world.dispatcher.statistics()
    assert (statistics.pending, statistics.in_flight, statistics.cancelled, statistics.retries) == (1, 1, 1, 1)
    assert (statistics.settled, statistics.late, statistics.stray) == (0, 0, 0)
    assert repr(world.dispatcher) == "<Dispatcher of 1 targets: 1 pending, 1 in flight>"
    assert repr(first) == "<Ticket for http:a: attempt 1 of 3, waiting to retry>"
    assert repr(Scope(RetryBudget(2))) == "<Scope <RetryBudget 2 of 2 left>>"


def test_what_is_over_leaves_nothing_for_the_garbage_collector() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY, breaker=breaker(failures=100), bulkhead=ONE_PLACE))

    def use() -> None:
        world.start("retried", deadline=50.0)
        world.start("queued").cancel()
        world.http.runs[0].answer(BUSY)
        world.clock.advance(0.5)
        world.http.runs[1].answer()
        world.start("cancelled").cancel()
        world.http.runs[2].answer()
        world.start("late")
        world.clock.advance(1)
        world.http.runs[3].answer()
        world.clock.advance(1)
        world.http.runs[4].answer()
        world.http.on_start = Run.answer
        world.start("at once")
        world.http.on_start = lambda run: None
        world.http.runs.clear()
        world.settled.clear()
        world.events.clear()
        world.clean()

    use()
    gc.collect()
    gc.disable()
    try:
        use()
        assert gc.collect() == 0
    finally:
        gc.enable()
