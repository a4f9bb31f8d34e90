"""Writes kept traces to the store from a thread of its own, away from the loop.

Each scheduler has one: SQLite lets them write in turn, and none of them waits on its loop. What takes batches of rows
elsewhere, an actor for one, is another :class:`~zerver.trace.recorder.Sink`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zerver_runtime.reactor.threads import ThreadPool

from ..error import ZerverError
from .record import Row
from .recorder import Sink

if TYPE_CHECKING:
    from .store import TraceStore

__all__ = ["Both", "StoreSink"]

_log = logging.getLogger("zerver.trace")

_BATCHES = 64  # that wait while the store is slow
_PATIENCE = 2.0  # seconds that a stop waits for them


class StoreSink:
    """``make`` gives the store, when the first batch comes. A store that fails is told of once, until it works again;
    its batches are lost, and counted."""

    def __init__(self, make: Callable[[], TraceStore]) -> None:
        self._make = make
        self._store: TraceStore | None = None  # of the thread
        self._pool = ThreadPool(1, _BATCHES + 1, name="zerver-trace", ending=self._end)
        self._failing = False
        self._lost = 0

    @property
    def lost(self) -> int:
        """Traces that could not be written."""
        return self._lost

    def write(self, rows: Sequence[Row], /) -> bool:
        """See :class:`~zerver.trace.recorder.Sink`."""
        if self._pool.statistics().queued >= _BATCHES:  # one more place is for close()
            return False
        return self._pool.submit(lambda: self._write(rows)) is not None

    async def close(self) -> None:
        """Write what waits, for two seconds at most."""
        loop, written, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        # After all others: there is one thread.
        if self._pool.submit(lambda: None, lambda *_: loop.call_soon_threadsafe(written.set)) is not None:
            await _wait(written)
        self._pool.close(lambda: loop.call_soon_threadsafe(ended.set))
        await _wait(ended)

    def _write(self, rows: Sequence[Row]) -> None:
        try:
            if self._store is None:
                self._store = self._make()
            self._store.write(rows)
        except ZerverError as problem:
            self._lost += len(rows)
            if not self._failing:
                self._failing = True
                _log.warning("%s; traces are lost until it can be written", problem)
        else:
            if self._failing:
                self._failing = False
                _log.warning("the trace store is written again; %d traces were lost", self._lost)

    def _end(self) -> None:
        if self._store is not None:
            self._store.close()


class Both:
    """Writes to a store, and has it exported. What the exporter has no room for is its own to count."""

    def __init__(self, store: Sink, export: Sink) -> None:
        self._store = store
        self._export = export

    def write(self, rows: Sequence[Row], /) -> bool:
        """See :class:`~zerver.trace.recorder.Sink`."""
        self._export.write(rows)
        return self._store.write(rows)

    async def close(self) -> None:
        """Both at once."""
        await asyncio.gather(self._store.close(), self._export.close())


async def _wait(event: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(event.wait(), _PATIENCE)
    except TimeoutError:
        _log.warning("the trace store does not answer; what was to be written to it is lost")
