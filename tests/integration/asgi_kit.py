"""A hand-driven ASGI server: tests say what the client sends and when it goes, and see each message of the app.

What the app sends is held against the specification (ASGI 3.0, HTTP message format 2.4) as it comes.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from zerver import App
from zerver.config import load

__all__ = ["ENGINES", "ENGINE_VARIABLES", "PATIENCE", "Connection", "Lifespan", "ask", "configured", "serving", "until"]

PATIENCE = 10.0  # seconds; what is waited for takes milliseconds

ENGINES = {
    "reactor": {"ZERVER_ENGINE": "reactor"},
    "pool": {"ZERVER_ENGINE": "reactor", "ZERVER_REACTOR__CONTINUATION_POOL__MODE": "pool"},
    "blocking": {"ZERVER_ENGINE": "blocking"},
}
"""What chooses each engine, in the environment. ``pool`` is the reactor with its steps on threads."""
ENGINE_VARIABLES = tuple(ENGINES["pool"])

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


def configured(app: App, **sections: Any) -> App:
    """The app with these settings, whatever the environment says; but for the engine, which the ``engine`` fixture sets
    there."""
    app.config = load(sections, {name: os.environ[name] for name in ENGINE_VARIABLES if name in os.environ}, {})
    return app


async def until(condition: Callable[[], object], what: str = "it never came true") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.001)


class Connection:
    """One HTTP request. ``body`` is sent at once; with ``None`` it is up to :meth:`feed`."""

    def __init__(
        self,
        app: Asgi,
        method: str = "GET",
        path: str = "/",
        *,
        body: bytes | None = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
        **scope: Any,
    ) -> None:
        self.app = app
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
            "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "scheme": "http", "headers": list(headers), "client": ("127.0.0.1", 40000), "server": ("testserver", 80),
            **scope,
        }  # fmt: skip
        self.sent: list[dict[str, Any]] = []
        self.received = 0
        """How often the app has asked for a message."""
        self.send_fails: Exception | None = None
        """What ``send`` raises from now on."""
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        if body is not None:
            self.feed(body)

    # The client's side

    def feed(self, chunk: bytes, more: bool = False) -> None:
        self._inbox.put_nowait({"type": "http.request", "body": chunk, "more_body": more})

    def disconnect(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    # The server's side

    def start(self) -> Connection:
        self._task = asyncio.ensure_future(self.app(self.scope, self._receive, self._send))
        return self

    async def ended(self) -> Connection:
        """Wait until the app has returned, or raise what it raised."""
        task = self._task or self.start()._task
        assert task is not None
        await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        return self

    async def kill(self) -> None:
        """What a server does at the end of its patience."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait((self._task,), timeout=PATIENCE)

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _receive(self) -> dict[str, Any]:
        self.received += 1
        return await self._inbox.get()

    async def _send(self, message: dict[str, Any]) -> None:
        if self.send_fails is not None:
            raise self.send_fails
        kind = message["type"]
        if not self.sent:
            assert kind == "http.response.start", f"{kind} before the start"
            assert isinstance(message["status"], int)
            for name, value in message["headers"]:
                assert isinstance(name, bytes)
                assert isinstance(value, bytes)
                assert name == name.lower()
                assert not set(b"\r\n\0") & set(name + value)
        else:
            assert kind == "http.response.body", f"{kind} after the start"
            assert not self.complete, "more after the end"
            assert isinstance(message.get("body", b""), bytes)
        self.sent.append(dict(message))

    # What came

    @property
    def status(self) -> int | None:
        return int(self.sent[0]["status"]) if self.sent else None

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [(name.decode(), value.decode("latin-1")) for name, value in self.sent[0]["headers"]]

    def header(self, name: str) -> str | None:
        found = [value for one, value in self.headers if one == name]
        assert len(found) < 2, found
        return found[0] if found else None

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def complete(self) -> bool:
        """Whether the response has come to its end."""
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)


async def ask(app: Asgi, method: str = "GET", path: str = "/", **options: Any) -> Connection:
    """One request from beginning to end."""
    return await Connection(app, method, path, **options).ended()


class Lifespan:
    """The lifespan protocol, step by step."""

    def __init__(self, app: Asgi) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> dict[str, Any]:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.ensure_future(self.app(scope, self._to_app.get, self._from_app.put))
        return await self._tell("startup")

    async def stop(self) -> dict[str, Any]:
        return await self._tell("shutdown")

    async def ended(self) -> BaseException | None:
        """Wait until the app has returned; what it raised."""
        assert self._task is not None
        await asyncio.wait((self._task,), timeout=PATIENCE)
        return self._task.exception()

    async def _tell(self, phase: str) -> dict[str, Any]:
        self._to_app.put_nowait({"type": f"lifespan.{phase}"})
        return await asyncio.wait_for(self._from_app.get(), PATIENCE)


@asynccontextmanager
async def serving(app: Asgi) -> AsyncIterator[Lifespan]:
    """The app between its start and its stop."""
    lifespan = Lifespan(app)
    started = await lifespan.start()
    assert started["type"] == "lifespan.startup.complete", started
    try:
        yield lifespan
    finally:
        stopped = await lifespan.stop()
        assert stopped["type"] == "lifespan.shutdown.complete", stopped
        assert await lifespan.ended() is None
