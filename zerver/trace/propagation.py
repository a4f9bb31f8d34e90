"""The trace that a request belongs to, in the headers of its ``http`` effects. Without any, it costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .trace_context import attempt_span_from, attempts_base, context_of, own_context

if TYPE_CHECKING:
    from ..request import Request

__all__ = ["Propagation"]


class Propagation:
    """``starting`` gives the ticket of the attempt that is being started. ``sampled``: whether spans are exported, so
    that those of a trace that begins here may be found later."""

    def __init__(self, starting: Callable[[], Any], *, sampled: bool) -> None:
        self._starting = starting
        self._sampled = sampled
        # Of the last request: its effects come together, and their headers differ in one id alone. Not the request
        # itself, which would be kept alive.
        self._of = ""
        self._base = 0
        self._parts = ("", "", "")

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What the attempt that is being started is to carry; nothing where it is none of a request."""
        ticket = self._starting()
        if ticket is None or ticket.scope.owner is None or ticket.tag is None:
            return ()
        start, request = ticket.tag, ticket.scope.owner.request
        if self._of != request.id:
            self._read(request)
        before, after, state = self._parts
        span_id = attempt_span_from(self._base, start.need, start.effect, ticket.attempt)
        parent = ("traceparent", f"{before}{span_id}{after}")
        return (parent, ("tracestate", state)) if state else (parent,)

    def _read(self, request: Request) -> None:
        context = context_of(request.headers) or own_context(request.id, sampled=self._sampled)
        before, after = context.traceparent(":").split(":")
        self._of, self._base, self._parts = request.id, attempts_base(request.id), (before, after, context.state)
