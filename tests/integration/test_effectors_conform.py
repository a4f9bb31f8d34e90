"""What every effector promises, on both event loops: ``done`` exactly once, on the loop's thread, and nothing
left behind.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from effector_conformance import SUBJECTS, Probe, Subject, Trial, threads, until
from raw_upstream import RawUpstream

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Subject:
    subject: Subject = request.param
    if subject.server is None:
        return subject
    server = request.getfixturevalue(subject.server)
    return subject._replace(make=lambda folder: subject.make(folder, server))


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def tried(subject: Subject, folder: Path) -> AsyncIterator[Trial]:
    """The effector, closed at the end; then threads, tasks and descriptors must be back at where they were."""
    await asyncio.get_running_loop().run_in_executor(None, int)  # a loop makes some things once, and keeps them
    async with RawUpstream():
        pass
    tasks, before, fds = asyncio.all_tasks(), threads(), descriptors()
    async with subject.make(folder) as trial:
        try:
            yield trial
        finally:
            trial.let_go()
            close = getattr(trial.effector, "close", None)
            if close is not None:
                await close()
    await until(lambda: asyncio.all_tasks() <= tasks, "tasks are left")
    await until(lambda: threads() <= before, "threads are left")
    if descriptors() > fds:
        gc.collect()
    await until(lambda: descriptors() <= fds, "descriptors are left")


Check = Callable[[Trial], Awaitable[None]]


def run(runner: asyncio.Runner, subject: Subject, folder: Path, check: Check) -> None:
    async def main() -> None:
        async with tried(subject, folder) as trial:
            await check(trial)

    runner.run(main())


def test_done_is_called_exactly_once_on_the_loops_thread(
    runner: asyncio.Runner, subject: Subject, tmp_path: Path
) -> None:
    probes: list[Probe] = []

    async def check(trial: Trial) -> None:
        for effect in trial.quick:
            probes.append(probe := Probe(trial.effector, effect))
            await probe.settled()

    run(runner, subject, tmp_path, check)
    assert [len(probe.outcomes) for probe in probes] == [1] * len(probes)
    assert {thread for probe in probes for thread in probe.threads} == {threading.current_thread()}


def test_many_at_once_settle_once_each(runner: asyncio.Runner, subject: Subject, tmp_path: Path) -> None:
    probes: list[Probe] = []

    async def check(trial: Trial) -> None:
        for _ in range(20):
            probes.extend(Probe(trial.effector, effect) for effect in trial.quick)
        for probe in probes:
            await probe.settled()

    run(runner, subject, tmp_path, check)
    assert {len(probe.outcomes) for probe in probes} == {1}


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "when it has begun"])
def test_a_cancelled_attempt_is_done_once_when_it_has_let_go(
    runner: asyncio.Runner, subject: Subject, tmp_path: Path, begun: bool
) -> None:
    probes: list[Probe] = []

    async def check(trial: Trial) -> None:
        probes.append(probe := Probe(trial.effector, trial.slow))
        assert not probe.outcomes
        assert probe.cancel is not None
        if begun and trial.under_way is not None:
            await until(trial.under_way)
        elif begun:
            for _ in range(20):
                await asyncio.sleep(0.001)  # no way to tell; whether it has begun is all the same to the outcome
        probe.cancel()
        trial.let_go()
        await probe.settled()
        probe.cancel()

    run(runner, subject, tmp_path, check)
    assert len(probes[0].outcomes) == 1
    assert probes[0].threads == [threading.current_thread()]


def test_cancelling_again_and_again_changes_nothing(runner: asyncio.Runner, subject: Subject, tmp_path: Path) -> None:
    probes: list[Probe] = []

    async def check(trial: Trial) -> None:
        probes.extend(Probe(trial.effector, trial.slow) for _ in range(8))
        for probe in (*probes, *probes, *reversed(probes)):
            assert probe.cancel is not None
            probe.cancel()
            await asyncio.sleep(0)
        trial.let_go()
        for probe in probes:
            await probe.settled()

    run(runner, subject, tmp_path, check)
    assert [len(probe.outcomes) for probe in probes] == [1] * 8


def test_cancelling_what_is_done_changes_nothing(runner: asyncio.Runner, subject: Subject, tmp_path: Path) -> None:
    probes: list[Probe] = []

    async def check(trial: Trial) -> None:
        for effect in trial.quick:
            probes.append(probe := Probe(trial.effector, effect))
            await probe.settled()
            if probe.cancel is not None:
                probe.cancel()
                probe.cancel()
        for effect in trial.quick:  # and it still works
            probes.append(probe := Probe(trial.effector, effect))
            await probe.settled()

    run(runner, subject, tmp_path, check)
    assert {len(probe.outcomes) for probe in probes} == {1}


def test_what_was_cancelled_holds_up_nothing_else(runner: asyncio.Runner, subject: Subject, tmp_path: Path) -> None:
    async def check(trial: Trial) -> None:
        slow = [Probe(trial.effector, trial.slow) for _ in range(5)]
        for probe in slow:
            assert probe.cancel is not None
            probe.cancel()
        trial.let_go()
        for effect in trial.quick:
            await Probe(trial.effector, effect).settled()

    run(runner, subject, tmp_path, check)


def test_closing_with_work_in_flight_settles_it_and_leaves_nothing(
    runner: asyncio.Runner, subject: Subject, tmp_path: Path
) -> None:
    probes: list[Probe] = []

    async def check(trial: Trial) -> None:
        probes.extend(Probe(trial.effector, trial.slow) for _ in range(5))
        if trial.under_way is not None:
            await until(trial.under_way)
        probes.extend(Probe(trial.effector, effect) for effect in trial.quick)

    run(runner, subject, tmp_path, check)
    assert {len(probe.outcomes) for probe in probes} == {1}


def test_closing_again_does_nothing_and_what_starts_later_fails(
    runner: asyncio.Runner, subject: Subject, tmp_path: Path
) -> None:
    probes: list[Probe] = []

    async def check(trial: Trial) -> None:
        if not hasattr(trial.effector, "close"):
            return
        await trial.effector.close()
        await trial.effector.close()
        probes.append(Probe(trial.effector, trial.slow))
        trial.let_go()
        await probes[-1].settled()

    run(runner, subject, tmp_path, check)
    assert all(len(probe.outcomes) == 1 for probe in probes)
