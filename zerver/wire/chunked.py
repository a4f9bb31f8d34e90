"""The chunked transfer coding of requests (RFC 9112 section 7.1), from bytes to content."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum, auto

from .events import Refused
from .fields import split_fields
from .limits import Limits
from .lines import BLOCK, LINE, TOKEN, Buffer, Unit, unit_end

__all__ = ["TOO_LARGE", "ChunkedBody"]

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
_DIGITS = 16  # of a size, which then is below 2**64
# chunk-size [ chunk-ext ], with the white space that section 7.1.1 lets stand within extensions.
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)"
    rb"((?:[ \t]*+;[ \t]*+" + TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + TOKEN + rb"|" + _QUOTED + rb"))?+)*+)\r\n"
)

TOO_LARGE = Refused(413, "The body is larger than is allowed here.")
_BAD_SIZE = Refused(400, "The size line of a chunk is malformed.")
_BAD_END = Refused(400, "A chunk does not end where its size says.")
_BAD_TRAILER = Refused(400, "A trailer line is malformed.")
_EXTENSIONS = Refused(413, "The chunk extensions are too large.")
_TRAILERS = Refused(431, "The trailer fields are too large, or too many.")


class _State(IntEnum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


class ChunkedBody:
    """Reads one body. After a fault it is not to be used again."""

    __slots__ = ("_extensions", "_left", "_limits", "_seen", "_state", "_trailers", "received")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._trailers = Unit(BLOCK, limits.trailer_bytes, _BAD_TRAILER, _TRAILERS)
        self._state = _State.SIZE
        self._seen = 0  # bytes of an incomplete line that were looked at
        self._left = 0  # bytes of this chunk that are still to come
        self._extensions = 0  # bytes of all extensions so far
        self.received = 0
        """Bytes of content so far, all of this chunk's among them."""

    @property
    def done(self) -> bool:
        """Whether the body is complete."""
        return self._state is _State.DONE

    def read(self, data: Buffer, at: int, most: int | None, pieces: list[bytes]) -> tuple[int, Refused | None]:
        """Read ``data[at:]``, and append to ``pieces`` what is content. Gives where to go on, and the fault if there is
        one. More than ``most`` bytes of content are one."""
        while self._state is not _State.DONE:
            going_on = _READERS[self._state](self, data, at, most, pieces)
            if not isinstance(going_on, int):
                return at, going_on
            if going_on == 0:
                break
            at = going_on
        return at, None

    # Each reads one unit: gives where the next begins, 0 if this one has not come yet, or its fault.

    def _size(self, data: Buffer, at: int, most: int | None, pieces: list[bytes]) -> int | Refused:
        room = self._limits.chunk_extension_bytes - self._extensions
        end = self._end(Unit(LINE, _DIGITS + room + len(LINE), _BAD_SIZE, _EXTENSIONS), data, at)
        if not isinstance(end, int) or not end:
            return end
        match = _SIZE_LINE.fullmatch(data, at, end)
        if match is None:
            return _BAD_SIZE
        digits, extensions = match.groups()
        if len(extensions) > room:
            return _EXTENSIONS
        self._extensions += len(extensions)
        self._left = int(digits, 16)
        self.received += self._left
        if most is not None and self.received > most:
            return TOO_LARGE
        self._state = _State.DATA if self._left else _State.TRAILERS
        return end

    def _data(self, data: Buffer, at: int, most: int | None, pieces: list[bytes]) -> int | Refused:
        piece = bytes(data[at : at + self._left])
        if not piece:
            return 0
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._state = _State.DATA_END
        return at + len(piece)

    def _data_end(self, data: Buffer, at: int, most: int | None, pieces: list[bytes]) -> int | Refused:
        end = bytes(data[at : at + len(LINE)])
        if end == LINE:
            self._state = _State.SIZE
            return at + len(LINE)
        return 0 if LINE.startswith(end) else _BAD_END

    def _trailer(self, data: Buffer, at: int, most: int | None, pieces: list[bytes]) -> int | Refused:
        end = self._end(self._trailers, data, at)
        if not isinstance(end, int) or not end:
            return end
        block = bytes(data[at:end])
        if block.count(LINE) - 1 > self._limits.trailer_count:
            return _TRAILERS
        if split_fields(block) is None:
            return _BAD_TRAILER
        self._state = _State.DONE
        return end

    def _end(self, unit: Unit, data: Buffer, at: int) -> int | Refused:
        end = unit_end(unit, data, at, self._seen)
        self._seen = len(data) - at if end == 0 else 0
        return end


_Reader = Callable[[ChunkedBody, Buffer, int, "int | None", "list[bytes]"], "int | Refused"]
_READERS: dict[_State, _Reader] = {
    _State.SIZE: ChunkedBody._size,
    _State.DATA: ChunkedBody._data,
    _State.DATA_END: ChunkedBody._data_end,
    _State.TRAILERS: ChunkedBody._trailer,
}
