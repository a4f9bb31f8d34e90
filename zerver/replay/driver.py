"""Drives the interpreter with a recording instead of the world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..site import Site
from ..trace.record import TraceRecord
from .report import Limit, Replay

if TYPE_CHECKING:
    from ..app import App

__all__ = ["replay"]


def replay(app: App | Site, record: TraceRecord) -> Replay:
    """Run a recorded request again. Blocks for as long as its steps run; on a thread without a running event loop."""
    limit = Limit("", "not there yet")
    return Replay(
        id=record.id, route=record.route, outcome="partial", status=record.status, steps=0, effects=0, limit=limit
    )
