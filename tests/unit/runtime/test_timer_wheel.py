"""The timing wheel: what is set comes once, in order, never early; what is cancelled leaves nothing."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.reactor.timer_wheel import Timer, TimerWheel

DAY = 86_400_000  # in milliseconds, as everything here
EDGES = sorted({256**level + off for level in (1, 2, 3, 4) for off in (-1, 0, 1)} | {0, 1, 2, DAY, 400 * DAY})
PLACES = [0, 1, 200, 255, 256, 65_535, 2**32 - 1, 2**32 + 77]  # of the present, on the levels' edges and off them


def never(problem: BaseException) -> None:
    raise AssertionError("nothing raised") from problem


def fill(wheel: TimerWheel, *due: int) -> tuple[list[int], list[Timer]]:
    """Timers that note their times as they are called."""
    called: list[int] = []
    return called, [wheel.add(one, called.append, (one,)) for one in due]


@pytest.mark.parametrize("now", PLACES)
def test_it_is_called_once_at_its_tick_and_not_before(now: int) -> None:
    for delay in EDGES:
        wheel = TimerWheel(now, never)
        due = now + max(1, delay)
        called, _ = fill(wheel, now + delay)
        wheel.advance(due - 1)
        assert called == []
        assert len(wheel) == 1
        wheel.advance(due)
        assert called == [now + delay]
        wheel.advance(due + DAY)
        assert called == [now + delay]
        assert (len(wheel), wheel.next_wake()) == (0, None)


@pytest.mark.parametrize("now", PLACES)
def test_whoever_wakes_when_told_to_calls_it_in_time_after_one_wake_a_level(now: int) -> None:
    for delay in EDGES:
        wheel = TimerWheel(now, never)
        due = now + max(1, delay)
        called, _ = fill(wheel, due)
        wakes: list[int] = []
        while (wake := wheel.next_wake()) is not None:
            assert wake > (wakes[-1] if wakes else now), "no standing still"
            wakes.append(wake)
            wheel.advance(wake)
            assert called == ([due] if wake >= due else [])
        assert wakes[-1] == due
        assert len(wakes) <= 6


def test_nothing_set_means_nothing_to_wake_for() -> None:
    wheel = TimerWheel(5, never)
    assert wheel.next_wake() is None
    wheel.advance(DAY)
    assert wheel.next_wake() is None
    assert repr(wheel) == "<TimerWheel at 86400000: 0 set, next wake None>"


def test_one_jump_over_everything_calls_it_in_order() -> None:
    wheel = TimerWheel(7, never)
    called, _ = fill(wheel, *reversed(EDGES))
    wheel.advance(500 * DAY)
    assert called[:3] == [2, 1, 0], "what was due before is due at once, in order of adding"
    assert called[3:] == EDGES[3:]


def test_the_clock_does_not_go_back() -> None:
    wheel = TimerWheel(100, never)
    called, _ = fill(wheel, 110)
    wheel.advance(105)
    wheel.advance(20)
    assert called == []
    called_late, _ = fill(wheel, 50)
    wheel.advance(105)
    assert called_late == []
    wheel.advance(106)
    assert called_late == [50]


@pytest.mark.parametrize("tick", [300, 256, 65_536, 70_000])
def test_one_tick_keeps_the_order_of_adding_however_far_it_was_at_each(tick: int) -> None:
    wheel = TimerWheel(0, never)
    order: list[int] = []
    for number, now in enumerate([0, 10, tick - 257, tick - 256, tick - 255, tick - 45, tick - 1]):
        wheel.advance(now)
        wheel.add(tick, order.append, (number,))
    wheel.advance(tick)
    assert order == list(range(7))


def test_a_cancelled_one_is_not_called_and_cancelling_again_does_nothing() -> None:
    wheel = TimerWheel(0, never)
    called, (first, second, third) = fill(wheel, 5, 5, 70_000)
    for timer in (first, third, first, third):
        timer.cancel()
    wheel.advance(DAY)
    second.cancel()
    assert called == [5]
    assert len(wheel) == 0


def test_a_callback_may_cancel_its_neighbours_of_the_same_tick_and_itself() -> None:
    wheel = TimerWheel(0, never)
    called: list[str] = []
    timers: dict[str, Timer] = {}

    def cancel(name: str, *others: str) -> None:
        called.append(name)
        for other in others:
            timers[other].cancel()

    timers["a"] = wheel.add(9, cancel, ("a", "b", "a"))
    timers["b"] = wheel.add(9, cancel, ("b",))
    timers["c"] = wheel.add(9, cancel, ("c", "d", "e"))
    timers["d"] = wheel.add(10, cancel, ("d",))
    timers["e"] = wheel.add(DAY, cancel, ("e",))
    timers["f"] = wheel.add(9, cancel, ("f", "c"))
    wheel.advance(2 * DAY)
    assert called == ["a", "c", "f"]


def test_what_a_callback_adds_is_called_in_the_same_jump_when_it_is_due_but_a_tick_later() -> None:
    wheel = TimerWheel(0, never)
    ticks: list[int] = []

    def again(due: int) -> None:
        ticks.append(due)
        wheel.add(0, again, (due + 1,))

    wheel.add(250, again, (250,))
    wheel.advance(260)
    assert ticks == list(range(250, 261))
    assert wheel.next_wake() == 261, "and one that sets itself without a delay does not hold up who called"


@pytest.mark.parametrize("now", PLACES)
def test_what_a_callback_adds_is_called_at_its_tick_and_not_before(now: int) -> None:
    for delay in EDGES:
        wheel = TimerWheel(now, never)
        called: list[int] = []
        due = now + 1 + max(1, delay)
        wheel.add(now + 1, wheel.add, (now + 1 + delay, called.append, (due,)))
        wheel.advance(due - 1)
        assert called == []
        wheel.advance(due)
        assert called == [due]


class Boom(BaseException):
    """No Exception: like an exit or a cancellation."""


@pytest.mark.parametrize("kind", [ValueError, Boom, KeyboardInterrupt])
def test_one_that_raises_is_reported_and_stops_no_other(kind: type[BaseException]) -> None:
    reported: list[BaseException] = []
    wheel = TimerWheel(0, reported.append)
    called: list[str] = []
    problem = kind("broken")

    def broken() -> None:
        raise problem

    wheel.add(5, called.append, ("before",))
    wheel.add(5, broken)
    wheel.add(5, called.append, ("after",))
    wheel.add(6, called.append, ("later",))
    wheel.advance(6)
    assert called == ["before", "after", "later"]
    assert reported == [problem]


def test_even_when_the_report_fails_the_others_come_at_the_next_call() -> None:
    wheel = TimerWheel(0, never)
    called: list[int] = []
    wheel.add(5, lambda: 1 / 0)
    wheel.add(5, called.append, (5,))
    with pytest.raises(AssertionError):
        wheel.advance(9)
    assert wheel.next_wake() == 5
    wheel.advance(9)
    assert called == [5]


def test_a_callback_may_clear_the_wheel_and_use_it_again() -> None:
    wheel = TimerWheel(0, never)
    called: list[str] = []

    def clear() -> None:
        wheel.clear()
        wheel.add(8, called.append, ("new",))

    wheel.add(5, clear)
    for due in (5, 6, 300, DAY):
        wheel.add(due, called.append, ("old",))
    wheel.advance(2 * DAY)
    assert called == ["new"]
    assert len(wheel) == 0


def test_a_callback_that_advances_the_wheel_itself_loses_and_doubles_nothing() -> None:
    wheel = TimerWheel(0, never)
    called: list[int] = []

    def nested() -> None:
        wheel.advance(600)
        wheel.add(600 + 256 - 600 % 256 + 5, called.append, (-1,))  # the same slot, a turn of the level later

    wheel.add(5, nested)
    for due in (5, 6, 300, 700, DAY):
        wheel.add(due, called.append, (due,))
    wheel.advance(650)
    assert called == [5, 6, 300]
    wheel.advance(DAY)
    assert called == [5, 6, 300, 700, -1, DAY]


class Thing: ...


@pytest.mark.parametrize("how", ["cancel", "call", "clear"])
def test_a_timer_that_is_over_keeps_nothing_of_its_call_alive(how: str) -> None:
    wheel = TimerWheel(0, never)
    thing = Thing()
    kept = weakref.ref(thing)
    timer = wheel.add(300, lambda thing: None, (thing,))
    assert repr(timer).startswith("<Timer at 300: ")
    del thing
    end: dict[str, Callable[[], None]] = {
        "cancel": timer.cancel,
        "call": lambda: wheel.advance(300),
        "clear": wheel.clear,
    }
    end[how]()
    assert kept() is None
    assert repr(timer) == "<Timer: over>"


def test_many_that_are_cancelled_leave_no_garbage() -> None:
    wheel = TimerWheel(0, never)
    fill(wheel, DAY)

    def churn(rounds: int) -> None:
        for number in range(rounds):
            for due in (number + 50, number + 1000, number + 30_000):
                wheel.add(due, print).cancel()
            wheel.advance(number)

    churn(2_000)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        churn(10_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000, f"{grown} bytes for 30,000 timers"
    assert len(wheel) == 1


# Any history, against a sorted list

DELAYS = st.one_of(
    st.sampled_from([0, 1, 2, 254, 255, 256, 257, 300, 65_535, 65_536, 66_000, 2**24, DAY, 300 * DAY]),
    st.integers(-5, 40),
    st.integers(0, 100_000),
)
CALLBACK_ACTS = st.one_of(
    st.tuples(st.just("add"), DELAYS),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("raise"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
)
PLANS = st.lists(CALLBACK_ACTS, max_size=3)
ACTS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("add"), DELAYS, PLANS),
    st.tuples(st.just("add"), DELAYS, st.just([])),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("advance"), DELAYS),
    st.tuples(st.just("wake")),
)


class Model:
    """The same in the plainest way: a list that is searched for its least."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.timers: dict[int, tuple[int, list[Any]]] = {}  # by number: due, plan
        self.made = 0
        self.called: list[int] = []
        self.raised = 0

    def add(self, due: int, plan: list[Any]) -> None:
        self.timers[self.made] = (max(due, self.now + 1), plan)
        self.made += 1

    def advance(self, now: int) -> None:
        while self.timers:
            due, number = min((due, number) for number, (due, _) in self.timers.items())
            if due > now:
                break
            self.now = due
            _, plan = self.timers.pop(number)
            self.called.append(number)
            for act, value in plan:
                if act == "add":
                    self.add(due + value, [])
                elif act == "cancel":
                    self.timers.pop(value, None)
                elif act == "clear":
                    self.timers.clear()
                else:
                    self.raised += 1
                    break
        self.now = max(self.now, now)


