"""A kept trace: what is left of a request that was worth keeping, as plain data.

It is made after the request, away from its path (:mod:`zerver.trace.recording`), and read by everything that shows,
exports or replays a trace. Encoded it is MessagePack; ``version`` says in which form, and fields that are added later
have defaults, so that old records stay readable. Times are nanoseconds; those of events count from the request's start.

The detail of each event, by its kind:

=======================  ================================================================================
RequestStart, -End       ``None``
StepStart                ``None``
StepEnd                  text: ``Continue``, ``Done``, ``Need``, ``Fail``, ``StepRaised``, or what else it gave
NeedScheduled            :class:`NeedNote`
ReactorEffectScheduled   ``None``
EffectStart              float: seconds that the attempt waited for a place in its bulkhead
EffectRetry              :class:`RetryNote`
ReactorEffectCompleted   :class:`OutcomeNote`; so is EffectLate
EffectCancelled          ``None``
BreakerStateChanged      :class:`BreakerNote`
JoinSatisfied            text: ``resumed`` or ``failed``
ContinuationEnqueued     ``None``; so is ContinuationStart
StepOffloaded            :class:`MoveNote`
ComputeTaskScheduled     int: how many tasks waited for a worker, this one included
ComputeTaskStarted       float: seconds that it waited
ComputeTaskCompleted     :class:`ComputeNote`
OnExit, Done             ``None``
Fail                     :class:`ErrorNote`, or text: why the request was given up
=======================  ================================================================================
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from ..error import ZerverError
from .events import EventKind

__all__ = [
    "VERSION",
    "BreakerNote",
    "ComputeNote",
    "Detail",
    "EffectNote",
    "ErrorNote",
    "EventNote",
    "GivenNote",
    "MoveNote",
    "NeedNote",
    "OutcomeNote",
    "RecordError",
    "RequestNote",
    "ResponseNote",
    "ResultNote",
    "RetryNote",
    "Row",
    "StepNote",
    "Summary",
    "TraceRecord",
    "Why",
    "decode",
    "encode",
]

VERSION = 1

Why: TypeAlias = Literal["error", "slow", "asked", "sampled"]
"""Why a trace was kept; the first of these that held. ``error``: the server's fault (5xx, a bug). ``slow``: slower than
``trace.slow_ms``, or than nearly all of its route. ``asked``: by a header. ``sampled``: one in ``trace.sample``."""


class RecordError(ZerverError):
    """A kept trace cannot be read."""


class ErrorNote(msgspec.Struct, frozen=True, tag="error", omit_defaults=True):
    """An :class:`~zerver.error.Error`, by the name of its kind."""

    kind: str
    what: str = ""
    key: str | None = None
    status: int | None = None
    """What an upstream answered."""
    retry_after: float | None = None


class EffectNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """An effect, as its Need asked for it."""

    label: str
    family: str
    op: str
    target: str
    what: str = ""
    """What of the target it is about, for people: a URL, a statement, a key. At most 200 characters."""
    into: str | None = None
    """The name of its slot."""
    required: bool = True
    timeout: float | None = None
    """Seconds that the app gave it; ``None``: as configured."""
    digest: str = ""
    """Of its arguments: two effects that ask for the same have the same. Empty where there is none to be had."""


class NeedNote(msgspec.Struct, frozen=True, tag="need", omit_defaults=True):
    """What a step asked for."""

    effects: tuple[EffectNote, ...]
    join: str = "all"
    mode: str = "parallel"
    detach: bool = False
    then: str | None = None
    """The name of its continuation."""
    compensations: tuple[str, ...] = ()


class OutcomeNote(msgspec.Struct, frozen=True, tag="outcome", omit_defaults=True):
    """How an effect ended. What it gave is in :attr:`TraceRecord.results`."""

    ok: bool
    error: ErrorNote | None = None


class RetryNote(msgspec.Struct, frozen=True, tag="retry", omit_defaults=True):
    """An attempt failed, and another follows in ``wait`` seconds."""

    wait: float
    error: ErrorNote | None = None


class BreakerNote(msgspec.Struct, frozen=True, tag="breaker"):
    """The breaker of the effect's target: ``closed``, ``open`` or ``half_open``."""

    before: str
    after: str


class MoveNote(msgspec.Struct, frozen=True, tag="move"):
    """A step got another place: ``inline``, ``blocks`` or ``burns``."""

    to: str
    took_ns: int
    cpu_ns: int


class ComputeNote(msgspec.Struct, frozen=True, tag="compute", omit_defaults=True):
    """How a compute task ended, and what it took."""

    end: str
    seconds: float
    cpu_seconds: float | None = None


Detail: TypeAlias = (
    str | int | float | NeedNote | OutcomeNote | RetryNote | BreakerNote | MoveNote | ComputeNote | ErrorNote | None
)


