"""Starts a Node of two performance schedulers and an efficiency scheduler, until Ctrl-C."""

from __future__ import annotations

import sys

from zerver_runtime import NodeConfig, SchedulerContext, run_node, spawn

CONFIG = NodeConfig(
    performance=2,
    actors={"counter": ("examples.counter.actors:Counter", (0,), "efficiency")},
)


def boot(context: SchedulerContext) -> None:
    """Runs in each scheduler process; the Node itself imports no application."""
    from examples.counter.actors import Visitor

    spawn(Visitor)


if __name__ == "__main__":
    sys.exit(run_node(CONFIG, boot))
