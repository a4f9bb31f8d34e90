"""One attempt at an effect, on its way through breaker, bulkhead, effector and time-out.

    phase       leaves it when                          for
    ----------  --------------------------------------  -------------------------------------------------
    new         it enters                               queued, starting, over (refused, full, deadline)
    queued      it is granted a place                   granted
                time-out, deadline, cancelled           over
    granted     its turn of the work comes              starting, over (refused, deadline)
                cancelled                               over; the place passes on
    starting    start() returns                         running
                `done` is called within start()         answered
                cancelled within start()                abandoned
                start() raises                          over
    answered    start() returns or raises               over
    running     `done` is called                        over
                time-out, deadline, cancelled           abandoned
    abandoned   `done` is called, late                  over

It holds its place in the bulkhead from granted (or from entering, when a place is free) until over: an effector that
was told to cancel, and has not called `done`, still uses what the place stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from ..outcome import Failure, Outcome, Success
from .breaker import Breaker, Permit, Result
from .effector import Effect, Effector, Policy
from .expiries import Expiries
from .scope import Scope
from .surroundings import Surroundings
from .target import Target

__all__ = ["Attempt"]

Phase: TypeAlias = Literal["new", "queued", "granted", "starting", "answered", "running", "abandoned", "over"]
_STARTING: Phase = "starting"  # typed so that nobody takes it for granted after the call of start()


class Attempt:
    """Call `enter` once. Who makes attempts says in a subclass what `ended` does, and what observers are shown.

    Nearly every attempt enters, begins, is answered and ends: that path takes few calls, since an effect costs little
    else.
    """

    __slots__ = (
        "_answer", "_around", "_cancel", "_effector", "_permit", "_since", "_target", "deadline", "effect", "phase",
        "policy", "scope",
    )  # fmt: skip

    # Set by whoever makes it: an __init__ of its own, called from another, would cost a twentieth of an effect.
    effect: Effect
    policy: Policy
    scope: Scope
    deadline: float | None
    """In seconds of the clock; None for a detached effect."""
    phase: Phase
    _around: Surroundings
    _cancel: Callable[[], object] | None  # None before `running`
    # Set by enter(), when it has found them.
    _effector: Effector
    _target: Target[Attempt]
    _since: float  # when it entered; once it is started, when that was
    # Set when there is one.
    _permit: Permit  # of the target's breaker, from starting on; handed back once
    _answer: object  # of the effector, kept in `answered` only

    def ended(self, outcome: Outcome) -> None:
        """The attempt is over or abandoned, with this outcome. Called at most once, not after `abandon`, and last: what
        it does may use the dispatcher."""
        raise NotImplementedError

    def told(self) -> Any:
        """What observers are shown as the one that makes this attempt: a Ticket."""
        raise NotImplementedError

    def enter(self, now: float) -> None:
        """Begin, or wait in the bulkhead's queue; there at most for the time-out, counted from now on."""
        around, effect = self._around, self.effect
        effector = around.effectors.get(effect.family)
        if effector is None:
            self._fail(Failure(around.faults.unknown_family(effect)))
            return
        target = around.targets.by_name.get(effect.target)
        if target is None:
            target = around.targets.get(effect.target, self.policy, now)
        if self.deadline is not None and now >= self.deadline:
            self._past_deadline()
            return
        self._effector = effector
        self._target = target
        breaker = target.breaker
        if breaker is not None and breaker.state != "closed":
            # Asked here too: an effect must not queue for what would refuse it.
            wait = breaker.refusal(now)
            if wait is not None:
                self._refused(wait)
                return
        self._since = now
        bulkhead = target.bulkhead
        if bulkhead is None or bulkhead.take(self.scope):
            self._begin(now)
        elif bulkhead.queue(self, self.scope, effect.priority == "batch"):
            self.phase = "queued"
            told = self.told()
            if around.observe is not None and told.attempt == 1:
                around.observe("ReactorEffectScheduled", told, now, None)
            self._arm()
        else:
            self._fail(Failure(around.faults.bulkhead_full(effect)))

    def done(self, outcome: Outcome) -> None:
        """For the effector. What comes late only frees the place; what comes twice is counted and dropped."""
        phase, around = self.phase, self._around
        if phase == "running":
            expiries = self._target.expiries
            if expiries is not None:
                expiries.discard(self)
            self._cancel = None
            self._answered(outcome)
        elif phase == "starting":
            self.phase = "answered"
            self._answer = outcome
            return
        elif phase == "abandoned":
            self.phase = "over"
            around.late += 1
            self._let_go()
        else:
            around.stray += 1
            return
        if around.work or around.waiting_for_idle:
            around.run()

    def abandon(self, result: Result = "cancelled") -> None:
        """Nobody waits for it any more; `result` is what its breaker is told. Does not call `ended`."""
        phase = self.phase
        self._disarm()
        if phase == "running" or phase == "starting":
            self.phase = "abandoned"
            self._record(result)
            self._call_cancel()
        elif phase == "answered":
            self.phase = "over"
            self._answer = None
            self._record(result)
            self._let_go()
        elif phase == "granted":
            self.phase = "over"
            self._give_back()
        elif phase == "queued":
            self.phase = "over"
            bulkhead = self._target.bulkhead
            assert bulkhead is not None  # whoever queues, queues there
            bulkhead.remove(self, self.scope)

    def granted(self) -> None:
        """It has a place now; it begins when its turn comes."""
        self.phase = "granted"
        self._disarm()
        self._around.work.append(self._turn)

    def _turn(self) -> None:
        if self.phase != "granted":
            return  # abandoned meanwhile
        now, deadline = self._around.clock(), self.deadline
        if deadline is not None and now >= deadline:
            self._give_back()
            self._past_deadline()
            return
        self._begin(now)

    def _begin(self, now: float) -> None:
        around, target = self._around, self._target
        breaker, observe = target.breaker, around.observe
        if breaker is not None:
            if breaker.state == "closed":
                self._permit = breaker.permit
            elif not self._may_probe(breaker, now):
                return
        if observe is not None:
            observe("EffectStart", self.told(), now, now - self._since)
        target.in_flight += 1
        self._since = now
        self.phase = _STARTING
        try:
            cancel = self._effector.start(self.effect, self.done)
        except BaseException as problem:  # an effector may raise anything, and none of it may end the dispatcher
            self._start_raised(problem)
            return
        phase = self.phase
        if phase == "answered":
            answer, self._answer = self._answer, None
            self._answered(answer)
        elif phase == "starting":
            self.phase = "running"
            self._cancel = cancel
            self._arm()
        elif phase == "abandoned":
            self._cancel = cancel
            self._call_cancel()

    def _may_probe(self, breaker: Breaker, now: float) -> bool:
        permit = breaker.allow(now)
        if not isinstance(permit, Permit):
            self._give_back()
            self._refused(permit)
            return False
        self._permit = permit
        if permit.change is not None and self._around.observe is not None:
            self._around.observe("BreakerStateChanged", self.told(), now, permit.change)
        return True

    def _start_raised(self, problem: BaseException) -> None:
        phase, self.phase = self.phase, "over"
        self._answer = None
        if phase == "starting" or phase == "answered":
            self._record("cancelled")
            self._let_go()
            self.ended(Failure(self._around.faults.crashed(self.effect, problem)))
            return
        if phase == "abandoned":
            self._let_go()
        self._around.report(problem)  # cancelled meanwhile: nobody would hear of it

    def _answered(self, answer: Any) -> None:
        self.phase = "over"
        around, target = self._around, self._target
        # It may be anything, as effectors and decoders may be the user's.
        try:
            outcome: Outcome = answer
            if type(answer) is Success:
                value = answer.value
                interpret = around.interpret
                if around.observe is not None:
                    self.told().raw = value
                outcome = interpret(self.effect, value)
            if type(outcome) is not Success:
                _check(self.effect, outcome)
        except BaseException as problem:
            outcome = Failure(around.faults.crashed(self.effect, problem))
        breaker, bulkhead = target.breaker, target.bulkhead
        if breaker is not None and (type(outcome) is Failure or breaker.state != "closed"):
            # A target that answers "no such thing" is well; only what a retry may cure speaks against it.
            self._record("failure" if type(outcome) is Failure and outcome.retryable else "success")
        target.in_flight -= 1  # this and the next are _let_go()
        following = None if bulkhead is None else bulkhead.leave(self.scope)
        if following is not None:
            following.granted()
        self.ended(outcome)

    def expired(self) -> None:
        """Its time-out or the deadline has come."""
        around, effect, seconds = self._around, self.effect, self.policy.timeout
        result: Result = "cancelled"
        if seconds is None or (self.deadline is not None and self.deadline < self._since + seconds):
            # Says nothing of the target, which did not get the time that its policy grants.
            failure = Failure(around.faults.deadline(effect))
        elif self.phase == "queued":
            # Not to be retried: the target has too much to do already, and was not even asked.
            failure = Failure(around.faults.timeout(effect, seconds))
        else:
            failure = Failure(around.faults.timeout(effect, seconds), retryable=True)
            result = "failure"
        self.abandon(result)
        self.ended(failure)
        around.run()

    def _refused(self, wait: float) -> None:
        self._target.refused += 1
        error = self._around.faults.breaker_open(self.effect, wait)
        self._fail(Failure(error, retry_after=wait))

    def _past_deadline(self) -> None:
        self._fail(Failure(self._around.faults.deadline(self.effect)))

    def _fail(self, failure: Failure) -> None:
        self.phase = "over"
        self.ended(failure)

    def _record(self, result: Result) -> None:
        breaker, around = self._target.breaker, self._around
        if breaker is not None:
            now = around.clock()
            change = breaker.record(self._permit, result, now)
            if change is not None and around.observe is not None:
                around.observe("BreakerStateChanged", self.told(), now, change)

    def _let_go(self) -> None:
        self._target.in_flight -= 1
        self._give_back()

    def _give_back(self) -> None:
        bulkhead = self._target.bulkhead
        if bulkhead is not None:
            following = bulkhead.leave(self.scope)
            if following is not None:
                following.granted()

    def _call_cancel(self) -> None:
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            self._around.guarded(cancel)

    def _arm(self) -> None:
        timeout, end = self.policy.timeout, self.deadline
        if timeout is not None:
            due = self._since + timeout
            if end is None or due < end:
                end = due
        if end is not None:
            expiries = self._target.expiries
            if expiries is None:
                expiries = self._target.expiries = Expiries(self._around.clock, self._around.call_later)
            expiries.add(self, end)

    def _disarm(self) -> None:
        expiries = self._target.expiries
        if expiries is not None:
            expiries.discard(self)


def _check(effect: Effect, outcome: object) -> None:
    """Raise, if it is no failure that can be worked with: that would come out where nobody counts on it."""
    if type(outcome) is not Failure:
        found = type(outcome).__name__
        raise TypeError(f"effect family {effect.family!r}: an outcome is a Success or a Failure, not a {found}")
    if outcome.retry_after is not None and not isinstance(outcome.retry_after, (int, float)):
        raise TypeError(
            f"effect family {effect.family!r}: retry_after of a Failure is seconds, not {outcome.retry_after!r}"
        )
