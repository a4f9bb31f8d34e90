"""The interpreter: the one state machine that turns decisions and completions into actions.

``advance(execution, input) -> actions`` is all there is. It calls the steps itself, one after another in a loop,
until a Need or an end; it never awaits, never raises, and reads only the clock and sources that it was handed.
Whoever drives it (an engine, a replay, a test) carries out the actions in order and comes back with inputs.

What each input does in each phase; everything else is dropped and counted::

    phase      Start  Settled  StepReturned/Awaits/Raised  DeadlinePassed  Cancelled  Closed
    NEW        run                                         504             abandon    close
    WAITING           join                                 504             abandon    abandon, close
    OFFLOADED                  go on                       504             abandon    abandon, close when it is back
    ENDED                      clean up                                               close (when it is back)
    CLOSED
"""

from __future__ import annotations

import re
from types import CoroutineType
from typing import Any, TypeAlias

from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.join import Verdict

from .client_input import BadInput
from .context import CtxView
from .decision import Continue, Done, Fail, Need
from .error import AppError, Error, ErrorKind
from .execution import Execution, PendingNeed, Phase, Surroundings
from .need import Asking
from .response import Response
from .signals import (
    Action,
    CancelEffect,
    Cancelled,
    Closed,
    DeadlinePassed,
    DetachEffect,
    Input,
    ReportBug,
    Respond,
    RunStep,
    Settled,
    Start,
    StartEffect,
    StepAwaits,
    StepRaised,
    StepReturned,
)
from .step import CompiledStep, continuation
from .trace.events import EventKind

__all__ = ["Execution", "Phase", "Surroundings", "advance", "run_step"]

_LIVE = (Phase.NEW, Phase.WAITING, Phase.OFFLOADED)
_WANTS_A_LOOP = re.compile(
    r"no (running|current) (asyncio )?event loop|not (currently )?in async context|unknown async library", re.I
)


def advance(run: Execution, event: Input) -> list[Action]:
    """Feed one input; carry out the actions in order. Never raises."""
    actions: list[Action] = []
    phase = run.phase
    match event:
        case Start() if phase is Phase.NEW:
            _trace(run, EventKind.RequestStart, run.state.started_ns, run.state.request.path)
            _run(run, _NEXT_IN_PIPELINE, actions)
        case Settled():
            _settled(run, event, actions)
        case StepReturned() | StepAwaits() | StepRaised() if run.offloaded is not None:
            _step_back(run, *run.offloaded, event, actions)
        case DeadlinePassed() if phase in _LIVE:
            _fail(run, _deadline_error(run), actions)
        case Cancelled() if phase in _LIVE:
            _abandon(run, event.reason, actions)
        case Closed() if phase is not Phase.CLOSED:
            if phase in _LIVE:
                _abandon(run, "closed before it ended", actions)
            if run.offloaded is not None:
                run.close_later = True  # exit callbacks must not pull the ground from under a step that still runs
            else:
                _close(run, actions)
        case _:
            run.dropped += 1
    return actions


# Steps


def run_step(work: RunStep) -> StepReturned | StepAwaits | StepRaised:
    """Run a step that was offloaded, on whatever thread this is called; the result is the next input."""
    result = _call(work.step, work.view, work.coroutine, work.value)
    return result if isinstance(result, (StepAwaits, StepRaised)) else StepReturned(result)


def _call(
    step: CompiledStep, view: CtxView[Any, Any], coroutine: CoroutineType[Any, Any, Any] | None, value: Any
) -> Any:
    """Run a step, or go on with its coroutine. What it returned, or StepAwaits, or StepRaised."""
    try:
        if coroutine is None:
            result = step.fn(view)
            if type(result) is not CoroutineType:
                return result
            coroutine = result
        try:
            return StepAwaits(coroutine, coroutine.send(value))
        except StopIteration as stop:
            return stop.value
    except BaseException as problem:  # a step may raise anything, and none of it may end the engine
        return StepRaised(problem)


