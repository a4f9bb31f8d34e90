"""Listening sockets: opened by the Node, inherited by every performance scheduler, accepted from by one at a time.

With SO_REUSEPORT the kernel deals new connections out to the sockets of a port, whether or not anybody accepts from
them. So each socket stays open in all processes, and a sibling accepts from one whose owner is not ready.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterable

from zerver_runtime.link import Readiness
from zerver_runtime.message import describe
from zerver_runtime.standard_error import complain

__all__ = ["Listeners", "open_tcp", "open_unix", "take_no_more"]

_ACCEPT = 64
"""Connections taken from one listener before other I/O gets its turn."""

_KEPT_FREE = 16
"""Descriptors that connections do not take: links to siblings need some, and files that the application opens."""

_SO_ATTACH_FILTER = 26
# A filter of packets, as in bpf(4): those that have SYN and not ACK (byte 13 of a TCP header) are dropped.
_NO_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 1 << 18),
    ]
)

_GONE = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EINTR})


def open_tcp(host: str, port: int, count: int, backlog: int = 2048) -> list[socket.socket]:
    """`count` sockets that listen on the same port; port 0 takes a free one.

    OSError: the address cannot be had; its text names host and port. ValueError: no port has this number.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is none; give one from 1 to 65535, or 0 for a free one")
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            opened.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            port = listener.getsockname()[1]
            listener.listen(backlog)
            listener.setblocking(False)
    except OSError as error:
        for listener in opened:
            listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return opened


def open_unix(path: str, backlog: int = 2048) -> socket.socket:
    """One socket that all schedulers share. A socket file that nobody listens on any more is replaced; this one is left
    where it is when the Node stops.

    OSError: the path cannot be had; its text names it.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.setblocking(False)  # whoever listens may be too busy to accept
                    if probe.connect_ex(path) == errno.ECONNREFUSED:
                        os.unlink(path)
        listener.bind(path)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {path}: {error.strerror or error}") from error
    return listener


def take_no_more(listener: socket.socket) -> None:
    """Have the kernel begin no further TCP connection here, in whatever process; connections that wait, and those that
    are being made, can still be accepted. Whoever comes now is refused when the last copy of the listener is closed.

    Otherwise a connection that comes between one process's last accept and its close is reset, with its request.
    """
    if listener.family == socket.AF_UNIX or sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_NO_SYN)
    with contextlib.suppress(OSError):  # a kernel without it
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(_NO_SYN) // 8, ctypes.addressof(program))
        )


class Listeners:
    """This process's copies of the Node's listening sockets.

    Set `on_connection(connection, listener number)` before the process is ready; connections are non-blocking.
    One that it raises for is closed.
    """

    def __init__(self, loop: Readiness, sockets: Iterable[tuple[int, socket.socket]]) -> None:
        self._loop = loop
        self._sockets = dict(sockets)
        self._serving: set[int] = set()
        self._paused: set[int] = set()  # of those: waiting for descriptors to be free again
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = limit
        self._said = False  # that they have run out
        self._enough = 1 << 30 if limit == resource.RLIM_INFINITY else limit - min(_KEPT_FREE, limit // 4)
        self.on_connection: Callable[[socket.socket, int], None] | None = None
        self.accepted = 0

    @property
    def open(self) -> list[int]:
        """Numbers of the listeners that have not been closed here."""
        return sorted(self._sockets)

    @property
    def serving(self) -> list[int]:
        """Numbers of the listeners that this process accepts from."""
        return sorted(self._serving)

    def serve(self, number: int) -> None:
        """Accept from it from now on. Unknown numbers, here and below: it is closed already; nothing is done."""
        if number in self._sockets and number not in self._serving:
            self._serving.add(number)
            self._loop.add_reader(self._sockets[number].fileno(), self._accept, number, _ACCEPT)

    def leave(self, number: int) -> None:
        """Accept no more, keep it open."""
        if number in self._serving:
            self._serving.discard(number)
            self._paused.discard(number)
            self._loop.remove_reader(self._sockets[number].fileno())

    def resume(self) -> None:
        """Try again where descriptors had run out. To be called now and then."""
        if not self._paused:
            self._said = False
        elif self._has_room():
            while self._paused:
                number = self._paused.pop()
                self._loop.add_reader(self._sockets[number].fileno(), self._accept, number, _ACCEPT)

    def close(self, number: int) -> None:
        """Accept all that waits, then close. Every process that has a copy does this, so the last one to close a
        listener has just emptied its queue."""
        if number in self._sockets:
            self.leave(number)
            if self.on_connection is not None:
                self._accept(number, None)
            self._sockets.pop(number).close()

    def close_all(self) -> None:
        for number in self.open:
            self.close(number)

    def _accept(self, number: int, most: int | None) -> None:
        listener = self._sockets[number]
        while most is None or most > 0:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._pause(number)
                return
            connection.setblocking(False)
            self.accepted += 1
            # Descriptors are dealt out from the lowest on, so this one says how many there are.
            full = connection.fileno() >= self._enough
            if self.on_connection is None:
                connection.close()
            else:
                try:
                    self.on_connection(connection, number)
                except Exception as error:
                    connection.close()
                    complain(f"a connection of listener {number}: {describe(error)}")
            if full and most is not None:
                self._pause(number)
                return
            if most is not None:
                most -= 1

    def _pause(self, number: int) -> None:
        # With no descriptors left, a listener that stays readable would keep the loop from all else.
        if number in self._serving:
            self._loop.remove_reader(self._sockets[number].fileno())
            self._paused.add(number)
            if not self._said:
                self._said = True
                complain(
                    f"scheduler process {os.getpid()}: no descriptors are left for connections; new ones wait until "
                    f"others are closed. The limit is {self._limit}; raise it (ulimit -n)"
                )

    def _has_room(self) -> bool:
        try:
            probe = os.dup(next(iter(self._sockets.values())).fileno())
        except OSError:
            return False
        os.close(probe)
        return probe < self._enough

    def __repr__(self) -> str:
        return f"<Listeners {self.open} open, {self.serving} serving, {self.accepted} accepted>"
