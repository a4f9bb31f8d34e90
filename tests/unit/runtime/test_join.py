"""The joins: a table of what each promises, and every interleaving against an oracle of whole histories."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from typing import NamedTuple, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerver_runtime.reactor.join import PENDING, Arrival, Join, JoinState, Mode, State, Verdict, check

History = list[tuple[int, bool]]
"""Who settled and how, in order."""


class Group(NamedTuple):
    required: tuple[bool, ...]
    join: Join
    mode: Mode = "parallel"
    detach: bool = False


def group(kinds: str, join: Join, mode: Mode = "parallel", detach: bool = False) -> Group:
    """`kinds` is a letter for each effect: R for required, O for optional."""
    return Group(tuple(kind == "R" for kind in kinds), join, mode, detach)


def history(words: str) -> History:
    """'+0 -2' is: effect 0 succeeded, then effect 2 failed."""
    return [(int(word[1:]), word[0] == "+") for word in words.split()]


def resumed(*, cancel: tuple[int, ...] = (), detach: tuple[int, ...] = ()) -> Verdict:
    return Verdict(state="resumed", cancel=cancel, detach=detach)


def failed(index: int, *, cancel: tuple[int, ...] = (), detach: tuple[int, ...] = ()) -> Verdict:
    return Verdict(state="failed", failed=index, cancel=cancel, detach=detach)


# --- Each row of the table of joins


@pytest.mark.parametrize(
    ("kinds", "join", "settlements", "last"),
    [
        # all
        ("RRO", "all", "+1", PENDING),
        ("RRO", "all", "+1 +0", PENDING),
        ("RRO", "all", "+1 +0 +2", resumed()),
        ("RRO", "all", "+1 +0 -2", resumed()),
        ("RRO", "all", "-2", PENDING),
        ("RRO", "all", "-1", failed(1, cancel=(0, 2))),
        ("RRO", "all", "-2 +0 -1", failed(1)),
        ("OO", "all", "-1 -0", resumed()),
        # all_required
        ("RRO", "all_required", "+0", PENDING),
        ("RRO", "all_required", "-2", PENDING),
        ("RRO", "all_required", "+2 +0", PENDING),
        ("RRO", "all_required", "+1 +0", resumed(cancel=(2,))),
        ("RRO", "all_required", "-2 +0 +1", resumed()),
        ("ROR", "all_required", "-2", failed(2, cancel=(0, 1))),
        # any
        ("RRO", "any", "+1", resumed(cancel=(0, 2))),
        ("RRO", "any", "-1", resumed(cancel=(0, 2))),
        ("RRO", "any", "-2", resumed(cancel=(0, 1))),
        ("R", "any", "-0", resumed()),
        # first_success
        ("RRO", "first_success", "-0", PENDING),
        ("RRO", "first_success", "-0 -2", PENDING),
        ("RRO", "first_success", "-0 +2", resumed(cancel=(1,))),
        ("RRO", "first_success", "+1", resumed(cancel=(0, 2))),
        ("ORR", "first_success", "-2 -1 -0", failed(1)),
        ("ORR", "first_success", "-0 -1 -2", failed(1)),
        ("OO", "first_success", "-1 -0", resumed()),
    ],
)
def test_a_join_resumes_fails_and_cancels_as_its_row_says(
    kinds: str, join: Join, settlements: str, last: Verdict
) -> None:
    state = JoinState(group(kinds, join).required, join)
    assert state.begin() == Verdict(start=tuple(range(len(kinds))))
    *before, end = [state.record(index, success) for index, success in history(settlements)]
    assert before == [PENDING] * len(before)
    assert end == last
    assert state.resolved is (last is not PENDING)


@pytest.mark.parametrize(
    ("kinds", "settlements", "last"),
    [
        ("ROO", "-2 +0", resumed(detach=(1,))),
        ("ROO", "+0", resumed(detach=(1, 2))),
        ("ROR", "-0", failed(0, cancel=(2,), detach=(1,))),
        ("RR", "-0", failed(0, cancel=(1,))),
        ("RO", "+1 +0", resumed()),
    ],
)
def test_detach_lets_optional_effects_go_on_and_cancels_only_required_ones(
    kinds: str, settlements: str, last: Verdict
) -> None:
    state = JoinState(group(kinds, "all_required").required, "all_required", detach=True)
    state.begin()
    assert [state.record(index, success) for index, success in history(settlements)][-1] == last


def test_detach_without_a_required_effect_resumes_at_once_and_leaves_all_in_the_background() -> None:
    parallel = JoinState([False, False], "all_required", detach=True)
    assert parallel.begin() == Verdict(start=(0, 1), state="resumed", detach=(0, 1))
    sequential = JoinState([False, False], "all_required", "sequential", detach=True)
    assert sequential.begin() == Verdict(state="resumed", detach=(0, 1))


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("join", get_args(Join))
def test_no_effects_resume_at_once(join: Join, mode: Mode) -> None:
    state = JoinState((), join, mode)
    assert state.begin() == resumed()
    assert state.resolved
    assert state.record(0, True) == Verdict(arrival="unknown")


@pytest.mark.parametrize(
    ("kinds", "join", "settlements", "verdicts"),
    [
        ("RR", "all", "+0 +1", [Verdict(start=(1,)), resumed()]),
        ("ORR", "all", "-0 -1", [Verdict(start=(1,)), failed(1, cancel=(2,))]),
        ("ORO", "all_required", "-0 +1", [Verdict(start=(1,)), resumed(cancel=(2,))]),
        ("RR", "any", "-0", [resumed(cancel=(1,))]),
        ("RRR", "first_success", "-0 +1", [Verdict(start=(1,)), resumed(cancel=(2,))]),
    ],
)
def test_sequential_starts_one_at_a_time_and_none_after_the_resolution(
    kinds: str, join: Join, settlements: str, verdicts: list[Verdict]
) -> None:
    state = JoinState(group(kinds, join).required, join, "sequential")
    assert state.begin() == Verdict(start=(0,))
    assert [state.record(index, success) for index, success in history(settlements)] == verdicts


# --- What does not count


def test_a_settlement_after_the_resolution_is_late_every_time_and_not_remembered() -> None:
    state = JoinState([True, True], "any")
    state.begin()
    state.record(1, True)
    assert [state.record(0, True), state.record(0, False)] == [Verdict(arrival="late")] * 2
    assert (state.settled(0), state.settled(1)) == (None, True)


def test_a_second_settlement_of_one_effect_is_a_duplicate_and_the_first_stays() -> None:
    state = JoinState([True, True], "all")
    state.begin()
    state.record(0, True)
    assert state.record(0, False) == Verdict(arrival="duplicate")
    assert state.settled(0) is True
    assert not state.resolved


@pytest.mark.parametrize("index", [-1, 2, 1 << 70])
def test_an_index_that_names_no_effect_is_unknown(index: int) -> None:
    state = JoinState([True, True], "all")
    state.begin()
    assert state.record(index, True) == Verdict(arrival="unknown")


def test_in_sequence_an_effect_that_was_never_started_is_unknown() -> None:
    state = JoinState([True, True, False], "all_required", "sequential", detach=True)
    state.begin()
    assert state.record(1, True) == Verdict(arrival="unknown")
    assert state.record(0, False) == failed(0, cancel=(1,), detach=(2,))
    assert state.record(1, True) == Verdict(arrival="unknown")
    assert state.record(2, True) == Verdict(arrival="late")


def test_beginning_twice_is_refused_since_it_would_start_effects_twice() -> None:
    for required in ([True], []):
        state = JoinState(required, "all")
        state.begin()
        with pytest.raises(RuntimeError, match="has begun before"):
            state.begin()


def test_the_common_verdicts_are_shared_objects() -> None:
    """Callers on the hot path may test `verdict is PENDING`; a plain resumption costs no object either."""
    one, other = JoinState([True, True], "all"), JoinState([False, False], "first_success")
    one.begin()
    other.begin()
    assert one.record(1, True) is PENDING
    assert other.record(1, False) is PENDING
    assert one.record(0, True) is other.record(0, False)


def test_a_verdict_asks_for_nothing_by_default_and_never_changes() -> None:
    assert msgspec.structs.asdict(PENDING) == {
        "start": (),
        "state": "pending",
        "failed": None,
        "cancel": (),
        "detach": (),
        "arrival": "counted",
    }
    with pytest.raises(AttributeError, match="immutable"):
        PENDING.state = "failed"  # type: ignore[misc]


def test_a_join_carries_no_dictionary() -> None:
    assert not hasattr(JoinState([], "all"), "__dict__")


def test_repr_tells_the_join_and_how_far_it_came() -> None:
    state = JoinState([True, False], "all_required", "sequential")
    state.begin()
    assert repr(state) == "<JoinState all_required sequential: 0 of 2 settled, pending>"
    state.record(0, True)
    assert repr(state) == "<JoinState all_required sequential: 1 of 2 settled, resolved>"
    assert repr(JoinState([], "any")) == "<JoinState any parallel: 0 of 0 settled, pending>"


# --- What is refused when it is built


@pytest.mark.parametrize(
    ("refused", "problem", "cure"),
    [
        (group("O", "all_required"), "without a required effect", "set detach=True"),
        (group("OO", "all_required", "sequential"), "without a required effect", "use join='all'"),
        (group("RO", "all", detach=True), "does not go with join='all'", "use join='all_required'"),
        (group("RO", "any", detach=True), "does not go with join='any'", "drop detach=True"),
        (group("", "first_success", detach=True), "with join='first_success'", "drop detach=True"),
        (group("R", "most"), "join='most' is not a join", "'all', 'all_required', 'any', 'first_success'"),  # type: ignore[arg-type]
        (group("R", "all", "both"), "mode='both' is not a mode", "'parallel', 'sequential'"),  # type: ignore[arg-type]
    ],
)
def test_a_join_that_makes_no_sense_is_refused_with_the_cure(refused: Group, problem: str, cure: str) -> None:
    message = check(*refused)
    assert message is not None
    assert problem in message
    assert cure in message


@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("join", get_args(Join))
@pytest.mark.parametrize("kinds", ["", "R", "RO"])
def test_every_other_join_is_accepted(kinds: str, join: Join, mode: Mode) -> None:
    assert check(*group(kinds, join, mode)) is None
    assert check(*group(kinds, "all_required", mode, detach=True)) is None
    assert check(*group("OO", "all_required", mode, detach=True)) is None


# --- Every interleaving, against the words of the contract


def resumes(join: Join, required: tuple[bool, ...], settled: dict[int, bool]) -> bool:
    """Whether a group that has settled so far like this has what its join waits for."""
    successes = {index for index, success in settled.items() if success}
    the_required = {index for index, one in enumerate(required) if one}
    everything = len(settled) == len(required)
    match join:
        case "all":
            return everything and the_required <= successes
        case "all_required":
            return the_required <= successes
        case "any":
            return bool(settled) or not required
        case "first_success":
            return bool(successes) or (everything and not the_required)


def failing(join: Join, required: tuple[bool, ...], settled: dict[int, bool]) -> list[int]:
    """The effect whose error a group that has settled so far like this fails with; [] if it does not."""
    failures = [index for index in range(len(required)) if required[index] and settled.get(index) is False]
    match join:
        case "all" | "all_required":
            return failures
        case "any":
            return []
        case "first_success":
            none_succeeded = len(settled) == len(required) and True not in settled.values()
            return failures[:1] if none_succeeded else []


class Resolution(NamedTuple):
    moment: int  # after how many settlements; 0 is at once
    state: State
    failed: int | None


def resolution(group: Group, past: History) -> Resolution:
    """The one resolution of a history in which every effect settles."""
    for moment in range(len(past) + 1):
        settled = dict(past[:moment])
        if resumes(group.join, group.required, settled):
            assert not failing(group.join, group.required, settled)
            return Resolution(moment, "resumed", None)
        if culprits := failing(group.join, group.required, settled):
            (culprit,) = culprits
            return Resolution(moment, "failed", culprit)
    raise AssertionError("a group whose effects have all settled is resolved")


def expected_arrival(group: Group, past: History, end: Resolution, moment: int, index: int) -> Arrival:
    """What a settlement of `index` is, after the first `moment` settlements of `past`."""
    size = len(group.required)
    if index in dict(past[: min(moment, end.moment)]):
        return "duplicate"
    if not 0 <= index < size:
        return "unknown"
    if group.mode == "sequential":
        begun = index <= min(moment, end.moment - 1)
        in_background = group.detach and not group.required[index] and moment >= end.moment
        if not begun and not in_background:
            return "unknown"
    return "late" if moment >= end.moment else "counted"


def expected_verdict(group: Group, past: History, end: Resolution, moment: int) -> Verdict:
    """What the join has to answer to the settlement with which `past` comes to `moment`; 0 is begin()."""
    size = len(group.required)
    start: tuple[int, ...] = ()
    if group.mode == "parallel":
        start = tuple(range(size)) if moment == 0 else ()
    elif moment < end.moment:
        start = (moment,)
    if moment < end.moment:
        return Verdict(start=start)
    unsettled = [index for index in range(size) if index not in dict(past[:moment])]
    going_on = [index for index in unsettled if group.detach and not group.required[index]]
    cancelled = [index for index in unsettled if index not in going_on]
    return Verdict(start, end.state, end.failed, tuple(cancelled), tuple(going_on))


def hold_against_the_contract(group: Group, past: History) -> None:
    """Drive one join through `past`, with every settlement that may not count thrown in at each moment."""
    end = resolution(group, past)
    state = JoinState(*group)
    size = len(group.required)

    def throw_in_what_does_not_count(moment: int) -> None:
        for index in range(-size - 1, size + 2):
            arrival = expected_arrival(group, past, end, moment, index)
            if arrival != "counted":
                for success in (True, False):
                    assert state.record(index, success) == Verdict(arrival=arrival), (moment, index)

    for index, success in product(range(-1, size + 1), (True, False)):
        assert state.record(index, success) == Verdict(arrival="unknown"), "before the beginning"

    verdicts: list[Verdict] = []
    for moment in range(end.moment + 1):
        assert not state.resolved
        verdicts.append(state.begin() if moment == 0 else state.record(*past[moment - 1]))
        assert verdicts[-1] == expected_verdict(group, past, end, moment)
        throw_in_what_does_not_count(moment)
    throw_in_what_does_not_count(len(past))

    assert state.resolved
    in_time = dict(past[: end.moment])
    assert [state.settled(index) for index in range(size)] == [in_time.get(index) for index in range(size)]
    # Of the verdicts all together: one resolution; nobody started twice; everybody settled or left, once.
    assert [verdict.state != "pending" for verdict in verdicts] == [False] * end.moment + [True]
    started = [index for verdict in verdicts for index in verdict.start]
    assert started == sorted(set(started))
    assert set(in_time) <= set(started)
    left = [index for verdict in verdicts for index in (*verdict.cancel, *verdict.detach)]
    assert sorted([*in_time, *left]) == list(range(size))


def every_history(group: Group) -> Iterator[History]:
    """In which every effect settles in the end: in any order, or in that of the declaration."""
    indexes = range(len(group.required))
    for order in permutations(indexes) if group.mode == "parallel" else [tuple(indexes)]:
        for outcomes in product((True, False), repeat=len(indexes)):
            yield list(zip(order, outcomes, strict=True))


@pytest.mark.parametrize("size", range(4))
@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("join", get_args(Join))
def test_every_history_of_up_to_three_effects_ends_as_the_contract_says(join: Join, mode: Mode, size: int) -> None:
    """And exactly once, with every effect settled, cancelled or detached, whatever else is thrown in."""
    held = 0
    for required in product((True, False), repeat=size):
        for detach in (False, True):
            one = Group(required, join, mode, detach)
            if check(*one) is None:
                for past in every_history(one):
                    hold_against_the_contract(one, past)
                    held += 1
    assert held


@st.composite
def larger_groups(draw: st.DrawFn) -> tuple[Group, History]:
    size = draw(st.integers(4, 9))
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    required, outcomes = tuple(draw(flags)), draw(flags)
    join: Join = draw(st.sampled_from(get_args(Join)))
    mode: Mode = draw(st.sampled_from(get_args(Mode)))
    detach = join == "all_required" and (True not in required or draw(st.booleans()))
    order = draw(st.permutations(range(size))) if mode == "parallel" else range(size)
    return Group(required, join, mode, detach), list(zip(order, outcomes, strict=True))


@settings(max_examples=150, deadline=None)
@given(larger_groups())
def test_larger_groups_end_as_the_contract_says(case: tuple[Group, History]) -> None:
    hold_against_the_contract(*case)
