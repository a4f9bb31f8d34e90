"""The place of one actor in its scheduler: its mailbox, and how far it has come.

    idle -> queued -> running -> idle | queued | waiting | muted | frozen -> ... -> dead

    idle: no messages. queued: in the run queue. running: its messages are run, in a batch. waiting: an async behaviour
    awaits something; messages stay where they are. muted: it may not run, for a mailbox that it sends to is filling.
    frozen: it may be about to move to another process; messages stay where they are. freezing: the same, and it has
    not come out of the run queue yet.

A cell enters the run queue only when it leaves idle (its mailbox was empty and is not), when what it awaited is there,
or when it is unmuted. Since it leaves `queued` before it runs, it is never in the queue twice, nor run twice at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.discipline import TimerEntry
from zerver_runtime.ids import ActorId, show
from zerver_runtime.mailbox import Mailbox, MailboxPolicy
from zerver_runtime.message import (
    ActorDead,
    AnswerTo,
    BehaviourFailed,
    ExitReason,
    MailboxFull,
    Overloaded,
    describe,
)
from zerver_runtime.reply import PENDING, Reply
from zerver_runtime.suspended import Suspended

if TYPE_CHECKING:
    from zerver_runtime.scheduler import Scheduler

__all__ = ["BATCH", "QUEUED", "Cell", "no_room"]

BATCH = 100
"""Messages that an actor runs before it yields."""

_IDLE, QUEUED, _RUNNING, _WAITING, _MUTED, _FREEZING, _FROZEN, _DEAD = range(8)
_STATES = ("idle", "queued", "running", "waiting", "muted", "freezing", "frozen", "dead")

_LOOK_AT_THE_CLOCK = 15
"""Each time this many messages and one have run: a look at the clock for each would cost a tenth of the rate."""


class Cell(Mailbox):
    """Belongs to one scheduler. It is a mailbox, and does not have one, because at a million actors one object less
    counts.
    """

    __slots__ = (
        "actor",
        "alarm",
        "id",
        "interrupted",
        "mutes",
        "muting",
        "name",
        "priority",
        "ref",
        "scheduler",
        "state",
        "stopping",
        "supervisor",
        "suspended",
        "timers",
        "watchers",
        "watching",
    )

    def __init__(self, scheduler: Scheduler, id: ActorId, policy: MailboxPolicy, priority: int) -> None:
        Mailbox.__init__(self, policy)
        # Fixed once it is spawned.
        self.scheduler = scheduler
        self.id = id
        self.priority = priority
        self.ref: Any = None
        self.name: str | None = None
        self.supervisor: Any = None
        # The actor itself; None once it is dead.
        self.actor: Any = None
        # How far it has come.
        self.state = _IDLE
        self.suspended: Suspended | None = None
        self.alarm: TimerEntry | None = None
        self.stopping: ExitReason | None = None
        self.interrupted = False  # while running: leave the batch after this message
        # Muting. `mutes` counts who holds this one, `muting` is whom it holds.
        self.mutes = 0
        self.muting: set[Cell] | None = None
        # Rarely used, so made when they are.
        self.timers: set[Any] | None = None
        self.watchers: set[ActorId] | None = None
        self.watching: dict[ActorId, Any] | None = None  # id -> ref

    # --- Sending to it

    def send(self, behaviour: Behaviour[Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Put a message into the mailbox. MailboxFull, Overloaded, NotPlainData."""
        scheduler = self.scheduler
        if scheduler.check_arguments:
            scheduler.check(behaviour, args, kwargs)
        reply: Reply[Any] = Reply(self, behaviour.name)
        if self.count >= self.limit:
            self._press((behaviour, args, kwargs, reply))
        else:
            self.force((behaviour, args, kwargs, reply))
            if not self.state:  # idle
                scheduler.ready(self)
        return reply

    def accept(self, message: tuple[Any, ...]) -> None:
        """A message from elsewhere, already bound. MailboxFull, Overloaded."""
        self._press(message)

    def system(self, behaviour: Behaviour[Any, Any, Any], *args: Any) -> None:
        """A message of the runtime's own: taken in order with the others, whatever the bound."""
        if self.state != _DEAD:
            self.force((behaviour, args, None, Reply(self, behaviour.name)))
            if self.state == _IDLE:
                self.scheduler.ready(self)

    def _press(self, message: tuple[Any, ...]) -> None:
        """A push that needs thought: the ring has to grow, senders are to be muted, it is full, the actor is dead."""
        scheduler = self.scheduler
        sender = scheduler.running
        policy = self.policy
        if self.state == _DEAD:
            self.refuse(message, "the actor is dead")
            return
        if not self.push(message):
            self._full(message, sender)
            return
        if (
            policy.full == "mute"
            and self.count > policy.pressure
            and sender is not None
            and sender is not self
            and not self.mutes
            and not self._waits_for(sender)
        ):
            if self.muting is None:
                self.muting = set()
            if sender not in self.muting:
                self.muting.add(sender)
                sender.hold()
        if self.state == _IDLE:
            scheduler.ready(self)

    def _waits_for(self, sender: Cell) -> bool:
        awaits = self.suspended.awaits if self.suspended is not None else None
        return isinstance(awaits, Reply) and awaits.source is sender

    def _full(self, message: tuple[Any, ...], sender: Cell | None) -> None:
        behaviour, _, _, reply = message
        kind = MailboxFull if sender is not None else Overloaded
        error = kind(str(self), behaviour.name, self.policy.bound)
        if self.policy.full != "drop":
            raise error
        self.scheduler.dead_letters.add(self.id, behaviour.name, "its mailbox is full and drops")
        reply.fail(error)

    def refuse(self, message: tuple[Any, ...], why: str) -> None:
        """A dead letter: counted, and the reply answered."""
        behaviour, _, _, reply = message
        self.scheduler.dead_letters.add(self.id, behaviour.name, why)
        reply.fail(ActorDead(self.id, str(self.stopping or why)))

    # --- Running it

    def run(self) -> int:
        """Run up to a batch of messages; returns how many. The scheduler has taken it out of the run queue."""
        if self.state != QUEUED:
            # It died in the queue, or is about to move.
            if self.state == _FREEZING:
                self.state = _FROZEN
            return 0
        if self.mutes:
            self.state = _MUTED
            return 0
        scheduler = self.scheduler
        scheduler.running = self
        self.state = _RUNNING
        self.interrupted = False
        left = BATCH
        try:
            if self.suspended is None or self._advance(self.suspended):
                left = self._batch()
        finally:
            scheduler.running = None
            self._settle_down()
        return BATCH - left

    def _batch(self) -> int:
        """Returns how many are left of the batch."""
        actor = self.actor
        left = BATCH
        while self.count and not self.interrupted:
            # Mailbox.pop, written out: the call would cost a tenth of the rate.
            head = self.head
            ring = self.ring
            behaviour, args, kwargs, reply = ring[head]
            ring[head] = None
            self.head = (head + 1) & self.mask
            self.count -= 1
            left -= 1
            try:
                if kwargs is None:
                    value = behaviour.fn(actor, *args)
                else:
                    value = behaviour.fn(actor, *args, **kwargs)
            except BaseException as error:
                self._crash(behaviour, reply, error)
                return left
            if behaviour.is_async:
                self.suspended = Suspended(self, behaviour, value, reply)
                if not self._advance(self.suspended):
                    return left
            elif type(reply) is Reply and reply.waiter is None and reply.value is PENDING:
                reply.value = value  # Reply.settle, where nobody waits
            else:
                reply.settle(value)
            if not left or (not left & _LOOK_AT_THE_CLOCK and self.scheduler.overdue()):
                return left
        return left

    def _settle_down(self) -> None:
        """After a run: what now?"""
        if self.state == _DEAD:
            return
        if self.stopping is not None:
            self.die(self.stopping)
            return
        if self.muting and self.count < self.policy.relief:
            self._unmute()
        if self.suspended is not None:
            if self.suspended.awaits is not None:
                self.state = _WAITING
            else:
                self._go_on()  # what it awaited came at once
        elif self.mutes:
            self.state = _MUTED
        elif self.count:
            self.scheduler.ready(self)
        else:
            self.state = _IDLE
            if self.mask > 3:
                self.shrink()

    # --- Async behaviours

    def _advance(self, suspended: Suspended) -> bool:
        """Drive the coroutine to its next await. True: it has returned, and the batch goes on."""
        try:
            if not suspended.advance():
                return False
        except BaseException as raised:
            self.suspended = None
            self._crash(suspended.behaviour, suspended.reply, raised)
            return False
        self.suspended = None
        return not self.interrupted

    def wake(self, awaited: Any) -> None:
        """What the async behaviour awaits is there."""
        suspended = self.suspended
        if suspended is None or suspended.awaits is not awaited:
            return  # the actor died meanwhile
        suspended.awaits = None
        if self.state == _WAITING:
            self._go_on()

    def _go_on(self) -> None:
        if self.mutes:
            self.state = _MUTED
        else:
            self.scheduler.ready(self)

    # --- Muting

    def hold(self) -> None:
        """Do not run it until as many `release` have come. What it does now it finishes."""
        self.mutes += 1
        self.interrupted = True
        self.scheduler.muted += 1
        if self.state == _IDLE:
            self.state = _MUTED

    def let_go(self, sender: Any) -> None:
        """Unmute one that it holds, if it does."""
        if self.muting is not None and sender in self.muting:
            self.muting.discard(sender)
            sender.release()

    def release(self) -> None:
        self.mutes -= 1
        if self.mutes == 0 and self.state == _MUTED:
            if self.count or self.suspended is not None:
                self.scheduler.ready(self)
            else:
                self.state = _IDLE

    def _unmute(self) -> None:
        held, self.muting = self.muting, None
        for sender in held or ():
            sender.release()

    # --- Moving

    def freeze(self) -> bool:
        """Have it run nothing until `thaw`. False: it is not between two messages just now."""
        if (
            self.state not in (_IDLE, QUEUED)
            or self.suspended is not None
            or self.mutes
            or (self.count and self.ring[self.head][0] is self.kind._started)
        ):
            return False
        self.state = _FREEZING if self.state == QUEUED else _FROZEN
        return True

    def thaw(self) -> None:
        if self.state == _FREEZING and self.stopping is None:
            self.state = QUEUED  # as it still is
        elif self.state not in (_FREEZING, _FROZEN):
            return
        elif self.stopping is not None:
            self.die(self.stopping)
        elif self.mutes:
            self.state = _MUTED
        elif self.count:
            self.scheduler.ready(self)
        else:
            self.state = _IDLE

    def leave(self) -> list[Any]:
        """It lives on elsewhere. Returns the messages that waited."""
        messages = self.clear()
        self._give_up()
        return messages

    # --- Its end

    def stop(self, reason: ExitReason) -> None:
        """Let it die after what it does now, or at once when it does nothing."""
        if self.state in (_RUNNING, _FREEZING, _FROZEN):
            self.stopping = self.stopping or reason
            self.interrupted = True
        else:
            self.die(reason)

    def _crash(self, behaviour: Behaviour[Any, Any, Any], reply: AnswerTo, error: BaseException) -> None:
        text = describe(error)
        reply.fail(BehaviourFailed(str(self), behaviour.name, text))
        self.scheduler.report(f"{behaviour.name}() of {self}", error)
        self.die(ExitReason("crash", f"{text} in {behaviour.name}()"))
        if not isinstance(error, Exception):
            raise error

    def die(self, reason: ExitReason) -> None:
        """At once: everything that waits for it is told, and its messages become dead letters."""
        if self.state == _DEAD:
            return
        self.stopping = reason
        actor = self.actor
        self._give_up()
        if actor is not None:
            self._attempt("stopped()", lambda: actor.stopped(reason))
        self.scheduler.buried(self, reason)

    def _give_up(self) -> None:
        """It takes nothing any more, and has nobody wait for it."""
        self.state = _DEAD
        self.interrupted = True
        self.actor = None
        suspended, self.suspended = self.suspended, None
        if suspended is not None:
            self._attempt("the end of an async behaviour", suspended.coroutine.close)
            suspended.reply.fail(ActorDead(self.id, str(self.stopping)))
        for message in self.clear():
            self.refuse(message, "the actor died before it")
        self.limit = -1  # so that each send is one for _press
        self._unmute()
        if self.alarm is not None:
            self.scheduler.cancel(self.alarm)
        for timer in list(self.timers or ()):  # each takes itself out
            timer.cancel()

    def _attempt(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            self.scheduler.report(f"{what} of {self}", error)

    # --- What a Reply wants of its source

    def post(self, irq: Callable[[], object]) -> None:
        self.scheduler.post(irq)

    def late(self) -> None:
        self.scheduler.late_replies += 1

    @property
    def kind(self) -> Any:
        """The actor's class, also when the actor is dead."""
        return type(self.ref)._class

    def __str__(self) -> str:
        return f"{self.kind.__name__} {show(self.id)}"

    def __repr__(self) -> str:
        return f"<Cell {self} {_STATES[self.state]}, {self.count} messages>"


def no_room(cell: Cell) -> bool:
    """Whether what comes from elsewhere is to wait for this mailbox, rather than be refused."""
    # A muted actor's mailbox does not empty, and waiting for it may be waiting for ourselves.
    policy = cell.policy
    return cell.count >= policy.bound and policy.full == "mute" and not cell.mutes
