"""What steps may do with slots, as both checkers see it: everything here is accepted, with these very types."""

from __future__ import annotations

from typing import Any, Never, TypeAlias, assert_type

import msgspec

from zerver import Continue, CtxView, Decision, Done, Slot, step


class Todo(msgspec.Struct):
    id: int
    title: str


class TodoId(Slot[int]): ...


class TodoItem(Slot[Todo]): ...


class Later(Slot["Afterwards"]): ...


class Afterwards: ...


class Perhaps(Slot[int | None]): ...


class Names(Slot[list[str]]): ...


class Weather(Slot[dict[str, Any]]): ...


class Pair(Slot[tuple[int, str]]): ...


class Anything(Slot[Any]): ...


@step
def reads_each_with_its_type(ctx: CtxView[TodoId | TodoItem | Later | Perhaps | Names | Weather | Pair]) -> Decision:
    assert_type(ctx.require(TodoId), int)
    assert_type(ctx.require(TodoItem), Todo)
    assert_type(ctx.require(Later), Afterwards)
    assert_type(ctx.require(Perhaps), int | None)
    assert_type(ctx.require(Names), list[str])
    assert_type(ctx.require(Weather), dict[str, Any])
    assert_type(ctx.require(Pair), tuple[int, str])
    assert_type(ctx.optional(TodoId), int | None)
    assert_type(ctx.optional(TodoItem), Todo | None)
    assert_type(ctx.optional(Perhaps), int | None)
    assert_type(ctx.optional(Names), list[str] | None)
    return Continue()


@step
def reads_anything(ctx: CtxView[Anything]) -> Decision:
    assert_type(ctx.require(Anything), Any)
    return Continue()


@step
def writes_what_fits(ctx: CtxView[Never, TodoId | TodoItem | Perhaps | Names | Pair | Anything]) -> Decision:
    ctx.put(TodoId, 1)
    ctx.put(TodoId, True)  # a bool is an int
    ctx.put(TodoItem, Todo(1, "x"))
    ctx.put(Perhaps, None)
    ctx.put(Perhaps, 1)
    ctx.put(Names, [])
    ctx.put(Names, ["a"])
    ctx.put(Pair, (1, "a"))
    ctx.put(Anything, object())
    return Continue()


@step
def reads_what_it_writes(ctx: CtxView[TodoId, TodoId]) -> Decision:
    ctx.put(TodoId, ctx.require(TodoId) + 1)
    return Continue()


@step
def sees_nothing(ctx: CtxView) -> Decision:
    return Continue()


Reads: TypeAlias = TodoId | TodoItem
View: TypeAlias = CtxView[Reads, Names]


@step
def through_aliases(ctx: View) -> Decision:
    ctx.put(Names, [ctx.require(TodoItem).title])
    return Continue()


def helper_of_nothing(ctx: CtxView) -> str:
    return ctx.method


def helper_that_reads(ctx: CtxView[TodoId]) -> int:
    return ctx.require(TodoId)


def helper_that_writes(ctx: CtxView[Never, Names]) -> None:
    ctx.put(Names, [])


@step
def calls_helpers_that_declare_less(ctx: CtxView[TodoId | TodoItem, Names | Pair]) -> Decision:
    assert_type(helper_that_reads(ctx), int)
    helper_that_writes(ctx)
    return Done.text(helper_of_nothing(ctx))


class Inside:
    def method(self, ctx: CtxView[TodoId, Names]) -> Decision:
        ctx.put(Names, [str(ctx.require(TodoId))])
        return Continue()
