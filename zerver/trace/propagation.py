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
        self._before = self._after = ""

    def lines(self) -> str:
        """The header lines that the attempt which is being started is to carry, each with its end; none where it is
        none of a request."""
        starting = self._starting
        ticket = starting()
        if ticket is None:
            return ""
        start, run = ticket.tag, ticket.scope.owner
        if start is None or run is None:
            return ""
        if self._of != run.request.id:
            self._read(run.request)
        return self._before + attempt_span_from(self._base, start.need, start.effect, ticket.attempt) + self._after

    def _read(self, request: Request) -> None:
        own = own_context(request.id, sampled=self._sampled)
        context = context_of(request.headers) or own
        before, after = context.traceparent(":").split(":")
        state = f"tracestate: {context.state}\r\n" if context.state else ""
        self._of, self._base = request.id, attempts_base(own)
        self._before, self._after = f"traceparent: {before}", f"{after}\r\n{state}"
