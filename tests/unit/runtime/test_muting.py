"""Muting: who sends to a mailbox past half full waits until it is below a quarter; nobody is ever held for good."""

from __future__ import annotations

from typing import Any

from actor_kit import Stage

from zerver_runtime.actor import Actor
from zerver_runtime.behaviour import behaviour
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import ReplyTimeout
from zerver_runtime.ref import id_of
from zerver_runtime.supervisor import Supervisor, child


class Sink(Actor):
    """Sleeps first, so that its mailbox fills."""

    mailbox = MailboxPolicy(bound=8)

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    @behaviour
    async def hold(self, seconds: float) -> None:
        await self.sleep(seconds)

    @behaviour
    def take(self, value: Any) -> None:
        self.log.append(value)

    @behaviour
    async def ask(self, source: Source) -> Any:
        return await source.ping()


class Source(Actor):
    """Sends one message a turn, until it has sent them all."""

    @behaviour
    def send(self, sink: Sink, count: int) -> None:
        if count:
            sink.take(count)
            self.send(sink, count - 1)

    @behaviour
    def ping(self) -> str:
        return "pong"


class Asker(Actor):
    @behaviour
    async def ask(self, sink: Sink) -> str:
        try:
            await sink.take("ask").with_timeout(1)
        except ReplyTimeout as error:
            return type(error).__name__
        return "answered"


def waiting(stage: Stage, ref: Any) -> int:
    return stage.scheduler.cells[id_of(ref)].count


def test_a_sender_stops_past_half_and_goes_on_below_a_quarter() -> None:
    stage, log = Stage(), list[Any]()
    sink, source = stage.spawn(Sink, log), stage.spawn(Source)
    sink.hold(1)
    stage.settle()
    source.send(sink, 100)
    assert stage.settle() is not None
    assert waiting(stage, sink) == 5
    assert repr(source._cell) == "<Cell Source 0.0.1.2 muted, 1 messages>"
    stage.advance(1)
    assert log == list(range(100, 0, -1))
    assert stage.scheduler.muted > 5
    assert stage.scheduler.dead_letters.count == 0


def test_two_senders_are_both_held_and_both_let_go() -> None:
    stage, log = Stage(), list[Any]()
    sink, one, two = stage.spawn(Sink, log), stage.spawn(Source), stage.spawn(Source)
    sink.hold(1)
    stage.settle()
    one.send(sink, 10)
    two.send(sink, 10)
    stage.settle()
    assert waiting(stage, sink) == 6
    stage.advance(1)
    assert len(log) == 20


def test_one_that_is_held_by_two_waits_for_both() -> None:
    class Both(Source):
        @behaviour
        def to_both(self, first: Sink, second: Sink) -> None:
            for _ in range(6):
                first.take(1)
                second.take(1)

    stage, log = Stage(), list[Any]()
    first, second, source = stage.spawn(Sink, log), stage.spawn(Sink, log), stage.spawn(Both)
    first.hold(1)
    second.hold(2)
    stage.settle()
    source.to_both(first, second)
    reply = source.ping()
    stage.advance(1.5)
    assert not reply.done
    stage.advance(0.5)
    assert reply.result() == "pong"


def test_an_actor_is_not_muted_by_itself() -> None:
    class Own(Sink):
        @behaviour
        def fill(self) -> None:
            for number in range(7):
                self.take(number)

    stage, log = Stage(), list[Any]()
    stage.spawn(Own, log).fill()
    stage.settle()
    assert log == list(range(7))
    assert stage.scheduler.muted == 0


def test_an_actor_is_not_muted_by_one_that_is_muted() -> None:
    class Relay(Source):
        mailbox = MailboxPolicy(bound=8)

        @behaviour
        def take(self, value: Any) -> None: ...

    stage, log = Stage(), list[Any]()
    sink, relay, source = stage.spawn(Sink, log), stage.spawn(Relay), stage.spawn(Source)
    sink.hold(1)
    stage.settle()
    relay.send(sink, 6)
    stage.settle()
    assert relay._cell.mutes == 1
    source.send(relay, 6)
    stage.settle()
    assert waiting(stage, relay) > 4
    assert source._cell.mutes == 0


def test_the_death_of_the_one_that_holds_lets_go() -> None:
    stage, log = Stage(), list[Any]()
    sink, source = stage.spawn(Sink, log), stage.spawn(Source)
    sink.hold(100)
    stage.settle()
    source.send(sink, 20)
    reply = source.ping()
    stage.settle()
    stage.scheduler.kill(sink)
    stage.settle()
    assert reply.result() == "pong"
    assert stage.scheduler.dead_letters.count == 20


def test_two_that_hold_and_ask_each_other_do_not_wait_for_the_time_out() -> None:
    stage, log = Stage(), list[Any]()
    sink, source = stage.spawn(Sink, log), stage.spawn(Source)
    sink.hold(1)
    reply = sink.ask(source)
    stage.settle()
    source.send(sink, 20)
    stage.settle()
    assert source._cell.mutes == 1
    stage.advance(1)
    assert reply.result() == "pong"
    assert len(log) == 20


def test_an_ask_of_one_that_does_not_answer_ends_at_its_time_although_it_holds_who_asks() -> None:
    stage = Stage()
    sink, asker = stage.spawn(Sink, []), stage.spawn(Asker)
    sink.hold(1000)
    for number in range(6):
        sink.take(number)
    reply = asker.ask(sink)
    stage.settle()
    assert asker._cell.mutes == 1
    stage.advance(2)
    assert reply.result() == "ReplyTimeout"


def test_a_supervisor_ends_a_child_that_is_stuck_with_a_full_mailbox() -> None:
    stage = Stage()
    supervisor = stage.spawn(Supervisor, [child("sink", Sink, [])])
    sink = stage.scheduler.whereis("sink")
    sink.hold(1000)
    stage.settle()
    for number in range(7):
        sink.take(number)
    stopped = supervisor.stop()
    stage.advance(6)
    assert stopped.done
    assert stage.scheduler.cells == {}


def test_who_is_no_actor_is_never_muted() -> None:
    stage, log = Stage(), list[Any]()
    sink = stage.spawn(Sink, log)
    for number in range(8):
        sink.take(number)
    stage.settle()
    assert stage.scheduler.muted == 0
    assert len(log) == 8
