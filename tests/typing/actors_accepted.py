"""What both type checkers accept of actors, and what they make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from zerver_runtime.actor import Actor, spawn, spawn_as, whereis
from zerver_runtime.behaviour import Behaviour, behaviour
from zerver_runtime.message import ExitReason
from zerver_runtime.reply import Reply
from zerver_runtime.timer import Timer


class Counter(Actor):
    def __init__(self, start: int, step: int = 1) -> None:
        self.total = start
        self.step = step

    @behaviour
    def add(self, amount: int, *, twice: bool = False) -> int:
        self.total += amount * (2 if twice else 1)
        return self.total

    @behaviour
    def reset(self) -> None:
        self.total = 0

    @behaviour
    async def add_from(self, other: Counter, limit: float = 1.0) -> int:
        amount = await other.add(0).with_timeout(limit)
        assert_type(amount, int)
        await self.sleep(0.5)
        assert_type(self.add(amount), Reply[int])
        return amount


class Louder(Counter):
    """A subclass may override a behaviour, with another body or async."""

    @behaviour
    def reset(self) -> None:
        Counter.reset.fn(self)

    @behaviour
    def on_down(self, ref: Actor, reason: ExitReason) -> None:
        assert_type(reason.abnormal, bool)

    async def started(self) -> None:
        self.monitor(self.spawn(Counter, 1))
        assert_type(self.send_after(0.5, self.add, 1, twice=True), Timer)
        assert_type(self.every(0.5, self.reset), Timer)


def a_ref_is_typed_as_its_actor() -> None:
    assert_type(spawn(Counter, 3), Counter)
    assert_type(spawn(Counter, start=3, step=2), Counter)
    assert_type(spawn_as("hits", Counter, 3), Counter)
    assert_type(whereis("hits", Counter), Counter | None)
    assert_type(spawn(Louder, 1).ref, Louder)


def a_send_gives_a_reply_of_what_the_behaviour_returns() -> None:
    counter = spawn(Counter, 3)
    assert_type(counter.add(1), Reply[int])
    assert_type(counter.add(amount=1, twice=True), Reply[int])
    assert_type(counter.reset(), Reply[None])
    assert_type(counter.add_from(counter), Reply[int])
    assert_type(counter.stop(), Reply[None])
    assert_type(counter.add(1).result(), int)


def an_awaited_behaviour_is_a_function_for_whoever_wants_one(counter: Counter) -> None:
    send: Callable[[], Reply[None]] = counter.reset
    send()


def on_the_class_it_names_the_behaviour(named: Behaviour[Counter, [], None] = Counter.reset) -> None:
    assert_type(Counter.reset, Behaviour[Counter, [], None])
    assert_type(Counter.reset.name, str)
    del named
