"""A client and a server of one wire connection, without sockets: what happened, and the bytes that were answered."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from zerver.wire import Body, Closed, Connection, End, Event, Head, Limits, Refused, Writer

__all__ = ["Talk", "bytewise", "connection", "cut_in_two", "talk"]

UNIX_TIME = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110


class Talk(msgspec.Struct):
    """``seen``: the events, in which adjacent Bodies are one. ``out``: all bytes that were written."""

    seen: list[Event]
    out: bytes
    connection: Connection

    @property
    def heads(self) -> list[Head]:
        return [event for event in self.seen if isinstance(event, Head)]

    @property
    def statuses(self) -> list[int]:
        """Of the refusals."""
        return [event.status for event in self.seen if isinstance(event, Refused)]

    @property
    def body(self) -> bytes:
        return b"".join(event.data for event in self.seen if isinstance(event, Body))


def connection(limits: Limits | None = None) -> Connection:
    return Connection(limits or Limits(), Writer(UNIX_TIME), 0.0)


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def cut_in_two(data: bytes) -> Iterable[list[bytes]]:
    for i in range(1, len(data)):
        yield [data[:i], data[i:]]


def talk(pieces: Iterable[bytes], limits: Limits | None = None, *, eof: bool = False) -> Talk:
    """Feed the pieces to a server that answers each request with 200 as soon as it is complete."""
    wire = connection(limits)
    result = Talk([], b"", wire)
    for piece in pieces:
        _go_on(result, wire.feed(piece, 0.0))
    if eof:
        _go_on(result, wire.feed_eof(0.0))
    return result


def _go_on(result: Talk, events: list[Event]) -> None:
    wire = result.connection
    while events:
        for event in events:
            _note(result.seen, event)
            match event:
                case Head(length=0) | End():
                    result.out += wire.respond(200, (), b"ok", 0.0)
                case Refused():
                    result.out += wire.refuse(event, 0.0)
                case Head() | Body() | Closed():
                    pass
        events = wire.feed(b"", 0.0) if wire.waiting else []


def _note(seen: list[Event], event: Event) -> None:
    if isinstance(event, Body) and seen and isinstance(seen[-1], Body):
        seen[-1] = Body(seen[-1].data + event.data)
    else:
        seen.append(event)
