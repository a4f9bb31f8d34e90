"""The app of the recordings in this folder. It stays as it is: they are from earlier versions of Zerver, and replay."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Never

import msgspec

from zerver import (
    App,
    Continue,
    CtxView,
    Decision,
    Done,
    ErrorKind,
    Fail,
    Need,
    Retry,
    Slot,
    cache,
    call,
    http,
    kv,
    need,
    sql,
    step,
    timer,
)

__all__ = ["app"]


class Price(msgspec.Struct):
    """Of an item."""

    amount: Decimal
    currency: str


class Item(Slot[dict[str, Any]]):
    """The row."""


class Quote(Slot[Price]):
    """From another service."""


class Rebate(Slot[int]):
    """Computed."""


class Session(Slot[dict[str, Any]]):
    """Of who asks."""


def rebate(total: int) -> int:
    """Percent."""
    return min(total, 10)


@step
def authenticate(ctx: CtxView[Never, Session]) -> Decision:
    if ctx.header("authorization", default=None) is None:
        return Continue()
    return Need([kv.get("session", into=Session)])


@step
def look_up(ctx: CtxView[Session, Item | Quote | Rebate]) -> Decision:
    return Need(
        [
            sql.query_one("select * from item where id = :id", {"id": ctx.param("id", int)}, into=Item),
            http.get("http://quotes.example/item", into=Quote, required=False, retry=Retry(2)),
            call.run(rebate, 12, into=Rebate),
        ],
        join="all_required",
        detach=True,
        then=show,
    )


def show(ctx: CtxView[Item | Quote | Rebate]) -> Decision:
    quote = ctx.optional(Quote)
    return Done.json(
        {
            "item": ctx.require(Item),
            "quote": None if quote is None else quote.amount,
            "rebate": ctx.require(Rebate),
            "at": ctx.now(),
            "late": ctx.elapsed > 20,
            "errors": [one.what for one in ctx.errors],
        },
        headers={"x-lucky": f"{ctx.random():.3f}"},
    )


async def order(ctx: CtxView) -> Decision:
    wanted = ctx.json(dict[str, int])
    if not wanted:
        return Fail(ErrorKind.UNPROCESSABLE, "an order needs an item", key="$")
    number = str(ctx.uuid())
    stock, _ = await need(cache.get("stock", as_=int), timer.sleep(0.01))
    if stock is None:
        stock = await need(
            http.get("http://a.example/stock", as_=int), http.get("http://b.example/stock", as_=int),
            join="first_success", mode="sequential",
        )  # fmt: skip
    await need(sql.transaction([
        sql.execute("update item set stock = stock - 1 where id = 1"), sql.query("select id from item", as_=list[int]),
    ]))  # fmt: skip
    return Done.json({"order": number, "stock": stock}, status=201)


app = App()
app.get("/items/{id:int}", authenticate, look_up)
app.post("/orders", order)
