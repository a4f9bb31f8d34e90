"""From a request that is over to its kept trace. It takes some tenths of a millisecond: not for the hot path."""

from __future__ import annotations

import enum
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.breaker import StateChange
from zerver_runtime.reactor.compute_pool import ComputeRun
from zerver_runtime.reactor.effector import Retrying
from zerver_runtime.reactor.offloading import Move

from ..decision import Need
from ..effect import Effect
from ..effects.http import HttpResult
from ..effects.sql import SqlRows
from ..error import Error
from ..execution import Execution
from ..request import Request
from ..response import Response
from ..step import CompiledStep
from .reading import read_events
from .record import (
    BreakerNote,
    ComputeNote,
    Detail,
    EffectNote,
    ErrorNote,
    EventNote,
    GivenNote,
    MoveNote,
    NeedNote,
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
from .redaction import Redaction

__all__ = ["Recording"]

_BODY: Final = 64 * 1024  # bytes of a body, or of what a driver gave, that are kept
_WHAT: Final = 200  # characters that tell of an effect
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
        state = run.state
        request, response = state.request, run.response
        short = tuple(run.events or ())[:_EVENTS]
        parent = request.header(b"traceparent")
        return TraceRecord(
            id=request.id,
            route=run.route,
            why=why,
            started_ns=epoch_ns + state.started_ns,
            took_ns=run.ended_ns - state.started_ns,
            status=None if response is None else response.status,
            client=request.client_ip,
            engine=self._engine,
            scheduler=self._scheduler,
            request=self._request(request),
            response=None if response is None else self._response(response),
            events=tuple(
                [
                    EventNote(
                        one.kind, one.at_ns - state.started_ns, one.name, one.need, one.effect, _detail(one.detail)
                    )
                    for one in read_events(run, short)
                ]
            ),
            results=tuple(self._results(short)),
            given=tuple([_given(kind, value) for kind, value in state.given or ()]),
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
            if self._bodies and size <= _BODY:
                body = redaction.body(request.body, request.header(b"content-type") or b"", found)
        return RequestNote(request.method, request.path, query, headers, body, size, tuple(found))

    def _response(self, response: Response) -> ResponseNote:
        redaction, body = self._redaction, response.body
        headers = redaction.headers(response.headers)
        if not isinstance(body, bytes):
            return ResponseNote(response.status, headers, None, None)
        kind = dict(response.headers).get("content-type", "").encode("latin-1")
        kept = redaction.body(body, kind, []) if self._bodies and len(body) <= _BODY else None
        return ResponseNote(response.status, headers, kept if body else b"", len(body))

    def _results(self, events: tuple[Any, ...]) -> Iterator[ResultNote]:
        """What each effect came to, as its driver gave it."""
        retries: dict[tuple[int, int], int] = {}
        for event in events:
            if event is None or len(event) != 5 or not isinstance(event[0], str):
                continue
            name, _, start, detail, raw = event
            place = (start.need, start.effect)
            if name == "EffectRetry":
                retries[place] = retries.get(place, 0) + 1
            elif name == "ReactorEffectCompleted":
                attempts = retries.get(place, 0) + 1
                if isinstance(detail, Failure):
                    yield ResultNote(*place, attempts, error=_error(detail.error))
                else:
                    kept, missing = self._raw(start.what, raw)
                    yield ResultNote(*place, attempts, raw=kept, missing=missing)

    def _raw(self, effect: Effect[Any], raw: Any) -> tuple[bytes | None, str]:
        """What a driver gave, encoded; or why it is not."""
        if not self._bodies:
            return None, "trace.bodies is off"
        redaction = self._redaction
        if isinstance(raw, HttpResult):
            headers = redaction.headers(raw.headers)
            kind = (raw.header("content-type") or "").encode("latin-1", "replace")
            body = redaction.body(raw.body, kind, [])
            if body is None:
                return None, "its body may hold secrets"
            raw = HttpResult(raw.status, headers, body)
        elif any(redaction.secret(column) for column in _columns(raw)):
            return None, "a column of it is secret"
        try:
            data = _results.encode(raw)
        except (TypeError, ValueError, RecursionError, OverflowError):
            return None, f"a {type(raw).__name__} cannot be encoded"
        if len(data) > _BODY:
            return None, f"it has {len(data)} bytes, more than are kept"
        return data, ""

    def _step(self, step: CompiledStep) -> StepNote:
        key = (step.where, step.name)
        note = self._steps.get(key)
        if note is None:
            note = self._steps[key] = StepNote(step.name, step.where, _source_digest(step.fn))
        return note


def _ran(events: tuple[Any, ...]) -> Iterator[CompiledStep]:
    for event in events:
        if event is not None and len(event) == 5 and not isinstance(event[0], str):
            yield event[1]


def _columns(raw: Any) -> Iterator[str]:
    for rows in raw if isinstance(raw, (list, tuple)) else (raw,):
        if isinstance(rows, SqlRows):
            yield from rows.columns


def _source_digest(fn: object) -> str:
    try:
        source = inspect.getsource(inspect.unwrap(fn))  # type: ignore[arg-type]  # other callables raise TypeError
    except (OSError, TypeError, ValueError):
        return ""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _given(kind: Any, value: Any) -> GivenNote:
    if isinstance(value, datetime):
        value = value.isoformat()
    elif isinstance(value, UUID):
        value = str(value)
    return GivenNote(kind, value)


# Events


def _detail(detail: Any) -> Detail:
    match detail:
        case None | str() | int() | float():
            return detail
        case Success():
            return OutcomeNote(True)
        case Failure():
            return OutcomeNote(False, _error(detail.error))
        case Need():
            return _need(detail)
        case Retrying():
            return RetryNote(detail.wait, _error(detail.error))
        case StateChange():
            return BreakerNote(detail.before, detail.after)
        case Move():
            return MoveNote(detail.to, detail.took_ns, detail.cpu_ns)
        case ComputeRun():
            return ComputeNote(detail.end, detail.seconds, detail.cpu_seconds)
        case Error():
            return _error(detail)
        case _:
            return type(detail).__name__


def _error(error: object) -> ErrorNote:
    if not isinstance(error, Error):
        return ErrorNote("INTERNAL", str(error)[:_WHAT])
    status = error.detail.get("status") if isinstance(error.detail, Mapping) else None
    return ErrorNote(
        error.kind.name, error.what, error.key, status if isinstance(status, int) else None, error.retry_after
    )


def _need(need: Need) -> NeedNote:
    then = need.then
    return NeedNote(
        effects=tuple([_effect(one) for one in need.effects]),
        join=need.join,
        mode=need.mode,
        detach=need.detach,
        then=None if then is None else getattr(then, "__name__", type(then).__name__),
        compensations=tuple([one.label for one in need.compensations]),
    )


def _effect(effect: Effect[Any]) -> EffectNote:
    return EffectNote(
        label=effect.label,
        family=effect.family,
        op=effect.op,
        target=effect.target,
        what=_what(effect),
        into=None if effect.into is None else effect.into.__name__,
        required=effect.required,
        timeout=effect.timeout,
        digest=_digest(effect),
    )


_urls = Redaction()


def _what(effect: Effect[Any]) -> str:
    """What it is about, without the values in it."""
    try:
        text = _about(effect)
    except AttributeError:  # an app's own driver of a family has arguments of its own
        text = ""
    return text if len(text) <= _WHAT else text[: _WHAT - 1] + "…"


def _about(effect: Effect[Any]) -> str:
    args = effect.args
    match effect.family:
        case "http":
            return f"{args.method} {_urls.url(args.url)}"
        case "sql":
            statements = args.effects if effect.op == "transaction" else (effect,)
            return "; ".join(" ".join(one.args.sql.split()) for one in statements)
        case "kv" | "cache":
            return str(getattr(args, "key", getattr(args, "prefix", "")))
        case "file":
            return str(args.path)
        case "call" | "compute":
            return str(args.name)
        case _:
            return ""


def _digest(effect: Effect[Any]) -> str:
    try:
        data = _arguments.encode(effect.args)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return ""
    return hashlib.sha256(data).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """What msgspec does not know, for a digest."""
    if isinstance(value, range):
        return [value.start, value.stop, value.step]
    if isinstance(value, (frozenset, set)):
        return sorted(value, key=repr)
    if isinstance(value, Effect):
        return [value.family, value.op, value.target, value.args]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, enum.Enum):
        return value.value
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    raise TypeError(f"a {type(value).__name__} cannot be encoded")


_arguments = msgspec.msgpack.Encoder(enc_hook=_plain, order="deterministic")
_results = msgspec.msgpack.Encoder()
