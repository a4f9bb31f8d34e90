"""The compute pool with real processes: whatever a task does, it settles once, and others go on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import compute_functions as functions
import pytest
import uvloop

from zerver_runtime.reactor import compute_link
from zerver_runtime.reactor import compute_protocol as words
from zerver_runtime.reactor.compute_link import cpu_time
from zerver_runtime.reactor.compute_pool import ComputePool, ComputeRun
from zerver_runtime.reactor.compute_task import (
    ComputeCancelled,
    ComputeClosed,
    ComputeFull,
    ComputeTask,
    OverBudget,
    RemoteError,
    RemoteTraceback,
    Untransferable,
    WorkerDied,
)

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
SECONDS = 15.0


@pytest.fixture(autouse=True)
def _others() -> None:
    """What was started for other tests is left out."""
    others.clear()
    others.update(children())


others: set[str] = set()


def children() -> list[str]:
    """Of this process, zombies among them."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += (task / "children").read_text().split()
    return [one for one in found if one not in others]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def read(path: Path) -> int:
    return int(path.read_text())


async def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"it never came true: {what}"
        await asyncio.sleep(0.002)


class Call:
    """A task under way: what `done` was called with."""

    def __init__(self, pool: ComputePool, name: str, *args: Any, tag: object = None, **options: Any) -> None:
        self.outcomes: list[tuple[Any, BaseException | None]] = []
        task = ComputeTask(name if ":" in name else f"compute_functions:{name}", args, **options)
        self.cancel = pool.submit(task, lambda *outcome: self.outcomes.append(outcome), tag)

    async def settled(self) -> tuple[Any, BaseException | None]:
        await until(lambda: self.outcomes, "it settles")
        return self.outcomes[0]

    async def value(self) -> Any:
        value, problem = await self.settled()
        assert problem is None, problem
        return value

    async def problem(self) -> BaseException:
        _, problem = await self.settled()
        assert problem is not None
        return problem

    async def pid(self, path: Path) -> int:
        """Of the worker that it runs on, where it says so."""
        await until(lambda: path.exists() and path.read_text(), "the task says who it is")
        return read(path)


@asynccontextmanager
async def pool_of(size: int = 1, queue: int = 100, **options: Any) -> AsyncIterator[ComputePool]:
    pool = ComputePool(size, queue, **options)
    try:
        yield pool
    finally:
        await pool.close(0)
        assert children() == []
        now = pool.statistics()
        assert (now.workers, now.running, now.queued) == (0, 0, 0)


Main = Callable[[ComputePool], Awaitable[None]]


