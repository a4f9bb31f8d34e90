"""The continuation queue's turns, and the threads for what may not run on the loop."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.reactor import task_system
from zerver_runtime.reactor.controlled_delay import INTERVAL, LEAST
from zerver_runtime.reactor.task_system import BATCH, CONTINUE, Measured, TaskSystem
from zerver_runtime.reactor.thread_clock import ThreadClock

MS = 1_000_000
PATIENCE = 10.0


class Task:
    """Says its name when its turn comes, and takes some time for it."""

    def __init__(self, world: World, name: Any, takes: int = 0, then: Callable[[], object] = lambda: None) -> None:
        self.world, self.name, self.takes, self.then = world, name, takes, then

    def proceed(self) -> None:
        self.world.ran.append(self.name)
        self.world.now += self.takes
        self.then()


class World:
    """A loop that goes round when it is told to, and a clock that tasks move."""

    def __init__(self, *, bound: int = 1000, size: int = 2, waiting: int = 4) -> None:
        self.now = 0
        self.ran: list[Any] = []
        self.ready: deque[Callable[[], object]] = deque()
        self.woken: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.wake_ups = 0
        self.closed = False
        self.tasks = TaskSystem(
            self.ready.append, self.call_soon_threadsafe, lambda: self.now, bound=bound, size=size, waiting=waiting
        )

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.wake_ups += 1
        self.woken.put(callback)

    def add(self, name: Any, priority: int = CONTINUE, takes: int = 0) -> None:
        self.tasks.add(Task(self, name, takes), priority)

    def round(self) -> list[Any]:
        """What one round of the loop runs; I/O would come after it."""
        del self.ran[:]
        for _ in range(len(self.ready)):
            self.ready.popleft()()
        return list(self.ran)

    def rounds(self) -> list[Any]:
        """What runs until nothing is left."""
        ran = []
        while self.ready:
            ran += self.round()
        return ran

    def take(self) -> None:
        """Wait until threads wake the loop, and let it go round."""
        self.woken.get(timeout=PATIENCE)()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.tasks.close()


# Turns


def test_tasks_proceed_in_the_order_in_which_they_came(world: World) -> None:
    for n in range(5):
        world.add(n)
    assert world.round() == [0, 1, 2, 3, 4]
    assert world.tasks.idle
    assert not world.ready


def test_a_turn_is_bounded_in_tasks_and_the_loop_goes_round_before_the_next(world: World) -> None:
    for n in range(600):
        world.add(n)
    sizes = []
    while world.ready:
        assert len(world.ready) == 1
        sizes.append(len(world.round()))
    assert sizes == [256, 256, 88]


def test_a_turn_is_bounded_in_time(world: World) -> None:
    for n in range(4):
        world.add(n, takes=1 * MS)
    assert world.round() == [0, 1]
    assert world.round() == [2, 3]


def test_a_task_that_takes_long_has_its_turn_all_the_same(world: World) -> None:
    world.add("long", takes=50 * MS)
    world.add("next")
    assert world.round() == ["long"]
    assert world.round() == ["next"]


def test_a_task_that_adds_itself_again_and_again_does_not_keep_io_waiting(world: World) -> None:
    def again() -> None:
        world.tasks.add(Task(world, "again", then=again), CONTINUE)

    again()
    for _ in range(3):
        assert len(world.round()) == 256
    world.ready.clear()


def test_what_was_begun_goes_before_what_begins(world: World) -> None:
    world.add("batch", BATCH)
    world.tasks.offer(Task(world, "new"))
    world.add("continuation", CONTINUE)
    assert world.round() == ["continuation", "new", "batch"]


def test_waiting_makes_up_for_priority(world: World) -> None:
    """One step is 10 ms."""
    world.add("batch", BATCH)
    world.now = 20 * MS + 1
    world.add("continuation", CONTINUE)
    assert world.round() == ["batch", "continuation"]


@given(st.integers(1, 40), st.sampled_from([1, 3, 7]))
def test_batch_never_starves(every: int, load: int) -> None:
    """However much else there is, each is served, and with the machine busy by a half of it at least now and then."""
    world = World(bound=100_000)
    for n in range(20):
        world.add(("batch", n), BATCH, takes=1 * MS)
    waited = 0
    left = 20
    while left and waited < 2000:
        for _ in range(load):
            world.add("other", CONTINUE, takes=(1 * MS) // every + 1)
        done = sum(name != "other" for name in world.round())
        left -= done
        waited += 1
    assert not left
    world.tasks.close()


def test_a_task_that_raises_does_not_stop_the_turn(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no")

    world.add(1)
    world.tasks.add(Task(world, 2, then=fail), CONTINUE)
    world.add(3)
    assert world.round() == [1, 2, 3]
    assert [one.exc_info[1].args for one in caplog.records if one.exc_info and one.exc_info[1]] == [("no",)]


def test_a_task_that_ends_the_loop_leaves_the_others_their_turn(world: World) -> None:
    """Control-C comes where it will; a loop that goes on after it has lost nothing."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    world.tasks.add(Task(world, 1, then=interrupt), CONTINUE)
    world.add(2)
    with pytest.raises(KeyboardInterrupt):
        world.round()
    assert world.rounds() == [2]


