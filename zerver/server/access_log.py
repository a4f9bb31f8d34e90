"""The access log: a line for each answer, written off the hot path."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from zerver_runtime.reactor.effector import CallLater, Handle

from ..redaction import Redaction
from .log import Lines, printable

__all__ = ["AccessLog", "AnswerLog", "Asked"]

_log = logging.getLogger("zerver.access")

_EVERY = 0.1  # seconds between two writes
_BATCH = 1000  # lines that are written in one turn of the loop: 2 ms
_MOST = 10_000  # lines that wait; more are dropped and counted
_WITHOUT_BODY = frozenset({204, 304})  # RFC 9110 sections 15.3.5 and 15.4.5


class Asked(Protocol):
    """The head of a request, as far as it is logged."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> bytes:
        """As received."""
        ...


class AccessLog:
    """Collects what was answered, and writes it in batches: one line of ``name=value`` each, with controls escaped, and
    without the values of secret parameters. A batch is one record, since a record of its own costs each line more
    than its request.

    ``clock``: monotonic, nanoseconds.
    """

    def __init__(
        self,
        call_later: CallLater,
        clock: Callable[[], int],
        redaction: Redaction = Redaction(),  # noqa: B008  # it has no state
    ) -> None:
        self._redaction = redaction
        self._call_later = call_later
        self._clock = clock
        self._lines: deque[tuple[str, Asked | None, str, int, int, int]] = deque()
        self._timer: Handle | None = None
        self.dropped = 0
        """Lines that were not written, because too many waited."""

    def add(self, client: str, head: Asked | None, request_id: str, status: int, size: int, started_ns: int) -> None:
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
            _log.info(Lines([_line(self._redaction, *waiting.popleft()) for _ in range(min(most, len(waiting)))]))
        if self.dropped:
            _log.warning("%d lines of the access log were dropped", self.dropped)
            self.dropped = 0


class _AsgiHead(NamedTuple):
    method: str
    target: bytes


class AnswerLog:
    """An ASGI ``send`` that passes messages on, and logs the answer when it is over; of a WebSocket, its upgrade and
    how much was sent."""

    def __init__(self, log: AccessLog, scope: Any, request_id: str, started_ns: int, send: Any) -> None:
        self._log = log
        self._scope = scope
        self._id = request_id
        self._started_ns = started_ns
        self._send = send
        self._status = self._size = 0

    async def __call__(self, message: Any) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self._status = message["status"]
        elif kind in ("http.response.body", "websocket.http.response.body"):
            self._size += len(message.get("body", b""))
        elif kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.close":
            self._status = self._status or 403  # instead of an upgrade
        elif kind == "websocket.send":
            self._size += len(message.get("bytes") or (message.get("text") or "").encode())
        await self._send(message)

    def end(self) -> None:
        """The answer is over, or will not go on."""
        if self._status:
            scope = self._scope
            client, query = scope.get("client"), scope.get("query_string", b"")
            target = (scope.get("raw_path") or scope["path"].encode("utf-8", "replace")) + (query and b"?" + query)
            head = _AsgiHead(scope.get("method", "GET"), target)  # RFC 6455 section 4.1: no other upgrades
            self._log.add(client[0] if client else "", head, self._id, self._status, self._size, self._started_ns)


def _line(
    redaction: Redaction, client: str, head: Asked | None, request_id: str, status: int, size: int, took_ns: int
) -> str:
    method = target = "-"
    if head is not None:
        path, mark, query = head.target.partition(b"?")
        method = head.method
        target = printable((path + mark + (query and redaction.query(query, []))).decode("latin-1"))
    if method == "HEAD" or status in _WITHOUT_BODY:
        size = 0
    return (
        f"client={client or '-'} method={method} target={target} status={status} bytes={size} "
        f"ms={took_ns / 1e6:.3f} id={request_id}"
    )