class EventNote(NamedTuple):
    """One event."""

    kind: EventKind
    at_ns: int
    """From the request's start."""
    name: str
    """The step or effect; for ``RequestStart`` the path."""
    need: int
    """Counts the request's Needs from 1; 0 where there is none."""
    effect: int
    """The index in its Need; -1 where there is none."""
    detail: Detail


class RequestNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the client sent, with secrets redacted."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Lower-case name and value, in order."""
    body: bytes | None = b""
    """``None``: it was larger than what is kept, or not to be kept."""
    size: int = 0
    """Bytes of the body."""
    redacted: tuple[str, ...] = ()
    """Where something was redacted: ``header:cookie``, ``query:token``, ``body:password``, ``body`` (all of it)."""


class ResponseNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was answered, with secrets redacted."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = b""
    """``None``: a stream or a file, or larger than what is kept."""
    size: int | None = None
    """Bytes of the body; ``None`` where that is not known beforehand."""


class ResultNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the driver gave for one effect, before decoding; for replay."""

    need: int
    effect: int
    attempts: int = 1
    error: ErrorNote | None = None
    """Of a failure. It has a ``raw`` only if it came of what the driver gave: a status, a body, no row."""
    raw: bytes | None = None
    """What the driver gave, packed (:mod:`zerver.trace.values`): an ``HttpResult``, ``SqlRows`` (a list of them for a
    transaction), what ``kv`` has, or the value of a function."""
    missing: str = ""
    """Why there is no ``raw``: a replay ends at the step that reads it."""
    redacted: tuple[str, ...] = ()
    """Where something in ``raw`` was redacted, as in a :class:`RequestNote`."""
    detail: bytes = b""
    """Of a failure whose ``error`` does not tell all: its ``detail``, packed (:mod:`zerver.trace.values`)."""


class GivenNote(msgspec.Struct, frozen=True):
    """What ``ctx.now()``, ``ctx.random()``, ``ctx.uuid()``, ``ctx.elapsed`` or ``ctx.deadline`` gave."""

    kind: Literal["now", "random", "uuid", "elapsed", "deadline"]
    value: str | float
    """``now``: ISO 8601. ``uuid``: as text."""


class StepNote(msgspec.Struct, frozen=True):
    """A step of the route's pipeline, or a continuation that ran."""

    name: str
    where: str
    """The file and line of its function."""
    digest: str
    """Of its source: it changes when the code does. Empty where the source is not to be had."""


class TraceRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request."""

    version: int = VERSION
    id: str
    """The request's: as in ``x-request-id``, in problem bodies and in the logs."""
    route: str
    """``GET /todos/{id:int}``."""
    why: Why
    started_ns: int
    """Wall clock, nanoseconds since the epoch."""
    took_ns: int
    """From its first byte until it was closed: its answer was sent, or never will be."""
    deadline_ns: int = 0
    """How long it might have taken; 0: not recorded."""
    status: int | None = None
    """``None``: it got no answer."""
    client: str = ""
    engine: str = ""
    scheduler: int = 0
    request: RequestNote
    response: ResponseNote | None = None
    events: tuple[EventNote, ...] = ()
    """In causal order. What goes on in the background after the trace was kept is not among them."""
    results: tuple[ResultNote, ...] = ()
    given: tuple[GivenNote, ...] = ()
    steps: tuple[StepNote, ...] = ()
    parent: str = ""
    """The ``traceparent`` that the client sent, unchecked."""


class Row(NamedTuple):
    """One trace as it is written: text, numbers and bytes only, so that it can go to another process as it is."""

    id: str
    route: str
    method: str
    path: str
    status: int | None
    started_ns: int
    took_ns: int
    why: Why
    client: str
    scheduler: int
    error: str
    data: bytes
    """A :class:`TraceRecord`, encoded."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of traces shows of each."""

    seq: int
    """Its number in the store: later ones are higher."""
    id: str
    route: str
    method: str
    path: str
    status: int | None
    started_ns: int
    took_ns: int
    why: Why
    client: str
    scheduler: int
    error: str
    """The kind of the error that it ended with, or an empty text."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TraceRecord)


class _Version(msgspec.Struct):
    version: int = VERSION


_version = msgspec.msgpack.Decoder(_Version)


def encode(record: TraceRecord) -> bytes:
    """MessagePack."""
    return _encoder.encode(record)


def decode(data: bytes) -> TraceRecord:
    """The record in ``data``.

    :raises RecordError: it is none, or of a later version.
    """
    try:
        version = _version.decode(data).version
        if version > VERSION:
            raise RecordError(f"the trace is of version {version}; this Zerver reads up to {VERSION}")
        return _decoder.decode(data)
    except msgspec.MsgspecError as problem:
        raise RecordError(f"this is no trace: {problem}") from None