# New work


def test_new_work_is_refused_when_the_queue_is_full_and_what_was_let_in_is_not() -> None:
    world = World(bound=3)
    for n in range(3):
        assert world.tasks.has_room()
        world.tasks.offer(Task(world, n))
    assert not world.tasks.has_room()
    assert not world.tasks.has_room()
    world.add("continuation")
    assert world.tasks.statistics().refused == 2
    assert world.tasks.statistics().queued == 4
    assert world.round() == ["continuation", 0, 1, 2]
    assert world.tasks.has_room()


def test_new_work_runs_at_once_when_nothing_waits(world: World) -> None:
    assert world.tasks.at_once()
    world.add("continuation")
    assert not world.tasks.at_once()
    world.rounds()
    assert world.tasks.at_once()


def test_of_much_new_work_in_one_round_of_the_loop_the_first_runs_at_once_and_the_rest_queues(world: World) -> None:
    begun = 0
    while world.tasks.at_once():
        begun += 1
        world.now += MS // 10
    assert begun == 20
    world.tasks.offer(Task(world, "queued"))
    assert world.round() == ["queued"]
    assert world.tasks.at_once()


def test_new_work_that_comes_round_by_round_runs_at_once(world: World) -> None:
    for _ in range(100):
        assert world.tasks.at_once()
        world.now += 3 * MS
        world.round()


def test_a_burst_after_a_quiet_time_may_wait_as_a_burst_may(world: World) -> None:
    world.add("first")
    world.round()
    world.now += 3600_000 * MS
    world.tasks.offer(Task(world, "burst"))
    assert world.tasks.in_time(world.now - INTERVAL + 1)


def test_a_queue_that_is_never_empty_is_a_standing_one(world: World) -> None:
    for _ in range(300):
        for n in range(3):
            world.add(n, takes=1 * MS)
        world.round()
    assert not world.tasks.idle
    for _ in range(LEAST):
        assert world.tasks.has_room()
        world.tasks.offer(Task(world, "new"))
    assert not world.tasks.has_room()  # more than could begin soon
    assert not world.tasks.in_time(world.now - INTERVAL)
    assert world.tasks.in_time(world.now - INTERVAL + 1)
    assert world.tasks.statistics().refused == 2
    world.rounds()
    assert world.tasks.in_time(world.now - INTERVAL + 1)


# Threads


def test_work_runs_on_a_thread_and_what_it_gave_comes_back_on_the_loop(world: World) -> None:
    came: list[tuple[Any, int]] = []
    for lane in ("blocks", "burns"):
        assert world.tasks.run_on_thread(
            lane,
            threading.get_ident,
            lambda result: came.append((result, threading.get_ident())),
        )
        world.take()
    for result, thread in came:
        assert isinstance(result, Measured)
        assert result.value != thread == threading.get_ident()
    assert len({result.value for result, _ in came}) == 2


