"""``async def`` steps: driven by hand, the same as continuations, and nothing but ``need`` may suspend them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Never, get_args

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter_driver import Driver, Event, effect, failed, indexes, need, ok

from zerver import Continue, CtxView, Decision, DefinitionError, Done, Effect, Error, ErrorKind, Fail, Need, Slot
from zerver.execution import Phase
from zerver.interpreter import run_step
from zerver.signals import (
    CancelEffect,
    Refused,
    ReportBug,
    RunStep,
    StepAwaits,
    StepOverran,
    StepRaised,
    StepReturned,
)
from zerver_runtime.outcome import Outcome
from zerver_runtime.reactor.join import Join, Mode, check


class A(Slot[str]): ...


class B(Slot[str]): ...


class C(Slot[str]): ...


class D(Slot[str]): ...


SLOTS: tuple[type[Slot[str]], ...] = (A, B, C, D)


def end(ctx: CtxView) -> Decision:
    return Done.text("the end")


asking: Any = need  # for effects and options that only the test knows


# --- What await gives


async def one(ctx: CtxView[A, A]) -> Decision:
    value = await need(effect(A))
    return Done.json([value, ctx.require(A)])


def test_awaiting_one_effect_gives_its_value_and_sets_its_slot() -> None:
    assert Driver(one).answer(ok("x")) == Done.json(["x", "x"]).response


def test_awaiting_several_gives_their_values_in_order_whatever_the_order_of_completion() -> None:
    async def several(ctx: CtxView[Never, A]) -> Decision:
        first, second, third = await need(effect(A), effect(), effect())
        return Done.json([first, second, third])

    driver = Driver(several)
    driver.start()
    for index in (2, 0, 1):
        driver.settle(index, ok(index))
    assert driver.body == b"[0,1,2]"


def test_an_optional_effect_that_failed_gives_none_and_its_error_is_in_the_context() -> None:
    async def optional(ctx: CtxView) -> Decision:
        given = await need(effect(), effect(required=False))
        return Done.json([given, [error.what for error in ctx.errors]])

    assert Driver(optional).answer(ok(1), failed("no luck")) == Done.json([[1, None], ["no luck"]]).response


@pytest.mark.parametrize(
    ("join", "outcomes", "given"),
    [
        ("any", [ok("x")], ["x", None]),
        ("any", [failed()], [None, None]),
        ("first_success", [failed(), ok("y")], [None, "y"]),
        ("all_required", [ok("x")], ["x", None]),
    ],
)
def test_what_lost_failed_or_was_dropped_is_none(join: Join, outcomes: list[Outcome], given: list[str | None]) -> None:
    async def race(ctx: CtxView) -> Decision:
        return Done.json(await asking(effect(), effect(required=False), join=join))

    driver = Driver(race)
    driver.start()
    for index, outcome in enumerate(outcomes):
        driver.settle(index, outcome)
    assert driver.response == Done.json(given).response


def test_a_single_effect_that_lost_is_none_too() -> None:
    async def race(ctx: CtxView) -> Decision:
        return Done.json([await need(effect(), join="any")])

    assert Driver(race).answer(failed()) == Done.json([None]).response


def test_more_than_eight_effects_are_a_tuple_of_all() -> None:
    async def many(ctx: CtxView) -> Decision:
        return Done.json(await asking(*[effect() for _ in range(9)]))

    assert Driver(many).answer(*map(ok, range(9))) == Done.json([*range(9)]).response


def test_need_without_an_effect_and_what_need_refuses_are_definition_errors() -> None:
    with pytest.raises(DefinitionError, match="at least one effect"):
        asking()
    with pytest.raises(DefinitionError, match="without a required effect"):
        need(effect(required=False), join="all_required")
    with pytest.raises(DefinitionError, match="both write slot A"):
        need(effect(A), effect(A))


def test_values_are_read_at_the_resolution_and_late_ones_never_seen() -> None:
    async def race(ctx: CtxView[A | B, A | B]) -> Decision:
        given = await need(effect(A), effect(B), join="any")
        return Done.json([given, ctx.optional(A), ctx.optional(B)])

    driver = Driver(race)
    driver.start()
    driver.settle(1, ok("b"))
    assert driver.settle(0, ok("late")) == []
    assert driver.response == Done.json([[None, "b"], None, "b"]).response
    assert driver.slots == {"B": "b"}


def test_needs_in_a_row_and_in_coroutines_inside() -> None:
    async def load(number: int) -> str:
        first = await need(effect())
        return f"{number}:{first}:{await inner()}"

    async def inner() -> str:
        return str(await need(effect()))

    class Awaits:
        def __await__(self) -> Any:
            return (yield from inner().__await__())

    async def outer(ctx: CtxView) -> Decision:
        return Done.json([await load(1), await load(2), await Awaits()])

    assert Driver(outer).answer(*map(ok, "abcde")) == Done.json(["1:a:b", "2:c:d", "e"]).response


def test_an_async_step_may_end_in_a_need_with_a_continuation() -> None:
    async def ask(ctx: CtxView[Never, A | B]) -> Decision:
        await need(effect(B))
        return Need([effect(A)], then=show)

    async def show(ctx: CtxView[A | B]) -> Decision:
        return Done.json([ctx.require(B), ctx.require(A), await need(effect())])

    driver = Driver(ask, end)
    assert driver.answer(ok("b"), ok("a"), ok("c")) == Done.json(["b", "a", "c"]).response


@pytest.mark.parametrize("form", ["def", "lambda", "method", "callable", "partial"])
def test_whatever_returns_a_coroutine_is_an_async_step(form: str) -> None:
    import functools

    def returns(ctx: CtxView[A, A]) -> Coroutine[Any, Any, Decision]:
        return one(ctx)

    async def bound(self: object, ctx: CtxView[A, A]) -> Decision:
        return await one(ctx)

    class Callable_:
        async def method(self, ctx: CtxView[A, A]) -> Decision:
            return await one(ctx)

        async def __call__(self, ctx: CtxView[A, A]) -> Decision:
            return await one(ctx)

    step = {
        "def": returns,
        "lambda": functools.wraps(one)(lambda ctx: one(ctx)),
        "method": Callable_().method,
        "callable": Callable_(),
        "partial": functools.partial(bound, object()),
    }[form]
    assert Driver(step).answer(ok("x")) == Done.json(["x", "x"]).response


# --- A Need that fails


def closing(log: list[str], finish: Callable[[], Awaitable[Any]] | None = None) -> Callable[..., Any]:
    """An async step that waits, and writes down how it is left."""

    async def step(ctx: CtxView) -> Decision:
        try:
            await need(effect(required=True))
            log.append("went on")
        except BaseException as problem:
            log.append(type(problem).__name__)
            raise
        finally:
            log.append("finally")
            if finish is not None:
                await finish()
        return Done.text("never")

    return step


@pytest.mark.parametrize("way", ["failed", "deadline", "deadline in time", "cancelled", "closed"])
def test_when_the_need_fails_the_coroutine_is_closed_its_finally_runs_and_the_answer_stands(way: str) -> None:
    log: list[str] = []
    driver = Driver(closing(log), end)
    driver.start()
    match way:
        case "failed":
            driver.settle(0, failed("down"))
            assert (driver.status, driver.body) == (502, b"down")
        case "deadline":
            driver.deadline_passes()
            assert driver.status == 504
        case "deadline in time":
            driver.pass_time(30)
            driver.settle(0, ok())
            assert driver.status == 504
        case "cancelled":
            driver.cancel()
            assert driver.response is None
        case _:
            driver.close()
            assert driver.response is None
    assert log == ["GeneratorExit", "finally"]
    assert driver.bugs == []


def test_a_coroutine_that_is_closed_may_not_await_and_its_await_changes_no_answer() -> None:
    async def again() -> None:
        await need(effect())

    log: list[str] = []
    driver = Driver(closing(log, again), end)
    driver.start()
    driver.settle(0, failed("down"))
    assert (driver.status, driver.body) == (502, b"down")
    (bug,) = driver.bugs
    assert "finally block may not await" in bug.what
    assert isinstance(bug.exception, RuntimeError)
    assert driver.in_flight == {}


def test_a_coroutine_that_is_closed_may_raise_what_it_likes_and_it_changes_no_answer() -> None:
    async def quit() -> None:
        raise SystemExit("quit")

    driver = Driver(closing([], quit), end)
    driver.start()
    driver.settle(0, failed("down"))
    assert driver.status == 502
    (bug,) = driver.bugs
    assert isinstance(bug.exception, SystemExit)


def test_try_except_cannot_swallow_a_failed_need_and_what_the_step_then_returns_is_ignored() -> None:
    async def stubborn(ctx: CtxView) -> Decision:
        try:
            await need(effect())
        except BaseException:
            return Done.text("swallowed")
        return Done.text("went on")

    driver = Driver(stubborn, end)
    driver.start()
    driver.settle(0, failed("down"))
    assert (driver.status, driver.body, driver.bugs) == (502, b"down", [])


def test_a_step_that_awaits_again_instead_of_leaving_is_reported_and_asks_for_nothing() -> None:
    async def stubborn(ctx: CtxView) -> Decision:
        while True:
            try:
                return Done.json(await need(effect()))
            except GeneratorExit:
                if ctx.errors[0].what == "down":
                    await need(effect())

    driver = Driver(stubborn, end)
    driver.start()
    driver.settle(0, failed("down"))
    assert driver.status == 502
    assert len(driver.bugs) == 1
    assert driver.run.need_id == 1


def test_the_finally_of_a_failed_need_sees_the_errors_and_its_exit_callbacks_run() -> None:
    seen: list[str] = []

    async def step(ctx: CtxView) -> Decision:
        try:
            return Done.json(await need(effect()))
        finally:
            seen.extend(error.what for error in ctx.errors)
            ctx.on_exit(lambda: seen.append("exit"))

    driver = Driver(step)
    driver.answer(failed("down"))
    assert seen == ["down", "exit"]


def test_a_refused_need_closes_the_coroutine() -> None:
    log: list[str] = []
    slots = [A]

    async def undeclared(ctx: CtxView) -> Decision:
        try:
            return Done.json(await need(effect(slots[0])))
        finally:
            log.append("finally")

    driver = Driver(undeclared)
    driver.start()
    assert driver.status == 500
    assert "step" in driver.bugs[0].what
    assert "CtxView[..., A]" in driver.bugs[0].what
    assert log == ["finally"]


def kept(step: Callable[..., Any], coroutines: list[Any]) -> Callable[[CtxView[Never, A]], Any]:
    """The step, whose coroutine is held on to: only who closes it makes it end."""

    def page(ctx: CtxView[Never, A]) -> Any:
        coroutines.append(step(ctx))
        return coroutines[-1]

    return page


async def waits(ctx: CtxView[Never, A]) -> Decision:
    return Done.json(await need(effect()))


async def waits_undeclared(ctx: CtxView[Never, A]) -> Decision:
    slots: list[Any] = [B]
    return Done.json(await need(effect(slots[0])))


async def waits_elsewhere(ctx: CtxView[Never, A]) -> Decision:
    await asyncio.sleep(0)
    return Continue()


@pytest.mark.parametrize("away", [False, True], ids=["in place", "offloaded"])
@pytest.mark.parametrize(
    ("step", "way"),
    [
        (waits, "failed"),
        (waits, "deadline_passes"),
        (waits, "cancel"),
        (waits, "close"),
        (waits, "resolved after the deadline"),
        (waits, "asked after the deadline"),
        (waits_undeclared, "refused"),
        (waits_elsewhere, "refused"),
    ],
)
def test_a_coroutine_that_does_not_go_on_is_closed_by_the_interpreter_and_not_left_to_chance(
    step: Callable[..., Any], way: str, away: bool
) -> None:
    async def dawdles(ctx: CtxView[Never, A]) -> Decision:
        driver.pass_time(30)
        return await waits(ctx)

    coroutines: list[Any] = []
    page = kept(dawdles if way == "asked after the deadline" else step, coroutines)
    driver = Driver(page, offload=(lambda _: True) if away else None)
    driver.start()
    if away:
        driver.run_offloaded()
    match way:
        case "failed":
            driver.settle(0, failed())
        case "resolved after the deadline":
            driver.pass_time(30)
            driver.settle(0, ok())
        case "deadline_passes" | "cancel" | "close":
            getattr(driver, way)()
    assert driver.offloaded == []
    assert [coroutine.cr_frame for coroutine in coroutines] == [None]


# --- What else suspends


def future() -> Awaitable[Any]:
    loop = asyncio.new_event_loop()
    try:
        return asyncio.Future(loop=loop)
    finally:
        loop.close()


class Yields:
    """An awaitable that suspends with something."""

    def __init__(self, what: object) -> None:
        self.what = what

    def __await__(self) -> Any:
        return (yield self.what)


async def foreign_generator() -> None:
    async def numbers() -> Any:
        yield 1
        await asyncio.sleep(0)

    async for _ in numbers():
        pass


FOREIGN: dict[str, Callable[[], Awaitable[Any]]] = {
    "asyncio.sleep(0)": lambda: asyncio.sleep(0),
    "asyncio.sleep(1)": lambda: asyncio.sleep(1),
    "a Future": future,
    "anyio.sleep": lambda: anyio.sleep(1),
    "anyio's checkpoint": lambda: anyio.lowlevel.checkpoint(),
    "anyio.to_thread": lambda: anyio.to_thread.run_sync(print),
    "asyncio.to_thread": lambda: asyncio.to_thread(print),
    "asyncio.wait_for": lambda: asyncio.wait_for(Yields(1), 1),
    "asyncio.timeout": lambda: in_timeout(),
    "an async generator": foreign_generator,
    "something": lambda: Yields("something"),
    "None": lambda: Yields(None),
    "a Need": lambda: Yields(Need([effect()])),
    "a Decision": lambda: Yields(Continue()),
}


async def in_timeout() -> None:
    async with asyncio.timeout(1):
        await need(effect())


def awaits(foreign: str) -> Callable[..., Any]:
    async def page(ctx: CtxView) -> Decision:
        try:
            await FOREIGN[foreign]()
        finally:
            left.append(foreign)
        return Done.text("went on")

    left: list[str] = []
    page.left = left  # type: ignore[attr-defined]
    return page


@pytest.mark.parametrize("foreign", FOREIGN)
def test_awaiting_anything_else_that_suspends_is_one_error_which_names_the_step(foreign: str) -> None:
    step = awaits(foreign)
    driver = Driver(step, end)
    driver.answer()
    assert driver.status == 500
    (bug,) = driver.bugs
    assert bug.what.startswith("step page awaited something other than need(...)")
    assert "declare an effect" in bug.what
    assert bug.what.encode() == driver.body
    assert step.left == [foreign]  # type: ignore[attr-defined]


@pytest.mark.parametrize("foreign", ["asyncio.sleep(0)", "asyncio.sleep(1)", "a Future"])
def test_it_is_the_same_error_where_a_loop_is_running(foreign: str) -> None:
    async def main() -> Driver:
        driver = Driver(awaits(foreign), end)
        driver.answer()
        return driver

    driver = asyncio.run(main())
    assert (driver.status, len(driver.bugs)) == (500, 1)
    assert driver.bugs[0].what.startswith("step page awaited something other than need(...)")


def test_a_plain_step_that_calls_what_wants_a_loop_is_the_same_error() -> None:
    def page(ctx: CtxView) -> Decision:
        asyncio.get_running_loop()
        return Continue()

    driver = Driver(page)
    driver.answer()
    assert driver.bugs[0].what.startswith("step page awaited something other than need(...), or called what wants")


def test_any_other_runtime_error_stays_what_it_is() -> None:
    async def raises(ctx: CtxView) -> Decision:
        raise RuntimeError("notable: the event loop of history")

    driver = Driver(raises)
    driver.answer()
    assert driver.bugs[0].what == "step raises failed"


def test_a_coroutine_that_never_suspends_is_a_plain_step() -> None:
    async def inner() -> str:
        return "at once"

    async def step(ctx: CtxView) -> Decision:
        return Done.text(await inner())

    driver = Driver(step)
    driver.answer()
    assert driver.body == b"at once"
    assert driver.names("StepStart") == ["step"]


def test_elapsed_moves_when_the_step_goes_on() -> None:
    async def step(ctx: CtxView) -> Decision:
        before = ctx.elapsed
        await need(effect())
        return Done.json([before, ctx.elapsed, ctx.deadline])

    driver = Driver(step, deadline=10)
    driver.start()
    driver.pass_time(2)
    driver.settle(0, ok())
    assert driver.body == b"[0.0,2.0,8.0]"


# --- The twin: an async step does what its continuations would


Plan = list[tuple[list[Effect[Any]], Join, Mode]]
"""The Needs of a step, one after another."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    slots = list(SLOTS)
    plan = []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 2))
        required = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        join: Join = draw(st.sampled_from(get_args(Join)))
        if check(required, join, "parallel", False) is not None:
            join = "all"
        into = [slots.pop(0) if slots and draw(st.booleans()) else None for _ in range(size)]
        effects = [effect(slot, required=one) for slot, one in zip(into, required, strict=True)]
        plan.append((effects, join, draw(st.sampled_from(get_args(Mode)))))
    return plan


