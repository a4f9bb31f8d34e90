"""What is told of a step that does what no step may: which one it was, what it did, and what to do instead."""

from __future__ import annotations

import re
from types import CoroutineType
from typing import Any

from .compiled_step import CompiledStep
from .decision import Need
from .execution import Execution

__all__ = ["awaited_no_need", "endless", "no_decision", "no_response", "wants_a_loop", "wrong_write"]

_WANTS_A_LOOP = re.compile(r"\bnot?\b.* event loop|async context|async library", re.I)  # of asyncio, anyio, trio


def wants_a_loop(exception: BaseException) -> bool:
    """Whether a step failed as what it called found no event loop."""
    if not issubclass(type(exception), RuntimeError):
        return False
    try:
        return _WANTS_A_LOOP.search(str(exception)) is not None
    except Exception:  # of an exception that cannot be told
        return False


def awaited_no_need(step: CompiledStep) -> str:
    """An async step awaited what is no need(...), or a step called what wants a loop."""
    return (
        f"step {step.name} awaited something other than need(...), or called what wants an event loop: a step does no "
        "I/O and has no loop; declare an effect instead, such as timer.sleep(...) or call.run(...)"
    )


def no_decision(step: CompiledStep, result: Any) -> str:
    """A step returned what is no decision."""
    hint = {type(None): " (did you forget 'return'?)", CoroutineType: " (did you forget 'await'?)"}.get(
        type(result), ""
    )
    found = ("nothing" if result is None else f"a {type(result).__name__}") + hint
    return f"step {step.name} returned {found}; a step returns Continue(), Need(...), Done or Fail"


def no_response(step: CompiledStep, given: Any) -> str:
    """A step returned ``Done`` of what is no response. Seen here, not by ``Done``: a check in Python, called from where
    a value is made, costs more than the value."""
    return (
        f"step {step.name} returned Done({type(given).__name__}): give it a Response, or use Done.json(...), "
        "Done.text(...), ..."
    )


def endless(run: Execution) -> str:
    """The last step went on."""
    if not run.steps:
        return "the pipeline has no steps"
    last = run.steps[-1].name
    return f"the pipeline has no end: step {last} went on, and none follows; let the last step return Done or Fail"


def wrong_write(run: Execution, step: CompiledStep, need: Need) -> str | None:
    """An effect of a Need would write a slot that is not for this step to write; ``None`` if none would."""
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
        writer = run.writers.get(slot, step)
        if writer is not step and writer != step:
            return (
                f"step {step.name}: effect {effect.label} writes a slot that step {writer.name} has written; a slot "
                "has one writer on each path"
            )
    return None
