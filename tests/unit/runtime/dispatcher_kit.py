"""A dispatcher on a fake clock, with effectors that do as they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.breaker import BreakerPolicy
from zerver_runtime.reactor.budget import RetryBudget
from zerver_runtime.reactor.bulkhead import BulkheadPolicy
from zerver_runtime.reactor.dispatcher import Dispatcher
from zerver_runtime.reactor.effector import Policy
from zerver_runtime.reactor.retry import RetryPolicy
from zerver_runtime.reactor.ticket import Scope, Ticket
from zerver_runtime.testing.clock import FakeClock, FakeTimer

BUSY = Failure("busy", retryable=True)
GONE = Failure("gone")
RETRY = RetryPolicy(attempts=3, base=0.2, factor=2.0, cap=1.0)  # waits of 0.1 and 0.2 s with jitter at one half
ONE_PLACE = BulkheadPolicy(in_flight=1, per_request=10, queue=10)


def breaker(failures: int = 1, cooldown: float = 5.0, probes: int = 1) -> BreakerPolicy:
    return BreakerPolicy(failures=failures, window=60.0, cooldown=cooldown, probes=probes)


class Exit(BaseException):
    """Like the cancellation of a task, not an Exception."""


class Ask(msgspec.Struct, frozen=True):
    """An effect."""

    name: str = "effect"
    family: str = "http"
    target: str = "http:a"
    priority: str = "interactive"


class Run:
    """One attempt, as its effector sees it."""

    def __init__(self, effect: Ask, done: Callable[[Outcome], None]) -> None:
        self.effect = effect
        self.done = done
        self.cancelled = 0
        self.let_go = False

    def answer(self, outcome: Any = None) -> None:
        self.let_go = True
        self.done(Success(self.effect.name) if outcome is None else outcome)


class Script:
    """An effector. `on_start` is called within `start`, and `on_cancel` when an attempt is told to cancel."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.on_start: Callable[[Run], object] = lambda run: None
        self.on_cancel: Callable[[Run], object] = lambda run: None
        self.can_cancel = True

    def start(self, effect: Ask, done: Callable[[Outcome], None], /) -> Callable[[], object] | None:
        run = Run(effect, done)
        self.runs.append(run)

        def cancel() -> None:
            run.cancelled += 1
            self.on_cancel(run)

        self.on_start(run)
        return cancel if self.can_cancel else None

    @property
    def held(self) -> list[Run]:
        return [run for run in self.runs if not run.let_go]


class Faults:
    """Errors as tuples that tell the fault and what it was told."""

    def timeout(self, effect: Any, seconds: float, /) -> object:
        return ("timeout", effect.name, seconds)

    def deadline(self, effect: Any, /) -> object:
        return ("deadline", effect.name)

    def breaker_open(self, effect: Any, retry_after: float, /) -> object:
        return ("breaker open", effect.name, retry_after)

    def bulkhead_full(self, effect: Any, /) -> object:
        return ("bulkhead full", effect.name)

    def unknown_family(self, effect: Any, /) -> object:
        return ("unknown family", effect.name)

    def crashed(self, effect: Any, exception: BaseException, /) -> object:
        return ("crashed", effect.name, type(exception).__name__, str(exception))


class World:
    """What one test needs. `policies` are those of effects by name, or of targets; `policy` is that of the others.

    `settled` is what the callers were told, in order: (name, attempt, outcome).
    """

    def __init__(self, policy: Policy | None = None, policies: dict[str, Policy] | None = None) -> None:
        self.clock = FakeClock()
        self.behind = 0.0  # seconds by which the loop is late with its timers
        self.timers = 0
        self.http = Script()
        self.policy = policy or Policy()
        self.policies = policies or {}
        self.interpret: Callable[[Ask, Any], Any] = lambda effect, value: Success(value)
        self.settled: list[tuple[str, int, Outcome]] = []
        self.events: list[tuple[float, str, str, int, object]] = []
        self.scope = Scope(RetryBudget(10))
        self.random = 0.5
        self.dispatcher = Dispatcher(
            {"http": self.http},
            policy_for=self.policy_for,
            interpret=lambda effect, value: self.interpret(effect, value),
            faults=Faults(),
            clock=self.now,
            call_later=self.call_later,
            random=lambda: self.random,
            observe=self.observe,
        )

    def now(self) -> float:
        return self.clock.now() + self.behind

    def policy_for(self, effect: Ask) -> Policy:
        return self.policies.get(effect.name) or self.policies.get(effect.target) or self.policy

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> FakeTimer:
        self.timers += 1
        return self.clock.call_later(delay, callback, *args)

    def observe(self, event: str, ticket: Ticket, at: float, detail: object, /) -> None:
        assert at == self.now()
        self.events.append((at, event, str(ticket.tag), ticket.attempt, detail))

    def start(
        self,
        name: str = "effect",
        *,
        deadline: float | None = None,
        scope: Scope | None = None,
        then: Callable[[], object] = lambda: None,
        **fields: str,
    ) -> Ticket:
        def settled(ticket: Ticket, outcome: Outcome) -> None:
            self.settled.append((name, ticket.attempt, outcome))
            then()

        return self.dispatcher.start(Ask(name, **fields), scope or self.scope, deadline, settled, tag=name)

    @property
    def outcomes(self) -> dict[str, Any]:
        """The value or error that each settled effect came to."""
        return {name: one.value if isinstance(one, Success) else one.error for name, _, one in self.settled}

    def seen(self, *events: str) -> list[tuple[Any, ...]]:
        """What was observed, of these events or of all: (seconds, event, effect, attempt, detail)."""
        return [one for one in self.events if not events or one[1] in events]

    def clean(self) -> None:
        """Nothing is left of anything."""
        statistics = self.dispatcher.statistics()
        assert (statistics.pending, statistics.in_flight, self.clock.pending) == (0, 0, 0)
        for target in statistics.targets.values():
            assert target.in_flight == 0
            assert target.bulkhead is None or (target.bulkhead.in_flight, target.bulkhead.queued) == (0, 0)
            assert target.breaker is None or target.breaker.probing == 0
