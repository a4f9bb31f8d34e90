"""The events of a trace, and the interface of what takes them."""

from __future__ import annotations

import enum
from typing import Protocol

__all__ = ["EventKind", "Trace"]


class EventKind(enum.IntEnum):
    """What happened. The interpreter and the dispatcher emit these, in causal order within a request."""

    RequestStart = 1
    RequestEnd = 2
    StepStart = 3
    StepEnd = 4
    NeedScheduled = 5
    ReactorEffectScheduled = 6
    EffectStart = 7
    EffectRetry = 8
    ReactorEffectCompleted = 9
    EffectLate = 10
    EffectCancelled = 11
    BreakerStateChanged = 12
    JoinSatisfied = 13
    ContinuationEnqueued = 14
    ContinuationStart = 15
    OnExit = 16
    Done = 17
    Fail = 18
    StepOffloaded = 19
    ComputeTaskScheduled = 20
    ComputeTaskStarted = 21
    ComputeTaskCompleted = 22


class Trace(Protocol):
    """Takes events. Called on the hot path: it must be cheap and must not raise."""

    def record(
        self, kind: EventKind, request_id: str, at_ns: int, name: str, need: int, effect: int, detail: object
    ) -> None:
        """``at_ns``: nanoseconds of the engine's monotonic clock. ``name``: the step or effect. ``need`` counts the
        request's Needs from 1, ``effect`` is the index in its Need; 0 and -1 where there is none."""
        ...
