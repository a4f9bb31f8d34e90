"""From what people type to a query for traces. Pure."""

from __future__ import annotations

import math
import re
from typing import get_args

from ..error import ZerverError
from .record import Why
from .store import TraceQuery

__all__ = ["AskError", "trace_query"]

_LONGEST = 86_400_000.0  # milliseconds: a day
_WHYS = get_args(Why)


class AskError(ZerverError):
    """A filter that means nothing. The message says which, and what it takes."""


def trace_query(
    *,
    route: str | None = None,
    status: str | None = None,
    slower: float | None = None,
    why: str | None = None,
    text: str | None = None,
    prefix: str = "",
) -> TraceQuery:
    """The query that these filters mean; all of them have to hold. ``status``: ``503`` or ``5xx``. ``slower``: least
    milliseconds. ``prefix``: what stands before the names of filters, in messages.

    :raises AskError: ``status``, ``slower`` or ``why`` is none.
    """
    if why is not None and why not in _WHYS:
        raise AskError(f"{prefix}why {why}: it is one of {', '.join(_WHYS)}")
    if slower is not None and not (math.isfinite(slower) and 0 <= slower <= _LONGEST):
        raise AskError(f"{prefix}slower {slower}: give milliseconds, from 0 to those of a day")
    return TraceQuery(
        route=route,
        status=None if status is None else _statuses(status, prefix),
        slower_ns=None if slower is None else int(slower * 1e6),
        why=None if why is None else _WHYS[_WHYS.index(why)],
        text=text,
    )


def _statuses(text: str, prefix: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-5])(xx|[0-9]{2})", text.lower())
    if found is None:
        raise AskError(f"{prefix}status {text}: give a status such as 503, or a class such as 5xx")
    low = int(found[1]) * 100
    return (low, low + 99) if found[2] == "xx" else (int(text), int(text))
