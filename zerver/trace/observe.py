"""What the dispatcher tells of effects, as events of the traces of their requests."""

from __future__ import annotations

from typing import Any

from zerver_runtime.reactor.effector import Event
from zerver_runtime.reactor.ticket import Ticket

from .events import EventKind

__all__ = ["observe_effects"]

# An effect that is cancelled is traced by the interpreter, which knows why: in the causal order of the request.
_KINDS = {
    "ReactorEffectScheduled": EventKind.ReactorEffectScheduled,
    "EffectStart": EventKind.EffectStart,
    "EffectRetry": EventKind.EffectRetry,
    "ReactorEffectCompleted": EventKind.ReactorEffectCompleted,
    "BreakerStateChanged": EventKind.BreakerStateChanged,
}  # fmt: skip


def observe_effects(event: Event, ticket: Ticket, at: float, detail: Any, /) -> None:
    """For a dispatcher, whose scopes are owned by an execution, and whose tickets carry a StartEffect or DetachEffect
    as their tag. Tickets without one belong to no request, and leave no trace."""
    kind = _KINDS.get(event)
    run: Any = ticket.scope.owner
    start: Any = ticket.tag
    if kind is None or run is None or start is None or run.events is None:
        return
    run.events.append((kind, int(at * 1e9), start.what.label, start.need, start.effect, detail))
