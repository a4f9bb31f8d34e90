"""Spans of a kept trace, as OpenTelemetry has them. Pure; made after the request, elsewhere.

    request (server)
      step (internal)         a run of it, and the wait for what it asked for
        effect (client)       one for each attempt
          job (internal)      what of it was a wait for a place or a worker, if that was long
      job (internal)          the same of a wait for a first step, or for a turn

All ids follow from the request's (:mod:`zerver.trace.trace_context`): those of attempts are what upstreams were told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from .record import ErrorNote, TraceRecord
from .span_attributes import Attributes, SpanSettings, effect_attributes, effect_name, request_attributes
from .timeline import AttemptSpan, EffectSpan, NeedSpan, Segment, StepSpan, Timeline, timeline
from .trace_context import TraceContext, attempt_span_id, context_of, own_context, span_id

__all__ = ["PARKED_NS", "SpanData", "SpanEvent", "SpanKind", "spans"]

PARKED_NS = 5_000_000
"""A wait that is longer is a span."""

SpanKind: TypeAlias = Literal["server", "internal", "client"]
_WAITS = {"queue": "first step", "turn": "turn"}  # segments of the critical path


class SpanEvent(msgspec.Struct, frozen=True):
    """Something in a span."""

    name: str
    at_ns: int
    attributes: Attributes = {}


class SpanData(msgspec.Struct, frozen=True, kw_only=True):
    """One span. Times are wall clock, nanoseconds since the epoch."""

    context: TraceContext
    """The trace; its ``span_id`` is that of the caller."""
    name: str
    kind: SpanKind
    span_id: str
    parent_id: str
    """Empty where it has none."""
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: tuple[SpanEvent, ...] = ()
    failed: bool = False
    """Whether its status is an error."""
    description: str = ""


def spans(record: TraceRecord, settings: SpanSettings = SpanSettings()) -> list[SpanData]:  # noqa: B008  # frozen
    """All spans of a trace that is exported; the request's first, parents before their children."""
    return list(_Tree(record, settings).spans())


