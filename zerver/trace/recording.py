"""From a request that is over to its kept trace. It takes some tenths of a millisecond: not for the hot path."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.breaker import StateChange
from zerver_runtime.reactor.compute_pool import ComputeRun
from zerver_runtime.reactor.effector import Retrying
from zerver_runtime.reactor.offloading import Move

from ..codec import Undecodable
from ..compiled_step import CompiledStep
from ..decision import Need
from ..effect import Effect
from ..effect_results import interpret
from ..effects.http import HttpResult
from ..effects.sql import SqlRows
from ..error import DefinitionError, Error
from ..execution import Execution
from ..redaction import Redaction
from ..request import Request
from ..response import Response
from ..signals import DetachEffect, StartEffect
from . import values
from .notes import error_note, need_note, source_digest
from .reading import read_events
from .record import (
    BreakerNote,
    ComputeNote,
    Detail,
    EventNote,
    GivenNote,
    MoveNote,
    OutcomeNote,
    RequestNote,
    ResponseNote,
    ResultNote,
    RetryNote,
    Row,
    StepNote,
    TraceRecord,
    Why,
    encode,
)
from .values import LARGEST, Snapshot

__all__ = ["Recording"]

_RESULTS: Final = 4 * 1024 * 1024  # bytes of what drivers gave, of a request, after which no more is kept
_EVENTS: Final = 2_000  # of a request; a step that asks for effects in a loop may have any number


class Recording:
    """For the requests of one engine. ``bodies``: whether bodies, and what drivers gave, are kept."""

    def __init__(self, redaction: Redaction, *, bodies: bool, engine: str, scheduler: int = 0) -> None:
        self._redaction = redaction
        self._bodies = bodies
        self._engine = engine
        self._scheduler = scheduler
        self._steps: dict[tuple[str, str], StepNote] = {}  # by place and name: closures are made for each request

    def row(self, run: Execution, why: Why, epoch_ns: int) -> Row:
        """The trace as the store takes it. ``epoch_ns``: what wall clock has over the engine's."""
        record = self.record(run, why, epoch_ns)
        failure = run.failure
        return Row(
            id=record.id,
            route=record.route,
            method=record.request.method,
            path=record.request.path,
            status=record.status,
            started_ns=record.started_ns,
            took_ns=record.took_ns,
            why=why,
            client=record.client,
            scheduler=record.scheduler,
            error=failure.kind.name if isinstance(failure, Error) else "",
            data=encode(record),
        )

    def record(self, run: Execution, why: Why, epoch_ns: int) -> TraceRecord:
        """What is kept of a request that is over."""
        request, response = run.request, run.response
        told = tuple(run.events or ())
        short = told[:_EVENTS]
        parent = request.header(b"traceparent")
        return TraceRecord(
            id=request.id,
            route=run.route,
            why=why,
            started_ns=epoch_ns + run.started_ns,
            took_ns=run.ended_ns - run.started_ns,
            deadline_ns=run.deadline_ns - run.started_ns,
            status=None if response is None else response.status,
            client=request.client_ip,
            engine=self._engine,
            scheduler=self._scheduler,
            request=self._request(request),
            response=None if response is None else self._response(response),
            events=tuple(
                [
                    EventNote(
                        one.kind,
                        one.at_ns - run.started_ns,
                        one.name,
                        one.need,
                        one.effect,
                        _detail(one.detail, self._redaction),
                    )
                    for one in read_events(run, short, cut=len(told) > _EVENTS)
                ]
            ),
            results=tuple(self._results(short)),
            given=tuple([_given(kind, value) for kind, value in run.given or ()]),
            steps=tuple(dict.fromkeys([self._step(step) for step in (*run.steps, *_ran(short))])),
            parent="" if parent is None else parent.decode("latin-1"),
        )

    def _request(self, request: Request) -> RequestNote:
        redaction, found, size = self._redaction, list[str](), len(request.body)
        headers = redaction.headers(request.headers, found)
        query = redaction.query(request.query, found)
        body: bytes | None = b""
        if size:
            body = None
            if self._bodies and size <= LARGEST and not request.header(b"content-encoding"):
                body = redaction.body(request.body, request.header(b"content-type") or b"", found)
        return RequestNote(request.method, request.path, query, headers, body, size, tuple(found))

    def _response(self, response: Response) -> ResponseNote:
        redaction, body = self._redaction, response.body
        headers = redaction.headers(response.headers)
        if not isinstance(body, bytes):
            return ResponseNote(response.status, headers, None, None)
        fields = dict(response.headers)
        kept = None
        if self._bodies and len(body) <= LARGEST and "content-encoding" not in fields:  # who knows what is in that
            kept = redaction.body(body, fields.get("content-type", "").encode("latin-1"), [])
        return ResponseNote(response.status, headers, kept if body else b"", len(body))

    def _results(self, events: tuple[Any, ...]) -> Iterator[ResultNote]:
        """What each effect came to, as its driver gave it."""
        retries: dict[tuple[int, int], int] = {}
        kept = 0
        for event in events:
            if event is None or len(event) != 5 or not isinstance(event[0], str):
                continue
            name, _, start, detail, raw = event
            place = (start.need, start.effect)
            if name == "EffectRetry":
                retries[place] = retries.get(place, 0) + 1
            elif name == "ReactorEffectCompleted":
                attempts = retries.get(place, 0) + 1
                note = self._result(start, attempts, detail, raw, kept < _RESULTS)
                kept += len(note.raw or b"")
                yield note

    def _result(
        self, start: StartEffect | DetachEffect, attempts: int, outcome: Outcome, raw: Any, room: bool
    ) -> ResultNote:
        effect, need, index = start.what, start.need, start.effect
        if isinstance(outcome, Success):
            kept, missing, redacted = self._raw(effect, raw, room)
            return ResultNote(need, index, attempts, None, kept, missing, redacted)
        error = error_note(outcome.error)
        # What the last attempt gave, or one before it: only if it leads to this failure, it is what this one came of.
        if raw is not None and _failure_of(effect, raw) == outcome.error:
            kept, _, redacted = self._raw(effect, raw, room)
            if kept is not None and not redacted:
                return ResultNote(need, index, attempts, error, kept)
        detail = outcome.error.detail if isinstance(outcome.error, Error) else None
        if not detail or detail == {"status": error.status}:
            return ResultNote(need, index, attempts, error)
        found: list[str] = []
        try:
            data = values.pack(self._redaction.value(dict(detail), found))
        except values.UNENCODABLE:
            return ResultNote(need, index, attempts, error, missing="the detail of its error cannot be encoded")
        return ResultNote(need, index, attempts, error, redacted=tuple(found), detail=data)

    def _raw(self, effect: Effect[Any], raw: Any, room: bool) -> tuple[bytes | None, str, tuple[str, ...]]:
        """What a driver gave, packed; or why it is not; and what is redacted in it. ``room``: whether there is any."""
        if not self._bodies:
            return None, "trace.bodies is off", ()
        if not room:
            return None, f"what came before it has {_RESULTS} bytes, and more is not kept", ()
        try:
            return self._kept(effect, raw)
        except (msgspec.MsgspecError, *values.UNENCODABLE):  # it is nested too deeply, for one
            return None, "it may hold secrets, and cannot be looked through", ()

    def _kept(self, effect: Effect[Any], raw: Any) -> tuple[bytes | None, str, tuple[str, ...]]:
        redaction, found, data = self._redaction, list[str](), None
        wanted: Any = None
        if isinstance(raw, Snapshot):
            raw, data, why = raw.raw, raw.data, raw.why
            wanted = effect.result_type if effect.family in ("call", "compute", "actor") else None
            if data is None:
                return None, why, ()
        match raw:
            case HttpResult(body=body) | (bytes() as body) if len(body) > LARGEST:
                return None, _too_large(len(body)), ()
            case HttpResult():
                wanted = HttpResult
                headers = redaction.headers(raw.headers, found)
                kind = (raw.header("content-type") or "").encode("latin-1", "replace")
                redacted_body = redaction.body(raw.body, kind, found)
                if redacted_body is None:
                    return None, "its body may hold secrets", ()
                raw = HttpResult(raw.status, headers, redacted_body)
            case bytes():
                raw = redaction.body(raw, b"", found)
                if raw is None:
                    return None, "it may hold secrets", ()
            case SqlRows() | [SqlRows(), *_]:
                if any(redaction.secret(column) for column in _columns(raw)):
                    return None, "a column of it is secret", ()
                several = [self._rows(rows, found) for rows in ([raw] if isinstance(raw, SqlRows) else raw)]
                wanted, raw = (SqlRows, several[0]) if isinstance(raw, SqlRows) else (list[SqlRows], several)
            case str():
                raw = redaction.value(raw, found)
            case [list() as items, cursor] if effect.op == "scan":
                kept = [(key, redaction.body(one, b"", found)) for key, one in items]
                if any(one is None for _, one in kept):
                    return None, "a value of it may hold secrets", ()
                raw = (kept, cursor)
            case _ if data is not None:
                plain = values.unpack(data)
                redacted = redaction.value(plain, found)
                if redacted is not plain:
                    raw, data, wanted = redacted, None, None
        packed, missing = _packed(raw, data, wanted)
        return packed, missing, tuple(found)

    def _rows(self, rows: SqlRows, found: list[str]) -> SqlRows:
        """As they are read again."""
        plain = [list(row) for row in rows.rows]
        kept = self._redaction.value(plain, found, "rows")
        if kept is not plain:
            return msgspec.structs.replace(rows, rows=[tuple(row) for row in kept])
        return rows if type(rows.rows) is list else msgspec.structs.replace(rows, rows=list(rows.rows))

    def _step(self, step: CompiledStep) -> StepNote:
        key = (step.where, step.name)
        note = self._steps.get(key)
        if note is None:
            note = self._steps[key] = StepNote(step.name, step.where, source_digest(step.fn))
        return note


