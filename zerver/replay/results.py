"""What an effect came to, made again from what its driver gave."""

from __future__ import annotations

from typing import Any

import msgspec

from zerver_runtime.outcome import Failure, Outcome, Success

from ..codec import Undecodable
from ..effect import Effect
from ..effect_results import interpret
from ..effects.http import HttpResult
from ..effects.sql import SqlRows
from ..error import DefinitionError, Error, ErrorKind
from ..faults import Faults
from ..redaction import REDACTED
from ..trace.record import ErrorNote, ResultNote
from ..trace.values import UNENCODABLE, unpack

__all__ = ["NotRecorded", "error_of", "holds_redacted", "outcome_of"]

_OWN_TYPES = ("call", "compute", "actor")  # their values are the app's objects: not decoded by the effect's type later


class NotRecorded:
    """Stands for a value that the recording does not have. A step that reads it cannot be replayed."""

    def __init__(self, why: str) -> None:
        self.why = why


def outcome_of(effect: Effect[Any], note: ResultNote, now: float) -> Outcome:
    """The outcome of an effect; its value may be :class:`NotRecorded`. ``now``: seconds since the epoch."""
    if note.raw is None:
        if note.error is None:
            return Success(NotRecorded(f"what {effect.label} gave is not in the recording: {note.missing}"))
        try:
            detail = unpack(note.detail) if note.detail else None
        except (msgspec.MsgspecError, *UNENCODABLE):  # nothing of ours wrote it
            detail = None
        return Failure(error_of(note.error, detail))
    try:
        raw = unpack(note.raw, _form(effect))
    except (msgspec.MsgspecError, Undecodable, DefinitionError, *UNENCODABLE) as problem:
        return Success(NotRecorded(f"what {effect.label} gave cannot be read as what it is for now: {problem}"))
    try:
        outcome = interpret(effect, raw, lambda: now)
    except BaseException as problem:  # of an app's own type; as the dispatcher takes it
        outcome = Failure(Faults().crashed(effect, problem))
    if note.redacted and isinstance(outcome, Failure) and note.error is None:
        places = ", ".join(note.redacted)
        return Success(NotRecorded(f"what {effect.label} gave cannot be read, as {places} of it is redacted"))
    return outcome


def error_of(note: ErrorNote, detail: Any = None) -> Error:
    """The error that was noted."""
    if detail is None and note.status is not None:
        detail = {"status": note.status}
    try:
        kind = ErrorKind[note.kind]
    except KeyError:  # of a later version
        kind = ErrorKind.INTERNAL
    return Error(kind, note.what, note.key, detail, note.retry_after)


def holds_redacted(value: Any) -> bool:
    """Whether something in a value was redacted."""
    try:
        return REDACTED.encode() in msgspec.json.encode(value, enc_hook=repr)
    except UNENCODABLE:
        return REDACTED in repr(value)


def _form(effect: Effect[Any]) -> Any:
    """What a driver of this effect gives."""
    if effect.family == "http":
        return HttpResult
    if effect.family == "sql":
        return list[SqlRows] if effect.op == "transaction" else SqlRows
    return effect.result_type if effect.family in _OWN_TYPES else None
