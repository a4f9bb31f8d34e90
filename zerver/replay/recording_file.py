"""A recording as a file beside a test: JSON that people can read, review and compare.

Bytes are ``{"$text": ...}`` where they are text, else ``{"$base64": ...}``; what drivers gave is
``{"$msgpack": ...}`` where JSON can say it. ``version`` is that of the record.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import msgspec

from ..trace.record import VERSION, RecordError, TraceRecord, decode, encode

__all__ = ["SUFFIX", "read_recording", "write_recording"]

SUFFIX = ".zrec"
"""Of such a file's name."""

_WIDTH = 110  # characters that stay on one line


def write_recording(record: TraceRecord) -> str:
    """The file's text."""
    fields = {"version": record.version} | msgspec.to_builtins(record, builtin_types=(bytes,))
    return _laid_out(_named(fields), 0) + "\n"


def read_recording(data: bytes) -> TraceRecord:
    """What :func:`write_recording` wrote; also what ``zerver trace export`` writes, and the record as the store has it.

    :raises RecordError: it is none of these, or of a later version.
    """
    if not data.lstrip().startswith(b"{"):
        return decode(data)
    try:
        fields = json.loads(data)
        version = fields.get("version", VERSION)
        if not isinstance(version, int) or version > VERSION:
            raise RecordError(f"the recording is of version {version}; this Zerver reads up to {VERSION}")
        # Bytes that have no name are those of an export: texts in base64, which convert() takes too.
        # And only what a store could have: JSON has larger numbers, and texts that are none.
        return decode(encode(msgspec.convert(_unnamed(fields), TraceRecord)))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, msgspec.MsgspecError) as problem:
        raise RecordError(f"this is no recording: {problem}") from None


def _named(value: Any) -> Any:
    if isinstance(value, bytes):
        return _packed(value) or _text(value) or {"$base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: _named(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(inner) for inner in value]
    return value


def _text(value: bytes) -> dict[str, Any] | None:
    try:
        return {"$text": value.decode()}
    except UnicodeDecodeError:
        return None


def _packed(value: bytes) -> dict[str, Any] | None:
    """Only what is certainly read as the same bytes: a text may look like MessagePack."""
    if not value or value[:1] < b"\x80":
        return None
    try:
        plain = msgspec.msgpack.decode(value)
        if not isinstance(plain, (dict, list)) or not _is_json(plain) or msgspec.msgpack.encode(plain) != value:
            return None
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError):
        return None
    return {"$msgpack": _named(plain)}


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and name[:1] != "$" and _is_json(inner) for name, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str, bytes))


def _unnamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_unnamed(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (name,) = value
        if name == "$text":
            return str.encode(value[name])
        if name == "$base64":
            return base64.b64decode(value[name], validate=True)
        if name == "$msgpack":
            return msgspec.msgpack.encode(_unnamed(value[name]))
    return {name: _unnamed(inner) for name, inner in value.items()}


def _laid_out(value: Any, depth: int) -> str:
    """JSON, in lines that show one thing each."""
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or len(short) + 2 * depth <= _WIDTH or not value:
        return short
    inner, close = "\n" + "  " * (depth + 1), "\n" + "  " * depth
    if isinstance(value, dict):
        items = [f"{json.dumps(name, ensure_ascii=False)}: {_laid_out(one, depth + 1)}" for name, one in value.items()]
        return "{" + inner + ("," + inner).join(items) + close + "}"
    return "[" + inner + ("," + inner).join(_laid_out(one, depth + 1) for one in value) + close + "]"
