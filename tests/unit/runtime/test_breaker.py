"""The circuit breaker: every state with every input, and that nothing wedges it."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zerver_runtime.reactor.breaker import (
    Breaker,
    BreakerPolicy,
    BreakerState,
    BreakerStatistics,
    Permit,
    Result,
    StateChange,
)

POLICY = BreakerPolicy(failures=3, window=10.0, cooldown=5.0, probes=2)
OPENED = StateChange("closed", "open")
COOLED = StateChange("open", "half-open")
AGAIN = StateChange("half-open", "open")
RECOVERED = StateChange("half-open", "closed")
NOW = 100.0


def permit(breaker: Breaker, now: float = NOW) -> Permit:
    given = breaker.allow(now)
    assert isinstance(given, Permit), f"refused for {given} s"
    return given


def fail(breaker: Breaker, times: int, now: float = NOW) -> list[StateChange | None]:
    return [breaker.record(permit(breaker, now), "failure", now) for _ in range(times)]


# --- The table


def at(situation: str) -> tuple[Breaker, Permit | None, list[Permit]]:
    """A breaker at time NOW, a permit of its present state (None where none can be had), and stale ones."""
    breaker = Breaker(POLICY)
    before = permit(breaker, 0.0)
    if situation.startswith("closed"):
        fail(breaker, {"closed": 0, "closed, one short of opening": 2}[situation])
        return breaker, permit(breaker), []
    opened = {"open": NOW - 4.9, "open, cooled down": NOW - 5.0}.get(situation, NOW - 6.0)
    fail(breaker, 3, opened)
    if situation.startswith("open"):
        return breaker, None, [before]
    first = permit(breaker, NOW - 1.0)
    if situation == "half-open, all probing":
        permit(breaker, NOW - 1.0)
    if situation == "half-open, one short of closing":
        assert breaker.record(permit(breaker, NOW - 1.0), "success", NOW - 0.5) is None
    return breaker, first, [before]


# fmt: off
TABLE: dict[str, dict[str, tuple[BreakerState, StateChange | None] | float]] = {
    # input:             what it does: the state after it, and the change; or for how long it refuses
    "closed": {
        "allow": ("closed", None), "success": ("closed", None),
        "failure": ("closed", None), "cancelled": ("closed", None),
    },
    "closed, one short of opening": {
        "allow": ("closed", None), "success": ("closed", None),
        "failure": ("open", OPENED), "cancelled": ("closed", None),
    },
    "open": {
        "allow": 0.1,
        "stale success": ("open", None), "stale failure": ("open", None), "stale cancelled": ("open", None),
    },
    "open, cooled down": {
        "allow": ("half-open", COOLED),
        "stale success": ("open", None), "stale failure": ("open", None), "stale cancelled": ("open", None),
    },
    "half-open": {
        "allow": ("half-open", None), "success": ("half-open", None),
        "failure": ("open", AGAIN), "cancelled": ("half-open", None),
        "stale success": ("half-open", None), "stale failure": ("half-open", None),
        "stale cancelled": ("half-open", None),
    },
    "half-open, all probing": {
        "allow": 4.0, "success": ("half-open", None),
        "failure": ("open", AGAIN), "cancelled": ("half-open", None),
        "stale success": ("half-open", None), "stale failure": ("half-open", None),
        "stale cancelled": ("half-open", None),
    },
    "half-open, one short of closing": {
        "allow": 4.0, "success": ("closed", RECOVERED),
        "failure": ("open", AGAIN), "cancelled": ("half-open", None),
        "stale success": ("half-open", None), "stale failure": ("half-open", None),
        "stale cancelled": ("half-open", None),
    },
}
# fmt: on
CASES = [(situation, given) for situation, row in TABLE.items() for given in row]


@pytest.mark.parametrize(("situation", "given"), CASES, ids=[", given ".join(case) for case in CASES])
def test_every_input_in_every_state_does_what_the_table_says(situation: str, given: str) -> None:
    expected = TABLE[situation][given]
    breaker, fresh, stale = at(situation)
    before = breaker.state
    if given == "allow":
        would_wait = breaker.refusal(NOW)
        allowed = breaker.allow(NOW)
        if isinstance(expected, float):
            assert (allowed, would_wait) == (pytest.approx(expected), allowed)
            assert breaker.state == before
            return
        assert isinstance(allowed, Permit)
        assert would_wait is None
        change = allowed.change
    else:
        used = stale[0] if given.startswith("stale ") else fresh
        assert used is not None
        result: Result = given.removeprefix("stale ")  # type: ignore[assignment]
        assert result in get_args(Result)
        change = breaker.record(used, result, NOW)
    assert (breaker.state, change) == expected


def test_the_table_has_every_state_and_every_input() -> None:
    for state in get_args(BreakerState):
        rows = [row for situation, row in TABLE.items() if situation.split(",")[0] == state]
        inputs = {given.removeprefix("stale ") for row in rows for given in row}
        assert inputs == {"allow", *get_args(Result)}


# --- Closed


def test_failures_further_apart_than_the_window_do_not_add_up() -> None:
    breaker = Breaker(POLICY)
    for moment in (0.0, 6.0, 10.1, 17.0, 21.0):  # never three within ten seconds
        assert fail(breaker, 1, moment) == [None]
    assert fail(breaker, 1, 26.9) == [OPENED]


def test_failures_exactly_a_window_apart_still_add_up() -> None:
    breaker = Breaker(POLICY)
    assert [fail(breaker, 1, moment)[0] for moment in (0.0, 5.0, 10.0)] == [None, None, OPENED]


def test_successes_in_between_do_not_keep_it_closed() -> None:
    breaker = Breaker(POLICY)
    for _ in range(2):
        fail(breaker, 1)
        breaker.record(permit(breaker), "success", NOW)
    assert fail(breaker, 1) == [OPENED]


def test_failures_from_before_it_recovered_do_not_count_after() -> None:
    breaker = Breaker(BreakerPolicy(failures=2, window=100.0, cooldown=1.0))
    fail(breaker, 2, 0.0)
    assert breaker.record(permit(breaker, 1.0), "success", 1.5) == RECOVERED
    assert fail(breaker, 1, 2.0) == [None]


# --- Half-open


def test_it_closes_when_all_its_probes_have_succeeded() -> None:
    breaker = Breaker(POLICY)
    fail(breaker, 3)
    probes = [permit(breaker, NOW + 5), permit(breaker, NOW + 5)]
    assert [probe.change for probe in probes] == [COOLED, None]
    assert breaker.allow(NOW + 6) == pytest.approx(4.0)
    assert [breaker.record(probe, "success", NOW + 7) for probe in probes] == [None, RECOVERED]


def test_a_failed_probe_starts_the_cool_down_anew() -> None:
    breaker = Breaker(POLICY)
    fail(breaker, 3)
    assert breaker.record(permit(breaker, NOW + 5), "failure", NOW + 8) == AGAIN
    assert breaker.allow(NOW + 12) == pytest.approx(1.0)
    assert permit(breaker, NOW + 13).change == COOLED


def test_a_cancelled_probe_gives_its_place_back() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, cooldown=5.0, probes=1))
    fail(breaker, 1)
    for _ in range(10):
        probe = permit(breaker, NOW + 5)
        assert not isinstance(breaker.allow(NOW + 5), Permit)
        assert breaker.record(probe, "cancelled", NOW + 5) is None
    assert breaker.record(permit(breaker, NOW + 5), "success", NOW + 5) == RECOVERED


def test_a_probe_that_never_reports_delays_the_next_one_by_a_cool_down_and_no_more() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, cooldown=5.0, probes=1))
    fail(breaker, 1)
    lost = permit(breaker, NOW + 5)
    assert breaker.allow(NOW + 9) == pytest.approx(1.0)
    assert breaker.record(permit(breaker, NOW + 10), "success", NOW + 11) == RECOVERED
    assert breaker.record(lost, "failure", NOW + 12) is None


def test_a_probe_that_reports_after_more_than_a_cool_down_still_counts() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, cooldown=5.0, probes=1))
    fail(breaker, 1)
    slow = permit(breaker, NOW + 5)
    permit(breaker, NOW + 10)
    assert breaker.record(slow, "success", NOW + 12) == RECOVERED


def test_a_success_of_an_attempt_from_before_it_opened_does_not_close_it() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, cooldown=5.0, probes=1))
    early = permit(breaker)
    fail(breaker, 1)
    permit(breaker, NOW + 5)
    assert breaker.record(early, "success", NOW + 6) is None
    assert breaker.state == "half-open"


# --- What it costs, tells and forgets


def test_attempts_in_the_closed_state_share_one_permit() -> None:
    breaker = Breaker(POLICY)
    assert permit(breaker) is permit(breaker)


@pytest.mark.parametrize(
    ("situation", "statistics", "shown"),
    [
        ("closed, one short of opening", BreakerStatistics("closed", 2, 0, 0), "<Breaker closed: 2 of 3 failures>"),
        ("open", BreakerStatistics("open", 0, 0, 1), "<Breaker open: opened 1 times>"),
        (
            "half-open, one short of closing",
            BreakerStatistics("half-open", 0, 1, 1),
            "<Breaker half-open: 1 probing, 1 of 2 succeeded>",
        ),
    ],
)
def test_statistics_and_repr(situation: str, statistics: BreakerStatistics, shown: str) -> None:
    breaker, _, _ = at(situation)
    assert (breaker.statistics(), repr(breaker)) == (statistics, shown)


@pytest.mark.parametrize(
    ("situation", "seconds", "forgettable"),
    [
        ("closed", 0.0, True),
        ("closed, one short of opening", 15.0, False),
        ("closed, one short of opening", 15.1, True),
        ("open", 10.0, False),
        ("open", 10.2, True),
        ("half-open", 1000.0, False),  # its probe may still report
    ],
)
def test_it_may_be_forgotten_when_nothing_happened_for_a_window_and_a_cool_down(
    situation: str, seconds: float, forgettable: bool
) -> None:
    breaker, _, _ = at(situation)
    assert breaker.forgettable(NOW + seconds) is forgettable


def test_it_is_remembered_for_its_last_failure_and_not_its_first() -> None:
    breaker = Breaker(POLICY)
    for later in (0.0, 8.0, 16.0):
        fail(breaker, 1, NOW + later)
    assert not breaker.forgettable(NOW + 31.0)
    assert breaker.forgettable(NOW + 31.1)


def test_one_that_has_just_recovered_refuses_nothing() -> None:
    breaker, probe, _ = at("half-open, one short of closing")
    assert probe is not None
    assert breaker.record(probe, "success", NOW) == RECOVERED
    assert breaker.refusal(NOW) is None


def test_probes_that_succeeded_before_it_failed_again_do_not_count() -> None:
    breaker, probe, _ = at("half-open, one short of closing")
    assert probe is not None
    assert breaker.record(probe, "failure", NOW) == AGAIN
    for expected in (None, RECOVERED):
        assert breaker.record(permit(breaker, NOW + 5.0), "success", NOW + 5.0) == expected


def test_by_default_five_failures_in_ten_seconds_open_it_for_five_and_one_probe_closes_it() -> None:
    breaker = Breaker(BreakerPolicy())
    assert fail(breaker, 5, NOW) == [None] * 4 + [OPENED]
    assert breaker.allow(NOW) == 5.0
    assert breaker.record(permit(breaker, NOW + 5.0), "success", NOW + 5.0) == RECOVERED
    fail(breaker, 1, NOW + 6.0)
    fail(breaker, 3, NOW + 7.0)
    assert fail(breaker, 2, NOW + 16.1) == [None, OPENED], "of the five before the last one, the first is too old"


# --- Any history


class Histories(RuleBasedStateMachine):
    """Against a model that keeps the whole history and looks at all of it each time."""

    policy = POLICY

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(self.policy)
        self.now = 0.0
        self.state: BreakerState = "closed"
        self.era: list[tuple[str, float]] = []  # since the last change: what happened, and when
        self.era_number = 0
        self.era_began = 0.0
        self.permits: list[tuple[int, Permit]] = []

    def turn(self, state: BreakerState) -> StateChange:
        before, self.state = self.state, state
        self.era, self.era_began = [], self.now
        self.era_number += 1
        return StateChange(before, state)

    def count(self, what: str) -> int:
        return sum(1 for name, _ in self.era if name == what)

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 4.0, 5.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        asked = self.breaker.allow(self.now)
        change = None
        if self.state == "open":
            if self.now < self.era_began + self.policy.cooldown:
                assert asked == self.era_began + self.policy.cooldown - self.now
                return
            change = self.turn("half-open")
        if self.state == "half-open":
            under_way = self.count("allowed") - self.count("success") - self.count("cancelled")
            last = max((when for name, when in self.era if name == "allowed"), default=-1e9)
            full = under_way + self.count("success") >= self.policy.probes
            if full and self.now < last + self.policy.cooldown:
                assert asked == last + self.policy.cooldown - self.now
                return
        assert isinstance(asked, Permit)
        assert asked.change == change
        self.era.append(("allowed", self.now))
        self.permits.append((self.era_number, asked))

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), result=st.sampled_from(get_args(Result)))
    def report(self, data: st.DataObject, result: Result) -> None:
        era, used = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        change = self.breaker.record(used, result, self.now)
        if era != self.era_number:
            assert change is None
            return
        self.era.append((result, self.now))
        expected = None
        if self.state == "half-open":
            if result == "failure":
                expected = self.turn("open")
            elif self.count("success") >= self.policy.probes:
                expected = self.turn("closed")
        else:
            recent = [1 for name, when in self.era if name == "failure" and self.now - when <= self.policy.window]
            if result == "failure" and len(recent) >= self.policy.failures:
                expected = self.turn("open")
        assert change == expected

    @invariant()
    def the_states_agree(self) -> None:
        assert self.breaker.state == self.state

    def teardown(self) -> None:
        """Whatever happened, and whoever never reports: a target that is well again is used again."""
        for _ in range(2 * self.policy.probes):
            if self.breaker.state == "closed":
                break
            self.now += self.policy.cooldown + 1
            self.breaker.record(permit(self.breaker, self.now), "success", self.now)
        assert self.breaker.state == "closed"


class HistoriesOfOneProbe(Histories):
    policy = BreakerPolicy(failures=1, window=1.0, cooldown=4.5, probes=1)


TestHistories = Histories.TestCase
TestHistoriesOfOneProbe = HistoriesOfOneProbe.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestHistoriesOfOneProbe.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
