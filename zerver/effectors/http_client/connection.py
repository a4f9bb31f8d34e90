"""One connection to an upstream: moves bytes between the loop's transport and the reader of answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from .response import Fault, ResponseReader

if TYPE_CHECKING:
    from ...effects.http import HttpResult
    from .request import Origin

__all__ = ["Connection", "Owner", "Sent"]


class Sent(Protocol):
    """A request that has been sent on a connection."""

    def answered(self, answer: HttpResult | Fault, /) -> None:
        """It is over for the connection, which may serve the next already."""
        ...

    def broken(self, early: bool, /) -> None:
        """The connection is gone before the answer was whole; ``early``: before any byte of it, on a connection that
        had been kept."""
        ...


class Owner(Protocol):
    """Has the connections."""

    def opened(self, connection: Connection, /) -> None: ...

    def idle(self, connection: Connection, /) -> None:
        """It may be used again."""
        ...

    def unfit(self, connection: Connection, /) -> None:
        """It was idle and is not to be used again. It closes itself."""
        ...

    def lost(self, connection: Connection, /) -> None:
        """It is closed."""
        ...


class Connection(asyncio.Protocol):
    """Serves one request at a time. Closed at once, without a farewell, when it cannot be used again: whatever might
    still come is of no interest."""

    __slots__ = ("_kept", "_owner", "_reader", "_sent", "_transport", "origin")

    def __init__(self, origin: Origin, owner: Owner, max_body_bytes: int) -> None:
        self.origin = origin
        self._owner = owner
        self._reader = ResponseReader(max_body_bytes)
        self._transport: asyncio.Transport | None = None
        self._sent: Sent | None = None
        self._kept = False  # an answer came on it before

    def send(self, sent: Sent, data: bytes, to_head: bool) -> bool:
        """Send a request. ``sent`` is told what comes of it, once. False: it is closed, and nothing was sent."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        self._sent = sent
        self._reader.expect(to_head)
        transport.write(data)
        return True

    def give_up(self, sent: Sent) -> bool:
        """Close it unused; ``sent`` hears ``broken`` when that is done. False: it is closed already."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        self._sent = sent
        transport.abort()
        return True

    def abort(self) -> None:
        """Close it. The owner hears ``lost`` when that is done, and before that a request on it ``broken``."""
        if self._transport is not None:
            self._transport.abort()

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._sent is None:
            self._unfit()
            return
        answer = self._reader.feed(data)
        if answer is not None:
            self._answered(answer)

    def eof_received(self) -> None:
        if self._sent is None:
            self._unfit()
            return
        answer = self._reader.eof()
        if answer is not None:
            self._answered(answer)
        else:
            self.abort()  # and connection_lost tells

    def connection_lost(self, exc: Exception | None) -> None:
        sent, self._sent, self._transport = self._sent, None, None
        self._owner.lost(self)
        if sent is not None:
            sent.broken(self._kept and self._reader.untouched)

    def _answered(self, answer: HttpResult | Fault) -> None:
        sent, transport = self._sent, self._transport
        if sent is None or transport is None:
            return
        self._sent = None
        # What has not left yet is the rest of a request that was answered early: the next could not follow it.
        if self._reader.reusable and answer.__class__ is not Fault and not transport.get_write_buffer_size():
            self._kept = True
            self._owner.idle(self)
        else:
            transport.abort()
        sent.answered(answer)

    def _unfit(self) -> None:
        """Something came that belongs to no request, or the end."""
        self._owner.unfit(self)
        self.abort()

    def __repr__(self) -> str:
        state = "closed" if self._transport is None else "idle" if self._sent is None else "waiting for an answer"
        return f"<Connection to {self.origin.authority}: {state}>"
