"""One kept trace, as the page gets it: the same timeline and the same sentences as in the terminal. Pure.

Text from outside is made printable, so that no control or direction mark changes how the rest of a line reads; the page
shows it as text, never as markup.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ..server.log import printable
from ..trace.reasons import duration, queues, reasons
from ..trace.record import ErrorNote, ResultNote, StepNote, TraceRecord, Why
from ..trace.timeline import Segment, SegmentKind, timeline
from ..trace.waterfall import Bar, BarKind, WaterfallRow, waterfall
from .listing import Level, level_of

__all__ = ["TraceDocument", "trace_document"]

_TEXT = 64 * 1024  # characters of a body or a result that are shown
_TICKS = 6  # at most, on the axis
_LINE = re.compile(r"[^\n\t]+")


class AxisTick(msgspec.Struct, frozen=True):
    """A mark on the axis of times."""

    at_ns: int
    text: str


class BarView(msgspec.Struct, frozen=True):
    """A stretch of a row; ``tells`` is the same in words."""

    kind: BarKind
    start_ns: int
    end_ns: int
    tells: str


class RowView(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the waterfall."""

    kind: str
    label: str
    about: str
    start_ns: int | None
    end_ns: int | None
    took: str
    end: str
    fate: str
    critical: bool
    required: bool
    attempts: int
    bars: tuple[BarView, ...]


class SegmentView(msgspec.Struct, frozen=True):
    """A part of the critical path."""

    kind: SegmentKind
    name: str
    start_ns: int
    end_ns: int
    took: str
    share: int
    """Percent of the request."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body, as far as it was kept. ``text`` is ``None`` where there is no text to show, and ``note`` says why."""

    text: str | None
    note: str = ""


class MessageView(msgspec.Struct, frozen=True):
    """Headers and body of the request or of the answer."""

    headers: tuple[tuple[str, str], ...]
    body: Body


