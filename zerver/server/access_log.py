"""The access log: a line for each answer, written off the hot path."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from zerver_runtime.reactor.effector import CallLater, Handle

from ..wire import Head
from .log import Lines, printable

__all__ = ["AccessLog"]

_log = logging.getLogger("zerver.access")

_EVERY = 0.1  # seconds between two writes
_BATCH = 1000  # lines that are written in one turn of the loop: 2 ms
_MOST = 10_000  # lines that wait; more are dropped and counted
_WITHOUT_BODY = frozenset({204, 304})  # RFC 9110 sections 15.3.5 and 15.4.5


class AccessLog:
    """Collects what was answered, and writes it in batches: one line of ``name=value`` each, with controls escaped. A
    batch is one record, since a record of its own costs each line more than its request.

    ``clock``: monotonic, nanoseconds.
    """

    def __init__(self, call_later: CallLater, clock: Callable[[], int]) -> None:
        self._call_later = call_later
        self._clock = clock
        self._lines: deque[tuple[str, Head | None, str, int, int, int]] = deque()
        self._timer: Handle | None = None
        self.dropped = 0
        """Lines that were not written, because too many waited."""

    def add(self, client: str, head: Head | None, request_id: str, status: int, size: int, started_ns: int) -> None:
        """An answer of ``size`` bytes to a request that began to arrive at ``started_ns``. ``head`` is ``None`` where
        the request was not even one."""
        lines = self._lines
        if len(lines) >= _MOST:
            self.dropped += 1
            return
        lines.append((client, head, request_id, status, size, self._clock() - started_ns))
        if self._timer is None:
            self._timer = self._call_later(_EVERY, self.flush)

    def flush(self) -> None:
        """Write what waits, a batch in each turn of the loop."""
        self._timer = None
        self._write(_BATCH)
        if self._lines:
            self._timer = self._call_later(0.0, self.flush)

    def close(self) -> None:
        """Write what waits; nothing follows."""
        if self._timer is not None:
            self._timer.cancel()
        self._write(_MOST)

    def _write(self, most: int) -> None:
        waiting = self._lines
        if not _log.isEnabledFor(logging.INFO):
            waiting.clear()
        if waiting:
            _log.info(Lines([_line(*waiting.popleft()) for _ in range(min(most, len(waiting)))]))
        if self.dropped:
            _log.warning("%d lines of the access log were dropped", self.dropped)
            self.dropped = 0


def _line(client: str, head: Head | None, request_id: str, status: int, size: int, took_ns: int) -> str:
    method, target = ("-", "-") if head is None else (head.method, printable(head.target.decode("latin-1")))
    if method == "HEAD" or status in _WITHOUT_BODY:
        size = 0
    return (
        f"client={client or '-'} method={method} target={target} status={status} bytes={size} "
        f"ms={took_ns / 1e6:.3f} id={request_id}"
    )
