"""A pipeline as text: its steps, the slots that they read and write, and where each of them can go on."""

from __future__ import annotations

import textwrap

from ..graph import GraphStep, PipelineGraph, graph_of
from ..pipeline import Pipeline

__all__ = ["pipeline_graph"]


def pipeline_graph(pipeline: Pipeline, width: int = 80) -> list[str]:
    """The route, its steps in order, and below each of them what can follow; ``unknown`` where that is only seen when
    it runs."""
    graph = graph_of(pipeline)
    deadline = f" (deadline {graph.deadline:g} s)" if graph.deadline is not None else ""
    lines = [f"{graph.label}{deadline}"]
    for index, step in enumerate(graph.steps):
        if step.asker is None:
            lines += _step(graph, index, f"  {step.position}. ", width)
    return lines


def _step(graph: PipelineGraph, index: int, lead: str, width: int) -> list[str]:
    step = graph.steps[index]
    text = f"{step.name} (above)" if step.again else f"{step.name}: {_slots(step)}"
    indent = " " * len(lead)
    lines = textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=f"{indent}  ", break_long_words=False
    )  # fmt: skip
    if step.again:
        return lines
    for below, one in enumerate(graph.steps):
        if one.asker == index:
            lines += _step(graph, below, f"{indent}then ", width)
    if step.unknown:
        lines.append(f"{indent}then unknown")
    if step.goes_on is not None:
        lines.append(f"{indent}next {step.goes_on or 'missing'}")
    if step.ends:
        lines.append(f"{indent}ends")
    return lines


def _slots(step: GraphStep) -> str:
    parts = [f"{verb} {', '.join(slots)}" for verb, slots in (("reads", step.reads), ("writes", step.writes)) if slots]
    return "; ".join(parts) or "no slots"
