"""The events of a trace, and the interface of what takes them."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..request import Request

__all__ = ["Event", "EventKind", "Events", "Record", "Trace"]


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


class Record(NamedTuple):
    """One event, with the names of its parts. On the hot path it is a plain tuple, which costs a tenth."""

    kind: EventKind
    at_ns: int
    """Nanoseconds of the engine's monotonic clock."""
    name: str
    """The step or effect; for ``RequestStart`` the path."""
    need: int
    """Counts the request's Needs from 1; 0 where there is none."""
    effect: int
    """The index in its Need; -1 where there is none."""
    detail: object
    """What else there is to tell; it depends on the kind."""


Event: TypeAlias = "Record | tuple[EventKind, int, str, int, int, object]"


class Events(Protocol):
    """The events of one request, in causal order: a list, for one. Appending must be cheap and must not raise; it is
    done on any thread that works for the request, one at a time."""

    def append(self, event: Event, /) -> object: ...


class Trace(Protocol):
    """Takes the events of all requests. Called on the hot path: it must be cheap and must not raise."""

    def begin(self, request: Request, /) -> Events:
        """Where to put the events of a request that begins."""
        ...

    def end(self, request: Request, events: Any, /) -> None:
        """The request is over: ``RequestEnd`` is among its events. Effects that go on in the background may yet add
        some."""
        ...
