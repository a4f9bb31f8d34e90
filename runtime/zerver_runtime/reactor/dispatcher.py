"""Performs effects, above the effectors: time-outs, retries, breakers, bulkheads, and what is left of the deadline.

A `Dispatcher` belongs to one loop, and is called on its thread only. `start` gives a `Ticket`, which settles once:
its `settled` callback gets the outcome, unless the ticket was cancelled before.

- A time-out holds for each attempt, from its start. The wait for a place in the bulkhead is no part of it, but is
  bounded by the same number of seconds; running out there fails the effect for good. Neither lasts longer than the
  deadline.
- An attempt that timed out is told to cancel, and its result is ignored. Its place is free when it has called `done`.
- Failures that are retryable are tried again as `retry.next_attempt` says. An open breaker, a full bulkhead, a missing
  effector and a crash are final.
- For the breaker, time-outs and retryable failures are failures. Every other answer is a success. Attempts that were
  cancelled, met the deadline or crashed in `start` say nothing of the target.
- Re-entrant: an effector may call `done` within `start`, `settled` may start and cancel effects. So `settled` may be
  called before `start` returns; and `start`, `Ticket.cancel` and `done` may each call the `settled` of other tickets,
  when what they free makes those go on.
- What `settled`, an effector's cancel or a `drained` callback raises is raised again on the loop, by a callback of
  its own (`call_later(0)`): seen by the loop's handler of exceptions, and by nobody in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from ..outcome import Outcome
from .effector import CallLater, Effect, Effector, Event, Faults, Policy
from .scope import Scope
from .surroundings import Surroundings
from .target import TargetStatistics
from .ticket import Ticket

__all__ = ["Dispatcher", "DispatcherStatistics", "Observe", "Scope", "Ticket"]


class Observe(Protocol):
    """Takes what happens to a ticket. On the hot path: cheap, and must not raise.

    at: seconds of the dispatcher's clock. The detail of each event:

        ReactorEffectScheduled   None; of an effect that is not started at once. For all others, the first that is told
                                 says so, too
        EffectStart              seconds that the attempt was queued for a place (float)
        EffectRetry              `Retrying`: how long until the next attempt, and the error of this one
        ReactorEffectCompleted   the `Outcome`, just before `settled` is called with it
        EffectCancelled          what it was doing: "trying", "waiting to retry" or "settling"
        BreakerStateChanged      `StateChange`, of the breaker of the effect's target

    `ticket.attempt` is the number of the attempt (the first is 1; the one that failed, for EffectRetry).
    """

    def __call__(self, event: Event, ticket: Ticket, at: float, detail: object, /) -> None: ...


class DispatcherStatistics(msgspec.Struct, frozen=True):
    pending: int
    """Effects that are neither settled nor cancelled."""
    in_flight: int
    """Attempts whose effector has not let go, those that timed out or were cancelled included."""
    settled: int
    cancelled: int
    retries: int
    late: int
    """Results of attempts that had timed out or been cancelled."""
    stray: int
    """Results that nothing waited for at all: an effector called `done` twice, or after its `start` raised."""
    targets: dict[str, TargetStatistics]


class Dispatcher:
    """effectors: by family.

    policy_for: the policy of an effect; called once for each, so it should look up and not compute.
    interpret: makes the final outcome of an attempt from the effect and the raw value of its success: decodes it, or
        finds that it is a failure. What it raises is a failure, too.
    clock: monotonic, in seconds. random: from 0 up to 1.
    """

    __slots__ = ("_around", "_policy_for")

    def __init__(
        self,
        effectors: Mapping[str, Effector],
        *,
        policy_for: Callable[[Any], Policy],
        interpret: Callable[[Any, Any], Outcome],
        faults: Faults,
        clock: Callable[[], float],
        call_later: CallLater,
        random: Callable[[], float],
        observe: Observe | None = None,
    ) -> None:
        self._policy_for = policy_for
        self._around = Surroundings(effectors, interpret, faults, clock, call_later, random, observe)

    def start(
        self,
        effect: Effect,
        scope: Scope,
        deadline: float | None,
        settled: Callable[[Ticket, Outcome], object],
        tag: object = None,
    ) -> Ticket:
        """Perform an effect. `settled(ticket, outcome)` is called once, unless the ticket is cancelled before.

        scope: of the request. deadline: of the request, in seconds of the clock; None for a detached effect.
        tag: kept on the ticket, unread: for `settled` and for observers.
        """
        around, policy_for = self._around, self._policy_for
        clock = around.clock
        ticket = Ticket(around, effect, policy_for(effect), scope, deadline, settled, tag)
        around.started += 1
        ticket.enter(clock())
        if around.work or around.waiting_for_idle:
            around.run()
        return ticket

    @property
    def pending(self) -> int:
        """Effects that are neither settled nor cancelled."""
        return self._around.pending

    @property
    def in_flight(self) -> int:
        """Attempts whose effector has not let go, those that timed out or were cancelled included."""
        return self._around.in_flight

    def drained(self, callback: Callable[[], object]) -> None:
        """Call back once when nothing is pending and nothing in flight; at once if that is so now."""
        self._around.waiting_for_idle.append(callback)
        self._around.run()

    def statistics(self) -> DispatcherStatistics:
        around = self._around
        return DispatcherStatistics(
            around.pending,
            around.in_flight,
            around.settled,
            around.cancelled,
            around.retries,
            around.late,
            around.stray,
            around.targets.statistics(),
        )

    def __repr__(self) -> str:
        around = self._around
        return f"<Dispatcher of {len(around.targets)} targets: {around.pending} pending, {around.in_flight} in flight>"
