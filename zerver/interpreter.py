"""The interpreter: the one state machine that turns decisions and completions into actions.

``advance(execution, input) -> actions`` is all there is. It calls the steps itself, one after another in a loop,
until a Need or an end; it never awaits, never raises, and reads only the clock and sources that it was handed.
Whoever drives it (an engine, a replay, a test) carries out the actions in order and comes back with inputs.

What each input does in each phase; everything else is dropped and counted::

    phase      Start  Settled  StepReturned/Awaits/Raised  Refused   GoOn   DeadlinePassed  Cancelled  Closed
    NEW        run                                         fail             504             abandon    abandon, close
    WAITING           join                                           go on  504             abandon    abandon, close
    OFFLOADED                  go on                       fail             504             abandon    abandon, close*
    ENDED                      clean up                    clean up                                    close*
    CLOSED

*: when the step is back.

Past the deadline the answer is 504, whatever a step or a Need came to: the clock decides, not the order of inputs.
Only a step that raised is the bug that it is at any time.
"""

from __future__ import annotations

from types import CoroutineType
from typing import Any, Final, TypeAlias

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.join import PENDING, Verdict

from .client_input import BadInput
from .compiled_step import CompiledStep
from .context import CtxView
from .decision import Continue, Done, Fail, Need
from .ending import abandon, bug, close, close_coroutine, deadline_error, discard, end, fail, let_go
from .error import Error, ErrorKind
from .execution import CLOSED, ENDED, NEW, OFFLOADED, WAITING, Execution, Following, PendingNeed, Phase
from .need import Asking
from .response import Response
from .signals import (
    Action,
    Cancelled,
    Closed,
    DeadlinePassed,
    GiveWay,
    GoOn,
    Input,
    Refused,
    Respond,
    RunStep,
    Settled,
    Start,
    StartEffect,
    StepAwaits,
    StepOverran,
    StepRaised,
    StepReturned,
)
from .slot import takes_none
from .step import continuation
from .step_mistakes import awaited_no_need, endless, no_decision, no_response, wants_a_loop, wrong_write
from .trace.events import QUICK_NS, EventKind

__all__ = ["Execution", "Phase", "advance", "run_step"]

_Actions: TypeAlias = list[Action]
_View: TypeAlias = CtxView[Any, Any]
_Coroutine: TypeAlias = "CoroutineType[Any, Any, Any] | None"
_StepBack: TypeAlias = StepReturned | StepAwaits | StepRaised | Refused

_LIVE: Final = (NEW, WAITING, OFFLOADED)


def advance(run: Execution, event: Input) -> list[Action]:
    """Feed one input; carry out the actions in order. Never raises."""
    actions: _Actions = []
    phase = run.phase
    if type(event) is Settled:
        pending = run.pending
        if pending is None or pending.id != event.need:
            _late(run, event)
            return actions
        verdict = pending.join.record(event.effect, type(event.outcome) is Success)
        if verdict is PENDING:  # as nearly always
            pending.outcomes[event.effect] = event.outcome
        elif verdict.arrival == "counted":
            pending.outcomes[event.effect] = event.outcome
            _run(run, _follow(run, pending, verdict, actions), actions)
        else:
            _late(run, event)
    elif type(event) is Start and phase is NEW:
        _run(run, _NEXT_IN_PIPELINE, actions)
    elif type(event) is Closed and phase is not CLOSED:
        if phase in _LIVE:
            abandon(run, "closed before it ended", actions)
        if run.offloaded is not None:
            run.close_later = True  # exit callbacks must not pull the ground from under a step that still runs
        else:
            close(run, actions)
    elif type(event) is GoOn and run.parked is not None:
        following, run.parked = run.parked, None
        _run(run, following, actions)
    elif type(event) is DeadlinePassed and phase in _LIVE:
        fail(run, deadline_error(run), actions)
    elif type(event) is Cancelled and phase in _LIVE:
        abandon(run, event.reason, actions)
    elif isinstance(event, (StepReturned, StepAwaits, StepRaised, Refused)) and run.offloaded is not None:
        _step_back(run, run.offloaded, event, actions)
    elif type(event) is Refused and phase is NEW:
        late = run.around.clock() >= run.deadline_ns
        fail(run, deadline_error(run) if late else event.error, actions)
    else:
        run.dropped += 1
    return actions


# Steps


def run_step(work: RunStep) -> StepReturned | StepAwaits | StepRaised:
    """Run a step that was offloaded, on whatever thread this is called; the result is the next input."""
    result = _call(work.step, work.view, work.coroutine, work.value)
    return result if type(result) is StepAwaits or type(result) is StepRaised else StepReturned(result)


