"""What the dispatcher tells of effects, as events of the traces of their requests."""

from __future__ import annotations

from typing import Any

from zerver_runtime.reactor.compute_pool import ComputeEvent
from zerver_runtime.reactor.effector import Event
from zerver_runtime.reactor.ticket import Ticket

__all__ = ["EffectObserver"]


class EffectObserver:
    """Of one service: its dispatcher, and its compute workers."""

    def __init__(self) -> None:
        self._started: Ticket | None = None  # whose attempt was started last

    def __call__(self, event: Event, ticket: Ticket, at: float, detail: Any, /) -> None:
        """For a dispatcher, whose scopes are owned by an execution, and whose tickets carry a StartEffect or
        DetachEffect as their tag. Tickets without one belong to no request, and leave no trace."""
        if event == "EffectStart":
            self._started = ticket
        run: Any = ticket.scope.owner
        start = ticket.tag
        # An effect that is cancelled is traced by the interpreter, which knows why: in the causal order of the request.
        if run is None or start is None or event == "EffectCancelled":
            return
        # Not the ticket: by its scope it refers to the request, which would be left to the garbage collector.
        run.tell((event, at, start, detail, ticket.raw))

    def starting(self) -> Ticket | None:
        """Whose attempt is being started; for its driver, once."""
        ticket, self._started = self._started, None
        return ticket

    def current(self) -> object:
        """The tag of a compute task whose effect is being started: the request, and the effect in it."""
        ticket = self.starting()
        return None if ticket is None else (ticket.scope.owner, ticket.tag)

    def compute(self, event: ComputeEvent, tag: Any, at: float, detail: object, /) -> None:
        """For a compute pool."""
        if tag is None:
            return
        run, start = tag
        if run is not None and start is not None:
            run.tell((event, at, start, detail, None))
