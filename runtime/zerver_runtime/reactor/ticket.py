"""One effect under way: its attempts, the waits between them, and its one settlement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from ..outcome import Failure, Outcome
from .attempt import Attempt
from .effector import Effect, Handle, Policy, Retrying
from .retry import next_attempt
from .scope import Scope
from .surroundings import Surroundings

__all__ = ["Scope", "Ticket"]

Stage: TypeAlias = Literal["trying", "waiting to retry", "settling", "over"]


class Ticket(Attempt):
    """Made by `Dispatcher.start`; it is its own first attempt. Read it freely; change it by `cancel` only."""

    __slots__ = ("_again", "_outcome", "_settled", "_wait", "attempt", "raw", "stage", "tag")

    def __init__(
        self,
        around: Surroundings,
        effect: Effect,
        policy: Policy,
        scope: Scope,
        deadline: float | None,
        settled: Callable[[Ticket, Outcome], object],
        tag: object,
    ) -> None:
        self.effect = effect
        self.policy = policy
        self.scope = scope
        self.deadline = deadline
        self.phase = "new"
        self._around = around
        self._cancel = None
        self.tag = tag
        """Whatever was given to `Dispatcher.start`."""
        self.raw: object = None
        """What the effector last gave, where this is observed: before it was interpreted."""
        self.attempt = 1
        """The number of the attempt, from 1."""
        self.stage: Stage = "trying"
        """Over: it has settled, or was cancelled."""
        self._settled = settled
        self._again: _Again | None = None  # set while trying, from the second attempt on
        self._wait: Handle | None = None  # set while waiting to retry
        self._outcome: Outcome | None = None  # set while settling

    def told(self) -> Ticket:
        return self

    def cancel(self) -> None:
        """Stop it; `settled` is not called any more. Does nothing when it has settled, or was cancelled before.

        The attempt under way stays in flight until its effector has let go.
        """
        stage = self.stage
        if stage == "over":
            return
        around = self._around
        self.stage = "over"
        around.cancelled += 1
        self._outcome = None
        current, self._again = self._again or self, None
        wait, self._wait = self._wait, None
        if around.observe is not None:
            around.observe("EffectCancelled", self, around.clock(), stage)
        if wait is not None:
            wait.cancel()
        current.abandon()
        around.run()

    def ended(self, outcome: Outcome) -> None:
        """For its attempts: the one under way has ended like this. Nothing, when the ticket was cancelled meanwhile."""
        if self.stage != "trying":
            return
        if type(outcome) is Failure and self._tries_again(outcome):
            return
        around = self._around
        if around.running or around.work:
            self.stage = "settling"
            self._outcome = outcome
            around.work.append(self._settle_later)
        else:
            around.running = True
            self._settle(outcome)
            around.running = False

    def _settle_later(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:  # else cancelled meanwhile
            self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        around, settled = self._around, self._settled
        observe, clock = around.observe, around.clock
        self.stage = "over"
        around.settled += 1
        if observe is not None:
            try:
                observe("ReactorEffectCompleted", self, clock(), outcome)
            except BaseException as problem:  # it must not, but it looks at what is somebody else's
                around.report(problem)
        try:
            settled(self, outcome)
        except BaseException as problem:  # the caller's own bug; see Surroundings.guarded
            around.report(problem)

    def _tries_again(self, failure: Failure) -> bool:
        if not failure.retryable or self.attempt >= self.policy.retry.attempts:
            return False
        around = self._around
        now = around.clock()
        left = None if self.deadline is None else self.deadline - now
        wait = next_attempt(self.policy.retry, self.attempt, failure, self.scope.budget, left, around.random)
        if wait is None:
            return False
        around.retries += 1
        if around.observe is not None:
            around.observe("EffectRetry", self, now, Retrying(wait, failure.error))
        self.stage = "waiting to retry"
        self._wait = around.call_later(wait, self._retry)
        return True

    def _retry(self) -> None:
        self._wait = None
        self.stage = "trying"
        self.attempt += 1
        self._again = _Again(self)
        self._again.enter(self._around.clock())
        self._around.run()

    def __repr__(self) -> str:
        return (
            f"<Ticket for {self.effect.target}: attempt {self.attempt} of {self.policy.retry.attempts}, {self.stage}>"
        )


class _Again(Attempt):
    """An attempt after the first. That one may be in flight still, abandoned."""

    __slots__ = ("_ticket",)

    def __init__(self, ticket: Ticket) -> None:
        self.effect = ticket.effect
        self.policy = ticket.policy
        self.scope = ticket.scope
        self.deadline = ticket.deadline
        self.phase = "new"
        self._around = ticket._around
        self._cancel = None
        self._ticket = ticket

    def told(self) -> Ticket:
        return self._ticket

    def ended(self, outcome: Outcome) -> None:
        self._ticket._again = None
        self._ticket.ended(outcome)
