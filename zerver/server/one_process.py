"""The blocking engine on its own: the app under uvicorn, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from ..config import Config
from ..metrics.collector import Collector
from ..metrics.meters import Meters
from ..metrics.snapshot import Snapshot
from ..redaction import Redaction
from .access_log import AccessLog
from .lifespan import AppLifespan
from .listener import Listener, open_admin
from .log import announce
from .measure import measure, service_samples
from .service import Host

if TYPE_CHECKING:
    import socket

    from ..app import App
    from .admin import Admin

__all__ = ["serve_in_one_process"]

_log = logging.getLogger("zerver")


def serve_in_one_process(app: App, config: Config, listener: Listener, admin_fd: int | None = None) -> None:
    """Serve ``app`` until SIGTERM or SIGINT, and close ``listener`` at the end. ``admin_fd``: a socket that listens at
    the admin address already.

    :raises AppError: its lifespan failed.
    """
    admin: Listener | None = None
    try:
        admin = open_admin(config, admin_fd)
        app.config = config
        app._server().host = Host(scheduler=0, meters=None if admin is None else Meters(app.site().labels))
        _Uvicorn(app, config, listener, admin).run(sockets=list(listener.sockets))
    finally:
        listener.close()
        if admin is not None:
            admin.close()


class _Uvicorn(uvicorn.Server):
    """uvicorn, whose lifespan ends the process on a failure and sees no signal until the start is over: here a failure
    is raised, and a signal ends the start. So uvicorn's own is off."""

    def __init__(self, app: App, config: Config, listener: Listener, admin: Listener | None) -> None:
        server = config.server
        # Of others, headers such as X-Forwarded-For are anybody's to write.
        settings = uvicorn.Config(
            app, loop="uvloop", http="httptools", interface="asgi3", lifespan="off", workers=1, log_config=None,
            access_log=False, server_header=False,
            proxy_headers=bool(server.trusted_proxies), forwarded_allow_ips=server.trusted_proxies,
            ssl_certfile=server.tls_cert, ssl_keyfile=server.tls_key,
        )  # fmt: skip
        settings.timeout_graceful_shutdown = server.grace  # type: ignore[assignment]  # asyncio takes any number
        super().__init__(settings)
        self._app = app
        self._access_log = config.observability.access_log
        self._lifespan = AppLifespan(app)
        self._address = listener.address
        self._config = config
        self._admin_listener = admin
        self._admin: Admin | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then accept. A signal meanwhile ends the start."""
        if self._access_log:
            call_later = asyncio.get_running_loop().call_later
            redaction = Redaction(self._config.trace.redact)
            self._app._server().access_log = AccessLog(call_later, time.monotonic_ns, redaction)
        starting = asyncio.ensure_future(self._lifespan.start())
        while not starting.done() and not self.should_exit:
            await asyncio.wait((starting,), timeout=0.1)  # signals only set should_exit
        if self.should_exit and not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return
        starting.result()
        await super().startup(sockets)
        if self._admin_listener is not None:
            await self._serve_admin(self._admin_listener)

    async def _serve_admin(self, listener: Listener) -> None:
        from .admin import Admin, Sources

        service = self._app._server().service
        connections = self.server_state.connections

        def look() -> Snapshot:
            return measure(service.stage, "performance", service_samples(service), lambda: len(connections))

        sources = Sources(self._config, lambda: self._app, Collector(service.stage, look))
        self._admin = Admin(sources, listener, asyncio.get_running_loop())
        await self._admin.start()

    async def main_loop(self) -> None:
        """Serve until a signal. Whoever sends one because of what is announced here gets a graceful stop."""
        announce(self._address)
        await super().main_loop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish, then stop the app."""
        await super().shutdown(sockets)
        if self._admin is not None:
            await self._admin.stop()
        try:
            await self._lifespan.stop()
        finally:
            log = self._app._server().access_log
            if log is not None:
                log.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals while serving. They are not raised again afterwards: a graceful stop is a success."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._stay)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.should_exit and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.should_exit = True

    def _stay(self, number: int, frame: FrameType | None) -> None:
        _log.warning("SIGHUP: the blocking engine is one process and cannot reload; stop it, and start it again")
