"""A pipeline as text: its steps, the slots that they read and write, and where each of them can go on."""

from __future__ import annotations

import textwrap

from ..pipeline import Pipeline
from ..step import CompiledStep, check_source, compile_step

__all__ = ["pipeline_graph"]


def pipeline_graph(pipeline: Pipeline, width: int = 80) -> list[str]:
    """The route, its steps in order, and below each of them what can follow. Only what its source or
    ``@step(then=...)`` names is known; the rest is ``unknown``, and seen when it runs."""
    deadline = f" (deadline {pipeline.deadline:g} s)" if pipeline.deadline is not None else ""
    lines = [f"{pipeline.label}{deadline}"]
    for position, step in enumerate(pipeline.steps):
        following = pipeline.steps[position + 1].name if position + 1 < len(pipeline.steps) else None
        lines += _Drawing(following, width).step(step, f"  {position + 1}. ")
    return lines


class _Drawing:
    """One step of a pipeline with its continuations, each drawn once."""

    def __init__(self, following: str | None, width: int) -> None:
        self.following = following
        self.width = width
        self.drawn: set[CompiledStep] = set()

    def step(self, step: CompiledStep, lead: str) -> list[str]:
        again = step in self.drawn
        self.drawn.add(step)
        text = f"{step.name} (above)" if again else f"{step.name}: {_slots(step)}"
        inner = " " * len(lead)
        lines = textwrap.wrap(
            text, self.width, initial_indent=lead, subsequent_indent=f"{inner}  ", break_long_words=False
        )
        return lines if again else lines + self._ways(step, inner)

    def _ways(self, step: CompiledStep, indent: str) -> list[str]:
        facts = check_source(step)
        named = step.then if step.then is not None else facts.then if facts else ()
        lines = [line for fn in named for line in self.step(compile_step(fn), f"{indent}then ")]
        if step.then is None and (facts is None or not facts.complete):
            lines.append(f"{indent}then unknown")
        if facts is not None and facts.continues is not None:
            lines.append(f"{indent}next {self.following or 'missing'}")
        return lines or [f"{indent}ends"]


def _slots(step: CompiledStep) -> str:
    parts = [
        f"{verb} {', '.join(sorted(slot.__name__ for slot in slots))}"
        for verb, slots in (("reads", step.reads), ("writes", step.writes))
        if slots
    ]
    return "; ".join(parts) or "no slots"
