"""Counts requests where they end, for each route in numbers that were made at the start."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from ..execution import Execution
from .families import BOUNDS
from .snapshot import Sample

__all__ = ["OTHER", "RequestMeter", "label"]

OTHER = "(none)"
"""The route of requests that no route took."""

_BOUNDS_NS = tuple([int(bound * 1e9) for bound in BOUNDS])
_QUICK_NS = _BOUNDS_NS[0]
_WIDTH = len(BOUNDS) + 1
# Of each route: for each class of status one number for each bucket; behind them the sum of all times.
_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_SIZE = _WIDTH * len(_CLASSES) + 1
_FIRST = tuple([status // 100 * _WIDTH for status in range(600)])
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


def label(method: str, route: str = OTHER) -> str:
    """The label of requests that no route of the app took. A method may be whatever a client wrote."""
    return f"{method if method in _METHODS else 'other'} {route}"


class RequestMeter:
    """Of one service. ``routes``: their labels (``GET /todos/{id:int}``), so that each is there from the start.

    Exit callbacks run on threads, and so does the end of their request. Nothing is lost by that: between reading and
    writing one of its numbers CPython gives the interpreter to no other thread, as it calls nothing.
    """

    __slots__ = ("_rows",)

    def __init__(self, routes: Iterable[str] = ()) -> None:
        self._rows: dict[str, list[int]] = {route: [0] * _SIZE for route in routes}

    def __call__(self, run: Execution) -> None:
        """A request has ended. On the hot path: as little as there can be."""
        took = run.ended_ns - run.state.started_ns
        row = self._rows.get(run.route)
        if row is None:
            row = self._rows.setdefault(run.route, [0] * _SIZE)
        response = run.response
        cell = 0 if response is None else _FIRST[response.status]
        if took > _QUICK_NS:
            cell += bisect_left(_BOUNDS_NS, took)
        row[cell] += 1
        row[-1] += took

    def count(self, label: str, status: int, took_ns: int) -> None:
        """One that no step has run for: a mount's, or one that was refused."""
        row = self._rows.setdefault(label, [0] * _SIZE)
        row[_FIRST[min(status, 599)] + bisect_left(_BOUNDS_NS, took_ns)] += 1
        row[-1] += took_ns

    def samples(self) -> Iterator[Sample]:
        """What there is to tell, by now."""
        for label, row in list(self._rows.items()):
            method, _, route = label.partition(" ")
            buckets = [0] * _WIDTH
            for position, name in enumerate(_CLASSES):
                cells = row[position * _WIDTH : (position + 1) * _WIDTH]
                if any(cells) or name == "2xx":
                    yield Sample("zerver_requests_total", (method, route, name), sum(cells))
                    buckets = [bucket + cell for bucket, cell in zip(buckets, cells, strict=True)]
            yield Sample("zerver_request_duration_seconds", (method, route), row[-1] / 1e9, tuple(buckets))
