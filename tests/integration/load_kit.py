"""Clients that ask without end, and know of each request what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable

__all__ = ["Load"]

REQUEST = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


class Load:
    """``connections`` clients of a port, or of a Unix socket, each of which keeps its connection as long as the server
    does, until :meth:`stop`. All that is read of it may be read from any thread.

    A request is lost when it was sent, whole, on a connection that was open, and no whole answer came.
    """

    def __init__(self, where: int | str, connections: int = 64, path: str = "/") -> None:
        self.lost: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.bodies: Counter[bytes] = Counter()
        self.refused = 0
        """How often nobody listened."""
        self.latest: list[float] = []
        """When each answer came: seconds of the monotonic clock."""
        self._where = where
        self._count = connections
        self._request = REQUEST % path.encode()
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()

    @property
    def answered(self) -> int:
        return self.statuses.total()

    def until_answered(self, more: int) -> None:
        """Wait for so many more answers."""
        self.until(self.answered.__add__(more).__le__, lambda: self.answered)

    def until(self, enough: Callable[[int], bool], count: Callable[[], int]) -> None:
        end = time.monotonic() + 15
        pause = threading.Event()
        while not enough(count()):
            assert time.monotonic() < end, f"{self.answered} answers, {len(self.lost)} lost, {self.refused} refused"
            pause.wait(0.005)

    def stop(self) -> None:
        """Have each client end after its next answer, or when nobody listens any more."""
        self._stopping = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._client())

    async def _client(self) -> None:
        while not self._stopping:
            try:
                if isinstance(self._where, str):
                    reader, writer = await asyncio.open_unix_connection(self._where)
                else:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._where)
            except OSError:
                self.refused += 1
                await asyncio.sleep(0.01)
                continue
            try:
                while not self._stopping and await self._ask(reader, writer):
                    pass
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow."""
        if reader.at_eof():
            return False
        writer.write(self._request)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = head.lower()
            length = int(fields.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as problem:
            self.lost.append(repr(problem))
            return False
        self.statuses[int(head.split(b" ", 2)[1])] += 1
        self.bodies[body] += 1
        self.latest.append(time.monotonic())
        return b"\r\nconnection: close\r\n" not in fields
