"""The types of compute effects, as both checkers see them."""

from __future__ import annotations

from typing import Any, assert_type

from zerver.effect import Effect, Retry
from zerver.effects import compute
from zerver.need import need
from zerver.slot import Slot


class Count(Slot[int]): ...


class Text(Slot[str]): ...


class Perhaps(Slot[str | None]): ...


def render(number: int) -> str:
    return str(number)


def untyped() -> Any: ...


def compute_gives_what_the_function_returns(maybe: bool) -> None:
    assert_type(compute.run(render, 1), Effect[str])
    assert_type(compute.run(int, "1", kwargs={"base": 8}, cpu_budget=0.5), Effect[int])
    assert_type(compute.run(untyped), Effect[Any])
    assert_type(compute.run(render, 1, required=False), Effect[str | None])
    assert_type(compute.run(render, 1, required=maybe, priority="batch"), Effect[str | None])
    assert_type(compute.run(render, 1, as_=str, idem="k", retry=Retry(2)), Effect[str])


def compute_into_a_slot_checks_that_it_fits() -> None:
    assert_type(compute.run(render, 1, into=Text), Effect[str])
    assert_type(compute.run(render, 1, into=Perhaps, fallback=None), Effect[str | None])
    assert_type(compute.run(render, 1, into=Text, required=False), Effect[str | None])
    compute.run(render, 1, into=Count)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def the_fallback_is_of_the_same_type() -> None:
    assert_type(compute.run(render, 1, fallback="?"), Effect[str])
    assert_type(compute.run(render, 1, fallback="?", into=Text), Effect[str])
    compute.run(render, 1, fallback=1, into=Text)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def unknown_options_are_refused() -> None:
    compute.run(render, 1, cpu_buget=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    compute.run(render, 1, cpu_budget="1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def awaited_it_is_the_value() -> None:
    assert_type(await need(compute.run(render, 1)), str)
