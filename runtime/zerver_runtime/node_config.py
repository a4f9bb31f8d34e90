"""What a Node is started with, and what each of its processes starts from."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec

from zerver_runtime.actor import Affinity
from zerver_runtime.ids import Place
from zerver_runtime.node_words import NodeLimits
from zerver_runtime.plain_data import check_arguments
from zerver_runtime.ref import ActorRef, check_name
from zerver_runtime.scheduler_view import Class

__all__ = ["STACK_SIGNAL", "Inheritance", "NodeConfig"]

STACK_SIGNAL = signal.SIGUSR2
"""Has a scheduler write the stacks of its threads, even when it runs no byte code of ours any more."""


_MOST = 1024
"""Processes of one class: each two schedulers have a link, and the Node makes them all at the start."""


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """performance, efficiency, compute: processes of each class; performance defaults to the CPUs that may be used.

    listeners: sockets that listen already, one for each performance scheduler (`listener.open_tcp`) or, with
        `shared`, one for all (`listener.open_unix`). The Node owns and closes them.
    actors: top-level actors by name: ("module:Class", arguments, affinity).
    lent: the listeners are somebody else's, too, who goes on with them after a stop.
    no_reload: why SIGHUP brings no reload; it is logged instead.
    check_arguments: check each argument of each send, also within a process (development).
    nice: added to the niceness of efficiency and compute processes; efficiency_cpus: what they are pinned to.

    ValueError: numbers of processes, a node, niceness or CPUs that cannot be, or a top-level actor that nobody could
        make: each is named. NotPlainData: arguments of one that cannot travel.
    """

    performance: int = 0
    efficiency: int = 1
    compute: int = 0
    node: int = 0
    listeners: Sequence[socket.socket] = ()
    shared: bool = False
    actors: Mapping[str, tuple[str, tuple[Any, ...], str]] = {}
    nice: int = 5
    efficiency_cpus: frozenset[int] | None = None
    no_reload: str = ""
    check_arguments: bool = False
    lent: bool = False
    limits: NodeLimits = NodeLimits()

    def __post_init__(self) -> None:
        for name, most in (("performance", _MOST), ("efficiency", _MOST), ("compute", _MOST), ("node", 255)):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= most:
                raise ValueError(f"NodeConfig({name}={value!r}): give a whole number from 0 to {most}")
        if type(self.nice) is not int or not 0 <= self.nice <= 19:
            raise ValueError(f"NodeConfig(nice={self.nice!r}): give a whole number from 0 to 19")
        if self.efficiency_cpus is not None and not self.efficiency_cpus & os.sched_getaffinity(0):
            raise ValueError(
                f"NodeConfig(efficiency_cpus={set(self.efficiency_cpus)}): give at least one CPU that may be used, of"
                f" {os.sched_getaffinity(0)}"
            )
        for name, actor in self.actors.items():
            check_name(name)
            match actor:
                case (str(path), tuple() | list() as args, str(affinity)) if ":" in path:
                    check_arguments(f"{path} of actor {name!r}", (), args, None, ActorRef)
                    if affinity in get_args(Affinity):
                        continue
            raise ValueError(
                f"NodeConfig(actors={{{name!r}: {actor!r}}}): give its class, its arguments and one of"
                f' {get_args(Affinity)}, as in ("myapp:Counter", (0,), "none")'
            )


class Inheritance(msgspec.Struct, frozen=True):
    """What a forked process starts from: everything else of the Node's is closed in it."""

    place: Place
    kind: Class
    control: socket.socket
    stack: int
    """Descriptor that stacks are written to."""
    listeners: list[tuple[int, socket.socket]]
    config: NodeConfig
