"""The app as an ASGI 3 application: scopes in, messages out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from ..config import Config
from ..effect import Effect
from ..error import AppError, Error, ErrorKind
from ..match import Match
from ..metrics.request_meter import label
from ..pipeline import Pipeline
from ..request import Request
from ..response import Response
from ..site import AsgiApp, Mount, Site
from ..trace.events import Trace
from .access_log import AccessLog, AnswerLog
from .asgi_response import send_response
from .health import HEALTH_PATHS, health_answer
from .lifespan import mounted_lifespan
from .service import Host, Service
from .without_route import answer_without_route

__all__ = ["AsgiServer"]

_log = logging.getLogger("zerver")


class AsgiServer:
    """Serves one app under any ASGI server. Its :class:`Service` (engine, effectors) belongs to the running loop: it
    starts with the lifespan, or, under a server without one, with the first request, and then ends with the loop.

    ``freeze`` gives the site, when the first service starts; ``configure`` the configuration of each. ``trace`` takes
    the events of all requests."""

    def __init__(self, freeze: Callable[[], Site], configure: Callable[[], Config], trace: Trace | None = None) -> None:
        self._freeze = freeze
        self._configure = configure
        self._trace = trace
        # The loops may be those of several threads.
        self._site: Site | None = None
        self.mounted: dict[str, AsgiApp] = {}
        """The apps of the mounts, by path, once the first service is there."""
        self.host = Host()
        """What the process gives each service."""
        self.access_log: AccessLog | None = None
        """Of all requests, where the server has none."""
        self._services: dict[asyncio.AbstractEventLoop, Service] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind in ("http", "websocket"):
            await self._logged(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise AppError(f"ASGI scope {kind!r}: an app serves 'http', 'websocket' and 'lifespan'")

    async def perform(self, effect: Effect[Any]) -> Any:
        """See :meth:`App.perform`."""
        return await self.service.perform(effect)

    # Starting and stopping

    @property
    def service(self) -> Service:
        """The service of this loop.

        :raises AppError: there is none.
        """
        service = self._services.get(asyncio.get_running_loop())
        if service is None:
            raise AppError("App.perform: the app is not running on this loop; call it inside of the app's lifespan")
        return service

    async def _service(self) -> Service:
        """The service of this loop, which is started if there is none."""
        service = self._services.get(asyncio.get_running_loop())
        if service is None:
            service = self._begin()
            keeper = self._keepers[service.loop] = self._keep(service)
            await anext(keeper)
        try:
            await service.ready()
        except Exception:
            await self._stop(service)  # the next request tries again
            raise
        return service

    def _begin(self) -> Service:
        for loop in list(self._services):
            if loop.is_closed() and (left := self._services.pop(loop, None)):
                left.abandon()
        if self._site is None:
            self._site = self._freeze()
            for warning in self._site.warnings if not self.host.scheduler else ():  # once is enough for a Node
                _log.warning("%s", warning)
            self.mounted = {mount.path: _answering(mount.app) for mount in self._site.mounts}
        loop = asyncio.get_running_loop()
        config = self._configure()
        trace, host = self._trace, self.host
        scheduler = host.scheduler
        if trace is None and (scheduler is not None if config.trace.enabled is None else config.trace.enabled):
            from .tracing import tail_recorder, with_export

            host = with_export(config, host)
            trace = tail_recorder(config, loop, host)
        service = self._services[loop] = Service(self._site, config, loop, trace, host)
        return service

    async def _keep(self, service: Service) -> AsyncGenerator[None, None]:
        """Stop the service with its loop: a loop that ends closes the async generators that wait on it (PEP 525)."""
        try:
            yield
        finally:
            await self._stop(service)

    async def _stop(self, service: Service) -> None:
        if self._services.get(service.loop) is service:
            del self._services[service.loop]
            self._keepers.pop(service.loop, None)
        await service.close()

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        phase = "startup"
        try:
            async with AsyncExitStack() as stack:
                service = self._services.get(asyncio.get_running_loop())
                if service is None:
                    service = self._begin()
                    stack.push_async_callback(self._stop, service)
                await service.ready()
                assert self._site is not None
                if self._site.lifespan is not None:
                    await stack.enter_async_context(self._site.lifespan())
                for mount in self._site.mounts:
                    lifespan = mounted_lifespan(mount.app, mount.path or "/")
                    service.mount_states[mount.path] = await stack.enter_async_context(lifespan)
                stack.push_async_callback(service.drain, service.config.server.grace)
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as problem:  # whatever the app's own lifespan raises is a failed start or stop
            _log.error("lifespan %s failed: %s", phase, problem, exc_info=problem)
            await send({"type": f"lifespan.{phase}.failed", "message": str(problem)})
            raise  # not every server looks at the message
        await send({"type": "lifespan.shutdown.complete"})

    # Requests

    async def _logged(self, scope: Any, receive: Any, send: Any) -> None:
        service = await self._service()
        started_ns = service.engine.clock()
        request_id = service.request_id()
        if self.access_log is None:
            await self._answer(service, request_id, started_ns, scope, receive, send)
            return
        logged = AnswerLog(self.access_log, scope, request_id, started_ns, send)
        try:
            await self._answer(service, request_id, started_ns, scope, receive, logged)
        finally:
            logged.end()

    async def _answer(
        self, service: Service, request_id: str, started_ns: int, scope: Any, receive: Any, send: Any
    ) -> None:
        assert self._site is not None
        if scope["type"] == "websocket":
            await self._websocket(service, scope, receive, send)
            return
        path = _route_path(scope)
        found = self._site.router.match(scope["method"], path)
        healthy = found is None and path in HEALTH_PATHS and service.config.observability.health
        if found is None and not healthy and (mount := self._site.mount_of(path)) is not None:
            counted = _Counted(send)
            try:
                await self.mounted[mount.path](_below(scope, mount, service), receive, counted)
            finally:
                if counted.status:
                    _count(service, label(scope["method"], f"{mount.path}/*"), counted.status, started_ns)
            return
        request, named = _request(scope, path, request_id), label(scope["method"])
        if isinstance(found, Match):
            limits = service.config.limits
            seconds = limits.deadline if found.endpoint.deadline is None else found.endpoint.deadline
            body = await _read_body(scope, receive, limits.body_bytes, seconds)
            if body is None:
                return  # the client has gone
            if isinstance(body, bytes):
                request = _request(scope, path, request_id, found.params, body)
                await self._run(service, found.endpoint, request, started_ns, receive, send)
                return
            answer, named = service.render(body, request, None), found.endpoint.label
        elif healthy:
            answer = health_answer(scope["method"], path, ready=True)
        else:
            answer = answer_without_route(request, found, service.render)
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send_response(request, answer, service.render, service.responses, gone, send)
        finally:
            gone.cancel()
            _count(service, named, answer.status, started_ns)

    async def _run(
        self, service: Service, pipeline: Pipeline, request: Request, started_ns: int, receive: Any, send: Any
    ) -> None:
        answered: asyncio.Future[Response | None] = service.loop.create_future()
        exchange = service.engine.begin(pipeline, request, started_ns, answered.set_result)
        assert exchange is not None  # set_result does not say that the answer is out
        gone = asyncio.ensure_future(_disconnected(receive))
        stops = Error(ErrorKind.OVERLOADED, "the server stops", retry_after=1.0)
        sending = False
        try:
            if not answered.done():
                await asyncio.wait((answered, gone), return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    exchange.cancel("the client has gone")
            answer = await asyncio.shield(answered)
            if answer is None and not gone.done():
                answer = service.render(stops, request, None)
            sending = True
            if answer is not None:
                await send_response(request, answer, service.render, service.responses, gone, send)
        except asyncio.CancelledError:
            exchange.kill("the server stops")
            if sending:
                raise  # half of an answer is out, and cannot be taken back
            answer = service.render(stops, request, None)
            await send_response(request, answer, service.render, service.responses, gone, send)
        finally:
            gone.cancel()
            exchange.close()

    async def _websocket(self, service: Service, scope: Any, receive: Any, send: Any) -> None:
        assert self._site is not None
        mount = self._site.mount_of(_route_path(scope))
        if mount is not None:
            await self.mounted[mount.path](_below(scope, mount, service), receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})  # before accept: the server answers 403


def _answering(app: AsgiApp) -> AsgiApp:
    """StaticFiles and the like raise their 404, for what they are mounted in to answer."""
    from starlette.middleware.exceptions import ExceptionMiddleware  # an app without mounts starts faster without it

    return ExceptionMiddleware(app)


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
        # A number of more digits is above any limit, and int() may refuse it.
        if name.lower() == b"content-length" and value.isdigit() and (len(value) > 20 or int(value) > limit):
            return too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > limit:
                    return too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        return Error(ErrorKind.TIMEOUT, f"the body did not arrive within {seconds:g} s")


async def _disconnected(receive: Any) -> None:
    """Returns when the client has gone, or the server can no longer say."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except Exception as problem:
        _log.warning("the server's receive() failed", exc_info=problem)


def _route_path(scope: Any) -> str:
    """The path below ``root_path``, which ASGI has in front of ``path``."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


class _Counted:
    """An ASGI ``send`` that passes messages on, and keeps the status."""

    def __init__(self, send: Any) -> None:
        self.status = 0
        self._send = send

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _count(service: Service, label: str, status: int, started_ns: int) -> None:
    """A request that no step has run for."""
    if service.meters is not None:
        service.meters.requests.count(label, status, service.engine.clock() - started_ns)


def _below(scope: Any, mount: Mount, service: Service) -> dict[str, Any]:
    """The scope of a mounted app, as Starlette's ``Mount`` makes it, with the state of the app's own lifespan."""
    state = {**scope.get("state", {}), **service.mount_states.get(mount.path, {})}
    return {**scope, "root_path": scope.get("root_path", "").rstrip("/") + mount.path, "state": state}
