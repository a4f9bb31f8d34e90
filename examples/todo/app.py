"""A todo list over SQLite: create, list by pages, read, change, delete.

What to look at: steps are small and pure, and their annotation says which slots they touch; effects are values;
a client's mistake never reaches a statement; a row that is not there becomes a 404 without a line of code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Never
from urllib.parse import urlencode

from msgspec import UNSET

from zerver import App, Continue, CtxView, Decision, Done, ErrorKind, Fail, Need, Slot, sql, step

from .model import CREATE, DELETE, LIST, LOAD, SCHEMA, UPDATE, Change, Draft, Id, Limit, Todo

__all__ = ["app"]


class TodoId(Slot[int]):
    """The id in the path."""


class Item(Slot[Todo]):
    """The row, as created, loaded or changed."""


class Current(Slot[Todo]):
    """The row as it stands, when a change did not find the version that it asked for."""


class Rows(Slot[list[Todo]]):
    """One page of rows, and one row more if there is a next page."""


class PageSize(Slot[int]):
    """How many rows a page has."""


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    await app.perform(sql.execute(SCHEMA, timeout=5))
    yield


app = App(lifespan=lifespan)


@step
def read_id(ctx: CtxView[Never, TodoId]) -> Decision:
    ctx.put(TodoId, ctx.param("id", Id))
    return Continue()


# POST /todos


@step
def create(ctx: CtxView[Never, Item]) -> Decision:
    draft = ctx.json(Draft)
    key = ctx.idempotency_key or str(ctx.uuid())
    row = {"title": draft.title, "created": ctx.now(), "key": key}
    return Need([sql.query_one(CREATE, row, into=Item, idem=key)], then=created)


def created(ctx: CtxView[Item]) -> Decision:
    todo = ctx.require(Item)
    return Done.json(todo, status=201, headers={"location": f"/todos/{todo.id}"})


app.post("/todos", create)


# GET /todos?limit=&after=&done=


@step
def find(ctx: CtxView[Never, Rows | PageSize]) -> Decision:
    limit = ctx.query("limit", Limit, default=20)
    ctx.put(PageSize, limit)
    wanted = {
        "after": ctx.query("after", Id, default=0),
        "done": ctx.query("done", bool, default=None),
        "limit": limit + 1,
    }
    return Need([sql.query(LIST, wanted, into=Rows)], then=page)


def page(ctx: CtxView[Rows | PageSize]) -> Decision:
    rows, limit = ctx.require(Rows), ctx.require(PageSize)
    items = rows[:limit]
    following = None
    if len(rows) > limit:
        done = ctx.query("done", bool, default=None)
        query = {"limit": limit, "after": items[-1].id} | ({} if done is None else {"done": str(done).lower()})
        following = f"/todos?{urlencode(query)}"
    return Done.json({"items": items, "next": following})


app.get("/todos", find)


# GET /todos/{id}


@step
def load(ctx: CtxView[TodoId, Item]) -> Decision:
    return Need([sql.query_one(LOAD, {"id": ctx.require(TodoId)}, into=Item)], then=show)


def show(ctx: CtxView[Item]) -> Decision:
    return Done.json(ctx.require(Item))


app.get("/todos/{id:int}", read_id, load)


# PATCH /todos/{id}


@step
def change(ctx: CtxView[TodoId, Item]) -> Decision:
    wish = ctx.json(Change)
    values = {
        "id": ctx.require(TodoId),
        "title": None if wish.title is UNSET else wish.title,
        "done": None if wish.done is UNSET else wish.done,
        "version": None if wish.version is UNSET else wish.version,
    }
    return Need([sql.query_one(UPDATE, values, into=Item, required=False)], then=changed)


def changed(ctx: CtxView[Item | TodoId, Current]) -> Decision:
    todo = ctx.optional(Item)
    if todo is not None:
        return Done.json(todo)
    problem = ctx.last_error
    if problem is not None and problem.kind is not ErrorKind.NOT_FOUND:
        return Fail(problem.kind, problem.what)
    return Need([sql.query_one(LOAD, {"id": ctx.require(TodoId)}, into=Current)], then=outdated)


def outdated(ctx: CtxView[Current]) -> Decision:
    version = ctx.require(Current).version
    return Fail(ErrorKind.CONFLICT, f"the todo has version {version} by now; load it again", key="$.version")


app.patch("/todos/{id:int}", read_id, change)


# DELETE /todos/{id}


@step
def delete(ctx: CtxView[TodoId, Item]) -> Decision:
    return Need([sql.query_one(DELETE, {"id": ctx.require(TodoId)}, into=Item)], then=deleted)


def deleted(ctx: CtxView[Item]) -> Decision:
    ctx.require(Item)
    return Done.empty()


app.delete("/todos/{id:int}", read_id, delete)
