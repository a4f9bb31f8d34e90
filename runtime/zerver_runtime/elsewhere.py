"""The cell of a ref whose actor was not here when the ref was made: it is in another process, or nowhere any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zerver_runtime.behaviour import Behaviour
from zerver_runtime.ids import ActorId, show
from zerver_runtime.message import ActorDead, NotPlainData
from zerver_runtime.reply import Reply

if TYPE_CHECKING:
    from zerver_runtime.scheduler import Scheduler

__all__ = ["Elsewhere"]


class Elsewhere:
    """Hands everything to the mailman; what nobody can take becomes a dead letter."""

    __slots__ = ("id", "kind", "scheduler")

    def __init__(self, scheduler: Scheduler, id: ActorId, kind: type[Any]) -> None:
        self.scheduler = scheduler
        self.id = id
        self.kind = kind

    def send(self, behaviour: Behaviour[Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Through the mailman. NotPlainData: what leaves the stage is encoded by him at once, or refused."""
        scheduler = self.scheduler
        if scheduler.check_arguments:
            scheduler.check(behaviour, args, kwargs)
        reply: Reply[Any] = Reply(self, behaviour.name)
        mailman = scheduler.mailman
        id = scheduler.moved.get(self.id, self.id) if scheduler.moved else self.id
        if mailman is None or scheduler.is_here(id):
            if (cell := scheduler.cells.get(id)) is not None:
                return cell.send(behaviour, args, kwargs)  # it has moved here
            scheduler.check(behaviour, args, kwargs)
            why = "there is no mailman" if mailman is None else "no such actor"
            scheduler.dead_letters.add(self.id, behaviour.name, why)
            reply.fail(ActorDead(self.id, why))
            return reply
        try:
            mailman.send(scheduler.running, id, behaviour.name, args, kwargs, reply)
        except NotPlainData:
            scheduler.check(behaviour, args, kwargs)  # names the path inside the argument as well
            raise
        return reply

    def post(self, irq: Callable[[], object]) -> None:
        self.scheduler.post(irq)

    def late(self) -> None:
        self.scheduler.late_replies += 1

    def let_go(self, sender: object) -> None:
        """The mailman holds senders to other processes, and lets them go in time."""

    def __str__(self) -> str:
        return f"{self.kind.__name__} {show(self.id)}"
