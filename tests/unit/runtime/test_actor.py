"""Actors on one scheduler: asks, death, dead letters, names, timers, monitors; whatever happens, asks are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from actor_kit import Stage

from zerver_runtime.actor import Actor, spawn, spawn_as, whereis
from zerver_runtime.behaviour import behaviour
from zerver_runtime.cell import BATCH
from zerver_runtime.ids import actor_id
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import (
    ActorDead,
    ActorError,
    BehaviourFailed,
    ExitReason,
    MailboxFull,
    Overloaded,
    ReplyTimeout,
    SelfAsk,
    UnknownBehaviour,
    decode_error,
    encode_error,
)
from zerver_runtime.ref import id_of
from zerver_runtime.reply import Reply
from zerver_runtime.timer import Timer


class Worker(Actor):
    """Does what it is told, and writes down what it did."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log = log if log is not None else []
        self.timer: Timer | None = None

    @behaviour
    def note(self, value: Any) -> Any:
        self.log.append(value)
        return value

    @behaviour
    def crash(self, text: str = "broken") -> None:
        raise ValueError(text)

    @behaviour
    def interrupt(self) -> None:
        raise KeyboardInterrupt

    @behaviour
    async def ask(self, other: Worker, value: Any, limit: float = 5.0) -> Any:
        self.log.append(("asks", value))
        try:
            answer = await other.note(value).with_timeout(limit)
        except ActorError as error:
            self.log.append(type(error))
            return type(error).__name__
        self.log.append(("got", answer))
        return answer

    @behaviour
    async def doze(self, seconds: float) -> str:
        try:
            await self.sleep(seconds)
        finally:
            self.log.append("woke")
        return "rested"

    @behaviour
    async def ask_itself(self) -> None:
        await self.note(1)

    @behaviour
    async def await_a_loop(self) -> Any:
        return await asyncio.get_event_loop_policy().new_event_loop().create_future()

    @behaviour
    async def yield_nothing(self) -> str:
        try:
            await asyncio.sleep(0)
        except TypeError as error:
            return str(error)
        return "nothing was said"

    @behaviour
    def watch(self, other: Worker) -> None:
        self.monitor(other)

    @behaviour
    def unwatch(self, other: Worker) -> None:
        self.demonitor(other)

    @behaviour
    def on_down(self, ref: Actor, reason: ExitReason) -> None:
        self.log.append((ref, reason.kind))

    @behaviour
    def later(self, seconds: float, value: Any) -> None:
        self.timer = self.send_after(seconds, self.note, value)

    @behaviour
    def again(self, seconds: float, value: Any) -> None:
        self.timer = self.every(seconds, self.note, value)

    @behaviour
    def cancel(self) -> None:
        assert self.timer is not None
        self.timer.cancel()
        self.timer.cancel()

    def stopped(self, reason: ExitReason) -> None:
        self.log.append(f"stopped: {reason.kind}")


# --- Asking


def test_an_ask_is_answered_and_takes_no_other_message_meanwhile() -> None:
    stage, log = Stage(), list[Any]()
    asker, other = stage.spawn(Worker, log), stage.spawn(Worker)
    reply = asker.ask(other, 1)
    asker.note("after")
    assert stage.ask(reply) == 1
    assert log == [("asks", 1), ("got", 1), "after"]


def test_an_ask_to_itself_is_refused() -> None:
    stage = Stage()
    worker = stage.spawn(Worker)
    with pytest.raises(BehaviourFailed, match=r"SelfAsk: ask_itself\(\) of Worker 0.0.1.1 awaits note\(\) of the same"):
        stage.ask(worker.ask_itself())
    assert isinstance(stage.reports[0][1], SelfAsk)


@pytest.mark.filterwarnings("ignore:There is no current event loop", "ignore::ResourceWarning")
def test_awaiting_anything_else_is_an_error_that_names_actor_and_behaviour() -> None:
    stage = Stage()
    text = stage.ask(stage.spawn(Worker).yield_nothing())
    assert text.startswith("yield_nothing() of Worker 0.0.1.1 awaited None; a behaviour may await only replies and")


