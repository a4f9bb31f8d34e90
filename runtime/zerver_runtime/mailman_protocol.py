"""What a scheduler wants of the one that carries messages between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from zerver_runtime.ids import ActorId
from zerver_runtime.message import ExitReason
from zerver_runtime.reply import Reply

if TYPE_CHECKING:
    from zerver_runtime.cell import Cell

__all__ = ["Mailman"]


class Mailman(Protocol):
    """`scheduler.mailman`. What arrives he gives to `scheduler.deliver`; all of it on the scheduler's thread."""

    def send(
        self,
        sender: Cell | None,
        target: ActorId,
        behaviour: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        reply: Reply[Any],
    ) -> None:
        """Take a message to an actor elsewhere, and settle or fail `reply` in the end, also when that process dies.

        NotPlainData: an argument cannot leave the process; nobody has checked before. May raise MailboxFull or
        Overloaded; may mute the sender: `sender.hold()`, later `.release()`.
        """
        ...

    def monitor(self, watcher: ActorId, target: ActorId) -> None:
        """An actor here watches one elsewhere: `scheduler.monitors.add(watcher, target)` there, and in the end, also
        when that process dies, `scheduler.monitors.down(watcher, target, reason)` here.
        """
        ...

    def demonitor(self, watcher: ActorId, target: ActorId) -> None: ...

    def down(self, watcher: ActorId, target: ActorId, reason: ExitReason) -> None:
        """An actor here is gone, and a watcher elsewhere is to know: `scheduler.monitors.down(...)` there."""
        ...

    def named(self, name: str, id: ActorId | None, path: str) -> None:
        """A name has come (id) or gone (None) here; path is its actor's class."""
        ...

    def flush(self) -> None:
        """A turn is over: write what it has sent."""
        ...
