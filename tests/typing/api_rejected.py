"""The words of an app, misused: both checkers refuse exactly the marked lines."""

# ruff: noqa: B018, F841, RUF059

from __future__ import annotations

import asyncio
from typing import Any

from zerver import App, Continue, CtxView, Decision, Done, Effect, ErrorKind, Fail, Need, Response, Slot, need, step


class TodoId(Slot[int]): ...


# --- Steps


@step  # refused
def returns_none(ctx: CtxView) -> None: ...


@step  # refused
def returns_a_response(ctx: CtxView) -> Response:
    return Response()


@step  # refused
def takes_two(ctx: CtxView, more: int) -> Decision:
    return Continue()


@step  # refused
def takes_none() -> Decision:
    return Continue()


@step  # refused
async def awaits_to_none(ctx: CtxView) -> None: ...


def forgets(ctx: CtxView) -> Decision:
    return None  # refused


def returns_the_class(ctx: CtxView) -> Decision:
    return Continue  # refused


def returns_a_dict(ctx: CtxView) -> Decision:
    return {"a": 1}  # refused


@step
def fine(ctx: CtxView) -> Decision:
    return Continue()


step(then=fine)  # refused
step(then=[fine])  # refused
step(fine())  # refused

# --- Apps

app = App()
app.get("/x", returns_none)  # refused
app.get("/x", fine, takes_two)  # refused
app.use(takes_none)  # refused
app.get("/x", fine, before=fine)  # refused
app.get("/x", fine, deadline="5")  # refused
app.gett("/x", fine)  # refused
App(on_error=fine)  # refused

# --- Needs


def needs(one: Effect[int]) -> None:
    Need(one)  # refused
    Need(["select 1"])  # refused
    Need([one], then=fine(CtxView))  # refused
    Need([one], then="fine")  # refused
    Need([one], then=takes_two)  # refused
    Need([one], join="most")  # refused
    Need([one], mode="both")  # refused
    Need([one], compensations=[one])  # refused
    Need([one]).join = "any"  # refused


async def awaits(one: Effect[int], two: Effect[str]) -> None:
    need()  # refused
    need([one, two])  # refused
    need("select 1")  # refused
    await need(one, two, join="most")  # refused
    await need(one, join="any", detach=True)  # refused
    await one  # refused
    text: str = await need(one)  # refused
    number, wrong, more = await need(one, two)  # refused
    lost: int = await need(one, join="first_success")  # refused
    pair: tuple[int, int] = await need(one, two)  # refused
    nine = await need(one, one, one, one, one, one, one, one, one)  # refused
    asyncio.run(need(one))  # refused


# --- Decisions


def decisions() -> None:
    Fail(404)  # refused
    Fail(ErrorKind.NOT_FOUND, 7)  # refused
    Fail(ErrorKind.NOT_FOUND, key=7)  # refused
    Done("text")  # refused
    Done.text(b"bytes")  # refused
    Done.json({}, status="201")  # refused
    Done.json({}, headers={"x": 1})  # refused
    Done.bytes("text")  # refused
    Done.stream(["text"])  # refused
    Done.text("x").response.status = 404  # refused
    Response(200, (), "text")  # refused


# --- The context


def inputs(ctx: CtxView) -> Any:
    a: int = ctx.query("q")  # refused
    b: int = ctx.param("id", str)  # refused
    c: str = ctx.query("q", default=None)  # refused
    d: str = ctx.json(int)  # refused
    ctx.on_exit(lambda problem: None)  # refused
    ctx.on_exit("cleanup")  # refused
    ctx.request  # refused
    ctx.path = "/x"  # refused
    return a, b, c, d
