"""The run queue: system work before tasks, and a turn that ends."""

from __future__ import annotations

from zerver_runtime.discipline import RoundRobin
from zerver_runtime.run_queue import RunQueue


def queue(most: int = 3, longest: int = 100) -> RunQueue[str]:
    made = RunQueue[str](RoundRobin(), most=most, longest=longest)
    made.begin(0)
    return made


def test_system_work_comes_in_order() -> None:
    run_queue, seen = queue(), list[int]()
    run_queue.post(lambda: seen.append(1))
    run_queue.post(lambda: seen.append(2))
    while (irq := run_queue.irq()) is not None:
        irq()
    assert seen == [1, 2]


def test_a_turn_hands_out_a_bounded_number_of_each() -> None:
    run_queue = queue(most=3)
    for number in range(5):
        run_queue.add(str(number), 0, 0)
        run_queue.post(lambda: None)
    assert [run_queue.irq() is not None for _ in range(4)] == [True, True, True, False]
    assert [run_queue.task(0) for _ in range(4)] == ["0", "1", "2", None]
    assert len(run_queue) == 4
    run_queue.begin(0)
    assert [run_queue.task(0) for _ in range(3)] == ["3", "4", None]


def test_past_its_time_a_turn_hands_out_no_more_tasks_than_the_first() -> None:
    run_queue = queue()
    for number in range(3):
        run_queue.add(str(number), 0, 0)
    assert run_queue.task(100) == "0", "a flood of system work that took all the time does not stop the tasks"
    assert run_queue.over(100)
    assert run_queue.task(100) is None
    assert not run_queue.over(99)
    run_queue.begin(100)
    assert [run_queue.task(199), run_queue.task(199), run_queue.task(200)] == ["1", "2", None]
