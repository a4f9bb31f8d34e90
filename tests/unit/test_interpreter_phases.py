"""Every input in every phase, and any inputs in any order: what the interpreter promises whoever drives it."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any, Never

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from interpreter_driver import Driver, effect, failed, need, ok

from zerver import Continue, CtxView, Decision, Done, Error, ErrorKind, Fail, Need, Slot
from zerver.execution import Phase
from zerver.interpreter import run_step
from zerver.signals import (
    Action,
    CancelEffect,
    Cancelled,
    Closed,
    DeadlinePassed,
    GiveWay,
    GoOn,
    Input,
    Refused,
    Respond,
    RunStep,
    Settled,
    Start,
    StartEffect,
    StepAwaits,
    StepRaised,
    StepReturned,
)
from zerver_runtime.reactor.join import Join, Mode, check


class A(Slot[str]): ...


class B(Slot[str]): ...


class C(Slot[str]): ...


# --- Every input in every phase


def register(ctx: CtxView) -> Decision:
    ctx.on_exit(lambda: None)
    return Continue()


def ask(ctx: CtxView[Never, A]) -> Decision:
    return Need([effect(A)])


def away(ctx: CtxView) -> Decision:
    return Continue()


def end(ctx: CtxView) -> Decision:
    return Done.text("the end")


def new() -> Driver:
    return Driver(register, ask, end)


def waiting() -> Driver:
    driver = new()
    driver.start()
    return driver


def again(ctx: CtxView) -> Decision:
    return Need([])


def parked() -> Driver:
    driver = Driver(register, again, again, end, in_a_row=2)
    driver.start()
    return driver


def offloaded() -> Driver:
    driver = Driver(register, away, end, offload=lambda step: step.name == "away")
    driver.start()
    return driver


def ended() -> Driver:
    driver = waiting()
    driver.settle(0, ok("a"))
    return driver


def ended_while_away() -> Driver:
    driver = offloaded()
    driver.deadline_passes()
    return driver


def closed_while_away() -> Driver:
    driver = offloaded()
    driver.close()
    return driver


def closed() -> Driver:
    driver = ended()
    driver.close()
    return driver


PHASES: dict[str, tuple[Callable[[], Driver], Phase]] = {
    "NEW": (new, Phase.NEW),
    "WAITING": (waiting, Phase.WAITING),
    "PARKED": (parked, Phase.WAITING),
    "OFFLOADED": (offloaded, Phase.OFFLOADED),
    "ENDED": (ended, Phase.ENDED),
    "ENDED away": (ended_while_away, Phase.ENDED),
    "CLOSED away": (closed_while_away, Phase.ENDED),
    "CLOSED": (closed, Phase.CLOSED),
}


async def awaits(ctx: CtxView) -> Decision:
    return Done.json(await need(effect()))


def suspended(asked: object) -> StepAwaits:
    coroutine: Any = awaits(Any)
    return StepAwaits(coroutine, asked if asked is not None else coroutine.send(None))


INPUTS: dict[str, Callable[[], Input]] = {
    "Start": Start,
    "Settled": lambda: Settled(1, 0, 1, ok("a")),
    "Settled(stray)": lambda: Settled(7, 0, 1, ok("a")),
    "StepReturned": lambda: StepReturned(Continue()),
    "StepAwaits": lambda: suspended(None),
    "StepRaised": lambda: StepRaised(ValueError("x")),
    "GoOn": GoOn,
    "Refused": lambda: Refused(Error(ErrorKind.OVERLOADED, "no thread is free")),
    "DeadlinePassed": DeadlinePassed,
    "Cancelled": lambda: Cancelled("the client has gone"),
    "Closed": Closed,
}

# As in the table at the top of the interpreter; a dot is: dropped and counted.
TABLE = """
    phase        Start  Settled  Settled(stray)  StepReturned  StepAwaits  StepRaised  GoOn   Refused      DeadlinePassed  Cancelled  Closed
    NEW          run    .        .               .             .           .           .      503          504             abandon    abandon+close
    WAITING      .      join     .               .             .           .           .      .            504             abandon    abandon+close
    PARKED       .      .        .               .             .           .           go-on  .            504             abandon    abandon+close
    OFFLOADED    .      .        .               go-on         wait        bug         .      503          504             abandon    abandon+later
    ENDED        .      .        .               .             .           .           .      .            .               .          close
    ENDED-away   .      .        .               clean         clean       clean       .      clean        .               .          later
    CLOSED-away  .      .        .               clean+close   clean+close clean+close .      clean+close  .               .          later
    CLOSED       .      .        .               .             .           .           .      .            .               .          .
