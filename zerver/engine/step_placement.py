"""Where a step runs: on the loop's thread, on a thread of many, or on the one for what computes.

What is measured, and what moves, is decided in :mod:`zerver_runtime.reactor.offloading`; here are the clocks, the words
of the log, and the events of the trace.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Container
from typing import Any, Literal, TypeAlias

from zerver_runtime.reactor.offloading import Lane, Move, Offloading
from zerver_runtime.reactor.task_system import Measured
from zerver_runtime.reactor.thread_clock import ThreadClock

from ..compiled_step import CompiledStep
from ..execution import Execution
from ..trace.events import EventKind

__all__ = ["Mode", "StepPlacement"]

Mode: TypeAlias = Literal["adaptive", "inline", "pool"]

_log = logging.getLogger("zerver")

_READING_NS = 10_000_000  # a reading of the thread's clock is good for so long; it costs a system call


class StepPlacement:
    """Of one engine. ``budget``: seconds that a step may keep the loop, in mode ``adaptive``. ``thread_clock``: of the
    loop's thread."""

    def __init__(self, mode: Mode, budget: float, thread_clock: ThreadClock) -> None:
        self._thread_clock = thread_clock
        self._adaptive = mode == "adaptive"
        self._moved = _Moved()
        self.budget_ns = int(budget * 1e9) if self._adaptive else sys.maxsize
        self._offloading = Offloading(self.budget_ns, self._moved)
        elsewhere: dict[Mode, Container[CompiledStep] | None] = {
            "adaptive": self._moved, "inline": None, "pool": _Everything(),
        }  # fmt: skip
        self.elsewhere = elsewhere[mode]
        """The steps that do not run on the loop."""
        self._read = (0, 0)  # of the thread's clock
        self.look_ns = 0 if self._adaptive else sys.maxsize
        """When the next :meth:`look` will do something."""

    def look(self, now: int) -> None:
        """Read the thread's clock, if the last reading is old: what a step took of it is the difference, at most. To be
        called before steps run."""
        if now >= self.look_ns:
            self._read, self.look_ns = self._thread_clock.read(), now + _READING_NS

    def lane(self, step: CompiledStep) -> Literal["blocks", "burns"]:
        """On which threads a step runs that is not on the loop."""
        return "burns" if self._moved.get(_key(step)) == "burns" else "blocks"

    def overran(self, run: Execution, step: CompiledStep, took_ns: int) -> None:
        """A step kept the loop for longer than its budget."""
        (ran, delayed), (now_ran, now_delayed) = self._read, self._thread_clock.read()
        took_ns -= min(now_delayed - delayed, took_ns)  # the machine was busy; that is not the step's doing
        cpu_ns = min(now_ran - ran, took_ns)
        self._tell(run, step, self._offloading.ran_inline(_key(step), took_ns, cpu_ns), "kept the loop for")

    def ran_elsewhere(self, run: Execution, step: CompiledStep, ran: Measured) -> None:
        """A step ran on a thread."""
        if self._adaptive:
            self._tell(run, step, self._offloading.ran_elsewhere(_key(step), ran.took_ns, ran.cpu_ns), "took")

    def close(self) -> None:
        """No step runs any more."""
        self._thread_clock.close()

    def _tell(self, run: Execution, step: CompiledStep, move: Move | None, did: str) -> None:
        if move is None:
            return
        run.note(EventKind.StepOffloaded, step.name, detail=move)
        took, cpu = move.took_ns / 1e6, move.cpu_ns / 1e6
        if move.to == "inline":
            _log.info("step %s runs on the loop again: it keeps within its budget", step.name)
        elif move.to == "blocks":
            _log.warning(
                "step %s (%s) %s %.0f ms, waiting; it is run on a thread from now on. A step does no I/O: declare an "
                "effect instead, such as call.run(...)", step.name, step.where, did, took,
            )  # fmt: skip
        else:
            _log.warning(
                "step %s (%s) took %.0f ms, %.0f ms of them computing; it is run on a thread from now on, one such "
                "step at a time. Heavy work belongs into compute.run(...)", step.name, step.where, took, cpu,
            )  # fmt: skip


def _key(step: CompiledStep) -> tuple[str, str]:
    """What a step's runs are booked under: closures that each request makes anew are one step."""
    return step.where, step.name


class _Moved(dict[Any, Lane]):
    """The steps that are not on the loop, by key; asked by step. A dict, so that it costs nothing while it is empty."""

    def __contains__(self, step: object) -> bool:
        assert isinstance(step, CompiledStep)
        return dict.__contains__(self, _key(step))


class _Everything:
    """Contains every step."""

    def __contains__(self, step: object) -> bool:
        return True
