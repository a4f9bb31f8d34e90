"""Boot: an app on a socket, from its check to its graceful stop. Here the blocking engine runs under uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import msgspec
import uvicorn

from ..app import App
from ..config import Config, load, load_config
from ..error import AppError, ZerverError
from .app_traceback import first_app_line
from .listener import Listener, open_listener

__all__ = ["Server", "serve"]

_log = logging.getLogger("zerver")


class Server:
    """Serves one app in this process.

    ``config``: by default ``config.json`` and the environment, as ``load_config`` reads them at :meth:`listen`.
    """

    def __init__(self, app: App, config: Config | None = None) -> None:
        self.app = app
        self.config = config

    def listen(self, host: str | None = None, port: int | None = None, uds: str | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully and return. What is given wins over the configuration.

        At the stop nothing new is accepted, requests in flight have ``server.grace`` seconds to finish and are then
        cancelled, and the lifespan ends. A second SIGINT ends the process at once. Signals are only seen when this is
        called on the main thread.

        Where it listens is logged at level info; where logging is not set up, it is written to standard error.

        :raises ConfigError: a setting is wrong.
        :raises AppError: the app has errors (found before anything is opened), or its lifespan failed, at the start or
            at the stop; that exception is the cause.
        :raises ListenError: an OSError; it cannot listen there.
        """
        config = _configured(load_config() if self.config is None else self.config, host, port, uds)
        self.app.site()
        serve(self.app, config, open_listener(config.server))


def serve(app: App, config: Config, listener: Listener) -> None:
    """Serve ``app`` on ``listener``, and close that at the end. For the rest see :meth:`Server.listen`.

    :raises AppError: see :meth:`Server.listen`.
    """
    try:
        app.config = config
        lifespan_log = _LifespanLog()
        _log.addFilter(lifespan_log)
        try:
            _Uvicorn(app, config, listener).run(sockets=[listener.socket])
        finally:
            _log.removeFilter(lifespan_log)
    finally:
        listener.close()


def _configured(config: Config, host: str | None, port: int | None, uds: str | None) -> Config:
    """:raises ConfigError: a value that is given is not allowed."""
    given = {name: value for name, value in (("host", host), ("port", port), ("uds", uds)) if value is not None}
    if not given:
        return config
    merged = {**msgspec.to_builtins(config.server), **given}
    return msgspec.structs.replace(config, server=load({"server": merged}, source="Server.listen()").server)


class _Uvicorn(uvicorn.Server):
    """uvicorn, whose lifespan ends the process on a failure and sees no signal until the start is over: here a failure
    is raised, and a signal ends the start. So uvicorn's own is off."""

    def __init__(self, app: App, config: Config, listener: Listener) -> None:
        # The client's address is the peer's: headers such as X-Forwarded-For are anybody's to write.
        settings = uvicorn.Config(
            app, loop="uvloop", http="httptools", interface="asgi3", lifespan="off", workers=1, log_config=None,
            access_log=config.observability.access_log, server_header=False, proxy_headers=False,
        )  # fmt: skip
        settings.timeout_graceful_shutdown = config.server.grace  # type: ignore[assignment]  # asyncio takes any number
        super().__init__(settings)
        self._lifespan = _Lifespan(app)
        self._address = listener.address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then accept. A signal meanwhile ends the start."""
        starting = asyncio.ensure_future(self._lifespan.start())
        while not starting.done() and not self.should_exit:
            await asyncio.wait((starting,), timeout=0.1)  # signals only set should_exit
        if self.should_exit and not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return
        starting.result()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        """Serve until a signal. Whoever sends one because of what is announced here gets a graceful stop."""
        _announce(self._address)
        await super().main_loop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests finish, then stop the app."""
        await super().shutdown(sockets)
        await self._lifespan.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals while serving. They are not raised again afterwards: a graceful stop is a success."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
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


class _Lifespan:
    """The app's lifespan by the ASGI protocol, whose failures it raises."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._problem: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """:raises AppError: the app could not start."""
        self._task = asyncio.create_task(self._run())
        try:
            await self._exchange("startup")
        except BaseException:
            self._task.cancel()
            await asyncio.wait((self._task,))
            raise

    async def stop(self) -> None:
        """:raises AppError: the app could not stop as it should."""
        await self._exchange("shutdown")

    async def _exchange(self, phase: str) -> None:
        self._answered.clear()
        self._to_app.put_nowait({"type": f"lifespan.{phase}"})
        await self._answered.wait()
        if self._problem is not None:
            _log.debug("the app's %s failed", phase, exc_info=self._problem)
            raise _failure(phase, self._problem) from self._problem

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._app(scope, self._to_app.get, self._send)
        except Exception as problem:
            self._problem = problem
        finally:
            self._answered.set()

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"].endswith(".failed"):
            self._problem = sys.exception() or AppError(message.get("message", ""))  # it is sent while handling that
        self._answered.set()


def _failure(phase: str, problem: BaseException) -> AppError:
    if isinstance(problem, ZerverError):
        reason = str(problem)
    else:
        reason = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    line = first_app_line(problem)
    return AppError(f"the app's {phase} failed: {reason}" + (f" ({line})" if line else ""))


class _LifespanLog(logging.Filter):
    """Drops the record of a failed lifespan: the failure is raised, once."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record."""
        return not (record.exc_info and str(record.msg).startswith("lifespan "))


def _announce(address: str) -> None:
    if _log.hasHandlers():
        _log.info("listening on %s", address)
    else:
        sys.stderr.write(f"zerver: listening on {address}\n")