def test_a_run_is_measured_on_the_wall_and_in_cpu(world: World) -> None:
    came: list[Any] = []

    def computing() -> None:
        until = time.thread_time_ns() + 3 * MS
        while time.thread_time_ns() < until:
            pass

    def waits() -> None:
        threading.Event().wait(0.02)  # it is the wait that is measured

    world.tasks.run_on_thread("blocks", waits, came.append)
    world.take()
    world.tasks.run_on_thread("burns", computing, came.append)
    world.take()
    waiting, computed = came
    assert waiting.took_ns > 5 * MS
    assert waiting.cpu_ns < waiting.took_ns / 2
    assert computed.took_ns >= computed.cpu_ns * 0.9
    assert computed.cpu_ns >= 3 * MS


def test_time_in_which_the_machine_ran_others_is_no_part_of_a_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[Any] = []
    delays = iter([7 * MS, 7 * MS + 3_600_000 * MS])
    monkeypatch.setattr(ThreadClock, "delayed", lambda self: next(delays))
    gate = threading.Event()
    timer = threading.Timer(0.02, gate.set)
    timer.start()
    open_before = set(os.listdir("/proc/self/fd"))
    world.tasks.run_on_thread("burns", lambda: gate.wait(PATIENCE), came.append)
    world.take()
    timer.join()
    (ran,) = came
    assert ran.took_ns == ran.cpu_ns  # the machine cannot have been away for longer than the step was not at work
    assert set(os.listdir("/proc/self/fd")) == open_before


def test_what_blocks_runs_side_by_side_and_what_burns_one_at_a_time(world: World) -> None:
    gate = threading.Event()
    began: queue.SimpleQueue[str] = queue.SimpleQueue()

    def held(name: str) -> None:
        began.put(name)
        gate.wait(PATIENCE)

    for name in ("a", "b"):
        world.tasks.run_on_thread("blocks", lambda name=name: held(name), lambda result: None)  # type: ignore[misc]
    for name in ("c", "d"):
        world.tasks.run_on_thread("burns", lambda name=name: held(name), lambda result: None)  # type: ignore[misc]
    assert sorted(began.get(timeout=PATIENCE) for _ in range(3)) == ["a", "b", "c"]
    assert world.tasks.statistics().running == 3
    assert world.tasks.statistics().waiting == 1
    gate.set()
    assert began.get(timeout=PATIENCE) == "d"


def test_results_that_come_together_take_one_wake_up() -> None:
    world = World(size=8, waiting=8)
    barrier = threading.Barrier(8)
    came: list[Any] = []
    for _ in range(8):
        world.tasks.run_on_thread("blocks", lambda: barrier.wait(PATIENCE), came.append)
    until = time.monotonic() + PATIENCE
    while len(world.tasks._returned) < 8:
        assert time.monotonic() < until
        time.sleep(0)
    assert world.wake_ups == 1
    world.take()
    assert len(came) == 8
    # and who comes later wakes it again
    world.tasks.run_on_thread("blocks", lambda: None, came.append)
    world.take()
    assert len(came) == 9
    world.tasks.close()


def test_without_room_nothing_is_run(world: World) -> None:
    gate = threading.Event()
    took = [world.tasks.run_on_thread("burns", lambda: gate.wait(PATIENCE), lambda result: None) for _ in range(6)]
    assert [one is not None for one in took] == [True] * 5 + [False]  # one runs, four wait
    gate.set()


def test_work_that_waits_for_a_thread_can_be_taken_out_and_what_runs_cannot(world: World) -> None:
    gate = threading.Event()
    began = threading.Event()
    came: list[str] = []

    def held() -> None:
        began.set()
        gate.wait(PATIENCE)

    first = world.tasks.run_on_thread("burns", held, lambda result: came.append("first"))
    second = world.tasks.run_on_thread("burns", lambda: came.append("ran"), lambda result: came.append("second"))
    assert began.wait(PATIENCE)
    assert first is not None
    assert second is not None
    assert not first()
    assert second()
    assert not second()
    gate.set()
    world.take()
    assert came == ["first"]