End = Done | Fail | Continue
All = A | B | C | D


def as_async(plan: Plan, last: End) -> Callable[..., Any]:
    async def step(ctx: CtxView[All, All]) -> Decision:
        for effects, join, mode in plan:
            await asking(*effects, join=join, mode=mode)
        return last

    return step


def as_continuations(plan: Plan, last: End) -> Callable[..., Any]:
    def step(ctx: CtxView[All, All]) -> Decision:
        return last

    following: Any = step
    for effects, join, mode in reversed(plan):
        following = before(effects, join, mode, following)
    return following  # type: ignore[no-any-return]


def before(effects: list[Effect[Any]], join: Join, mode: Mode, following: Any) -> Any:
    def step(ctx: CtxView[All, All]) -> Decision:
        return Need(effects, join=join, mode=mode, then=following)

    return step


def told(events: list[Event]) -> list[Any]:
    """The trace, but for the names of functions."""
    return [
        (*event[:2], event[3:5], repr(event.detail) if event.kind.name != "NeedScheduled" else None) for event in events
    ]


@settings(max_examples=50, deadline=None)
@given(plans(), st.sampled_from([Done.text("x"), Fail(ErrorKind.CONFLICT, "no"), Continue()]), st.data())
def test_an_async_step_equals_its_continuation_twin_in_slots_trace_and_answer(
    plan: Plan, last: End, data: st.DataObject
) -> None:
    twins = [
        Driver(as_async(plan, last), end),
        Driver(as_continuations(plan, last), end),
        Driver(as_async(plan, last), end, offload=lambda step: True),
    ]

    def feed(do: Callable[[Driver], Any]) -> None:
        for twin in twins:
            do(twin)
            while twin.offloaded:
                twin.run_offloaded()

    feed(Driver.start)
    model = twins[0]
    while model.phase is Phase.WAITING:
        number, index = data.draw(st.sampled_from(sorted(model.in_flight)))
        outcome = ok(f"{number}.{index}") if data.draw(st.booleans()) else failed(f"{number}.{index}")
        seconds = data.draw(st.sampled_from([0.0, 1.0, 11.0]))
        feed(lambda twin, i=index, o=outcome, s=seconds: (twin.pass_time(s), twin.settle(i, o)))  # type: ignore[misc]
    feed(Driver.close)
    for twin in twins[1:]:
        assert twin.slots == model.slots
        assert twin.response == model.response
        assert told(twin.events) == told(model.events)
        assert [one for one in twin.actions if not isinstance(one, RunStep)] == model.actions
    assert len(model.responses) == 1
    assert model.bugs == []


