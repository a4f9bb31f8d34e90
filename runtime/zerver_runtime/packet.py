"""Frames on a byte stream between processes: bytes in, whole frames out. Sans-IO.

    frame = length (4 bytes, little-endian) | kind (1 byte) | payload (length - 1 bytes)

`length` counts the kind and the payload, so it is at least 1. However the stream is cut into pieces, `feed` gives
the same frames. A stream that breaks a rule is broken for good: the frames before the fault are handed out,
`error` says what is wrong, and nothing after it is read, because nothing says where the next frame would begin.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = ["MOST", "Decoder", "Frame", "FrameError", "Kind", "encode"]

MOST = 16 * 1024 * 1024
"""Bytes that a frame's kind and payload may take together, by default."""

_HEAD = 4


class Kind(IntEnum):
    """What a payload is; what is in it is the business of `codec` and `control`."""

    CONTROL = 1
    """One word between the Node and one of its processes."""
    MESSAGES = 2
    """Messages for actors of the receiver, in the order in which they were sent."""
    REPLIES = 3
    """Answers to asks of the receiver."""
    HANDLED = 4
    """How many messages of the receiver's have left a mailbox here since the link began."""
    COMPUTE = 5
    """One word between a scheduler and a compute worker: `reactor.compute_words`."""


_KINDS: dict[int, Kind] = {kind.value: kind for kind in Kind}
_KIND_BYTES = {kind: bytes([kind]) for kind in Kind}


class Frame(NamedTuple):
    kind: Kind
    payload: bytes


class FrameError(Exception):
    """The other side sent what cannot be a frame, or this side wants to send one that is too long."""


def encode(kind: Kind, payload: bytes | bytearray, most: int = MOST) -> bytes:
    """FrameError: the payload is `most` bytes or longer."""
    size = len(payload) + 1
    if size > most:
        raise FrameError(f"a frame of {size} bytes is longer than the {most} allowed; send less at once")
    return b"".join((size.to_bytes(_HEAD, "little"), _KIND_BYTES[kind], payload))


class Decoder:
    """Cuts one direction of one stream into frames.

    most: bytes that kind and payload may take together; a head that announces more is refused before any of it
        is kept, so a hostile peer can make this hold no more than `most` bytes.
    """

    __slots__ = ("_buffer", "_error", "_most")

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._buffer = bytearray()
        self._error: FrameError | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """The frames that are complete with `data`, in order. Nothing once the stream is broken: see `error`."""
        if self._error is not None:
            return []
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at, end = 0, len(buffer)
        while end - at >= _HEAD:
            size = int.from_bytes(buffer[at : at + _HEAD], "little")
            if not 0 < size <= self._most:
                self._fail(f"a frame of {size} bytes was announced; allowed are 1 to {self._most}")
                return frames
            body = at + _HEAD
            if body == end:
                break
            kind = _KINDS.get(buffer[body])
            if kind is None:
                self._fail(f"{buffer[body]} is not a kind of frame; the kinds are 1 to {max(Kind)}")
                return frames
            if end - body < size:
                break
            at = body + size
            frames.append(Frame(kind, bytes(buffer[body + 1 : at])))
        if at:
            del buffer[:at]
        return frames

    @property
    def error(self) -> FrameError | None:
        """Why nothing more is read from this stream, or None while it is sound."""
        return self._error

    @property
    def pending(self) -> int:
        """Bytes of a frame whose end has not come. At the end of a stream: a frame was cut off."""
        return len(self._buffer)

    def _fail(self, why: str) -> None:
        self._error = FrameError(f"the stream is broken: {why}")
        self._buffer = bytearray()

    def __repr__(self) -> str:
        return f"<Decoder {'broken' if self._error else 'sound'}: {self.pending} bytes of a frame pending>"
