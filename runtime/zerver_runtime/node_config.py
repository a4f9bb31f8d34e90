"""What a Node is started with, and what each of its processes starts from."""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from zerver_runtime.ids import Place
from zerver_runtime.node_words import NodeLimits
from zerver_runtime.scheduler_view import Class

__all__ = ["STACK_SIGNAL", "Inheritance", "NodeConfig"]

STACK_SIGNAL = signal.SIGUSR2
"""Has a scheduler write the stacks of its threads, even when it runs no byte code of ours any more."""


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """performance, efficiency, compute: processes of each class; performance defaults to the CPUs that may be used.

    listeners: sockets that listen already, one for each performance scheduler (`listener.open_tcp`) or, with
        `shared`, one for all (`listener.open_unix`). The Node owns and closes them.
    actors: top-level actors by name: ("module:Class", arguments, affinity).
    lent: the listeners are somebody else's, too, who goes on with them after a stop.
    no_reload: why SIGHUP brings no reload; it is logged instead.
    nice: added to the niceness of efficiency and compute processes; efficiency_cpus: what they are pinned to.
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
    lent: bool = False
    limits: NodeLimits = NodeLimits()


class Inheritance(msgspec.Struct, frozen=True):
    """What a forked process starts from: everything else of the Node's is closed in it."""

    place: Place
    kind: Class
    control: socket.socket
    stack: int
    """Descriptor that stacks are written to."""
    listeners: list[tuple[int, socket.socket]]
    config: NodeConfig