"""  # noqa: E501


def cells() -> list[tuple[str, str, str]]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [
        (row[0].replace("-", " "), name, what) for row in rows for name, what in zip(head[1:], row[1:], strict=True)
    ]


def test_the_table_is_complete() -> None:
    assert {(phase, name) for phase, name, _ in cells()} == {(phase, name) for phase in PHASES for name in INPUTS}


@pytest.mark.parametrize(("phase", "name", "what"), cells())
def test_every_input_in_every_phase_does_what_the_table_says(phase: str, name: str, what: str) -> None:
    make, before = PHASES[phase]
    driver = make()
    assert driver.phase is before
    dropped, answered = driver.run.dropped, len(driver.responses)
    event = INPUTS[name]()
    actions = driver.feed(event)
    kinds = [type(action) for action in actions]
    parts = what.split("+")
    expected_phase = before
    new_answers = 0
    match parts[0]:
        case "run":
            assert kinds == [StartEffect]
            expected_phase = Phase.WAITING
        case "join" | "go-on":
            assert actions == [Respond(Done.text("the end").response)]
            expected_phase, new_answers = Phase.ENDED, 1
        case "wait":
            assert kinds == [StartEffect]
            expected_phase = Phase.WAITING
        case "bug":
            assert driver.status == 500
            expected_phase, new_answers = Phase.ENDED, 1
        case "503":
            assert kinds == [Respond]
            assert driver.status == 503
            expected_phase, new_answers = Phase.ENDED, 1
        case "504":
            assert kinds == [CancelEffect, Respond] if phase == "WAITING" else [Respond]
            assert driver.status == 504
            expected_phase, new_answers = Phase.ENDED, 1
        case "abandon":
            assert kinds == ([CancelEffect] if phase == "WAITING" else [])
            expected_phase = Phase.ENDED
        case "." | "clean":
            assert actions == []
    if "close" in parts:
        expected_phase = Phase.CLOSED
    assert driver.phase is expected_phase
    assert len(driver.responses) - answered == new_answers
    assert driver.run.dropped - dropped == (1 if parts[0] in (".", "clean") else 0)
    if isinstance(event, StepAwaits) and parts[0] == "clean":
        assert event.coroutine.cr_frame is None, "closed"
    exits = [driver.run.exits == []] if phase != "NEW" else []
    assert exits == [expected_phase is Phase.CLOSED][: len(exits)]
    if isinstance(event, StepAwaits):
        event.coroutine.close()


def test_what_goes_on_without_end_gives_way_again_and_again_and_ends_at_the_deadline() -> None:
    def endless(ctx: CtxView) -> Decision:
        return Need([], then=endless)

    driver = Driver(endless, in_a_row=3)
    assert driver.start() == [GiveWay()]
    for _ in range(5):
        assert driver.feed(GoOn()) == [GiveWay()]
    assert driver.run.need_id == 18
    driver.pass_time(31)
    driver.feed(GoOn())
    assert driver.status == 504


@pytest.mark.parametrize("event", [DeadlinePassed(), Cancelled("gone"), Closed()], ids=repr)
def test_an_async_step_that_is_parked_is_closed_when_its_request_ends(event: Input) -> None:
    notes = []

    async def asks(ctx: CtxView) -> Decision:
        try:
            await need(effect())
        finally:
            notes.append("closed")
        return Continue()

    driver = Driver(asks)
    driver.start()
    driver.run.around = msgspec.structs.replace(driver.run.around, in_a_row=0)
    assert driver.settle(0, ok()) == [GiveWay()]
    assert notes == []
    driver.feed(event)
    assert notes == ["closed"]
    assert driver.feed(GoOn()) == []


@pytest.mark.parametrize("what", ["raises", "done"])
def test_a_value_that_lies_about_its_class_does_not_come_through(what: str) -> None:
    def evil(self: object) -> Any:
        raise RuntimeError("do not look at me")

    body: dict[str, Any] = {"__class__": property(evil), "__str__": evil}
    problem: Any = type("Evil", (RuntimeError,), body)()

    def step(ctx: CtxView) -> Decision:
        if what == "raises":
            raise problem
        return Done(problem)

    for offload in (None, lambda step: True):
        driver = Driver(step, offload=offload)
        driver.start()
        if offload:
            driver.run_offloaded()
        assert driver.status == 500


# --- Any inputs in any order


Body = Callable[[CtxView[Any, Any]], Any]

OUTCOMES = st.one_of(
    st.builds(ok, st.sampled_from(["value", None])),
    st.just(failed()),
    st.sampled_from([None, "garbage"]),  # what no dispatcher gives
)
needs = st.tuples(
    st.lists(st.booleans(), max_size=3),
    st.sampled_from(["all", "all_required", "any", "first_success"]),
    st.sampled_from(["parallel", "sequential"]),
    st.booleans(),
)


def make_need(shape: tuple[list[bool], Join, Mode, bool], then: Any = None) -> Need:
    required, join, mode, detach = shape
    if check(required, join, mode, detach) is not None:
        join, detach = "all", False
    slots = (A, B, C)
    return Need([effect(slots[i], required=r) for i, r in enumerate(required)], mode, join, then, detach)


def decides(decision: Any) -> Body:
    def step(ctx: CtxView[Any, Any]) -> Any:
        return decision

    return step


def raises(problem: BaseException) -> Body:
    def step(ctx: CtxView[Any, Any]) -> Any:
        raise problem

    return step


def asks(shape: tuple[list[bool], Join, Mode, bool], then: Body | None) -> Body:
    return decides(make_need(shape, then and declared(then)))


def awaiting(shape: tuple[list[bool], Join, Mode, bool], then: Body, manners: str) -> Body:
    async def step(ctx: CtxView[Any, Any]) -> Any:
        asked = make_need(shape)
        try:
            asking: Any = need if asked.effects else never
            await asking(*asked.effects, join=asked.join, mode=asked.mode, detach=asked.detach)
        finally:
            if manners == "awaits":
                await need(effect())
            elif manners == "raises":
                raise KeyError
        result = then(ctx)
        return await result if isinstance(result, CoroutineType) else result

    return step


async def never(*_: object, **__: object) -> None:
    """Asks for nothing, at once."""


def declared(body: Body) -> Body:
    """The body as a step which may write all slots."""

    def step(ctx: CtxView[A | B | C, A | B | C]) -> Any:
        ctx.on_exit(lambda: exits.append(1))
        return body(ctx)

    exits: list[int] = []
    step.exits = exits  # type: ignore[attr-defined]
    return step


bodies: st.SearchStrategy[Body] = st.recursive(
    st.one_of(
        st.sampled_from([Continue(), Done.text("x"), Fail(ErrorKind.CONFLICT), None, 7]).map(decides),
        st.sampled_from([ValueError(), SystemExit(), KeyboardInterrupt()]).map(raises),
        needs.map(lambda shape: asks(shape, None)),
    ),
    lambda inner: st.one_of(
        st.builds(asks, needs, inner),
        st.builds(awaiting, needs, inner, st.sampled_from(["fine", "fine", "awaits", "raises"])),
    ),
    max_leaves=4,
)


class AnyOrder(RuleBasedStateMachine):
    """Feeds what an engine would, and what none should, and holds the promises after each input."""

    driver: Driver

    @initialize(
        steps=st.lists(st.one_of(st.just(decides(Continue())), bodies), max_size=4),
        away=st.sampled_from([None, "all", "every other"]),
        rendering=st.sampled_from(["fine", "fine", "raises"]),
    )
    def begin(self, steps: list[Body], away: str | None, rendering: str) -> None:
        calls = 0

        def offload(step: object) -> bool:
            nonlocal calls
            calls += 1
            return away == "all" or calls % 2 == 0

        def broken(*_: object) -> Any:
            raise ZeroDivisionError

        options: dict[str, Any] = {"render": broken} if rendering == "raises" else {}
        self.steps = [declared(body) for body in steps]
        self.driver = Driver(*self.steps, offload=offload if away else None, **options)
        self.abandoned = False
        self.seen: list[Action] = []

    def feed(self, event: Input) -> None:
        driver = self.driver
        before = driver.phase
        actions = driver.feed(event)
        if before in (Phase.ENDED, Phase.CLOSED):
            assert [action for action in actions if isinstance(action, (StartEffect, Respond, RunStep))] == []
        if before is Phase.CLOSED:
            assert actions == []
        if isinstance(event, (Cancelled, Closed)) and before not in (Phase.ENDED, Phase.CLOSED):
            self.abandoned = True
        order = [Phase.NEW, Phase.WAITING, Phase.ENDED, Phase.CLOSED]
        rank = {phase: number for number, phase in enumerate(order)} | {Phase.OFFLOADED: 1}
        assert rank[driver.phase] >= rank[before]

    @rule()
    def start(self) -> None:
        self.feed(Start())

    @precondition(lambda self: self.driver.in_flight)
    @rule(data=st.data(), outcome=OUTCOMES)
    def settles(self, data: st.DataObject, outcome: Any) -> None:
        number, index = data.draw(st.sampled_from(sorted(self.driver.in_flight)))
        self.feed(Settled(number, index, 1, outcome))

    @rule(number=st.integers(0, 5), index=st.integers(-2, 4), outcome=OUTCOMES)
    def strays(self, number: int, index: int, outcome: Any) -> None:
        self.feed(Settled(number, index, 1, outcome))

    @precondition(lambda self: self.driver.offloaded)
    @rule()
    def comes_back(self) -> None:
        self.feed(run_step(self.driver.offloaded.pop(0)))

    @precondition(lambda self: self.driver.offloaded)
    @rule()
    def could_not_be_run(self) -> None:
        self.driver.offloaded.pop(0)
        self.feed(Refused(Error(ErrorKind.OVERLOADED, "the pool is closed")))

    @precondition(lambda self: not self.driver.offloaded)
    @rule(event=st.sampled_from([StepReturned(Continue()), StepReturned(None), StepRaised(ValueError())]))
    def comes_from_nowhere(self, event: Input) -> None:
        self.feed(event)

    @rule(seconds=st.sampled_from([0.0, 1.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.driver.pass_time(seconds)

    @rule()
    def deadline(self) -> None:
        self.feed(DeadlinePassed())

    @rule()
    def cancelled(self) -> None:
        self.feed(Cancelled("the client has gone"))

    @rule()
    def closed(self) -> None:
        self.feed(Closed())

    @invariant()
    def promises(self) -> None:
        driver = self.driver
        run, phase = driver.run, driver.phase
        assert (run.pending is not None) == (phase is Phase.WAITING)
        if phase is Phase.OFFLOADED:
            assert run.offloaded is not None
        if phase in (Phase.NEW, Phase.WAITING):
            assert run.offloaded is None
        if phase is Phase.WAITING:
            assert driver.in_flight, "somebody has to wake it up"
        if phase in (Phase.ENDED, Phase.CLOSED):
            assert len(driver.responses) == (0 if self.abandoned else 1)
            assert driver.in_flight == {}, "every effect has settled, or was cancelled or detached"
        else:
            assert driver.responses == []
        registered = sum(event.kind.name == "OnExit" for event in driver.events)
        assert (registered == 0) or phase is Phase.CLOSED
        if phase is Phase.CLOSED:
            assert not run.exits
            assert len(driver.of("RequestEnd")) == 1

    def teardown(self) -> None:
        """However it stands: closing it ends it."""
        if hasattr(self, "driver"):
            self.feed(Closed())
            while self.driver.offloaded:
                self.comes_back()
            assert self.driver.phase is Phase.CLOSED


AnyOrder.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_any_inputs_in_any_order = AnyOrder.TestCase
