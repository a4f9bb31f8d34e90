"""Drives the real interpreter by hand: a clock that moves when told, outcomes in any order, everything recorded.

driver = Driver(parse, load)
driver.start()                      # -> the actions
driver.settle(0, ok(Todo(1)))       # effect 0 of the Need that is pending
driver.response, driver.slots, driver.names("StepStart")
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from causal_trace import Event

from zerver.compiled_step import CompiledStep
from zerver.context import Sources
from zerver.effect import Effect
from zerver.error import Error, ErrorKind
from zerver.execution import Execution, Phase
from zerver.interpreter import advance, run_step
from zerver.need import need
from zerver.request import Request
from zerver.response import Response
from zerver.signals import (
    Action,
    CancelEffect,
    Cancelled,
    Closed,
    DeadlinePassed,
    DetachEffect,
    Input,
    ReportBug,
    Respond,
    RunStep,
    Settled,
    Start,
    StartEffect,
)
from zerver.slot import Slot
from zerver.step import compile_step
from zerver.surroundings import Surroundings
from zerver.trace.events import EventKind
from zerver.trace.reading import told
from zerver_runtime.outcome import Failure, Outcome, Success

__all__ = ["Driver", "Event", "FakeSources", "effect", "failed", "need", "ok", "render"]

SECOND = 1_000_000_000


class FakeSources:
    """Time, randomness and ids that count up, so that their order shows."""

    def __init__(self) -> None:
        self.calls = 0

    def _next(self) -> int:
        self.calls += 1
        return self.calls

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self._next())

    def random(self) -> float:
        return self._next() / 1000

    def uuid(self) -> UUID:
        return UUID(int=self._next())


def effect(into: type[Slot[Any]] | None = None, *, required: bool = True, op: str = "do") -> Effect[Any]:
    """An effect that nothing performs: its outcome is what the driver is told."""
    return Effect(family="test", op=op, target="test", args=None, into=into, required=required)


def ok(value: object = None) -> Success:
    return Success(value)


def failed(what: str = "it failed", kind: ErrorKind = ErrorKind.UPSTREAM_UNAVAILABLE) -> Failure:
    return Failure(Error(kind, what))


def render(error: Error, request: Request, exception: BaseException | None) -> Response:
    """The plainest rendering of an error: its status, and its sentence as the body."""
    return Response(error.kind.status, (), error.what.encode())


class _Chosen:
    """The steps that a function chooses."""

    def __init__(self, choose: Callable[[CompiledStep], bool]) -> None:
        self._choose = choose

    def __contains__(self, step: object) -> bool:
        assert isinstance(step, CompiledStep)
        return self._choose(step)


class Driver:
    """One request on its way through ``steps`` (functions, or compiled ones), and all that came of it."""

    def __init__(
        self,
        *steps: Any,
        request: Request | None = None,
        deadline: float = 30.0,
        offload: Callable[[CompiledStep], bool] | None = None,
        render: Callable[..., Any] = render,
        sources: Sources | None = None,
        trace: bool = True,
        budget_ns: int = sys.maxsize,
        in_a_row: int = sys.maxsize,
    ) -> None:
        self.now_ns = 1_000 * SECOND
        self.actions: list[Action] = []
        self.in_flight: dict[tuple[int, int], Effect[Any]] = {}
        """Started effects that nothing has become of yet."""
        self.offloaded: list[RunStep] = []
        """Steps that wait to be run elsewhere."""
        around = Surroundings(
            clock=lambda: self.now_ns,
            sources=FakeSources() if sources is None else sources,
            render=render,
            trace=self if trace else None,
            offload=None if offload is None else _Chosen(offload),
            step_budget_ns=budget_ns,
            in_a_row=in_a_row,
        )
        compiled = tuple(step if isinstance(step, CompiledStep) else compile_step(step) for step in steps)
        request = Request("GET", "/", id="r1") if request is None else request
        end = self.now_ns + round(deadline * SECOND)
        self.run = Execution(compiled, request, around, self.now_ns, end)

    # What happens to it

    def feed(self, event: Input) -> list[Action]:
        """One input; what the interpreter asks for."""
        if isinstance(event, Settled):
            self.in_flight.pop((event.need, event.effect), None)
        actions = advance(self.run, event)
        for action in actions:
            match action:
                case StartEffect(need=number, effect=index):
                    assert (number, index) not in self.in_flight, "an effect is started once"
                    self.in_flight[number, index] = action.what
                case CancelEffect(need=number, effect=index) | DetachEffect(need=number, effect=index):
                    self.in_flight.pop((number, index), None)
                case RunStep():
                    self.offloaded.append(action)
        self.actions += actions
        return actions

    def start(self) -> list[Action]:
        return self.feed(Start())

    def settle(self, index: int, outcome: Outcome, *, need: int | None = None) -> list[Action]:
        """Effect ``index`` of the pending Need (or of Need number ``need``) settles."""
        return self.feed(Settled(self.run.need_id if need is None else need, index, 1, outcome))

    def answer(self, *outcomes: Outcome) -> Response | None:
        """Start, settle effects in the order in which they are started, close. What was answered."""
        self.start()
        for outcome in outcomes:
            number, index = next(iter(self.in_flight))
            self.settle(index, outcome, need=number)
        self.close()
        return self.response

    def run_offloaded(self) -> list[Action]:
        """Run the step that waits elsewhere, and come back with what it gave."""
        return self.feed(run_step(self.offloaded.pop(0)))

    def pass_time(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)

    def deadline_passes(self) -> list[Action]:
        self.now_ns = max(self.now_ns, self.run.deadline_ns)
        return self.feed(DeadlinePassed())

    def cancel(self, reason: str = "the client has gone") -> list[Action]:
        return self.feed(Cancelled(reason))

    def close(self) -> list[Action]:
        return self.feed(Closed())

    # What came of it

    @property
    def phase(self) -> Phase:
        return self.run.phase

    @property
    def slots(self) -> dict[str, Any]:
        """The values of the slots that are set, by name, in the order of their first writing."""
        return {slot.__name__: value for slot, value in self.run.slots.items()}

    @property
    def responses(self) -> list[Response]:
        return [action.response for action in self.actions if isinstance(action, Respond)]

    @property
    def response(self) -> Response | None:
        """The answer; ``None`` before there is one."""
        assert len(self.responses) <= 1, "a request is answered once"
        return self.responses[0] if self.responses else None

    @property
    def status(self) -> int | None:
        return self.response.status if self.response else None

    @property
    def body(self) -> Any:
        return self.response.body if self.response else None

    @property
    def bugs(self) -> list[ReportBug]:
        return [action for action in self.actions if isinstance(action, ReportBug)]

    def of(self, *kinds: str) -> list[Event]:
        """The events of these kinds, in order."""
        return [event for event in self.events if event.kind.name in kinds]

    def names(self, *kinds: str) -> list[str]:
        return [event.name for event in self.of(*kinds)]

    # The trace

    least_ns = -1

    @property
    def events(self) -> list[Event]:
        """Those so far, in causal order."""
        return told(self.run)

    def end(self, run: Execution) -> None:
        assert run is self.run
        assert self.events[-1].kind is EventKind.RequestEnd


def indexes(actions: Iterable[Action], kind: type[StartEffect | CancelEffect | DetachEffect]) -> list[int]:
    """The effects that these actions start, cancel or detach."""
    return [action.effect for action in actions if isinstance(action, kind)]
