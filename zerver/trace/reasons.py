"""Why a request took as long as it did, or failed, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .record import ErrorNote, TraceRecord
from .timeline import EffectSpan, NeedSpan, Segment, StepSpan, Timeline

__all__ = ["duration", "queues", "reasons"]

_WORTH_NS = 1_000_000  # waits of less are not worth a sentence, unless they are a tenth of all
_SHARE = 0.1


def duration(ns: int) -> str:
    """``850 us``, ``12.3 ms``, ``1.31 s``."""
    if ns < 999_500:
        return f"{ns / 1e3:.0f} us"
    if ns < 999_500_000:
        return f"{ns / 1e6:.3g} ms"
    return f"{ns / 1e9:.2f} s" if ns < 99_500_000_000 else f"{ns / 1e9:.0f} s"


def queues(line: Timeline) -> str:
    """How long it waited in which queue, by all that it went through: also where that is no time at all."""
    sums: dict[str, int] = {}
    for one in line.critical:
        sums[one.kind] = sums.get(one.kind, 0) + one.took_ns
    first, place, turn = (duration(sums.get(kind, 0)) for kind in ("queue", "place", "turn"))
    return f"{first} before its first step, {place} for places, {turn} for its turn"


def reasons(record: TraceRecord, line: Timeline) -> list[str]:
    """Sentences, the most important first: how it ended, where the time went, and what was out of the ordinary."""
    said = [*_ending(record, line), *_longest(line)]
    for part in line.parts:
        if isinstance(part, NeedSpan):
            for effect in part.effects:
                said += _effect(part, effect)
        elif part.moved is not None:
            said.append(f"step {part.name} is run {_PLACES.get(part.moved.to, part.moved.to)} from now on")
    return said


_PLACES = {"inline": "on the loop", "blocks": "on a thread, as it blocks", "burns": "on a thread, as it computes"}


def _ending(record: TraceRecord, line: Timeline) -> Iterator[str]:
    failure = line.failure
    if failure is None:
        return
    where = ""
    last = line.parts[-1] if line.parts else None
    if isinstance(last, NeedSpan):
        where = f", while step {last.asker} waited for its effects" if last.end_ns is None else ""
        failed = [one for one in last.effects if one.critical and one.end == "failed"]
        if last.state == "failed" and failed:
            where = f", as step {last.asker} requires {failed[0].note.label}"
    elif isinstance(last, StepSpan):
        where = f", in step {last.name}"
    if isinstance(failure, str):
        yield f"given up{where}: {failure}"
    else:
        status = "" if record.status is None else f"{record.status} "
        yield f"answered {status}{_error(failure)}{where}"
        if isinstance(last, StepSpan) and last.outcome == "StepRaised" and failure.kind == "INTERNAL":
            yield f"step {last.name} raised an exception: its traceback is in the log, under the id of the request"


def _longest(line: Timeline) -> Iterator[str]:
    """What took the most of it, part by part, until the rest is small."""
    sums: dict[tuple[str, str], int] = {}
    for one in line.critical:
        key = (one.kind, one.name)
        sums[key] = sums.get(key, 0) + one.took_ns
    for (kind, name), took in sorted(sums.items(), key=lambda item: -item[1])[:3]:
        if took >= line.took_ns * _SHARE and took >= 1000:
            some = next(one for one in line.critical if (one.kind, one.name) == (kind, name))
            share = round(100 * took / max(line.took_ns, 1))
            yield f"{_spent(some)} {duration(took)}, {share} % of the request"


def _spent(one: Segment) -> str:
    match one.kind:
        case "queue":
            return "it waited for its first step, as the server was busy:"
        case "step":
            return f"step {one.name} ran"
        case "place":
            return f"{one.name} waited for a place among those in flight to its target:"
        case "run":
            return f"{one.name} took"
        case "retry":
            return f"{one.name} waited to be tried again:"
        case "turn":
            return f"{one.name} was ready, and waited for its turn:"
        case "answer":
            return "the answer was sent in"


def _effect(need: NeedSpan, effect: EffectSpan) -> Iterator[str]:
    name, total = effect.note.label, len(effect.attempts)
    optional = "" if effect.note.required else " (optional)"
    if not effect.attempts and effect.end == "failed":
        yield f"{name}{optional} was not tried: {_error(effect.error)}"
    for attempt in effect.attempts:
        if attempt.queued_ns >= _WORTH_NS:
            yield f"{name}: attempt {attempt.number} waited {duration(attempt.queued_ns)} for a place at {_at(effect)}"
        if attempt.error is not None and attempt.end_ns is not None:
            again = "to be tried again" if attempt.number == total and effect.not_again else "tried again"
            yield (
                f"{name}: attempt {attempt.number} failed after {duration(attempt.end_ns - attempt.start_ns)} "
                f"({_error(attempt.error)}); {again} {duration(attempt.wait_ns)} later"
            )
    if effect.worker_queue_ns is not None and effect.worker_queue_ns >= _WORTH_NS:
        yield f"{name} waited {duration(effect.worker_queue_ns)} for a worker process"
    last = effect.attempts[-1] if effect.attempts else None
    after = "" if last is None or last.end_ns is None else f" after {duration(last.end_ns - last.start_ns)}"
    if effect.not_again and effect.end == "failed":
        yield f"{name}{optional} was not tried again: {_error(effect.error)}"
    elif total > 1 and effect.end in ("ok", "failed"):
        how = f"succeeded{after}" if effect.end == "ok" else f"failed for good{after}: {_error(effect.error)}"
        yield f"{name}: attempt {total} of {_at(effect)} {how}"
    elif total == 1 and effect.end == "failed":
        yield f"{name}{optional} failed{after}: {_error(effect.error)}"
    for change in effect.breaker:
        yield f"{name}: the breaker of {effect.note.target} went from {change.before} to {change.after}"
    yield from _left(need, effect)


def _left(need: NeedSpan, effect: EffectSpan) -> Iterator[str]:
    """What became of one that its Need did not wait for."""
    name = effect.note.label
    optional = "" if effect.note.required else " (optional)"
    if effect.end == "cancelled":
        begun = "before it was begun" if effect.start_ns is None else f"after {_ran(effect)}"
        why = {
            "resumed": f"dropped by the join ({need.note.join})",
            "failed": "cancelled, as the Need had failed",
            "given up": "cancelled, as the request had ended",
        }[need.state]
        yield f"{name}{optional} was {why}, {begun}"
    elif effect.late and effect.end_ns is not None and need.end_ns is not None:
        how = "went on in the background, and ended" if need.note.detach else "was late: it ended"
        yield f"{name}{optional} {how} {duration(effect.end_ns - need.end_ns)} after the join"
    elif effect.end == "unfinished" and effect.start_ns is not None:
        yield f"{name}{optional} went on in the background"
    elif effect.end == "unfinished":
        yield f"{name}{optional} was never begun"


def _ran(effect: EffectSpan) -> str:
    assert effect.start_ns is not None
    return duration((effect.end_ns or effect.start_ns) - effect.start_ns)


def _at(effect: EffectSpan) -> str:
    return effect.note.what or effect.note.target


def _error(error: ErrorNote | None) -> str:
    if error is None:
        return "INTERNAL"
    return f"{error.kind}: {error.what}" if error.what else error.kind