# --- Offloaded steps


def everything(step: object) -> bool:
    return True


async def both(ctx: CtxView[Never, A]) -> Decision:
    await need(effect(A))
    return Continue()


def test_an_offloaded_step_runs_where_it_is_told_and_comes_back_with_what_it_gave() -> None:
    seen: list[int] = []

    def where(ctx: CtxView) -> Decision:
        seen.append(threading.get_ident())
        return Done.text("elsewhere")

    driver = Driver(where, offload=everything)
    (work,) = driver.start()
    assert isinstance(work, RunStep)
    assert driver.phase is Phase.OFFLOADED
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run_step(work)))
    thread.start()
    thread.join(10)
    assert seen == [thread.ident]
    driver.feed(results[0])
    assert driver.body == b"elsewhere"


def test_run_step_says_what_a_step_did_and_never_raises() -> None:
    def value(ctx: CtxView) -> Decision:
        return Continue()

    def raises(ctx: CtxView) -> Decision:
        raise SystemExit

    def work(step: Callable[..., Any]) -> RunStep:
        (work,) = Driver(step, offload=everything).start()
        assert isinstance(work, RunStep)
        return work

    assert run_step(work(value)) == StepReturned(Continue())
    result = run_step(work(raises))
    assert isinstance(result, StepRaised)
    assert isinstance(result.exception, SystemExit)
    suspended = run_step(work(both))
    assert isinstance(suspended, StepAwaits)
    suspended.coroutine.close()


