"""What the interpreter costs: a request through three steps that do not suspend, against the same work as plain
calls.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Never
from uuid import UUID, uuid4

import orjson

from bench.harness import Benchmark, Side
from zerver import Continue, CtxView, Decision, Done, Slot, step
from zerver.interpreter import Execution, advance
from zerver.problem import problem_response
from zerver.request import Request
from zerver.signals import Start
from zerver.step import compile_step
from zerver.surroundings import Surroundings

__all__ = ["AROUND", "BENCHMARK", "REQUEST", "START", "STEPS", "load", "parse", "show"]


class TodoId(Slot[str]):
    """The id in the path."""


class Todo(Slot[dict[str, object]]):
    """The answer."""


@step
def parse(ctx: CtxView[Never, TodoId]) -> Decision:
    ctx.put(TodoId, ctx.param("id"))
    return Continue()


@step
def load(ctx: CtxView[TodoId, Todo]) -> Decision:
    ctx.put(Todo, {"id": ctx.require(TodoId), "ok": True})
    return Continue()


@step
def show(ctx: CtxView[Todo]) -> Decision:
    return Done.json(ctx.require(Todo))


class _Sources:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def random(self) -> float:
        return 0.5

    def uuid(self) -> UUID:
        return uuid4()


AROUND = Surroundings(clock=time.monotonic_ns, sources=_Sources(), render=problem_response)
STEPS = tuple(compile_step(one) for one in (parse, load, show))
REQUEST = Request("GET", "/todos/42", params={"id": "42"})
START = Start()


def zerver(n: int) -> None:
    for _ in range(n):
        now = time.monotonic_ns()
        advance(Execution(STEPS, REQUEST, AROUND, now, now + 30_000_000_000), START)


def plain(n: int) -> None:
    for _ in range(n):
        time.monotonic_ns()
        todo = REQUEST.params["id"]
        orjson.dumps({"id": todo, "ok": True})


BENCHMARK = Benchmark(
    name="interpreter",
    question="What does a request through three steps cost in the interpreter, without HTTP, against the bare work?",
    sides=(Side("plain calls", plain), Side("interpreter, three steps", zerver)),
    operations=50_000,
)
