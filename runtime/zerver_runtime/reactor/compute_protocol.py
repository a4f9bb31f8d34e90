"""The words between schedulers and compute workers, and what they carry: functions by name, data as pickles.

A worker works for any number of schedulers, and takes a task only when it is free for it:

    scheduler                          worker
    Path, Offer(urgency)        ->
                                <-     Pull(other)      its most urgent offer is this one; `other` is the next
    Task or Nothing             ->
                                <-     Returned(...)    the result, and a Pull

Every Pull and every Returned is answered once. Until it is, the worker is held by that scheduler, and takes no task of
another: so a scheduler that has had its worker killed, and does not answer, can hit no task but its own.

Nothing is said to a worker between a Task and the result: so what a dead one has left unread is a task not begun.

An urgency is what `PriorityWithAgeing.peek` gives: nanoseconds of the clock that all processes of a machine share, the
least is next.
"""

from __future__ import annotations

import pickle
from typing import Any, TypeAlias

import msgspec

from ..packet import Decoder, FrameError, Kind, encode

__all__ = [
    "MOST_BYTES",
    "FromWorker",
    "Hello",
    "Nothing",
    "Offer",
    "Path",
    "Pull",
    "Raised",
    "Returned",
    "Task",
    "ToWorker",
    "dump",
    "frame",
    "from_worker",
    "stream",
    "to_worker",
]

MOST_BYTES = 1024 * 1024 * 1024
"""Bytes that one word, and so the arguments or the result of one task, may take."""


class _Word(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    pass


# --- To a worker


class Path(_Word, frozen=True, tag="path"):
    """Where modules are looked for: `sys.path` of the scheduler."""

    entries: list[str]


class Offer(_Word, frozen=True, tag="offer"):
    """There is a task; `urgency` is that of the most urgent one."""

    urgency: int


class Task(_Word, frozen=True, tag="task"):
    """Run this one. more: the urgency of what waits behind it."""

    number: int
    name: str
    """`module:qualname` of the function."""
    arguments: bytes
    """Pickle of (args, kwargs)."""
    more: int | None = None


class Nothing(_Word, frozen=True, tag="nothing"):
    """No task for you now. more: the urgency of what waits."""

    more: int | None = None


ToWorker: TypeAlias = Path | Offer | Task | Nothing


# --- From a worker


class Hello(_Word, frozen=True, tag="hello"):
    """The worker runs. The first word on each link."""

    pid: int


class Pull(_Word, frozen=True, tag="pull"):
    """The worker is free. other: the urgency of the most urgent offer of somebody else's."""

    other: int | None = None


class Raised(_Word, frozen=True, tag="raised"):
    """Why there is no result."""

    where: str
    """`call`, or what kept it from being called or its result from being sent: `import`, `arguments`, `result`."""
    exception: bytes
    """Its pickle; empty when it cannot be pickled."""
    kind: str
    message: str
    traceback: str


class Returned(_Word, frozen=True, tag="returned"):
    """A task is over, and the worker is free: this is a `Pull`, too."""

    number: int
    result: bytes | Raised
    """Pickle of what the function returned, or what went wrong."""
    other: int | None = None


FromWorker: TypeAlias = Hello | Pull | Returned

_ENCODER = msgspec.msgpack.Encoder()
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def frame(word: ToWorker | FromWorker) -> bytes:
    """The word as one frame. FrameError: it is longer than `MOST_BYTES`."""
    try:
        return encode(Kind.COMPUTE, _ENCODER.encode(word), MOST_BYTES)
    except (ValueError, OverflowError) as error:  # msgpack ends at 4 GiB
        raise FrameError(f"a word of more than {MOST_BYTES} bytes: {error}") from None


def stream() -> Decoder:
    """For one direction of one link."""
    return Decoder(MOST_BYTES)


def to_worker(payload: bytes) -> ToWorker:
    """msgspec.DecodeError: no such word."""
    return _TO_WORKER.decode(payload)


def from_worker(payload: bytes) -> FromWorker:
    """msgspec.DecodeError: no such word."""
    return _FROM_WORKER.decode(payload)


def dump(value: Any) -> bytes:
    """Between processes of one program on one machine only: a pickle runs code when it is loaded."""
    return pickle.dumps(value, protocol=5)
