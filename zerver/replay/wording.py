"""Decisions, Needs and effects in a report, for people."""

from __future__ import annotations

import traceback
from typing import Any

from ..client_input import BadInput
from ..compiled_step import CompiledStep
from ..decision import Done, Fail, Need
from ..effect import Effect
from ..effects.sql import SqlStatement
from ..need import Asking
from ..response import Response
from ..signals import StepAwaits, StepRaised, StepReturned
from ..trace.record import EffectNote, ErrorNote, NeedNote

__all__ = [
    "arguments_text", "decision_text", "effect_text", "error_text", "need_of", "need_text", "outcome_name", "raised_at"
]  # fmt: skip

_SHOWN = 300  # characters of what an app made

Result = StepReturned | StepAwaits | StepRaised


def need_of(result: Result) -> Need | None:
    """What a step asks for, whichever way; ``None``: it does not."""
    if isinstance(result, StepReturned) and type(result.value) is Need:
        return result.value
    if isinstance(result, StepAwaits) and type(result.asked) is Asking:
        return result.asked.need
    return None


def outcome_name(result: Result) -> str:
    """As the trace names it."""
    if need_of(result) is not None:
        return Need.__name__
    return type(result.value if isinstance(result, StepReturned) else result).__name__


def decision_text(result: Result) -> str:
    """What a step came to."""
    if isinstance(result, StepRaised):
        problem: Any = result.exception
        if issubclass(type(problem), BadInput):  # as the interpreter asks
            error = problem.error
            return f"refused the input: {error.kind.name}: {error.what}"
        return cut(f"raised {type(problem).__name__}: {_told(problem)}")
    value = result.value if isinstance(result, StepReturned) else None
    if type(value) is Done:
        given = value.response
        return f"Done {given.status}" if issubclass(type(given), Response) else f"Done of a {type(given).__name__}"
    if type(value) is Fail:
        return f"Fail {value.kind.name}: {value.what}"
    return outcome_name(result)


def need_text(note: NeedNote) -> str:
    """Of what kind it is, and what it asks for."""
    flags = [note.join, *(["in sequence"] if note.mode == "sequential" else []), *(["detach"] if note.detach else [])]
    then = "" if note.then is None else f", then {note.then}"
    undo = f", compensations {', '.join(note.compensations)}" if note.compensations else ""
    labels = ", ".join(one.label for one in note.effects)
    return f"Need {' '.join(flags)} [{labels}]{then}{undo}"


def effect_text(note: EffectNote) -> str:
    """What it is about."""
    about = f": {note.what}" if note.what else ""
    return f"{note.label}{'' if note.required else ' (optional)'} at {note.target}{about}"


def arguments_text(effect: Effect[Any]) -> str:
    """What it is asked with. Recordings do not have that, only its digest."""
    args = effect.args
    return cut(repr(args.params if isinstance(args, SqlStatement) else args))


def error_text(error: ErrorNote | str) -> str:
    if isinstance(error, str):
        return f"given up: {error}"
    key = "" if error.key is None else f" ({error.key})"
    return f"{error.kind}: {error.what}{key}"


def raised_at(step: CompiledStep, problem: BaseException) -> str:
    """The line of the step's own file that led to it."""
    file = step.where.rpartition(":")[0]
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        if frame.filename == file:
            return f"{file}:{frame.lineno}"
    return step.where


def _told(problem: BaseException) -> str:
    try:
        return str(problem)
    except Exception:  # it is the app's
        return "it cannot be told"


def cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
