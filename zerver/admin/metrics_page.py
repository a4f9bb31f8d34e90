"""``/metrics``: what the schedulers count, as Prometheus text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Never

from ..app import App
from ..context import CtxView
from ..decision import Decision, Done, Need
from ..effects import call
from ..metrics.exposition import CONTENT_TYPE, exposition
from ..metrics.snapshot import Sample
from ..slot import Slot
from .sources import AdminSources

__all__ = ["add_metrics"]


class Metrics(Slot[Sequence[Sample]]):
    """All of them."""


class MetricsText(Slot[bytes]):
    """The same as text."""


def add_metrics(app: App, sources: AdminSources) -> None:
    """Add the route to an app of the admin address."""

    @app.get("/metrics")
    def metrics(ctx: CtxView[Never, Metrics]) -> Decision:
        return Need([call.run(sources.metrics, into=Metrics)], then=write)


def write(ctx: CtxView[Metrics, MetricsText]) -> Decision:
    # On a thread: with many routes it takes longer than a loop may be kept that others need, too.
    return Need([call.run(exposition, ctx.require(Metrics), into=MetricsText)], then=show)


def show(ctx: CtxView[MetricsText]) -> Decision:
    return Done.bytes(ctx.require(MetricsText), content_type=CONTENT_TYPE, headers={"cache-control": "no-store"})