# What to run: a step (None: the one at the position), its view and coroutine where it goes on, and what its await gives.
_Next: TypeAlias = "tuple[CompiledStep | None, CtxView[Any, Any] | None, CoroutineType[Any, Any, Any] | None, Any]"
_NEXT_IN_PIPELINE: _Next = (None, None, None, None)


def _run(run: Execution, following: _Next, actions: list[Action]) -> None:
    """Run what is to be run, and all that follows it, until something must be waited for. A loop and no recursion:
    chains of continuations may be of any length."""
    around, state = run.around, run.state
    clock, trace, offload = around.clock, around.trace, around.offload
    step, view, coroutine, value = following
    now = clock()
    if now >= state.deadline_ns:
        _close_coroutine(coroutine, actions)
        _fail(run, _deadline_error(run), actions)
        return
    while True:
        if step is None:
            if run.position >= len(run.steps):
                _bug(run, _endless(run), None, actions)
                return
            step = run.steps[run.position]
        if view is None:
            view = CtxView(state, step, now)
        else:
            view._at_ns = now
        if trace is not None:
            trace.record(EventKind.StepStart, state.request.id, now, step.name, run.need_id, -1, None)
        if offload is not None and offload(step):
            run.phase, run.offloaded = Phase.OFFLOADED, (step, view)
            actions.append(RunStep(step, view, coroutine, value))
            return
        result = _call(step, view, coroutine, value)
        now = clock()
        again = _take(run, step, view, result, now, actions)
        if again is None:
            return
        step, view, coroutine, value = again


def _take(
    run: Execution, step: CompiledStep, view: CtxView[Any, Any], result: Any, now: int, actions: list[Action]
) -> _Next | None:
    """Take what a step gave. What to run next, or ``None`` when the run waits or has ended."""
    kind = type(result)
    if run.around.trace is not None:
        run.around.trace.record(EventKind.StepEnd, run.state.request.id, now, step.name, run.need_id, -1, kind.__name__)
    if kind is StepRaised:
        _raised(run, step, result.exception, actions)
    elif now >= run.state.deadline_ns:
        if kind is StepAwaits:
            _close_coroutine(result.coroutine, actions)
        _fail(run, _deadline_error(run), actions)
    elif kind is Continue:
        run.position += 1
        return _NEXT_IN_PIPELINE
    elif kind is Done:
        _trace(run, EventKind.Done, now, step.name)
        _end(run, result.response, actions)
    elif kind is Need:
        return _ask(run, PendingNeed(run.need_id + 1, result, step, view, None, False), actions)
    elif kind is Fail:
        _fail(run, Error(result.kind, result.what, result.key, result.detail, result.retry_after), actions)
    elif kind is StepAwaits and isinstance(result.asked, Asking):
        asked, coroutine = result.asked, result.coroutine
        return _ask(run, PendingNeed(run.need_id + 1, asked.need, step, view, coroutine, asked.single), actions)
    elif kind is StepAwaits:
        _close_coroutine(result.coroutine, actions)
        _bug(run, _not_need(step), None, actions)
    else:
        _bug(run, _not_a_decision(step, result), None, actions)
    return None


def _step_back(
    run: Execution,
    step: CompiledStep,
    view: CtxView[Any, Any],
    event: StepReturned | StepAwaits | StepRaised,
    actions: list[Action],
) -> None:
    run.offloaded = None
    if run.phase is Phase.OFFLOADED:
        result = event.value if isinstance(event, StepReturned) else event
        again = _take(run, step, view, result, run.around.clock(), actions)
        if again is not None:
            _run(run, again, actions)
        return
    run.dropped += 1  # the request ended meanwhile
    if isinstance(event, StepAwaits):
        _close_coroutine(event.coroutine, actions)
    if run.close_later:
        _close(run, actions)


def _raised(run: Execution, step: CompiledStep, exception: BaseException, actions: list[Action]) -> None:
    if isinstance(exception, BadInput):
        _fail(run, exception.error, actions)
    elif step.is_async and isinstance(exception, RuntimeError) and _WANTS_A_LOOP.search(str(exception)):
        _bug(run, _not_need(step), exception, actions)
    else:
        _bug(run, f"step {step.name} failed", exception, actions)


