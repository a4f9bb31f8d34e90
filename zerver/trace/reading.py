"""From the short form of events to one record for each: for requests that are looked at, away from the hot path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..decision import Continue, Done
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
    """The events of a request so far, in causal order; none where it is not traced."""
    return list(read_events(run, tuple(run.events or ())))


def read_events(run: Execution, events: Iterable[Event]) -> Iterator[Record]:
    """The same for some of the events of a request, from its first on."""
    started, need, position, now = False, 0, 0, 0
    for event in events:
        if event is None:
            yield Record(EventKind.RequestEnd, run.ended_ns, "", need, -1, None)
        elif isinstance(event, int):
            name = run.steps[position].name
            yield Record(EventKind.StepStart, now, name, need, -1, None)
            yield Record(EventKind.StepEnd, event, name, need, -1, Continue.__name__)
            position, now = position + 1, event
        elif len(event) == 1:
            (now,) = event
            if not started:
                started = True
                yield Record(EventKind.RequestStart, run.state.started_ns, run.state.request.path, 0, -1, None)
        elif len(event) == 4:
            step, began, now, outcome = event
            if began is not None:
                yield Record(EventKind.StepStart, began, step.name, need, -1, None)
            told = outcome if isinstance(outcome, str) else outcome.__name__
            yield Record(EventKind.StepEnd, now, step.name, need, -1, told)
            if outcome is Done:
                yield Record(EventKind.Done, now, step.name, need, -1, None)
            elif outcome is Continue:
                position += 1
        elif len(event) == 5:
            name, seconds, start, detail, _ = event
            yield Record(_OF_EFFECTS[name], int(seconds * 1e9), start.what.label, start.need, start.effect, detail)
        else:
            record = Record(*event)
            yield record
            # As the interpreter counts them: what follows a join is the next step, or what goes on with this one.
            if record.kind is EventKind.NeedScheduled:
                need = record.need
            elif record.kind is EventKind.JoinSatisfied:
                position += 1
            elif record.kind is EventKind.ContinuationStart:
                position -= 1
