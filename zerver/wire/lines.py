"""Lines and blocks of lines: where one ends, and whether it holds only what may stand in a line."""

from __future__ import annotations

import re

import msgspec

from .events import Refused

__all__ = ["BLOCK", "LINE", "Buffer", "Unit", "unit_end"]

Buffer = bytes | bytearray

# VCHAR, SP, HTAB and obs-text: all that may stand in a line (RFC 9110 section 5.5).
_TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
# What may not: controls, and CR or LF alone (RFC 9112 section 2.2). A CR at the very end may yet become a line end.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r[^\n]|(?<!\r)\n")

LINE = b"\r\n"
BLOCK = b"\r\n\r\n"


class Unit(msgspec.Struct, frozen=True):
    """A line, or a block of lines that an empty line ends, and what refuses it."""

    ends: bytes
    most: int
    """Bytes, with those that end it."""
    control: Refused
    too_long: Refused


def unit_end(unit: Unit, data: Buffer, at: int, seen: int) -> int | Refused:
    """Where the unit that begins at ``at`` ends; 0 if that has not come yet. Nothing was wrong with its first ``seen``
    bytes, and they do not end it. The verdict is that on the first byte that allows one, so that it is the same
    however the bytes are cut; and each byte is looked at once."""
    ends = unit.ends
    if ends is BLOCK and data.startswith(LINE, at):
        return at + 2
    stop = min(len(data), at + unit.most)
    found = data.find(ends, max(at, at + seen - len(ends) + 1), stop)
    if found >= 0:
        stop = found + len(ends)
    new = bytes(data[max(at, at + seen - 1) : stop])  # the last byte seen may be a CR that the next one makes bare
    controls = new.translate(None, _TEXT)
    if controls and controls != LINE * new.count(LINE) and _CONTROL.search(new):
        return unit.control
    if found >= 0:
        return stop
    return unit.too_long if stop - at == unit.most else 0
