"""What every effector promises, as requirements that can be tried: for drivers of one's own, and Zerver's.

Give effects that settle soon, and one that does not by itself, as a :class:`Trial`; :func:`run` tries one requirement
of ``REQUIREMENTS`` with it. With pytest::

    @pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda one: one.__name__)
    def test_the_driver_keeps_the_rules(requirement: Requirement) -> None:
        run(requirement, trial)
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, TypeAlias

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.effector import Effector

from ..effect import Effect

__all__ = ["REQUIREMENTS", "Probe", "Requirement", "Start", "Trial", "run", "until"]

_PATIENCE: Final = 5.0  # seconds for anything that is to come


class Trial(NamedTuple):
    """A driver, and what to try it with."""

    effector: Any
    """The driver. Where it has ``open()`` and ``close()``, these are called."""
    quick: Sequence[Effect[Any]]
    """They settle soon: as successes, or as failures. They may be performed again and again."""
    slow: Effect[Any]
    """It does not settle by itself within seconds."""
    let_go: Callable[[], object] = lambda: None
    """Ends the slow ones that cannot be stopped from outside, such as a call that hangs on a thread."""
    under_way: Callable[[], bool] | None = None
    """Whether the slow one has really begun, where that can be told."""


class Probe:
    """One attempt: what its ``done`` was called with, and on which thread."""

    def __init__(self, effector: Effector, effect: Effect[Any]) -> None:
        self.effect = effect
        self.outcomes: list[Outcome] = []
        self.threads: list[threading.Thread] = []
        self.cancel = effector.start(effect, self._done)

    def _done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.threads.append(threading.current_thread())

    async def settled(self) -> Outcome:
        """Wait for its outcome.

        :raises AssertionError: there is none after 5 seconds.
        """
        await until(lambda: self.outcomes, f"{self.effect.label} never settled: done was not called")
        return self.outcomes[0]

    def stop(self) -> None:
        """Cancel it."""
        assert self.cancel is not None, f"{self.effect.label} cannot be cancelled: start() returned None"
        self.cancel()


Start: TypeAlias = Callable[[Effect[Any]], Probe]
"""Starts an attempt, which must have settled once when all is over."""
Requirement: TypeAlias = Callable[[Trial, Start], Awaitable[None]]


def run(
    requirement: Requirement,
    trial: Callable[[], AbstractAsyncContextManager[Trial]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Try a requirement on a loop of its own, and close the driver. Then every attempt has settled exactly once, on the
    loop's thread, and threads, tasks and descriptors are back at where they were.

    :param trial: called on that loop.
    :raises AssertionError: the requirement is not kept.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_tried(requirement, trial))


async def until(condition: Callable[[], object], what: str = "", seconds: float | None = None) -> None:
    """Wait until something is so, 5 seconds at most.

    :raises AssertionError: it is not so in time; ``what`` says what is wrong then.
    """
    end = time.monotonic() + (_PATIENCE if seconds is None else seconds)
    while not condition():
        assert time.monotonic() < end, what or "it never came true"
        await asyncio.sleep(0.001)


async def _tried(requirement: Requirement, trial: Callable[[], AbstractAsyncContextManager[Trial]]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, int)  # a loop makes some things once, and keeps them
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    server.close()
    await server.wait_closed()
    tasks, threads, descriptors = asyncio.all_tasks(), set(threading.enumerate()), _descriptors()
    probes: list[Probe] = []
    async with trial() as given:

        def start(effect: Effect[Any]) -> Probe:
            probes.append(probe := Probe(given.effector, effect))
            return probe

        if hasattr(given.effector, "open"):
            await given.effector.open()
        try:
            await requirement(given, start)
        finally:
            given.let_go()
            if hasattr(given.effector, "close"):
                await given.effector.close()
            else:
                for probe in probes:  # as the engine does, where a driver has nothing to close
                    if not probe.outcomes and probe.cancel is not None:
                        probe.cancel()
    await until(lambda: asyncio.all_tasks() <= tasks, "tasks are left")
    await until(lambda: set(threading.enumerate()) <= threads, "threads are left")
    if _descriptors() > descriptors:
        gc.collect()
    await until(lambda: _descriptors() <= descriptors, "descriptors are left")
    for probe in probes:
        await probe.settled()
    await asyncio.sleep(0)  # what was handed over by now arrives, and so does what came twice
    for probe in probes:
        _judge(probe)


def _judge(probe: Probe) -> None:
    what, times = probe.effect.label, len(probe.outcomes)
    assert times == 1, f"{what}: done was called {times} times; an attempt calls it exactly once, also when cancelled"
    outcome = probe.outcomes[0]
    assert isinstance(outcome, (Success, Failure)), f"{what}: done takes a Success or a Failure, not {outcome!r}"
    on = probe.threads[0].name
    assert probe.threads[0] is threading.current_thread(), (
        f"{what}: done was called on thread {on}; hand over with loop.call_soon_threadsafe(done, outcome)"
    )


def _descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # only Linux tells
        return 0


# The requirements


async def done_is_called_exactly_once_on_the_loops_thread(trial: Trial, start: Start) -> None:
    for effect in trial.quick:
        await start(effect).settled()


async def many_at_once_settle_once_each(trial: Trial, start: Start) -> None:
    probes = [start(effect) for _ in range(20) for effect in trial.quick]
    for probe in probes:
        await probe.settled()


async def an_attempt_cancelled_at_once_is_done_when_it_has_let_go(trial: Trial, start: Start) -> None:
    await _cancelled(trial, start(trial.slow))


async def an_attempt_cancelled_under_way_is_done_when_it_has_let_go(trial: Trial, start: Start) -> None:
    probe = start(trial.slow)
    if trial.under_way is not None:
        await until(trial.under_way, f"{trial.slow.label} has not begun")
    else:
        for _ in range(20):
            await asyncio.sleep(0.001)  # no way to tell; whether it has begun is all the same to the outcome
    await _cancelled(trial, probe)


async def _cancelled(trial: Trial, probe: Probe) -> None:
    assert not probe.outcomes, f"{trial.slow.label} has settled by itself: give one that does not, as slow"
    probe.stop()
    trial.let_go()
    await probe.settled()
    probe.stop()


async def cancelling_again_and_again_changes_nothing(trial: Trial, start: Start) -> None:
    probes = [start(trial.slow) for _ in range(8)]
    for probe in (*probes, *probes, *reversed(probes)):
        probe.stop()
        await asyncio.sleep(0)
    trial.let_go()
    for probe in probes:
        await probe.settled()


async def cancelling_what_is_done_changes_nothing(trial: Trial, start: Start) -> None:
    for effect in trial.quick:
        probe = start(effect)
        await probe.settled()
        if probe.cancel is not None:
            probe.stop()
            probe.stop()
    for effect in trial.quick:  # and it still works
        await start(effect).settled()


async def what_was_cancelled_holds_up_nothing_else(trial: Trial, start: Start) -> None:
    for probe in [start(trial.slow) for _ in range(5)]:
        probe.stop()
    trial.let_go()
    for effect in trial.quick:
        await start(effect).settled()


async def closing_with_work_in_flight_settles_it_and_leaves_nothing(trial: Trial, start: Start) -> None:
    for _ in range(5):
        start(trial.slow)
    if trial.under_way is not None:
        await until(trial.under_way, f"{trial.slow.label} has not begun")
    for effect in trial.quick:
        start(effect)


async def closing_again_does_nothing_and_what_starts_later_fails(trial: Trial, start: Start) -> None:
    if not hasattr(trial.effector, "close"):
        return
    await trial.effector.close()
    await trial.effector.close()
    probe = start(trial.slow)
    trial.let_go()
    await probe.settled()


REQUIREMENTS: Final[tuple[Requirement, ...]] = (
    done_is_called_exactly_once_on_the_loops_thread,
    many_at_once_settle_once_each,
    an_attempt_cancelled_at_once_is_done_when_it_has_let_go,
    an_attempt_cancelled_under_way_is_done_when_it_has_let_go,
    cancelling_again_and_again_changes_nothing,
    cancelling_what_is_done_changes_nothing,
    what_was_cancelled_holds_up_nothing_else,
    closing_with_work_in_flight_settles_it_and_leaves_nothing,
    closing_again_does_nothing_and_what_starts_later_fails,
)
"""All of them. The name of each says what it is."""
