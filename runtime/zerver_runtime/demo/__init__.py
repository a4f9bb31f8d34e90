"""`python -m zerver_runtime demo`: ping-pong, fan-out, and crashes that are survived, in processes of this machine.

A Node is started with two top-level actors, the `Conductor` and a `Counter`, and each scheduler boots a `Stage` with
its players. All that they say to each other goes by messages, as in any application.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable

from zerver_runtime.actor import spawn
from zerver_runtime.demo.output import write
from zerver_runtime.message import ExitReason
from zerver_runtime.node_config import NodeConfig
from zerver_runtime.node_words import NodeLimits
from zerver_runtime.process import run_node
from zerver_runtime.scheduler_process import SchedulerContext

__all__ = ["run"]

_MOST = 4  # performance schedulers, on larger machines too
_ROWS = 20  # lines that a terminal needs


def run(seconds: float = 6.0) -> int:
    """Play it on standard output, for so many seconds or until Ctrl-C. Returns the exit code: 0."""
    size = shutil.get_terminal_size()
    screen = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and size.lines >= _ROWS
    if not screen:
        return _play(seconds, 0, lambda line: write(f"{line}\n"))
    # What anybody else wrote meanwhile would tear the picture: it is shown below it, in the end.
    with tempfile.TemporaryFile("w+", buffering=1) as aside:
        write("\x1b[?25l")  # no cursor
        try:
            return _play(seconds, min(size.columns, 80), lambda line: aside.write(f"{line}\n"), aside.fileno())
        finally:
            aside.seek(0)
            write("\r\x1b[K" + aside.read() + "\x1b[?25h")


def _play(seconds: float, columns: int, log: Callable[[str], object], errors: int | None = None) -> int:
    performance = max(2, min(_MOST, len(os.sched_getaffinity(0))))
    node, began = os.getpid(), time.monotonic()

    def boot(context: SchedulerContext) -> None:
        if errors is not None:
            os.dup2(errors, 2)
        from zerver_runtime.demo.stage import Stage

        scheduler, here = context.scheduler, context.place
        with scheduler:
            stage = spawn(Stage, here.scheduler, here.incarnation, context.kind, performance)

        def leave() -> None:
            scheduler.kill(stage, ExitReason("shutdown", "the demo is over"))
            conductor = scheduler.whereis("conductor")
            if context.kind == "efficiency" and conductor is not None:
                conductor.finish()

        context.on_drain.append(leave)
        if context.kind == "efficiency":
            # Not the conductor's business: the demo ends as well when that one cannot write any more.
            left = began + seconds - time.monotonic()
            context.loop.call_later(max(0.0, left), os.kill, node, signal.SIGTERM)

    config = NodeConfig(
        performance=performance,
        actors={
            "conductor": ("zerver_runtime.demo.conductor:Conductor", (began, seconds, columns), "efficiency"),
            "counter": ("zerver_runtime.demo.players:Counter", (), "performance"),
        },
        limits=NodeLimits(heartbeat=0.2, grace=3.0),
    )

    def tell(text: str) -> None:
        log(f"        node: {text}")

    try:
        return run_node(config, boot, tell)
    except KeyboardInterrupt:  # before the Node had taken over the signals
        return 0
