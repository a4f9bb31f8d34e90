"""One effect under way: its attempts, the waits between them, and its one settlement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from ..outcome import Failure, Outcome
from .attempt import Attempt
from .budget import RetryBudget
from .effector import Effect, Handle, Policy, Retrying
from .retry import next_attempt
from .surroundings import Surroundings

__all__ = ["Scope", "Ticket"]

Phase: TypeAlias = Literal["trying", "waiting to retry", "settling", "over"]


class Scope:
    """What the effects of one request share: its retries, and (by identity) its share of each bulkhead."""

    __slots__ = ("budget",)

    def __init__(self, budget: RetryBudget | None = None) -> None:
        self.budget = RetryBudget() if budget is None else budget

    def __repr__(self) -> str:
        return f"<Scope {self.budget!r}>"


class Ticket:
    """Made by `Dispatcher.start`. Read it freely; change it by `cancel` only."""

    __slots__ = (
        "_around", "_current", "_outcome", "_phase", "_settled", "_timer", "attempt", "deadline", "effect", "policy",
        "scope", "tag",
    )  # fmt: skip

    def __init__(
        self,
        around: Surroundings,
        effect: Effect,
        policy: Policy,
        scope: Scope,
        deadline: float | None,
        settled: Callable[[int, Outcome], object],
        tag: object,
    ) -> None:
        self.effect = effect
        self.policy = policy
        self.scope = scope
        self.tag = tag
        """Whatever was given to `Dispatcher.start`."""
        self.deadline = deadline
        """In seconds of the clock; None for a detached effect."""
        self.attempt = 1
        """The number of the attempt, from 1."""
        self._around = around
        self._settled = settled
        self._phase: Phase = "trying"
        self._current: Attempt | None = None  # set while trying
        self._timer: Handle | None = None  # set while waiting to retry
        self._outcome: Outcome | None = None  # set while settling

    def cancel(self) -> None:
        """Stop it; `settled` is not called any more. Does nothing when it has settled, or was cancelled before.

        The attempt under way stays in flight until its effector has let go.
        """
        phase = self._phase
        if phase == "over":
            return
        around = self._around
        self._phase = "over"
        around.pending -= 1
        around.cancelled += 1
        self._outcome = None
        current, self._current = self._current, None
        timer, self._timer = self._timer, None
        if around.observe is not None:
            around.observe("EffectCancelled", self, around.clock(), phase)
        if timer is not None:
            timer.cancel()
        if current is not None:
            current.abandon()
        around.run()

    def attempt_now(self, now: float) -> None:
        """For the dispatcher: make the attempt that is due."""
        around, effect = self._around, self.effect
        effector = around.effectors.get(effect.family)
        if effector is None:
            self.ended(Failure(around.faults.unknown_family(effect)))
            return
        target = around.targets.get(effect.target, self.policy, now)
        current = self._current = Attempt(around, self, effector, target)
        current.enter(now)

    def ended(self, outcome: Outcome) -> None:
        """For the attempt: it has ended like this. Nothing, when the ticket was cancelled meanwhile."""
        if self._phase != "trying":
            return
        self._current = None
        around = self._around
        if type(outcome) is Failure and outcome.retryable and self.attempt < self.policy.retry.attempts:
            now = around.clock()
            left = None if self.deadline is None else self.deadline - now
            wait = next_attempt(self.policy.retry, self.attempt, outcome, self.scope.budget, left, around.random)
            if wait is not None:
                around.retries += 1
                if around.observe is not None:
                    around.observe("EffectRetry", self, now, Retrying(wait, outcome.error))
                self._phase = "waiting to retry"
                self._timer = around.call_later(wait, self._retry)
                return
        self._phase = "settling"
        self._outcome = outcome
        around.work.append(self)

    def proceed(self) -> None:
        """For the dispatcher: it may settle now."""
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return  # cancelled meanwhile
        around = self._around
        self._phase = "over"
        around.pending -= 1
        around.settled += 1
        if around.observe is not None:
            around.observe("ReactorEffectCompleted", self, around.clock(), outcome)
        try:
            self._settled(self.attempt, outcome)
        except BaseException as problem:  # the caller's own bug; see Surroundings.guarded
            around.report(problem)

    def __repr__(self) -> str:
        return (
            f"<Ticket for {self.effect.target}: attempt {self.attempt} of {self.policy.retry.attempts}, {self._phase}>"
        )

    def _retry(self) -> None:
        self._timer = None
        self._phase = "trying"
        self.attempt += 1
        self.attempt_now(self._around.clock())
        self._around.run()