def test_an_ask_without_an_answer_times_out_after_five_seconds_or_as_told() -> None:
    stage, log = Stage(), list[Any]()
    asker, sleeper = stage.spawn(Worker, log), stage.spawn(Worker)
    sleeper.doze(100)
    stage.settle()
    default = asker.ask(sleeper, 1)
    stage.advance(4.999)
    assert not default.done
    stage.advance(0.001)
    assert default.result() == "ReplyTimeout"
    short = asker.ask(sleeper, 2, 0.5)
    stage.advance(0.5)
    assert short.result() == "ReplyTimeout"


def test_a_late_answer_reaches_nobody_and_is_counted() -> None:
    stage, log = Stage(), list[Any]()
    asker, sleeper, other = stage.spawn(Worker, log), stage.spawn(Worker), stage.spawn(Worker)
    sleeper.doze(10)
    stage.settle()
    asker.ask(sleeper, "late", 1.0)
    asker.ask(other, "next")
    stage.advance(20)
    assert log == [("asks", "late"), ReplyTimeout, ("asks", "next"), ("got", "next")]
    assert stage.scheduler.late_replies == 1


def test_an_alarm_that_was_left_set_does_not_end_a_later_ask_early() -> None:
    stage = Stage()
    asker, other, sleeper = stage.spawn(Worker), stage.spawn(Worker), stage.spawn(Worker)
    stage.ask(asker.ask(other, 1, 1.0))
    sleeper.doze(100)
    reply = asker.ask(sleeper, 2, 3.0)
    stage.advance(2.999)
    assert not reply.done
    stage.advance(0.001)
    assert reply.result() == "ReplyTimeout"
    assert stage.settle() is not None, "the sleeper's own timer is all that is left"
    stage.scheduler.kill(asker)
    stage.scheduler.kill(sleeper)
    assert stage.settle() is None


def test_a_reply_tells_who_is_no_actor_by_system_work() -> None:
    stage, seen = Stage(), list[Any]()
    reply = stage.spawn(Worker).note(1)
    with pytest.raises(RuntimeError, match="has no result yet"):
        reply.result()
    reply.on_done(lambda reply: seen.append(reply.result()))
    reply.on_done(lambda reply: seen.append("second"))
    assert seen == []
    stage.settle()
    reply.on_done(lambda reply: seen.append("was done"))
    stage.settle()
    assert seen == [1, "second", "was done"]
    with pytest.raises(ValueError, match="above 0"):
        reply.with_timeout(0)


def test_any_number_may_wait_for_one_reply() -> None:
    """A cache may have thousands of requests wait for the one that it has sent."""
    stage, seen = Stage(), list[int]()
    reply = stage.spawn(Worker).note(1)
    for number in range(5000):
        reply.on_done(lambda reply, number=number: seen.append(number))
    stage.settle()
    assert seen == list(range(5000))


def test_a_sleep_ends_at_its_time_and_holds_messages_back() -> None:
    stage, log = Stage(), list[Any]()
    worker = stage.spawn(Worker, log)
    reply = worker.doze(2)
    worker.note("after")
    stage.advance(1.999)
    assert log == []
    stage.advance(0.001)
    assert log == ["woke", "after"]
    assert reply.result() == "rested"


# --- Dying


def test_an_exception_ends_the_actor_and_everybody_is_told() -> None:
    stage, log = Stage(), list[Any]()
    worker = stage.spawn(Worker, log)
    crashed, after = worker.crash(), worker.note(1)
    stage.settle()
    with pytest.raises(BehaviourFailed, match=r"crash\(\) of Worker 0\.0\.1\.1 raised ValueError: broken"):
        crashed.result()
    with pytest.raises(ActorDead, match=r"actor 0\.0\.1\.1 is dead \(crash: ValueError: broken in crash\(\)\)"):
        after.result()
    assert log == ["stopped: crash"]
    assert stage.dead_letters == ["note"]
    assert [(where, str(error)) for where, error in stage.reports] == [("crash() of Worker 0.0.1.1", "broken")]
    with pytest.raises(ActorDead):
        stage.ask(worker.note(2))
    assert stage.scheduler.statistics().actors == 0


def test_what_is_no_exception_ends_the_actor_and_the_turn_and_leaves_the_scheduler_whole() -> None:
    stage = Stage()
    worker, other = stage.spawn(Worker), stage.spawn(Worker)
    reply, fine = worker.interrupt(), other.note(1)
    woken = stage.woken
    with pytest.raises(KeyboardInterrupt):
        stage.settle()
    with pytest.raises(BehaviourFailed):
        reply.result()
    other.note(2)
    assert stage.scheduler.running is None
    assert stage.woken >= woken
    assert stage.ask(fine) == 1


