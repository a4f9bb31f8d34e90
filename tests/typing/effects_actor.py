"""The types of actor effects, as both checkers see them."""

from __future__ import annotations

from typing import assert_type

from zerver import App, Slot, actor
from zerver.effect import Effect, Retry
from zerver.need import need
from zerver_runtime import Actor, behaviour


class Counter(Actor):
    def __init__(self, start: int) -> None:
        self.total = start

    @behaviour
    def add(self, amount: int) -> int:
        return amount

    @behaviour
    async def name(self) -> str:
        return ""


class Total(Slot[int]): ...


class Text(Slot[str]): ...


def an_ask_gives_what_the_behaviour_returns() -> None:
    assert_type(actor.ask("counter", Counter.add, 1), Effect[int])
    assert_type(actor.ask("counter", Counter.name), Effect[str])
    assert_type(actor.ask("counter", Counter.add, 1, required=False), Effect[int | None])
    assert_type(actor.ask("counter", Counter.add, kwargs={"amount": 1}, idem="k", retry=Retry(2)), Effect[int])
    assert_type(actor.tell("counter", Counter.add, 1), Effect[None])


def a_slot_has_to_fit() -> None:
    assert_type(actor.ask("counter", Counter.add, 1, into=Total), Effect[int])
    actor.ask("counter", Counter.add, 1, into=Text)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def what_is_no_behaviour_is_refused() -> None:
    actor.ask("counter", len, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def an_actor_is_declared_with_its_own_arguments(app: App) -> None:
    app.actor("counter", Counter, 1)
    app.actor("counter", Counter, start=1)
    app.actor("counter", Counter, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def awaited_it_is_the_value() -> None:
    assert_type(await need(actor.ask("counter", Counter.add, 1)), int)
