"""What every effector promises, on both event loops; see :mod:`zerver.testing.effectors`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from effector_conformance import SUBJECTS, Subject, custom

from zerver.effect import Effect
from zerver.effectors.base import Done
from zerver.error import Error, ErrorKind
from zerver.testing.effectors import REQUIREMENTS, Requirement, Trial, run
from zerver_runtime.outcome import Failure, Success

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Subject:
    subject: Subject = request.param
    if subject.server is None:
        return subject
    server = request.getfixturevalue(subject.server)
    return subject._replace(make=lambda folder: subject.make(folder, server))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda one: one.__name__)
def test_an_effector_keeps_its_promise(requirement: Requirement, subject: Subject, loop: str, tmp_path: Path) -> None:
    run(requirement, lambda: subject.make(tmp_path), LOOPS[loop])


class Broken:
    """Keeps all promises but one."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.kept: list[Any] = []

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        loop, over = asyncio.get_running_loop(), False

        def settle(outcome: Any) -> None:
            nonlocal over
            if not over or self.fault == "twice":
                over = True
                done(outcome)

        if self.fault == "leaks a task":
            self.kept.append(loop.create_task(asyncio.sleep(3600)))
        if effect.op == "quick" and self.fault == "on another thread":
            thread = threading.Thread(target=done, args=(Success(1),))
            thread.start()
            thread.join()
        elif effect.op == "quick" and self.fault != "never":
            loop.call_soon(settle, 1 if self.fault == "no outcome" else Success(1))
        if self.fault == "cannot be cancelled" and effect.op == "slow":
            return None
        if self.fault == "forgets what was cancelled" and effect.op == "slow":
            return lambda: None
        return lambda: settle(Failure(Error(ErrorKind.INTERNAL, "cancelled")))


def all_promises(trial: Callable[[], AbstractAsyncContextManager[Trial]]) -> None:
    for requirement in REQUIREMENTS:
        run(requirement, trial)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("never", "quick never settled"),
        ("twice", "done was called 2 times"),
        ("on another thread", "done was called on thread Thread-"),
        ("no outcome", "done takes a Success or a Failure, not 1"),
        ("cannot be cancelled", r"start\(\) returned None"),
        ("forgets what was cancelled", "slow never settled"),
        ("leaks a task", "tasks are left"),
    ],
)
def test_a_driver_that_breaks_a_promise_is_told_which(
    fault: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerver.testing.effectors._PATIENCE", 0.05)
    broken = Broken(fault)

    @asynccontextmanager
    async def trial() -> AsyncIterator[Trial]:
        yield Trial(broken, [custom("quick")], custom("slow"))

    with pytest.raises(AssertionError, match=message):
        all_promises(trial)


def test_a_driver_without_a_fault_keeps_all_promises() -> None:
    @asynccontextmanager
    async def trial() -> AsyncIterator[Trial]:
        yield Trial(Broken("none"), [custom("quick")], custom("slow"))

    all_promises(trial)
