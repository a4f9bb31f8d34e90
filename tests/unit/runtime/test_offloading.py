"""Which tasks leave the loop, where they go, and when they come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.reactor.offloading import GOOD_RUNS, Lane, Move, Offloading

BUDGET = 10_000_000


def offloading() -> Offloading[str]:
    return Offloading(BUDGET)


def placed(lane: Lane) -> Offloading[str]:
    """One whose task "a" is there already."""
    made = offloading()
    if lane == "blocks":
        made.ran_inline("a", 50_000_000, 0)
    elif lane == "burns":
        made.ran_inline("a", 50_000_000, 50_000_000)
    return made


@pytest.mark.parametrize(
    ("took", "cpu", "to"),
    [
        (50_000_000, 1_000_000, "blocks"),
        (50_000_000, 25_000_000, "blocks"),  # half of it is "well below"
        (50_000_000, 25_000_001, "burns"),
        (50_000_000, 50_000_000, "burns"),
        (BUDGET + 1, 0, "blocks"),
        (BUDGET, BUDGET, None),
        (BUDGET, 0, None),
        (0, 0, None),
    ],
)
def test_a_run_over_the_budget_moves_a_task_off_the_loop(took: int, cpu: int, to: Lane | None) -> None:
    made = offloading()
    assert made.ran_inline("a", took, cpu) == (None if to is None else Move(to, took, cpu))
    assert made.moved == ({} if to is None else {"a": to})


@pytest.mark.parametrize(("lane", "other", "cpu"), [("blocks", "burns", 50_000_000), ("burns", "blocks", 0)])
def test_the_next_run_over_the_budget_corrects_a_wrong_guess(lane: Lane, other: Lane, cpu: int) -> None:
    made = placed(lane)
    assert made.ran_elsewhere("a", 50_000_000, cpu) == Move(other, 50_000_000, cpu)
    assert made.moved == {"a": other}
    assert made.ran_elsewhere("a", 50_000_000, cpu) is None  # told once


@pytest.mark.parametrize("lane", ["blocks", "burns"])
def test_it_comes_back_after_so_many_good_runs_in_a_row(lane: Lane) -> None:
    made = placed(lane)
    for _ in range(GOOD_RUNS - 1):
        assert made.ran_elsewhere("a", BUDGET, 0) is None
    assert made.ran_elsewhere("a", BUDGET, 1) == Move("inline", BUDGET, 1)
    assert made.moved == {}


def test_one_bad_run_begins_the_count_anew() -> None:
    made = placed("blocks")
    for _ in range(GOOD_RUNS - 1):
        made.ran_elsewhere("a", 0, 0)
    made.ran_elsewhere("a", BUDGET + 1, 0)
    for _ in range(GOOD_RUNS - 1):
        assert made.ran_elsewhere("a", 0, 0) is None
    assert made.ran_elsewhere("a", 0, 0) is not None


def test_the_other_lane_begins_the_count_anew_too() -> None:
    made = placed("blocks")
    for _ in range(GOOD_RUNS - 1):
        made.ran_elsewhere("a", 0, 0)
    made.ran_elsewhere("a", 50_000_000, 50_000_000)
    assert made.ran_elsewhere("a", 0, 0) is None
    assert made.moved == {"a": "burns"}


def test_runs_that_were_begun_before_a_move_say_nothing_after_it() -> None:
    made = placed("blocks")
    assert made.ran_inline("a", 50_000_000, 50_000_000) is None  # on the loop, before it was moved off
    assert made.moved == {"a": "blocks"}
    for _ in range(GOOD_RUNS):
        made.ran_elsewhere("a", 0, 0)
    assert made.ran_elsewhere("a", 50_000_000, 0) is None  # on a thread, before it came back
    assert made.moved == {}


def test_tasks_are_judged_each_by_itself() -> None:
    made = placed("blocks")
    assert made.ran_inline("b", 50_000_000, 50_000_000) is not None
    for _ in range(GOOD_RUNS):
        made.ran_elsewhere("b", 0, 0)
    assert made.moved == {"a": "blocks"}


run = st.tuples(
    st.sampled_from("ab"), st.booleans(), st.sampled_from([0, BUDGET, BUDGET + 1, 50_000_000]), st.floats(0, 1)
)


@given(st.lists(st.one_of(st.lists(run, max_size=8), run.map(lambda one: [one] * 33)), max_size=12))
def test_where_a_task_is_follows_from_its_runs_alone(runs: list[list[tuple[str, bool, int, float]]]) -> None:
    """Against a model that looks at the whole history anew each time."""
    made = offloading()
    history: dict[str, list[tuple[bool, int, int]]] = {"a": [], "b": []}

    def lane_of(key: str) -> Lane:
        lane: Lane = "inline"
        good = 0
        for elsewhere, took, cpu in history[key]:
            if elsewhere == (lane == "inline"):
                continue  # it was begun before the last move
            if took > BUDGET:
                lane, good = ("burns" if cpu > took / 2 else "blocks"), 0
            elif lane != "inline":
                good += 1
                if good == GOOD_RUNS:
                    lane = "inline"
        return lane

    for key, elsewhere, took, share in (one for some in runs for one in some):
        cpu = int(took * share)
        before = lane_of(key)
        history[key].append((elsewhere, took, cpu))
        after = lane_of(key)
        move = made.ran_elsewhere(key, took, cpu) if elsewhere else made.ran_inline(key, took, cpu)
        assert move == (None if after == before else Move(after, took, cpu))
        assert made.moved == {one: lane for one in "ab" if (lane := lane_of(one)) != "inline"}
        assert set(made._good) == set(made.moved)
