"""Whether a failed attempt is made again, and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.outcome import Failure
from zerver_runtime.reactor.budget import RetryBudget
from zerver_runtime.reactor.retry import RetryPolicy, delay, next_attempt

POLICY = RetryPolicy(attempts=4, base=0.1, factor=2.0, cap=1.0)
BUSY = Failure("busy", retryable=True)


def test_by_default_nothing_is_tried_again_and_the_waits_are_those_of_the_contract() -> None:
    assert RetryPolicy() == RetryPolicy(attempts=1, base=0.01, factor=2.0, cap=5.0)


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (50, 1.0), (10**9, 1.0)]
)
def test_the_longest_wait_grows_by_the_factor_up_to_the_cap(attempt: int, longest: float) -> None:
    assert delay(POLICY, attempt, 1.0) == pytest.approx(longest)


@pytest.mark.parametrize("random", [0.0, 0.25, 0.999])
def test_jitter_is_full_from_nothing_to_the_longest_wait(random: float) -> None:
    assert delay(POLICY, 2, random) == pytest.approx(random * 0.2)


@pytest.mark.parametrize(
    ("retry_after", "wait"), [(None, 0.05), (0.0, 0.05), (-3.0, 0.05), (math.nan, 0.05), (0.06, 0.06), (30.0, 30.0)]
)
def test_a_retry_after_is_waited_for_at_least_also_past_the_cap(retry_after: float | None, wait: float) -> None:
    assert delay(POLICY, 1, 0.5, retry_after) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("policy", "wait"),
    [
        (RetryPolicy(base=0.0, factor=10.0), 0.0),
        (RetryPolicy(base=0.01, factor=0.5), 0.0),
        (RetryPolicy(base=1e300, factor=1e300, cap=3.0), 3.0),
        (RetryPolicy(base=1, factor=7, cap=3), 3.0),
    ],
)
def test_attempt_numbers_past_what_a_float_holds_are_no_problem(policy: RetryPolicy, wait: float) -> None:
    assert delay(policy, 10**7, 1.0) == wait


@given(
    base=st.floats(0, 1e6),
    factor=st.floats(0.01, 100),
    cap=st.floats(0, 1e6),
    attempt=st.integers(1, 10**12),
    random=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_never_negative_nor_past_the_cap(
    base: float, factor: float, cap: float, attempt: int, random: float
) -> None:
    assert 0 <= delay(RetryPolicy(1, base, factor, cap), attempt, random) <= cap


def decide(
    *, attempt: int = 1, failure: Failure = BUSY, budget: int = 1, left: float | None = 10.0
) -> tuple[float | None, int]:
    """The wait, with jitter at one half, and what is left of the budget."""
    purse = RetryBudget(budget)
    return next_attempt(POLICY, attempt, failure, purse, left, lambda: 0.5), purse.left


def test_a_retryable_failure_is_tried_again_after_the_wait_and_costs_one_retry() -> None:
    assert decide() == (pytest.approx(0.05), 0)
    assert decide(attempt=3, budget=5) == (pytest.approx(0.2), 4)


@pytest.mark.parametrize(
    "case",
    [
        {"failure": Failure("no such row")},
        {"failure": Failure("go away", retryable=False, retry_after=0.1)},
        {"attempt": 4},
        {"attempt": 5},
        {"left": 0.05},  # the wait ends at the deadline
        {"left": 0.0},
        {"left": -1.0},
        {"failure": Failure("busy", retryable=True, retry_after=10.0)},
        {"failure": Failure("busy", retryable=True, retry_after=math.inf)},
        {"failure": Failure("busy", retryable=True, retry_after=1.01), "left": None},  # past the cap
        {"failure": Failure("busy", retryable=True, retry_after=math.inf), "left": None},
    ],
    ids=repr,
)
def test_a_retry_that_is_not_made_costs_nothing(case: dict[str, object]) -> None:
    assert decide(**case) == (None, 1)  # type: ignore[arg-type]


def test_an_empty_budget_ends_the_retries() -> None:
    assert decide(budget=0) == (None, 0)


def test_without_a_deadline_a_retry_after_is_honoured_up_to_the_cap() -> None:
    failure = Failure("busy", retryable=True, retry_after=1.0)
    assert decide(failure=failure, left=None) == (1.0, 0)


def test_within_the_deadline_a_retry_after_may_be_past_the_cap() -> None:
    failure = Failure("busy", retryable=True, retry_after=9.0)
    assert decide(failure=failure) == (9.0, 0)