class _Tree:
    def __init__(self, record: TraceRecord, settings: SpanSettings) -> None:
        self._record = record
        self._settings = settings
        self._context = _context(record)
        self._root = span_id(record.id, "request")
        self._raw = {(one.need, one.effect): one.raw for one in record.results if one.raw is not None}

    def spans(self) -> Iterator[SpanData]:
        record, line = self._record, timeline(self._record)
        yield self._request(line)
        parent, steps = self._root, 0
        for position, part in enumerate(line.parts):
            if isinstance(part, StepSpan):
                parent = span_id(record.id, "step", steps)
                steps += 1
                following = line.parts[position + 1] if position + 1 < len(line.parts) else None
                yield self._step(part, following if isinstance(following, NeedSpan) else None, parent)
            else:
                for effect in part.effects:
                    yield from self._effect(part, effect, parent)
        for number, segment in enumerate(line.critical):
            if segment.kind in _WAITS and segment.took_ns > PARKED_NS:
                yield self._wait(segment, number)

    def _request(self, line: Timeline) -> SpanData:
        record = self._record
        attributes = request_attributes(record, self._settings)
        fault = record.why == "error" if record.status is None else record.status >= 500
        description = ""
        if isinstance(line.failure, ErrorNote):
            attributes["zerver.error"] = line.failure.kind
            description = line.failure.what if fault else ""
            if fault and "error.type" not in attributes:
                attributes["error.type"] = line.failure.kind
        elif line.failure is not None:
            attributes["zerver.given_up"] = line.failure
        route = attributes.get("http.route")
        method = str(attributes["http.request.method"]).replace("_OTHER", "HTTP")
        return self._span(
            f"{method} {route}" if route else method, "server", self._root, self._context.span_id, 0, record.took_ns,
            attributes, failed=fault, description=description,
        )  # fmt: skip

    def _step(self, step: StepSpan, need: NeedSpan | None, own: str) -> SpanData:
        took = self._record.took_ns
        end = took if step.end_ns is None else step.end_ns
        attributes: Attributes = {"code.function.name": step.name}
        if step.outcome:
            attributes["zerver.outcome"] = step.outcome
        if step.moved is not None:
            attributes["zerver.moved_to"] = step.moved.to
        events: tuple[SpanEvent, ...] = ()
        if need is not None:
            events = (self._event("need", end, {"zerver.join": need.note.join, "zerver.mode": need.note.mode}),)
            end = took if need.end_ns is None else need.end_ns
            attributes["zerver.need"] = need.number
            attributes["zerver.need.state"] = need.state
        raised = step.outcome == "StepRaised"
        if raised:
            attributes["error.type"] = "StepRaised"
        return self._span(
            step.name, "internal", own, self._root, step.start_ns, end, attributes, events=events, failed=raised
        )

    def _effect(self, need: NeedSpan, effect: EffectSpan, parent: str) -> Iterator[SpanData]:
        if effect.attempts:
            for attempt in effect.attempts:
                yield from self._attempt(need, effect, attempt, parent)
        elif effect.start_ns is not None:  # refused, or cancelled before there was a place for it
            yield from self._attempt(need, effect, AttemptSpan(0, effect.start_ns, effect.end_ns, 0), parent)

    def _attempt(self, need: NeedSpan, effect: EffectSpan, attempt: AttemptSpan, parent: str) -> Iterator[SpanData]:
        last = attempt.number == len(effect.attempts)
        own = attempt_span_id(self._record.id, need.number, effect.index, attempt.number)
        attributes = effect_attributes(effect.note, attempt.number, self._settings)
        end = attempt.end_ns
        if end is None:
            end = self._record.took_ns if effect.end_ns is None else effect.end_ns
        error = effect.error if last else attempt.error
        events: tuple[SpanEvent, ...] = ()
        if last:
            attributes["zerver.effect.end"] = effect.end
            if effect.late:
                attributes["zerver.effect.late"] = True
            if effect.critical:
                attributes["zerver.effect.critical"] = True
            if effect.breaker:
                attributes["zerver.breaker"] = effect.breaker[-1].after
        else:
            wait: Attributes = {"zerver.retry.wait": attempt.wait_ns / 1e9}
            events = (self._event("retry", end, wait),)
        failed = not last or effect.end == "failed"
        status = error.status if error is not None else None
        if effect.note.family == "http":
            if error is None and effect.end == "ok":
                status = self._answered(need.number, effect.index)
            if status is not None:
                attributes["http.response.status_code"] = status
        if failed:
            kind = "_OTHER" if error is None else error.kind
            attributes["error.type"] = kind if status is None else str(status)
        start = attempt.start_ns - attempt.queued_ns
        yield self._span(
            effect_name(effect.note, self._settings), "client", own, parent, start, max(end, start), attributes,
            events=events, failed=failed, description="" if error is None or not failed else error.what,
        )  # fmt: skip
        if attempt.queued_ns > PARKED_NS:
            yield self._job("place", span_id(self._record.id, own, "place"), own, start, attempt.start_ns)
        queued = effect.worker_queue_ns
        if last and queued is not None and queued > PARKED_NS:
            until = attempt.start_ns + queued
            yield self._job("worker", span_id(self._record.id, own, "worker"), own, attempt.start_ns, until)

    def _answered(self, need: int, effect: int) -> int | None:
        """With what an upstream succeeded, where that was recorded."""
        raw = self._raw.get((need, effect))
        try:
            return None if raw is None else _status.decode(raw).status
        except msgspec.MsgspecError:  # of an app's own driver
            return None

    def _wait(self, segment: Segment, number: int) -> SpanData:
        own = span_id(self._record.id, "job", number)
        return self._job(_WAITS[segment.kind], own, self._root, segment.start_ns, segment.end_ns)

    def _job(self, waits_for: str, own: str, parent: str, start: int, end: int) -> SpanData:
        return self._span(f"wait: {waits_for}", "internal", own, parent, start, end, {"zerver.waits_for": waits_for})

    def _event(self, name: str, at_ns: int, attributes: Attributes) -> SpanEvent:
        return SpanEvent(name, self._record.started_ns + at_ns, attributes)

    def _span(
        self,
        name: str,
        kind: SpanKind,
        own: str,
        parent: str,
        start: int,
        end: int,
        attributes: Attributes,
        *,
        events: tuple[SpanEvent, ...] = (),
        failed: bool = False,
        description: str = "",
    ) -> SpanData:
        epoch = self._record.started_ns
        return SpanData(
            context=self._context, name=name, kind=kind, span_id=own, parent_id=parent, start_ns=epoch + start,
            end_ns=epoch + end, attributes=attributes, events=events, failed=failed, description=description,
        )  # fmt: skip


def _context(record: TraceRecord) -> TraceContext:
    """As :class:`~zerver.trace.propagation.Propagation` had it. A ``traceparent`` that is redacted is in ``parent``."""
    headers = [(name, value) for name, value in record.request.headers if name == b"tracestate"]
    if record.parent:
        headers.append((b"traceparent", record.parent.encode("latin-1", "replace")))
    return context_of(headers) or own_context(record.id, sampled=True)


class _Status(msgspec.Struct):
    status: int


_status = msgspec.msgpack.Decoder(_Status)  # of a kept HttpResult