def test_stop_comes_after_what_was_sent_before_and_before_what_is_sent_after() -> None:
    stage, log = Stage(), list[Any]()
    worker = stage.spawn(Worker, log)
    worker.note(1)
    stopped, after = worker.stop(), worker.note(2)
    assert stage.ask(stopped) is None
    assert log == [1, "stopped: normal"]
    with pytest.raises(ActorDead, match="normal"):
        after.result()
    assert stage.dead_letters == ["note"]


def test_dying_in_an_await_runs_finally_and_answers_who_asked() -> None:
    stage, log = Stage(), list[Any]()
    worker = stage.spawn(Worker, log)
    reply = worker.doze(100)
    stage.settle()
    stage.scheduler.kill(worker)
    with pytest.raises(ActorDead, match="killed"):
        reply.result()
    assert log == ["woke", "stopped: killed"]
    assert stage.settle() is None, "no timer is left"


def test_the_asks_of_an_actor_that_dies_are_answered() -> None:
    stage, log = Stage(), list[Any]()
    asker, sleeper = stage.spawn(Worker, log), stage.spawn(Worker)
    sleeper.doze(100)
    asker.ask(sleeper, 1)
    stage.advance(1)
    stage.scheduler.kill(sleeper)
    stage.settle()
    assert log == [("asks", 1), ActorDead]


def test_an_actor_whose_init_fails_never_was() -> None:
    class Broken(Worker):
        def __init__(self) -> None:
            self.note("sent to a half-made actor")
            raise ValueError("no such file")

    stage = Stage()
    with pytest.raises(ValueError, match="no such file"):
        stage.spawn(Broken, name="broken")
    assert stage.scheduler.cells == {}
    assert stage.scheduler.whereis("broken") is None
    assert stage.dead_letters == ["note"]
    stage.settle()


def test_started_is_the_first_message() -> None:
    class Starting(Worker):
        async def started(self) -> None:
            await self.sleep(1)
            self.log.append("started")

    stage, log = Stage(), list[Any]()
    stage.spawn(Starting, log).note(1)
    stage.advance(1)
    assert log == ["started", 1]


def test_a_hook_that_fails_is_reported_and_does_no_harm() -> None:
    class Stubborn(Worker):
        def stopped(self, reason: ExitReason) -> None:
            raise RuntimeError("not now")

    stage = Stage()
    assert stage.ask(stage.spawn(Stubborn).stop()) is None
    assert stage.reports[0][0] == "stopped() of Stubborn 0.0.1.1"


def test_an_actor_dies_of_an_exception_whose_text_cannot_be_had_or_sent() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Odd(Actor):
        @behaviour
        def raise_mute(self) -> None:
            raise Mute

        @behaviour
        def raise_surrogate(self) -> None:
            raise ValueError("\ud800")

    stage = Stage()
    with pytest.raises(BehaviourFailed, match="Mute: its text cannot be had: RuntimeError"):
        stage.ask(stage.spawn(Odd).raise_mute())
    with pytest.raises(BehaviourFailed, match=r"ValueError: \\ud800"):
        stage.ask(stage.spawn(Odd).raise_surrogate())
    assert not stage.scheduler.cells


# --- Mailboxes that are full


class Small(Worker):
    mailbox = MailboxPolicy(bound=2, full="fail")


class Dropping(Worker):
    mailbox = MailboxPolicy(bound=2, full="drop")


class Flooder(Actor):
    @behaviour
    def flood(self, target: Worker, count: int) -> str:
        for number in range(count):
            try:
                target.note(number)
            except MailboxFull as error:
                return f"{type(error).__name__} at {number}"
        return "all sent"


def test_a_full_mailbox_raises_for_actors_and_overloaded_for_others() -> None:
    stage = Stage()
    small = stage.spawn(Small)
    small.note(1)
    small.note(2)
    with pytest.raises(
        Overloaded, match=r"the mailbox of Small 0\.0\.1\.1 is full \(2 messages\), so note\(\) was not"
    ):
        small.note(3)
    stage.settle()
    assert stage.ask(stage.spawn(Flooder).flood(small, 5)) == "MailboxFull at 2"


