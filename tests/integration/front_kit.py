"""The HTTP/1.1 front end in this process: an app on a loop of its own, in a thread, and clients that send raw bytes.

What comes back is read as strictly as RFC 9112 has it: bytes that belong to no answer fail a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec
import uvloop
from starlette.middleware.exceptions import ExceptionMiddleware

from zerver import App
from zerver.config import load
from zerver.server.access_log import AccessLog
from zerver.server.client_address import ClientAddress
from zerver.server.http_protocol import accept
from zerver.server.http_server import HttpServer
from zerver.server.lifespan import mounted_lifespan
from zerver.server.service import Service
from zerver.wire import Limits
from zerver_runtime.reactor.loop import Timers

__all__ = ["PATIENCE", "Answer", "Client", "Front", "Records", "answers", "cuts", "front", "request", "until"]

T = TypeVar("T")

PATIENCE = 10.0  # seconds; what is waited for takes milliseconds
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop,
}  # fmt: skip


def until(condition: Callable[[], object], what: str = "it never came true") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.001)


# The server


class Front:
    """What :func:`front` serves."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: Any, server: HttpServer, timers: Timers) -> None:
        self.loop = loop
        self.address = address
        self.server = server
        self._timers = timers

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """What a function gives on the loop's thread."""
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(function(*args))
            except BaseException as problem:
                result.set_exception(problem)

        self.loop.call_soon_threadsafe(run)
        return result.result(PATIENCE)

    def held(self) -> dict[str, int]:
        """What the server keeps for its clients; all 0 when there are none."""
        return self.call(self._held)

    def _held(self) -> dict[str, int]:
        # Without the task that serves, and the timer of Date.
        return {
            "connections": len(self.server),
            "requests": len(list(self.server.engine.live)),
            "tasks": len(asyncio.all_tasks(self.loop)) - 1,
            "timers": len(self._timers._wheel) - 1 + len(self.server.service._timers._wheel),
        }

    def at_rest(self) -> None:
        """Wait until the server keeps nothing for anybody."""
        end = time.monotonic() + PATIENCE
        while any((held := self.held()).values()):
            assert time.monotonic() < end, f"the server still keeps {held}"
            time.sleep(0.002)

    def connect(self, **options: Any) -> Client:
        return Client(self.address, **options)

    def ask(self, *sent: bytes, eof: bool = False) -> bytes:
        """What comes back for these bytes, each sent by itself, until the server closes."""
        with self.connect() as client:
            for piece in sent:
                client.send(piece)
            if eof:
                client.eof()
            return client.rest()

    def get(self, path: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        with self.connect() as client:
            client.send(request(path, *fields, method=method, body=body))
            return client.answer(method)


@contextlib.contextmanager
def front(
    app: App,
    *,
    loop: str = "uvloop",
    mode: str = "adaptive",
    write_timeout: float = 5.0,
    trusted: Iterable[str] = (),
    access_log: bool = False,
    uds: str | None = None,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
    grace: float = 5.0,
    config: dict[str, Any] | None = None,
    **limits: Any,
) -> Iterator[Front]:
    """Serve ``app``. ``send_buffer``, ``receive_buffer``: bytes that the kernel keeps of what one side does not read.
    ``limits``: of each connection, see ``Limits``. At the end everything has to be gone."""
    started: Future[Front] = Future()
    stop = asyncio.Event()
    sections = {"reactor": {"enabled": True, "continuation_pool": {"mode": mode}}, **(config or {})}

    async def serve() -> None:
        running = asyncio.get_running_loop()
        listener = socket.socket(socket.AF_UNIX if uds else socket.AF_INET, socket.SOCK_STREAM)
        for name, size in ((socket.SO_SNDBUF, send_buffer), (socket.SO_RCVBUF, receive_buffer)):
            if size is not None:
                listener.setsockopt(socket.SOL_SOCKET, name, size)
        listener.bind(uds or ("127.0.0.1", 0))
        listener.listen(4096)
        listener.setblocking(False)
        site = app.site()
        service = Service(site, load(sections, {}, {}), running)
        timers = Timers(running)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(service.close)
            await service.ready()
            for mount in site.mounts:
                service.mount_states[mount.path] = await stack.enter_async_context(
                    mounted_lifespan(mount.app, mount.path or "/")
                )
            mounted = {mount.path: ExceptionMiddleware(mount.app) for mount in site.mounts}
            log = AccessLog(timers.call_later, time.monotonic_ns) if access_log else None
            server = HttpServer(
                service, mounted, log, limits=Limits(**limits), write_timeout=write_timeout,
                client_address=ClientAddress(trusted), secure=False, call_later=timers.call_later,
            )  # fmt: skip

            def arrived() -> None:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        connection, _ = listener.accept()
                        connection.setblocking(False)
                        accept(server, connection)

            running.add_reader(listener, arrived)
            serving = Front(running, listener.getsockname(), server, timers)
            started.set_result(serving)
            await stop.wait()
            running.remove_reader(listener)
            listener.close()
            await server.drain(grace)
            server.close()
            timers.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop], debug=loop == "asyncio") as runner:
            try:
                runner.run(serve())
            except BaseException as problem:
                if started.done():
                    raise
                started.set_exception(problem)

    thread = threading.Thread(target=run, name="front")
    thread.start()
    try:
        serving = started.result(PATIENCE)
        yield serving
    finally:
        if started.done() and started.exception() is None:
            started.result().loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server did not stop"


