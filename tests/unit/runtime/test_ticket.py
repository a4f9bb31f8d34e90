"""One effect under way: retries, and cancelling at each stage."""

from __future__ import annotations

import pytest
from dispatcher_kit import BUSY, GONE, ONE_PLACE, RETRY, Run, World

from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.budget import RetryBudget
from zerver_runtime.reactor.effector import Policy
from zerver_runtime.reactor.ticket import Scope

# --- Retries


def test_a_retryable_failure_is_tried_again_after_a_wait_until_it_succeeds() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY))
    world.start("a", deadline=10.0)
    world.http.runs[0].answer(BUSY)
    world.clock.advance(0.099)
    assert len(world.http.runs) == 1
    world.clock.advance(0.001)
    world.http.runs[1].answer(BUSY)
    world.clock.advance(0.2)
    world.http.runs[2].answer()
    assert world.settled == [("a", 3, Success("a"))]
    assert world.scope.budget.left == 8
    world.clean()


def test_when_the_attempts_are_used_up_the_last_failure_stands() -> None:
    world = World(Policy(retry=RETRY))
    errors = iter(["first", "second", "third"])
    world.http.on_start = lambda run: run.answer(Failure(next(errors), retryable=True))
    world.start("a")
    world.clock.advance(10)
    assert world.settled == [("a", 3, Failure("third", retryable=True))]
    world.clean()


def test_the_effects_of_one_request_share_its_retry_budget() -> None:
    world = World(Policy(retry=RETRY))
    world.http.on_start = lambda run: run.answer(BUSY)
    scope = Scope(RetryBudget(3))
    world.start("a", scope=scope), world.start("b", scope=scope)
    world.start("other request", scope=Scope())
    world.clock.advance(10)
    attempts = {name: attempt for name, attempt, _ in world.settled}
    assert attempts["a"] + attempts["b"] == 2 + 3
    assert attempts["other request"] == 3


@pytest.mark.parametrize(
    ("failure", "deadline"),
    [
        (GONE, None),
        (BUSY, 0.1),
        (Failure("later", retryable=True, retry_after=3.0), 3.0),
        (Failure("later", retryable=True, retry_after=1.1), None),
    ],
)
def test_what_would_not_help_or_not_fit_is_not_tried_again(failure: Failure, deadline: float | None) -> None:
    world = World(Policy(retry=RETRY))
    world.http.on_start = lambda run: run.answer(failure)
    world.start("a", deadline=deadline)
    assert (world.settled, world.scope.budget.left) == ([("a", 1, failure)], 10)
    world.clean()


def test_a_retry_after_is_honoured_within_the_deadline() -> None:
    world = World(Policy(retry=RETRY))
    world.start("a", deadline=10.0)
    world.http.runs[0].answer(Failure("later", retryable=True, retry_after=3.0))
    world.clock.advance(2.999)
    assert len(world.http.runs) == 1
    world.clock.advance(0.001)
    assert len(world.http.runs) == 2


def test_a_time_out_is_tried_again_and_each_attempt_has_the_whole_time_out() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY))
    world.start("a")
    world.clock.advance(1.1)
    assert len(world.http.runs) == 2
    world.clock.advance(0.999)
    world.http.runs[1].answer()
    assert world.settled == [("a", 2, Success("a"))]


def test_the_late_result_of_an_attempt_that_timed_out_is_ignored_and_counted() -> None:
    world = World(Policy(timeout=1.0, retry=RETRY))
    world.start("a")
    world.clock.advance(1.1)
    world.http.runs[0].answer(Success("late"))
    assert (world.settled, world.dispatcher.statistics().late) == ([], 1)
    world.http.runs[1].answer(Success("in time"))
    world.http.runs[0].answer(Success("twice"))
    assert world.outcomes == {"a": "in time"}
    assert world.dispatcher.statistics().stray == 1
    world.clean()


def test_an_attempt_that_timed_out_keeps_its_place_until_its_effector_has_let_go() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.start("a")
    world.clock.advance(0.5)
    world.start("b")
    world.clock.advance(0.5)
    assert world.outcomes == {"a": ("timeout", "a", 1.0)}
    assert (len(world.http.runs), world.dispatcher.in_flight) == (1, 1)
    world.http.runs[0].answer()
    assert (len(world.http.runs), world.dispatcher.in_flight) == (2, 1)
    world.http.runs[1].answer()
    world.clean()


# --- Cancelling


def test_a_cancelled_effect_never_settles_and_is_in_flight_until_its_effector_lets_go() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    ticket = world.start("a")
    ticket.cancel()
    ticket.cancel()
    assert (world.http.runs[0].cancelled, world.clock.pending) == (1, 0)
    assert (world.dispatcher.pending, world.dispatcher.in_flight) == (0, 1)
    world.start("b")
    assert len(world.http.runs) == 1, "the place is still taken"
    world.http.runs[0].answer()
    world.http.runs[1].answer()
    assert world.outcomes == {"b": "b"}
    world.clean()


def test_an_attempt_that_cannot_be_cancelled_is_waited_for() -> None:
    world = World(Policy(timeout=1.0))
    world.http.can_cancel = False
    world.start("a").cancel()
    assert world.dispatcher.in_flight == 1
    world.http.runs[0].answer()
    world.clean()


def test_cancelling_while_it_queues_takes_it_out() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.start("a")
    world.start("b").cancel()
    world.http.runs[0].answer()
    assert len(world.http.runs) == 1
    world.clean()


def test_cancelling_while_it_waits_to_retry_ends_the_wait() -> None:
    world = World(Policy(retry=RETRY))
    ticket = world.start("a")
    world.http.runs[0].answer(BUSY)
    ticket.cancel()
    world.clock.advance(10)
    assert len(world.http.runs) == 1
    world.clean()


@pytest.mark.parametrize("first", ["fails", "times out"])
def test_cancelling_in_a_later_attempt_cancels_that_one(first: str) -> None:
    world = World(Policy(timeout=1.0, retry=RETRY))
    ticket = world.start("a")
    if first == "fails":
        world.http.runs[0].answer(BUSY)
    else:
        world.clock.advance(1.0)
    world.clock.advance(0.1)
    assert ticket.attempt == 2
    ticket.cancel()
    assert [run.cancelled for run in world.http.runs] == [first == "times out", 1]
    for run in world.http.held:
        run.answer()
    assert world.settled == []
    world.clean()


def test_cancelling_what_has_settled_does_nothing() -> None:
    world = World()
    world.http.on_start = Run.answer
    world.start("a").cancel()
    assert world.dispatcher.statistics().cancelled == 0
    assert world.outcomes == {"a": "a"}
