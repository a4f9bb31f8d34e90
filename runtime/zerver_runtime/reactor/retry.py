"""Is a failed attempt made again, and after how long? Pure: random numbers and times are handed in.

The wait before attempt n + 1 is drawn evenly from 0 to `min(cap, base * factor ** (n - 1))` seconds: "full jitter",
which of the variants in AWS's "Exponential Backoff and Jitter" needs the fewest calls to get a crowd of clients
through. A Retry-After of the other side (RFC 9110, section 10.2.3) is a lower bound on it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..outcome import Failure
from .budget import RetryBudget

__all__ = ["RetryPolicy", "delay", "next_attempt"]


class RetryPolicy(msgspec.Struct, frozen=True):
    """attempts: in total, the first included. base, cap: seconds, 0 or more. factor: above 0. Not checked here."""

    attempts: int = 1
    base: float = 0.01
    factor: float = 2.0
    cap: float = 5.0


def delay(policy: RetryPolicy, attempt: int, random: float, retry_after: float | None = None) -> float:
    """Seconds from the failure of `attempt` (the first is 1) to the start of the one after it.

    random: from 0 up to 1. retry_after: seconds that the other side asked for; the wait is at least as long, also
    past `cap`.
    """
    try:
        longest = min(policy.cap, policy.base * float(policy.factor) ** (attempt - 1))
    except OverflowError:  # the power alone is past what a float holds, hence past any cap
        longest = policy.cap if policy.base > 0 else 0.0
    wait = random * longest
    if retry_after is not None and retry_after > wait:
        return retry_after
    return wait


def next_attempt(
    policy: RetryPolicy,
    attempt: int,
    failure: Failure,
    budget: RetryBudget,
    left: float | None,
    random: Callable[[], float],
) -> float | None:
    """Seconds to wait before the attempt after `attempt`, which failed; None when there is to be none.

    There is none when the failure is not retryable, the attempts are used up, the wait would not leave time before
    the deadline, or the budget is empty. The budget is asked last: it pays for retries that happen only.

    left: seconds until the deadline. None is no deadline; then a Retry-After past `policy.cap` means no retry, since
    nothing else would bound what the other side can make us wait for.
    """
    if not failure.retryable or attempt >= policy.attempts:
        return None
    wait = delay(policy, attempt, random(), failure.retry_after)
    fits = wait < left if left is not None else wait <= policy.cap
    return wait if fits and budget.take() else None
