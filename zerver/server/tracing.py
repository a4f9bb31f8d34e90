"""From configuration to the recorder of one loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..config import Config, sqlite_path
from ..trace.recorder import TailRecorder
from ..trace.recording import Recording
from ..trace.redaction import Redaction
from ..trace.sink import StoreSink
from .client_address import ClientAddress

if TYPE_CHECKING:
    from ..trace.store import TraceStore

__all__ = ["tail_recorder"]


def tail_recorder(config: Config, loop: asyncio.AbstractEventLoop, scheduler: int) -> TailRecorder:
    """What keeps the traces of the requests of this loop, in the store that is configured."""
    trace = config.trace
    path = sqlite_path(trace.store)
    recording = Recording(
        Redaction(trace.redact), bodies=trace.bodies, engine=config.reactor.engine, scheduler=scheduler
    )

    def make_store() -> TraceStore:
        from ..trace.store import TraceStore  # with the first trace that is kept: it takes SQLite with it

        return TraceStore(path, max_bytes=trace.max_bytes, max_age=trace.max_days * 86_400)

    return TailRecorder(
        StoreSink(make_store),
        recording,
        sample=trace.sample,
        slow_ns=None if trace.slow_ms is None else int(trace.slow_ms * 1e6),
        trusts=ClientAddress(trace.trusted).trusts if trace.trusted else None,
        soon=loop.call_soon_threadsafe,
        call_later=loop.call_later,
    )
