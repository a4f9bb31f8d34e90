"""From the short form of events to one record for each: for requests that are looked at, away from the hot path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..decision import Continue, Done
from .events import Event, EventKind, Record

if TYPE_CHECKING:
    from ..compiled_step import CompiledStep
    from ..execution import Execution
    from ..signals import DetachEffect, StartEffect

__all__ = ["read_events", "told"]

_OF_EFFECTS = {
    kind.name: kind
    for kind in (
        EventKind.ReactorEffectScheduled, EventKind.EffectStart, EventKind.EffectRetry,
        EventKind.ReactorEffectCompleted, EventKind.BreakerStateChanged, EventKind.ComputeTaskScheduled,
        EventKind.ComputeTaskStarted, EventKind.ComputeTaskCompleted,
    )
}  # fmt: skip

_BESIDE = (EventKind.EffectLate, EventKind.ContinuationEnqueued, EventKind.StepOffloaded, EventKind.OnExit)


def told(run: Execution) -> list[Record]:
    """The events of a request so far, in causal order."""
    return read_events(run, tuple(run.events or ()))


def read_events(run: Execution, events: Iterable[Event], *, cut: bool = False) -> list[Record]:
    """The same for some of the events of a request, from its first on. ``cut``: there were more."""
    reading, events = _Reading(run), tuple(events)
    # What is not told of ran right after the last that is; what goes on beside it may have been told of since.
    last = next((place for place in reversed(range(len(events))) if _leads_on(events[place])), -1)
    for event in events[: last + 1]:
        reading.take(event)
    if not cut:
        reading.catch_up()
    for event in events[last + 1 :]:
        reading.take(event)
    if run.ended_ns and not events:
        reading.take(None)
    return reading.records


def _leads_on(event: Event) -> bool:
    """Whether it is of the request's own way through its pipeline."""
    if event is None:
        return False
    if len(event) == 6:
        return event[0] not in _BESIDE
    return not isinstance(event[0], str)


class _Reading:
    """Goes through the events as the interpreter went through the pipeline."""

    def __init__(self, run: Execution) -> None:
        self.records: list[Record] = []
        self._run = run
        self._need = 0
        self._position = 0  # of the step that runs, or is next
        self._at_ns = run.started_ns  # up to where the steps are told of
        self._begun = False
        self._done = False  # the answer has been told of
        self._scheduled: set[tuple[int, int]] = set()  # the effects that were told of

    def take(self, event: Event) -> None:
        """One more event."""
        if event is None:
            self._add(EventKind.RequestEnd, self._run.ended_ns, "")
            return
        match len(event):
            case 1:
                self._begin()
                (self._at_ns,) = event
            case 3:
                position, step, at_ns = event
                self._catch_up_to(position, at_ns)
                self._add(EventKind.StepStart, at_ns, step.name)
            case 5 if isinstance(event[0], str):
                name, seconds, start, detail, _ = event
                self._of_effect(_OF_EFFECTS[name], round(seconds * 1e9), start, detail)
            case 5:
                self._step(*event)
            case _:
                self._other(Record(*event))

    def catch_up(self) -> None:
        """Tell of the steps that led to the answer."""
        run = self._run
        if run.response is None or run.failure is not None or self._done:
            return
        self._catch_up_to(run.position, run.answered_ns, last=1)
        self._step(run.position, run.steps[run.position], self._at_ns, run.answered_ns, Done)

    def _catch_up_to(self, position: int, until_ns: int, last: int = 0) -> None:
        """Tell of the steps before this one: they went on, and share the time; with ``last`` of those after them."""
        self._begin()
        quick = self._run.steps[self._position : position]
        each = max(0, until_ns - self._at_ns) // (len(quick) + last) if quick else 0
        for step in quick:
            self._add(EventKind.StepStart, self._at_ns, step.name)
            self._at_ns += each
            self._add(EventKind.StepEnd, self._at_ns, step.name, Continue.__name__)
        self._position = max(self._position, position)

    def _step(self, position: int, step: CompiledStep, began: int | None, ended: int, outcome: type | str) -> None:
        if began is not None:
            self._catch_up_to(position, began)
            self._add(EventKind.StepStart, began, step.name)
        self._add(EventKind.StepEnd, ended, step.name, outcome if isinstance(outcome, str) else outcome.__name__)
        if outcome is Done:
            self._done = True
            self._add(EventKind.Done, ended, step.name)
        elif outcome is Continue:
            self._position = position + 1
        self._at_ns = ended

    def _of_effect(self, kind: EventKind, at_ns: int, start: StartEffect | DetachEffect, detail: object) -> None:
        """What is told of an effect first says that it was scheduled, too, where it need not wait for that."""
        label, place = start.what.label, (start.need, start.effect)
        if place not in self._scheduled:
            self._scheduled.add(place)
            if kind is not EventKind.ReactorEffectScheduled:
                self.records.append(Record(EventKind.ReactorEffectScheduled, at_ns, label, *place, None))
        self.records.append(Record(kind, at_ns, label, *place, detail))
        if kind is EventKind.ReactorEffectCompleted:  # at once, in either engine
            self.records.append(Record(EventKind.ContinuationEnqueued, at_ns, "", *place, None))

    def _other(self, record: Record) -> None:
        kind = record.kind
        if kind is EventKind.Fail and self._begun:
            self._catch_up_to(self._run.position, record.at_ns)
        self.records.append(record)
        # As the interpreter counts them: what follows a join is the next step, or what goes on with this one.
        if kind is EventKind.NeedScheduled:
            self._need = record.need
        elif kind is EventKind.JoinSatisfied:
            self._position += 1
            self._at_ns = record.at_ns
        elif kind is EventKind.ContinuationStart:
            self._position -= 1

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            run = self._run
            self.records.insert(0, Record(EventKind.RequestStart, run.started_ns, run.request.path, 0, -1, None))

    def _add(self, kind: EventKind, at_ns: int, name: str, detail: str | None = None) -> None:
        self.records.append(Record(kind, at_ns, name, self._need, -1, detail))
