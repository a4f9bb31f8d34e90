"""Exports kept traces with the OpenTelemetry SDK, on a thread of its own: it builds their spans there, and sends them.

What waits is bounded in number and bytes; what does not fit, or cannot be delivered in time, is dropped and counted,
and the log says so once in a while. The SDK is imported on that thread, in the one process that exports.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from zerver_runtime.scheduler import Scheduler

from .record import Row, decode
from .span_attributes import SpanSettings
from .spans import SpanData, spans

__all__ = ["ExportStatistics", "Sender", "SpanExporter", "finish_exports"]

_log = logging.getLogger("zerver.trace")

_BYTES = 16 * 1024 * 1024  # of traces that wait
_AGAIN = 60.0  # seconds between two lines of log about what is lost
_PATIENCE = 5.0  # seconds that a stop waits for what is to be sent
_QUIET = 1.0  # and before that, for what actors are to be told


class Sender(Protocol):
    """What sends spans. Blocks."""

    def send(self, batch: Sequence[SpanData], /) -> str:
        """Deliver them, in the time that it has for it; an empty text, or why that failed."""
        ...

    def stop(self) -> None:
        """Try no more. On another thread."""
        ...

    def close(self) -> None:
        """Leave nothing open."""
        ...


class ExportStatistics(msgspec.Struct, frozen=True):
    exported: int
    """Traces that were delivered."""
    spans: int
    """Of them."""
    dropped: int
    """Traces for which there was no room."""
    failed: int
    """Traces that could not be delivered."""
    queued: int


class SpanExporter:
    """A :class:`~zerver.trace.recorder.Sink`. ``make`` gives the sender, on the thread.

    ``OTEL_BSP_SCHEDULE_DELAY`` (milliseconds that a batch waits to be full; default 1000),
    ``OTEL_BSP_MAX_EXPORT_BATCH_SIZE`` (spans; 512) and ``OTEL_BSP_MAX_QUEUE_SIZE`` (here: traces; 2048) hold as for the
    SDK's own batches, and are read now.
    """

    def __init__(self, settings: SpanSettings, make: Callable[[], Sender] | None = None) -> None:
        self._settings = settings
        self._make = _otlp_sender if make is None else make
        self._delay = _number("OTEL_BSP_SCHEDULE_DELAY", 1_000) / 1_000
        self._batch = _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
        self._bound = _number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048)
        # Under the lock, from here on.
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._closing = False
        self._broken = False  # there is nothing that could send
        self._exported = self._spans = self._dropped = self._failed = 0
        # Of the thread.
        self._sender: Sender | None = None
        self._failing = False
        self._told_at = 0.0
        self._told = 0  # how many were lost by then
        self._thread = threading.Thread(target=self._run, name="zerver-otlp", daemon=True)
        self._thread.start()
        _running.add(self)

    def put(self, data: Sequence[bytes]) -> bool:
        """Take records, encoded; what there is no room for is dropped. ``False``: it ends, and takes none. Does not
        block."""
        with self._changed:
            if self._closing:
                return False
            for one in data:
                if self._broken or len(self._queue) >= self._bound or self._bytes + len(one) > _BYTES:
                    self._dropped += 1
                else:
                    self._queue.append(one)
                    self._bytes += len(one)
            self._changed.notify()
            return True

    def write(self, rows: Sequence[Row], /) -> bool:
        """See :class:`~zerver.trace.recorder.Sink`. What is dropped here is counted here."""
        if not self.put([row.data for row in rows]):
            with self._changed:
                self._dropped += len(rows)
        return True

    def statistics(self) -> ExportStatistics:
        with self._changed:
            return ExportStatistics(self._exported, self._spans, self._dropped, self._failed, len(self._queue))

    async def close(self) -> None:
        """Send what waits, for five seconds at most."""
        await asyncio.get_running_loop().run_in_executor(None, self.finish, _PATIENCE)

    def finish(self, seconds: float) -> bool:
        """Send what waits, for so many seconds at most, and end; whether that was done. Blocks. Nothing is taken any
        more."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        ended = not self._thread.is_alive()
        if not ended:
            with self._changed:
                self._dropped += len(self._queue)
                self._queue.clear()
            if self._sender is not None:
                self._sender.stop()
            _log.warning("the collector does not take what is left to export; it is dropped")
        _running.discard(self)
        return ended

    # The thread

    def _run(self) -> None:
        try:
            self._sender = self._make()
        except Exception as problem:  # of what the environment says, for one
            _log.error("traces cannot be exported: %s", problem)
            with self._changed:
                self._broken = True
                self._dropped += len(self._queue)
                self._queue.clear()
            return
        while data := self._take():
            batch: list[SpanData] = []
            traces = 0
            for one in data:
                try:
                    batch += spans(decode(one), self._settings)
                    traces += 1
                except Exception as problem:  # whatever is in one, the others are sent
                    self._lost(1, f"{type(problem).__name__}: {problem}")
                if len(batch) >= self._batch:
                    self._send(batch, traces)
                    batch, traces = [], 0
            if batch:
                self._send(batch, traces)
        self._sender.close()

    def _take(self) -> list[bytes]:
        """What waits, once it is worth sending; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._closing:
                self._changed.wait_for(lambda: len(self._queue) * 4 >= self._batch or self._closing, self._delay)
            data: list[bytes] = []
            while self._queue and len(data) * 4 < self._batch:  # of four spans, or more
                data.append(self._queue.popleft())
                self._bytes -= len(data[-1])
            return data

    def _send(self, batch: list[SpanData], traces: int) -> None:
        assert self._sender is not None
        try:
            problem = self._sender.send(batch)
        except Exception as raised:  # of the SDK
            problem = f"{type(raised).__name__}: {raised}"
        if problem:
            self._lost(traces, problem)
            return
        with self._changed:
            self._exported += traces
            self._spans += len(batch)
            lost = self._dropped + self._failed
        if self._failing:
            self._failing = False
            _log.warning("traces are exported again; %d were lost", lost - self._told)
            self._told = lost
        elif lost > self._told:
            self._tell(lost, "there was no room for them")

    def _lost(self, traces: int, problem: str) -> None:
        with self._changed:
            self._failed += traces
            lost = self._dropped + self._failed
        if not self._failing:
            self._failing, self._told_at = True, 0.0
        self._tell(lost, problem)

    def _tell(self, lost: int, problem: str) -> None:
        now = time.monotonic()
        if not self._told_at or now - self._told_at >= _AGAIN:
            _log.warning("%d traces were not exported: %s", lost - self._told, problem)
            self._told_at, self._told = now, lost

    def __repr__(self) -> str:
        return f"<SpanExporter: {self.statistics()}>"


_running: weakref.WeakSet[SpanExporter] = weakref.WeakSet()  # of this process: its end is theirs


async def finish_exports(scheduler: Scheduler) -> None:
    """Let the exporters of this process send what waits, and what its actors have not handed to them yet; for some
    seconds at most."""
    until = time.monotonic() + _QUIET
    while _running and scheduler.statistics().queued and time.monotonic() < until:  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.01)
    for one in list(_running):
        await one.close()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 1_000_000_000 else default


def _otlp_sender() -> Sender:
    from .otlp_sender import OtlpSender  # it takes the SDK with it

    return OtlpSender()
