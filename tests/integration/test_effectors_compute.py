"""The compute effector: what becomes of values, exceptions, a full queue, budgets and cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import compute_functions as functions
import pytest
from effector_conformance import Probe, until

from zerver.effect import Effect
from zerver.effectors.compute import ComputeEffector
from zerver.effects import compute
from zerver.error import Error, ErrorKind
from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.compute_pool import ComputePool


def run(check: Callable[[ComputeEffector], Awaitable[None]], size: int = 1, queue: int = 10, **options: Any) -> None:
    async def main() -> None:
        effector = ComputeEffector(ComputePool(size, queue), **options)
        try:
            await check(effector)
        finally:
            await effector.close()

    asyncio.run(main())


async def failed(effector: ComputeEffector, effect: Effect[Any]) -> Error:
    outcome = await Probe(effector, effect).settled()
    assert isinstance(outcome, Failure), outcome
    assert not outcome.retryable
    assert isinstance(outcome.error, Error)
    return outcome.error


def test_a_function_is_called_with_its_arguments_and_its_value_is_kept_as_it_is() -> None:
    async def check(effector: ComputeEffector) -> None:
        assert await Probe(effector, compute.run(functions.add, 1, kwargs={"two": 2})).settled() == Success(3)
        given = {"a": (1, {2}, b"c")}
        assert await Probe(effector, compute.run(functions.echo, given)).settled() == Success(given)
        assert await Probe(effector, compute.run(complex, 1, 2)).settled() == Success(1 + 2j)

    run(check)


@pytest.mark.parametrize(
    ("effect", "logged"),
    [
        (compute.run(functions.raise_expected, "secret"), "compute_functions:raise_expected raised Expected"),
        (compute.run(functions.raise_sticky), "RemoteError"),
        (compute.run(functions.leave, 3), "compute_functions:leave: its worker ended by itself (exit code 3)"),
        (compute.run(functions.burn, cpu_budget=0.03), "its budget is 0.03 s"),
        (compute.run(functions.echo, (one for one in ())), "argument 1 (builtins.generator) cannot be pickled"),
        (compute.run(functions.pair), "its result cannot be pickled"),
    ],
    ids=lambda value: value.target if isinstance(value, Effect) else "",
)
def test_what_goes_wrong_is_internal_and_its_text_is_for_the_log(
    effect: Effect[Any], logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(effector: ComputeEffector) -> None:
        error = await failed(effector, effect)
        assert error == Error(ErrorKind.INTERNAL, "compute.run: failed")

    run(check)
    assert logged.replace("RemoteError", "compute_functions.Sticky: Sticky: held") in caplog.text
    if effect.args.name.endswith(("expected", "sticky")):
        assert 'compute_functions.py", line' in caplog.text, "the traceback of the worker"


def test_a_full_queue_is_too_many_requests_or_the_fallback() -> None:
    async def check(effector: ComputeEffector) -> None:
        for _ in range(2):
            Probe(effector, compute.run(functions.hang))
        error = await failed(effector, compute.run(functions.add, 1))
        assert (error.kind, error.retry_after) == (ErrorKind.TOO_MANY_REQUESTS, 1.0)
        assert Probe(effector, compute.run(functions.add, 1, fallback=-1)).outcomes == [Success(-1)]
        assert Probe(effector, compute.run(functions.echo, 1, fallback=None)).outcomes == [Success(None)]

    run(check, 1, 1)


def test_the_fallback_is_for_a_full_queue_only() -> None:
    async def check(effector: ComputeEffector) -> None:
        assert (await failed(effector, compute.run(functions.leave, 1, fallback=None))).kind is ErrorKind.INTERNAL

    run(check)


def test_batch_waits_behind_interactive() -> None:
    async def check(effector: ComputeEffector) -> None:
        order: list[str] = []
        await Probe(effector, compute.run(functions.add, 1)).settled()
        Probe(effector, compute.run(functions.sleep, 0.05))
        effector.start(compute.run(functions.add, 1, priority="batch"), lambda outcome: order.append("batch"))
        effector.start(compute.run(functions.add, 1), lambda outcome: order.append("interactive"))
        await until(lambda: len(order) == 2)
        assert order == ["interactive", "batch"]

    run(check)


def test_the_tag_of_a_task_is_what_was_current_when_it_was_started() -> None:
    tags: list[object] = []

    async def main() -> None:
        pool = ComputePool(1, 10, observe=lambda event, tag, at, detail: tags.append(tag))
        now = "first"
        effector = ComputeEffector(pool, lambda: now)
        probe = Probe(effector, compute.run(functions.add, 1))
        now = "later"
        await probe.settled()
        await effector.close()

    asyncio.run(main())
    assert tags == ["first"] * 3


def test_closing_ends_what_runs_and_takes_no_more(tmp_path: Path) -> None:
    probes: list[Probe] = []

    async def check(effector: ComputeEffector) -> None:
        path = tmp_path / "pid"
        probes.append(Probe(effector, compute.run(functions.note, str(path))))
        probes.append(Probe(effector, compute.run(functions.add, 1)))
        await until(path.exists)
        await effector.close()
        probes.append(Probe(effector, compute.run(functions.add, 1)))

    run(check)
    for probe in probes:
        (outcome,) = probe.outcomes
        assert isinstance(outcome, Failure)
        assert isinstance(outcome.error, Error)
        assert outcome.error.kind is ErrorKind.OVERLOADED