def _call(step: CompiledStep, view: _View, coroutine: _Coroutine, value: Any) -> Any:
    """Run a step, or go on with it. What it returned, or StepAwaits, or StepRaised."""
    if coroutine is not None:
        return _resume(coroutine, value)
    try:
        result: Any = step.fn(view)
    except BaseException as problem:  # a step may raise anything, and none of it may end the engine
        return StepRaised(problem)
    return _resume(result, None) if type(result) is CoroutineType else result


def _resume(coroutine: CoroutineType[Any, Any, Any], value: Any) -> Any:
    """Go on with an async step. What it returned, or StepAwaits, or StepRaised."""
    try:
        return StepAwaits(coroutine, coroutine.send(value))
    except StopIteration as stop:
        return stop.value
    except BaseException as problem:
        return StepRaised(problem)


_NEXT_IN_PIPELINE: Final = Continue()


def _run(run: Execution, following: Following | None, actions: _Actions) -> None:
    """Run what is to be run, and all that follows it, until something must be waited for. A loop and no recursion:
    chains of continuations may be of any length."""
    if following is None:
        return
    around, steps, deadline_ns = run.around, run.steps, run.deadline_ns
    clock, offload, budget = around.clock, around.offload, around.step_budget_ns
    quick = budget if budget < QUICK_NS else QUICK_NS
    now = clock()
    if now >= deadline_ns:
        run.tell((now,))
        if type(following) is tuple:
            close_coroutine(following[2], actions)
        fail(run, deadline_error(run), actions)
        return
    if now - run.started_ns > QUICK_NS:
        run.tell((now,))
    left = around.in_a_row
    while following is not None:
        if not left:
            run.phase, run.parked = WAITING, following
            actions.append(GiveWay())
            return
        left -= 1
        if type(following) is not tuple:
            for step in steps[run.position :]:
                view = CtxView(run, step, now)
                if offload and step in offload:
                    _elsewhere(run, RunStep(step, view, None, None), now, actions)
                    return
                began = now
                result: Any
                try:  # as _call() does it
                    result = step.fn(view)
                except BaseException as problem:
                    result = StepRaised(problem)
                kind = type(result)
                if kind is CoroutineType:
                    result = _resume(result, None)
                    kind = type(result)
                now = clock()
                if now - began > quick or now >= deadline_ns:
                    break
                # As most steps come to their end: in two short ways, and without an event.
                if kind is Continue:
                    run.position += 1
                elif kind is Done and type(response := result.response) is Response:
                    run.phase, run.response, run.answered_ns = ENDED, response, now
                    actions.append(Respond(response))
                    return
                else:
                    break
            else:
                run.tell((now,))
                bug(run, endless(run), None, actions)
                return
        else:
            step, its_view, coroutine, value = following
            view = CtxView(run, step, now) if its_view is None else its_view
            view._at_ns = now
            if offload and step in offload:
                _elsewhere(run, RunStep(step, view, coroutine, value), now, actions)
                return
            result = _call(step, view, coroutine, value)
            began, now = now, clock()
        if now - began > budget:
            actions.append(StepOverran(step, now - began))
        following = _take(run, step, view, result, began, now, actions)


def _elsewhere(run: Execution, work: RunStep, now: int, actions: _Actions) -> None:
    run.tell((run.position, work.step, now))
    run.phase, run.offloaded = OFFLOADED, work
    actions.append(work)


def _take(
    run: Execution, step: CompiledStep, view: _View, result: Any, began: int | None, now: int, actions: _Actions
) -> Following | None:
    """Take what a step gave. What to run next, or ``None`` when the run waits or has ended. ``began``: when it did, if
    it ran in place."""
    kind = type(result)
    in_time = now < run.deadline_ns
    asks = kind is StepAwaits and type(result.asked) is Asking
    told = Need if asks else kind  # the same trace, whichever way a step asks
    sound = kind is not Done or issubclass(type(result.response), Response)
    run.tell((run.position, step, began, now, told if in_time and sound else told.__name__))
    if not in_time:
        if kind is StepRaised and not _is_bad_input(result.exception):
            _raised(run, step, result.exception, actions)
            return None
        if kind is StepAwaits:
            close_coroutine(result.coroutine, actions)
        discard(result, actions)
        fail(run, deadline_error(run), actions)
    elif kind is Continue:
        run.position += 1
        return _NEXT_IN_PIPELINE
    elif not sound:
        bug(run, no_response(step, result.response), None, actions)
    elif kind is Done:
        run.response, run.answered_ns = result.response, now
        end(run, actions)
        actions.append(Respond(result.response))
    elif kind is Need:
        return _ask(run, step, view, result, None, False, actions)
    elif kind is Fail:
        fail(run, Error(result.kind, result.what, result.key, result.detail, result.retry_after), actions)
    elif kind is StepRaised and _is_bad_input(result.exception):
        fail(run, result.exception.error, actions)
    elif kind is StepRaised:
        _raised(run, step, result.exception, actions)
    elif kind is StepAwaits and type(result.asked) is Asking:
        return _ask(run, step, view, result.asked.need, result.coroutine, result.asked.single, actions)
    elif kind is StepAwaits:
        close_coroutine(result.coroutine, actions)
        bug(run, awaited_no_need(step), None, actions)
    else:
        if kind is CoroutineType:
            result.close()
        bug(run, no_decision(step, result), None, actions)
    return None


