"""The clock that moves when it is told to."""

from __future__ import annotations

import pytest

from zerver_runtime.testing.clock import FakeClock


def test_timers_fire_in_order_of_time_then_of_creation_each_at_its_own_time() -> None:
    clock, fired = FakeClock(), []
    for name, delay in [("late", 2.0), ("first", 1.0), ("second", 1.0), ("beyond", 2.5)]:
        clock.call_later(delay, lambda name=name: fired.append((name, clock.now())))
    clock.advance(2)
    assert fired == [("first", 1.0), ("second", 1.0), ("late", 2.0)]
    assert (clock.now(), clock.pending) == (2.0, 1)


def test_many_timers_at_one_time_fire_in_the_order_of_their_creation() -> None:
    clock, fired = FakeClock(), []
    for number in range(50):
        clock.call_later(1, fired.append, number)
    clock.advance(1)
    assert fired == [*range(50)]


def test_a_timer_set_by_a_timer_fires_in_the_same_advance_when_it_comes_due() -> None:
    clock, fired = FakeClock(), []
    clock.call_later(1, clock.call_later, 0.5, fired.append, "due")
    clock.call_later(1, clock.call_later, 1.5, fired.append, "not yet")
    clock.advance(2)
    assert (fired, clock.pending) == (["due"], 1)


def test_a_delay_of_zero_or_less_waits_for_the_next_advance() -> None:
    clock, fired = FakeClock(5.0), []
    clock.call_later(0, fired.append, 1)
    clock.call_later(-3, fired.append, 2)
    assert fired == []
    clock.advance(0)
    assert (fired, clock.now()) == ([1, 2], 5.0)


def test_a_cancelled_timer_does_not_fire_and_is_not_pending() -> None:
    clock, fired = FakeClock(), []
    timer = clock.call_later(1, fired.append, 1)
    timer.cancel()
    timer.cancel()
    assert clock.pending == 0
    clock.advance(2)
    assert fired == []


def test_cancelling_a_timer_that_has_fired_does_nothing() -> None:
    clock = FakeClock()
    timer = clock.call_later(1, lambda: None)
    clock.advance(1)
    clock.call_later(1, lambda: None)
    timer.cancel()
    assert clock.pending == 1


def test_small_steps_add_up_exactly() -> None:
    clock, fired = FakeClock(), []
    clock.call_later(0.8, fired.append, "fired")
    for _ in range(8):
        clock.advance(0.1)
    assert fired == ["fired"]


def test_an_exception_out_of_a_timer_ends_the_advance_and_loses_no_other_timer() -> None:
    clock, fired = FakeClock(), []
    clock.call_later(1, {}.__getitem__, "missing")
    clock.call_later(1, fired.append, "other")
    with pytest.raises(KeyError, match="missing"):
        clock.advance(5)
    assert (clock.now(), clock.pending, fired) == (1.0, 1, [])
    clock.advance(4)
    assert (clock.now(), fired) == (5.0, ["other"])


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="time does not go back"):
        FakeClock().advance(-0.1)


def test_a_timer_that_sets_itself_for_ever_is_named_instead_of_hanging_the_test() -> None:
    clock = FakeClock()

    def again() -> None:
        clock.call_later(0, again)

    again()
    with pytest.raises(RuntimeError, match="again"):
        clock.advance(1)


def test_repr_tells_the_time_and_how_many_timers_wait() -> None:
    clock = FakeClock()
    timer = clock.call_later(1.5, print)
    assert (repr(clock), repr(timer)) == ("<FakeClock at 0 s: 1 pending>", "<FakeTimer at 1.5 s: print>")
    timer.cancel()
    assert repr(timer) == "<FakeTimer at 1.5 s: over>"
