"""From a kept trace to its timeline: what ran when, what waited for what, and which of it took the time.

Pure, for the terminal, the console and exporters. Times are nanoseconds from the request's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from .events import EventKind
from .record import (
    BreakerNote,
    ComputeNote,
    EffectNote,
    ErrorNote,
    EventNote,
    MoveNote,
    NeedNote,
    OutcomeNote,
    RetryNote,
    TraceRecord,
)

__all__ = [
    "AttemptSpan",
    "EffectEnd",
    "EffectSpan",
    "NeedSpan",
    "Segment",
    "SegmentKind",
    "StepSpan",
    "Timeline",
    "timeline",
]

_SPECK = 1_000  # what takes less is part of what was before it

EffectEnd: TypeAlias = Literal["ok", "failed", "cancelled", "unfinished"]
SegmentKind: TypeAlias = Literal["queue", "step", "place", "run", "retry", "turn", "answer"]
"""What a request spent time on: ``queue``: until its first step. ``step``: a step ran, or waited for its thread.
``place``: an effect waited for a place in its bulkhead. ``run``: an attempt at it. ``retry``: the wait before another
one. ``turn``: all was there to go on, and it waited for its turn. ``answer``: until the answer was sent."""


class AttemptSpan(msgspec.Struct, frozen=True):
    """One attempt at an effect."""

    number: int
    """From 1."""
    start_ns: int
    end_ns: int | None
    """``None``: it was cut short, or nothing more was seen of it."""
    queued_ns: int
    """How long it had waited for a place in the bulkhead, before ``start_ns``."""
    error: ErrorNote | None = None
    """Why another one followed it, or was to."""
    wait_ns: int = 0
    """From its end until the next one was to begin."""


class EffectSpan(msgspec.Struct, frozen=True):
    """One effect of a Need."""

    need: int
    index: int
    note: EffectNote
    start_ns: int | None
    """When it was scheduled; ``None``: it never was."""
    end_ns: int | None
    end: EffectEnd
    attempts: tuple[AttemptSpan, ...]
    error: ErrorNote | None = None
    late: bool = False
    """It ended when its Need was resolved: nothing was done with what it gave."""
    critical: bool = False
    """Its Need went on when this one ended."""
    breaker: tuple[BreakerNote, ...] = ()
    """What it did to the breaker of its target."""
    worker_queue_ns: int | None = None
    """Of a compute task: how long it waited for a worker."""
    compute: ComputeNote | None = None

    @property
    def not_again(self) -> bool:
        """Another attempt was to follow the last one, and never began: its breaker was open by then, or nobody waited
        for it any more."""
        return bool(self.attempts) and self.attempts[-1].error is not None


class NeedSpan(msgspec.Struct, frozen=True):
    """What a step asked for, until the join."""

    number: int
    asker: str
    note: NeedNote
    start_ns: int
    end_ns: int | None
    """``None``: the request ended before it was resolved."""
    state: Literal["resumed", "failed", "given up"]
    effects: tuple[EffectSpan, ...]


class StepSpan(msgspec.Struct, frozen=True):
    """A run of a step. One that awaits has several."""

    name: str
    need: int
    """The last Need before it; 0 where there was none."""
    start_ns: int
    end_ns: int | None
    outcome: str
    moved: MoveNote | None = None
    """This run showed that the step belongs elsewhere, or may come back."""


class Segment(msgspec.Struct, frozen=True):
    """A part of the critical path. Together they are the request, without gaps."""

    kind: SegmentKind
    name: str
    """Of the step or effect."""
    start_ns: int
    end_ns: int

    @property
    def took_ns(self) -> int:
        return self.end_ns - self.start_ns


class Timeline(msgspec.Struct, frozen=True):
    """``parts``: steps and Needs, in the order in which they began."""

    took_ns: int
    parts: tuple[StepSpan | NeedSpan, ...]
    critical: tuple[Segment, ...]
    failure: ErrorNote | str | None
    """What it ended with, or why it was given up."""

    @property
    def needs(self) -> tuple[NeedSpan, ...]:
        return tuple([part for part in self.parts if isinstance(part, NeedSpan)])

    @property
    def steps(self) -> tuple[StepSpan, ...]:
        return tuple([part for part in self.parts if isinstance(part, StepSpan)])


def timeline(record: TraceRecord) -> Timeline:
    """The timeline of a kept trace."""
    events = record.events
    parts: list[StepSpan | NeedSpan] = []
    failure: ErrorNote | str | None = None
    for position, event in enumerate(events):
        if event.kind is EventKind.StepStart:
            parts.append(_step(events, position))
        elif event.kind is EventKind.NeedScheduled and isinstance(event.detail, NeedNote):
            parts.append(_need(events, event, event.detail))
        elif event.kind is EventKind.Fail and isinstance(event.detail, (ErrorNote, str)):
            failure = event.detail
    return Timeline(record.took_ns, tuple(parts), _critical(record.took_ns, parts), failure)


def _step(events: Sequence[EventNote], position: int) -> StepSpan:
    start = events[position]
    moved: MoveNote | None = None
    end: EventNote | None = None
    for event in events[position + 1 :]:
        if event.kind is EventKind.StepOffloaded and isinstance(event.detail, MoveNote) and event.name == start.name:
            moved = event.detail
        elif event.kind is EventKind.StepStart:
            break
        elif event.kind is EventKind.StepEnd and end is None:
            end = event
    if end is None:
        return StepSpan(start.name, start.need, start.at_ns, None, "", moved)
    return StepSpan(start.name, start.need, start.at_ns, end.at_ns, str(end.detail), moved)


def _need(events: Sequence[EventNote], asked: EventNote, note: NeedNote) -> NeedSpan:
    own = [event for event in events if event.need == asked.need]
    resolved = next((event for event in own if event.kind is EventKind.JoinSatisfied), None)
    # Only what settled before the join can have been what it waited for.
    settled = -1
    for event in own if resolved is None else own[: own.index(resolved)]:
        if event.kind is EventKind.ReactorEffectCompleted:
            settled = event.effect
    effects = tuple(
        [
            _effect(own, asked.need, index, effect, resolved is not None and index == settled)
            for index, effect in enumerate(note.effects)
        ]
    )
    end = None if resolved is None else resolved.at_ns
    state: Literal["resumed", "failed", "given up"] = "given up"
    if resolved is not None:
        state = "failed" if resolved.detail == "failed" else "resumed"
    return NeedSpan(asked.need, asked.name, note, asked.at_ns, end, state, effects)


def _effect(events: Sequence[EventNote], need: int, index: int, note: EffectNote, critical: bool) -> EffectSpan:
    own = [event for event in events if event.effect == index]
    start: int | None = None
    end_ns: int | None = None
    end: EffectEnd = "unfinished"
    error: ErrorNote | None = None
    late = False
    attempts: list[AttemptSpan] = []
    breaker: list[BreakerNote] = []
    worker_queue_ns: int | None = None
    compute: ComputeNote | None = None
    for event in own:
        detail = event.detail
        match event.kind:
            case EventKind.ReactorEffectScheduled:
                start = event.at_ns
            case EventKind.EffectStart:
                queued = round(detail * 1e9) if isinstance(detail, (int, float)) else 0
                attempts.append(AttemptSpan(len(attempts) + 1, event.at_ns, None, queued))
            case EventKind.EffectRetry if isinstance(detail, RetryNote):
                attempts = _ended(attempts, event.at_ns, detail)
            case EventKind.ReactorEffectCompleted if isinstance(detail, OutcomeNote):
                end_ns, error = event.at_ns, detail.error
                end = "ok" if detail.ok else "failed"
                attempts = _ended(attempts, event.at_ns, None)
            case EventKind.EffectCancelled if end == "unfinished":
                end_ns, end = event.at_ns, "cancelled"
            case EventKind.EffectLate:
                late = True
            case EventKind.BreakerStateChanged if isinstance(detail, BreakerNote):
                breaker.append(detail)
            case EventKind.ComputeTaskStarted if isinstance(detail, (int, float)):
                worker_queue_ns = round(detail * 1e9)
            case EventKind.ComputeTaskCompleted if isinstance(detail, ComputeNote):
                compute = detail
            case _:
                pass
    return EffectSpan(
        need, index, note, start, end_ns, end, tuple(attempts), error, late, critical, tuple(breaker),
        worker_queue_ns, compute,
    )  # fmt: skip


def _ended(attempts: list[AttemptSpan], at_ns: int, retry: RetryNote | None) -> list[AttemptSpan]:
    if not attempts or attempts[-1].end_ns is not None:
        return attempts
    last = attempts[-1]
    error, wait = (None, 0) if retry is None else (retry.error, round(retry.wait * 1e9))
    return [*attempts[:-1], AttemptSpan(last.number, last.start_ns, at_ns, last.queued_ns, error, wait)]


class _Path:
    """Segments, one after another."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.at_ns = 0

    def to(self, kind: SegmentKind, name: str, end_ns: int) -> None:
        if end_ns <= self.at_ns:
            return
        if end_ns - self.at_ns < _SPECK and self.segments:
            last = self.segments.pop()
            kind, name, self.at_ns = last.kind, last.name, last.start_ns
        self.segments.append(Segment(kind, name, self.at_ns, end_ns))
        self.at_ns = end_ns


