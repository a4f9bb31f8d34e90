"""The access log: a line for each answer, written off the hot path."""

from __future__ import annotations

import logging
from collections.abc import Callable

from zerver_runtime.reactor.effector import CallLater, Handle

from ..wire import Head
from .log import printable

__all__ = ["AccessLog"]

_log = logging.getLogger("zerver.access")

_EVERY = 0.1  # seconds between two writes
_MOST = 10_000  # lines that wait; more are dropped and counted


class AccessLog:
    """Collects what was answered, and writes it as a batch: one line of ``name=value`` each, with controls escaped.

    ``clock``: monotonic, nanoseconds.
    """

    def __init__(self, call_later: CallLater, clock: Callable[[], int]) -> None:
        self._call_later = call_later
        self._clock = clock
        self._lines: list[tuple[str, Head | None, str, int, int, int]] = []
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
        """Write what waits."""
        self._timer = None
        lines, self._lines = self._lines, []
        if not _log.isEnabledFor(logging.INFO):
            return
        for client, head, request_id, status, size, took_ns in lines:
            method, target = ("-", "-") if head is None else (head.method, printable(head.target.decode("latin-1")))
            _log.info(
                "client=%s method=%s target=%s status=%d bytes=%d ms=%.3f id=%s",
                client or "-", method, target, status, size, took_ns / 1e6, request_id,
            )  # fmt: skip
        if self.dropped:
            _log.warning("%d lines of the access log were dropped", self.dropped)
            self.dropped = 0

    def close(self) -> None:
        """Write what waits; nothing follows."""
        if self._timer is not None:
            self._timer.cancel()
        self.flush()
