"""The constructor of compute effects: only what a worker can find is taken."""

from __future__ import annotations

import functools
import math
import os.path
import sys
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from zerver.effect import Retry
from zerver.effect_results import interpret
from zerver.effects import compute
from zerver.effects.compute import NO_FALLBACK
from zerver.error import DefinitionError
from zerver.slot import Slot
from zerver_runtime.outcome import Success


class Count(Slot[int]): ...


class Report:
    @staticmethod
    def render(pages: int) -> int:
        return pages

    @classmethod
    def empty(cls) -> Report:
        return cls()

    def method(self) -> None: ...

    def __call__(self) -> None: ...


class Sub(Report): ...


def work(number: int) -> int:
    return number


async def awaits() -> None: ...


async def yields() -> AsyncIterator[int]:
    yield 1


def nested() -> Callable[[], int]:
    def inner() -> int:
        return 1

    return inner


anonymous = lambda: 1  # noqa: E731


@functools.wraps(work)
def impostor(number: int) -> int:
    return -number


def of_main() -> Any:
    function = types.FunctionType(work.__code__, {}, "work")
    function.__module__ = "__main__"
    function.__qualname__ = "work"
    return function


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (work, f"{__name__}:work"),
        (Report, f"{__name__}:Report"),
        (Report.render, f"{__name__}:Report.render"),
        (Report.empty, f"{__name__}:Report.empty"),
        (Report.method, f"{__name__}:Report.method"),
        (math.factorial, "math:factorial"),
        (os.path.join, "posixpath:join"),
        (len, "builtins:len"),
        (int, "builtins:int"),
    ],
)
def test_a_function_goes_by_its_name(fn: Any, name: str) -> None:
    effect = compute.run(fn, 1, kwargs={"a": 2})
    assert (effect.args.name, effect.args.args, effect.args.kwargs) == (name, (1,), {"a": 2})
    assert (effect.family, effect.op, effect.target) == ("compute", "run", f"compute:{name.replace(':', '.')}")


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (of_main(), "__main__.work is defined in __main__.*move it to a module"),
        (anonymous, "is a lambda.*write a function at the top level"),
        (nested(), "nested.<locals>.inner is defined inside of another function"),
        (Report().method, "Report.method is bound to an object"),
        (Sub.empty, "is bound to an object"),
        ([].append, "list.append is bound to an object"),
        (Report(), f"{__name__}.Report cannot be found again"),
        (functools.partial(work, 1), "functools.partial is a partial; run the function itself"),
        (awaits, "is 'async def'.*call.run"),
        (yields, "is 'async def'"),
        (impostor, "work cannot be found again by its name"),
        (str.upper, "cannot be found again"),
        (3, "3 cannot be called"),
    ],
)
def test_what_a_worker_could_not_find_or_run_is_refused(fn: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=f"compute.run: .*{says}"):
        compute.run(fn)


def test_a_function_of_a_module_that_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, __name__)
    with pytest.raises(DefinitionError, match="cannot be found again"):
        compute.run(work)


@pytest.mark.parametrize("budget", [0, -1, math.inf, math.nan, "1", True])
def test_a_budget_is_a_finite_number_of_seconds(budget: Any) -> None:
    with pytest.raises(DefinitionError, match="cpu_budget="):
        compute.run(work, cpu_budget=budget)


@pytest.mark.parametrize("kwargs", [[("a", 1)], {1: 2}, None])
def test_kwargs_are_a_mapping_from_names(kwargs: Any) -> None:
    with pytest.raises(DefinitionError, match=r"compute.run: kwargs="):
        compute.run(work, kwargs=kwargs)


def test_arguments_are_those_of_the_time_when_it_was_built() -> None:
    kwargs = {"number": 8}
    effect = compute.run(work, kwargs=kwargs, into=Count, cpu_budget=2)
    kwargs["number"] = 16
    assert (effect.args.kwargs, effect.args.cpu_budget, effect.into) == ({"number": 8}, 2, Count)


def test_none_is_a_fallback_and_none_given_is_another_thing() -> None:
    assert compute.run(work, 1).args.fallback is NO_FALLBACK
    assert compute.run(work, 1, fallback=None, required=False).args.fallback is None


def test_a_computation_is_not_repeated_without_a_key_and_has_no_time_out() -> None:
    with pytest.raises(DefinitionError, match="idem="):
        compute.run(work, 1, retry=Retry(2))
    effect = compute.run(work, 1, retry=Retry(2), idem="k", priority="batch")
    assert (effect.retry, effect.timeout, effect.priority) == (Retry(2), None, "batch")


def test_its_value_is_kept_as_it_is() -> None:
    value = object()
    assert interpret(compute.run(work, 1, into=Count), value, lambda: 0.0) == Success(value)
