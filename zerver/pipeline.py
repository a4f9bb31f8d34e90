"""Pipelines: the steps of one route, and what can be known of them before the first request.

A pipeline is a row of *stages*: each step with the continuations that its source names, and theirs. On a path through
the pipeline, one node of each stage's tree runs after the other; ``Continue`` goes on with the next stage. What is not
seen in the source is unknown, and checked at run time; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .compiled_step import CompiledStep
from .error import DefinitionError
from .slot import Slot
from .step import check_source, compile_step
from .step_source import SourceFacts

__all__ = ["Findings", "Pipeline", "check_pipeline"]


class Pipeline(msgspec.Struct, frozen=True):
    """The steps that answer one route, before-steps included."""

    label: str
    """How messages name the route: ``GET /todos/{id:int}``."""
    steps: tuple[CompiledStep, ...]
    deadline_ns: int | None = None
    """Nanoseconds for the whole request, at least 1; ``None`` is the configured number."""

    @property
    def deadline(self) -> float | None:
        """The same in seconds."""
        return None if self.deadline_ns is None else self.deadline_ns / 1e9


class Findings(msgspec.Struct, frozen=True):
    """What is wrong with a pipeline. Each error names the route, the step, the slot, and the fix."""

    errors: tuple[str, ...] = ()
    unread: tuple[tuple[CompiledStep, type[Slot[Any]]], ...] = ()
    """Slots that a step writes and none reads; empty where not all steps are known."""
    params: tuple[tuple[CompiledStep, CompiledStep, str, int], ...] = ()
    """Path parameters that a step asks for by name, and in which line; before it that of the pipeline which led to it.
    None where one of them looks first at what there is."""


class _Node:
    """A step in a stage, with what leads to it."""

    __slots__ = ("facts", "reached_from", "step", "then")

    def __init__(self, step: CompiledStep, facts: SourceFacts | None) -> None:
        self.step = step
        self.facts = facts
        self.then: list[_Node] = []
        self.reached_from: set[_Node] = {self}
        """Every node from which a known path leads here, itself included."""

    @property
    def complete(self) -> bool:
        """Whether all its continuations are known."""
        return self.step.then is not None or (self.facts is not None and self.facts.complete)


def check_pipeline(pipeline: Pipeline) -> Findings:
    """Look for reads that come before any write, second writers, a path without an end, and slots that nobody reads."""
    where = f"route {pipeline.label}"
    if not pipeline.steps:
        return Findings((f"{where}: it has no steps; give at least one that returns Done or Fail",))
    try:
        stages = [_stage(step) for step in pipeline.steps]
    except DefinitionError as problem:
        return Findings((f"{where}: {problem}",))
    errors = [*_unwritten_reads(where, stages), *_second_writers(where, stages), *_loose_ends(where, stages[-1])]
    nodes = [node for stage in stages for node in stage]
    complete = all(node.complete for node in nodes)
    params = [(stage[0].step, node.step, *asked) for stage in stages for node in stage for asked in _params(node)]
    return Findings(tuple(errors), tuple(_unread_writes(nodes)) if complete else (), tuple(params))


def _stage(step: CompiledStep) -> list[_Node]:
    """The nodes of one stage, the asking step first."""
    nodes: dict[CompiledStep, _Node] = {}
    root = _Node(step, check_source(step))
    nodes[step] = root
    unvisited = [root]
    while unvisited:
        node = unvisited.pop()
        named = node.step.then if node.step.then is not None else node.facts.then if node.facts else ()
        for fn in named:
            following = compile_step(fn)
            known = nodes.get(following)
            if known is None:
                known = nodes[following] = _Node(following, check_source(following))
                unvisited.append(known)
            node.then.append(known)
    _spread(nodes.values())
    return list(nodes.values())


def _spread(nodes: Iterable[_Node]) -> None:
    """Carry ``reached_from`` along the arrows until nothing changes; a chain may loop."""
    nodes = list(nodes)
    changed = True
    while changed:
        changed = False
        for node in nodes:
            for following in node.then:
                if not node.reached_from <= following.reached_from:
                    following.reached_from |= node.reached_from
                    changed = True


def _unwritten_reads(where: str, stages: list[list[_Node]]) -> Iterator[str]:
    written: set[type[Slot[Any]]] = set()
    for stage in stages:
        for node in stage:
            possible = written.union(*(other.step.writes for other in node.reached_from))
            for slot in sorted(node.step.reads - possible, key=_name):
                yield (
                    f"{where}: step {node.step.name} reads slot {slot.__name__}, which no step before it can have "
                    f"written; add a step that writes it (ctx.put({slot.__name__}, ...) or an effect with "
                    f"into={slot.__name__}), or take it out of the reads of {node.step.name}"
                )
        if not all(node.complete for node in stage):
            return  # an unknown continuation may write anything
        written.update(*(node.step.writes for node in stage))


def _second_writers(where: str, stages: list[list[_Node]]) -> Iterator[str]:
    first: dict[type[Slot[Any]], tuple[int, CompiledStep]] = {}
    for position, stage in enumerate(stages):
        for node in stage:
            for slot in sorted(node.step.writes, key=_name):
                before = {other.step for other in node.reached_from if slot in other.step.writes}
                if slot in first and first[slot][0] != position:
                    before.add(first[slot][1])
                for other in sorted(before - {node.step}, key=lambda step: step.name):
                    yield (
                        f"{where}: step {node.step.name} writes slot {slot.__name__}, which step {other.name} writes "
                        "before it on the same path; a slot has one writer: give the second value a slot of its own"
                    )
                first.setdefault(slot, (position, node.step))


def _loose_ends(where: str, stage: list[_Node]) -> Iterator[str]:
    for node in stage:
        if node.facts is not None and node.facts.continues is not None:
            yield (
                f"{where}: the path through step {node.step.name} has no end: line {node.facts.continues} goes on "
                "with the next step, and none follows; return Done or Fail there, or add a step"
            )


def _unread_writes(nodes: list[_Node]) -> Iterator[tuple[CompiledStep, type[Slot[Any]]]]:
    read = {slot for node in nodes for slot in node.step.reads}
    for node in nodes:
        for slot in sorted(node.step.writes - read, key=_name):
            yield node.step, slot


def _params(node: _Node) -> tuple[tuple[str, int], ...]:
    looks = any(other.facts is not None and other.facts.looks for other in node.reached_from)
    return () if looks or node.facts is None else node.facts.params


def _name(slot: type) -> str:
    return slot.__name__
