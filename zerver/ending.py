"""How an execution ends: answered, failed, given up, closed; and what it lets go of then. For the interpreter alone."""

from __future__ import annotations

from types import CoroutineType
from typing import Any

from .decision import Done
from .error import Error, ErrorKind
from .execution import CLOSED, ENDED, Execution, PendingNeed
from .response import Response, StreamBody
from .signals import Action, CancelEffect, DetachEffect, Discard, ReportBug, Respond
from .trace.events import EventKind

__all__ = ["abandon", "bug", "close", "close_coroutine", "deadline_error", "discard", "end", "fail", "let_go"]


def let_go(
    run: Execution, pending: PendingNeed, cancel: tuple[int, ...], detach: tuple[int, ...], actions: list[Action]
) -> None:
    """The Need is resolved, or given up: these effects of it are cancelled, and those go on in the background."""
    run.pending = None
    for index in cancel:
        run.note(EventKind.EffectCancelled, pending.need.effects[index].label, pending.id, index)
        actions.append(CancelEffect(pending.id, index))
    actions += [DetachEffect(pending.id, index, pending.need.effects[index]) for index in detach]


def deadline_error(run: Execution) -> Error:
    """What a request fails with that is past its deadline."""
    seconds = (run.deadline_ns - run.started_ns) / 1e9
    return Error(ErrorKind.TIMEOUT, f"the request took longer than its deadline of {seconds:g} s")


def bug(run: Execution, what: str, exception: BaseException | None, actions: list[Action]) -> None:
    """Fail for a mistake of the app: 500, and the log is told."""
    actions.append(ReportBug(what, exception))
    fail(run, Error(ErrorKind.INTERNAL, what), actions, exception)


def fail(run: Execution, error: Error, actions: list[Action], exception: BaseException | None = None) -> None:
    """Answer with an error. ``exception``: the bug behind it."""
    run.failure = error
    run.note(EventKind.Fail, "", detail=error)
    end(run, actions)
    try:
        response = run.around.render(error, run.request, exception)
        if not isinstance(response, Response):
            raise TypeError(f"it returned {type(response).__name__}, not a Response")
    except BaseException as problem:  # the app's renderer may raise anything; the client still gets an answer
        actions.append(ReportBug("the error renderer failed", problem))
        response = Response(500, (("content-type", "text/plain; charset=utf-8"),), b"Internal Server Error")
    run.response = response
    actions.append(Respond(response))


def abandon(run: Execution, reason: str, actions: list[Action]) -> None:
    """End without an answer."""
    run.failure = reason
    run.note(EventKind.Fail, "", detail=reason)
    end(run, actions)


def end(run: Execution, actions: list[Action]) -> None:
    """Stop waiting, if there is a Need. Like a failed join: detached effects go on, the rest stops."""
    run.phase = ENDED
    parked, run.parked = run.parked, None
    if type(parked) is tuple:
        close_coroutine(parked[2], actions)
    pending = run.pending
    if pending is None:
        return
    effects = pending.need.effects
    left = [index for index in range(len(effects)) if pending.join.settled(index) is None]
    detach = tuple([index for index in left if pending.need.detach and not effects[index].required])
    let_go(run, pending, tuple([index for index in left if index not in detach]), detach, actions)
    close_coroutine(pending.coroutine, actions)


def discard(result: Any, actions: list[Action]) -> None:
    """Nobody will send what a step came to."""
    if type(result) is not Done or not issubclass(type(result.response), Response):
        return
    if isinstance(result.response.body, StreamBody):
        actions.append(Discard(result.response.body))


def close_coroutine(coroutine: CoroutineType[Any, Any, Any] | None, actions: list[Action]) -> None:
    """Let an async step run its ``finally``."""
    if coroutine is None:
        return
    try:
        coroutine.close()
    except BaseException as problem:  # its finally block may raise anything, or await, which is refused
        actions.append(ReportBug("the cleanup of an async step failed; its finally block may not await", problem))


def close(run: Execution, actions: list[Action]) -> None:
    """The answer is out, or never will be: exit callbacks run, and trace and metrics are told."""
    run.phase = CLOSED
    if run.exits:
        _call_exits(run, actions)
    around = run.around
    trace, count = around.trace, around.count
    if trace is None and count is None:
        return
    run.ended_ns = now = around.clock()
    took, response = now - run.started_ns, run.response
    status = 0 if response is None else response.status
    if count is not None:
        count(run.route, status, took)
    if trace is not None:
        if run.events is not None:
            run.events.append(None)
        if took > trace.least_ns or run.failure is not None or not 0 < status < 500:
            trace.end(run)


def _call_exits(run: Execution, actions: list[Action]) -> None:
    while run.exits:
        callback, name = run.exits.pop(), ""
        try:
            name = getattr(callback, "__qualname__", type(callback).__qualname__)
            run.note(EventKind.OnExit, name)
            result = callback()
            if type(result) is CoroutineType:
                result.close()
                raise TypeError("it is async, and nothing would await it; give a plain function")
        except BaseException as problem:  # one callback must not stop the others
            actions.append(ReportBug(f"on_exit callback {name} failed", problem))