def test_an_async_step_is_offloaded_again_each_time_that_it_goes_on() -> None:
    driver = Driver(both, end, offload=lambda step: step.name == "both")
    driver.start()
    driver.run_offloaded()
    assert driver.phase is Phase.WAITING
    (work,) = driver.settle(0, ok("a"))
    assert isinstance(work, RunStep)
    assert work.coroutine is not None
    assert work.value == "a"
    driver.run_offloaded()
    assert driver.body == b"the end"


@pytest.mark.parametrize("way", ["deadline_passes", "cancel", "close"])
def test_a_result_after_the_end_is_dropped_and_its_coroutine_closed(way: str) -> None:
    log: list[str] = []
    driver = Driver(closing(log), end, offload=everything)
    driver.start()
    getattr(driver, way)()
    responses = len(driver.responses)
    assert driver.run_offloaded() == []
    assert log == ["GeneratorExit", "finally"]
    assert driver.run.dropped == 1
    assert len(driver.responses) == responses
    assert driver.run.need_id == 0


@pytest.mark.parametrize("result", [StepReturned(Done.text("late")), StepReturned(None), StepRaised(ValueError())])
def test_any_other_result_after_the_end_is_dropped_too(result: Any) -> None:
    driver = Driver(end, offload=everything)
    driver.start()
    driver.cancel()
    assert driver.feed(result) == []
    assert driver.response is None


