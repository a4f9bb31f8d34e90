"""The retry budget of a request."""

from __future__ import annotations

import pytest

from zerver_runtime.reactor.budget import RetryBudget


@pytest.mark.parametrize("limit", [0, 1, 10])
def test_a_budget_gives_as_many_retries_as_its_limit_and_no_more(limit: int) -> None:
    budget = RetryBudget(limit)
    assert [budget.take() for _ in range(limit + 3)] == [True] * limit + [False] * 3
    assert budget.left == 0


def test_a_request_has_ten_retries_by_default() -> None:
    assert RetryBudget().left == 10


def test_a_limit_below_zero_is_an_empty_budget() -> None:
    budget = RetryBudget(-1)
    assert not budget.take()
    assert budget.left == 0


def test_repr_tells_what_is_left() -> None:
    budget = RetryBudget(3)
    budget.take()
    assert repr(budget) == "<RetryBudget 2 of 3 left>"
