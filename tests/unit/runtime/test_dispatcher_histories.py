"""Any history of a dispatcher: every effect settles once or was cancelled, and nothing leaks."""

from __future__ import annotations

from typing import Any

from dispatcher_kit import BUSY, GONE, Run, World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.breaker import BreakerPolicy
from zerver_runtime.reactor.budget import RetryBudget
from zerver_runtime.reactor.bulkhead import BulkheadPolicy
from zerver_runtime.reactor.effector import Policy
from zerver_runtime.reactor.retry import RetryPolicy
from zerver_runtime.reactor.ticket import Scope, Ticket

LIMIT, SHARE, BUDGET = 2, 1, 3
POLICIES = {
    "guarded": Policy(
        timeout=1.0,
        retry=RetryPolicy(attempts=3, base=0.5),
        breaker=BreakerPolicy(failures=3, window=4.0, cooldown=2.0, probes=1),
        bulkhead=BulkheadPolicy(in_flight=LIMIT, per_request=SHARE, queue=3),
    ),
    "patient": Policy(retry=RetryPolicy(attempts=2), bulkhead=BulkheadPolicy(in_flight=LIMIT, per_request=9, queue=9)),
    "open": Policy(timeout=0.5, breaker=BreakerPolicy(failures=2, window=4.0, cooldown=1.0, probes=2)),
}
ANSWERS: dict[str, Any] = {
    "success": Success(1), "busy": BUSY, "gone": GONE, "wait": Failure("wait", retryable=True, retry_after=0.7),
}  # fmt: skip
acts = st.sampled_from(["hold", "hold", "hold", "crash", "cancel itself", "cancel another", *ANSWERS])
afterwards = st.sampled_from(["nothing", "nothing", "start another", "cancel another", "raise"])


class Boom(Exception):
    """Raised by a caller's callback."""