@pytest.fixture(params=LOOPS)
def on_pool(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run with a pool, on each kind of loop; afterwards there is no process left."""

    def run(main: Main, *args: Any, **options: Any) -> None:
        async def inside() -> None:
            async with pool_of(*args, **options) as pool:
                await main(pool)

        with asyncio.Runner(loop_factory=LOOPS[request.param], debug=True) as runner:
            runner.run(inside())

    return run


# --- Values and exceptions


def test_values_come_back_from_another_process_and_the_next_task_has_the_same_one(on_pool: Any) -> None:
    async def main(pool: ComputePool) -> None:
        assert await Call(pool, "add", 3, kwargs={"two": 4}).value() == 7
        first, second = await Call(pool, "pid").value(), await Call(pool, "pid").value()
        assert first == second != os.getpid()
        assert os.getpriority(os.PRIO_PROCESS, first) == os.getpriority(os.PRIO_PROCESS, 0) + 3

    on_pool(main, nice=3)


def test_no_process_is_started_before_the_first_task(on_pool: Any) -> None:
    async def main(pool: ComputePool) -> None:
        assert children() == []

    on_pool(main)


async def test_exceptions_come_back_whole() -> None:
    async with pool_of() as pool:
        problem = await Call(pool, "raise_expected", "one", 2).problem()
        assert type(problem) is functions.Expected
        assert problem.args == ("one", 2)
        assert problem.__notes__ == ["a note"]
        assert isinstance(problem.__cause__, RemoteTraceback)
        assert "in raise_expected" in str(problem.__cause__)


@pytest.mark.parametrize(
    ("name", "says"),
    [("raise_sticky", "Sticky: held"), ("raise_fussy", "Fussy: ab"), ("raise_broken", "Expected: ")],
)
async def test_exceptions_that_cannot_cross_are_told_by_type_and_message(name: str, says: str) -> None:
    async with pool_of() as pool:
        problem = await Call(pool, name).problem()
        assert isinstance(problem, RemoteError)
        assert says in str(problem)
        assert f"in {name}" in str(problem.__cause__)
        assert await Call(pool, "add", 1).value() == 2


async def test_an_exception_that_takes_no_cause_comes_back_without() -> None:
    async with pool_of() as pool:
        assert await Call(pool, "raise_frozen").problem() == functions.Frozen("frozen")


@pytest.mark.parametrize("name", ["sys:exit", "builtins:exec"])
async def test_an_exit_is_an_exception_as_others_are(name: str) -> None:
    async with pool_of() as pool:
        argument = 3 if name == "sys:exit" else "raise KeyboardInterrupt"
        assert isinstance(await Call(pool, name, argument).problem(), (SystemExit, KeyboardInterrupt))
        assert await Call(pool, "add", 1).value() == 2
        assert pool.statistics().replaced == 0


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("add", (lambda: 1,), r"compute_functions:add: argument 1 \(builtins.function\) cannot be pickled"),
        ("echo", ([open],), None),
        ("nowhere:f", (), "nowhere:f: a compute worker cannot import it: ModuleNotFoundError"),
        ("os:nothing", (), "os:nothing: a compute worker cannot import it: AttributeError"),
        ("pair", (), "its result cannot be pickled: TypeError"),
        ("return_broken", (), "its result cannot be read here: Expected"),
        ("echo", (functions.Broken(),), "a compute worker cannot read its arguments: Expected: cannot be loaded"),
    ],
)
async def test_what_cannot_cross_fails_with_what_it_was(name: str, args: tuple[Any, ...], says: str | None) -> None:
    async with pool_of() as pool:
        call = Call(pool, name, *args)
        if says is None:
            assert await call.value() == [open]
        else:
            problem = await call.problem()
            assert isinstance(problem, Untransferable)
            with pytest.raises(Untransferable, match=says):
                raise problem
        assert len(call.outcomes) == 1
        assert await Call(pool, "add", 1).value() == 2


async def test_a_keyword_argument_that_cannot_be_pickled_is_named_and_fails_at_once() -> None:
    async with pool_of() as pool:
        call = Call(pool, "add", 1, kwargs={"two": (one for one in ())})
        assert len(call.outcomes) == 1
        assert "argument 'two' (builtins.generator)" in str(call.outcomes[0][1])
        assert children() == []


def test_large_payloads_cross_both_ways_at_once_and_the_loop_goes_on(on_pool: Any) -> None:
    data = bytes(range(256)) * (24 * 4096)  # 24 MiB

    async def main(pool: ComputePool) -> None:
        calls = [Call(pool, "echo", data) for _ in range(4)]
        turns = 0
        while not all(call.outcomes for call in calls):
            await asyncio.sleep(0)
            turns += 1
        for call in calls:
            assert await call.value() == data
        assert turns > 100

    on_pool(main, 2)


async def test_what_a_task_prints_does_not_disturb_its_result(capfd: pytest.CaptureFixture[str]) -> None:
    async with pool_of() as pool:
        assert await Call(pool, "print_a_lot").value() == "said"
        await Call(pool, "kill_itself").settled()  # which loses what a process has not written yet
    out, err = capfd.readouterr()
    assert out.count("x") == 200_000
    assert "straight to the descriptor" in out
    assert "and to the other" in err


async def test_a_function_may_leave_behind_an_output_that_does_not_work() -> None:
    async with pool_of() as pool:
        assert await Call(pool, "print_to_nobody").value() == "said"
        assert await Call(pool, "add", 1).value() == 2
        assert pool.statistics().replaced == 0


@pytest.mark.parametrize(("ends", "code"), [("returns", 0), ("exits", 3), ("raises", 1)])
async def test_of_a_function_that_forks_the_parent_answers(ends: str, code: int) -> None:
    async with pool_of() as pool:
        assert await Call(pool, "fork", ends).value() == code
        assert await Call(pool, "add", 1).value() == 2


# --- Workers that die


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("leave", (7,), "ended by itself (exit code 7)"),
        ("kill_itself", (), "ended by signal 9"),
        ("signalled", (int(signal.SIGSEGV),), "ended by signal 11"),
        ("close_everything", (), "ended by signal 9"),
        ("garbage", (), "ended by signal 9"),
    ],
)
def test_a_worker_that_dies_fails_its_task_alone_and_is_replaced(
    on_pool: Any, name: str, args: tuple[Any, ...], says: str
) -> None:
    async def main(pool: ComputePool) -> None:
        before = await Call(pool, "pid").value()
        call, behind = Call(pool, name, *args), Call(pool, "pid")
        problem = await call.problem()
        assert isinstance(problem, WorkerDied)
        assert f"compute_functions:{name}: its worker" in str(problem)
        assert says in str(problem)
        assert await behind.value() != before
        assert len(call.outcomes) == 1
        assert pool.statistics().replaced == 1

    on_pool(main)


async def test_a_worker_that_is_killed_in_the_middle_of_a_task_is_replaced(tmp_path: Path) -> None:
    async with pool_of() as pool:
        call = Call(pool, "note", str(tmp_path / "pid"))
        os.kill(await call.pid(tmp_path / "pid"), signal.SIGKILL)
        assert isinstance(await call.problem(), WorkerDied)
        assert await Call(pool, "add", 1).value() == 2


def wait_without_the_loop(pid: int) -> None:
    end = time.monotonic() + SECONDS
    while alive(pid):
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("when", ["before it is given to it", "before it reads it", "while it is written"])
def test_a_task_that_its_worker_surely_has_not_begun_is_given_to_another_one(on_pool: Any, when: str) -> None:
    data = b"x" * (24_000_000 if when == "while it is written" else 10)

    async def main(pool: ComputePool) -> None:
        worker = await Call(pool, "pid").value()
        if when == "before it is given to it":
            os.kill(worker, signal.SIGKILL)
            wait_without_the_loop(worker)
            call = Call(pool, "echo", data)
        else:
            os.kill(worker, signal.SIGSTOP)
            call = Call(pool, "echo", data)
            assert pool.statistics().running == 1
            os.kill(worker, signal.SIGKILL)
        assert await call.value() == data
        assert pool.statistics().replaced == 1
        assert await Call(pool, "pid").value() != worker

    on_pool(main)


class Lent:
    """A worker of somebody else's, as its pool sees it."""

    def __init__(self, pool: ComputePool, worker: tuple[int, int]) -> None:
        ours, self.end = socket.socketpair()
        pool.join(worker, ours)
        self.say(words.Hello(1))

    def say(self, word: words.FromWorker) -> None:
        self.end.sendall(words.frame(word))


@pytest.mark.parametrize("read", [False, True])
async def test_a_lent_worker_that_ends_with_a_task_unread_has_not_begun_it(read: bool) -> None:
    killed: list[tuple[int, int]] = []
    async with pool_of(2, replace=killed.append) as pool:
        call, lent = Call(pool, "add", 1), Lent(pool, (0, 1))
        lent.say(words.Pull())
        await until(lambda: pool.statistics().running, "it has the task")
        if read:
            lent.end.recv(100_000)
        lent.end.close()
        pool.lost((0, 1), "signal 9 (Killed)")
        other = Lent(pool, (1, 1))
        other.say(words.Pull())
        if read:
            assert "its worker has ended: signal 9" in str(await call.problem())
        else:
            await until(lambda: pool.statistics().running, "the other has it")
            other.say(words.Returned(1, words.dump(5)))
            assert await call.value() == 5
        other.end.close()
        pool.lost((1, 1), "done")
    assert killed == []


def test_the_last_words_of_a_worker_are_heard(on_pool: Any) -> None:
    async def main(pool: ComputePool) -> None:
        worker = await Call(pool, "pid").value()
        call = Call(pool, "return_and_die", 150_000)  # more than is read at once, less than the kernel keeps
        await until(lambda: pool.statistics().running, "it runs")
        wait_without_the_loop(worker)
        assert await call.value() == b"x" * 150_000
        await until(lambda: str(worker) not in children(), "its end is seen")
        assert await Call(pool, "pid").value() != worker

    on_pool(main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_worker_leaves_it_to_its_parent_when_to_stop(number: signal.Signals) -> None:
    async with pool_of() as pool:
        assert await Call(pool, "signalled", int(number)).value() == "went on"


async def test_a_killed_worker_takes_what_it_has_started_with_it(tmp_path: Path) -> None:
    async with pool_of() as pool:
        call = Call(pool, "fork_and_wait", str(tmp_path / "pid"))
        child = await call.pid(tmp_path / "pid")
        call.cancel()
        assert isinstance(await call.problem(), ComputeCancelled)
        await until(lambda: not alive(child), "its child is gone")


async def test_a_task_that_there_is_no_memory_to_send_fails_and_no_worker_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frame = words.frame

    def short_of_memory(word: Any) -> bytes:
        if isinstance(word, words.Task) and word.name.endswith("echo"):
            raise MemoryError
        return frame(word)

    monkeypatch.setattr(words, "frame", short_of_memory)
    async with pool_of() as pool:
        assert isinstance(await Call(pool, "echo", 1).problem(), WorkerDied)
        assert await Call(pool, "add", 1).value() == 2
    assert "no memory to send its arguments" in caplog.text


async def test_where_no_interpreter_is_found_the_task_fails_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_of() as pool:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        problem = await Call(pool, "add", 1).problem()
        assert "compute workers do not start: FileNotFoundError" in str(problem)
        monkeypatch.undo()
        assert await Call(pool, "add", 1).value() == 2
    assert "a compute worker cannot be started" in caplog.text


# --- Budgets and cancelling


@pytest.mark.parametrize(("name", "args"), [("burn", ()), ("burn_on_threads", (2,)), ("builtins:pow", (3, 10**9))])
async def test_a_task_past_its_budget_is_ended_with_its_worker(name: str, args: tuple[Any, ...]) -> None:
    async with pool_of() as pool:
        problem = await Call(pool, name, *args, cpu_budget=0.05).problem()
        assert isinstance(problem, OverBudget)
        assert "its budget is 0.05 s" in str(problem)
        assert await Call(pool, "add", 1, cpu_budget=0.05).value() == 2


async def test_sleeping_and_what_came_before_cost_nothing_of_a_budget() -> None:
    async with pool_of() as pool:
        await Call(pool, "burn", 0.2).value()
        assert await Call(pool, "sleep", 0.2, cpu_budget=0.1).value() == 0.2


async def test_without_a_cpu_clock_the_budget_is_held_by_what_proc_says(monkeypatch: pytest.MonkeyPatch) -> None:
    used = time.process_time_ns()
    exact = cpu_time(os.getpid())
    assert exact is not None
    assert exact >= used

    def refuse(clock: int) -> int:
        raise OSError

    monkeypatch.setattr(compute_link.time, "clock_gettime_ns", refuse)
    coarse = cpu_time(os.getpid())
    assert coarse is not None
    assert abs(coarse - exact) < 100_000_000
    assert cpu_time(2**30) is None
    async with pool_of() as pool:
        assert isinstance(await Call(pool, "burn", cpu_budget=0.05).problem(), OverBudget)


def test_a_task_that_is_cancelled_while_it_runs_is_done_when_its_worker_is_gone(on_pool: Any, tmp_path: Path) -> None:
    async def main(pool: ComputePool) -> None:
        path = tmp_path / str(id(pool))
        call = Call(pool, "note", str(path))
        worker = await call.pid(path)
        call.cancel()
        call.cancel()
        assert call.outcomes == []
        assert isinstance(await call.problem(), ComputeCancelled)
        assert str(worker) not in children(), "reaped, too"
        assert await Call(pool, "pid").value() != worker
        call.cancel()
        assert len(call.outcomes) == 1

    on_pool(main)


async def test_a_task_that_is_cancelled_while_it_waits_is_done_at_once_and_never_runs(tmp_path: Path) -> None:
    async with pool_of() as pool:
        running, waiting = Call(pool, "sleep", 0.05), Call(pool, "note", str(tmp_path / "pid"))
        waiting.cancel()
        assert isinstance(waiting.outcomes[0][1], ComputeCancelled)
        await running.value()
        assert await Call(pool, "add", 1).value() == 2
        assert not (tmp_path / "pid").exists()
        assert pool.statistics().replaced == 0


async def test_where_the_system_tells_no_ends_of_processes_they_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    async with pool_of() as pool:
        assert isinstance(await Call(pool, "leave", 3).problem(), WorkerDied)
        call = Call(pool, "note", str(tmp_path / "pid"))
        await call.pid(tmp_path / "pid")
        call.cancel()
        assert isinstance(await call.problem(), ComputeCancelled)
        assert await Call(pool, "add", 1).value() == 2


# --- Many


def test_a_flood_is_refused_past_the_bound_and_all_that_was_taken_is_done(on_pool: Any) -> None:
    async def main(pool: ComputePool) -> None:
        calls = [Call(pool, "add", number) for number in range(400)]
        refused = [call for call in calls if call.outcomes]
        assert len(refused) == 400 - 102
        assert all(isinstance(call.outcomes[0][1], ComputeFull) for call in refused)
        values = [await call.value() for call in calls[:102]]
        assert values == list(range(1, 103))
        assert all(len(call.outcomes) == 1 for call in calls)
        now = pool.statistics()
        assert (now.completed, now.refused, now.queued, now.running) == (400, 298, 0, 0)
        assert repr(pool) == "<ComputePool: 0 of 2 busy, 0 queued, 298 refused, 0 replaced>"

    on_pool(main, 2)


async def test_interactive_tasks_go_first() -> None:
    order: list[str] = []
    async with pool_of() as pool:
        await Call(pool, "add", 1).value()
        blocker = Call(pool, "sleep", 0.05)
        for batch in (True, True, False, False):
            task = ComputeTask("compute_functions:echo", ("batch" if batch else "interactive",), batch=batch)
            pool.submit(task, lambda value, problem: order.append(value))
        await blocker.value()
        await until(lambda: len(order) == 4, "all are done")
    assert order == ["interactive", "interactive", "batch", "batch"]


async def test_crashes_cancels_and_budgets_among_many_others_disturb_nobody(tmp_path: Path) -> None:
    async with pool_of(2, 1000) as pool:
        good, cancelled = [], []
        for number in range(300):
            good.append(Call(pool, "add", number))
            if number % 60 == 10:
                Call(pool, "leave", 1)
            if number % 60 == 20:
                Call(pool, "burn", cpu_budget=0.02)
            if number % 30 == 5:
                cancelled.append(Call(pool, "hang"))
            if number % 60 == 59:
                await good[number - 58].value()
                for call in cancelled:
                    call.cancel()
        assert [await call.value() for call in good] == list(range(1, 301))
        for call in cancelled:
            call.cancel()
            assert isinstance(await call.problem(), ComputeCancelled)


async def test_done_may_submit_and_cancel_and_what_it_raises_hurts_nobody() -> None:
    seen: list[Any] = []
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context["exception"]))
    async with pool_of() as pool:

        def first(value: Any, problem: BaseException | None) -> None:
            seen.append(value)
            pool.submit(ComputeTask("compute_functions:add", (10,)), second)
            raise RuntimeError("done is broken")

        def second(value: Any, problem: BaseException | None) -> None:
            seen.append(value)

        pool.submit(ComputeTask("compute_functions:add", (1,)), first)
        await until(lambda: len(seen) == 2, "both are done")
    assert seen == [2, 11]
    assert [str(one) for one in problems] == ["done is broken"]


