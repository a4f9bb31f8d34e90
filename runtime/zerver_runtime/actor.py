"""What is written to have an actor: a class, behaviours, `spawn`.

class Counter(Actor):
    def __init__(self, start: int) -> None:
        self.total = start

    @behaviour
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total

counter = spawn(Counter, 3)
counter.add(1)                  # tell: send it, and go on
total = await counter.add(1)    # ask: in an async behaviour
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, ParamSpec, TypeAlias, TypeVar, cast, get_args

from zerver_runtime.behaviour import Behaviour, behaviour
from zerver_runtime.cell import Cell
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import ExitReason
from zerver_runtime.ref import class_path
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import current
from zerver_runtime.suspended import Sleep
from zerver_runtime.timer import Timer

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Actor", "Affinity", "behaviour", "spawn", "spawn_as", "whereis"]

P = ParamSpec("P")
A = TypeVar("A", bound="Actor")

Affinity: TypeAlias = Literal["performance", "efficiency", "none"]


class Actor:
    """State that only its own behaviours touch, one message at a time.

    An exception in a behaviour ends the actor: who asked gets BehaviourFailed, its supervisor decides what follows. The
    actor is not kept, since nobody knows what state the exception left it in. Its other messages become dead letters,
    their asks fail with ActorDead, its timers are cancelled, its monitors told. Actors that it spawned live on, unless
    it is their supervisor.
    """

    # `_cell` alone is in a slot: a subclass may have slots too, which saves 100 bytes for each actor.
    __slots__ = ("_cell",)

    _cell: Cell

    mailbox: ClassVar[MailboxPolicy] = MailboxPolicy()
    affinity: ClassVar[Affinity] = "none"
    """The class of process that it prefers. The Node goes by it when it places an actor; one that is elsewhere all the
    same is counted (`Statistics.misplaced`), and moves there if it can, or when it is next placed."""
    priority: ClassVar[int] = 0
    """Higher runs sooner; 10 ms of waiting count for one."""
    movable: ClassVar[bool] = False
    """Whether it can move to another process between messages: it can, when the class has both `snapshot(self)`, which
    returns its state as plain data, and `restore(self, snapshot)`, which is then called in place of `__init__` (and of
    `started`). It does, when it has a name and no supervisor but the Node.

    Its name finds it at the new place, refs to the old one lead there as long as the process that it left lives, and
    messages, asks and monitors go with it. Timers do not: `restore` sets them, and does no more than that, because the
    move can still be called off after it."""

    _started: ClassVar[Behaviour[Any, Any, Any] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.affinity not in get_args(Affinity):
            raise TypeError(f"{cls.__qualname__}.affinity is {cls.affinity!r}; use one of {get_args(Affinity)}")
        if not isinstance(cls.mailbox, MailboxPolicy):
            raise TypeError(f"{cls.__qualname__}.mailbox has to be a MailboxPolicy, not {cls.mailbox!r}")
        hooks = [hook for hook in ("snapshot", "restore") if hasattr(cls, hook)]
        if len(hooks) == 1:
            raise TypeError(f"{cls.__qualname__} has {hooks[0]}() alone; to be moved it needs snapshot() and restore()")
        cls.movable = bool(hooks)
        if cls.started is not Actor.started:
            cls._started = Behaviour(cls.started)

    # --- Hooks

    def started(self) -> Any:
        """Run as its first message. May be async."""

    def stopped(self, reason: ExitReason) -> None:
        """It is over: the last thing that runs. Not called when `__init__` failed."""

    # --- Behaviours that every actor has

    @behaviour
    def stop(self, reason: Literal["normal", "shutdown"] = "normal") -> None:
        """Die, after the messages that were sent before. Those that come after are dead letters."""
        self._cell.stop(ExitReason(reason))

    @behaviour
    def on_down(self, ref: Actor, reason: ExitReason) -> None:
        """An actor that this one monitors is gone. Override it, with @behaviour."""

    @behaviour
    def _passed(self) -> None:
        """For moves: all that its sender has sent before has been run."""

    # --- For its own behaviours

    @property
    def ref(self) -> Self:
        """The ref of this actor, to be handed to others. RuntimeError: it was made without `spawn`."""
        try:
            return cast("Self", self._cell.ref)
        except AttributeError:
            kind = type(self).__qualname__
            raise RuntimeError(f"this {kind} has no scheduler; make it with spawn({kind}, ...) to send to it") from None

    def spawn(self, kind: Callable[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """As the function `spawn`, on this actor's scheduler."""
        return cast(A, self._cell.scheduler.spawn(cast(Any, kind), args, kwargs))

    def sleep(self, seconds: float) -> Sleep:
        """`await self.sleep(0.5)`, in an async behaviour. No other message is taken meanwhile. ValueError: NaN."""
        if seconds != seconds:
            raise ValueError(f"sleep({seconds!r}): give seconds")
        return Sleep(max(0.0, seconds))

    def send_after(self, seconds: float, send: Callable[P, Reply[Any]], *args: P.args, **kwargs: P.kwargs) -> Timer:
        """`self.send_after(0.5, self.tick, 1)`: send it then; not when this actor is dead by then, or has cancelled."""
        return self._timer(seconds, lambda: send(*args, **kwargs), every=False)

    def every(self, seconds: float, send: Callable[P, Reply[Any]], *args: P.args, **kwargs: P.kwargs) -> Timer:
        """The same again and again, first after `seconds`. It does not drift; what is missed is left out."""
        return self._timer(seconds, lambda: send(*args, **kwargs), every=True)

    def monitor(self, ref: Actor) -> None:
        """Have `on_down(ref, reason)` run once when that actor is gone; at once when it is."""
        self._cell.scheduler.monitors.watch(self._cell, ref)

    def demonitor(self, ref: Actor) -> None:
        self._cell.scheduler.monitors.unwatch(self._cell, ref)

    def _timer(self, seconds: float, call: Callable[[], object], *, every: bool) -> Timer:
        cell = self._cell
        return cell.scheduler.timer(seconds, call, every=every, owner=cell)


def spawn(kind: Callable[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
    """Start an actor here; `kind(*args, **kwargs)` makes it. To a type checker the result is the actor; it is a ref,
    and what is not a behaviour raises AttributeError.

    What `__init__` raises comes out of here. RuntimeError: no scheduler is running.
    """
    return cast(A, current().spawn(cast(Any, kind), args, kwargs))


def spawn_as(name: str, kind: Callable[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
    """`spawn`, with a name for `whereis`. ValueError: the name is taken."""
    return cast(A, current().spawn(cast(Any, kind), args, kwargs, name=name))


def whereis(name: str, kind: type[A]) -> A | None:
    """The actor of this name, whichever of its incarnations lives now. None: there is none.

    TypeError: it is of another class.
    """
    ref = current().whereis(name)
    if ref is not None and not issubclass(type(ref)._class, kind):
        raise TypeError(f"{name!r} is {ref!r}, of {class_path(type(ref)._class)}, which is no {class_path(kind)}")
    return cast("A | None", ref)