def _is_bad_input(exception: BaseException) -> bool:
    return issubclass(type(exception), BadInput)  # isinstance() would ask the exception, too, which may raise


def _step_back(run: Execution, work: RunStep, event: _StepBack, actions: _Actions) -> None:
    run.offloaded = None
    if isinstance(event, Refused):
        close_coroutine(work.coroutine, actions)
        if run.phase is OFFLOADED:
            late = run.around.clock() >= run.deadline_ns
            fail(run, deadline_error(run) if late else event.error, actions)
            return
    elif run.phase is OFFLOADED:
        result = event.value if isinstance(event, StepReturned) else event
        _run(run, _take(run, work.step, work.view, result, None, run.around.clock(), actions), actions)
        return
    run.dropped += 1  # the request ended meanwhile
    if isinstance(event, StepAwaits):
        close_coroutine(event.coroutine, actions)
    if isinstance(event, StepReturned):
        discard(event.value, actions)
    if run.close_later:
        close(run, actions)


def _raised(run: Execution, step: CompiledStep, exception: BaseException, actions: _Actions) -> None:
    if wants_a_loop(exception):
        bug(run, awaited_no_need(step), exception, actions)
    else:
        bug(run, f"step {step.name} failed", exception, actions)


# Needs


def _ask(
    run: Execution, asker: CompiledStep, view: _View, need: Need, coroutine: _Coroutine, single: bool, actions: _Actions
) -> Following | None:
    """Schedule a Need; refused before any of its effects starts, if it could not be resolved later."""
    problem, exception, then = wrong_write(run, asker, need), None, None
    if problem is None and need.then is not None:
        try:
            then = continuation(need.then)
        except BaseException as raised:  # what it says may name files, and is for the log alone
            problem, exception = f"step {asker.name}: its continuation cannot run", raised
    if problem is not None:
        close_coroutine(coroutine, actions)
        bug(run, problem, exception, actions)
        return None
    run.need_id += 1
    run.pending = pending = PendingNeed(run.need_id, need, asker, view, then, coroutine, single)
    run.phase = WAITING
    run.compensations += tuple(need.compensations)
    run.note(EventKind.NeedScheduled, asker.name, detail=need)
    return _follow(run, pending, pending.join.begin(), actions)


def _late(run: Execution, event: Settled) -> None:
    run.dropped += 1
    run.note(EventKind.EffectLate, "", event.need, event.effect, event.outcome)


def _follow(run: Execution, pending: PendingNeed, verdict: Verdict, actions: _Actions) -> Following | None:
    """Do what the join says. What to run next, or ``None`` when the run waits or has ended."""
    effects, detach = pending.need.effects, pending.need.detach
    for index in verdict.start:
        effect = effects[index]
        actions.append(StartEffect(pending.id, index, effect, detach and not effect.required))
    if verdict.state == "pending":
        return None
    run.note(EventKind.JoinSatisfied, "", detail=verdict.state)
    let_go(run, pending, verdict.cancel, verdict.detach, actions)
    outcomes = pending.outcomes
    run.errors = tuple([_error(one) for one in outcomes if one is not None and type(one) is not Success])
    if verdict.failed is not None:
        late = run.around.clock() >= run.deadline_ns
        close_coroutine(pending.coroutine, actions)
        fail(run, deadline_error(run) if late else _error(outcomes[verdict.failed]), actions)
        return None
    for effect, outcome in zip(effects, outcomes, strict=True):
        slot = effect.into
        if slot is None or type(outcome) is not Success:
            continue
        value = outcome.value
        # A key without a value succeeds with None; a slot whose type has no None is then left unset.
        if value is not None or takes_none(slot):
            run.write(slot, value, pending.asker)
    if pending.coroutine is not None:
        run.note(EventKind.ContinuationStart, pending.asker.name)
        values = tuple([outcome.value if type(outcome) is Success else None for outcome in outcomes])
        return pending.asker, pending.view, pending.coroutine, values[0] if pending.single else values
    if pending.then is None:
        run.position += 1
        return _NEXT_IN_PIPELINE
    run.note(EventKind.ContinuationStart, pending.then.name)
    return pending.then, None, None, None


def _error(outcome: Outcome | None) -> Error:
    error = outcome.error if type(outcome) is Failure else None
    return error if isinstance(error, Error) else Error(ErrorKind.INTERNAL, "an effect failed")