async def test_what_is_submitted_while_full_but_taken_after_a_cancel_has_its_arguments() -> None:
    values: list[Any] = []
    async with pool_of(1, 1) as pool:
        running, waiting = Call(pool, "sleep", 0.05), Call(pool, "hang")

        def refused(value: Any, problem: BaseException | None) -> None:
            assert isinstance(problem, ComputeFull)
            waiting.cancel()
            pool.submit(ComputeTask("compute_functions:add", (5,)), lambda value, problem: values.append(value))

        pool.submit(ComputeTask("compute_functions:add", (1,)), refused)
        await running.value()
        await until(lambda: values, "it is done")
    assert values == [6]


async def test_each_task_is_told_as_scheduled_started_and_completed() -> None:
    events: list[tuple[Any, ...]] = []
    async with pool_of(1, 1, observe=lambda *event: events.append(event)) as pool:
        _, second, third = [Call(pool, "add", number, tag=number) for number in range(3)]
        await second.value()
        assert isinstance(await third.problem(), ComputeFull)
        await Call(pool, "leave", 1, tag=3).settled()
    assert [(event, tag) for event, tag, _, _ in events] == [
        ("ComputeTaskScheduled", 0),
        ("ComputeTaskScheduled", 1),
        ("ComputeTaskStarted", 0),
        ("ComputeTaskCompleted", 0),
        ("ComputeTaskStarted", 1),
        ("ComputeTaskCompleted", 1),
        ("ComputeTaskScheduled", 3),
        ("ComputeTaskStarted", 3),
        ("ComputeTaskCompleted", 3),
    ]
    times = [at for _, _, at, _ in events]
    assert times == sorted(times)
    assert abs(times[-1] - time.monotonic()) < SECONDS
    assert [detail for event, _, _, detail in events if event == "ComputeTaskScheduled"] == [1, 2, 1]
    assert all(0 <= detail < SECONDS for event, _, _, detail in events if event == "ComputeTaskStarted")
    runs = [detail for event, _, _, detail in events if event == "ComputeTaskCompleted"]
    assert [run.end for run in runs] == ["returned", "returned", "crashed"]
    assert isinstance(runs[0], ComputeRun)
    assert 0 < runs[0].cpu_seconds < SECONDS
    assert 0 < runs[0].seconds < SECONDS


