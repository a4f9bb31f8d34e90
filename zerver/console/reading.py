"""What the console reads of the trace store: each call opens it, so that one that is made or moved away is seen. They
block, and are for a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..app import App
from ..error import ZerverError
from ..graph import graph_of
from ..replay import replay
from ..server.log import printable
from ..trace.record import RecordError, TraceRecord
from ..trace.store import StoreError, TraceQuery, TraceReader
from .document import TraceDocument, trace_document
from .listing import RouteCount, TracePage, trace_page
from .tables import Graphs, ReplayView, replay_view

__all__ = ["read_graphs", "read_page", "read_routes", "read_trace", "run_replay"]


_REPLAYS = 4
_replays = threading.BoundedSemaphore(_REPLAYS)
_UNTRACED = "nothing is traced here: trace.enabled is false"


def read_page(store: str | None, query: TraceQuery, limit: int) -> TracePage:
    """The newest traces of a query; with ``after_seq``, the oldest that are newer than that cursor."""
    if store is None:
        return TracePage(problem=_UNTRACED)
    try:
        with TraceReader(store) as reader:
            newest = reader.last_seq()  # first: what comes now is newer than the cursor
            following = query.after_seq is not None
            first = query.before_seq is None and not following
            found = reader.summaries(query, limit=limit + 1, oldest=following)
            total = reader.count(query) if first else None
    except StoreError as problem:
        return TracePage(problem=str(problem))
    return trace_page(found, limit=limit, newest=newest, total=total, oldest_first=following)


def read_routes(store: str | None) -> tuple[RouteCount, ...]:
    """The routes that there are traces of."""
    if store is None:
        return ()
    try:
        with TraceReader(store) as reader:
            return tuple([RouteCount(printable(route), count) for route, count in reader.routes()])
    except StoreError:
        return ()


def read_trace(store: str | None, id: str) -> TraceDocument | str | None:
    """The trace of a request, or of the newest one for ``last``; ``None`` where it is not kept. Text: why what is kept
    cannot be read; it is of a later version, for one."""
    try:
        record = _record(store, id)
    except RecordError as problem:
        return str(problem)
    return None if record is None else trace_document(record)


def run_replay(store: str | None, id: str, load: Callable[[], App]) -> ReplayView | None:
    """Replay the request of an id with the app that is served; ``None`` where its trace is not kept. A few at a time:
    nothing ends a step that does not end, and there are other things to be done on threads."""
    if not _replays.acquire(blocking=False):
        return ReplayView(problem=f"{_REPLAYS} replays are under way, and have not ended; try again later")
    try:
        record = _record(store, id)
        if record is None:
            return None
        return replay_view(replay(load(), record))
    except ZerverError as problem:
        return ReplayView(problem=f"it cannot be replayed here: {problem}")
    finally:
        _replays.release()


def _record(store: str | None, id: str) -> TraceRecord | None:
    if store is None:
        return None
    try:
        with TraceReader(store) as reader:
            if id == "last":
                newest = reader.summaries(limit=1)
                id = newest[0].id if newest else ""
            return reader.get(id)
    except StoreError:
        return None


def read_graphs(load: Callable[[], App]) -> Graphs:
    """The pipelines of the app that is served. ``load`` may import it."""
    try:
        routes = load().site().router.routes()
        return Graphs(routes=tuple([graph_of(pipeline) for _, _, pipeline in routes]))
    except ZerverError as problem:
        return Graphs(problem=f"the app cannot be looked at: {problem}")
