"""What a connection tells: a closed set of frozen values.

A request is ``Head``, then, where it has a body, any number of ``Body`` and one ``End``. After ``Refused`` comes
nothing but ``Closed``, and after that nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = ["END", "Body", "Closed", "End", "Event", "Head", "Refused"]


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of a request; all of it, if ``length`` is 0."""

    method: str
    """Any token (RFC 9110 section 9.1), as received."""
    target: bytes
    """The request target as received: visible ASCII without ``#``."""
    path: str
    """Percent-decoded as UTF-8, with U+FFFD for what is none; ``*`` for ``OPTIONS *``."""
    query: bytes
    """What follows the ``?``, undecoded."""
    headers: tuple[tuple[bytes, bytes], ...]
    """(lower-case name, value without white space around it), in order."""
    version: str
    """``1.1`` or ``1.0``."""
    keep_alive: bool
    """Whether the client wants the connection to go on (RFC 9112 section 9.3)."""
    length: int | None = 0
    """Bytes of the body; None where it comes in chunks."""
    expects_continue: bool = False
    """Whether the client waits for :meth:`Connection.proceed` before it sends the body (RFC 9110 section 10.1.1)."""
    upgrade: str = ""
    """The protocol that the client would rather speak (RFC 9110 section 7.8), lower case: ``websocket``. It is for the
    caller to take the connection over, or to answer as if this were not there."""


class Body(msgspec.Struct, frozen=True, gc=False):
    """The next bytes of the body; never empty."""

    data: bytes


class End(msgspec.Struct, frozen=True, gc=False):
    """The body is complete."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The client broke a rule, or was too slow. Whatever it has begun is not to be executed; where no answer has begun,
    the answer is ``status``, and the connection closes after it."""

    status: int
    detail: str
    """A sentence for the client. Nothing that the client sent is in it."""


class Closed(msgspec.Struct, frozen=True, gc=False):
    """Close now, without an answer: the client has gone or stayed idle for too long."""

    reason: str


Event: TypeAlias = Head | Body | End | Refused | Closed

END = End()
