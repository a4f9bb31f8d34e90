"""Counts requests where they end, for each route in numbers that were made at the start."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from .families import BOUNDS
from .snapshot import Sample

__all__ = ["OTHER", "RequestMeter", "label"]

OTHER = "(none)"
"""The route of requests that no route took."""

_BOUNDS_NS = tuple([int(bound * 1e9) for bound in BOUNDS])
_WIDTH = len(BOUNDS) + 1
_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
# By status, the first cell of its class; a mounted app may answer with a status that there is not.
_FIRST = tuple([min(status // 100, 5) * _WIDTH for status in range(1000)])
_NONE = (0,) * _WIDTH
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


def label(method: str, route: str = OTHER) -> str:
    """The label of requests that no route of the app took. A method may be whatever a client wrote."""
    return f"{method if method in _METHODS else 'other'} {route}"


class _Row:
    """Of one route. ``quick``: those answered with 200 in no more than the first bound, which nearly all are that cost
    so little that counting them is to be noticed. ``cells``: all others, for each class of status one for each bucket.
    """

    __slots__ = ("cells", "quick", "took_ns")

    def __init__(self) -> None:
        self.quick = 0
        self.cells = [0] * (_WIDTH * len(_CLASSES))
        self.took_ns = 0


class RequestMeter:
    """Of one service. ``routes``: their labels (``GET /todos/{id:int}``), so that each is there from the start.

    Exit callbacks run on threads, and so does the end of their request. Nothing is lost by that: between reading and
    writing a number CPython gives the interpreter to no other thread, as it calls nothing.
    """

    __slots__ = ("_rows", "count")

    def __init__(self, routes: Iterable[str] = ()) -> None:
        self._rows = {route: _Row() for route in routes}
        self.count: Callable[[str, int, int], None] = _counting(self._rows)
        """A request has ended: its route's label, its status (0: it had no answer), and the nanoseconds that it took.
        A status is below 1000."""

    def samples(self) -> Iterator[Sample]:
        """What there is to tell, by now."""
        for name, row in list(self._rows.items()):
            method, _, route = name.partition(" ")
            counts = row.cells.copy()
            counts[_FIRST[200]] += row.quick
            if not any(counts):
                yield Sample("zerver_requests_total", (method, route, "2xx"), 0)
                yield Sample("zerver_request_duration_seconds", (method, route), 0, _NONE)
                continue
            for position, status in enumerate(_CLASSES):
                found = sum(counts[position * _WIDTH : (position + 1) * _WIDTH])
                if found or status == "2xx":
                    yield Sample("zerver_requests_total", (method, route, status), found)
            buckets = tuple([sum(counts[position::_WIDTH]) for position in range(_WIDTH)])
            yield Sample("zerver_request_duration_seconds", (method, route), row.took_ns / 1e9, buckets)


def _counting(rows: dict[str, _Row]) -> Callable[[str, int, int], None]:
    """A plain function, of what it needs: on the hot path a method would cost as much again."""
    first, bounds, quick = _FIRST, _BOUNDS_NS, _BOUNDS_NS[0]

    def count(route: str, status: int, took_ns: int) -> None:
        try:
            row = rows[route]
        except KeyError:
            row = rows.setdefault(route, _Row())
        row.took_ns += took_ns
        if status == 200 and took_ns <= quick:
            row.quick += 1
        else:
            cell = first[status] + bisect_left(bounds, took_ns)
            row.cells[cell] += 1

    return count
