"""What an interpreter is handed: clock, sources, renderer, and who is told of what it does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container
from typing import Protocol

import msgspec

from .compiled_step import CompiledStep
from .context import Sources
from .error import Error
from .request import Request
from .response import Response
from .trace.events import Trace

__all__ = ["Render", "Surroundings"]


class Render(Protocol):
    """Makes the response of an error. ``exception`` is the bug behind it, if there was one."""

    def __call__(self, error: Error, request: Request, exception: BaseException | None, /) -> Response: ...


class Surroundings(msgspec.Struct, frozen=True):
    """What an interpreter is handed, the same for all requests of an engine."""

    clock: Callable[[], int]
    """Nanoseconds of a monotonic clock."""
    sources: Sources
    render: Render
    trace: Trace | None = None
    offload: Container[CompiledStep] | None = None
    """The steps that are to run elsewhere (see :class:`~zerver.signals.RunStep`); it may change at any time."""
    in_a_row: int = sys.maxsize
    """How many continuations run before others are given way (see :class:`~zerver.signals.GiveWay`)."""
    step_budget_ns: int = sys.maxsize
    """A step that runs in place for longer is reported (see :class:`~zerver.signals.StepOverran`)."""
    count: Callable[[str, int, int], object] | None = None
    """Told of each request that is over, for metrics: its route, its status (0: no answer), and nanoseconds. On the hot
    path, on any thread: cheap, and must not raise."""
