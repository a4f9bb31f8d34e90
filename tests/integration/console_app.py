"""The console on an app of its own, with what it shows of the shop below. The trace store is that of ``$STORE``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Never

from zerver import App, Continue, CtxView, Decision, Done, Need, Slot, http, sql
from zerver.config import Config
from zerver.console.routes import console_routes
from zerver.metrics.snapshot import ActorView, Sample, Snapshot


class CartId(Slot[int]):
    """The id in the path."""


class Cart(Slot[dict[str, Any]]):
    """The row."""


class Stock(Slot[dict[str, Any]]):
    """What is there."""


class Offers(Slot[dict[str, Any]]):
    """Optional."""


class Price(Slot[int]):
    """The sum."""


def parse(ctx: CtxView[Never, CartId]) -> Decision:
    ctx.put(CartId, ctx.param("id", int))
    return Continue()


def load(ctx: CtxView[CartId, Cart | Stock | Offers]) -> Decision:
    return Need(
        [
            sql.query_one("select * from carts where id = :id", {"id": ctx.require(CartId)}, into=Cart),
            http.get("http://stock.internal/levels", into=Stock),
            http.get("http://offers.internal/today", into=Offers, required=False),
        ],
        join="all_required",
        then=total,
    )


def total(ctx: CtxView[Cart | Stock | Offers, Price]) -> Decision:
    ctx.put(Price, 1)
    return Need([], then=show)


def show(ctx: CtxView[CartId | Price | Offers]) -> Decision:
    return Done.json({"id": ctx.require(CartId), "price": ctx.require(Price), "offers": ctx.optional(Offers)})


def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")


shop = App()
shop.get("/checkout/{id:int}", parse, load)
shop.get("/hello/{name}", hello)


class Sources:
    """See :class:`zerver.admin.AdminSources`."""

    config = Config()
    traces: str | None = os.environ["STORE"]

    def app(self) -> App:
        return shop

    async def metrics(self) -> Sequence[Sample]:
        return []

    async def snapshots(self) -> Sequence[Snapshot]:
        cache = ActorView("zerver.cache", "zerver.cache_actor:CacheActor", 0, 1024)
        counter = ActorView("counter", "shop:Counter", 700, 1024)
        return [
            Snapshot(0, 1, "performance", 4711, 1.0, (*_process(0, "performance"), *_SERVING)),
            Snapshot(1, 2, "performance", 4712, 1.0, (*_process(1, "performance"), *_SERVING), up=False),
            Snapshot(
                2, 1, "efficiency", 4713, 1.0, _process(2, "efficiency"), (cache, counter),
                ("Counter.add to an actor that has ended",),
            ),
        ]  # fmt: skip


def _process(slot: int, kind: str) -> tuple[Sample, ...]:
    own = (str(slot), kind)
    return (
        Sample("zerver_scheduler_busy_ratio", own, 0.42),
        Sample("zerver_scheduler_cpu_seconds_total", own, 71.5),
        Sample("zerver_scheduler_resident_memory_bytes", own, 58e6),
        Sample("zerver_connections", own, 12),
        Sample("zerver_actors", own, 4),
        Sample("zerver_scheduler_queued", own, 0),
    )


_SERVING = (
    Sample("zerver_requests_in_flight", (), 3),
    Sample("zerver_requests_total", ("GET", "/hello", "2xx"), 120345),
    Sample("zerver_tasks_queued", (), 0),
    Sample("zerver_requests_shed_total", (), 0),
    Sample("zerver_traces_kept_total", ("error",), 12),
    Sample("zerver_effects_total", ("http:stock.internal", "success"), 4210),
    Sample("zerver_effects_total", ("http:stock.internal", "TIMEOUT"), 31),
    Sample("zerver_effects_total", ("sql:main", "success"), 120311),
    Sample("zerver_effects_in_flight", ("http:stock.internal",), 2),
    Sample("zerver_effects_queued", ("http:stock.internal",), 1),
    Sample("zerver_effect_retries_total", ("http:stock.internal",), 40),
    Sample("zerver_breakers", ("http:stock.internal", "open"), 1),
    Sample("zerver_breakers", ("sql:main", "closed"), 1),
)

app = App()
console_routes(app, Sources())
