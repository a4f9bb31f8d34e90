"""``/metrics``: what the schedulers count, as Prometheus text."""

from __future__ import annotations

from typing import Never

from ..app import App
from ..context import CtxView
from ..decision import Decision, Done, Need
from ..effects import call
from ..metrics.exposition import CONTENT_TYPE, exposition
from ..slot import Slot
from .sources import AdminSources

__all__ = ["add_metrics"]


class MetricsText(Slot[bytes]):
    """All metrics."""


def add_metrics(app: App, sources: AdminSources) -> None:
    """Add the route to an app of the admin address."""

    async def collected() -> bytes:
        return exposition(await sources.metrics())

    @app.get("/metrics")
    def metrics(ctx: CtxView[Never, MetricsText]) -> Decision:
        return Need([call.run(collected, into=MetricsText)], then=show)


def show(ctx: CtxView[MetricsText]) -> Decision:
    return Done.bytes(ctx.require(MetricsText), content_type=CONTENT_TYPE, headers={"cache-control": "no-store"})
