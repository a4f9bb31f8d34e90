"""From configuration to the recorder of one loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from msgspec.structs import replace

from zerver_runtime.ref import class_path

from ..config import Config, sqlite_path
from ..redaction import Redaction
from ..trace.export_actor import EXPORTER, ExportActor
from ..trace.otlp import exports
from ..trace.recorder import TailRecorder
from ..trace.recording import Recording
from ..trace.sink import Both, StoreSink
from ..trace.span_attributes import span_settings
from .client_address import ClientAddress

if TYPE_CHECKING:
    from ..trace.store import TraceStore
    from .service import Host

__all__ = ["export_actor", "tail_recorder", "with_export"]


def with_export(config: Config, host: Host) -> Host:
    """With an exporter in this process, where none of a Node does that, and it is asked for.

    :raises ConfigError: it is asked for by ``trace.otlp``, and cannot be done.
    """
    if host.stage is not None or not exports(config.trace):
        return host
    from ..trace.span_exporter import SpanExporter

    return replace(host, export=SpanExporter(span_settings(config)))


def export_actor(config: Config) -> dict[str, tuple[str, tuple[Any, ...], str]]:
    """The actor that exports for a Node, if one is to: as ``NodeConfig.actors`` has it.

    :raises ConfigError: it is asked for by ``trace.otlp``, and cannot be done.
    """
    if not exports(config.trace):
        return {}
    return {EXPORTER: (class_path(ExportActor), (to_builtins(span_settings(config)),), ExportActor.affinity)}


def tail_recorder(config: Config, loop: asyncio.AbstractEventLoop, host: Host) -> TailRecorder:
    """What keeps the traces of the requests of this loop, in the store that is configured, and has them exported."""
    trace = config.trace
    path = sqlite_path(trace.store)
    recording = Recording(
        Redaction(trace.redact), bodies=trace.bodies, engine=config.reactor.engine, scheduler=host.scheduler or 0
    )

    def make_store() -> TraceStore:
        from ..trace.store import TraceStore  # with the first trace that is kept: it takes SQLite with it

        return TraceStore(path, max_bytes=trace.max_bytes, max_age=trace.max_days * 86_400)

    store = StoreSink(make_store)
    recorder = TailRecorder(
        store if host.export is None else Both(store, host.export),
        recording,
        sample=trace.sample,
        slow_ns=None if trace.slow_ms is None else int(trace.slow_ms * 1e6),
        trusts=ClientAddress(trace.trusted).trusts if trace.trusted else None,
        soon=loop.call_soon_threadsafe,
        call_later=loop.call_later,
    )
    recorder.lost = lambda: store.lost
    return recorder
