"""One end of a control socket: words and file descriptors in order, never waiting; for the Node and its children."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from zerver_runtime import control
from zerver_runtime.packet import Decoder, Kind

__all__ = ["MOST_WAITING", "ControlSocket"]

W = TypeVar("W")

MOST_WAITING = 4 * 1024 * 1024
"""Bytes that may wait for the other side to read; then it is given up, because it reads no more."""


class ControlSocket(Generic[W]):
    """Owns `end`, and every file descriptor between `send` and the write that carries it.

    decode: what turns a payload into a word of the other side's.
    """

    def __init__(self, end: socket.socket, decode: Callable[[bytes], W]) -> None:
        end.setblocking(False)
        self.socket = end
        self._decode = decode
        self._decoder = Decoder()
        self._fds: deque[int] = deque()
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._waiting = 0
        self.lost = ""
        """Why there is nothing more to hear or say; empty while the other side is there."""

    def send(self, word: control.ToNode | control.FromNode, fd: int | None = None) -> None:
        """Queue a word; `fd` goes with it and is closed here afterwards."""
        data = control.frame(word)
        self._queue.append((data, fd))
        self._waiting += len(data)
        if self._waiting > MOST_WAITING and not self.lost:
            self.lost = f"it has left {self._waiting} bytes of control words unread"

    def flush(self) -> bool:
        """Write what goes. True: all is written (or there is nobody to write to)."""
        queue = self._queue
        while queue and not self.lost:
            data, fd = queue[0]
            try:
                if fd is None:
                    sent = self.socket.send(data)
                else:
                    sent = socket.send_fds(self.socket, [data], [fd])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self.lost = str(error)
                break
            # The descriptor went with the first byte.
            if fd is not None:
                os.close(fd)
            self._waiting -= sent
            if sent < len(data):
                queue[0] = (data[sent:], None)
            else:
                queue.popleft()
        if self.lost:
            self._drop_queue()
        return True

    def receive(self) -> list[tuple[W, int | None]]:
        """All words that are there, each with its file descriptor if it carries one (then the caller owns it)."""
        words: list[tuple[W, int | None]] = []
        while not self._at_end():
            try:
                data, fds, _, _ = socket.recv_fds(self.socket, 65536, 8)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self.lost = self.lost or str(error)
                break
            for fd in fds:
                os.set_inheritable(fd, False)
                self._fds.append(fd)
            if not data:
                self.lost = self.lost or "closed by the other side"
                break
            for kind, payload in self._decoder.feed(data):
                try:
                    word = self._decode(payload) if kind is Kind.CONTROL else None
                except msgspec.MsgspecError as error:
                    self.lost = f"a word that is none: {error}"
                    return words
                if word is not None:
                    carries = isinstance(word, control.Peer | control.Worker) and self._fds
                    words.append((word, self._fds.popleft() if carries else None))
            if self._decoder.error is not None:
                self.lost = str(self._decoder.error)
        return words

    def _at_end(self) -> bool:
        # Unread input outlives a failed write: the last words of a process that died are read.
        return self.socket.fileno() < 0 or self._decoder.error is not None

    def fds(self) -> list[int]:
        """Descriptors that this end holds for others."""
        return [fd for _, fd in self._queue if fd is not None] + list(self._fds)

    def close(self) -> None:
        """Close the end and every descriptor that it holds. A second time does nothing."""
        self._drop_queue()
        while self._fds:
            os.close(self._fds.popleft())
        self.socket.close()

    def _drop_queue(self) -> None:
        while self._queue:
            fd = self._queue.popleft()[1]
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<ControlSocket {self.lost or 'open'}: {self._waiting} bytes wait>"
