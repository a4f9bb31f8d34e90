"""The state of one execution: a request on its way through a pipeline. Only the interpreter changes it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import CoroutineType
from typing import Any, Final, TypeAlias

from zerver_runtime.outcome import Outcome
from zerver_runtime.reactor.join import JoinState

from .compiled_step import CompiledStep
from .context import CtxView, RequestState
from .decision import Compensation, Continue, Need
from .error import Error
from .request import Request
from .response import Response
from .signals import RunStep
from .surroundings import Surroundings
from .trace.events import MOST_EVENTS, Event, EventKind

__all__ = [
    "CLOSED",
    "ENDED",
    "NEW",
    "OFFLOADED",
    "WAITING",
    "Execution",
    "Following",
    "PendingNeed",
    "Phase",
]


class Phase(enum.Enum):
    """Where an execution stands."""

    NEW = "new"
    WAITING = "waiting for effects"
    OFFLOADED = "waiting for an offloaded step"
    ENDED = "ended"
    CLOSED = "closed"


# Where these are compared for each request: an enum's attribute costs 0.1 us on Python 3.11.
NEW: Final = Phase.NEW
WAITING: Final = Phase.WAITING
OFFLOADED: Final = Phase.OFFLOADED
ENDED: Final = Phase.ENDED
CLOSED: Final = Phase.CLOSED


class PendingNeed:
    """The Need that an execution waits for, and who asked."""

    __slots__ = ("asker", "coroutine", "id", "join", "need", "outcomes", "single", "then", "view")

    def __init__(
        self,
        id: int,
        need: Need,
        asker: CompiledStep,
        view: CtxView[Any, Any],
        then: CompiledStep | None,
        coroutine: CoroutineType[Any, Any, Any] | None,
        single: bool,
    ) -> None:
        self.id = id
        """Counts the execution's Needs from 1."""
        self.need = need
        self.asker = asker
        self.view = view
        self.then = then
        """The continuation; ``None`` goes on with the coroutine or the next step."""
        self.coroutine = coroutine
        """Of an async step that awaits the Need; ``None`` for a Need that was returned."""
        self.single = single
        """Whether the coroutine awaits one value, not a tuple."""
        self.join = JoinState([effect.required for effect in need.effects], need.join, need.mode, need.detach)
        self.outcomes: list[Outcome | None] = [None] * len(need.effects)


Following: TypeAlias = (
    "Continue | tuple[CompiledStep, CtxView[Any, Any] | None, CoroutineType[Any, Any, Any] | None, Any]"
)
"""What to run: the step at the position; or a step, with its view and coroutine if it goes on, and what its ``await``
gives."""


class Execution(RequestState):
    """One request on its way through one pipeline: its state, and how far it has come. One object for both, since each
    request makes one. Read it freely; only ``advance`` changes it."""

    __slots__ = (
        "answered_ns", "around", "close_later", "compensations", "dropped", "ended_ns", "events", "failure", "need_id",
        "offloaded", "parked", "pending", "phase", "position", "response", "route", "steps",
    )  # fmt: skip

    def __init__(
        self,
        steps: tuple[CompiledStep, ...],
        request: Request,
        around: Surroundings,
        started_ns: int,
        deadline_ns: int,
        route: str = "",
    ) -> None:
        RequestState.__init__(self, request, around.sources, started_ns, deadline_ns)
        self.around = around
        self.steps = steps
        self.route = route
        """As messages name it: ``GET /todos/{id:int}``."""
        self.phase = NEW
        self.position = 0
        """Index in ``steps`` of the step that runs, or whose continuation runs."""
        self.need_id = 0
        """Of the last Need; 0 before the first."""
        self.pending: PendingNeed | None = None
        """Set exactly in phase WAITING, unless it is parked."""
        self.offloaded: RunStep | None = None
        """The step that runs elsewhere; it may outlive the end of the request."""
        self.parked: Following | None = None
        """What goes on after :class:`~zerver.signals.GoOn`; set in phase WAITING only, and then no Need is pending."""
        self.close_later = False
        """Closed while a step runs elsewhere: the exit callbacks wait until it is back."""
        self.compensations: tuple[Compensation, ...] = ()
        """Of all Needs so far; carried, not run."""
        self.dropped = 0
        """Inputs that nothing waited for."""
        self.response: Response | None = None
        """The answer, once there is one."""
        self.failure: Error | str | None = None
        """Why it failed, or was given up."""
        self.answered_ns = 0
        """When a step gave it."""
        self.ended_ns = 0
        """When it was closed, if it is traced or counted."""
        self.events: list[Event] | None = None
        """Of its trace, in their short form; ``None`` before the first."""

    def tell(self, event: Event) -> None:
        """One more event of its trace, if it has one. On any thread that works for it."""
        events = self.events
        if events is not None:
            if len(events) < MOST_EVENTS:
                events.append(event)
        elif self.around.trace is not None:
            self.events = [event]

    def note(
        self, kind: EventKind, name: str, need: int | None = None, effect: int = -1, detail: object = None
    ) -> None:
        """One more event of its trace, if it has one, which happens now; of the last Need, if not said otherwise."""
        if self.around.trace is not None:
            self.tell((kind, self.around.clock(), name, self.need_id if need is None else need, effect, detail))

    @property
    def slots(self) -> Mapping[Any, Any]:
        """The slots that are set."""
        return self.values

    def __repr__(self) -> str:
        request = self.request
        return f"<Execution {request.id} {request.method} {request.path}: {self.phase.value}, need {self.need_id}>"