def _not_need(step: CompiledStep) -> str:
    return (
        f"step {step.name} awaited something that is not need(...): a step does no I/O and has no event loop; "
        "declare an effect instead, such as call.run(...)"
    )


def _not_a_decision(step: CompiledStep, result: Any) -> str:
    found = "nothing (did you forget 'return'?)" if result is None else f"a {type(result).__name__}"
    return f"step {step.name} returned {found}; a step returns Continue(), Need(...), Done or Fail"


def _endless(run: Execution) -> str:
    if not run.steps:
        return "the pipeline has no steps"
    last = run.steps[-1].name
    return f"the pipeline has no end: step {last} went on, and none follows; let the last step return Done or Fail"


# Needs


def _ask(run: Execution, pending: PendingNeed, actions: list[Action]) -> _Next | None:
    """Schedule a Need; refused before any of its effects starts, if it could not be resolved later."""
    problem = _refusal(run, pending.asker, pending.need)
    if problem is not None:
        _close_coroutine(pending.coroutine, actions)
        _bug(run, problem, None, actions)
        return None
    run.need_id = pending.id
    run.pending = pending
    run.phase = Phase.WAITING
    run.compensations += tuple(pending.need.compensations)
    _trace(run, EventKind.NeedScheduled, run.around.clock(), pending.asker.name, detail=pending.need)
    return _follow(run, pending, pending.join.begin(), actions)


def _refusal(run: Execution, step: CompiledStep, need: Need) -> str | None:
    for effect in need.effects:
        slot = effect.into
        if slot is None:
            continue
        if slot not in step.writes:
            union = " | ".join(sorted([*(one.__name__ for one in step.writes), slot.__name__]))
            return (
                f"step {step.name}: effect {effect.label} writes a slot that the step does not declare; annotate its "
                f"context as CtxView[..., {union}]"
            )
        writer = run.state.writers.get(slot, step)
        if writer is not step:
            return (
                f"step {step.name}: effect {effect.label} writes a slot that step {writer.name} has written; a slot "
                "has one writer on each path"
            )
    if need.then is not None:
        try:
            continuation(need.then)
        except AppError as problem:
            return f"step {step.name}: its continuation cannot run: {problem}"
    return None


def _settled(run: Execution, event: Settled, actions: list[Action]) -> None:
    pending = run.pending
    if pending is not None and pending.id == event.need:
        verdict = pending.join.record(event.effect, type(event.outcome) is Success)
        if verdict.arrival == "counted":
            pending.outcomes[event.effect] = event.outcome
            again = _follow(run, pending, verdict, actions)
            if again is not None:
                _run(run, again, actions)
            return
    run.dropped += 1
    _trace(run, EventKind.EffectLate, run.around.clock(), "", event.need, event.effect, event.outcome)


def _follow(run: Execution, pending: PendingNeed, verdict: Verdict, actions: list[Action]) -> _Next | None:
    """Do what the join says. What to run next, or ``None`` when the run waits or has ended."""
    effects = pending.need.effects
    for index in verdict.start:
        effect = effects[index]
        background = pending.need.detach and not effect.required
        actions.append(StartEffect(pending.id, index, effect, background))
    if verdict.state == "pending":
        return None
    _let_go(run, pending, verdict.cancel, verdict.detach, actions)
    outcomes = pending.outcomes
    run.state.errors = tuple([_error(outcome) for outcome in outcomes if type(outcome) is Failure])
    _trace(run, EventKind.JoinSatisfied, run.around.clock(), "", detail=verdict.state)
    if verdict.failed is not None:
        failure = outcomes[verdict.failed]
        assert type(failure) is Failure  # the join names an effect that was recorded as failed
        _close_coroutine(pending.coroutine, actions)
        _fail(run, _error(failure), actions)
        return None
    for effect, outcome in zip(effects, outcomes, strict=True):
        if effect.into is not None and type(outcome) is Success:
            run.state.write(effect.into, outcome.value, pending.asker)
    if pending.coroutine is not None:
        values = tuple([outcome.value if type(outcome) is Success else None for outcome in outcomes])
        return pending.asker, pending.view, pending.coroutine, values[0] if pending.single else values
    if pending.need.then is None:
        run.position += 1
        return _NEXT_IN_PIPELINE
    step = continuation(pending.need.then)
    _trace(run, EventKind.ContinuationStart, run.around.clock(), step.name)
    return step, None, None, None