# --- The end


@pytest.mark.parametrize("when", ["unused", "starting", "idle", "running", "waiting", "ending", "crashed", "closed"])
def test_closing_at_any_point_settles_everything_and_leaves_nothing(on_pool: Any, when: str, tmp_path: Path) -> None:
    async def main(pool: ComputePool) -> None:
        calls = []
        path = tmp_path / str(id(pool))
        if when == "starting":
            calls = [Call(pool, "hang"), Call(pool, "hang")]
        elif when == "idle":
            await Call(pool, "add", 1).value()
        elif when in ("running", "waiting", "ending"):
            calls = [Call(pool, "note", str(path))]
            await calls[0].pid(path)
            if when == "waiting":
                calls += [Call(pool, "add", 1), Call(pool, "add", 1, batch=True)]
            if when == "ending":
                calls[0].cancel()
        elif when == "crashed":
            await Call(pool, "leave", 1).settled()
        elif when == "closed":
            await pool.close()
        await asyncio.gather(pool.close(0.01), pool.close(0.01))
        assert children() == []
        assert [len(call.outcomes) for call in calls] == [1] * len(calls)
        late = Call(pool, "add", 1)
        assert isinstance(late.outcomes[0][1], ComputeClosed)

    on_pool(main)


async def test_what_runs_may_come_to_its_end_within_the_grace() -> None:
    async with pool_of() as pool:
        await Call(pool, "add", 1).value()
        running, waiting = Call(pool, "sleep", 0.1), Call(pool, "add", 1)
        await until(lambda: pool.statistics().running, "it runs")
        await pool.close(SECONDS)
        assert running.outcomes == [(0.1, None)]
        assert isinstance(waiting.outcomes[0][1], ComputeClosed)


