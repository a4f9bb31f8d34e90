"""What the dispatcher tells of effects, as events of the traces of their requests."""

from __future__ import annotations

from typing import Any

from zerver_runtime.reactor.dispatcher import Observe
from zerver_runtime.reactor.effector import Event
from zerver_runtime.reactor.ticket import Ticket

from .events import EventKind, Trace

__all__ = ["effect_observer"]

# An effect that is cancelled is traced by the interpreter, which knows why: in the causal order of the request.
_KINDS = {
    "ReactorEffectScheduled": EventKind.ReactorEffectScheduled,
    "EffectStart": EventKind.EffectStart,
    "EffectRetry": EventKind.EffectRetry,
    "ReactorEffectCompleted": EventKind.ReactorEffectCompleted,
    "BreakerStateChanged": EventKind.BreakerStateChanged,
}  # fmt: skip


def effect_observer(trace: Trace) -> Observe:
    """For a dispatcher, whose scopes are owned by an execution, and whose tickets carry a StartEffect or DetachEffect
    as their tag. Tickets without one belong to no request, and leave no trace."""

    def observe(event: Event, ticket: Ticket, at: float, detail: Any, /) -> None:
        kind = _KINDS.get(event)
        run: Any = ticket.scope.owner
        start: Any = ticket.tag
        if kind is None or run is None or start is None:
            return
        effect = start.what
        trace.record(kind, run.state.request.id, int(at * 1e9), effect.label, start.need, start.effect, detail)

    return observe
