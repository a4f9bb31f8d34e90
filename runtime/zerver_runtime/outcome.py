"""What an effect, or one attempt at it, settled to: a closed set of two frozen values.

An expected failure is a `Failure`, never an exception. The runtime looks only at `retryable` and
`retry_after`; `value` and `error` pass through unread, so whoever sits on top puts its own types there.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = ["Failure", "Outcome", "Success"]


class Success(msgspec.Struct, frozen=True):
    """The effect did what it was asked to do; `value` is what it gave, None included."""

    value: object


class Failure(msgspec.Struct, frozen=True):
    """The effect did not do what it was asked to do.

    error: why, in the caller's own terms; opaque here.
    retryable: the fault is of a kind that a retry may cure (a time-out, a refused connection), whatever
        the policy and the budget then allow.
    retry_after: seconds that the other side asked to be left alone for, or None when it did not say.
    """

    error: object
    retryable: bool = False
    retry_after: float | None = None


Outcome: TypeAlias = Success | Failure
