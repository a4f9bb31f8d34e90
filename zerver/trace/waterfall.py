"""A timeline as rows of bars, for whoever draws it: a terminal or a page. Pure. Times are nanoseconds from the
request's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from .timeline import AttemptSpan, EffectSpan, NeedSpan, StepSpan, Timeline

__all__ = ["Bar", "BarKind", "WaterfallRow", "waterfall"]

BarKind: TypeAlias = Literal["queue", "turn", "step", "need", "place", "worker", "run", "failed", "retry"]
"""``queue``: until the first step. ``turn``: all was there to go on, and it waited. ``step``: it ran. ``need``: from
the asking until the join. ``place``: for a place in the bulkhead. ``worker``: for a worker process. ``run``: an
attempt. ``failed``: an attempt that failed. ``retry``: until the next one."""


class Bar(msgspec.Struct, frozen=True):
    """A stretch of a row."""

    kind: BarKind
    start_ns: int
    end_ns: int
    attempt: int = 0
    """From 1; 0 where it is of none."""


class WaterfallRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the picture."""

    kind: Literal["queue", "step", "need", "effect"]
    label: str
    about: str = ""
    """What an effect is about: a URL, a statement, a key; of a Need, how it joins."""
    start_ns: int | None
    """``None``: it was not begun."""
    end_ns: int | None
    bars: tuple[Bar, ...]
    attempts: int = 0
    critical: bool = False
    """Its Need went on when this effect ended."""
    required: bool = True
    end: Literal["ok", "failed", "dropped", "unfinished"] = "ok"
    late: bool = False
    detached: bool = False
    """Late or unfinished on purpose: it goes on in the background."""

    @property
    def took_ns(self) -> int:
        """0 where it was not begun."""
        return 0 if self.start_ns is None or self.end_ns is None else max(0, self.end_ns - self.start_ns)

    @property
    def fate(self) -> str:
        """What became of it, where that is out of the ordinary."""
        if self.start_ns is None:
            return "not begun"
        if self.detached:
            return "failed in the background" if self.end == "failed" else "in the background"
        return " ".join([word for word in ("" if self.end == "ok" else self.end, "late" if self.late else "") if word])


def waterfall(line: Timeline) -> list[WaterfallRow]:
    """Steps and Needs in the order in which they began, the effects of each Need below it."""
    rows: list[WaterfallRow] = []
    first = line.steps[0].start_ns if line.steps else line.took_ns
    if first > 0:
        rows.append(WaterfallRow(kind="queue", label="", start_ns=0, end_ns=first, bars=(Bar("queue", 0, first),)))
    ready: int | None = None  # when what follows could have gone on
    for part in line.parts:
        end = line.took_ns if part.end_ns is None else part.end_ns
        if isinstance(part, StepSpan):
            waited = (Bar("turn", ready, part.start_ns),) if ready is not None and ready < part.start_ns else ()
            bars = (*waited, Bar("step", part.start_ns, end))
            rows.append(WaterfallRow(kind="step", label=part.name, start_ns=part.start_ns, end_ns=end, bars=bars))
            ready = None
        else:
            rows.append(_need(part, end))
            rows += [_effect(effect, line.took_ns, part.note.detach) for effect in part.effects]
            ready = part.end_ns
    return rows


def _need(part: NeedSpan, end: int) -> WaterfallRow:
    return WaterfallRow(
        kind="need",
        label=part.asker,
        about=part.note.join + (" in sequence" if part.note.mode == "sequential" else ""),
        start_ns=part.start_ns,
        end_ns=end,
        bars=(Bar("need", part.start_ns, end),),
        end="failed" if part.state == "failed" else "unfinished" if part.state == "given up" else "ok",
    )


def _effect(effect: EffectSpan, took_ns: int, detached: bool) -> WaterfallRow:
    end = None
    if effect.start_ns is not None:
        end = took_ns if effect.end_ns is None else effect.end_ns
    return WaterfallRow(
        kind="effect",
        label=effect.note.label,
        about=effect.note.what or effect.note.target,
        start_ns=effect.start_ns,
        end_ns=end,
        bars=() if effect.start_ns is None or end is None else tuple(_bars(effect, effect.start_ns, end)),
        attempts=len(effect.attempts),
        critical=effect.critical,
        required=effect.note.required,
        end="dropped" if effect.end == "cancelled" else effect.end,
        late=effect.late,
        detached=detached and (effect.late or effect.end == "unfinished"),
    )


def _bars(effect: EffectSpan, start: int, end: int) -> Iterator[Bar]:
    if not effect.attempts:
        yield Bar("place", start, end)
        return
    before = start
    for attempt in effect.attempts:
        entered = max(before, attempt.start_ns - attempt.queued_ns)
        if attempt.number > 1 and entered > before:
            yield Bar("retry", before, entered, attempt.number)
        if attempt.start_ns > entered:
            yield Bar("place", entered, attempt.start_ns, attempt.number)
        stop = end if attempt.end_ns is None else attempt.end_ns
        yield from _attempt(effect, attempt, stop)
        before = stop
    if effect.not_again and before < end:
        yield Bar("retry", before, end, len(effect.attempts) + 1)


def _attempt(effect: EffectSpan, attempt: AttemptSpan, stop: int) -> Iterator[Bar]:
    begun = attempt.start_ns
    if effect.worker_queue_ns and attempt is effect.attempts[-1]:
        begun = min(stop, begun + effect.worker_queue_ns)
        yield Bar("worker", attempt.start_ns, begun, attempt.number)
    if stop > begun:
        failed = attempt.error is not None or (attempt is effect.attempts[-1] and effect.end == "failed")
        yield Bar("failed" if failed else "run", begun, stop, attempt.number)
