"""A pipeline as data for whoever draws it: its steps, the slots that they read and write, and where each can go on.

Only what a step's source or ``@step(then=...)`` names is known; the rest is seen when it runs.
"""

from __future__ import annotations

import msgspec

from .compiled_step import CompiledStep
from .pipeline import Pipeline
from .step import check_source, compile_step

__all__ = ["GraphStep", "PipelineGraph", "graph_of"]


class GraphStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the pipeline, or a continuation below it."""

    name: str
    where: str
    """``file:line`` of its definition."""
    position: int
    """In the pipeline, from 1; a continuation has that of the step at its root."""
    asker: int | None
    """The index in :attr:`PipelineGraph.steps` of the step that it continues; ``None`` for one of the pipeline."""
    again: bool
    """It stands above already, with what follows it."""
    reads: tuple[str, ...]
    """Names of slots, sorted; so are ``writes``."""
    writes: tuple[str, ...]
    unknown: bool
    """It may have continuations that nothing names."""
    goes_on: str | None
    """The step that its ``Continue`` leads to; empty where none follows. ``None``: it has no ``Continue``."""
    ends: bool
    """Nothing follows it."""


class PipelineGraph(msgspec.Struct, frozen=True, kw_only=True):
    """``deadline``: seconds; ``None`` is the configured one."""

    label: str
    """``GET /todos/{id:int}``."""
    deadline: float | None
    steps: tuple[GraphStep, ...]
    """Each step of the pipeline, followed by its continuations, depth first."""
    slots: tuple[str, ...]
    """Every slot, in the order in which they are first named."""


def graph_of(pipeline: Pipeline) -> PipelineGraph:
    """The graph of a pipeline.

    :raises DefinitionError: a step uses a slot that it does not declare.
    """
    steps: list[GraphStep] = []
    names = [step.name for step in pipeline.steps]
    for position, step in enumerate(pipeline.steps, 1):
        following = names[position] if position < len(names) else ""
        _Stage(steps, position, following).add(step, None)
    slots = dict.fromkeys(slot for step in steps for slot in (*step.reads, *step.writes))
    return PipelineGraph(label=pipeline.label, deadline=pipeline.deadline, steps=tuple(steps), slots=tuple(slots))


class _Stage:
    """One step of a pipeline with its continuations, each followed once."""

    def __init__(self, steps: list[GraphStep], position: int, following: str) -> None:
        self._steps = steps
        self._position = position
        self._following = following
        self._seen: set[CompiledStep] = set()

    def add(self, step: CompiledStep, asker: int | None) -> None:
        again = step in self._seen
        self._seen.add(step)
        facts = check_source(step)
        named = step.then if step.then is not None else facts.then if facts else ()
        unknown = step.then is None and (facts is None or not facts.complete)
        goes_on = self._following if facts is not None and facts.continues is not None else None
        index = len(self._steps)
        self._steps.append(
            GraphStep(
                name=step.name,
                where=step.where,
                position=self._position,
                asker=asker,
                again=again,
                reads=tuple(sorted(slot.__name__ for slot in step.reads)),
                writes=tuple(sorted(slot.__name__ for slot in step.writes)),
                unknown=unknown,
                goes_on=goes_on,
                ends=not named and not unknown and goes_on is None,
            )
        )
        if not again:
            for fn in named:
                self.add(compile_step(fn), index)