class Records(logging.Handler):
    """The log of the server, while it is open."""

    def __init__(self, name: str = "zerver", level: int = logging.INFO) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []
        self._logger = logging.getLogger(name)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    @property
    def tracebacks(self) -> list[str]:
        """The exceptions that were logged."""
        return [repr(record.exc_info[1]) for record in self.records if record.exc_info and record.exc_info[1]]

    def __enter__(self) -> Records:
        self._before = self._logger.level, self._logger.propagate
        self._logger.addHandler(self)
        self._logger.setLevel(self.level)
        self._logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)


# Clients


def request(path: str, *fields: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: h", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def cuts(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """The data whole, byte by byte, and in two parts at every place."""
    yield (data,)
    yield tuple(data[at : at + 1] for at in range(len(data)))
    for at in range(1, len(data)):
        yield data[:at], data[at:]


class Answer(msgspec.Struct):
    """One answer, as it came."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes
    chunks: list[bytes] | None = None
    """The pieces of a body that came in chunks."""
    whole: bool = True
    """Whether it came to its end; where only the end of the connection tells, whether that was no reset."""

    def field(self, name: str) -> str | None:
        found = [value for one, value in self.fields if one == name]
        assert len(found) < 2, found
        return found[0] if found else None

    @property
    def closes(self) -> bool:
        return self.field("connection") == "close"

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Client:
    """A connection. Reading gives up after ``PATIENCE``. ``send_buffer``, ``receive_buffer``: see :func:`front`."""

    def __init__(self, address: Any, *, send_buffer: int | None = None, receive_buffer: int | None = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        for name, size in ((socket.SO_SNDBUF, send_buffer), (socket.SO_RCVBUF, receive_buffer)):
            if size is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, name, size)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = bytearray()
        self.was_reset = False

    def send(self, *pieces: bytes) -> None:
        """Each piece in a segment of its own. What the server no longer takes is lost."""
        for piece in pieces:
            try:
                self.socket.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return

    def eof(self) -> None:
        """Send nothing more."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Tear the connection down."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def rest(self) -> bytes:
        """What comes until the server closes."""
        while self._more():
            pass
        data, self._read = bytes(self._read), bytearray()
        return data

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, to a request with this method."""
        head = self.until(b"\r\n\r\n")
        assert head.endswith(b"\r\n\r\n"), f"no answer, but {head!r}"
        return _with_body(head, method, self._exactly, self.until, self.rest, lambda: not self.was_reset)

    def until(self, end: bytes) -> bytes:
        """What comes up to these bytes, with them; or up to the end."""
        while (at := self._read.find(end)) < 0:
            if not self._more():
                return self._take(len(self._read))
        return self._take(at + len(end))

    def closed(self) -> None:
        """Nothing more comes, but the end."""
        assert self.rest() == b""

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size and self._more():
            pass
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = bytes(self._read[:size])
        del self._read[:size]
        return data

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            self.was_reset = True
            return False
        self._read += data
        return bool(data)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def answers(raw: bytes, *methods: str) -> list[Answer]:
    """All that came on a connection, which was closed then: answers to requests with these methods, GET by default."""
    found = []
    left = iter(methods)
    rest = bytearray(raw)

    def take(size: int) -> bytes:
        data = bytes(rest[:size])
        del rest[:size]
        return data

    def up_to(end: bytes) -> bytes:
        at = rest.find(end)
        return take(at + len(end) if at >= 0 else len(rest))

    while rest:
        head = up_to(b"\r\n\r\n")
        assert head.endswith(b"\r\n\r\n"), f"these bytes belong to no answer: {head!r}"
        found.append(_with_body(head, next(left, "GET"), take, up_to, lambda: take(len(rest)), lambda: True))
    return found


def _with_body(
    head: bytes,
    method: str,
    take: Callable[[int], bytes],
    up_to: Callable[[bytes], bytes],
    rest: Callable[[], bytes],
    ended_well: Callable[[], bool],
) -> Answer:
    answer = _head(head)
    status, length = answer.status, answer.field("content-length")
    chunked = answer.field("transfer-encoding")
    assert length is None or chunked is None
    if status < 200 or status in (204, 304):
        assert length is None, "a length where there can be no body"
        assert chunked is None
    elif method == "HEAD":
        pass
    elif chunked is not None:
        assert chunked == "chunked"
        _read_chunks(answer, take, up_to)
    elif length is not None:
        assert length.isdigit()
        answer.body = take(int(length))
        answer.whole = len(answer.body) == int(length)
    else:
        assert answer.closes
        answer.body = rest()
        answer.whole = ended_well()
    return answer


def _read_chunks(answer: Answer, take: Callable[[int], bytes], up_to: Callable[[bytes], bytes]) -> None:
    answer.chunks = []
    while line := up_to(b"\r\n"):
        if not line.endswith(b"\r\n"):
            break
        size = int(line, 16)
        data = take(size + 2)
        if len(data) < size + 2:
            answer.body += data
            break
        assert data.endswith(b"\r\n")
        if not size:
            return
        answer.chunks.append(data[:-2])
        answer.body += data[:-2]
    answer.whole = False


def _head(head: bytes) -> Answer:
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    assert "\r" not in head[:-4].decode("latin-1").replace("\r\n", "")
    version, status, reason = first.split(" ", 2)
    assert version == "HTTP/1.1"
    fields = []
    for line in lines:
        name, colon, value = line.partition(": ")
        assert colon, line
        assert name == name.lower()
        fields.append((name, value))
    answer = Answer(int(status), reason, fields, b"")
    assert (answer.status < 200) == (answer.field("date") is None)
    return answer
