"""What goes into the interpreter (inputs) and what comes out (actions). Two closed sets of frozen values."""

from __future__ import annotations

from types import CoroutineType
from typing import Any, TypeAlias

import msgspec

from zerver_runtime.outcome import Outcome

from .compiled_step import CompiledStep
from .context import CtxView
from .effect import Effect
from .error import Error
from .response import Response, StreamBody

__all__ = [
    "Action",
    "CancelEffect",
    "Cancelled",
    "Closed",
    "DeadlinePassed",
    "DetachEffect",
    "Discard",
    "GiveWay",
    "GoOn",
    "Input",
    "Refused",
    "ReportBug",
    "Respond",
    "RunStep",
    "Settled",
    "Start",
    "StartEffect",
    "StepAwaits",
    "StepOverran",
    "StepRaised",
    "StepReturned",
]


# Inputs


class Start(msgspec.Struct, frozen=True):
    """Begin. Once."""


class Settled(msgspec.Struct, frozen=True):
    """An effect has settled, after its retries. ``need`` and ``effect`` are those of its :class:`StartEffect`."""

    need: int
    effect: int
    attempt: int
    outcome: Outcome


class StepReturned(msgspec.Struct, frozen=True):
    """An offloaded step returned this."""

    value: Any


class StepAwaits(msgspec.Struct, frozen=True):
    """An offloaded async step suspended on this."""

    coroutine: CoroutineType[Any, Any, Any]
    asked: Any


class StepRaised(msgspec.Struct, frozen=True):
    """An offloaded step raised this."""

    exception: BaseException


class GoOn(msgspec.Struct, frozen=True):
    """Others had their turn, after :class:`GiveWay`."""


class Refused(msgspec.Struct, frozen=True):
    """There is no room: for the request, which has not begun, or for a step of it that was to run elsewhere, and will
    not be run. The request fails with this error."""

    error: Error


class DeadlinePassed(msgspec.Struct, frozen=True):
    """The request's deadline is over while it waits."""


class Cancelled(msgspec.Struct, frozen=True):
    """Nobody waits for the answer any more: the client has gone, or the server stops."""

    reason: str


class Closed(msgspec.Struct, frozen=True):
    """The request is over: the response was sent, or will never be."""


Input: TypeAlias = (
    Start | Settled | StepReturned | StepAwaits | StepRaised | GoOn | Refused | DeadlinePassed | Cancelled | Closed
)


# Actions


class StartEffect(msgspec.Struct, frozen=True):
    """Perform an effect and answer with :class:`Settled`. ``background``: the request's deadline is not its own,
    because it may outlive the request."""

    need: int
    effect: int
    what: Effect[Any]
    background: bool = False


class CancelEffect(msgspec.Struct, frozen=True):
    """Stop an effect, or do not begin it; nobody waits for it."""

    need: int
    effect: int


class DetachEffect(msgspec.Struct, frozen=True):
    """Let an effect go on in the background, or begin it there: without the request's deadline, and awaited at a
    graceful stop. In sequential mode it may have no :class:`StartEffect`, and those of one Need run one after
    another."""

    need: int
    effect: int
    what: Effect[Any]


class RunStep(msgspec.Struct, frozen=True):
    """Run a step elsewhere with :func:`zerver.interpreter.run_step` and answer with what that gives; with
    :class:`Refused` when it was not run. It has to be answered also when the request has ended meanwhile."""

    step: CompiledStep
    view: CtxView[Any, Any]
    coroutine: CoroutineType[Any, Any, Any] | None
    value: Any
    """What the coroutine's ``await`` gives; None at its start."""


class GiveWay(msgspec.Struct, frozen=True):
    """The request could go on, and has for long (see ``Surroundings.in_a_row``): let others have their turn, and answer
    with :class:`GoOn`."""


class StepOverran(msgspec.Struct, frozen=True):
    """A step that was run in place took longer than ``Surroundings.step_budget_ns``."""

    step: CompiledStep
    took_ns: int


class Respond(msgspec.Struct, frozen=True):
    """Send this. Exactly one for each request that is not cancelled."""

    response: Response


class Discard(msgspec.Struct, frozen=True):
    """Close what a step made to be sent; it will not be, because the request has ended."""

    body: StreamBody


class ReportBug(msgspec.Struct, frozen=True):
    """Log a bug of the app. ``what`` names the step, and nothing that a client may not see."""

    what: str
    exception: BaseException | None


Action: TypeAlias = (
    StartEffect | CancelEffect | DetachEffect | RunStep | GiveWay | StepOverran | Respond | Discard | ReportBug
)
