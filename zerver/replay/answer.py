"""Whether an answer is the recorded one."""

from __future__ import annotations

from typing import Any

import msgspec

from ..redaction import REDACTED
from ..response import Response
from ..trace.record import ResponseNote

__all__ = ["differs"]

_SHOWN = 200  # bytes of a body in a report


def differs(recorded: ResponseNote | None, got: Response | None) -> tuple[str, str] | None:
    """What was recorded and what there is now, for people; ``None``: they are the same, as far as the recording goes.
    What is redacted in it stands for anything."""
    if recorded is None or got is None:
        if recorded is None and got is None:
            return None
        return ("no answer" if recorded is None else f"answer {recorded.status}",
                "no answer" if got is None else f"answer {got.status}")  # fmt: skip
    if recorded.status != got.status:
        return f"status {recorded.status}", f"status {got.status}"
    return _headers(recorded.headers, got.headers) or _bodies(recorded, got.body)


def _headers(recorded: tuple[tuple[str, str], ...], got: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    for position in range(max(len(recorded), len(got))):
        before = recorded[position] if position < len(recorded) else None
        after = got[position] if position < len(got) else None
        if before == after or (before and after and before[0] == after[0] and before[1] == REDACTED):
            continue
        return _header_text(before), _header_text(after)
    return None


def _header_text(header: tuple[str, str] | None) -> str:
    return "no further header" if header is None else f"header {header[0]}: {header[1]}"


def _bodies(recorded: ResponseNote, got: Any) -> tuple[str, str] | None:
    if not isinstance(got, bytes):
        whole = recorded.body is not None or recorded.size is not None
        return ("a body that is known beforehand", "a stream or a file") if whole else None
    if recorded.body is None:
        if recorded.size is None:
            return "a stream or a file", _shown(got)
        return None if recorded.size == len(got) else (f"a body of {recorded.size} bytes", f"one of {len(got)} bytes")
    if recorded.body == got:
        return None
    kind = dict(recorded.headers).get("content-type", "")
    if REDACTED.encode() in recorded.body or (kind == "application/problem+json" and b'"traceback"' in recorded.body):
        return _json(recorded.body, got)
    return _shown(recorded.body), _shown(got)


def _json(recorded: bytes, got: bytes) -> tuple[str, str] | None:
    try:
        before, after = msgspec.json.decode(recorded), msgspec.json.decode(got)
    except (msgspec.DecodeError, RecursionError):
        return _shown(recorded), _shown(got)
    if isinstance(before, dict) and isinstance(after, dict):  # a server in debug mode adds it, which this is not
        before.pop("traceback", None)
        after.pop("traceback", None)
    return None if _same(before, after) else (_shown(recorded), _shown(got))


def _same(before: Any, after: Any) -> bool:
    if before == REDACTED:
        return True
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_same(value, after[name]) for name, value in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_same, before, after))
    return type(before) is type(after) and bool(before == after)


def _shown(body: bytes) -> str:
    cut = body if len(body) <= _SHOWN else body[:_SHOWN]
    return f"body {cut.decode('utf-8', 'backslashreplace')}{'' if cut is body else f'… ({len(body)} bytes)'}"
