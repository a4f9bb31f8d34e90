"""Actors on one machine: a Node, its scheduler processes, and the messages between them. Knows nothing of HTTP.

    from zerver_runtime import Actor, behaviour, spawn

Here is what a user of actors touches; `docs/guides/actors.md` shows it at work, `python -m zerver_runtime demo` too.
"""

from typing import TYPE_CHECKING, Any

from zerver_runtime.actor import Actor, Affinity, behaviour, spawn, spawn_as, whereis
from zerver_runtime.behaviour import Behaviour
from zerver_runtime.ids import Place, place
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import (
    ActorDead,
    ActorError,
    BehaviourFailed,
    ExitReason,
    MailboxFull,
    NotPlainData,
    Overloaded,
    ReplyTimeout,
    SelfAsk,
    UnknownBehaviour,
)
from zerver_runtime.ref import id_of
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler
from zerver_runtime.supervisor import ChildSpec, Intensity, Supervisor, TooManyRestarts, child
from zerver_runtime.timer import Timer

if TYPE_CHECKING:
    from zerver_runtime.listener import open_tcp, open_unix
    from zerver_runtime.node_config import NodeConfig
    from zerver_runtime.node_words import NodeLimits
    from zerver_runtime.process import run_node
    from zerver_runtime.scheduler_process import SchedulerContext

__all__ = [
    "Actor",
    "ActorDead",
    "ActorError",
    "Affinity",
    "Behaviour",
    "BehaviourFailed",
    "ChildSpec",
    "ExitReason",
    "Intensity",
    "MailboxFull",
    "MailboxPolicy",
    "NodeConfig",
    "NodeLimits",
    "NotPlainData",
    "Overloaded",
    "Place",
    "Reply",
    "ReplyTimeout",
    "Scheduler",
    "SchedulerContext",
    "SelfAsk",
    "Supervisor",
    "Timer",
    "TooManyRestarts",
    "UnknownBehaviour",
    "behaviour",
    "child",
    "id_of",
    "open_tcp",
    "open_unix",
    "place",
    "run_node",
    "spawn",
    "spawn_as",
    "whereis",
]

# Their imports (asyncio, sockets) are for those who start processes: a third of the time that all of them take.
_OF_PROCESSES = {
    "NodeConfig": "zerver_runtime.node_config",
    "NodeLimits": "zerver_runtime.node_words",
    "SchedulerContext": "zerver_runtime.scheduler_process",
    "open_tcp": "zerver_runtime.listener",
    "open_unix": "zerver_runtime.listener",
    "run_node": "zerver_runtime.process",
}


def __getattr__(name: str) -> Any:
    if name in _OF_PROCESSES:
        import importlib

        return getattr(importlib.import_module(_OF_PROCESSES[name]), name)
    raise AttributeError(f"module 'zerver_runtime' has no attribute {name!r}")
