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
from typing import Any, Literal, Protocol, TypeAlias

from ..outcome import Failure, Outcome, Success
from .breaker import Permit, Result
from .effector import Effect, Effector, Handle, Policy
from .surroundings import Surroundings
from .target import Target

__all__ = ["Asker", "Attempt"]

Phase: TypeAlias = Literal["new", "queued", "granted", "starting", "answered", "running", "abandoned", "over"]


class Asker(Protocol):
    """Whose attempt it is."""

    @property
    def effect(self) -> Effect: ...
    @property
    def scope(self) -> object:
        """The request; it owns a share of the bulkhead."""
        ...

    @property
    def policy(self) -> Policy: ...
    @property
    def deadline(self) -> float | None: ...

    def ended(self, outcome: Outcome) -> None:
        """The attempt is over or abandoned, with this outcome. At most once, and not after `abandon`."""
        ...


class Attempt:
    """Call `enter` once."""

    __slots__ = (
        "_answer", "_around", "_asker", "_by_deadline", "_cancel", "_effector", "_permit", "_since", "_target",
        "_timer", "phase",
    )  # fmt: skip

    def __init__(self, around: Surroundings, asker: Asker, effector: Effector, target: Target[Attempt]) -> None:
        self._around = around
        self._asker = asker
        self._effector = effector
        self._target = target
        self.phase: Phase = "new"
        self._since = 0.0  # when it entered; once it is started, when that was
        self._timer: Handle | None = None  # set in `queued` and `running` only
        self._by_deadline = False  # whether the timer stands for the deadline
        self._permit: Permit | None = None  # taken from starting on, until it is recorded
        self._cancel: Callable[[], object] | None = None
        self._answer: object = None  # of the effector, kept in `answered` only

    def enter(self, now: float) -> None:
        """Begin, or wait in the bulkhead's queue; there at most for the time-out, counted from now on."""
        asker, target = self._asker, self._target
        if asker.deadline is not None and now >= asker.deadline:
            self._past_deadline()
            return
        breaker = target.breaker
        if breaker is not None and breaker.state != "closed":
            # Asked here too: an effect must not queue for what would refuse it.
            wait = breaker.refusal(now)
            if wait is not None:
                self._refused(wait)
                return
        self._since = now
        bulkhead = target.bulkhead
        if bulkhead is not None:
            effect = asker.effect
            entered = bulkhead.enter(self, asker.scope, effect.priority == "batch")
            if entered == "queued":
                self.phase = "queued"
                self._arm(now)
                return
            if entered == "full":
                self._fail(Failure(self._around.faults.bulkhead_full(effect)))
                return
        self._begin(now)

    def done(self, outcome: Outcome) -> None:
        """For the effector. What comes late only frees the place; what comes twice is counted and dropped."""
        phase = self.phase
        around = self._around
        if phase == "running":
            self._disarm()
            self._cancel = None
            self._answered(outcome)
            around.run()
        elif phase == "starting":
            self.phase = "answered"
            self._answer = outcome
        elif phase == "abandoned":
            self.phase = "over"
            around.late += 1
            self._let_go()
            around.run()
        else:
            around.stray += 1

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
            bulkhead.remove(self, self._asker.scope)

    def granted(self) -> None:
        """It has a place now; it begins when its turn comes."""
        self.phase = "granted"
        self._disarm()
        self._around.work.append(self)

    def proceed(self) -> None:
        """Its turn has come."""
        if self.phase != "granted":
            return  # abandoned meanwhile
        now, deadline = self._around.clock(), self._asker.deadline
        if deadline is not None and now >= deadline:
            self._give_back()
            self._past_deadline()
            return
        self._begin(now)

    def _begin(self, now: float) -> None:
        around, asker, target = self._around, self._asker, self._target
        observe = around.observe
        if target.breaker is not None:
            permit = target.breaker.allow(now)
            if not isinstance(permit, Permit):
                self._give_back()
                self._refused(permit)
                return
            self._permit = permit
            if permit.change is not None and observe is not None:
                observe("BreakerStateChanged", asker, now, permit.change)
        if observe is not None:
            observe("EffectStart", asker, now, now - self._since)
        around.in_flight += 1
        target.in_flight += 1
        self._since = now
        self.phase = "starting"
        try:
            cancel = self._effector.start(asker.effect, self.done)
        except BaseException as problem:  # an effector may raise anything, and none of it may end the dispatcher
            self._start_raised(problem)
            return
        self._started(cancel)

    def _started(self, cancel: Callable[[], object] | None) -> None:
        phase = self.phase
        if phase == "answered":
            answer, self._answer = self._answer, None
            self._answered(answer)
        elif phase == "starting":
            self.phase = "running"
            self._cancel = cancel
            if self._asker.policy.timeout is not None or self._asker.deadline is not None:
                self._arm(self._around.clock())
        elif phase == "abandoned":
            self._cancel = cancel
            self._call_cancel()

    def _start_raised(self, problem: BaseException) -> None:
        phase, self.phase = self.phase, "over"
        self._answer = None
        if phase != "over":
            self._record("cancelled")
            self._let_go()
        if phase == "starting" or phase == "answered":
            self._asker.ended(Failure(self._around.faults.crashed(self._asker.effect, problem)))
        else:
            self._around.report(problem)  # cancelled meanwhile: nobody would hear of it

    def _answered(self, answer: object) -> None:
        self.phase = "over"
        outcome = self._outcome(answer)
        if self._permit is not None:
            # A target that answers "no such thing" is well; only what a retry may cure speaks against it.
            self._record("failure" if type(outcome) is Failure and outcome.retryable else "success")
        self._let_go()
        self._asker.ended(outcome)

    def _outcome(self, answer: Any) -> Outcome:
        """What the effector's answer comes to. It may be anything, as effectors and decoders may be the user's."""
        around, effect = self._around, self._asker.effect
        try:
            outcome = around.interpret(effect, answer.value) if type(answer) is Success else answer
            if type(outcome) is Success or type(outcome) is Failure:
                return outcome
            found = type(outcome).__name__
            raise TypeError(f"effect family {effect.family!r}: an outcome is a Success or a Failure, not a {found}")
        except BaseException as problem:
            return Failure(around.faults.crashed(effect, problem))

    def _expired(self) -> None:
        self._timer = None
        around, asker = self._around, self._asker
        effect, seconds = asker.effect, asker.policy.timeout
        result: Result = "cancelled"
        if self._by_deadline or seconds is None:
            # Says nothing of the target, which did not get the time that its policy grants.
            failure = Failure(around.faults.deadline(effect))
        elif self.phase == "queued":
            # Not to be retried: the target has too much to do already, and was not even asked.
            failure = Failure(around.faults.timeout(effect, seconds))
        else:
            failure = Failure(around.faults.timeout(effect, seconds), retryable=True)
            result = "failure"
        self.abandon(result)
        asker.ended(failure)
        around.run()

    def _refused(self, wait: float) -> None:
        self._target.refused += 1
        error = self._around.faults.breaker_open(self._asker.effect, wait)
        self._fail(Failure(error, retry_after=wait))

    def _past_deadline(self) -> None:
        self._fail(Failure(self._around.faults.deadline(self._asker.effect)))

    def _fail(self, failure: Failure) -> None:
        self.phase = "over"
        self._asker.ended(failure)

    def _record(self, result: Result) -> None:
        permit, self._permit = self._permit, None
        breaker, around = self._target.breaker, self._around
        if permit is not None and breaker is not None:
            now = around.clock()
            change = breaker.record(permit, result, now)
            if change is not None and around.observe is not None:
                around.observe("BreakerStateChanged", self._asker, now, change)

    def _let_go(self) -> None:
        self._around.in_flight -= 1
        self._target.in_flight -= 1
        self._give_back()

    def _give_back(self) -> None:
        bulkhead = self._target.bulkhead
        if bulkhead is not None:
            following = bulkhead.leave(self._asker.scope)
            if following is not None:
                following.granted()

    def _call_cancel(self) -> None:
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            self._around.guarded(cancel)

    def _arm(self, now: float) -> None:
        timeout, deadline = self._asker.policy.timeout, self._asker.deadline
        end = None if timeout is None else self._since + timeout
        self._by_deadline = deadline is not None and (end is None or deadline < end)
        if self._by_deadline:
            end = deadline
        if end is not None:
            self._timer = self._around.call_later(max(0.0, end - now), self._expired)

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
