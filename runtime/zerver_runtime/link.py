"""A byte stream between two schedulers: what a link promises, and the one over a socketpair.

A link belongs to one pair of incarnations and is never used for another: what was half written when one side died
would be spliced into the first frame of its successor. Any link fulfils the same suite of tests.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["BOUND", "Link", "Readiness", "SocketLink"]

BOUND = 1024 * 1024
"""Bytes that may wait in a link before it is no longer writable, by default."""

_READ = 128 * 1024  # a new buffer of this size for each read would cost more than the read


class Link(Protocol):
    """One end. Its owner calls `start` once; nothing comes before."""

    def start(
        self,
        on_bytes: Callable[[bytes], None],
        on_writable: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """on_bytes: what came, in order, in pieces of any size. on_writable: `writable` is true again, having been
        false. on_lost(why): the other side is gone, and no byte comes any more; called once, and not after
        `close`."""

    def write(self, data: bytes | bytearray) -> None:
        """Send, or keep until it can be sent: all of it, whatever `writable` says, since half a frame is worth
        nothing. So the writer looks at `writable` first. What is written to a lost or closed link is dropped."""

    @property
    def writable(self) -> bool:
        """False from when more than the bound waits, until less than a quarter of it does; false when lost."""
        ...

    @property
    def waiting(self) -> int:
        """Bytes that were written and have not left this process."""
        ...

    def read(self) -> None:
        """Hand over all that has come, and the loss, without waiting for the loop to say so."""

    def close(self) -> None:
        """Give the end up; what waits is dropped. A second time does nothing."""


class Readiness(Protocol):
    """What a link needs of a loop: asyncio's and uvloop's have it."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any: ...

    def remove_reader(self, fd: Any) -> Any: ...

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any: ...

    def remove_writer(self, fd: Any) -> Any: ...


class SocketLink:
    """A link over one end of a socketpair, which it owns from here on.

    bound: bytes that may wait here, beside what the kernel holds.
    around: calls `on_bytes` with what came, and may do something before and after it.
    """

    __slots__ = (
        "_around",
        "_bound",
        "_buffer",
        "_full",
        "_loop",
        "_on_bytes",
        "_on_lost",
        "_on_writable",
        "_open",
        "_socket",
        "_waiting",
        "unread",
    )

    def __init__(
        self,
        loop: Readiness,
        end: socket.socket,
        bound: int = BOUND,
        around: Callable[[Callable[[bytes], None], bytes], None] | None = None,
    ) -> None:
        end.setblocking(False)
        self._loop = loop
        self._socket = end
        self._around = around
        self._buffer = bytearray(_READ)
        self._bound = bound
        self._waiting = bytearray()
        self._full = False
        self._open = True
        self.unread = False
        """Whether the other side is gone, and surely has not read all that was written. Known when the loss is."""

    def start(
        self,
        on_bytes: Callable[[bytes], None],
        on_writable: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        around = self._around
        self._on_bytes = on_bytes if around is None else lambda data: around(on_bytes, data)
        self._on_writable = on_writable
        self._on_lost = on_lost
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def write(self, data: bytes | bytearray) -> None:
        if not self._open:
            self.unread = True
            return
        waiting = self._waiting
        if waiting:
            waiting += data
        else:
            sent = self._send(data)
            if sent == len(data) or not self._open:
                return
            waiting += memoryview(data)[sent:]
            self._loop.add_writer(self._socket.fileno(), self._flush)
        if len(waiting) > self._bound:
            self._full = True

    @property
    def writable(self) -> bool:
        return self._open and not self._full

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        if self._open:
            self._open = False
            fd = self._socket.fileno()
            self._loop.remove_reader(fd)
            if self._waiting:
                self._loop.remove_writer(fd)
                self._waiting.clear()
                self.unread = True
            self._socket.close()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # The reading side reports the loss, after all that the other side had still written.
            self.unread = True
            return len(data)

    def _flush(self) -> None:
        waiting = self._waiting
        sent = self._send(waiting)
        if sent:
            del waiting[:sent]
        if not waiting:
            self._loop.remove_writer(self._socket.fileno())
        if self._full and len(waiting) < self._bound // 4:
            self._full = False
            self._on_writable()

    def read(self) -> None:
        # libuv stops watching a socket that has an error pending (the other side died with something unread) after
        # one call, in which there may have been data to read before the error.
        while self._open and self._readable():
            pass

    def _readable(self) -> bool:
        why = "closed by the other side"
        try:
            size = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            # Of a socketpair, Linux says "reset" when the other end was closed with something unread in it.
            size, why = 0, str(error)
            self.unread = self.unread or isinstance(error, ConnectionResetError)
        if size:
            self._on_bytes(bytes(memoryview(self._buffer)[:size]))
        elif self._open:
            self.close()
            self._on_lost(why)
        return size > 0

    def __repr__(self) -> str:
        state = "closed" if not self._open else "full" if self._full else "writable"
        return f"<SocketLink {state}: {len(self._waiting)} bytes wait>"

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            self._socket.close()
