"""The trace that a request belongs to, in the headers of its ``http`` effects. Without any, it costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .trace_context import TraceContext, attempt_span_id, context_of, own_context

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
        self._context = TraceContext("", "", 0)

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What the attempt that is being started is to carry; nothing where it is none of a request."""
        ticket = self._starting()
        if ticket is None or ticket.scope.owner is None or ticket.tag is None:
            return ()
        start, request = ticket.tag, ticket.scope.owner.state.request
        context = self._context if self._of == request.id else self._read(request)
        parent = (
            "traceparent",
            context.traceparent(attempt_span_id(request.id, start.need, start.effect, ticket.attempt)),
        )
        return (parent, ("tracestate", context.state)) if context.state else (parent,)

    def _read(self, request: Request) -> TraceContext:
        context = context_of(request.headers) or own_context(request.id, sampled=self._sampled)
        self._of, self._context = request.id, context
        return context
