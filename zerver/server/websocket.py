"""WebSocket connections: uvicorn's protocol on the socket of an upgrade, and a mounted app behind it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn import Config
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol
from uvicorn.server import ServerState

from ..error import AppError
from ..site import AsgiApp
from .access_log import AnswerLog
from .http_server import HttpServer

__all__ = ["WebSockets"]


class WebSockets:
    """Makes the protocols for the upgrades of ``server``. ``app`` is the whole application: it finds the mount.

    :raises AppError: no library that uvicorn can use is installed.
    """

    def __init__(self, app: AsgiApp, server: HttpServer) -> None:
        if AutoWebSocketsProtocol is None:
            raise AppError("WebSockets need the package websockets; install it")
        self._make = cast("Any", AutoWebSocketsProtocol)
        self._app = app
        self._server = server
        self._config = Config(
            self._serve, loop="none", http="httptools", interface="asgi3", lifespan="off", log_config=None,
            proxy_headers=False, server_header=False,
        )  # fmt: skip
        self._config.load()
        self._state = ServerState()

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one connection."""
        made: asyncio.Protocol = self._make(config=self._config, server_state=self._state, app_state={})
        return made

    def __len__(self) -> int:
        """Connections."""
        return len(self._state.connections)

    def stop(self) -> None:
        """Close them: the server goes away (1012, RFC 6455 section 7.4 and its registry), and there may be another."""
        for connection in list(self._state.connections):
            connection.shutdown()

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._server.hold(task)
        server, client = self._server, scope["client"]
        if client is not None:
            scope["client"] = (server.client_address.of(client[0], scope["headers"]), client[1])
        if server.access_log is None:
            await self._answer(scope, receive, send)
            return
        logged = AnswerLog(server.access_log, scope, server.request_id(), server.clock(), send)
        try:
            await self._answer(scope, receive, logged)
        finally:
            logged.end()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._server.stopping:
            await self._app(scope, receive, send)
            return
        # It was accepted before, and asks now. Another scheduler has the next connection.
        headers = [(b"retry-after", b"1"), (b"content-length", b"0")]
        await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b""})
