"""An HTTP server on plain sockets that does what servers should not: hang, reset, drip, stop half-way, answer
nonsense.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Sequence
from enum import Enum, auto
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

__all__ = ["RawUpstream", "Received", "Script", "Step"]


class Step(Enum):
    """What an upstream does between the bytes that it sends."""

    RESET = auto()
    CLOSE = auto()
    HALF_CLOSE = auto()
    """Send nothing more, and wait for the client to go."""
    HANG = auto()
    """Wait for the client to go."""
    PAUSE = auto()
    """Let what was sent arrive by itself."""


Script: TypeAlias = Sequence[bytes | Step]


class Received(NamedTuple):
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


class RawUpstream:
    """``async with RawUpstream() as upstream``: answers by the path (``/short``, ``/status/503``, ...), see below."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Received] = []
        self.connections = 0
        """So far."""
        self.open = 0
        """Now."""
        self.script: Script = ()
        """What ``/script`` is answered with."""
        self.then: Script | None = None
        """What the next one is answered with, and those after it."""
        self.greeting: Script = ()
        """What happens to a new connection before anything is read from it."""
        self.reads_bodies = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, backlog=1000)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._play(self.greeting, reader, writer)
            while True:
                first = await reader.readexactly(1)
                if not first.isalpha():
                    return  # no HTTP: a TLS handshake
                head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.split("\r\n")
                headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in rest if one)}
                body = await reader.readexactly(int(headers.get("content-length", 0)) if self.reads_bodies else 0)
                self.requests.append(Received(line, headers, body))
                path = line.split(" ")[1].partition("?")[0]
                await getattr(self, "do" + path.partition("/status")[0].replace("/", "_"), self._answer)(
                    reader, writer, path
                )
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for step in script:
            match step:
                case bytes():
                    await self._send(writer, step)
                case Step.RESET:
                    self._reset(writer)
                case Step.CLOSE:
                    raise ConnectionResetError
                case Step.HALF_CLOSE:
                    writer.write_eof()
                    await reader.read()
                    raise ConnectionResetError
                case Step.HANG:
                    await reader.read()
                    raise ConnectionResetError
                case Step.PAUSE:
                    await asyncio.sleep(0.005)  # the least that keeps two writes apart, as a rule

    async def do_script(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        script = self.script
        if self.then is not None:
            self.script, self.then = self.then, None
        await self._play(script, reader, writer)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """``/status/503?``: that status, with a body and a Retry-After; any other path: 200 and some JSON."""
        if path.startswith("/status/"):
            status = int(path.split("/")[2])
            head = f"HTTP/1.1 {status} Status\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n"
            await self._send(writer, head.encode() + b"{}")
        else:
            await self._send(
                writer, b'HTTP/1.1 200 OK\r\nX-Name: a\r\nx-name: b\xe9\r\nContent-Length: 8\r\n\r\n{"a": 1}'
            )

    async def do_redirect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")

    async def do_loop(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 307 On\r\nLocation: loop\r\nContent-Length: 0\r\n\r\n")

    async def do_to_hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 308 On\r\nLocation: /hang\r\nContent-Length: 0\r\n\r\n")

    async def do_cookie(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async def do_head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")

    async def do_chunked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(
            writer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )

    async def do_hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Never answers."""
        await reader.read()  # until the client goes

    async def do_drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Answers with one byte of a body, and never another."""
        await self._send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        await reader.read()  # until the client goes

    async def do_reset(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Resets the connection instead of an answer."""
        self._reset(writer)

    async def do_reset_body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        self._reset(writer)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        raise ConnectionResetError

    async def do_close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Closes the connection instead of an answer."""
        raise ConnectionResetError

    async def do_half(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Closes half-way through the head."""
        await self._send(writer, b"HTTP/1.1 200 OK\r\nContent-")
        raise ConnectionResetError

    async def do_short(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Closes before the body is complete."""
        await self._send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        raise ConnectionResetError

    async def do_short_chunked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        raise ConnectionResetError

    async def do_long(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Sends more than it announced."""
        await self._send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}surplus")
        raise ConnectionResetError

    async def do_garbage(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"\x00\x01 this is no HTTP\r\n\r\n")
        raise ConnectionResetError

    async def do_bad_chunk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")
        raise ConnectionResetError

    async def do_bad_gzip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde")

    async def do_bomb(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Two megabytes of zeros, which gzip makes two kilobytes."""
        import gzip

        body = gzip.compress(bytes(2_000_000))
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        await self._send(writer, head.encode() + body)

    async def do_endless(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        while True:
            await self._send(writer, chunk)

    async def do_endless_head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await self._send(writer, b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await self._send(writer, bytes(b"x" * 0x10000))