def test_who_takes_a_result_and_raises_keeps_it_from_nobody_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    came: list[Any] = []

    def fail(result: Measured | None) -> None:
        raise ValueError("no")

    world.tasks.run_on_thread("blocks", lambda: 1, fail)
    world.take()
    world.tasks.run_on_thread("blocks", lambda: 2, lambda result: came.append(result and result.value))
    world.take()
    assert came == [2]
    assert "taking a result failed" in caplog.text


# The end


def test_closing_lets_what_is_queued_proceed_and_refuses_new_work(world: World) -> None:
    world.add("queued")
    world.tasks.close()
    assert not world.tasks.has_room()
    world.add("of a request that was let in")
    assert world.rounds() == ["queued", "of a request that was let in"]
    assert world.tasks.run_on_thread("blocks", lambda: None, lambda result: None) is None


def test_closing_drops_what_waits_for_a_thread_and_tells_and_waits_for_nothing(world: World) -> None:
    gate = threading.Event()
    began = threading.Event()
    came: list[Any] = []

    def held() -> str:
        began.set()
        gate.wait(PATIENCE)
        return "ran"

    world.tasks.run_on_thread("burns", held, came.append)
    world.tasks.run_on_thread("burns", lambda: "never", came.append)
    assert began.wait(PATIENCE)
    world.tasks.close()
    world.tasks.close()
    world.take()
    assert came == [None]
    gate.set()
    world.take()
    assert came[1].value == "ran"
    assert world.tasks.statistics().running == 0


def test_what_returns_when_the_loop_is_closed_is_dropped(world: World) -> None:
    gate = threading.Event()
    began = threading.Event()

    def held() -> None:
        began.set()
        gate.wait(PATIENCE)

    world.tasks.run_on_thread("blocks", held, lambda result: pytest.fail("there is no loop"))
    assert began.wait(PATIENCE)
    world.tasks.close()
    world.closed = True
    gate.set()
    until = time.monotonic() + PATIENCE
    while any(one.name.startswith("zerver-step") for one in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.001)
    assert not world.tasks._returned


def test_the_switch_interval_is_short_from_the_first_system_to_the_end_of_the_last_and_then_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(task_system, "_SHORT_INTERVAL", task_system._ShortInterval())  # other tests hold the real one
    sys.setswitchinterval(before := 0.005)
    one, other = World(), World()
    assert sys.getswitchinterval() < before
    one.tasks.close()  # the first comes and the first goes
    one.tasks.close()
    assert sys.getswitchinterval() < before
    other.tasks.close()
    assert sys.getswitchinterval() == pytest.approx(before)


# --- A machine that is busy with others


def test_time_in_which_the_system_ran_others_is_no_wait() -> None:
    """Neither for the slice of what runs at once, nor for what is turned away."""
    clock, lost = [0], [0]
    tasks = TaskSystem(
        lambda call: None, lambda call: None, lambda: clock[0], bound=10, size=1, waiting=1, delayed=lambda: lost[0]
    )
    try:
        assert tasks.at_once()
        clock[0] += 500_000_000
        assert not tasks.at_once()  # a slice has passed, and the loop did not go round
        lost[0] += 500_000_000
        assert tasks.at_once()
        assert tasks.now() == 0
    finally:
        tasks.close()


class New(Task):
    """New work, which notes whether it was in time."""

    def __init__(self, world: World, name: str, takes: int = 0) -> None:
        super().__init__(world, name, takes)
        self.since = world.tasks.now()

    def proceed(self) -> None:
        if self.world.tasks.in_time(self.since):
            super().proceed()
        else:
            self.world.ran.append(f"{self.name} refused")


@pytest.mark.parametrize("where", ["in a task", "in another callback of the loop"])
def test_one_long_piece_of_work_is_no_reason_to_turn_away_what_waits_behind_it(world: World, where: str) -> None:
    if where == "in a task":
        world.add("blocks", takes=1000 * MS)
    for name in ("one", "other"):
        world.tasks.offer(New(world, name))
    if where != "in a task":
        world.now += 1000 * MS
    assert world.rounds()[-2:] == ["one", "other"]


def test_many_short_pieces_are(world: World) -> None:
    for n in range(200):
        world.tasks.offer(New(world, str(n), takes=5 * MS))
    assert any(str(name).endswith("refused") for name in world.rounds())
