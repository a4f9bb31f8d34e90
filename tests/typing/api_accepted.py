"""The words of an app, as both checkers see them: everything here is accepted, with these very types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, Never, TypedDict, assert_type
from uuid import UUID

import msgspec

from zerver import (
    App,
    Compensation,
    Continue,
    CtxView,
    Decision,
    Done,
    Effect,
    Error,
    ErrorKind,
    Fail,
    Need,
    Request,
    Response,
    Retry,
    Slot,
    call,
    http,
    need,
    sql,
    step,
)


class Todo(msgspec.Struct):
    id: int


class Draft(TypedDict):
    title: str


class TodoId(Slot[int]): ...


class TodoItem(Slot[Todo]): ...


class Weather(Slot[dict[str, Any]]): ...


# --- Steps


@step
def plain(ctx: CtxView) -> Decision:
    return Continue()


@step()
def called(ctx: CtxView[TodoId]) -> Decision:
    return Done.json(ctx.require(TodoId))


@step(then=(plain, called))
def with_continuations(ctx: CtxView[Never, TodoId]) -> Decision:
    return Need([sql.query_one("select 1", into=TodoId)], then=called)


@step
async def asynchronous(ctx: CtxView[Never, TodoId]) -> Decision:
    number = await need(sql.query_one("select 1", into=TodoId))
    return Done.json(number)


@step
def returns_one_kind(ctx: CtxView) -> Done:
    return Done.empty()


@step
async def returns_one_kind_async(ctx: CtxView) -> Need | Fail:
    return Need([])


def not_decorated(ctx: CtxView[TodoId]) -> Decision:
    return Continue()


class Handlers:
    def method(self, ctx: CtxView[TodoId, Weather]) -> Decision:
        return Continue()

    def __call__(self, ctx: CtxView) -> Decision:
        return Continue()


def decorated_keeps_its_type(ctx: CtxView[TodoId]) -> None:
    assert_type(called(ctx), Decision)


# --- Apps


app = App()
app.use(plain, asynchronous, Handlers().method)
app.get("/todos/{id:int}", plain, called, not_decorated, Handlers())
app.post("/todos", asynchronous, before=(plain,), deadline=5.0)
app.flow("checkout", plain, called)
app.route("PURGE")("/cache", plain)


@app.get("/hello")
def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")


@app.put("/hello", before=(plain,))
async def hello_async(ctx: CtxView) -> Decision:
    return Done.text("hello")


def on_error(error: Error, request: Request) -> Response:
    return Response(error.kind.status, (("x-key", error.key or ""),), b"")


App(on_error=on_error)

# --- Needs


def needs(one: Effect[Todo], maybe: Effect[Todo | None], any_: list[Effect[Any]]) -> list[Need]:
    return [
        Need([]),
        Need([one]),
        Need((one, maybe), then=not_decorated),
        Need([one, *any_], mode="sequential", join="first_success", then=asynchronous),
        Need([one, maybe], join="all_required", detach=True, compensations=[Compensation("undo", "on_failure", one)]),
        Need(any_, then=Handlers().method),
    ]


async def awaits(
    number: Effect[int], text: Effect[str], maybe: Effect[Todo | None], nothing: Effect[None], flag: Effect[bool]
) -> None:
    assert_type(await need(number), int)
    assert_type(await need(maybe), Todo | None)
    assert_type(await need(nothing), None)
    assert_type(await need(number, text), tuple[int, str])
    assert_type(await need(number, text, maybe), tuple[int, str, Todo | None])
    assert_type(await need(number, text, maybe, flag), tuple[int, str, Todo | None, bool])
    assert_type(await need(number, text, number, text, flag), tuple[int, str, int, str, bool])
    assert_type(await need(number, text, number, text, number, flag), tuple[int, str, int, str, int, bool])
    assert_type(await need(number, text, number, text, number, text, flag), tuple[int, str, int, str, int, str, bool])
    assert_type(
        await need(number, text, number, text, number, text, number, flag),
        tuple[int, str, int, str, int, str, int, bool],
    )
    assert_type(await need(number, text, join="all_required", mode="sequential", detach=True), tuple[int, str])
    assert_type(await need(number, join="any"), int | None)
    assert_type(await need(number, text, join="any"), tuple[int | None, str | None])
    assert_type(
        await need(number, maybe, flag, join="first_success", mode="sequential"),
        tuple[int | None, Todo | None, bool | None],
    )
    assert_type(
        await need(sql.query_one("select 1", into=TodoItem), http.get("http://x", into=Weather, required=False)),
        tuple[Todo, dict[str, Any] | None],
    )


async def in_functions(ctx: CtxView) -> Decision:
    async def load(number: int) -> Todo:
        return await need(sql.query_one("select :n", {"n": number}, as_=Todo))

    return Done.json([await load(1), await load(2)])


# --- Decisions


def decisions(stream: Iterator[bytes], async_stream: AsyncIterator[bytes], detail: Mapping[str, Any]) -> list[Decision]:
    assert_type(Done.json({}), Done)
    return [
        Continue(),
        Fail(ErrorKind.NOT_FOUND),
        Fail(ErrorKind.CONFLICT, "taken", key="name", detail=detail, retry_after=1.5),
        Done(Response()),
        Done.json(Todo(1), status=201, headers={"location": "/todos/1"}),
        Done.text("x", headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")]),
        Done.html("<p>"),
        Done.redirect("/", status=303),
        Done.empty(),
        Done.bytes(b"", content_type="image/png"),
        Done.stream(stream),
        Done.stream(async_stream, content_type="text/event-stream"),
        Done.stream([b"a", b"b"]),
        Done.file("a.txt", filename="b.txt"),
        Need([call.run(print, retry=Retry(1))]),
    ]


def every_decision_is_one_of_four(decision: Decision) -> str:
    match decision:
        case Continue():
            return "continue"
        case Need():
            return "need"
        case Done():
            return "done"
        case Fail():
            return "fail"


# --- The context


def inputs(ctx: CtxView) -> Decision:
    assert_type(ctx.method, str)
    assert_type(ctx.params, Mapping[str, Any])
    assert_type(ctx.body, bytes)
    assert_type(ctx.param("id"), str)
    assert_type(ctx.param("id", int), int)
    assert_type(ctx.query("q"), str)
    assert_type(ctx.query("q", int), int)
    assert_type(ctx.query("q", list[str]), list[str])
    assert_type(ctx.query("q", default=None), str | None)
    assert_type(ctx.query("q", int, None), int | None)
    assert_type(ctx.query("q", int, default=0), int)
    assert_type(ctx.header("x"), str)
    assert_type(ctx.header("x", datetime), datetime)
    assert_type(ctx.header("x", default=""), str)
    assert_type(ctx.json(), Any)
    assert_type(ctx.json(Todo), Todo)
    assert_type(ctx.json(Draft), Draft)
    assert_type(ctx.json(list[Todo]), list[Todo])
    assert_type(ctx.form["name"], str)
    assert_type(ctx.form.read("age", int), int)
    assert_type(ctx.idempotency_key, str | None)
    assert_type(ctx.elapsed, float)
    assert_type(ctx.deadline, float)
    assert_type(ctx.errors, tuple[Error, ...])
    assert_type(ctx.last_error, Error | None)
    assert_type(ctx.now(), datetime)
    assert_type(ctx.random(), float)
    assert_type(ctx.uuid(), UUID)
    ctx.on_exit(lambda: None)
    kind: Literal["a", "b"] = ctx.query("kind", Literal["a", "b"])
    return Done.text(kind)