@pytest.mark.parametrize("first", ["cancel", "deadline_passes", None])
def test_exit_callbacks_wait_for_the_step_that_runs_elsewhere(first: str | None) -> None:
    ran: list[str] = []

    def register(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: ran.append("registered before"))
        return Continue()

    def slow(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: ran.append("registered by the slow one"))
        return Continue()

    driver = Driver(register, slow, end, offload=lambda step: "slow" in step.name)
    driver.start()
    if first is not None:
        getattr(driver, first)()
    assert driver.close() == []
    assert driver.phase is Phase.ENDED
    assert ran == []
    driver.close()
    driver.run_offloaded()
    assert driver.phase is Phase.CLOSED
    assert ran == ["registered by the slow one", "registered before"]
    assert len(driver.of("RequestEnd")) == 1


def test_exit_callbacks_also_run_when_the_step_came_back_before_closing() -> None:
    ran: list[str] = []

    def slow(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: ran.append("exit"))
        return Continue()

    driver = Driver(slow, offload=everything)
    driver.start()
    driver.cancel()
    driver.run_offloaded()
    assert ran == []
    driver.close()
    assert ran == ["exit"]


def test_a_coroutine_that_its_engine_could_not_run_is_closed() -> None:
    log: list[str] = []
    driver = Driver(closing(log), end, offload=everything)
    driver.start()
    driver.run_offloaded()
    driver.settle(0, ok())
    driver.feed(Refused(Error(ErrorKind.OVERLOADED, "no thread is free")))
    assert driver.status == 503
    assert log == ["GeneratorExit", "finally"]


