"""A checkout: who is it, what is in the cart, is it there, what does it cost, pay, store the order, write a receipt.

What to look at: the three services that ``ask_upstreams`` wants at once, and which of them it can do without; how a
payment is tried again without being made twice; and that no step knows about time-outs, retries or breakers.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Never

from zerver import App, Continue, CtxView, Decision, Done, ErrorKind, Fail, Need, Retry, Slot, file, http, sql, step
from zerver.effects.sql import SqlResult

from .model import (
    ADD_LINE,
    CUSTOMER,
    EARLIER,
    EMPTY_CART,
    LINES,
    PLACE,
    SCHEMA,
    SEED,
    Charge,
    Customer,
    Line,
    Order,
)

__all__ = ["app"]

# Each upstream has an address, so a breaker and a bulkhead, of its own; those are set in config.json.
INVENTORY = os.environ.get("CHECKOUT_INVENTORY", "http://127.0.0.1:9001")
PRICING = os.environ.get("CHECKOUT_PRICING", "http://127.0.0.1:9002")
SUGGESTIONS = os.environ.get("CHECKOUT_SUGGESTIONS", "http://127.0.0.1:9003")
PAYMENT = os.environ.get("CHECKOUT_PAYMENT", "http://127.0.0.1:9004")


class Buyer(Slot[Customer]):
    """Who is asking."""


class OrderKey(Slot[str]):
    """Names this one order, whatever is tried again: by the client, or here."""


class Earlier(Slot[list[Order]]):
    """The order that this key was used for before, if it was."""


class Cart(Slot[list[Line]]):
    """What is to be bought."""


class Stock(Slot[dict[str, int]]):
    """How many of each are there."""


class Prices(Slot[dict[str, int]]):
    """Cents for one of each."""


class Suggested(Slot[list[str]]):
    """What else the customer may like. Nobody waits for it."""


class Total(Slot[int]):
    """Cents."""


class Paid(Slot[Charge]):
    """The charge, made by this attempt or by one whose answer was lost."""


class Placed(Slot[tuple[Order, SqlResult]]):
    """The order as it is stored, and the emptied cart."""


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    await app.perform(sql.transaction([sql.execute(statement) for statement in (*SCHEMA, SEED)], timeout=5))
    yield


app = App(lifespan=lifespan)


# Before both routes


@step
def authenticate(ctx: CtxView[Never, Buyer]) -> Decision:
    key = ctx.header("x-api-key", default="")
    if not key:
        return Fail(ErrorKind.UNAUTHORIZED, "give your key in the header x-api-key")
    return Need([sql.query_one(CUSTOMER, {"api_key": key}, into=Buyer, required=False)], then=admit)


def admit(ctx: CtxView[Buyer]) -> Decision:
    if ctx.optional(Buyer) is not None:
        return Continue()
    problem = ctx.last_error
    if problem is not None and problem.kind is not ErrorKind.NOT_FOUND:
        return Fail(problem.kind, "customers cannot be read just now")
    return Fail(ErrorKind.UNAUTHORIZED, "this key is not known")


app.use(authenticate)


# PUT /cart


@step
def fill(ctx: CtxView[Buyer]) -> Decision:
    customer = ctx.require(Buyer).id
    lines = [{"customer": customer, "sku": line.sku, "quantity": line.quantity} for line in ctx.json(list[Line])]
    statements = [
        sql.execute(EMPTY_CART, {"customer": customer}),
        *[sql.execute(ADD_LINE, line) for line in lines],
    ]
    return Need([sql.transaction(statements)], then=filled)


def filled(ctx: CtxView) -> Decision:
    return Done.empty()


app.put("/cart", fill)


# POST /checkout


@step
def look(ctx: CtxView[Buyer, OrderKey | Earlier | Cart]) -> Decision:
    buyer, given = ctx.require(Buyer), ctx.idempotency_key
    if given is None:
        what = "name your order in the header Idempotency-Key, so that it can safely be asked for again"
        return Fail(ErrorKind.INVALID_INPUT, what, key="header.idempotency-key")
    key = f"{buyer.id}:{given}"
    ctx.put(OrderKey, key)
    return Need(
        [
            sql.query(LINES, {"customer": buyer.id}, into=Cart),
            sql.query(EARLIER, {"key": key}, into=Earlier),
        ],
        # In this order: if another request with this key has just emptied the cart, its order is found.
        mode="sequential",
        then=begin,
    )


def begin(ctx: CtxView[Earlier | Cart]) -> Decision:
    earlier = ctx.require(Earlier)
    if earlier:
        return Done.json({"order": earlier[0], "suggested": []})
    if not ctx.require(Cart):
        return Fail(ErrorKind.CONFLICT, "the cart is empty; fill it with PUT /cart")
    return Continue()


@step
def ask_upstreams(ctx: CtxView[Cart, Stock | Prices | Suggested]) -> Decision:
    skus = {"sku": [line.sku for line in ctx.require(Cart)]}
    return Need(
        [
            # Optional: dropped once the other two are there. It comes first for the blocking engine's sake, which
            # performs effects in this order, and none after the last that is required.
            http.get(f"{SUGGESTIONS}/suggestions", params=skus, into=Suggested, timeout=0.5, required=False),
            # Required, and answered in 30 ms on most days. Who has not answered after 250 ms is asked again: that is
            # faster than to go on waiting. Both attempts together are what a client would wait for.
            http.get(f"{INVENTORY}/stock", params=skus, into=Stock, timeout=0.25, retry=Retry(2)),
            http.get(f"{PRICING}/prices", params=skus, into=Prices, timeout=0.25, retry=Retry(2)),
        ],
        join="all_required",
        then=add_up,
    )


def add_up(ctx: CtxView[Cart | Stock | Prices, Total]) -> Decision:
    stock, prices, total = ctx.require(Stock), ctx.require(Prices), 0
    for line in ctx.require(Cart):
        there = stock.get(line.sku, 0)
        if there < line.quantity or line.sku not in prices:
            return Fail(ErrorKind.CONFLICT, f"of {line.sku} there are {there} left", key=line.sku)
        total += prices[line.sku] * line.quantity
    ctx.put(Total, total)
    return Continue()


@step
def pay(ctx: CtxView[OrderKey | Total, Paid]) -> Decision:
    key = ctx.require(OrderKey)
    charge = http.post(
        f"{PAYMENT}/charges",
        json={"cents": ctx.require(Total)},
        into=Paid,
        # A bank may take its time. After a time-out nobody knows whether the money has moved; with the same key the
        # service makes the charge once, however often it is asked. Without idem= a retry of a POST is refused.
        timeout=0.5,
        retry=Retry(3, base=0.05),
        idem=key,
    )
    return Need([charge])


@step
def store(ctx: CtxView[Buyer | OrderKey | Paid, Placed]) -> Decision:
    buyer, paid = ctx.require(Buyer), ctx.require(Paid)
    row = {"customer": buyer.id, "key": ctx.require(OrderKey), "cents": paid.cents, "charge": paid.id}
    both = sql.transaction(
        [
            sql.query_one(PLACE, row, as_=Order),
            sql.execute(EMPTY_CART, {"customer": buyer.id}),
        ],
        into=Placed,
        idem=ctx.require(OrderKey),
        retry=Retry(3),
    )
    return Need([both], then=write_receipt)


def write_receipt(ctx: CtxView[Buyer | Placed]) -> Decision:
    order, _ = ctx.require(Placed)
    text = f"{ctx.require(Buyer).name}, order {order.number}: {order.cents / 100:.2f}\n"
    # Detached: the client has its answer meanwhile, and a stop of the server waits for the file.
    receipt = file.write(f"receipts/{order.number}.txt", text, required=False)
    return Need([receipt], join="all_required", detach=True, then=confirm)


def confirm(ctx: CtxView[Placed | Suggested]) -> Decision:
    order, _ = ctx.require(Placed)
    return Done.json({"order": order, "suggested": ctx.optional(Suggested) or []}, status=201)


# What all of it may take. Past it the client has a 504, wherever it stands.
app.post("/checkout", look, ask_upstreams, pay, store, deadline=3)