class Real:
    """The wheel, with callbacks that do as planned."""

    def __init__(self, now: int) -> None:
        self.wheel = TimerWheel(now, self.report)
        self.timers: list[Timer] = []
        self.due: list[int] = []
        self.called: list[int] = []
        self.raised = 0
        self.end = now

    def report(self, problem: BaseException) -> None:
        assert isinstance(problem, Boom), problem
        self.raised += 1

    def add(self, due: int, plan: list[Any], now: int) -> None:
        number = len(self.timers)
        self.due.append(max(due, now + 1))
        self.timers.append(self.wheel.add(due, self.call, (number, plan)))

    def call(self, number: int, plan: list[Any]) -> None:
        due = self.due[number]
        assert due <= self.end, "early"
        self.called.append(number)
        for act, value in plan:
            if act == "add":
                self.add(due + value, [], due)
            elif act == "cancel":
                if value < len(self.timers):
                    self.timers[value].cancel()
            elif act == "clear":
                self.wheel.clear()
            else:
                raise Boom

    def advance(self, now: int) -> None:
        self.end = now
        self.wheel.advance(now)


@given(st.one_of(st.sampled_from(PLACES), st.integers(0, 2**34)), st.lists(ACTS, max_size=40))
def test_any_history_is_that_of_a_sorted_list(start: int, acts: list[Any]) -> None:
    model, real = Model(start), Real(start)
    for act, *values in acts:
        if act == "add":
            delay, plan = values
            real.add(model.now + delay, plan, model.now)
            model.add(model.now + delay, plan)
        elif act == "cancel":
            model.timers.pop(values[0], None)
            if values[0] < len(real.timers):
                real.timers[values[0]].cancel()
        else:
            now = model.now + values[0] if act == "advance" else real.wheel.next_wake()
            if now is not None:
                real.advance(now)
                model.advance(now)
        assert real.called == model.called
        assert real.raised == model.raised
        assert len(real.wheel) == len(model.timers)
        wake = real.wheel.next_wake()
        if model.timers:
            assert wake is not None
            assert model.now < wake <= min(due for due, _ in model.timers.values())
        else:
            assert wake is None
    real.advance(model.now + 1000 * DAY)
    model.advance(model.now + 1000 * DAY)
    assert real.called == model.called
    assert real.wheel.next_wake() is None
