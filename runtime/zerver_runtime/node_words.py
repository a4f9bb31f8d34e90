"""What can happen to a Node, what it can decide to do, and its limits: closed sets of frozen values."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from zerver_runtime.control import FromNode, ToNode
from zerver_runtime.scheduler_view import Backoff, Class, Key

__all__ = [
    "Action",
    "CloseListener",
    "DumpStack",
    "Event",
    "Exit",
    "Exited",
    "Fork",
    "Forked",
    "Kill",
    "Lend",
    "Log",
    "Lost",
    "MakePair",
    "NodeLimits",
    "Received",
    "Send",
    "Serving",
    "Signalled",
    "Start",
    "StopListening",
    "Tick",
]


class NodeLimits(msgspec.Struct, frozen=True):
    """All in seconds, except `intensity`; infinity is for ever.

    heartbeat: how often a scheduler says that it still yields.
    stuck_after: without a heartbeat for so long, its stack is reported; replace_after: it is killed and replaced.
    boot: how long a boot may take. grace: how long a drain may take, and then the whole stop.
    intensity restarts within `window` are allowed to each slot (and each top-level actor), the first after
        `restart_first`, each following after twice as long, up to `restart_cap`.

    ValueError: a time that is none or not above 0, no number of restarts, or a scheduler that would be taken for stuck
        between two heartbeats.
    """

    heartbeat: float = 1.0
    stuck_after: float = 5.0
    replace_after: float = 30.0
    boot: float = 60.0
    grace: float = 10.0
    intensity: int = 5
    window: float = 10.0
    restart_first: float = 0.05
    restart_cap: float = 5.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name == "intensity":
                if type(value) is not int or value < 0:
                    raise ValueError(f"NodeLimits(intensity={value!r}): give a whole number of restarts, 0 for none")
            elif not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"NodeLimits({name}={value!r}): give seconds, above 0")
        if not self.heartbeat < self.stuck_after:
            raise ValueError(
                f"NodeLimits(heartbeat={self.heartbeat!r}, stuck_after={self.stuck_after!r}): give more time to a"
                " scheduler than passes between its heartbeats"
            )

    def backoff(self) -> Backoff:
        return Backoff(self.restart_first, self.restart_cap, self.intensity, self.window)


# --- What can happen


class Start(msgspec.Struct, frozen=True):
    """The Node begins."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


class Forked(msgspec.Struct, frozen=True):
    key: Key
    pid: int


class Received(msgspec.Struct, frozen=True):
    key: Key
    word: ToNode


class Lost(msgspec.Struct, frozen=True):
    """Its control socket is at its end, broken, or full for too long."""

    key: Key


class Exited(msgspec.Struct, frozen=True):
    """status: "exit 1", "signal 9 (SIGKILL)"."""

    key: Key
    status: str


class Signalled(msgspec.Struct, frozen=True):
    """name: TERM or INT stop (the second one kills), HUP reloads, TTOU takes one performance scheduler away."""

    name: str


Event: TypeAlias = Start | Tick | Forked | Received | Lost | Exited | Signalled


# --- What can be decided


class Fork(msgspec.Struct, frozen=True):
    key: Key
    kind: Class


class Kill(msgspec.Struct, frozen=True):
    """With SIGKILL: whoever gets this has been asked before, or cannot be asked."""

    key: Key


class DumpStack(msgspec.Struct, frozen=True):
    """Have the process write the stacks of its threads, and report them."""

    key: Key


class Send(msgspec.Struct, frozen=True):
    key: Key
    word: FromNode


class MakePair(msgspec.Struct, frozen=True):
    """A fresh socketpair between two schedulers; each gets a `Peer` with its end; the Node keeps none."""

    one: Key
    other: Key


class Lend(msgspec.Struct, frozen=True):
    """A fresh socketpair between a compute worker and a scheduler; that gets a `Worker` with its end, the worker a
    `Peer`; the Node keeps none."""

    worker: Key
    scheduler: Key


class CloseListener(msgspec.Struct, frozen=True):
    """Close the Node's own copy."""

    listener: int


class StopListening(msgspec.Struct, frozen=True):
    """Close the Node's own copies of all listeners."""


class Serving(msgspec.Struct, frozen=True):
    """A scheduler accepts connections, for the first time; or those of a reload do."""


class Log(msgspec.Struct, frozen=True):
    text: str


class Exit(msgspec.Struct, frozen=True):
    """failure: what the application said of its start or end, if it failed."""

    code: int
    failure: str = ""


Action: TypeAlias = (
    Fork | Kill | DumpStack | Send | MakePair | Lend | CloseListener | StopListening | Serving | Log | Exit
)