def _critical(took_ns: int, parts: Sequence[StepSpan | NeedSpan]) -> tuple[Segment, ...]:
    path = _Path()
    begun = False
    for part in parts:
        if isinstance(part, StepSpan):
            path.to("turn" if begun else "queue", part.name, part.start_ns)
            path.to("step", part.name, took_ns if part.end_ns is None else part.end_ns)
            begun = True
        else:
            _through(path, part, took_ns)
    path.to("answer" if begun else "queue", "", took_ns)
    return tuple(path.segments)


def _through(path: _Path, need: NeedSpan, took_ns: int) -> None:
    """From the Need's start to its end, by way of the effect that it waited for."""
    end = took_ns if need.end_ns is None else need.end_ns
    path.to("step", need.asker, need.start_ns)
    held = [effect for effect in need.effects if effect.critical]
    if need.end_ns is None:  # given up: for what was still under way
        held = sorted(need.effects, key=lambda effect: took_ns if effect.end_ns is None else effect.end_ns)[-1:]
    if held and need.note.mode == "sequential":
        held = list(need.effects[: held[0].index + 1])
    for effect in held:
        name = effect.note.label
        for attempt in effect.attempts:
            path.to("retry" if attempt.number > 1 else "turn", name, min(attempt.start_ns - attempt.queued_ns, end))
            path.to("place", name, min(attempt.start_ns, end))
            if attempt.end_ns is not None:
                path.to("run", name, min(attempt.end_ns, end))
        if effect.end_ns is not None:
            path.to("retry" if effect.not_again else "run", name, min(effect.end_ns, end))
    if need.end_ns is None and held:
        path.to("retry" if held[-1].not_again else "run", held[-1].note.label, end)
    else:
        path.to("turn", need.asker, end)