class ResultView(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver gave for an effect."""

    label: str
    about: str
    attempts: int
    error: str
    body: Body


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """An event, as it was recorded."""

    at: str
    kind: str
    name: str
    need: int
    effect: int
    detail: str


class TraceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page shows of one trace."""

    id: str
    route: str
    method: str
    target: str
    """The path, with its query."""
    status: int | None
    level: Level
    why: Why
    started_ms: int
    took: str
    took_ns: int
    client: str
    engine: str
    scheduler: int
    parent: str
    queued: str
    reasons: tuple[str, ...]
    ticks: tuple[AxisTick, ...]
    rows: tuple[RowView, ...]
    critical: tuple[SegmentView, ...]
    steps: tuple[StepNote, ...]
    ran: tuple[str, ...]
    """The names of the steps that ran."""
    request: MessageView
    redacted: tuple[str, ...]
    response: MessageView | None
    results: tuple[ResultView, ...]
    events: tuple[EventView, ...]


def trace_document(record: TraceRecord) -> TraceDocument:
    """The document of a kept trace."""
    line = timeline(record)
    request, response = record.request, record.response
    query = "?" + request.query.decode("latin-1") if request.query else ""
    headers = tuple([(_text(name), _text(value)) for name, value in request.headers])
    return TraceDocument(
        id=printable(record.id),
        route=printable(record.route),
        method=printable(request.method),
        target=printable(request.path + query),
        status=record.status,
        level=level_of(record.status),
        why=record.why,
        started_ms=record.started_ns // 1_000_000,
        took=duration(record.took_ns),
        took_ns=record.took_ns,
        client=printable(record.client) or "a Unix socket",
        engine=record.engine or "?",
        scheduler=record.scheduler,
        parent=printable(record.parent),
        queued=queues(line),
        reasons=tuple([printable(sentence) for sentence in reasons(record, line)]),
        ticks=tuple(_ticks(record.took_ns)),
        rows=tuple([_row(row) for row in waterfall(line)]),
        critical=tuple([_segment(one, record.took_ns) for one in line.critical]),
        steps=record.steps,
        ran=tuple(dict.fromkeys(step.name for step in line.steps)),
        request=MessageView(headers, _body(request.body, headers, request.size)),
        redacted=tuple([printable(place) for place in request.redacted]),
        response=None if response is None else _response(response.headers, response.body),
        results=tuple(_results(record)),
        events=tuple(_events(record)),
    )


def _response(items: tuple[tuple[str, str], ...], body: bytes | None) -> MessageView:
    headers = tuple([(printable(name), printable(value)) for name, value in items])
    return MessageView(headers, _body(body, headers, None))


def _text(value: bytes) -> str:
    return printable(value.decode("latin-1"))


def _row(row: WaterfallRow) -> RowView:
    return RowView(
        kind=row.kind,
        label=printable(row.label),
        about=printable(row.about),
        start_ns=row.start_ns,
        end_ns=row.end_ns,
        took="" if row.start_ns is None else duration(row.took_ns),
        end=row.end,
        fate=row.fate,
        critical=row.critical,
        required=row.required,
        attempts=row.attempts,
        bars=tuple([BarView(bar.kind, bar.start_ns, bar.end_ns, _tells(bar)) for bar in row.bars]),
    )


_BARS: dict[BarKind, str] = {
    "queue": "waited for its first step",
    "turn": "waited for its turn",
    "step": "ran",
    "need": "waited for its effects",
    "place": "waited for a place at its target",
    "worker": "waited for a worker process",
    "run": "attempt",
    "failed": "failed attempt",
    "retry": "waited before attempt",
}


def _tells(bar: Bar) -> str:
    number = f" {bar.attempt}" if bar.attempt and bar.kind in ("run", "failed", "retry") else ""
    return f"{_BARS[bar.kind]}{number}: {duration(bar.end_ns - bar.start_ns)}"


def _segment(one: Segment, took_ns: int) -> SegmentView:
    share = round(100 * one.took_ns / max(took_ns, 1))
    return SegmentView(one.kind, printable(one.name), one.start_ns, one.end_ns, duration(one.took_ns), share)


def _ticks(took_ns: int) -> Iterator[AxisTick]:
    """Round times, from 0 up to the end."""
    step = 1
    while took_ns // step >= _TICKS:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    for at_ns in range(0, took_ns + 1, step):
        yield AxisTick(at_ns, "0" if at_ns == 0 else duration(at_ns))


def _body(body: bytes | None, headers: tuple[tuple[str, str], ...], size: int | None) -> Body:
    if body is None:
        return Body(text=None, note="not kept" if size is None else f"not kept: {size} bytes")
    if not body:
        return Body(text=None, note="empty")
    kind = next((value for name, value in headers if name.lower() == "content-type"), "")
    if "json" in kind.lower():
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            body = msgspec.json.format(body, indent=2)
    try:
        return _shown(body.decode())
    except UnicodeDecodeError:
        return Body(text=None, note=f"{len(body)} bytes that are no text")


def _shown(text: str) -> Body:
    note = f"the first {_TEXT} of {len(text)} characters" if len(text) > _TEXT else ""
    return Body(text=_LINE.sub(lambda found: printable(found[0]), text[:_TEXT]), note=note)


def _results(record: TraceRecord) -> Iterator[ResultView]:
    effects = {(need.number, one.index): one.note for need in timeline(record).needs for one in need.effects}
    for result in record.results:
        note = effects.get((result.need, result.effect))
        yield ResultView(
            label=printable(note.label) if note is not None else f"effect {result.effect} of need {result.need}",
            about=printable(note.what or note.target) if note is not None else "",
            attempts=result.attempts,
            error="" if result.error is None else printable(_error(result.error)),
            body=_raw(result),
        )


def _raw(result: ResultNote) -> Body:
    if result.raw is None:
        return Body(text=None, note=printable(result.missing) or ("failed" if result.error is not None else "nothing"))
    try:
        value = msgspec.msgpack.decode(result.raw)
        return _shown(msgspec.json.format(msgspec.json.encode(_readable(value)), indent=2).decode())
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return Body(text=None, note=f"{len(result.raw)} bytes that cannot be shown")


def _readable(value: Any) -> Any:
    """What MessagePack gives, as JSON can say it: bytes as text where they are text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return f"({len(value)} bytes)"
    if isinstance(value, dict):
        return {str(_readable(name)): _readable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(inner) for inner in value]
    if isinstance(value, msgspec.msgpack.Ext):
        return f"({len(bytes(value.data))} bytes)"
    return value


def _events(record: TraceRecord) -> Iterator[EventView]:
    for event in record.events:
        detail = event.detail
        if not isinstance(detail, str):
            detail = "" if detail is None else msgspec.json.encode(detail).decode()
        yield EventView(
            at=duration(event.at_ns),
            kind=event.kind.name,
            name=printable(event.name),
            need=event.need,
            effect=event.effect,
            detail=printable(detail),
        )


def _error(error: ErrorNote) -> str:
    return f"{error.kind}: {error.what}" if error.what else error.kind
