"""What steps may not do with slots: both checkers refuse exactly the marked lines."""

from __future__ import annotations

from typing import Any, Never, assert_type

from zerver import Continue, CtxView, Decision, Done, Slot, sql


class TodoId(Slot[int]): ...


class Title(Slot[str]): ...


class Perhaps(Slot[int | None]): ...


class Names(Slot[list[str]]): ...


def undeclared_reads(ctx: CtxView[TodoId, Title]) -> Decision:
    ctx.require(Title)  # refused
    ctx.optional(Title)  # refused
    ctx.require(Names)  # refused
    ctx.require(TodoId)
    return Continue()


def undeclared_writes(ctx: CtxView[TodoId, Title]) -> Decision:
    ctx.put(TodoId, 1)  # refused
    ctx.put(Names, [])  # refused
    ctx.put(Title, "x")
    return Continue()


def sees_nothing(ctx: CtxView) -> Decision:
    ctx.require(TodoId)  # refused
    ctx.optional(TodoId)  # refused
    ctx.put(TodoId, 1)  # refused
    return Continue()


def only_reads(ctx: CtxView[TodoId]) -> Decision:
    ctx.put(TodoId, 1)  # refused
    return Continue()


def only_writes(ctx: CtxView[Never, TodoId]) -> Decision:
    ctx.require(TodoId)  # refused
    return Continue()


def wrong_values(ctx: CtxView[Never, TodoId | Title | Perhaps | Names]) -> Decision:
    ctx.put(TodoId, "1")  # refused
    ctx.put(TodoId, None)  # refused
    ctx.put(TodoId, 1.5)  # refused
    ctx.put(Title, 1)  # refused
    ctx.put(Perhaps, "1")  # refused
    ctx.put(Names, [1])  # refused
    ctx.put(Names, "abc")  # refused
    ctx.put(Names, ("a",))  # refused
    return Continue()


def wrong_use_of_values(ctx: CtxView[TodoId | Perhaps | Names]) -> Decision:
    text: str = ctx.require(TodoId)  # refused
    number: int = ctx.optional(TodoId)  # refused
    also: int = ctx.require(Perhaps)  # refused
    ctx.require(Names).title()  # refused
    ctx.optional(Names).append("x")  # refused
    return Done.json([text, number, also])


def not_slots(ctx: CtxView[TodoId, TodoId]) -> Decision:
    ctx.require(int)  # refused
    ctx.require("TodoId")  # refused
    ctx.require(Slot)  # refused
    ctx.put(int, 1)  # refused
    return Continue()


def helper_that_reads(ctx: CtxView[TodoId | Title]) -> str:
    return ctx.require(Title)


def helper_that_writes(ctx: CtxView[Never, Names]) -> None:
    ctx.put(Names, [])


def calls_helpers_that_declare_more(ctx: CtxView[TodoId, Title]) -> Decision:
    helper_that_reads(ctx)  # refused
    helper_that_writes(ctx)  # refused
    return Continue()


def calls_them_from_a_plain_view(ctx: CtxView) -> Decision:
    helper_that_reads(ctx)  # refused
    helper_that_writes(ctx)  # refused
    return Continue()


def effects_into_what_is_no_slot() -> Any:
    return sql.query_one("select 1", into=int)  # refused


def the_marks_mean_what_they_say(ctx: CtxView[TodoId]) -> None:
    assert_type(ctx.require(TodoId), str)  # refused
