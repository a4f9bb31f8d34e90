"""What the dispatcher tells of effects, as events of the traces of their requests."""

from __future__ import annotations

from typing import Any

from zerver_runtime.reactor.effector import Event
from zerver_runtime.reactor.ticket import Ticket

__all__ = ["observe_effects"]


def observe_effects(event: Event, ticket: Ticket, at: float, detail: Any, /) -> None:
    """For a dispatcher, whose scopes are owned by an execution, and whose tickets carry a StartEffect or DetachEffect
    as their tag. Tickets without one belong to no request, and leave no trace."""
    run: Any = ticket.scope.owner
    start = ticket.tag
    # An effect that is cancelled is traced by the interpreter, which knows why: in the causal order of the request.
    if run is None or run.events is None or start is None or event == "EffectCancelled":
        return
    # Not the ticket: by its scope it refers to the request, which would be left to the garbage collector.
    run.events.append((event, at, start, detail, ticket.raw))
