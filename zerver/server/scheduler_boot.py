"""A scheduler process that serves a web app, from its boot to its end."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zerver_runtime.reactor.loop import Timers
from zerver_runtime.scheduler_process import ApplicationFailed, SchedulerContext

from ..cache_actor import CACHE
from ..config import Config
from ..error import ZerverError
from ..metrics.collector import say_last, tell_when_asked
from ..metrics.meters import Meters
from ..metrics.snapshot import Snapshot
from ..redaction import Redaction
from ..trace.export_actor import EXPORTER, ActorSink
from ..trace.recorder import TailRecorder
from .access_log import AccessLog
from .assembly import http_limits
from .client_address import ClientAddress
from .http_protocol import accept
from .http_server import HttpServer
from .lifespan import AppLifespan
from .measure import measure, service_samples
from .service import Host

if TYPE_CHECKING:
    from ..app import App

__all__ = ["boot_scheduler"]

# Objects that are made before a collection of garbage. What serving leaves behind is mostly no cycle.
_GARBAGE = 100_000
# Seconds that the shared cache has to be found in, before this scheduler serves without it until it is.
_CACHE = 1.0


async def boot_scheduler(
    context: SchedulerContext, load: Callable[[], tuple[App, Config]], *, measured: bool = False
) -> None:
    """Load the app, start it, and have its connections served once the Node says so. ``measured``: count for metrics.

    :raises ApplicationFailed: it cannot start; the text is for whoever runs it.
    """
    try:
        app, config = load()
        if config.reactor.engine != "reactor":  # since the start; a Node runs no other
            config = replace(config, reactor=replace(config.reactor, enabled=True))
        app.config = config
        app.site()
        serving = _Serving(context, app, config, measured)
        await serving.start()
    except ZerverError as problem:
        raise ApplicationFailed(str(problem)) from problem
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE, 50, 50)


class _Serving:
    """One app in one scheduler."""

    def __init__(self, context: SchedulerContext, app: App, config: Config, measured: bool) -> None:
        self._context = context
        self._app = app
        self._config = config
        self._measured = measured
        self._lifespan = AppLifespan(app)
        self._timers = Timers(context.loop)

    async def start(self) -> None:
        config, timers = self._config, self._timers
        tls = None
        if config.server.tls_cert is not None:
            from .tls import server_context

            tls = server_context(config.server)
        context, asgi, tasks = self._context, self._app._server(), config.reactor.compute_pool.queue
        shares_cache = CACHE in context.config.actors
        asgi.host = Host(
            scheduler=context.place.scheduler,
            make_compute_pool=lambda observe: context.compute_pool(tasks, observe),
            stage=context.scheduler,
            shared_cache=context.scheduler if shares_cache else None,
            meters=Meters(self._app.site().labels) if self._measured else None,
            export=ActorSink(context.scheduler, timers.call_later) if EXPORTER in context.config.actors else None,
        )
        context.keep({name: (one.kind, one.args, one.kwargs) for name, one in self._app.site().actors.items()})
        if shares_cache:
            await self._cache_is_there()
        await self._lifespan.start()
        access_log = None
        if config.observability.access_log:
            access_log = AccessLog(timers.call_later, time.monotonic_ns, Redaction(config.trace.redact))
        self._http = http = HttpServer(
            asgi.service,
            asgi.mounted,
            access_log,
            limits=http_limits(config.limits),
            write_timeout=config.limits.write_timeout,
            client_address=ClientAddress(config.server.trusted_proxies),
            secure=tls is not None,
            health=config.observability.health,
            call_later=timers.call_later,
        )
        recorder = asgi.service.trace
        if isinstance(recorder, TailRecorder):
            recorder.requests = lambda: http.service.requests
        if asgi.mounted:
            from .websocket import WebSockets

            http.websockets = WebSockets(self._app, http)
        if self._measured:
            tell_when_asked(context.scheduler, self._look)
        self._context.listeners.on_connection = lambda connection, _: accept(http, connection, tls)
        self._context.on_drain.append(self._end)

    async def _cache_is_there(self) -> None:
        """Its process starts with this one and has less to load, so this waits some milliseconds at most. Where it died
        meanwhile, its actor is placed on a process such as this one, once that is ready."""
        until = time.monotonic() + _CACHE
        while self._context.scheduler.whereis(CACHE) is None and time.monotonic() < until:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.001)

    def _look(self) -> Snapshot:
        http = self._http
        return measure(self._context.scheduler, "performance", service_samples(http.service), lambda: len(http))

    async def _end(self) -> None:
        """What is under way has ``server.grace`` seconds; then it is cancelled, and the app ends."""
        loop, grace = asyncio.get_running_loop(), self._config.server.grace
        until = loop.time() + grace
        await self._http.drain(grace)
        await self._http.service.drain(max(0.0, until - loop.time()))
        if self._measured:
            await say_last(self._context.scheduler, self._look())
        try:
            await self._lifespan.stop()
        except ZerverError as problem:
            raise ApplicationFailed(str(problem)) from problem
        finally:
            self._http.close()
            self._timers.close()
