"""Two schedulers and the link between them, in memory: location transparency, pressure, loss."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import msgspec
import pytest
from actor_kit import Stage

from zerver_runtime.actor import Actor, behaviour
from zerver_runtime.codec import conversion, find_class
from zerver_runtime.control import Claim, Named, Relink, ToNode, Unclaim
from zerver_runtime.ids import ActorId, Place, actor_id, pack
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.mailman import Mailman
from zerver_runtime.message import (
    ActorDead,
    ActorError,
    BehaviourFailed,
    ExitReason,
    MailboxFull,
    NotPlainData,
    Overloaded,
    UnknownBehaviour,
)
from zerver_runtime.packet import MOST, Kind, encode
from zerver_runtime.peer import WINDOW
from zerver_runtime.ref import class_path, id_of
from zerver_runtime.scheduler import Scheduler
from zerver_runtime.testing.memory_link import memory_pair


class Point(msgspec.Struct, frozen=True):
    x: int
    y: int


@dataclasses.dataclass
class Size:
    width: int


class Log(Actor):
    mailbox = MailboxPolicy(bound=64)

    def __init__(self) -> None:
        self.lines: list[Any] = []

    @behaviour
    def add(self, line: Any) -> int:
        self.lines.append(line)
        return len(self.lines)

    @behaviour
    def typed(self, point: Point, pair: tuple[int, str], size: Size, *, names: frozenset[str]) -> tuple[Point, int]:
        self.lines.append((point, pair, size, names))
        return point, pair[0]

    @behaviour
    def fail(self) -> None:
        raise ValueError("no")

    @behaviour
    def fail_long(self, length: int) -> None:
        raise ValueError("x" * length)

    @behaviour
    def long(self, length: int) -> str:
        return "x" * length

    @behaviour
    def give(self) -> Any:
        return object()

    @behaviour
    def hand(self, other: Log) -> Log:
        other.add("by hand")
        return other

    @behaviour
    async def slow(self, seconds: float) -> str:
        await self.sleep(seconds)
        return "slept"


class City(msgspec.Struct):
    name: str

    def __post_init__(self) -> None:
        if City.sunken:
            raise LookupError("no such city")

    sunken: ClassVar[bool] = False


class Echo(Actor):
    last: Any = None

    @behaviour
    def same(self, value: Any) -> Any:
        self.last = value
        return value

    @behaviour
    def remembered(self) -> Any:
        return self.last

    @behaviour
    def visit(self, city: City) -> str:
        return city.name


class Letter(msgspec.Struct):
    text: str
    back: Log


@dataclasses.dataclass
class Parcel:
    letters: list[Letter]
    to: Log | None = None


class Post(Actor):
    @behaviour
    def bring(self, parcel: Parcel) -> Letter:
        for letter in parcel.letters:
            letter.back.add(letter.text)
        return parcel.letters[0]


class Watcher(Actor):
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ExitReason]] = []

    @behaviour
    def watch(self, ref: Log) -> None:
        self.monitor(ref)

    @behaviour
    def on_down(self, ref: Actor, reason: ExitReason) -> None:
        self.seen.append((ref, reason))


class Sender(Actor):
    def __init__(self, target: Log, times: int) -> None:
        self.target, self.left = target, times

    @behaviour
    def go(self) -> None:
        for _ in range(100):
            if self.left:
                self.target.add(self.left)
                self.left -= 1
        if self.left:
            self.go()


class Side(Stage):
    def __init__(self, slot: int, incarnation: int = 1) -> None:
        super().__init__()
        self.scheduler = Scheduler(
            Place(0, slot, incarnation),
            lambda: self.now,
            self._wake,
            report=lambda where, error: self.reports.append((where, error)),
        )
        self.said: list[ToNode] = []
        self.mailman = self.scheduler.mailman = Mailman(self.scheduler, self.said.append)


class Net:
    """Two sides; `settle` runs turns and moves bytes until nothing happens any more."""

    def __init__(self) -> None:
        self.here, self.there = Side(0), Side(1)
        self.link()

    def link(self) -> None:
        self.ends = memory_pair()
        self.here.mailman.attach(
            self.there.scheduler.place.scheduler, self.there.scheduler.place.incarnation, self.ends[0]
        )
        self.there.mailman.attach(0, 1, self.ends[1])

    def settle(self) -> None:
        for _ in range(10_000):
            self.here.settle()
            self.there.settle()
            moved = sum([end.deliver() for end in self.ends])
            if not moved and all(end.idle for end in self.ends):
                return
        raise AssertionError("it never settles")

    def remote(self, kind: Any, *args: Any) -> tuple[Any, Any]:
        """An actor over there: the ref for here, and the actor itself."""
        ref = self.there.spawn(kind, *args)
        return self.here.scheduler.ref(kind, id_of(ref)), self.there.scheduler.cells[id_of(ref)].actor

    def ask(self, reply: Any) -> Any:
        self.settle()
        return reply.result()

    def kill(self) -> None:
        """The other process dies at once, and the Node says so."""
        self.ends[1].close()
        place = self.there.scheduler.place
        self.here.mailman.lose(place.scheduler, place.incarnation, "signal 9")
        self.here.settle()


@pytest.fixture
def net() -> Net:
    return Net()


# --- The same code, wherever the actor is


def test_tells_arrive_in_order_and_asks_are_answered(net: Net) -> None:
    log, actor = net.remote(Log)
    for number in range(50):
        log.add(number)
    assert net.ask(log.add("last")) == 51
    assert actor.lines == [*range(50), "last"]


def test_values_become_again_what_the_annotations_say(net: Net) -> None:
    log, actor = net.remote(Log)
    result = net.ask(log.typed(Point(1, 2), (3, "three"), Size(4), names=frozenset({"a"})))
    assert actor.lines == [(Point(1, 2), (3, "three"), Size(4), frozenset({"a"}))]
    assert result == (Point(1, 2), 3)


def test_refs_travel_in_arguments_and_results(net: Net) -> None:
    log, _ = net.remote(Log)
    mine = net.here.spawn(Log)
    back = net.ask(log.hand(mine))
    assert back == mine
    net.settle()
    assert net.here.scheduler.cells[id_of(mine)].actor.lines == ["by hand"]


def test_a_later_change_of_an_argument_does_not_travel(net: Net) -> None:
    log, actor = net.remote(Log)
    line = [1]
    log.add(line)
    line.append(2)
    net.settle()
    assert actor.lines == [[1]]


def test_what_is_not_plain_data_is_refused_at_the_call_and_nothing_of_it_is_sent(net: Net) -> None:
    log, actor = net.remote(Log)
    with pytest.raises(NotPlainData, match="line"):
        log.add(object())
    with pytest.raises(NotPlainData, match=r"Log\.add\(\): line\['deep'\]\[1\] is a builtins\.object"):
        log.add({"deep": [1, object()]})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotPlainData, match="nested more than"):
        log.add(endless)
    with pytest.raises(NotPlainData):
        log.add(1 << 70)
    assert net.ask(log.add("good")) == 1
    assert actor.lines == ["good"]


def test_refs_travel_in_the_fields_of_structs_and_dataclasses(net: Net) -> None:
    log, actor = net.here.spawn(Log), net.remote(Post)[0]
    letter = net.ask(actor.bring(Parcel([Letter("one", log), Letter("two", log)], log)))
    assert letter == Letter("one", log)
    assert net.ask(log.add("three")) == 3


def test_a_ref_of_another_class_than_the_field_says_is_refused(net: Net) -> None:
    echo, actor = net.here.spawn(Echo), net.remote(Post)[0]
    with pytest.raises(UnknownBehaviour, match=r"Expected `Log`, got `EchoRef` - at `\$.letters\[0\].back`"):
        net.ask(actor.bring(Parcel([Letter("one", echo)])))


def half_made() -> Point:
    point = msgspec.convert({"x": 1, "y": 2}, Unfrozen)
    del point.x
    return point  # type: ignore[return-value]  # in its place: a field is not set


class Unfrozen(msgspec.Struct):
    x: int
    y: int


def test_an_argument_that_fails_when_it_is_read_is_refused_and_nothing_of_it_is_sent(net: Net) -> None:
    echo, actor = net.remote(Echo)
    before = echo.same(1)
    with pytest.raises(NotPlainData, match=r"Echo.same\(\): value\[0\].x is not set"):
        echo.same([half_made()])
    after = echo.same(2)
    assert (net.ask(before), net.ask(after)) == (1, 2)
    assert net.there.reports == []
    # And as a result.
    actor.last = [half_made()]
    with pytest.raises(NotPlainData, match="its return value is a list"):
        net.ask(echo.remembered())
    assert net.ask(echo.same(3)) == 3


UNREADABLE = [
    {Point(1, 2): 3},  # a key that is a dict on the way
    {(1, Point(1, 2)): 3},
    [msgspec.msgpack.Ext(77, b"of another program")],
    [msgspec.msgpack.Ext(1, b"no ref")],
]


@pytest.mark.parametrize("value", UNREADABLE, ids=["key", "inside-of-a-key", "extension", "ref"])
def test_what_nobody_can_read_again_harms_no_other_message(net: Net, value: Any) -> None:
    """The frame that it is in, and the link, carry those of all other actors too."""
    (echo, actor), (log, _) = net.remote(Echo), net.remote(Log)
    replies = [log.add(1), echo.same(value), log.add(2)]
    echo.same(value)
    echo.same(4)
    net.settle()
    assert [replies[0].result(), replies[2].result()] == [1, 2]
    with pytest.raises(NotPlainData, match=r"same\(\): an argument is what cannot be read again"):
        replies[1].result()
    assert actor.last == 4
    letters = net.there.scheduler.dead_letters
    assert letters.count == 2
    assert "cannot be read again" in str(letters.last[-1])
    # And as a result, beside others.
    actor.last = value
    replies = [log.add(3), echo.remembered(), log.add(4)]
    net.settle()
    assert [replies[0].result(), replies[2].result()] == [3, 4]
    with pytest.raises(NotPlainData, match="its return value is what cannot be read again"):
        replies[1].result()
    assert (net.here.reports, net.there.reports) == ([], [])
    assert not any(peer.busy for peer in (*net.here.mailman.peers, *net.there.mailman.peers))


def test_a_result_that_is_not_plain_data_is_an_error_for_who_asked(net: Net) -> None:
    log, _ = net.remote(Log)
    with pytest.raises(NotPlainData, match="return value"):
        net.ask(log.give())


def test_a_result_that_is_too_long_for_the_link_is_an_error_for_who_asked(net: Net) -> None:
    log, _ = net.remote(Log)
    with pytest.raises(NotPlainData, match=f"longer than {MOST // 2} bytes"):
        net.ask(log.long(MOST + 1))
    assert net.ask(log.add("still here")) == 1


def test_what_an_actor_died_of_travels_however_long_it_is(net: Net) -> None:
    log, _ = net.remote(Log)
    watcher = net.here.spawn(Watcher)
    watcher.watch(log)
    net.settle()
    with pytest.raises(BehaviourFailed, match=r"raised ValueError: xxx.*\.\.\. \(20000000 characters\)"):
        net.ask(log.fail_long(20_000_000))
    ((_, reason),) = net.here.scheduler.cells[id_of(watcher)].actor.seen
    assert reason.text.startswith("ValueError: xxx")


def test_a_ref_of_a_class_that_is_not_there_harms_nobody_and_comes_back_as_itself(net: Net) -> None:
    class Local(Actor):
        @behaviour
        def hit(self) -> str:
            return "hit"

    echo, actor = net.remote(Echo)
    local = net.here.spawn(Local)
    back = net.ask(echo.same(local))
    assert back == local
    assert net.ask(back.hit()) == "hit"
    assert repr(actor.last) == repr(local)
    with pytest.raises(AttributeError, match="Local has no behaviour 'hit'"):
        actor.last.hit()


def test_arguments_that_their_own_class_refuses_are_an_error_for_who_asked(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo, _ = net.remote(Echo)
    reply = echo.visit(City("Atlantis"))
    monkeypatch.setattr(City, "sunken", True)
    with pytest.raises(UnknownBehaviour, match="LookupError: no such city"):
        net.ask(reply)
    assert net.ask(echo.same(1)) == 1


def test_failures_and_deaths_are_told_to_who_asked(net: Net) -> None:
    log, _ = net.remote(Log)
    with pytest.raises(BehaviourFailed, match="ValueError: no"):
        net.ask(log.fail())
    with pytest.raises(ActorDead) as told:
        net.ask(log.add(1))
    assert told.value.actor == id_of(log)


def test_a_message_of_another_version_is_refused(net: Net) -> None:
    log, actor = net.remote(Log)
    reply = log.add("fine")
    peer = net.here.mailman.peers[0]
    peer.put(id_of(log), "gone", (), None, None, 0)
    peer.put(id_of(log), "typed", (1, 2, 3), {"names": []}, None, 0)
    assert net.ask(reply) == 1
    assert [letter.behaviour for letter in net.there.scheduler.dead_letters.last] == ["gone", "typed"]
    assert peer.under_way == 0
    assert actor.lines == ["fine"]


def test_an_error_of_another_version_is_an_error(net: Net) -> None:
    log, _ = net.remote(Log)
    asked = [log.slow(1), log.slow(1)]
    numbers = [_pending(net, reply) for reply in asked]
    replies = [(numbers[0], None, ("UnknownBehaviour", "a", "b", "c")), (numbers[1], None, ("FromTheFuture", 7))]
    net.ends[1].write(encode(Kind.REPLIES, net.here.mailman.codec.encode((1, replies))))
    net.settle()
    assert isinstance(asked[0].error, UnknownBehaviour)
    assert type(asked[1].error) is ActorError


def _pending(net: Net, reply: Any) -> int:
    net.here.settle()
    (peer,) = net.here.mailman.peers
    return next(key for key, entry in peer.pending.items() if entry[1] is reply)


def test_a_reply_that_nobody_holds_goes_out_as_a_tell(net: Net) -> None:
    log, actor = net.remote(Log)
    kept = log.add(1)
    log.add(2)
    answers: list[Any] = []
    log.add(3).on_done(lambda reply: answers.append(reply.result()))
    net.here.settle()
    (peer,) = net.here.mailman.peers
    assert len(peer.pending) == 2
    net.settle()
    assert (kept.result(), answers, actor.lines) == (1, [3], [1, 2, 3])


# --- Late and foreign replies


def test_a_late_reply_is_dropped_and_counted(net: Net) -> None:
    log, _ = net.remote(Log)
    reply = log.slow(10)
    net.settle()
    reply.fail(ActorDead(1, "timed out"))
    net.there.advance(10)
    net.settle()
    assert net.here.scheduler.late_replies == 1
    with pytest.raises(ActorDead):
        reply.result()


@pytest.mark.parametrize(("incarnation", "correlation"), [(2, None), (1, 999)])
def test_a_reply_for_another_incarnation_or_an_unknown_ask_reaches_nobody(
    net: Net, incarnation: int, correlation: int | None
) -> None:
    log, _ = net.remote(Log)
    reply = log.slow(10)
    number = _pending(net, reply) if correlation is None else correlation
    payload = net.here.mailman.codec.encode((incarnation, [(number, "not for you")]))
    net.ends[1].write(encode(Kind.REPLIES, payload))
    net.settle()
    assert not reply.done
    assert net.here.scheduler.late_replies == 1


# --- Loss


def test_a_process_that_is_to_end_works_off_what_came_and_turns_away_what_comes(net: Net) -> None:
    (log, actor), back = net.remote(Log), net.here.spawn(Log)
    slow, queued = log.slow(1), log.add("before")
    asked = net.there.scheduler.ref(Log, id_of(back)).slow(1)
    net.settle()
    net.there.mailman.inbox.close()
    late = log.add("late")
    log.add("a tell")
    net.settle()
    with pytest.raises(ActorDead, match=r"shutdown: its process ends"):
        late.result()
    assert [letter.behaviour for letter in net.there.scheduler.dead_letters.last] == ["add", "add"]
    assert not net.there.mailman.quiet
    net.there.advance(1)
    net.here.advance(1)
    net.settle()
    assert (slow.result(), queued.result(), asked.result()) == ("slept", 1, "slept")
    assert actor.lines == ["before"]
    assert net.there.mailman.quiet


def test_when_a_process_dies_each_pending_ask_is_told_and_each_tell_counted(net: Net) -> None:
    log, _ = net.remote(Log)
    answered = log.add(0)
    assert net.ask(answered) == 1
    asks = [log.slow(1), log.add(1)]
    for number in range(5):
        log.add(number)
    net.here.settle()
    net.kill()
    for reply in asks:
        with pytest.raises(ActorDead, match="lost"):
            reply.result()
    assert net.here.scheduler.dead_letters.count == 5
    assert net.here.mailman.undelivered == 5
    # And so is what is sent to it from then on.
    late = log.add(1)
    with pytest.raises(ActorDead):
        late.result()
    assert net.here.scheduler.dead_letters.count == 6


def test_what_arrived_before_the_death_counts_as_handled(net: Net) -> None:
    log, _ = net.remote(Log)
    for number in range(5):
        log.add(number)
    net.here.settle()
    net.ends[1].deliver()
    net.there.settle()
    net.kill()
    assert net.here.scheduler.dead_letters.count == 0


def test_what_it_had_still_written_is_read_before_its_loss_is_told(net: Net) -> None:
    log, _ = net.remote(Log)
    reply = log.add(1)
    net.here.settle()
    net.ends[1].deliver()
    net.there.settle()  # the answer is on the wire
    net.kill()
    assert reply.result() == 1


def test_a_sender_that_was_muted_for_a_process_goes_on_when_that_is_lost(net: Net) -> None:
    log, _ = net.remote(Log)
    times = 2 * WINDOW
    sender = net.here.spawn(Sender, log, times)
    sender.go()
    net.here.settle()
    assert net.here.scheduler.cells[id_of(sender)].actor.left > 0
    net.kill()
    assert net.here.scheduler.cells[id_of(sender)].actor.left == 0
    assert net.here.scheduler.dead_letters.count == times


def test_half_a_frame_of_a_dead_process_harms_nobody(net: Net) -> None:
    log, _ = net.remote(Log)
    reply = log.add("x" * 1000)
    net.here.settle()
    net.ends[1].deliver()
    net.there.settle()
    net.ends[0].lose(keep=10)
    place = net.there.scheduler.place
    net.here.mailman.lose(place.scheduler, place.incarnation, "signal 9")
    with pytest.raises(ActorDead):
        reply.result()
    # Its successor has a link of its own, which begins with a whole frame.
    net.there = Side(1, incarnation=2)
    net.link()
    again, _ = net.remote(Log)
    assert net.ask(again.add(1)) == 1
    assert net.here.reports == []


def test_a_frame_that_cannot_be_read_ends_the_link(net: Net) -> None:
    log, _ = net.remote(Log)
    reply = log.slow(1)
    net.settle()
    net.ends[1].write(encode(Kind.MESSAGES, b"\xc1 is no msgpack"))
    net.settle()
    with pytest.raises(ActorDead, match="cannot be read"):
        reply.result()
    assert net.here.mailman.peers == []
    # Both live, so they get a fresh one.
    assert net.here.said == [Relink(1, 1)]
    net.link()
    net.there.advance(1)  # its answer to who asked by the old link reaches nobody
    assert net.ask(log.add("again")) == 1
    # The other side may have it before it knows that the old one is gone.
    net.ends[1].write(encode(Kind.MESSAGES, b"\xc1 is no msgpack"))
    net.ends[0].deliver()
    assert len(net.there.mailman.peers) == 1
    net.link()
    assert net.ask(log.add("and again")) == 2
    assert len(net.there.mailman.peers) == len(net.here.mailman.peers) == 1


def test_messages_for_an_incarnation_whose_link_is_on_its_way_wait_for_it() -> None:
    here, there = Side(0), Side(1)
    log = here.scheduler.ref(Log, id_of(there.spawn(Log)))
    reply = log.add("early")
    here.settle()
    net = Net.__new__(Net)
    net.here, net.there = here, there
    net.link()
    assert net.ask(reply) == 1


def test_more_than_a_frame_holds_may_wait_for_a_link() -> None:
    here, there = Side(0), Side(1)
    log = here.scheduler.ref(Log, id_of(there.spawn(Log)))
    replies = [log.add(b"x" * 5_000_000) for _ in range(5)]
    here.settle()
    net = Net.__new__(Net)
    net.here, net.there = here, there
    net.link()
    net.settle()
    assert [reply.result() for reply in replies] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("end", ["its successor comes", "nobody comes"])
def test_messages_for_an_incarnation_that_never_comes_are_told(end: str) -> None:
    here = Side(0)
    log = here.scheduler.ref(Log, actor_id(0, 3, 1, 7))
    reply = log.add("early")
    here.settle()
    if end == "its successor comes":
        here.mailman.attach(3, 2, memory_pair()[0])
    else:
        here.advance(3)
    with pytest.raises(ActorDead):
        reply.result()


def test_an_older_incarnation_than_the_one_we_know_is_dead() -> None:
    here = Side(0)
    here.mailman.attach(1, 5, memory_pair()[0])
    reply = here.scheduler.ref(Log, actor_id(0, 1, 4, 7)).add(1)
    with pytest.raises(ActorDead):
        reply.result()
    assert here.scheduler.dead_letters.count == 1


# --- Monitors


def test_a_monitor_is_told_of_a_death_in_another_process_and_of_the_loss_of_one(net: Net) -> None:
    one, _ = net.remote(Log)
    two, _ = net.remote(Log)
    watcher = net.here.spawn(Watcher)
    seen = net.here.scheduler.cells[id_of(watcher)].actor.seen
    watcher.watch(one)
    watcher.watch(two)
    net.settle()
    one.stop()
    net.settle()
    assert [(ref, reason.kind) for ref, reason in seen] == [(one, "normal")]
    net.kill()
    assert [(ref, reason.kind) for ref, reason in seen] == [(one, "normal"), (two, "lost")]
    watcher.watch(two)
    net.here.settle()
    assert [reason.kind for _, reason in seen] == ["normal", "lost", "lost"]


def test_of_watchers_whose_process_is_gone_nothing_is_kept(net: Net) -> None:
    """Else an actor that lives for long would remember those of every process that there was."""
    log = net.here.spawn(Log)
    ended = net.here.spawn(Log)
    (peer,) = net.here.mailman.peers
    for target in (log, ended):
        net.there.spawn(Watcher).watch(net.there.scheduler.ref(Log, id_of(target)))
    net.settle()
    assert len(log._cell.watchers) == 1
    ended.stop()
    net.settle()
    assert {target for _, target in peer.watched} == {id_of(log)}
    net.kill()
    assert not log._cell.watchers


def test_the_monitor_of_an_actor_that_is_no_more_is_told_at_once(net: Net) -> None:
    gone = net.here.scheduler.ref(Log, ActorId(actor_id(0, 1, 1, 12345)))
    watcher = net.here.spawn(Watcher)
    watcher.watch(gone)
    net.settle()
    assert [ref for ref, _ in net.here.scheduler.cells[id_of(watcher)].actor.seen] == [gone]


# --- Pressure


def test_a_full_mailbox_over_there_loses_nothing_of_a_muting_class(net: Net) -> None:
    log, actor = net.remote(Log)
    for number in range(1000):
        log.add(number)
    net.settle()
    assert actor.lines == list(range(1000))
    assert net.there.scheduler.dead_letters.count == 0


def test_a_sending_actor_is_muted_while_too_much_is_under_way_and_goes_on_later(net: Net) -> None:
    log, actor = net.remote(Log)
    times = 3 * WINDOW
    net.here.spawn(Sender, log, times).go()
    net.here.settle()
    (peer,) = net.here.mailman.peers
    assert peer.under_way <= WINDOW + 200
    assert net.here.scheduler.muted == 1
    net.settle()
    assert len(actor.lines) == times
    assert actor.lines == sorted(actor.lines, reverse=True)


def test_a_full_link_mutes_its_senders_and_what_waits_stays_bounded() -> None:
    net = Net()
    net.ends = memory_pair(bound=20_000, capacity=1000)
    net.here.mailman.close()
    net.there = Side(1, incarnation=2)
    net.here.mailman.attach(1, 2, net.ends[0])
    net.there.mailman.attach(0, 1, net.ends[1])
    log, actor = net.remote(Log)
    net.here.spawn(Sender, log, 20_000).go()
    net.here.settle()
    assert not net.ends[0].writable
    assert len(net.ends[0]._waiting) < 20_000 + 64 * 1024
    net.settle()
    assert len(actor.lines) == 20_000


def test_who_is_no_actor_gets_overloaded_past_the_window(net: Net) -> None:
    log, _ = net.remote(Log)
    for number in range(WINDOW):
        log.add(number)
    with pytest.raises(Overloaded):
        log.add("too much")
    net.settle()
    assert log.add("again") is not None


def test_a_muted_sender_is_let_go_when_nothing_moves_and_refused_at_the_double(net: Net) -> None:
    log, _ = net.remote(Log)
    sender = net.here.spawn(Sender, log, 10 * WINDOW)
    sender.go()
    for _ in range(1000):
        net.here.advance(1)
        if not net.here.scheduler.cells:
            break
    # It sent on, until a send was refused, which it did not expect.
    assert [type(error) for _, error in net.here.reports] == [MailboxFull]
    (peer,) = net.here.mailman.peers
    assert peer.under_way == 2 * WINDOW


class Lavish(Actor):
    """Sends all of it in one go, so that muting it comes too late."""

    def __init__(self, target: Log) -> None:
        self.target = target

    @behaviour
    def send(self, times: int, size: int) -> tuple[int, str]:
        for sent in range(times):
            try:
                self.target.add("x" * size)
            except MailboxFull as error:
                return sent, str(error)
        return times, ""


def test_what_waits_for_a_process_that_does_not_read_is_bounded_in_bytes(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerver_runtime.mailman._MOST_WAITING", 2 * 1024 * 1024)
    log, _ = net.remote(Log)
    reply = net.here.spawn(Lavish, log).send(1000, 100_000)
    net.here.settle()
    sent, why = reply.result()
    assert 15 < sent < 30
    assert "with 2 MiB on the way to its process) is full" in why
    net.settle()
    assert net.ask(log.add("and then")) == sent + 1


# --- Names


def test_names_are_claimed_and_given_up_through_the_node(net: Net) -> None:
    ref = net.here.scheduler.spawn(Log, name="log")
    packed = pack(id_of(ref))
    assert net.here.said == [Claim("log", packed, class_path(Log))]
    net.there.mailman.heard(Named("log", packed, class_path(Log)))
    found = net.there.scheduler.whereis("log")
    found.add("from there")
    net.settle()
    assert net.here.scheduler.cells[id_of(ref)].actor.lines == ["from there"]
    net.there.mailman.heard(Named("log"))
    assert net.there.scheduler.whereis("log") is None
    ref.stop()
    net.settle()
    assert net.here.said[1:] == [Unclaim("log", packed, "it died")]


def test_a_name_that_another_one_holds_is_not_kept(net: Net) -> None:
    net.here.scheduler.spawn(Log, name="log")
    holder = net.there.spawn(Log)
    net.here.mailman.heard(Named("log", pack(id_of(holder)), class_path(Log)))
    assert id_of(net.here.scheduler.whereis("log")) == id_of(holder)


# --- The codec's own


def test_who_had_to_wait_for_a_name_has_it_when_it_is_free(net: Net) -> None:
    second = net.here.spawn(Log, name="log")
    elsewhere = pack(ActorId(actor_id(0, 1, 1, 9)))
    net.here.mailman.heard(Named("log", elsewhere, class_path(Log)))
    assert net.here.scheduler.whereis("log") != second
    net.here.mailman.heard(Named("log", pack(id_of(second)), class_path(Log)))
    assert net.here.scheduler.whereis("log") == second
    net.here.said.clear()
    second.stop()
    net.settle()
    assert net.here.said == [Unclaim("log", pack(id_of(second)), "it died")]
    # Had it died before the Node's word came, the Node would be told then.
    net.here.mailman.heard(Named("log", pack(id_of(second)), class_path(Log)))
    assert net.here.said[1:] == [Unclaim("log", pack(id_of(second)), "it died")]


def test_only_behaviours_with_annotations_that_msgpack_does_not_keep_are_converted() -> None:
    assert conversion(Log.add) is None
    assert conversion(Log.hand) is None
    assert conversion(Log.typed) is not None


@pytest.mark.parametrize("path", ["no.such.module:A", "dataclasses:Nothing", "dataclasses:field", "dataclasses", ""])
def test_a_class_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(LookupError):
        find_class(path)