def test_one_that_drops_makes_dead_letters_and_answers() -> None:
    stage, log = Stage(), list[Any]()
    dropping = stage.spawn(Dropping, log)
    replies = [dropping.note(number) for number in range(4)]
    stage.settle()
    assert log == [0, 1]
    assert stage.dead_letters == ["note", "note"]
    with pytest.raises(MailboxFull):
        replies[3].result()


# --- Who runs when


def test_an_actor_runs_at_most_a_batch_and_then_yields() -> None:
    stage, log = Stage(check_arguments=False, turn_seconds=1000), list[Any]()
    first, second = stage.spawn(Worker, log), stage.spawn(Worker, log)
    for number in range(BATCH + 5):
        first.note(number)
    second.note("second")
    stage.settle()
    assert log == [*range(BATCH), "second", *range(BATCH, BATCH + 5)]


def test_unless_its_priority_is_higher_than_the_next_ones() -> None:
    class Urgent(Worker):
        priority = 1

    stage, log = Stage(check_arguments=False, turn_seconds=1000), list[Any]()
    first, second = stage.spawn(Urgent, log), stage.spawn(Worker, log)
    for number in range(BATCH + 5):
        first.note(number)
    second.note("second")
    stage.settle()
    assert log == [*range(BATCH + 5), "second"]


def test_a_turn_ends_when_its_time_is_used_up_also_within_a_batch() -> None:
    stage = Stage(turn_seconds=0.002)

    class Slow(Worker):
        @behaviour
        def work(self) -> None:
            stage.now += 1_000_000
            self.log.append(1)

    log = list[Any]()
    slow = stage.spawn(Slow, log)
    for _ in range(BATCH):
        slow.work()
    assert stage.scheduler.turn() == 0.0
    assert 0 < len(log) < 32
    stage.settle()
    assert len(log) == BATCH


def test_system_work_comes_before_actors_and_between_them() -> None:
    stage, log = Stage(), list[Any]()
    first, second = stage.spawn(Worker, log), stage.spawn(Worker, log)
    first.note(1)
    second.note(2)
    stage.scheduler.post(lambda: log.append("irq"))
    first.note(1).on_done(lambda reply: log.append("done"))
    stage.settle()
    assert log == ["irq", 1, 1, "done", 2]


def test_system_work_that_fails_is_reported_and_the_rest_goes_on() -> None:
    stage, log = Stage(), list[Any]()
    stage.scheduler.post(lambda: 1 / 0)
    stage.spawn(Worker, log).note(1)
    stage.settle()
    assert log == [1]
    assert stage.scheduler.statistics().failures == 1


def test_the_owner_is_woken_when_there_is_work_again_and_only_then() -> None:
    stage = Stage()
    worker = stage.spawn(Worker)
    stage.settle()
    before = stage.woken
    worker.note(1)
    worker.note(2)
    stage.scheduler.post(lambda: None)
    assert stage.woken == before + 1
    stage.settle()
    worker.later(10, 1)
    stage.settle()
    before = stage.woken
    stage.scheduler.after(20, lambda: None)
    assert stage.woken == before, "the owner comes back before that anyway"
    stage.scheduler.after(5, lambda: None)
    assert stage.woken == before + 1


# --- Names


def test_a_name_finds_the_actor_as_long_as_it_lives() -> None:
    stage = Stage()
    with stage.scheduler:
        worker = spawn_as("worker", Worker)
        assert whereis("worker", Worker) == worker
        with pytest.raises(ValueError, match=r"the name 'worker' is taken, by Worker 0\.0\.1\.1"):
            spawn_as("worker", Worker)
        with pytest.raises(TypeError, match=f"of {__name__}:Worker, which is no {__name__}:Flooder"):
            whereis("worker", Flooder)
        stage.ask(worker.stop())
        assert whereis("worker", Worker) is None
        assert spawn_as("worker", Worker) != worker


def test_spawn_needs_a_scheduler() -> None:
    with pytest.raises(RuntimeError, match="no scheduler is running here"):
        spawn(Worker)


