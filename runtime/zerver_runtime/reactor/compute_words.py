"""What can happen to a compute queue, and what it can decide to do: closed sets of frozen values. Times are in ns."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = [
    "Action",
    "Assign",
    "Cancelled",
    "Closed",
    "End",
    "Enqueued",
    "Event",
    "Halted",
    "Joined",
    "Kill",
    "Lost",
    "Nothing",
    "Offer",
    "Pulled",
    "Ready",
    "Returned",
    "Settle",
    "Start",
    "Stop",
    "Submitted",
    "Tick",
    "WorkerId",
]

WorkerId: TypeAlias = tuple[int, int]
"""(slot, incarnation): one process, never used again for another."""
End: TypeAlias = Literal["returned", "refused", "closed", "cancelled", "crashed", "over budget"]


# --- What can happen


class Submitted(msgspec.Struct, frozen=True):
    """budget: nanoseconds of CPU time, or None."""

    task: int
    batch: bool = False
    budget: int | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """Nobody waits for the task any more."""

    task: int


class Joined(msgspec.Struct, frozen=True):
    """A worker is lent."""

    worker: WorkerId


class Ready(msgspec.Struct, frozen=True):
    """The first word of a worker."""

    worker: WorkerId


class Pulled(msgspec.Struct, frozen=True):
    """The worker is free. other: the most urgent offer that it has from elsewhere. cpu: nanoseconds of CPU time that
    its process has used so far; None: unknown."""

    worker: WorkerId
    other: int | None = None
    cpu: int | None = None


class Returned(msgspec.Struct, frozen=True):
    """The worker has the result of its task, and is free."""

    worker: WorkerId
    task: int
    other: int | None = None
    cpu: int | None = None


class Lost(msgspec.Struct, frozen=True):
    """The worker is gone, or could not be started. unread: the last that it was told it surely has not read."""

    worker: WorkerId
    why: str
    unread: bool = False


class Tick(msgspec.Struct, frozen=True):
    """Time has passed. cpu: of each worker in `watched()`, as far as it is known."""

    cpu: dict[WorkerId, int] = {}


class Closed(msgspec.Struct, frozen=True):
    """No task is taken any more, and none begun; those that run may come to their end."""


class Halted(msgspec.Struct, frozen=True):
    """Nor may those."""


Event: TypeAlias = Submitted | Cancelled | Joined | Ready | Pulled | Returned | Lost | Tick | Closed | Halted


# --- What can be decided


class Start(msgspec.Struct, frozen=True):
    """Make this worker."""

    worker: WorkerId


class Enqueued(msgspec.Struct, frozen=True):
    """The task waits. waiting: how many do, with it."""

    task: int
    waiting: int


class Offer(msgspec.Struct, frozen=True):
    """Tell the worker that there is a task of this urgency."""

    worker: WorkerId
    urgency: int


class Assign(msgspec.Struct, frozen=True):
    """Answer the worker with a task. more: urgency of the next one. waited: nanoseconds."""

    worker: WorkerId
    task: int
    more: int | None
    waited: int


class Nothing(msgspec.Struct, frozen=True):
    """Answer the worker that there is nothing for it."""

    worker: WorkerId
    more: int | None


class Settle(msgspec.Struct, frozen=True):
    """The task is over. ran and cpu: nanoseconds of wall and CPU time that it has run for; cpu None: unknown."""

    task: int
    end: End
    why: str = ""
    ran: int = 0
    cpu: int | None = None


class Kill(msgspec.Struct, frozen=True):
    """End the worker now, in the middle of its task; `Lost` is to follow."""

    worker: WorkerId


class Stop(msgspec.Struct, frozen=True):
    """Let the worker go; `Lost` is to follow."""

    worker: WorkerId


Action: TypeAlias = Start | Enqueued | Offer | Assign | Nothing | Settle | Kill | Stop
