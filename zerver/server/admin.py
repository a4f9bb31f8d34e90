"""The admin address of a server: its socket, and the app on it, on a loop that serves no requests of the app's own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zerver_runtime.listener import Listeners
from zerver_runtime.reactor.loop import Timers

from ..admin import admin_app
from ..config import Config
from ..config.rules import admin_address, sqlite_path
from ..metrics.collector import Collector, say_last, tell_when_asked
from ..metrics.snapshot import Sample, Snapshot
from .assembly import http_limits
from .client_address import ClientAddress
from .http_protocol import accept
from .http_server import HttpServer
from .lifespan import AppLifespan
from .listener import Listener
from .measure import measure

if TYPE_CHECKING:
    import asyncio

    from zerver_runtime.scheduler_process import SchedulerContext

    from ..app import App

__all__ = ["Admin", "Sources", "boot_admin"]

_log = logging.getLogger("zerver")

_GRACE = 0.5  # seconds that what is asked at the end has to be answered


class Sources:
    """See :class:`~zerver.admin.AdminSources`. ``load`` gives the app."""

    def __init__(self, config: Config, load: Callable[[], App], collector: Collector) -> None:
        self.config = config
        self._load = load
        self._loading = threading.Lock()
        self._app: App | None = None
        self._collector = collector

    @property
    def traces(self) -> str | None:
        return None if self.config.trace.enabled is False else sqlite_path(self.config.trace.store)

    def app(self) -> App:
        with self._loading:
            if self._app is None:
                self._app = self._load()
            return self._app

    async def snapshots(self) -> Sequence[Snapshot]:
        return await self._collector.snapshots()

    async def metrics(self) -> Sequence[Sample]:
        return await self._collector.metrics()


class Admin:
    """Serves the admin address on ``loop``. ``listener`` is lent."""

    def __init__(self, sources: Sources, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        config = sources.config
        address = admin_address(config.observability.admin)
        names = {address[0].lower()} if address is not None else set()
        self._app = admin_app(sources, names)
        # Nothing of the app's own: no stores, no traces of looking at traces, and always the engine of our front end.
        self._config = self._app.config = Config(
            limits=config.limits,
            reactor=replace(Config().reactor, enabled=True),
            observability=replace(Config().observability, debug=config.observability.debug),
        )
        self._lifespan = AppLifespan(self._app)
        self._timers = Timers(loop)
        self._listeners = Listeners(loop, [(0, listener.sockets[0].dup())])
        self._http: HttpServer | None = None

    async def start(self) -> None:
        """:raises AppError: its app cannot start."""
        await self._lifespan.start()
        asgi, limits = self._app._server(), self._config.limits
        self._http = http = HttpServer(
            asgi.service, asgi.mounted, None, limits=http_limits(limits), write_timeout=limits.write_timeout,
            client_address=ClientAddress(), secure=False, health=True, call_later=self._timers.call_later,
        )  # fmt: skip
        self._listeners.on_connection = lambda connection, _: accept(http, connection)
        self._listeners.serve(0)

    async def stop(self) -> None:
        """Answer what was asked, and end."""
        self._listeners.close_all()
        if self._http is not None:
            await self._http.drain(_GRACE)
            await self._http.service.drain(_GRACE)
            await self._lifespan.stop()
            self._http.close()
        self._timers.close()


async def boot_admin(context: SchedulerContext, config: Config, load: Callable[[], App], listener: Listener) -> None:
    """Serve the admin address in a scheduler that serves nothing else. It fails alone: what it cannot do is logged."""
    stage = context.scheduler

    def look() -> Snapshot:
        return measure(stage, "efficiency")

    collector = Collector(stage, look, range(context.config.performance))
    admin = Admin(Sources(config, load, collector), listener, context.loop)
    try:
        await admin.start()
    except Exception:
        _log.exception("the admin address %s cannot be served", listener.address)
        return
    collector.start()
    tell_when_asked(stage, look)

    async def end() -> None:
        await collector.close()
        await admin.stop()
        await say_last(stage, look())  # no less than what was answered until now

    context.on_drain.append(end)