@pytest.mark.parametrize("name", ["", "x" * 256, "two\nlines", "\ud800", 5, b"bytes"])
def test_a_name_that_cannot_be_told_to_other_processes_is_refused_and_nobody_is_spawned(name: Any) -> None:
    stage = Stage()
    with pytest.raises(ValueError, match="is no name for an actor"):
        stage.spawn(Worker, name=name)
    assert not stage.scheduler.cells


@pytest.mark.parametrize("kind", [dict, object(), "Worker"])
def test_what_is_no_actor_class_is_refused_and_nobody_is_spawned(kind: Any) -> None:
    stage = Stage()
    with pytest.raises(TypeError, match="is not an actor class"):
        stage.spawn(kind)
    assert not stage.scheduler.cells


# --- Timers


class Patient(Actor):
    @behaviour
    async def wait(self, seconds: float) -> None:
        await self.sleep(seconds)

    @behaviour
    async def ask(self, other: Worker, seconds: float) -> Any:
        return await other.note(1).with_timeout(seconds)

    @behaviour
    def later(self, seconds: float) -> None:
        self.send_after(seconds, self.wait, 0)


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
def test_for_ever_is_a_time(seconds: float) -> None:
    stage = Stage()
    patient, asker = stage.spawn(Patient), stage.spawn(Patient)
    asked = asker.ask(stage.spawn(Worker), seconds)
    patient.later(seconds)
    waiting = patient.wait(seconds)
    stage.advance(1_000_000)
    assert asked.result() == 1
    assert not waiting.done
    assert stage.reports == []


def test_what_is_no_number_of_seconds_is_no_time() -> None:
    stage = Stage()
    for send in ("wait", "later"):
        with pytest.raises(BehaviourFailed, match=r"ValueError: .*nan"):
            stage.ask(getattr(stage.spawn(Patient), send)(float("nan")))


def test_a_message_for_later_comes_then_once() -> None:
    stage, log = Stage(), list[Any]()
    stage.spawn(Worker, log).later(1.5, "tick")
    stage.advance(1.499)
    assert log == []
    stage.advance(10)
    assert log == ["tick"]
    assert stage.settle() is None


def test_an_interval_does_not_drift_and_leaves_out_what_was_missed() -> None:
    stage, log = Stage(), list[Any]()
    worker = stage.spawn(Worker, log)
    worker.again(1, "tick")
    stage.settle()
    stage.advance(3)
    assert len(log) == 3
    stage.now += 2_500_000_000
    stage.settle()
    assert len(log) == 4
    stage.advance(0.5)
    assert len(log) == 5
    worker.cancel()
    stage.advance(5)
    assert len(log) == 5


def test_the_timers_of_a_dead_actor_are_cancelled() -> None:
    stage = Stage()
    worker = stage.spawn(Worker)
    worker.again(1, "tick")
    worker.later(1, "tick")
    stage.settle()
    stage.scheduler.kill(worker)
    stage.advance(10)
    assert stage.scheduler.dead_letters.count == 0
    assert stage.scheduler.statistics().timers == 0


def test_a_timer_into_a_full_mailbox_is_reported() -> None:
    stage = Stage()
    worker = stage.spawn(Small)
    worker.later(1, "tick")
    worker.doze(10)
    stage.settle()
    worker.note(1)
    worker.note(2)
    stage.advance(1)
    assert isinstance(stage.reports[0][1], Overloaded)


@pytest.mark.parametrize(("seconds", "every"), [(-1, False), (0, True)])
def test_impossible_times_are_refused(seconds: float, every: bool) -> None:
    stage = Stage()
    worker = stage.spawn(Worker)
    with pytest.raises(BehaviourFailed, match="give 0 or more"):
        stage.ask(worker.again(seconds, 1) if every else worker.later(seconds, 1))


# --- Monitors


def test_a_monitor_is_told_once_also_of_one_that_is_dead_already() -> None:
    stage, log = Stage(), list[Any]()
    watcher, other, gone = stage.spawn(Worker, log), stage.spawn(Worker), stage.spawn(Worker)
    stage.ask(gone.stop())
    watcher.watch(other)
    watcher.watch(other)
    watcher.watch(gone)
    stage.settle()
    assert log == [(gone, "lost")]
    other.crash()
    stage.settle()
    assert log[1:] == [(other, "crash")]


