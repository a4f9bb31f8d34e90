"""The actor that exports the traces of all schedulers of a Node, and what sends them to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from zerver_runtime.actor import Actor, Affinity, behaviour, whereis
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import ActorError, ExitReason, MailboxFull
from zerver_runtime.reactor.effector import CallLater
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler

from .record import Row
from .span_attributes import SpanSettings
from .span_exporter import ExportStatistics, SpanExporter

__all__ = ["EXPORTER", "ActorSink", "ExportActor"]

EXPORTER = "zerver.otlp"
"""Its name."""

_log = logging.getLogger("zerver.trace")

_AGAIN = 60.0  # seconds between two lines of log
_MESSAGE = 128 * 1024  # bytes of traces in one message, unless a single one is larger
_WAITING = 1024  # traces that are kept until they are sent, or while the actor is away
_EVERY = 0.2  # seconds between two messages, as a rule
_PATIENCE = 2.0  # seconds that a stop waits for it
_PAUSE = 0.02
_AWAY = "who exports them is not there"


class ExportActor(Actor):
    """A thread does the work; the actor only takes what comes. ``settings``: :class:`SpanSettings` as builtins."""

    affinity: ClassVar[Affinity] = "efficiency"
    mailbox: ClassVar[MailboxPolicy] = MailboxPolicy(bound=128, full="fail")

    def __init__(self, settings: dict[str, Any]) -> None:
        self._exporter = SpanExporter(msgspec.convert(settings, SpanSettings))

    @behaviour
    def take(self, records: list[bytes]) -> bool:
        """Whether it does: not when it is about to end."""
        return self._exporter.put(records)

    @behaviour
    def statistics(self) -> ExportStatistics:
        return self._exporter.statistics()

    def stopped(self, reason: ExitReason) -> None:
        self._exporter.finish(0.0)


class ActorSink:
    """A :class:`~zerver.trace.recorder.Sink` of a loop: sends to the actor that ``stage`` finds, a few times a second.

    What the actor does not take, as it ends or is being started anew, is sent again: at a reload it is another's. Some
    is kept for that; the rest is dropped and counted, as is what a full mailbox refuses.
    """

    def __init__(self, stage: Scheduler, call_later: CallLater) -> None:
        self._stage = stage
        self._call_later = call_later
        self._waiting: list[bytes] = []  # to be sent, or to be sent again
        self._bytes = 0  # of it
        self._asked = 0  # traces in messages that are not answered yet
        self._armed = False
        self._told_at = 0.0
        self.dropped = 0

    def write(self, rows: Sequence[Row], /) -> bool:
        """See :class:`~zerver.trace.recorder.Sink`."""
        self._keep([row.data for row in rows])
        if self._bytes >= _MESSAGE:
            self._send()
        return True

    async def close(self) -> None:
        """Have all of it taken, if that can be done in two seconds."""
        until = time.monotonic() + _PATIENCE
        self._send()
        while (self._asked or self._waiting) and time.monotonic() < until:
            await asyncio.sleep(_PAUSE)
            self._send()
        if left := self._asked + len(self._waiting):
            self._waiting.clear()
            self._drop(left, _AWAY)

    def _send(self) -> None:
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        message: list[bytes] = []
        size = 0
        for record in waiting:
            if message and size + len(record) > _MESSAGE:
                self._ask(message)
                message, size = [], 0
            message.append(record)
            size += len(record)
        if message:
            self._ask(message)

    def _ask(self, records: list[bytes]) -> None:
        try:
            with self._stage:
                actor = whereis(EXPORTER, ExportActor)
                reply = None if actor is None else actor.take(records)
        except ActorError as problem:  # its mailbox is full, or a trace is larger than a message may be
            self._drop(len(records), str(problem))
            return
        if reply is None:
            self._keep(records)
        else:
            self._asked += len(records)
            reply.on_done(lambda reply: self._answered(reply, records))

    def _answered(self, reply: Reply[bool], records: list[bytes]) -> None:
        self._asked -= len(records)
        if isinstance(reply.error, MailboxFull):
            self._drop(len(records), str(reply.error))
        elif reply.error is not None or not reply.value:
            self._keep(records)

    def _keep(self, records: list[bytes]) -> None:
        room = max(0, _WAITING - len(self._waiting))
        if len(records) > room:
            self._drop(len(records) - room, _AWAY)
            records = records[:room]
        self._waiting += records
        self._bytes += sum(map(len, records))
        if not self._armed and self._waiting:
            self._armed = True
            self._call_later(_EVERY, self._due)

    def _due(self) -> None:
        self._armed = False
        self._send()

    def _drop(self, traces: int, problem: str) -> None:
        self.dropped += traces
        now = time.monotonic()
        if not self._told_at or now - self._told_at >= _AGAIN:
            self._told_at = now
            _log.warning("%d traces were not exported so far: %s", self.dropped, problem)
