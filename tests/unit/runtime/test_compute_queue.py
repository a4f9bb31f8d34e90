"""The compute queue: each task settles once, a worker has one at a time, and none waits while a worker is free."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.reactor.compute_queue import AGEING, ComputeQueue
from zerver_runtime.reactor.compute_words import (
    Action,
    Assign,
    Cancelled,
    Closed,
    Enqueued,
    Event,
    Halted,
    Joined,
    Kill,
    Lost,
    Nothing,
    Offer,
    Pulled,
    Ready,
    Returned,
    Settle,
    Start,
    Stop,
    Submitted,
    Tick,
    WorkerId,
)

MS = 1_000_000
S = 1_000_000_000
A, B = (0, 1), (1, 1)


class Run:
    """A queue, and a clock that stands still unless told."""

    def __init__(self, size: int = 1, bound: int = 10, *, lent: bool = False) -> None:
        self.queue = ComputeQueue(size, bound, lent=lent)
        self.now = 0

    def __call__(self, *events: Event) -> list[Action]:
        return [action for event in events for action in self.queue.handle(event, self.now)]

    def working(self, task: int = 1, worker: WorkerId = A, *, budget: int | None = None) -> Run:
        """`task` runs on `worker`, which was started for it."""
        started = self(Submitted(task, budget=budget))
        if Start(worker) in started:
            self(Ready(worker))
        assert Assign(worker, task, None, 0) in self(Pulled(worker, cpu=100 * MS))
        return self


# --- Tables


def test_the_first_task_starts_a_worker_and_offers_itself_to_it() -> None:
    run = Run()
    assert run(Submitted(1)) == [Enqueued(1, 1), Start(A), Offer(A, -S)]
    assert run(Ready(A)) == []
    assert run(Pulled(A)) == [Assign(A, 1, None, 0)]
    assert run(Returned(A, 1)) == [Settle(1, "returned")]
    assert run(Submitted(2)) == [Enqueued(2, 1), Assign(A, 2, None, 0)], "that waits for it now"


def test_workers_are_started_one_for_each_task_that_none_is_free_for_up_to_the_size() -> None:
    run = Run(size=2)
    assert Start(A) in run(Submitted(1))
    assert Start(B) in run(Submitted(2))
    assert [one for one in run(Submitted(3)) if isinstance(one, Start)] == []
    run(Ready(A), Ready(B), Pulled(A), Pulled(B), Returned(A, 1), Returned(A, 3))
    assert [one for one in run(Submitted(4)) if isinstance(one, Start)] == []


def test_of_those_that_wait_the_one_that_worked_last_goes_first() -> None:
    run = Run(size=3)
    run(Submitted(1), Submitted(2), Ready(A), Ready(B), Pulled(A), Pulled(B), Returned(A, 1), Returned(B, 2))
    assert run(Submitted(3)) == [Enqueued(3, 1), Assign(B, 3, None, 0)]
    assert run(Submitted(4)) == [Enqueued(4, 1), Assign(A, 4, None, 0)]
    assert run(Submitted(5)) == [Enqueued(5, 1), Start((2, 1)), Offer((2, 1), -S)]
    assert run(Submitted(6), Ready((2, 1))) == [Enqueued(6, 2)]
    assert run(Returned(A, 4)) == [Settle(4, "returned"), Assign(A, 5, -S, 0)]
    run(Returned(B, 3), Returned(A, 5), Returned(B, 6))
    assert run.queue.state(A) == run.queue.state(B) == "waiting"
    run(Submitted(7))
    run(Submitted(8), Returned(B, 7), Returned(A, 8))
    assert run(Submitted(9)) == [Enqueued(9, 1), Assign(A, 9, None, 0)]


def test_lent_workers_are_all_told_and_only_when_the_offer_rises() -> None:
    run = Run(size=2, lent=True)
    run(Joined(A), Joined(B), Ready(A), Ready(B))
    assert run(Submitted(1, batch=True)) == [Enqueued(1, 1), Offer(A, 0), Offer(B, 0)]
    run.now += 5
    assert run(Submitted(2, batch=True)) == [Enqueued(2, 2)]
    assert run(Submitted(3)) == [Enqueued(3, 3), Offer(A, 5 - S), Offer(B, 5 - S)]
    assert run(Pulled(A)) == [Assign(A, 3, 0, 0)]
    assert run(Pulled(B)) == [Assign(B, 1, 5, 5)]


@pytest.mark.parametrize("lent", [False, True])
def test_nothing_is_said_to_a_worker_that_works_however_urgent_what_comes_is(lent: bool) -> None:
    run = Run(lent=lent)
    if lent:
        run(Joined(A))
    run(Submitted(1, batch=True), Ready(A), Pulled(A))
    assert run(Submitted(2)) == [Enqueued(2, 1)]


def test_a_lent_worker_that_has_done_its_task_is_free_and_told_of_the_next() -> None:
    run = Run(lent=True)
    run(Joined(A), Ready(A), Submitted(1), Pulled(A))
    assert run(Returned(A, 1)) == [Settle(1, "returned"), Nothing(A, None)]
    assert run.queue.state(A) == "free"
    assert run(Submitted(2)) == [Enqueued(2, 1), Offer(A, -S)]
    assert run(Pulled(A)) == [Assign(A, 2, None, 0)]
    assert run(Closed(), Returned(A, 2)) == [Settle(2, "returned"), Stop(A)]
    assert run.queue.state(A) == "stopping"
    assert run(Joined(B)) == []
    assert run.queue.state(B) is None


def test_a_lent_worker_that_has_a_more_urgent_offer_elsewhere_is_let_go() -> None:
    run = Run(lent=True)
    run(Joined(A), Ready(A), Submitted(1))
    assert run(Pulled(A, other=-S - 1)) == [Nothing(A, -S)]
    assert run(Pulled(A, other=-S)) == [Assign(A, 1, None, 0)]


@pytest.mark.parametrize(
    ("events", "end"),
    [
        ([Cancelled(1), Lost(A, "killed")], "cancelled"),
        ([Tick({A: 100 * MS}), Tick({A: 151 * MS}), Lost(A, "killed")], "over budget"),
        ([Tick({A: 151 * MS}), Cancelled(1), Lost(A, "killed")], "over budget"),
        ([Lost(A, "signal 11")], "crashed"),
        ([Closed(), Halted(), Lost(A, "killed")], "closed"),
        ([Closed(), Returned(A, 1)], "returned"),
        ([Closed(), Lost(A, "signal 11")], "crashed"),
        ([Returned(A, 7), Returned(B, 1), Lost(B, ""), Lost(A, "signal 11")], "crashed"),
        ([Returned(A, 1), Cancelled(1), Lost(A, "")], "returned"),
        ([Cancelled(1), Returned(A, 1), Lost(A, "")], "cancelled"),
        ([Cancelled(1), Cancelled(1), Tick({A: 10 * S}), Halted(), Lost(A, "")], "cancelled"),
    ],
)
def test_a_task_that_runs_ends_in_one_way(events: list[Event], end: str) -> None:
    run = Run().working(budget=50 * MS)
    settled = [one for one in run(*events) if isinstance(one, Settle)]
    assert [(one.task, one.end) for one in settled] == [(1, end)]


def test_a_worker_that_is_being_killed_is_not_answered_so_it_can_take_no_other_task() -> None:
    run = Run().working()
    run(Submitted(2))
    assert run(Cancelled(1)) == [Kill(A)]
    assert run(Returned(A, 1), Pulled(A)) == []
    settled, *started = run(Lost(A, "killed"))
    assert settled == Settle(1, "cancelled")
    assert started == [Start(B), Offer(B, -S)], "at once: it was no crash"


def test_a_task_within_its_budget_is_left_alone_and_without_one_is_not_watched() -> None:
    run = Run(size=2).working(budget=50 * MS)
    run.working(2, B)
    assert run.queue.watched() == [A]
    assert run(Tick({A: 150 * MS})) == []
    assert run(Tick({A: 150 * MS + 1})) == [Kill(A)]
    assert run.queue.watched() == []
    (settled, *_) = run(Lost(A, ""))
    assert settled == Settle(1, "over budget", "it used 0.05 s of CPU time, and its budget is 0.05 s", 0, 50 * MS + 1)


def test_where_the_cpu_time_is_not_known_at_first_a_budget_counts_from_when_it_is() -> None:
    run = Run()
    run.now = 7
    run(Submitted(1, budget=50 * MS), Submitted(2), Ready(A), Pulled(A))
    assert run(Tick({A: 900 * MS})) == run(Tick({A: 950 * MS})) == []
    assert run(Tick({A: 951 * MS})) == [Kill(A)]
    run.now += 30
    assert run(Lost(A, ""))[0].ran == 30  # type: ignore[union-attr]  # it is a Settle
    run.now += S
    run(Tick(), Ready(B), Pulled(B))
    assert run(Returned(B, 2, None, 100)) == [Settle(2, "returned")]


def test_a_task_is_looked_at_when_its_budget_may_be_used_up_within_bounds() -> None:
    run = Run().working(budget=30 * MS)
    assert run.queue.wake_at(7) == 7 + 30 * MS
    run(Tick({A: 129 * MS}))
    assert run.queue.wake_at(7) == 7 + 5 * MS
    assert Run().working(budget=30 * S).queue.wake_at(0) == 100 * MS
    assert Run().working().queue.wake_at(0) is None


def test_time_and_cpu_time_of_a_run_are_told() -> None:
    run = Run().working()
    run.now += 30
    assert run(Returned(A, 1, None, 100 * MS + 20))[0] == Settle(1, "returned", "", 30, 20)


def test_one_that_waits_and_is_cancelled_is_just_taken_out() -> None:
    run = Run().working()
    run(Submitted(2), Submitted(3))
    assert run(Cancelled(2)) == [Settle(2, "cancelled")]
    assert run(Cancelled(2), Cancelled(99)) == []
    assert run(Returned(A, 1)) == [Settle(1, "returned"), Assign(A, 3, None, 0)]


def test_cancelled_ones_do_not_pile_up_behind_a_task_that_never_ends() -> None:
    run = Run(bound=10).working()
    run(Submitted(2))
    for number in range(3, 5000):
        run(Submitted(number), Cancelled(number))
    assert len(run.queue._order) < 200
    run(Submitted(5001, batch=True), Submitted(5002))
    assert run(Returned(A, 1))[1] == Assign(A, 2, -S, 0)
    assert run(Returned(A, 2))[1] == Assign(A, 5002, 0, 0)


def test_size_and_bound_are_all_that_is_taken() -> None:
    run = Run(size=1, bound=2)
    assert [run(Submitted(number))[0] for number in range(1, 6)] == [
        Enqueued(1, 1),
        Enqueued(2, 2),
        Enqueued(3, 3),
        Settle(4, "refused"),
        Settle(5, "refused"),
    ]
    assert (run.queue.queued, run.queue.refused, run.queue.refusal()) == (3, 2, "refused")
    run(Ready(A), Pulled(A))
    assert run.queue.refusal() == "refused", "also when one of them runs"
    run(Cancelled(2))
    assert run.queue.refusal() is None
    assert repr(run.queue) == "<ComputeQueue: 1 of 1 busy, 1 of 2 queued, 2 refused>"


def test_closing_drops_what_waits_lets_run_what_runs_and_takes_no_more() -> None:
    run = Run(size=2).working()
    run(Submitted(2), Submitted(3))
    assert run(Closed()) == [Settle(2, "closed"), Settle(3, "closed"), Stop(B)]
    assert run(Submitted(6)) == [Settle(6, "closed")]
    assert run(Lost(B, "")) == []
    assert run(Returned(A, 1)) == [Settle(1, "returned"), Stop(A)]
    assert run(Lost(A, ""), Closed(), Halted()) == []


def test_workers_that_wait_are_let_go_when_it_closes() -> None:
    run = Run().working()
    run(Returned(A, 1))
    assert run.queue.state(A) == "waiting"
    assert run(Closed()) == [Stop(A)]
    assert run.queue.wake_at(0) is None


def test_a_worker_that_died_is_replaced_after_a_while_that_doubles_until_one_is_of_use() -> None:
    run = Run()
    waits = []
    worker: WorkerId = (0, 1)
    for number in range(1, 8):
        run.working(number, worker)
        run(Lost(worker, "signal 11"))
        due = run.queue.wake_at(run.now)
        assert due is not None
        waits.append((due - run.now) // MS)
        run.now = due - 1
        assert run(Tick()) == []
        run.now = due
        worker = (number, 1)
        assert run(Tick()) == [Start(worker)]
        run(Ready(worker))
    assert waits == [50, 100, 200, 400, 800, 1600, 2000]
    run.working(8, worker)
    run(Returned(worker, 8), Lost(worker, ""))
    due = run.queue.wake_at(run.now)
    assert due == run.now + 50 * MS


def test_when_workers_do_not_start_nobody_waits_for_ever_and_the_next_task_is_the_next_try() -> None:
    run = Run(size=1)
    run(Submitted(1), Submitted(2))
    ended: list[Action] = []
    for number in range(3):
        assert run.queue.state((number, 1)) == "starting"
        ended = run(Lost((number, 1), "no such file"))
        run.now = run.queue.wake_at(run.now) or run.now
        run(Tick())
    assert ended == [Settle(n, "crashed", "compute workers do not start: no such file") for n in (1, 2)]
    assert run.queue.queued == 0
    assert (run.queue.workers, run.queue.wake_at(run.now)) == (0, None)
    run.now += 10 * S
    run(Submitted(9), Ready((3, 1)), Lost((3, 1), ""))  # one that started: counted anew
    run.now += 10 * S
    for number in (4, 5):
        assert run(Tick())[0] == Start((number, 1))
        assert run(Lost((number, 1), "")) == []
        run.now += 10 * S
    assert run(Tick(), Lost((6, 1), ""))[-1] == Settle(9, "crashed", "compute workers do not start: ")


def test_workers_that_do_not_start_are_no_reason_to_give_up_while_another_works() -> None:
    run = Run(size=2).working()
    run(Submitted(2))
    for number in range(1, 4):
        assert run(Lost((number, 1), "no such file")) == []
        run.now += 10 * S
        run(Tick())
    assert run(Returned(A, 1))[1] == Assign(A, 2, None, run.now)


def test_those_that_died_or_were_ended_in_a_task_are_counted_as_replaced() -> None:
    run = Run(size=2).working().working(2, B)
    run(Cancelled(1), Lost(A, "killed"))
    assert run.queue.replaced == 1
    run(Lost(B, "signal 11"), Lost(B, "signal 11"))
    assert run.queue.replaced == 2
    run.now += 10 * S
    run(Submitted(3), Tick(), Closed(), Lost((2, 1), ""), Lost((3, 1), ""))
    assert (run.queue.workers, run.queue.replaced) == (0, 2)


def test_a_lent_worker_that_is_gone_is_not_ours_to_replace() -> None:
    run = Run(size=2, lent=True)
    run(Joined(A), Ready(A), Submitted(1), Pulled(A))
    assert run(Lost(A, "it died")) == [Settle(1, "crashed", "it died")]
    assert run.queue.replaced == 0
    run(Submitted(2))
    assert run.queue.wake_at(0) is None
    assert run(Joined(B)) == [Offer(B, -S)]


def test_a_task_that_its_worker_has_not_read_is_given_to_another_one_before_those_that_came_later() -> None:
    run = Run(size=2)
    run(Submitted(1), Submitted(2), Ready(A), Ready(B), Pulled(A), Pulled(B))
    run.now += 5
    run(Submitted(3), Submitted(4, batch=True))
    assert run(Lost(A, "signal 9", True)) == []
    assert (run.queue.queued, run.queue.running) == (3, 1)
    assert run(Returned(B, 2)) == [Settle(2, "returned", "", 5), Assign(B, 1, 5 - S, 5)]
    assert run(Returned(B, 1)) == [Settle(1, "returned"), Assign(B, 3, 5, 0)]


def test_a_task_that_a_dead_worker_has_not_read_goes_at_once_to_one_that_waits() -> None:
    run = Run(size=2).working().working(2, B)
    run(Returned(B, 2))
    assert run(Lost(A, "signal 9", True)) == [Assign(B, 1, None, 0)]
    assert run(Lost(B, "signal 9", False)) == [Settle(1, "crashed", "signal 9")]


def test_three_workers_may_die_before_they_have_read_a_task_and_then_it_fails() -> None:
    run = Run().working()
    for number in range(1, 3):
        assert run(Lost((number - 1, 1), "signal 9", True)) == []
        run.now += 10 * S
        assert Assign((number, 1), 1, None, run.now) in run(Tick(), Ready((number, 1)), Pulled((number, 1)))
    assert run(Lost((2, 1), "signal 9", True)) == [Settle(1, "crashed", "signal 9")]


@pytest.mark.parametrize(("event", "end"), [(Cancelled(1), "cancelled"), (Closed(), "closed"), (Halted(), "closed")])
def test_what_nobody_waits_for_is_given_to_no_other_worker(event: Event, end: str) -> None:
    run = Run().working()
    run(event)
    assert [one.end for one in run(Lost(A, "signal 9", True)) if isinstance(one, Settle)] == [end]


def test_batch_gives_way_to_interactive_but_for_so_long_only() -> None:
    run = Run().working()
    run(Submitted(2, batch=True))
    begun, number = [], 2
    for _ in range(30):  # there is always an interactive one
        run.now += S // 10
        number += 1
        run(Submitted(number))
        running = begun[-1] if begun else 1
        begun += [one.task for one in run(Returned(A, running)) if isinstance(one, Assign)]
    assert begun.index(2) == int(AGEING * 10)


# --- Every order of events


class Worker:
    """One, as `compute_worker` behaves."""

    def __init__(self) -> None:
        self.offer: int | None = None
        self.asked = False
        self.task: int | None = None


class World:
    """A queue among workers that keep the protocol, and what must hold after each event."""

    def __init__(self, size: int, bound: int, lent: bool) -> None:
        self.size, self.bound, self.lent = size, bound, lent
        self.queue = ComputeQueue(size, bound, lent=lent)
        self.now = 0
        self.tasks: dict[int, list[str]] = {}
        self.workers: dict[WorkerId, Worker] = {}
        self.killed: set[WorkerId] = set()
        self.begun: set[int] = set()
        self.joined = 0

    def handle(self, event: Event) -> None:
        for action in self.queue.handle(event, self.now):
            match action:
                case Start(worker):
                    assert worker not in self.workers
                    assert not self.lent
                    self.workers[worker] = Worker()
                case Offer(worker, urgency):
                    assert self.workers[worker].task is None, "nothing is said to a worker that works"
                    self.workers[worker].offer = urgency
                case Assign(worker, task, more, waited):
                    one = self.workers[worker]
                    assert one.asked, "no worker is given a task that has not asked for one"
                    assert one.task is None
                    assert worker not in self.killed
                    assert self.tasks[task] == []
                    assert task not in self.begun, "it would run twice"
                    assert waited >= 0
                    one.asked, one.task, one.offer = False, task, more
                case Nothing(worker, more):
                    one = self.workers[worker]
                    assert one.asked
                    one.asked, one.offer = False, more
                case Settle(task, end):
                    self.tasks[task].append(end)
                case Kill(worker) | Stop(worker):
                    self.killed.add(worker)
                case Enqueued(task, waiting):
                    assert waiting == self.queue.queued
        assert all(len(ends) <= 1 for ends in self.tasks.values()), "settled once"
        assert self.queue.queued + self.queue.running <= self.size + self.bound
        if not self.lent:
            assert len(self.workers) <= self.size
        assert self.queue.workers == len(self.workers)
        unsettled = sum(not ends for ends in self.tasks.values())
        assert unsettled == self.queue.queued + self.queue.running, "nothing is lost"

    # What may happen next.

    def submit(self, pick: int) -> None:
        number = len(self.tasks) + 1
        self.tasks[number] = []
        self.handle(Submitted(number, batch=pick % 2 == 1, budget=MS if pick % 3 == 0 else None))

    def cancel(self, pick: int) -> None:
        self.handle(Cancelled(pick % (len(self.tasks) + 2)))

    def wait(self, pick: int) -> None:
        self.now += pick * 40 * MS
        self.handle(Tick({worker: pick * MS for worker in self.queue.watched() if pick % 2}))

    def work(self, pick: int) -> None:
        """Some worker does what it does next, if it is to do anything."""
        for worker, one in list(self.workers.items())[pick % 3 :]:
            if self.step(worker, one, pick):
                return

    def step(self, worker: WorkerId, one: Worker, pick: int = 0) -> bool:
        if worker in self.killed:
            self.lose(worker, "killed")
        elif self.queue.state(worker) == "starting":
            self.handle(Ready(worker))
        elif one.task is not None:
            if one.task not in self.begun:
                self.begun.add(one.task)
                return True
            task, one.task, one.asked = one.task, None, True
            self.handle(Returned(worker, task, -pick * 100 * MS if self.lent and pick % 2 else None, pick * MS))
        elif one.offer is not None and not one.asked:
            one.offer, one.asked = None, True
            self.handle(Pulled(worker, -pick * 100 * MS if self.lent and pick % 2 else None, pick * MS))
        else:
            return False
        return True

    def die(self, pick: int) -> None:
        if self.workers:
            self.lose(list(self.workers)[pick % len(self.workers)], "it died")

    def lose(self, worker: WorkerId, why: str) -> None:
        task = self.workers.pop(worker).task
        self.killed.discard(worker)
        self.handle(Lost(worker, why, task is not None and task not in self.begun))

    def join(self, pick: int) -> None:
        if self.lent and not self.queue.closed and len(self.workers) < self.size:
            self.joined += 1
            self.workers[(100 + self.joined, 1)] = Worker()
            self.handle(Joined((100 + self.joined, 1)))

    def close(self, pick: int) -> None:
        if pick == 0:
            self.handle(Closed())

    def settle_down(self) -> None:
        """Let the workers work, and time pass, until there is nothing to do."""
        for _ in range(10_000):
            if any(self.step(worker, one) for worker, one in list(self.workers.items())):
                continue
            due = None if self.queue.closed else self.queue.wake_at(self.now)
            if due is None:
                return
            self.now = max(due, self.now)
            self.handle(Tick())
        raise AssertionError("it never settles down")


MOVES: list[Callable[[World, int], None]] = [
    World.submit, World.submit, World.cancel, World.wait, World.work, World.work, World.work, World.die, World.join,
    World.close,
]  # fmt: skip


@given(
    st.integers(1, 3),
    st.integers(0, 4),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 9)), max_size=60),
)
def test_whatever_happens_each_task_settles_once_and_none_waits_while_a_worker_is_free(
    size: int, bound: int, lent: bool, moves: list[tuple[Callable[[World, int], None], int]]
) -> None:
    world = World(size, bound, lent)
    for move, pick in moves:
        move(world, pick)
    world.join(0)
    world.settle_down()
    if world.workers or not lent:
        assert world.queue.queued == 0
        assert world.queue.running == 0
    world.handle(Closed())
    world.handle(Halted())
    world.settle_down()
    assert not world.workers
    assert all(len(ends) == 1 for ends in world.tasks.values())