def test_a_monitor_that_was_taken_back_or_died_hears_nothing() -> None:
    stage, log = Stage(), list[Any]()
    watcher, dead, other = stage.spawn(Worker, log), stage.spawn(Worker), stage.spawn(Worker)
    watcher.watch(other)
    dead.watch(other)
    watcher.unwatch(other)
    dead.stop()
    stage.settle()
    assert stage.scheduler.cells[id_of(other)].watchers == set()
    other.stop()
    stage.settle()
    assert log == []
    assert stage.scheduler.dead_letters.count == 0


def test_a_monitor_is_told_also_when_its_mailbox_is_full() -> None:
    stage, log = Stage(), list[Any]()
    small, other = stage.spawn(Small, log), stage.spawn(Worker)
    small.watch(other)
    stage.settle()
    small.note(1)
    small.note(2)
    stage.scheduler.kill(other)
    stage.settle()
    assert log == [1, 2, (other, "killed")]


# --- From elsewhere


def test_what_is_delivered_from_outside_is_run_and_answered() -> None:
    stage = Stage()
    worker = stage.spawn(Worker)
    reply: Reply[Any] = Reply(worker._cell, "note")
    stage.scheduler.deliver(id_of(worker), "note", (7,), None, reply)
    stage.scheduler.deliver(id_of(worker), "note", (8,), {}, None)
    assert stage.ask(reply) == 7


@pytest.mark.parametrize(
    ("behaviour_name", "args", "error"),
    [("log", (), UnknownBehaviour), ("nothing", (), UnknownBehaviour), ("note", (), UnknownBehaviour)],
)
def test_what_cannot_be_delivered_is_a_dead_letter_and_harms_nobody(
    behaviour_name: str, args: tuple[Any, ...], error: type[ActorError]
) -> None:
    stage = Stage()
    worker = stage.spawn(Worker)
    reply: Reply[Any] = Reply(worker._cell, behaviour_name)
    stage.scheduler.deliver(id_of(worker), behaviour_name, args, None, reply)
    with pytest.raises(error, match=r"Worker 0\.0\.1\.1 cannot take"):
        stage.ask(reply)
    assert stage.dead_letters == [behaviour_name]
    assert stage.ask(worker.note(1)) == 1


def test_unknown_ids_are_dead_letters() -> None:
    stage = Stage()
    scheduler = stage.scheduler
    reply: Reply[Any] = Reply(stage.spawn(Worker)._cell, "note")
    scheduler.deliver(actor_id(0, 0, 1, 999), "note", (1,), None, reply)
    scheduler.deliver(actor_id(0, 0, 1, 999), "note", (1,), None, None)
    for id in (actor_id(0, 0, 1, 999), actor_id(0, 0, 2, 1), actor_id(0, 5, 1, 1)):
        with pytest.raises(ActorDead):
            stage.ask(scheduler.ref(Worker, id).note(1))
    with pytest.raises(ActorDead):
        stage.ask(reply)
    assert scheduler.dead_letters.count == 5


@pytest.mark.parametrize(
    "error",
    [ActorDead(1, "x"), MailboxFull("a", "b", 1), Overloaded("a", "b", 1), BehaviourFailed("a", "b", "c"),
     UnknownBehaviour("a", "b", "c"), ReplyTimeout("a", "b", 1.0), SelfAsk("a", "b", "c")],
)  # fmt: skip
def test_errors_cross_as_plain_data(error: ActorError) -> None:
    again = decode_error(encode_error(error))
    assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize("plain", [[], ["Unheard", 1], ["ActorDead"], [{}]])
def test_an_unknown_error_is_still_an_error(plain: list[Any]) -> None:
    assert type(decode_error(plain)) is ActorError


# --- Classes


def test_options_that_cannot_be_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match="affinity is 'fast'"):
        type("Wrong", (Actor,), {"affinity": "fast"})
    with pytest.raises(TypeError, match="MailboxPolicy, not 5"):
        type("Wrong", (Actor,), {"mailbox": 5})
    with pytest.raises(TypeError, match=r"has snapshot\(\) alone"):
        type("Wrong", (Actor,), {"snapshot": lambda self: 1})


def test_a_class_with_snapshot_and_restore_is_movable() -> None:
    hooks = {"snapshot": lambda self: 1, "restore": lambda self, snapshot: None}
    assert type("Moving", (Actor,), hooks).movable is True
    assert Worker.movable is False
