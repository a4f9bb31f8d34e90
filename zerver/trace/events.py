"""The events of a trace, and the interface of what takes them.

On the hot path an event is what costs least: the parts that are at hand, in a plain tuple, and one for both the start
and the end of a step. :mod:`zerver.trace.reading` makes :class:`Record` of them, for requests that are looked at.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from ..execution import Execution

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
    """One event, with the names of its parts."""

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


Event: TypeAlias = "int | tuple[Any, ...] | None"
"""One or two events, in their short form:

- ``None``: ``RequestStart``; the request tells the rest. A number: ``RequestEnd``, at that time.
- ``(step, began_ns, ended_ns, type of the result)``: a step's ``StepStart`` and ``StepEnd``; and ``Done``, if it gave
  that. Past the deadline, which comes first then, the type's name. Without ``began_ns`` its start has been told by
  itself: it ran elsewhere.
- ``(name, seconds, start, detail, raw)``: what the dispatcher tells of an effect, by the name of the kind. ``start`` is
  what began it, and ``raw`` what its driver gave, if it completed.
- ``(kind, at_ns, name, need, effect, detail)``: any other, with the parts of a :class:`Record`.
"""


class Events(Protocol):
    """The events of one request, in causal order: a list, for one. Appending must be cheap and must not raise; it is
    done on any thread that works for the request, one at a time."""

    def append(self, event: Event, /) -> object: ...


class Trace(Protocol):
    """Takes the events of all requests. Called on the hot path: it must be cheap and must not raise."""

    @property
    def new(self) -> Callable[[], Events]:
        """Makes what takes the events of a request that begins."""
        ...

    def end(self, run: Execution, /) -> None:
        """The request is over: ``RequestEnd`` is among its events. Effects that go on in the background may yet add
        some. Called on any thread."""
        ...