class Histories(RuleBasedStateMachine):
    @initialize()
    def build(self) -> None:
        self.world = World(policies=POLICIES)
        self.world.http.on_start = self.on_start
        self.world.http.on_cancel = self.on_cancel
        self.scopes = [Scope(RetryBudget(BUDGET)) for _ in range(2)]
        self.tickets: dict[str, Ticket] = {}
        self.made = 0
        self.plans: dict[str, tuple[str, str, bool]] = {}  # within start, when settled, whether it lets go when told to
        self.cancelled: set[str] = set()
        self.booms = [0, 0]  # raised, and surfaced

    # What effectors and callers do

    def on_start(self, run: Run) -> None:
        act = self.plans[run.effect.name][0]
        if act == "crash":
            run.let_go = True
            raise Boom
        if act == "cancel itself":
            self.cancel(run.effect.name)
        elif act == "cancel another":
            self.cancel_another(run.effect.name)
        elif act in ANSWERS:
            run.answer(ANSWERS[act])

    def on_cancel(self, run: Run) -> None:
        if self.plans[run.effect.name][2]:
            run.answer(GONE)

    def on_settled(self, name: str) -> None:
        assert name not in self.cancelled
        act = self.plans[name][1]
        if act == "start another" and self.made < 60:
            ticket = self.tickets.get(name)
            target = "guarded" if ticket is None else ticket.effect.target
            self.begin(target, self.scopes[0], None, "interactive", ("hold", "nothing", True))
        elif act == "cancel another":
            self.cancel_another(name)
        elif act == "raise":
            self.booms[0] += 1
            raise Boom

    def begin(
        self, target: str, scope: Scope, deadline: float | None, priority: str, plan: tuple[str, str, bool]
    ) -> None:
        self.made += 1
        name = f"e{self.made}"
        self.plans[name] = plan
        at = None if deadline is None else self.world.clock.now() + deadline
        ticket = self.world.start(
            name, deadline=at, scope=scope, then=lambda: self.on_settled(name), target=target, priority=priority
        )
        self.tickets[name] = ticket

    def cancel(self, name: str) -> None:
        if name not in self.tickets:
            return  # cancelled from within its own start: its caller has no ticket yet
        if name not in self.world.outcomes:
            self.cancelled.add(name)
        self.tickets[name].cancel()

    def cancel_another(self, name: str) -> None:
        others = [one for one in self.tickets if one != name and one not in self.world.outcomes]
        if others:
            self.cancel(others[len(others) // 2])

    def move(self, seconds: float) -> None:
        end = self.world.clock.now() + seconds
        while True:
            try:
                self.world.clock.advance(max(0.0, end - self.world.clock.now()))
                return
            except Boom:
                self.booms[1] += 1

    # What happens

    @rule(
        to=st.sampled_from([*POLICIES]),
        scope=st.integers(0, 1),
        deadline=st.sampled_from([None, None, 0.0, 0.4, 3.0]),
        priority=st.sampled_from(["interactive", "batch"]),
        plan=st.tuples(acts, afterwards, st.booleans()),
    )
    def start(self, to: str, scope: int, deadline: float | None, priority: str, plan: tuple[str, str, bool]) -> None:
        self.begin(to, self.scopes[scope], deadline, priority, plan)

    @precondition(lambda self: self.world.http.held)
    @rule(data=st.data(), outcome=st.sampled_from([*ANSWERS.values()]))
    def answer(self, data: st.DataObject, outcome: Any) -> None:
        data.draw(st.sampled_from(self.world.http.held)).answer(outcome)

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.5]))
    def wait(self, seconds: float) -> None:
        self.move(seconds)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def cancel_one(self, data: st.DataObject) -> None:
        self.cancel(data.draw(st.sampled_from([*self.tickets])))

    # What always holds

    @invariant()
    def limits_and_counts_hold(self) -> None:
        if not hasattr(self, "world"):
            return
        world, held = self.world, self.world.http.held
        for target in ("guarded", "patient"):
            assert sum(run.effect.target == target for run in held) <= LIMIT
        names = [run.effect.name for run in held if run.effect.target == "guarded"]
        for scope in self.scopes:
            assert sum(self.tickets[name].scope is scope for name in names) <= SHARE
        told = [name for name, _, _ in world.settled]
        assert len(told) == len(set(told)), "settled twice"
        assert self.cancelled.isdisjoint(told), "settled after it was cancelled"
        assert world.dispatcher.pending == self.made - len(told) - len(self.cancelled)
        assert world.dispatcher.in_flight == len(held)
        assert sum(attempt - 1 for _, attempt, _ in world.settled) <= len(self.scopes) * BUDGET
        for name, ticket in self.tickets.items():
            if name not in told and name not in self.cancelled and ticket.deadline is not None:
                assert world.clock.now() < ticket.deadline

    def teardown(self) -> None:
        """Effectors answer in the end; then nothing is left."""
        if not hasattr(self, "world"):
            return
        world, drained = self.world, []
        world.dispatcher.drained(lambda: drained.append(True))
        for _ in range(200):
            for run in world.http.held:
                run.answer(GONE)
            self.move(1.0)
            if not world.dispatcher.pending and not world.dispatcher.in_flight:
                break
        assert drained == [True]
        assert {name for name, _, _ in world.settled} | self.cancelled == {*self.plans}
        assert self.booms[0] == self.booms[1]
        world.clean()
        for name in self.plans:
            told = [one for one in world.events if one[2] == name and one[1] != "BreakerStateChanged"]
            mine = [event for _, event, _, _, _ in told]
            ends = ["ReactorEffectCompleted", "EffectCancelled"]
            at_once = mine[0] in ends or (mine[0] == "EffectStart" and told[0][4] == 0)
            assert mine.count("ReactorEffectScheduled") == (not at_once)
            assert at_once or mine[0] == "ReactorEffectScheduled"
            assert [event for event in mine if event in ends] == [mine[-1]]


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
