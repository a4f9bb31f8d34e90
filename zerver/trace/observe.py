"""What the dispatcher tells of effects, as events of the traces of their requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zerver_runtime.reactor.breaker import StateChange
from zerver_runtime.reactor.compute_pool import ComputeEvent
from zerver_runtime.reactor.effector import Event
from zerver_runtime.reactor.ticket import Ticket

from .values import snapshot

__all__ = ["EffectObserver"]

_OUT_OF_REACH = frozenset({"http", "sql", "kv", "cache", "file", "timer"})
"""Families whose raw results nobody but us has: they stay as they are until the trace is kept, or not. What a function
or an actor gave is the app's, which may change it at any time."""


class EffectObserver:
    """Of one service: its dispatcher, and its compute workers. ``count`` takes what is counted for metrics: the event,
    the effect's target, and the detail. ``values``: whether traces keep what drivers gave. ``tell`` hears of each
    circuit breaker that changes, by its target."""

    def __init__(
        self,
        count: Callable[[str, str, Any], object] | None = None,
        *,
        values: bool = True,
        tell: Callable[[str, StateChange], object] = lambda _target, _change: None,
    ) -> None:
        self._count = count
        self._tell = tell
        self._values = values
        self._started: Ticket | None = None  # whose attempt was started last

    def effect(self, event: Event, ticket: Ticket, at: float, detail: Any, /) -> None:
        """For a dispatcher, whose scopes are owned by an execution, and whose tickets carry a StartEffect or
        DetachEffect as their tag. Tickets without one belong to no request, and leave no trace."""
        run: Any = ticket.scope.owner
        start: Any = ticket.tag
        raw = None
        if event == "EffectStart":
            self._started = ticket
        else:
            if self._count is not None:
                self._count(event, ticket.effect.target, detail)
            if event == "ReactorEffectCompleted":
                # Not the ticket: by its scope it refers to the request, which would be left to the garbage collector.
                raw = ticket.raw
                if self._values and ticket.effect.family not in _OUT_OF_REACH:
                    raw = snapshot(raw)
            elif event == "BreakerStateChanged":
                self._tell(ticket.effect.target, detail)
            elif event == "EffectCancelled":
                return  # it is traced by the interpreter, which knows why: in the causal order of the request
        if run is not None and start is not None:
            run.tell((event, at, start, detail, raw))

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
