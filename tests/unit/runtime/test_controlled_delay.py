"""How long work may wait: a burst is served, a standing queue is kept short."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from zerver_runtime.reactor.controlled_delay import INTERVAL, LEAST, TARGET, ControlledDelay

MS = 1_000_000


class Simulation:
    """A queue and who serves it. All times are nanoseconds."""

    def __init__(self, arrivals: list[int], takes: int) -> None:
        self.delay = ControlledDelay(0)
        self.served: list[tuple[int, int]] = []  # when it came, how long it waited
        self.shed: list[tuple[int, int]] = []
        self.turned_away = 0  # at once
        queue: deque[int] = deque()
        coming = deque(arrivals)
        now = 0
        while coming or queue:
            while coming and coming[0] <= now:
                if self.delay.admits(len(queue), now):
                    queue.append(coming.popleft())
                else:
                    coming.popleft()
                    self.turned_away += 1
            if not queue:
                self.delay.empty(now)
                now = coming[0]
                self.delay.empty(now)
                continue
            came = queue.popleft()
            if self.delay.late(now - came, now):
                self.shed.append((came, now - came))
            else:
                self.served.append((came, now - came))
                now += takes

    def waits(self, after: int) -> list[int]:
        return sorted(waited for came, waited in self.served if came >= after)


def steady(rate: float, seconds: float) -> list[int]:
    """So many arrivals a second, evenly."""
    return [int(n / rate * 1e9) for n in range(int(rate * seconds))]


def test_a_burst_that_is_done_within_the_interval_is_served_whole() -> None:
    assert len(Simulation([0] * 100, 1 * MS).served) == 100


def test_what_comes_within_the_capacity_is_served_whole() -> None:
    assert len(Simulation(steady(950, 5), 1 * MS).served) == 950 * 5


def test_bursts_that_leave_time_between_them_are_served_whole() -> None:
    assert len(Simulation([at * 100 * MS for at in range(50) for _ in range(90)], 1 * MS).served) == 90 * 50


def test_a_burst_past_the_interval_costs_its_own_and_not_those_that_come_after_it() -> None:
    """At three quarters of the capacity, with an arrival each 1.33 ms."""
    stall = [int(1e9)] * 300
    made = Simulation(sorted([*steady(750, 5), *stall]), 1 * MS)
    assert not [came for came, _ in made.shed if came > 1.5e9]
    assert len([came for came, _ in made.served if came > 1.5e9]) == 750 * 3.5 - 1


@pytest.mark.parametrize("overload", [1.1, 1.5, 3.0, 10.0])
def test_a_standing_queue_is_kept_at_so_many(overload: float) -> None:
    seconds = 5
    made = Simulation(steady(1000 * overload, seconds), 1 * MS)
    waits = made.waits(after=int(0.5e9))
    assert waits[-1] <= (LEAST + 1) * MS
    # and the server is never idle over it
    assert len(made.served) >= 0.98 * 1000 * seconds
    # and does not queue what it would not serve
    assert len([came for came, _ in made.shed if came >= 0.5e9]) <= 0.05 * len(made.served)


def test_what_comes_after_the_overload_is_served_at_once_and_bursts_are_again() -> None:
    overload = steady(3000, 2)
    after = [int(2.5e9) + n * 20 * MS for n in range(10)]
    burst = [int(3e9)] * 90
    made = Simulation([*overload, *after, *burst], 1 * MS)
    assert len([came for came, _ in made.served if came >= 2.5e9]) == len(after) + len(burst)


@pytest.mark.parametrize("since_empty", [0, INTERVAL - 1, INTERVAL, 10 * INTERVAL])
@pytest.mark.parametrize(
    ("waited", "late"), [(0, False), (INTERVAL - 1, False), (INTERVAL, True), (10 * INTERVAL, True)]
)
def test_nobody_waits_for_more_than_the_interval(waited: int, late: bool, since_empty: int) -> None:
    delay = ControlledDelay(0)
    now = 100 * INTERVAL
    delay.empty(now - since_empty)
    assert delay.late(waited, now) is late


@pytest.mark.parametrize(
    ("begun", "room"),
    [(0, LEAST), (LEAST, LEAST), (200, 100), (800, 400)],  # in the 20 ms before
)
def test_a_standing_queue_takes_as_many_as_are_begun_in_two_targets(begun: int, room: int) -> None:
    delay = ControlledDelay(0)
    for n in range(begun):
        delay.late(0, n)
    now = 4 * TARGET
    delay.late(0, now)
    assert delay.admits(10**6, now)  # it may be a burst
    standing = 2 * INTERVAL
    assert delay.admits(room - 1, standing)
    assert not delay.admits(room, standing)


@pytest.mark.parametrize("clients", [8, LEAST])
@pytest.mark.parametrize("takes", [20_000, 100_000, 1 * MS])
def test_a_few_dozen_clients_that_ask_again_when_they_are_answered_are_no_overload(clients: int, takes: int) -> None:
    delay = ControlledDelay(0)
    waiting, now = deque([0] * clients), 0
    while now < 3 * 10 * INTERVAL:
        came = waiting.popleft()
        assert not delay.late(now - came, now)
        now += takes
        assert delay.admits(len(waiting), now)
        waiting.append(now)


@pytest.mark.parametrize(
    "turn_away", [lambda one, now: not one.admits(10**6, now), lambda one, now: one.late(INTERVAL, now)]
)
def test_a_queue_is_a_standing_one_until_nothing_was_turned_away_for_a_while(
    turn_away: Callable[[ControlledDelay, int], bool],
) -> None:
    delay = ControlledDelay(0)
    now = 2 * INTERVAL
    assert turn_away(delay, now)
    while_ = 4 * TARGET
    delay.empty(now + while_ - 1)
    assert not delay.admits(10**6, now + while_ - 1)
    now += 2 * while_ - 1
    delay.empty(now)
    assert delay.admits(10**6, now)


def test_what_ran_without_waiting_counts_for_how_many_may_wait() -> None:
    """A server that begins a thousand requests in 20 ms at once has room for many when some queue."""
    delay = ControlledDelay(0)
    now = 4 * TARGET
    delay.begun += 1000
    assert not delay.late(0, now)
    assert delay.admits(100, now + INTERVAL)