def test_a_step_that_is_refused_too_late_is_504() -> None:
    driver = Driver(end, offload=everything, deadline=1.0)
    driver.start()
    driver.pass_time(1)
    driver.feed(Refused(Error(ErrorKind.OVERLOADED, "no thread is free")))
    assert driver.status == 504


def test_a_request_that_is_refused_too_late_is_504() -> None:
    driver = Driver(end, deadline=1.0)
    driver.pass_time(1)
    driver.feed(Refused(Error(ErrorKind.OVERLOADED, "the queue is full")))
    assert driver.status == 504


def test_a_step_that_runs_in_place_for_too_long_is_reported() -> None:
    def slow(ctx: CtxView) -> Decision:
        driver.pass_time(0.02)
        return Continue()

    driver = Driver(slow, end, budget_ns=10_000_000)
    actions = driver.start()
    (told,) = [action for action in actions if isinstance(action, StepOverran)]
    assert told.step.fn is slow
    assert told.took_ns == 20_000_000
    assert driver.status == 200


def test_a_step_that_came_back_too_late_is_504() -> None:
    driver = Driver(end, offload=everything, deadline=1.0)
    driver.start()
    driver.pass_time(1)
    driver.run_offloaded()
    assert driver.status == 504


def test_a_result_that_nobody_waits_for_is_dropped() -> None:
    driver = Driver(both, end)
    driver.start()
    assert driver.feed(StepReturned(Done.text("from nowhere"))) == []
    assert driver.phase is Phase.WAITING
    assert driver.run.dropped == 1
    actions = driver.cancel()
    assert indexes(actions, CancelEffect) == [0]
    assert not [action for action in actions if isinstance(action, ReportBug)]


def test_a_need_that_is_never_awaited_is_warned_of_because_nothing_happens() -> None:
    async def forgets(ctx: CtxView) -> Decision:
        need(effect(op="lost"))
        return Done.empty()

    with pytest.warns(RuntimeWarning, match=r"need\(test\.lost\) was never awaited: write 'await need"):
        Driver(forgets).answer()
