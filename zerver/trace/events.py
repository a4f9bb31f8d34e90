"""The events of a trace, and the interface of what takes them.

On the hot path an event is what costs least: the parts that are at hand, in a plain tuple, and one for both the start
and the end of a step. :mod:`zerver.trace.reading` makes :class:`Record` of them, for requests that are looked at.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from ..execution import Execution

__all__ = ["MOST_EVENTS", "QUICK_NS", "Event", "EventKind", "Record", "Trace"]


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


Event: TypeAlias = "tuple[Any, ...] | None"
"""One or more events, in their short form:

- ``(at_ns,)``: steps run in place from now on.
- ``(position, step, began_ns, ended_ns, type of the result)``: a step's ``StepStart`` and ``StepEnd``; and ``Done``, if
  it gave that. Where that does not count, the type's name: past the deadline, which comes first then, and for ``Done``
  of no response. Without ``began_ns`` its start has been told by itself: ``(position, step, at_ns)``, as it ran
  elsewhere. ``position`` is that in the pipeline, of the step or of the one that it continues.
- ``(name, seconds, start, detail, raw)``: what the dispatcher tells of an effect, by the name of the kind. ``start`` is
  what began it, and ``raw`` what its driver gave, if it completed. The first that is told of an effect says that it
  was scheduled, too, and that it completed says that its request was told so: ``ContinuationEnqueued``.
- ``(kind, at_ns, name, need, effect, detail)``: any other, with the parts of a :class:`Record`.
- ``None``: ``RequestEnd``.

A step of the pipeline that is done within :data:`QUICK_NS`, and gives ``Continue`` or ``Done``, is not told of at all:
that it ran follows from what came after it, and its times are placed between those that are known. So a quick request
that asks for nothing has no event at all, not even ``None``.
"""

MOST_EVENTS: Final = 100_000
"""That are held of a request, in their short form: one that asks for effects without end may have any number."""

QUICK_NS: Final = 50_000
"""Times of a step that takes less are not told one by one."""


class Trace(Protocol):
    """Is told of requests that are over. On the hot path: it must be cheap and must not raise."""

    @property
    def least_ns(self) -> int:
        """A request that took no longer, did not fail and was not answered with 5xx is not told of; -1: all are. It may
        change at any time."""
        ...

    def end(self, run: Execution, /) -> None:
        """It is over: ``RequestEnd`` is the last of its events so far. Effects that go on in the background may yet add
        some. Called on any thread."""
        ...
