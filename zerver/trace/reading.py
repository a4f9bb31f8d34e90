"""From the short form of events to one record for each: for requests that are looked at, away from the hot path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..decision import Done
from .events import Event, EventKind, Record

if TYPE_CHECKING:
    from ..execution import Execution

__all__ = ["read_events", "told"]

_OF_EFFECTS = {
    kind.name: kind
    for kind in (
        EventKind.ReactorEffectScheduled, EventKind.EffectStart, EventKind.EffectRetry,
        EventKind.ReactorEffectCompleted, EventKind.BreakerStateChanged, EventKind.ComputeTaskScheduled,
        EventKind.ComputeTaskStarted, EventKind.ComputeTaskCompleted,
    )
}  # fmt: skip


def told(run: Execution) -> list[Record]:
    """The events of a request so far, in causal order. Empty where it is not traced, or keeps its events elsewhere."""
    events: Any = run.events
    return list(read_events(run, tuple(events))) if isinstance(events, list) else []


def read_events(run: Execution, events: Iterable[Event]) -> Iterator[Record]:
    """The same for some of the events of a request, from its first on."""
    need = 0
    for event in events:
        if event is None:
            yield Record(EventKind.RequestStart, run.state.started_ns, run.state.request.path, 0, -1, None)
        elif isinstance(event, int):
            yield Record(EventKind.RequestEnd, event, "", need, -1, None)
        elif len(event) == 6:
            record = Record(*event)
            if record.kind is EventKind.NeedScheduled:
                need = record.need
            yield record
        elif len(event) == 5:
            name, seconds, start, detail, _ = event
            yield Record(_OF_EFFECTS[name], int(seconds * 1e9), start.what.label, start.need, start.effect, detail)
        else:
            step, began, ended, outcome = event
            if began is not None:
                yield Record(EventKind.StepStart, began, step.name, need, -1, None)
            late = isinstance(outcome, str)
            yield Record(EventKind.StepEnd, ended, step.name, need, -1, outcome if late else outcome.__name__)
            if outcome is Done:
                yield Record(EventKind.Done, ended, step.name, need, -1, None)
