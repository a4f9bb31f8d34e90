"""Disciplines: everything that is added comes out once, in the order that the discipline promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.discipline import Discipline, PriorityWithAgeing, RoundRobin, TimerTree

STEP = 10

ADDED = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 20)), max_size=30)
"""(priority, time since the one before)"""


@pytest.mark.parametrize("make", [RoundRobin, PriorityWithAgeing, TimerTree])
def test_an_empty_one_has_nothing(make: type[Discipline[str]]) -> None:
    discipline = make()
    assert discipline.select(1_000) is None
    assert len(discipline) == 0


def test_round_robin_is_first_come_first_served() -> None:
    discipline = RoundRobin[str]()
    for item, priority in (("a", 0), ("b", 9), ("c", 3)):
        discipline.add(item, priority, 0)
    assert [discipline.select(0) for _ in range(4)] == ["a", "b", "c", None]


@given(ADDED)
def test_the_highest_priority_is_next_where_waiting_counts(added: list[tuple[int, int]]) -> None:
    discipline, waiting, now = PriorityWithAgeing[int](STEP), dict[int, tuple[int, int]](), 0
    for number, (priority, later) in enumerate(added):
        now += later
        discipline.add(number, priority, now)
        waiting[number] = (priority, now)
        if number % 3 == 2:
            check_next(discipline, waiting, now)
    while waiting:
        now += 1
        check_next(discipline, waiting, now)
    assert discipline.select(now) is None


def check_next(discipline: PriorityWithAgeing[int], waiting: dict[int, tuple[int, int]], now: int) -> None:
    assert len(discipline) == len(waiting)
    item = discipline.select(now)
    assert item is not None

    def aged(number: int) -> int:
        priority, added = waiting[number]
        return priority * STEP + now - added

    assert aged(item) == max(map(aged, waiting))
    priority, _ = waiting.pop(item)
    assert all(item < other for other, (same, _) in waiting.items() if same == priority), "one priority keeps its order"


def test_nobody_starves() -> None:
    discipline = PriorityWithAgeing[str](STEP)
    discipline.add("batch", 0, 0)
    for now in range(1, 100):
        discipline.add("interactive", 5, now)
        if discipline.select(now) == "batch":
            assert now == 5 * STEP + 1
            return
    raise AssertionError("batch was never run")


def test_a_timer_is_not_before_its_time_and_the_earliest_is_first() -> None:
    timers = TimerTree[str]()
    for item, due in (("late", 30), ("soon", 10), ("too", 10)):
        timers.add(item, due, 0)
    assert timers.next_due() == 10
    assert timers.select(9) is None
    assert [timers.select(30) for _ in range(4)] == ["soon", "too", "late", None]


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=400))
def test_what_is_cancelled_never_comes(timers: list[tuple[int, bool]]) -> None:
    tree = TimerTree[int]()
    entries = [tree.add(number, due, 0) for number, (due, _) in enumerate(timers)]
    for entry, (_, cancelled) in zip(entries, timers, strict=True):
        if cancelled:
            tree.cancel(entry)
            tree.cancel(entry)
    expected = sorted((due, number) for number, (due, cancelled) in enumerate(timers) if not cancelled)
    assert len(tree) == len(expected)
    assert [tree.select(50) for _ in expected] == [number for _, number in expected]
    assert tree.select(50) is None
    for entry in entries:
        tree.cancel(entry)
    assert len(tree) == 0


def test_a_million_cancelled_timers_are_not_kept() -> None:
    tree = TimerTree[int]()
    for number in range(10_000):
        tree.cancel(tree.add(number, 1_000_000 + number, 0))
    assert len(tree._heap) < 200
