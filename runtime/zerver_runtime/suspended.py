"""An async behaviour that has begun and not returned. It is driven by hand: there is no event loop to be seen in it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.message import AnswerTo, SelfAsk
from zerver_runtime.reply import PENDING, Reply
from zerver_runtime.timer import nanoseconds

if TYPE_CHECKING:
    from zerver_runtime.cell import Cell

__all__ = ["Sleep", "Suspended"]


class Sleep(msgspec.Struct, frozen=True, eq=False):
    """Awaitable in an async behaviour: go on after so many seconds."""

    seconds: float

    def __await__(self) -> Any:
        yield self


class Suspended:
    """Belongs to one cell. `awaits` is what has to come before the next `advance`; None: it can go on."""

    __slots__ = ("awaits", "behaviour", "cell", "coroutine", "due", "reply")

    def __init__(
        self, cell: Cell, behaviour: Behaviour[Any, Any, Any], coroutine: Coroutine[Any, None, Any], reply: AnswerTo
    ) -> None:
        self.cell = cell
        self.behaviour = behaviour
        self.coroutine = coroutine
        self.reply = reply
        self.awaits: Reply[Any] | Sleep | None = None
        self.due = 0

    def advance(self) -> bool:
        """Drive it to its next await. True: it has returned, and its reply is settled. Raises what it raises."""
        coroutine = self.coroutine
        error: Exception | None = None
        while True:
            try:
                awaited = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                self.reply.settle(stop.value)
                return True
            error = self._wait(awaited)
            if error is None:
                return False

    def _wait(self, awaited: Any) -> Exception | None:
        """Arrange to be woken; or the error that this await is."""
        cell = self.cell
        if isinstance(awaited, Reply):
            if awaited.source is cell and awaited.value is PENDING:
                return SelfAsk(str(cell), self.behaviour.name, awaited.behaviour)
            self.awaits = awaited
            self._set_alarm(awaited.timeout)
            if cell.muting:
                # Muted, it could not answer: the two would hold each other until the time-out.
                cell.let_go(awaited.source)
            awaited.notify(cell.wake)
        elif isinstance(awaited, Sleep):
            self.awaits = awaited
            self._set_alarm(awaited.seconds)
        else:
            return TypeError(
                f"{self.behaviour.name}() of {cell} awaited {awaited!r}; a behaviour may await only replies and"
                " self.sleep(): have a driver do the I/O and send the result as a message"
            )
        return None

    def _set_alarm(self, seconds: float) -> None:
        # The alarm of an earlier await is left set when that is over, and moved, when it rings, to where it is wanted
        # by then. So an actor that asks a thousand times in a second sets one timer. With one for each, an ask took
        # 1.2 times as long.
        cell = self.cell
        scheduler = cell.scheduler
        self.due = due = scheduler.clock() + nanoseconds(seconds)
        alarm = cell.alarm
        if alarm is None:
            cell.alarm = scheduler.at(due, lambda: _ring(cell))
        elif due < alarm[0]:
            scheduler.cancel(alarm)
            cell.alarm = scheduler.at(due, lambda: _ring(cell))


def _ring(cell: Cell) -> None:
    cell.alarm = None
    suspended = cell.suspended
    if suspended is None or suspended.awaits is None:
        return
    if suspended.due > cell.scheduler.clock():
        cell.alarm = cell.scheduler.at(suspended.due, lambda: _ring(cell))
    elif isinstance(suspended.awaits, Reply):
        # Held by the one that has not answered, it would wait for longer than it is willing to.
        suspended.awaits.source.let_go(cell)
        suspended.awaits.expire()
    else:
        cell.wake(suspended.awaits)
