"""The actor that exports the traces of all schedulers of a Node, and what sends them to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from zerver_runtime.actor import Actor, Affinity, behaviour, whereis
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import ActorError, ExitReason
from zerver_runtime.scheduler import Scheduler

from .record import Row
from .span_attributes import SpanSettings
from .span_exporter import ExportStatistics, SpanExporter

__all__ = ["EXPORTER", "ActorSink", "ExportActor"]

EXPORTER = "zerver.otlp"
"""Its name."""

_log = logging.getLogger("zerver.trace")

_AGAIN = 60.0  # seconds between two lines of log


class ExportActor(Actor):
    """A thread does the work; the actor only takes what comes. ``settings``: :class:`SpanSettings` as builtins."""

    affinity: ClassVar[Affinity] = "efficiency"
    mailbox: ClassVar[MailboxPolicy] = MailboxPolicy(bound=1024, full="fail")

    def __init__(self, settings: dict[str, Any]) -> None:
        self._exporter = SpanExporter(msgspec.convert(settings, SpanSettings))

    @behaviour
    def take(self, record: bytes) -> None:
        self._exporter.put((record,))

    @behaviour
    def statistics(self) -> ExportStatistics:
        return self._exporter.statistics()

    def stopped(self, reason: ExitReason) -> None:
        self._exporter.finish(0.0)


class ActorSink:
    """A :class:`~zerver.trace.recorder.Sink`: sends to the actor that ``stage`` finds. What does not get there, as that
    one is being started anew or has too much to do, is dropped and counted."""

    def __init__(self, stage: Scheduler) -> None:
        self._stage = stage
        self._told_at = 0.0
        self.dropped = 0

    def write(self, rows: Sequence[Row], /) -> bool:
        sent = 0
        try:
            with self._stage:
                actor = whereis(EXPORTER, ExportActor)
                for row in rows if actor is not None else ():
                    assert actor is not None
                    actor.take(row.data)
                    sent += 1
        except ActorError as problem:  # its mailbox is full, or a trace is larger than a message may be
            self._drop(len(rows) - sent, str(problem))
        else:
            if actor is None:
                self._drop(len(rows), "who exports them is not there")
        return True

    async def close(self) -> None:
        """What was sent is on its way."""

    def _drop(self, traces: int, problem: str) -> None:
        self.dropped += traces
        now = time.monotonic()
        if not self._told_at or now - self._told_at >= _AGAIN:
            self._told_at = now
            _log.warning("%d traces were not exported so far: %s", self.dropped, problem)
