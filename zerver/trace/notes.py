"""Effects, Needs and errors as plain data, without the values in them: what a record keeps, and a replay compares."""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import types
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..decision import Need
from ..effect import Effect
from ..error import Error
from ..redaction import Redaction
from ..step_source import function_of
from .record import EffectNote, ErrorNote, NeedNote

__all__ = ["WHAT", "effect_note", "error_note", "need_note", "source_digest"]

WHAT: Final = 200
"""Characters that tell of an effect, or of what is no error of ours."""

_KNOWN: Final = Redaction()


def error_note(error: object) -> ErrorNote:
    if not isinstance(error, Error):
        return ErrorNote("INTERNAL", str(error)[:WHAT])
    status = error.detail.get("status") if isinstance(error.detail, Mapping) else None
    return ErrorNote(
        error.kind.name, error.what, error.key, status if isinstance(status, int) else None, error.retry_after
    )


def need_note(need: Need, redaction: Redaction = _KNOWN) -> NeedNote:
    """``redaction``: of URLs."""
    then = need.then
    return NeedNote(
        effects=tuple([effect_note(one, redaction) for one in need.effects]),
        join=need.join,
        mode=need.mode,
        detach=need.detach,
        then=None if then is None else getattr(then, "__name__", type(then).__name__),
        compensations=tuple([one.label for one in need.compensations]),
    )


def effect_note(effect: Effect[Any], redaction: Redaction = _KNOWN) -> EffectNote:
    return EffectNote(
        label=effect.label,
        family=effect.family,
        op=effect.op,
        target=effect.target,
        what=_what(effect, redaction),
        into=None if effect.into is None else effect.into.__name__,
        required=effect.required,
        timeout=effect.timeout,
        digest=_digest(effect),
    )


def source_digest(fn: object) -> str:
    """It changes when the function's source does. Empty where that is not to be had."""
    function = function_of(fn)
    return "" if function is None else _source_digest(function.__code__)


@functools.lru_cache(maxsize=1024)
def _source_digest(code: types.CodeType) -> str:
    try:
        source = inspect.getsource(code)
    except (OSError, TypeError, ValueError, SyntaxError):
        return ""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _what(effect: Effect[Any], redaction: Redaction) -> str:
    """What it is about, without the values in it."""
    try:
        text = _about(effect, redaction)
    except AttributeError:  # an app's own driver of a family has arguments of its own
        text = ""
    return text if len(text) <= WHAT else text[: WHAT - 1] + "…"


def _about(effect: Effect[Any], redaction: Redaction) -> str:
    args = effect.args
    match effect.family:
        case "http":
            return f"{args.method} {redaction.url(args.url)}"
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
        data = _arguments.encode(effect.args if effect.idem is None else [effect.args, effect.idem])
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
