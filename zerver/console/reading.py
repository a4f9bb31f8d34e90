"""What the console reads of the trace store: each call opens it, so that one that is made or moved away is seen. They
block, and are for a thread.
"""

from __future__ import annotations

from collections.abc import Callable

from ..app import App
from ..error import ZerverError
from ..graph import graph_of
from ..trace.store import StoreError, TraceQuery, TraceReader
from .document import TraceDocument, trace_document
from .listing import RouteCount, TracePage, trace_page
from .tables import Graphs

__all__ = ["read_graphs", "read_page", "read_routes", "read_trace"]


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
            page = trace_page(found, limit=limit, newest=newest, total=reader.count(query) if first else None)
    except StoreError as problem:
        return TracePage(problem=str(problem))
    return page


def read_routes(store: str | None) -> tuple[RouteCount, ...]:
    """The routes that there are traces of."""
    if store is None:
        return ()
    try:
        with TraceReader(store) as reader:
            return tuple([RouteCount(route, count) for route, count in reader.routes()])
    except StoreError:
        return ()


def read_trace(store: str | None, id: str) -> TraceDocument | None:
    """The trace of a request, or of the newest one for ``last``; ``None`` where it is not kept."""
    if store is None:
        return None
    try:
        with TraceReader(store) as reader:
            if id == "last":
                newest = reader.summaries(limit=1)
                id = newest[0].id if newest else ""
            record = reader.get(id)
    except StoreError:
        return None
    return None if record is None else trace_document(record)


def read_graphs(load: Callable[[], App]) -> Graphs:
    """The pipelines of the app that is served. ``load`` may import it."""
    try:
        routes = load().site().router.routes()
        return Graphs(routes=tuple([graph_of(pipeline) for _, _, pipeline in routes]))
    except ZerverError as problem:
        return Graphs(problem=f"the app cannot be looked at: {problem}")
