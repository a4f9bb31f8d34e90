"""What a scheduler sends to the actor that exports, and what becomes of it while that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

import zerver.trace.export_actor as module
from zerver.trace.export_actor import EXPORTER, ActorSink, ExportActor
from zerver.trace.record import Row
from zerver_runtime.actor import behaviour
from zerver_runtime.ids import Place
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import ExitReason
from zerver_runtime.scheduler import Scheduler


class Taking(ExportActor):
    """Takes into a list, unless it is told that it ends."""

    mailbox: ClassVar[MailboxPolicy] = MailboxPolicy(bound=4, full="fail")

    def __init__(self, taken: list[bytes], ends: bool) -> None:
        self._taken = taken
        self._ends = ends

    @behaviour
    def take(self, records: list[bytes]) -> bool:
        if not self._ends:
            self._taken += records
        return not self._ends

    def stopped(self, reason: ExitReason) -> None:
        pass


class Rig:
    def __init__(self) -> None:
        self.scheduler = Scheduler(Place(0, 0, 1), lambda: 0)
        self.later: list[Callable[[], object]] = []
        self.sink = ActorSink(self.scheduler, lambda seconds, callback: self.later.append(callback))  # type: ignore[arg-type,return-value]
        self.taken: list[bytes] = []
        self.actor: Any = None

    def spawn(self, *, ends: bool = False) -> None:
        self.actor = self.scheduler.spawn(Taking, (self.taken, ends), name=EXPORTER)

    def stop(self) -> None:
        with self.scheduler:
            self.actor.stop()
        self.settle()

    def settle(self) -> None:
        while self.scheduler.turn() == 0.0:
            pass

    def wait(self) -> None:
        later, self.later = self.later, []
        for callback in later:
            callback()
        self.settle()

    def write(self, *data: bytes) -> None:
        assert self.sink.write(
            [Row(str(n), "", "", "", 200, 0, 0, "slow", "", 0, "", one) for n, one in enumerate(data)]
        )


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_is_written_is_sent_together_after_a_while(rig: Rig) -> None:
    rig.spawn()
    rig.write(b"1", b"2")
    rig.write(b"3")
    rig.settle()
    assert (rig.taken, len(rig.later)) == ([], 1)
    rig.wait()
    assert (rig.taken, rig.later) == ([b"1", b"2", b"3"], [])


def test_much_of_it_is_sent_at_once_in_messages_that_are_not_too_large(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MESSAGE", 10)
    rig.spawn()
    rig.write(b"1234", b"567890", b"ab", b"x" * 20, b"y")
    assert not rig.sink.dropped
    assert rig.scheduler.statistics().queued
    rig.settle()
    assert rig.taken == [b"1234", b"567890", b"ab", b"x" * 20, b"y"]


def test_what_is_not_taken_goes_to_the_next_of_its_name(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.write(b"before it is there")
    rig.wait()
    rig.spawn(ends=True)
    rig.write(b"as it ends")
    rig.wait()
    rig.later[0]()  # it is sent, and not answered
    rig.stop()
    rig.wait()
    assert rig.taken == []
    rig.spawn()
    rig.wait()
    assert sorted(rig.taken) == [b"as it ends", b"before it is there"]
    assert (rig.sink.dropped, rig.later, caplog.messages) == (0, [], [])


def test_what_there_is_no_room_for_is_dropped_counted_and_told_once_in_a_while(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_MESSAGE", 1)
    rig.spawn()
    rig.write(*[b"x"] * 6)
    assert rig.sink.dropped == 2, "its mailbox is full"
    rig.settle()
    rig.stop()
    monkeypatch.setattr(module, "_WAITING", 3)
    rig.write(*[b"x"] * 5)
    assert rig.sink.dropped == 4
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("1 traces were not exported so far: ")


def test_the_end_waits_for_what_is_on_its_way_and_not_for_ever(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        rig.write(b"1")
        closing = asyncio.ensure_future(rig.sink.close())
        await asyncio.sleep(0)
        assert not closing.done()
        rig.spawn()
        while not closing.done():
            rig.settle()
            await asyncio.sleep(0)
        rig.stop()
        rig.write(b"2")
        await rig.sink.close()

    monkeypatch.setattr(module, "_PAUSE", 0)
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    asyncio.run(main())
    assert rig.taken == [b"1"]
    assert caplog.messages == ["1 traces were not exported so far: who exports them is not there"]