async def test_a_close_that_is_cancelled_still_ends_the_workers(tmp_path: Path) -> None:
    async with pool_of() as pool:
        call = Call(pool, "note", str(tmp_path / "pid"))
        worker = await call.pid(tmp_path / "pid")
        closing = asyncio.create_task(pool.close(3600))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: not alive(worker), "the worker is gone")
        assert isinstance(await call.problem(), ComputeClosed)


PARENT = """
import asyncio, sys
from zerver_runtime.reactor.compute_pool import ComputePool
from zerver_runtime.reactor.compute_task import ComputeTask
async def main():
    pool = ComputePool(1)
    pool.submit(ComputeTask("compute_functions:" + sys.argv[1], (sys.argv[2],)), lambda value, problem: None)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["write_pid", "note", "fork_and_wait"])
async def test_workers_and_what_they_started_do_not_outlive_a_parent_that_was_killed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, name, os.fspath(path), env=environment)
    try:
        await until(lambda: path.exists() and path.read_text(), "the worker runs")
        worker = read(path)
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: not alive(worker), "it ends, too")


def test_the_pool_says_nothing_in_the_log_of_what_is_no_fault_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "zerver.compute")

    async def main() -> None:
        async with pool_of() as pool:
            await Call(pool, "raise_expected").settled()
            await Call(pool, "leave", 1).settled()

    asyncio.run(main())
    assert [record for record in caplog.records if record.name == "zerver.compute"] == []