def _ran(events: tuple[Any, ...]) -> Iterator[CompiledStep]:
    for event in events:
        if event is not None and len(event) == 5 and not isinstance(event[0], str):
            yield event[1]


def _columns(raw: Any) -> Iterator[str]:
    for rows in raw if isinstance(raw, (list, tuple)) else (raw,):
        if isinstance(rows, SqlRows):
            yield from rows.columns


def _given(kind: Any, value: Any) -> GivenNote:
    if isinstance(value, datetime):
        value = value.isoformat()
    elif isinstance(value, UUID):
        value = str(value)
    return GivenNote(kind, value)


def _packed(raw: Any, data: bytes | None, wanted: Any) -> tuple[bytes | None, str]:
    """``data``: the fast form, if it was taken when ``raw`` was new; ``raw`` may be another by now."""
    try:
        now = values.encode(raw)
        if len(data or now) > LARGEST:
            return None, _too_large(len(data or now))
        if data is None or data == now:
            if values.comes_back(now, wanted, raw):
                return now, ""
            full = values.pack(raw)
            if values.comes_back(full, wanted, raw):
                return full, ""
        elif type(values.unpack(data, wanted)) is type(raw):
            return data, ""
    except (msgspec.MsgspecError, Undecodable, DefinitionError, *values.UNENCODABLE):
        return None, f"a {type(raw).__name__} cannot be encoded"
    return None, f"a {type(raw).__name__} cannot be encoded so that it comes back as one"


def _too_large(size: int) -> str:
    return f"it has {size} bytes, more than are kept"


def _failure_of(effect: Effect[Any], raw: Any) -> object:
    """The error that is made of what a driver gave; ``None``: none is, or a bug."""
    try:
        outcome = interpret(effect, raw, lambda: 0.0)
    except Exception:  # of an app's own type
        return None
    return outcome.error if isinstance(outcome, Failure) else None


# Events


def _detail(detail: Any, redaction: Redaction) -> Detail:
    match detail:
        case None | str() | int() | float():
            return detail
        case Success():
            return OutcomeNote(True)
        case Failure():
            return OutcomeNote(False, error_note(detail.error))
        case Need():
            return need_note(detail, redaction)
        case Retrying():
            return RetryNote(detail.wait, error_note(detail.error))
        case StateChange():
            return BreakerNote(detail.before, detail.after)
        case Move():
            return MoveNote(detail.to, detail.took_ns, detail.cpu_ns)
        case ComputeRun():
            return ComputeNote(detail.end, detail.seconds, detail.cpu_seconds)
        case Error():
            return error_note(detail)
        case _:
            return type(detail).__name__
