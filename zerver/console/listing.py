"""The list of kept traces, as the page gets it: in pages, by a cursor. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from ..server.log import printable
from ..trace.reasons import duration
from ..trace.record import Summary, Why

__all__ = ["Level", "RouteCount", "TraceLine", "TracePage", "level_of", "trace_page"]

Level: TypeAlias = Literal["ok", "client", "server"]
"""Whose fault a status is: nobody's, the client's (4xx), the server's (5xx, or no answer)."""


class TraceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One trace of the list. Text is made printable."""

    seq: int
    id: str
    route: str
    method: str
    path: str
    status: int | None
    level: Level
    started_ms: int
    """Milliseconds since the epoch: what a browser takes."""
    took: str
    took_ns: int
    why: Why
    client: str
    scheduler: int
    error: str


class RouteCount(msgspec.Struct, frozen=True):
    """A route that there are traces of."""

    route: str
    count: int


class TracePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some traces, the newest first."""

    traces: tuple[TraceLine, ...] = ()
    more: bool = False
    """There are older ones: ask for what is ``before`` the last of these. Of what is newer than a cursor: there are
    newer ones."""
    newest: int = 0
    """The cursor to ask for newer ones: what is ``after`` it."""
    total: int | None = None
    """How many match; only with the first page."""
    problem: str = ""
    """Why there is nothing to be had."""


def level_of(status: int | None) -> Level:
    """See :data:`Level`."""
    if status is None or status >= 500:
        return "server"
    return "client" if status >= 400 else "ok"


def trace_page(
    found: Sequence[Summary], *, limit: int, newest: int, total: int | None, oldest_first: bool = False
) -> TracePage:
    """A page of ``limit`` traces, out of one more where there are more. ``newest``: of the store, before it was asked
    for these: some of them may have come since."""
    shown = found[:limit]
    more = len(found) > limit
    last = max((one.seq for one in shown), default=0)
    return TracePage(
        traces=tuple([_line(one) for one in (reversed(shown) if oldest_first else shown)]),
        more=more,
        newest=last if more and oldest_first else max(newest, last),
        total=total,
    )


def _line(one: Summary) -> TraceLine:
    return TraceLine(
        seq=one.seq,
        id=printable(one.id),
        route=printable(one.route),
        method=printable(one.method),
        path=printable(one.path),
        status=one.status,
        level=level_of(one.status),
        started_ms=one.started_ns // 1_000_000,
        took=duration(one.took_ns),
        took_ns=one.took_ns,
        why=one.why,
        client=printable(one.client),
        scheduler=one.scheduler,
        error=one.error,
    )
