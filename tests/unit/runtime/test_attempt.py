"""One attempt: each fault, and what an attempt does to the breaker and the bulkhead of its target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dispatcher_kit import BUSY, GONE, ONE_PLACE, RETRY, Ask, Exit, Run, World, breaker

from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.bulkhead import BulkheadPolicy
from zerver_runtime.reactor.effector import Policy
from zerver_runtime.reactor.ticket import Scope

# --- Faults


def test_an_effect_of_a_family_that_nobody_performs_fails() -> None:
    world = World()
    world.start("a", family="smoke", target="smoke:signals")
    assert world.outcomes == {"a": ("unknown family", "a")}
    assert world.dispatcher.statistics().targets == {}
    world.clean()


@pytest.mark.parametrize("deadline", [0.0, -1.0])
def test_past_the_deadline_nothing_is_started(deadline: float) -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.start("a", deadline=deadline)
    assert (world.outcomes, world.http.runs) == ({"a": ("deadline", "a")}, [])
    world.clean()


def test_an_attempt_that_takes_longer_than_the_time_out_fails_and_is_told_to_cancel() -> None:
    world = World(Policy(timeout=0.5))
    world.start("a", deadline=10.0)
    world.clock.advance(0.499)
    assert (world.settled, world.http.runs[0].cancelled) == ([], 0)
    world.clock.advance(0.001)
    assert world.settled == [("a", 1, Failure(("timeout", "a", 0.5), retryable=True))]
    assert world.http.runs[0].cancelled == 1


def test_no_attempt_lasts_longer_than_the_deadline() -> None:
    for policy in (Policy(timeout=5.0, retry=RETRY), Policy(retry=RETRY)):
        world = World(policy)
        world.start("a", deadline=0.3)
        world.clock.advance(0.3)
        assert world.settled == [("a", 1, Failure(("deadline", "a")))]
        assert world.http.runs[0].cancelled == 1


def test_an_attempt_that_had_its_whole_time_out_when_the_deadline_comes_has_timed_out() -> None:
    world = World(Policy(timeout=0.5, retry=RETRY, breaker=breaker()))
    world.start("a", deadline=0.5)
    world.clock.advance(0.5)
    assert world.outcomes == {"a": ("timeout", "a", 0.5)}
    assert [name for _, _, name, _, _ in world.seen("BreakerStateChanged")] == ["a"]


def test_without_a_deadline_only_the_time_out_counts() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.start("a", deadline=None)
    world.clock.advance(0.999)
    assert world.settled == []
    world.clock.advance(0.001)
    assert world.outcomes == {"a": ("timeout", "a", 1.0)}


@pytest.mark.parametrize("behind", [1.0, 2.0])
def test_past_the_deadline_nothing_queues_and_what_got_its_place_too_late_does_not_start(behind: float) -> None:
    world = World(Policy(bulkhead=ONE_PLACE))
    world.start("a")
    world.start("late", deadline=0.0)
    assert world.outcomes == {"late": ("deadline", "late")}
    world.start("b", deadline=1.0)
    world.behind = behind  # the loop was busy beyond the deadline, and gives the place before the timer has its turn
    world.http.runs[0].answer()
    assert world.outcomes == {"late": ("deadline", "late"), "a": "a", "b": ("deadline", "b")}
    assert len(world.http.runs) == 1
    world.clean()


def test_an_effector_that_answers_slowly_within_start_has_that_time_taken_off_its_time_out() -> None:
    world = World(Policy(timeout=0.5))
    world.http.on_start = lambda run: world.clock.advance(0.4)
    world.start("a")
    world.clock.advance(0.1)
    assert world.outcomes == {"a": ("timeout", "a", 0.5)}


def test_an_open_breaker_fails_effects_at_once_and_tells_for_how_long() -> None:
    world = World(Policy(breaker=breaker(), retry=RETRY))
    world.start("a", target="http:down")
    world.http.runs[0].answer(BUSY)
    world.clock.advance(0.1)
    assert world.outcomes == {"a": ("breaker open", "a", 4.9)}, "and retries end there"
    world.start("b", target="http:down")
    assert world.settled[1] == ("b", 1, Failure(("breaker open", "b", 4.9), retry_after=4.9))
    assert len(world.http.runs) == 1
    assert world.dispatcher.statistics().targets["http:down"].refused == 2
    world.clean()


def test_a_full_bulkhead_fails_effects_at_once_without_retries() -> None:
    world = World(Policy(bulkhead=BulkheadPolicy(in_flight=1, queue=1), retry=RETRY))
    for name in "abc":
        world.start(name)
    assert world.settled == [("c", 1, Failure(("bulkhead full", "c")))]
    assert len(world.http.runs) == 1


def test_an_effect_that_queued_longer_than_its_time_out_fails_for_good_and_never_starts() -> None:
    policy = Policy(timeout=1.0, bulkhead=ONE_PLACE, retry=RETRY, breaker=breaker())
    world = World(policy, {"slow": Policy(timeout=100.0, bulkhead=ONE_PLACE, breaker=breaker())})
    world.start("slow")
    world.start("b")
    world.clock.advance(1.0)
    assert world.settled == [("b", 1, Failure(("timeout", "b", 1.0)))]
    world.clock.advance(10.0)
    world.http.runs[0].answer()
    assert world.outcomes["slow"] == "slow"
    assert [run.effect.name for run in world.http.runs] == ["slow"]
    assert [name for _, _, name, _, _ in world.seen("BreakerStateChanged")] == []
    world.clean()


def test_the_deadline_holds_in_the_queue_too() -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.start("a")
    world.start("b", deadline=0.5)
    world.clock.advance(0.5)
    assert world.outcomes == {"b": ("deadline", "b")}
    world.http.runs[0].answer()
    world.clean()


@pytest.mark.parametrize("deadline", [None, 20.0])
def test_the_time_in_the_queue_is_no_part_of_the_attempts_time_out(deadline: float | None) -> None:
    world = World(Policy(timeout=1.0, bulkhead=ONE_PLACE))
    world.start("a"), world.start("b", deadline=deadline)
    world.clock.advance(0.9)
    world.http.runs[0].answer()
    world.clock.advance(0.9)
    world.http.runs[1].answer()
    assert world.outcomes == {"a": "a", "b": "b"}
    world.clean()


@pytest.mark.parametrize("problem", [ValueError("no"), Exit("no")], ids=repr)
def test_an_exception_out_of_the_effectors_start_is_a_failure(problem: BaseException) -> None:
    def crash(run: Run) -> None:
        raise problem

    world = World(Policy(timeout=1.0, retry=RETRY, bulkhead=ONE_PLACE, breaker=breaker()))
    world.http.on_start = crash
    world.start("a")
    assert world.settled == [("a", 1, Failure(("crashed", "a", type(problem).__name__, "no")))]
    world.clean()


@pytest.mark.parametrize("problem", [ValueError("no"), Exit("no")], ids=repr)
def test_an_exception_out_of_interpret_is_a_failure_and_the_target_is_not_to_blame(problem: BaseException) -> None:
    def crash(effect: Ask, value: Any) -> Any:
        raise problem

    world = World(Policy(timeout=1.0, retry=RETRY, bulkhead=ONE_PLACE, breaker=breaker()))
    world.interpret = crash
    world.start("a")
    world.http.runs[0].answer()
    assert world.settled == [("a", 1, Failure(("crashed", "a", type(problem).__name__, "no")))]
    assert world.dispatcher.statistics().targets["http:a"].breaker.failures == 0  # type: ignore[union-attr]
    world.clean()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("by", ["effector", "interpret"])
def test_what_is_no_outcome_is_a_failure_that_names_the_family(by: str, at_once: bool) -> None:
    for wrong in (None, "a value", 3, Success, Failure("gone", True, "5")):  # type: ignore[arg-type]  # it is wrong
        world = World(Policy(retry=RETRY, bulkhead=ONE_PLACE))
        answer = wrong if by == "effector" else Success(1)
        world.interpret = lambda effect, value, wrong=wrong: wrong
        if at_once:
            world.http.on_start = lambda run, answer=answer: run.done(answer)
        world.start("a")
        if not at_once:
            world.http.runs[0].done(answer)  # type: ignore[arg-type]
        fault, _, kind, what = world.outcomes["a"]
        assert (fault, kind) == ("crashed", "TypeError")
        assert "effect family 'http'" in what
        world.clean()


# --- Breaker


@pytest.mark.parametrize(
    ("end", "deadline", "counts"),
    [
        pytest.param(lambda world, probe: world.http.runs[1].answer(), 20.0, "success", id="success"),
        pytest.param(lambda world, probe: world.http.runs[1].answer(GONE), 20.0, "success", id="final failure"),
        pytest.param(lambda world, probe: world.http.runs[1].answer(BUSY), 20.0, "failure", id="retryable failure"),
        pytest.param(lambda world, probe: world.clock.advance(1.0), 20.0, "failure", id="time-out"),
        pytest.param(lambda world, probe: world.clock.advance(0.5), 0.5, "nothing", id="deadline"),
        pytest.param(lambda world, probe: probe.cancel(), 20.0, "nothing", id="cancelled"),
    ],
)
def test_what_counts_for_and_against_a_target(end: Callable[..., object], deadline: float, counts: str) -> None:
    """Told by a half-open breaker: a success closes it, a failure opens it, anything else gives the probe back."""
    world = World(Policy(timeout=1.0, breaker=breaker(cooldown=0.0)))
    world.start("opens it")
    world.http.runs[0].answer(BUSY)

    def state() -> tuple[str, int]:
        statistics = world.dispatcher.statistics().targets["http:a"].breaker
        assert statistics is not None
        return statistics.state, statistics.probing

    probe = world.start("probe", deadline=deadline)
    assert state() == ("half-open", 1)
    end(world, probe)
    assert state() == {"success": ("closed", 0), "failure": ("open", 0), "nothing": ("half-open", 0)}[counts]


def test_a_crash_of_start_gives_the_probe_back() -> None:
    world = World(Policy(breaker=breaker()))
    world.http.on_start = lambda run: run.answer(BUSY)
    world.start("opens it")
    world.clock.advance(5)
    world.http.on_start = lambda run: 1 / 0
    world.start("crashes")
    world.http.on_start = Run.answer
    world.start("closes it")
    assert world.outcomes["closes it"] == "closes it"
    world.clean()


def test_a_probe_that_is_done_and_then_cancelled_within_its_start_gives_its_place_back() -> None:
    world = World(Policy(timeout=1.0, breaker=breaker(failures=2, probes=2, cooldown=0.0), bulkhead=ONE_PLACE))
    for name in ("opens", "it"):
        world.start(name)
        world.http.runs[-1].answer(BUSY)
    tickets = [world.start("first probe"), world.start("second probe")]

    def done_and_cancelled(run: Run) -> None:
        run.answer()
        tickets[1].cancel()

    world.http.on_start = done_and_cancelled
    world.http.runs[-1].answer()
    assert [run.effect.name for run in world.http.runs][2:] == ["first probe", "second probe"]
    statistics = world.dispatcher.statistics().targets["http:a"].breaker
    assert statistics is not None
    assert (statistics.state, statistics.probing) == ("half-open", 0)
    world.clean()


@pytest.mark.parametrize("done_too", [False, True])
def test_a_probe_that_is_cancelled_within_its_start_and_then_crashes_gives_its_place_back_once(done_too: bool) -> None:
    world = World(Policy(breaker=breaker(cooldown=0.0, probes=2), bulkhead=ONE_PLACE))
    world.start("opens it")
    world.http.runs[0].answer(BUSY)
    tickets = [world.start("first probe"), world.start("second probe")]

    def crash(run: Run) -> None:
        tickets[1].cancel()
        if done_too:
            run.answer()
        raise ValueError("nobody hears")

    world.http.on_start = crash
    world.http.runs[1].answer()
    statistics = world.dispatcher.statistics().targets["http:a"].breaker
    assert statistics is not None
    assert (statistics.state, statistics.probing) == ("half-open", 0)
    with pytest.raises(ValueError, match="nobody hears"):
        world.clock.advance(0)
    world.clean()


def test_what_queued_when_the_breaker_opened_is_refused_when_its_turn_comes() -> None:
    world = World(Policy(timeout=1.0, breaker=breaker(), bulkhead=ONE_PLACE))
    for name in "abc":
        world.start(name)
    world.http.runs[0].answer(BUSY)
    assert world.outcomes == {"a": "busy", "b": ("breaker open", "b", 5.0), "c": ("breaker open", "c", 5.0)}
    world.clean()


def test_while_the_breaker_is_open_nothing_queues() -> None:
    world = World(Policy(timeout=1.0, breaker=breaker(), bulkhead=ONE_PLACE))
    world.http.can_cancel = False
    world.start("hangs")
    world.clock.advance(1.0)
    world.start("b")
    assert world.outcomes["b"] == ("breaker open", "b", 5.0)


def test_targets_have_breakers_and_bulkheads_of_their_own() -> None:
    world = World(Policy(breaker=breaker(), bulkhead=BulkheadPolicy(in_flight=1, queue=0)))
    world.start("a", target="http:down")
    world.http.runs[0].answer(BUSY)
    world.start("b", target="http:up")
    world.start("c", target="http:other")
    assert [run.effect.name for run in world.http.runs] == ["a", "b", "c"]


# --- Bulkhead


def test_what_queues_runs_in_order_interactive_first() -> None:
    world = World(Policy(bulkhead=ONE_PLACE))
    for name, priority in [("a", "batch"), ("b", "batch"), ("c", "interactive"), ("d", "interactive")]:
        world.start(name, priority=priority)
    for position in range(4):
        world.http.runs[position].answer()
    assert [run.effect.name for run in world.http.runs] == ["a", "c", "d", "b"]
    world.clean()


def test_one_request_has_its_share_of_a_target_and_no_more() -> None:
    world = World(Policy(bulkhead=BulkheadPolicy(in_flight=3, per_request=1)))
    one, other = Scope(), Scope()
    world.start("a", scope=one), world.start("b", scope=one), world.start("c", scope=other)
    assert [run.effect.name for run in world.http.runs] == ["a", "c"]
    world.http.runs[0].answer()
    assert [run.effect.name for run in world.http.runs] == ["a", "c", "b"]


def test_a_retry_queues_like_any_attempt() -> None:
    world = World(Policy(bulkhead=ONE_PLACE, retry=RETRY))
    world.start("a"), world.start("b")
    world.http.runs[0].answer(BUSY)
    world.clock.advance(0.1)
    world.http.runs[1].answer()
    world.http.runs[2].answer()
    assert [run.effect.name for run in world.http.runs] == ["a", "b", "a"]
    assert world.settled == [("b", 1, Success("b")), ("a", 2, Success("a"))]
    world.clean()
