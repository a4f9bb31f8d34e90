"""What goes out on one connection, and the time that its client has to read it."""

from __future__ import annotations

import asyncio

from zerver_runtime.reactor.effector import CallLater, Handle

__all__ = ["Writing"]


class Writing:
    """Of one connection. ``seconds``: how long a client may read nothing that waits for it. It may take longer for all
    of it, as long as it reads ``rate`` bytes a second: as fast as it has to send."""

    __slots__ = ("_call_later", "_rate", "_resumed", "_seconds", "_timer", "_transport", "_unread", "out")

    def __init__(self, transport: asyncio.Transport, call_later: CallLater, seconds: float, rate: float) -> None:
        self._transport = transport
        self._call_later = call_later
        self._seconds = seconds
        self._rate = rate
        self.out: list[bytes] = []
        """What is to be written with the next :meth:`flush`."""
        self._resumed: asyncio.Future[None] | None = None  # while the client has too much to read
        self._timer: Handle | None = None
        self._unread = 0  # bytes that waited when that was set

    @property
    def paused(self) -> bool:
        """Whether the client has too much to read."""
        return self._resumed is not None

    def flush(self) -> None:
        """Write all at once."""
        out = self.out
        if out:
            if not self._transport.is_closing():
                self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def pause(self) -> None:
        """The client does not read what it asked for: it gets a time limit."""
        if self._resumed is None:
            self._resumed = asyncio.get_running_loop().create_future()
            self._limit()

    def resume(self) -> bool:
        """The client reads again. Whether it was paused."""
        resumed, self._resumed = self._resumed, None
        if resumed is None or resumed.done():
            return False
        resumed.set_result(None)
        self.forget()
        return True

    async def resumed(self) -> None:
        """Wait while the client has too much to read."""
        if self._resumed is not None:
            await asyncio.shield(self._resumed)

    def close(self) -> None:
        """Close the connection when all is read, or the client is too slow."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self._limit()
        self._transport.close()

    def forget(self) -> None:
        """No limit any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit(self) -> None:
        self._unread = self._transport.get_write_buffer_size()
        self._timer = self._call_later(self._seconds, self._look)

    def _look(self) -> None:
        read = self._unread - self._transport.get_write_buffer_size()
        if read < self._rate * self._seconds:
            self._transport.abort()
        else:
            self._limit()
