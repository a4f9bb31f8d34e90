"""What an effect settles to."""

from __future__ import annotations

import pytest

from zerver_runtime.outcome import Failure, Outcome, Success


def test_a_failure_is_not_worth_a_retry_unless_it_says_so() -> None:
    failure = Failure("no such row")
    assert (failure.error, failure.retryable, failure.retry_after) == ("no such row", False, None)


@pytest.mark.parametrize("outcome", [Success(1), Failure("gone", retryable=True, retry_after=0.5)])
def test_an_outcome_never_changes(outcome: Outcome) -> None:
    for field in outcome.__struct_fields__:
        with pytest.raises(AttributeError, match="immutable"):
            setattr(outcome, field, None)
