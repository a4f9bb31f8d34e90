"""Timers on one timer of a real loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from zerver_runtime.reactor.loop import Timers, new_loop

PATIENCE = 10.0  # seconds that a test takes at most; the longest takes a quarter
LATE = 1.0  # seconds; on a machine that is busy elsewhere, and still far from a lost timer


class Loop:
    """A loop that keeps the timers that are set on it, and what its handler of exceptions is told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.armed: list[asyncio.TimerHandle] = []
        self.problems: list[BaseException] = []
        self.call_soon: Callable[..., object] = loop.call_soon
        loop.set_exception_handler(lambda _, context: self.problems.append(context["exception"]))

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, **rest: Any) -> asyncio.TimerHandle:
        self.armed.append(self.loop.call_later(delay, callback, *args, **rest))
        return self.armed[-1]

    def run_forever(self) -> None:
        """Until stopped; a lost timer fails the test instead of hanging it, where no signal gets through to Python."""
        end = time.monotonic() + PATIENCE
        guard = self.loop.call_later(PATIENCE, self.loop.stop)
        try:
            self.loop.run_forever()
        finally:
            guard.cancel()
        assert time.monotonic() < end, "nobody stopped the loop"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)


@pytest.fixture(params=[new_loop, asyncio.SelectorEventLoop], ids=["libuv", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    loop = request.param()
    loop.set_debug(True)
    yield Loop(loop)
    loop.close()


@pytest.fixture
def timers(loop: Any) -> Iterator[Timers]:
    timers = Timers(loop)
    yield timers
    timers.close()


def test_timers_come_once_in_order_never_early_and_not_much_later(loop: Loop, timers: Timers) -> None:
    delays = [0.0, 0.001, 0.0301, 0.0302, 0.1, 0.2] * 50
    order: dict[float, list[int]] = {delay: [] for delay in delays}
    late: list[float] = []

    def note(number: int, due: float) -> None:
        late.append(time.monotonic() - due)
        order[delays[number]].append(number)
        if len(late) == len(delays):
            loop.stop()

    for number, delay in enumerate(delays):
        timers.call_later(delay, note, number, time.monotonic() + delay)
    loop.run_forever()
    assert all(0 <= one < LATE for one in late), sorted(late)
    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert sorted(itertools.chain(*order.values())) == list(range(len(delays)))
    assert repr(timers) == "<Timers 0 set>"
    assert loop.problems == []


def test_cancelled_ones_do_not_come_and_all_share_one_timer_of_the_loop(loop: Loop, timers: Timers) -> None:
    called: list[int] = []
    for number in range(1000):
        timers.call_later(0.03, called.append, number).cancel()
    timers.call_later(60, called.append, -1)
    timers.call_later(0.06, loop.stop)
    assert len(loop.armed) == 1
    loop.run_forever()
    assert called == []
    assert len(loop.armed) <= 6, "a wake for what was cancelled, one or two on the way, one for the far timer"
    assert repr(timers) == "<Timers 1 set>"


def test_an_earlier_timer_arms_the_loop_anew(loop: Loop, timers: Timers) -> None:
    called: list[str] = []
    timers.call_later(60, called.append, "far")
    timers.call_later(0.02, loop.stop)
    timers.call_later(0.01, called.append, "near")
    assert [one.cancelled() for one in loop.armed] == [True, True, False]
    loop.run_forever()
    assert called == ["near"]


def test_a_callback_may_set_the_next_one(loop: Loop, timers: Timers) -> None:
    left = 30

    def again() -> None:
        nonlocal left
        left -= 1
        if left:
            timers.call_later(0, again)
        else:
            loop.stop()

    timers.call_later(-1, again)
    began = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - began < 30 * 0.01 + LATE


def test_after_the_last_one_the_next_is_armed_again(loop: Loop, timers: Timers) -> None:
    for _ in range(3):
        timers.call_later(0.001, loop.stop)
        loop.run_forever()
    assert len(loop.armed) >= 3


def test_the_loop_sleeps_while_timers_are_far(loop: Loop, timers: Timers) -> None:
    for delay in (1.5, 60, 86_400, 1e9):
        timers.call_later(delay, print)
    loop.loop.call_later(0.1, loop.stop)
    loop.run_forever()
    assert len(loop.armed) <= 4, "once to begin with, and once for each level that they come nearer by"


def test_what_a_callback_raises_goes_to_the_loops_handler_and_stops_no_other(loop: Loop, timers: Timers) -> None:
    problem = ValueError("broken")

    def broken() -> None:
        raise problem

    called: list[str] = []
    timers.call_later(0.01, broken)
    timers.call_later(0.01, called.append, "other")
    timers.call_later(0.03, loop.loop.call_soon, loop.stop)  # what was raised comes first, also when all are due
    loop.run_forever()
    assert called == ["other"]
    assert loop.problems == [problem]


def test_an_exit_ends_the_loop_and_the_others_come_when_it_runs_again(loop: Loop, timers: Timers) -> None:
    def leave() -> None:
        raise SystemExit(3)

    came: list[str] = []
    timers.call_later(0, leave)
    timers.call_later(0.01, came.append, "the other")
    with pytest.raises(SystemExit):
        loop.run_forever()
    timers.call_later(0.02, loop.stop)
    loop.run_forever()
    assert came == ["the other"]
    assert repr(timers) == "<Timers 0 set>"


def test_whatever_ends_a_run_of_them_the_others_come(loop: Loop, timers: Timers) -> None:
    def interrupted(*_: object) -> None:
        raise RuntimeError("in the middle of it")

    timers.call_later(0, interrupted)
    timers.call_later(0.01, loop.stop)
    loop.call_soon = interrupted  # where its report goes
    loop.run_forever()
    assert [str(one) for one in loop.problems] == ["in the middle of it"]


def test_callbacks_do_not_see_the_context_of_whoever_armed_the_loop(loop: Loop, timers: Timers) -> None:
    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    def set_timers(name: str) -> None:
        request.set(name)
        timers.call_later(0, lambda: seen.append(request.get()))

    for name in ("a", "b"):
        contextvars.copy_context().run(set_timers, name)
    timers.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == ["none", "none"]


def test_closing_cancels_all_and_setting_one_more_is_an_error(loop: Loop, timers: Timers) -> None:
    called: list[str] = []
    timers.call_later(0, called.append, "set before")
    timers.close()
    timers.close()
    assert repr(timers) == "<Timers closed>"
    assert [one.cancelled() for one in loop.armed] == [True]
    with pytest.raises(RuntimeError, match=r"timers are closed: set no timer after close\(\)"):
        timers.call_later(0, called.append, "set after")
    loop.loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert called == []


def test_a_callback_may_close_them(loop: Loop, timers: Timers) -> None:
    called: list[str] = []
    timers.call_later(0.01, timers.close)
    timers.call_later(0.01, called.append, "same tick")
    timers.call_later(0.02, called.append, "later")
    loop.loop.call_later(0.04, loop.stop)
    loop.run_forever()
    assert called == []
    assert loop.problems == []


def test_they_can_be_closed_after_the_loop(loop: Loop, timers: Timers) -> None:
    timers.call_later(60, print)
    loop.close()
    timers.close()


@pytest.mark.parametrize("delay", [math.inf, math.nan])
def test_a_delay_that_is_no_number_sets_nothing(timers: Timers, delay: float) -> None:
    with pytest.raises((OverflowError, ValueError)):
        timers.call_later(delay, functools.partial(print))
    assert repr(timers) == "<Timers 0 set>"
