"""A lane: short blocking work on threads, one hop for many, and no one waits for somebody else's slow work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from effector_conformance import threads, until

from zerver.effectors.lane import Lane
from zerver_runtime.outcome import Outcome, Success


class Piece:
    """Some work, on which thread it was done, and when it was told of it."""

    def __init__(self, work: Callable[[], object] = lambda: None, log: list[Piece] | None = None) -> None:
        self._work = work
        self._log = log
        self.ran: threading.Thread | None = None
        self.outcomes: list[Outcome] = []

    def on_thread(self) -> Outcome:
        self.ran = threading.current_thread()
        self._work()
        return Success(None)

    def settle(self, outcome: Outcome, /) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.outcomes.append(outcome)
        if self._log is not None:
            self._log.append(self)


async def closed(lane: Lane) -> None:
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    lane.close(lambda: loop.call_soon_threadsafe(gone.set))
    await gone.wait()


class Gate:
    """Slow work: it lasts until it is opened."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.open.wait(20)


def lane(size: int) -> Lane:
    return Lane(size, name="trial", ending=lambda: None)


async def test_what_is_started_together_is_done_in_order_on_one_thread_and_told_once_each() -> None:
    trial, log = lane(4), list[Piece]()
    pieces = [Piece(log=log) for _ in range(20)]
    for piece in pieces:
        assert trial.start(piece)
    await until(lambda: len(log) == 20)
    assert log == pieces
    assert len({piece.ran for piece in pieces}) == 1
    assert {len(piece.outcomes) for piece in pieces} == {1}
    await closed(trial)


async def test_nobody_waits_for_slow_work_while_there_is_another_thread() -> None:
    """Neither what was done before it in the same hop, nor what comes behind it."""
    trial, gate = lane(3), Gate()
    before, behind = [Piece(), Piece()], [Piece(), Piece()]
    slow = [Piece(gate), Piece(gate)]
    for piece in (before[0], slow[0], before[1], slow[1], *behind):
        trial.start(piece)
    await until(lambda: all(piece.outcomes for piece in before + behind))
    assert not slow[0].outcomes + slow[1].outcomes
    gate.open.set()
    await until(lambda: all(piece.outcomes for piece in slow))
    await closed(trial)


async def test_what_comes_behind_slow_work_that_alone_is_under_way_gets_another_thread() -> None:
    trial, gate = lane(2), Gate()
    slow = Piece(gate)
    trial.start(slow)
    await until(gate.begun.is_set)
    quick = Piece()
    trial.start(quick)
    await until(lambda: quick.outcomes)
    assert quick.ran is not slow.ran
    gate.open.set()
    await closed(trial)


async def test_no_more_threads_than_its_size_and_none_when_it_is_closed() -> None:
    before = threads()
    trial, gate = lane(2), Gate()
    pieces = [Piece(gate) for _ in range(6)]
    for piece in pieces:
        trial.start(piece)
    await until(lambda: sum(piece.ran is not None for piece in pieces) == 2)
    assert trial.take_out(pieces[3])
    assert not trial.take_out(pieces[0])
    assert len(threads() - before) == 2
    gate.open.set()
    await until(lambda: sum(bool(piece.outcomes) for piece in pieces) == 5)
    assert pieces[3].ran is None
    assert len({piece.ran for piece in pieces} - {None}) == 2
    await closed(trial)
    await until(lambda: threads() <= before)
    assert not trial.start(Piece())


async def test_work_that_comes_just_when_a_thread_goes_to_sleep_is_done() -> None:
    trial = lane(2)
    for _ in range(3000):
        piece = Piece()
        trial.start(piece)
        while not piece.outcomes:  # noqa: ASYNC110  # to start the next one at the earliest moment
            await asyncio.sleep(0)
    await closed(trial)


async def test_what_is_done_when_it_is_closed_is_told_even_if_others_waited_behind_it() -> None:
    trial, gate, log = lane(1), Gate(), list[Piece]()
    pieces = [Piece(log=log), Piece(gate, log=log), Piece(log=log)]
    for piece in pieces:
        trial.start(piece)
    await asyncio.sleep(0)  # a thread is woken
    gate.begun.wait(20)  # the loop cannot look meanwhile: the first result is not told
    ending = asyncio.ensure_future(closed(trial))
    await asyncio.sleep(0)
    gate.open.set()
    await ending
    assert log == pieces[:2]


async def test_without_a_thread_it_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, piece, start = lane(1), Piece(), threading.Thread.start
    refusals = iter([True, True, True])

    def refusing(thread: threading.Thread) -> None:
        if next(refusals, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    trial.start(piece)
    await until(lambda: piece.outcomes)
    assert next(refusals, None) is None
    await closed(trial)


async def test_what_waits_is_dropped_when_it_is_closed() -> None:
    trial, gate = lane(1), Gate()
    first, second = Piece(gate), Piece()
    trial.start(first)
    trial.start(second)
    await until(gate.begun.is_set)
    ending = asyncio.ensure_future(closed(trial))
    await asyncio.sleep(0)
    gate.open.set()
    await ending
    assert (len(first.outcomes), second.ran) == (1, None)
