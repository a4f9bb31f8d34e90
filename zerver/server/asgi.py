"""The app as an ASGI 3 application: scopes in, messages out."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from ..app import App, Mount, Site
from ..config import load_config
from ..effect import Effect
from ..error import Error, ErrorKind
from ..pipeline import Pipeline
from ..request import Request
from ..response import Response
from ..routing import Match, MethodMismatch
from .asgi_response import send_response
from .lifespan import mounted_lifespan
from .service import Service

__all__ = ["AsgiServer"]

_log = logging.getLogger("zerver")


class AsgiServer:
    """Serves one app under any ASGI server. Its :class:`Service` (engine, effectors) belongs to the running loop: it
    starts with the lifespan, or, under a server without one, with the first request."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._site: Site | None = None
        self._services: dict[asyncio.AbstractEventLoop, Service] = {}
        self._prefix = os.urandom(6).hex()
        self._serial = itertools.count(1)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)

    async def perform(self, effect: Effect[Any]) -> Any:
        """See :meth:`App.perform`."""
        return await (await self._service()).perform(effect)

    # Starting and stopping

    async def _service(self) -> Service:
        loop = asyncio.get_running_loop()
        service = self._services.get(loop)
        if service is None:
            for closed in [one for one in self._services if one.is_closed()]:
                self._services.pop(closed).abandon()
            if self._site is None:
                self._site = self.app.site()
                for warning in self._site.warnings:
                    _log.warning("%s", warning)
            service = self._services[loop] = Service(self.app, self.app.config or load_config(), loop)
        await service.ready()
        return service

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        starting = True
        try:
            async with AsyncExitStack() as stack:
                service = await self._service()
                stack.push_async_callback(self._stop, service)
                if self.app.lifespan is not None:
                    await stack.enter_async_context(self.app.lifespan(self.app))
                assert self._site is not None
                for mount in self._site.mounts:
                    await stack.enter_async_context(mounted_lifespan(mount.app, mount.path or "/"))
                stack.push_async_callback(service.drain)
                await send({"type": "lifespan.startup.complete"})
                starting = False
                await receive()
        except Exception as problem:  # whatever the app's own lifespan raises is a failed start or stop
            phase = "startup" if starting else "shutdown"
            _log.error("lifespan %s failed: %s", phase, problem, exc_info=problem)
            await send({"type": f"lifespan.{phase}.failed", "message": str(problem)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _stop(self, service: Service) -> None:
        self._services.pop(service.loop, None)
        await service.close()

    # Requests

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        service = await self._service()
        assert self._site is not None
        path = _route_path(scope)
        found = self._site.router.match(scope["method"], path)
        if found is None and (mount := self._mount(path)) is not None:
            await mount.app(_below(scope, mount), receive, send)
            return
        request_id = f"{self._prefix}{next(self._serial):06x}"
        if type(found) is Match:
            limits = service.config.limits
            seconds = limits.deadline if found.endpoint.deadline is None else found.endpoint.deadline
            body = await _read_body(scope, receive, limits.body_bytes, seconds)
            if body is None:
                return  # the client has gone
            if isinstance(body, bytes):
                request = _request(scope, path, request_id, found.params, body)
                await self._run(service, found.endpoint, request, receive, send)
                return
            error = body
        elif found is None:
            error = Error(ErrorKind.NOT_FOUND, f"there is nothing at {path[:200]}")
        else:
            error = Error(ErrorKind.METHOD_NOT_ALLOWED, f"{scope['method']} is not allowed here")
        request = _request(scope, path, request_id)
        if isinstance(found, MethodMismatch):
            answer = Response(204) if scope["method"] == "OPTIONS" else service.render(error, request, None)
            allow = ("allow", ", ".join(found.allowed))  # RFC 9110 section 10.2.1
            answer = Response(answer.status, (*answer.headers, allow), answer.body)
        else:
            answer = service.render(error, request, None)
        await send_response(request, answer, service.render, None, send)

    async def _run(self, service: Service, pipeline: Pipeline, request: Request, receive: Any, send: Any) -> None:
        exchange = service.engine.begin(pipeline, request)
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((exchange.answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                exchange.cancel("the client has gone")
            answer = await asyncio.shield(exchange.answer)
            if answer is not None and not gone.done():
                await send_response(request, answer, service.render, gone, send)
        except asyncio.CancelledError:
            exchange.cancel("the server stops")
            raise
        finally:
            gone.cancel()
            exchange.close()

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await self._service()
        mount = self._mount(_route_path(scope))
        if mount is not None:
            await mount.app(_below(scope, mount), receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})  # before accept: the server answers 403

    def _mount(self, path: str) -> Mount | None:
        assert self._site is not None
        for mount in self._site.mounts:
            if path == mount.path or path.startswith(mount.path + "/"):
                return mount
        return None


def _request(
    scope: Any, path: str, request_id: str, params: Mapping[str, Any] | None = None, body: bytes = b""
) -> Request:
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=path,
        query=scope.get("query_string", b""),
        headers=tuple([(name.lower(), value) for name, value in scope["headers"]]),
        body=body,
        client_ip=client[0] if client else "",
        id=request_id,
        params=params or {},
    )


async def _read_body(scope: Any, receive: Any, limit: int, seconds: float) -> bytes | Error | None:
    """The complete body; an error where it is too large or too slow; ``None`` where the client has gone."""
    too_large = Error(ErrorKind.PAYLOAD_TOO_LARGE, f"the body is larger than the {limit} bytes that are accepted")
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit() and int(value) > limit:
            return too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    return too_large
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        return Error(ErrorKind.TIMEOUT, f"the body did not arrive within {seconds:g} s")


async def _disconnected(receive: Any) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _route_path(scope: Any) -> str:
    """The path below ``root_path``, which ASGI has in front of ``path``."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


def _below(scope: Any, mount: Mount) -> dict[str, Any]:
    return {**scope, "root_path": scope.get("root_path", "").rstrip("/") + mount.path}