def _let_go(
    run: Execution, pending: PendingNeed, cancel: tuple[int, ...], detach: tuple[int, ...], actions: list[Action]
) -> None:
    run.pending = None
    for index in cancel:
        effect = pending.need.effects[index]
        _trace(run, EventKind.EffectCancelled, run.around.clock(), effect.label, pending.id, index)
        actions.append(CancelEffect(pending.id, index))
    actions += [DetachEffect(pending.id, index, pending.need.effects[index]) for index in detach]


def _error(failure: Failure) -> Error:
    error = failure.error
    return error if isinstance(error, Error) else Error(ErrorKind.INTERNAL, "an effect failed")


# Ends


def _deadline_error(run: Execution) -> Error:
    seconds = (run.state.deadline_ns - run.state.started_ns) / 1e9
    return Error(ErrorKind.TIMEOUT, f"the request took longer than its deadline of {seconds:g} s")


def _bug(run: Execution, what: str, exception: BaseException | None, actions: list[Action]) -> None:
    actions.append(ReportBug(what, exception))
    _fail(run, Error(ErrorKind.INTERNAL, what), actions, exception)


def _fail(run: Execution, error: Error, actions: list[Action], exception: BaseException | None = None) -> None:
    _trace(run, EventKind.Fail, run.around.clock(), "", detail=error)
    try:
        response = run.around.render(error, run.state.request, exception)
    except BaseException as problem:  # the app's renderer may raise anything; the client still gets an answer
        actions.append(ReportBug("the error renderer failed", problem))
        response = Response(500, (("content-type", "text/plain; charset=utf-8"),), b"Internal Server Error")
    _end(run, response, actions)


def _end(run: Execution, response: Response, actions: list[Action]) -> None:
    _drop_need(run, actions)
    run.phase = Phase.ENDED
    actions.append(Respond(response))


def _abandon(run: Execution, reason: str, actions: list[Action]) -> None:
    _trace(run, EventKind.Fail, run.around.clock(), "", detail=reason)
    _drop_need(run, actions)
    run.phase = Phase.ENDED


def _drop_need(run: Execution, actions: list[Action]) -> None:
    """Stop waiting for a Need before it has resolved. Like a failed join: detached effects go on, the rest stops."""
    pending = run.pending
    if pending is None:
        return
    effects = pending.need.effects
    left = [index for index in range(len(effects)) if pending.join.settled(index) is None]
    detach = tuple([index for index in left if pending.need.detach and not effects[index].required])
    _let_go(run, pending, tuple([index for index in left if index not in detach]), detach, actions)
    _close_coroutine(pending.coroutine, actions)


def _close_coroutine(coroutine: CoroutineType[Any, Any, Any] | None, actions: list[Action]) -> None:
    if coroutine is None:
        return
    try:
        coroutine.close()
    except BaseException as problem:  # its finally block may raise anything, or await, which is refused
        actions.append(ReportBug("the cleanup of an async step failed; its finally block may not await", problem))


def _close(run: Execution, actions: list[Action]) -> None:
    run.phase = Phase.CLOSED
    exits = run.state.exits or []
    while exits:
        callback = exits.pop()
        _trace(run, EventKind.OnExit, run.around.clock(), getattr(callback, "__qualname__", ""))
        try:
            callback()
        except BaseException as problem:  # one callback must not stop the others
            actions.append(ReportBug("an on_exit callback failed", problem))
    _trace(run, EventKind.RequestEnd, run.around.clock(), "")


def _trace(
    run: Execution,
    kind: EventKind,
    at_ns: int,
    name: str,
    need: int | None = None,
    effect: int = -1,
    detail: object = None,
) -> None:
    trace = run.around.trace
    if trace is not None:
        trace.record(kind, run.state.request.id, at_ns, name, run.need_id if need is None else need, effect, detail)
