"""Compute workers that a Node forks: all schedulers share them, and no task comes to harm by another one's end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from node_kit import Program, program, session, wait_until

PROGRAMS = Path(__file__).with_name("compute_node.py")


def started(*arguments: object) -> AbstractContextManager[Program]:
    return program(*arguments, programs=PROGRAMS)


def of_slot(slot: int) -> Callable[[dict[str, Any]], bool]:
    return lambda line: line.get("slot") == slot


def alive(pid: int) -> bool:
    """Whether there is such a process, and no zombie: this test is not its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def stop(node: Program) -> None:
    node.signal(signal.SIGTERM)
    assert node.end() == 0
    assert node.said[-1] == {"exit": 0}


def test_all_schedulers_share_the_workers_of_the_node() -> None:
    with started("sharing") as node:
        pids = set()
        for slot in range(3):
            said = node.expect(of_slot(slot))
            assert said["problems"] == []
            assert len(said["values"]) == 60
            pids |= set(said["values"])
        assert len(pids) == 2
        assert pids < set(session(node.pid))
        stop(node)


def test_workers_that_are_replaced_under_one_scheduler_never_had_a_task_of_another_and_are_not_given_up() -> None:
    with started("hostile") as node:
        said = node.expect(of_slot(1))
        assert said["problems"] == []
        assert sorted(said["values"]) == list(range(1, 301))
        other = node.expect(of_slot(0))
        assert other["problems"].count("OverBudget") == 5
        assert set(other["problems"]) == {"OverBudget", "ComputeCancelled"}
        assert not [line for line in node.said if "giving up" in line.get("log", "")]
        stop(node)


def test_workers_that_tasks_crash_are_restarted_however_often() -> None:
    with started("crashing") as node:
        said = node.expect(of_slot(0))
        assert said["problems"] == ["WorkerDied"] * 16
        assert said["values"] == [2]
        assert node.expect_log("compute scheduler")
        stop(node)


def test_a_worker_whose_scheduler_died_is_there_for_the_others(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with started("orphans", path) as node:
        node.expect(of_slot(0))
        worker = int(path.read_text())
        children = set(session(node.pid)) - {node.pid, worker}
        assert not [line for line in node.said if line.get("slot") == 1], "the only worker is busy"
        os.kill(min(children), signal.SIGKILL)  # the first that was forked: the scheduler of slot 0
        assert node.expect(of_slot(1))["values"] == [2]
        assert worker not in session(node.pid)
        stop(node)


def test_a_worker_that_is_replaced_takes_what_its_task_has_started_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with started("starting_others", path) as node:
        assert node.expect(of_slot(0))["problems"] == ["ComputeCancelled"]
        child = int(path.read_text())
        wait_until(lambda: not alive(child), what="what the task has started ends")
        stop(node)


def test_a_reload_lets_the_old_schedulers_finish_on_the_old_workers_and_gives_the_new_ones_new_ones() -> None:
    with started("reloading") as node:
        first = node.expect(lambda line: line.get("incarnation") == 1 and not line.get("drained"))
        second = node.expect(lambda line: line.get("incarnation") == 2 and not line.get("drained"))
        assert first["problems"] == second["problems"] == []
        assert first["values"][:-1] == second["values"][:-1] == [0.005] * 20
        assert first["values"][-1] != second["values"][-1]
        wait_until(lambda: first["values"][-1] not in session(node.pid), what="the old worker ends")
        stop(node)
        assert not [line for line in node.said if "killed" in line.get("log", "")]


def test_a_stop_ends_what_runs_and_leaves_no_worker(tmp_path: Path) -> None:
    with started("stopping", tmp_path / "pid") as node:
        node.expect(of_slot(0))
        stop(node)
        (drained,) = [line for line in node.said if line.get("drained")]
        assert sorted(drained["problems"]) == ["ComputeClosed", "ComputeClosed"]


def test_a_node_without_workers_says_so() -> None:
    with started("without") as node:
        said = node.expect(lambda line: "refused" in line)
        assert "give it some: NodeConfig(compute=2)" in said["refused"]
        stop(node)
