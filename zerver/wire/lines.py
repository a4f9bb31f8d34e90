"""Lines and blocks of lines: where one ends, and whether it holds only what may stand in a line."""

from __future__ import annotations

import re

import msgspec

from .events import Refused

__all__ = ["BLOCK", "LINE", "TOKEN", "Buffer", "Unit", "unit_end"]

Buffer = bytes | bytearray

# Lines in which there is only VCHAR, SP, HTAB and obs-text (RFC 9110 section 5.5), whole.
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
_GOOD_LINE = re.compile(_TEXT + rb"*+\r\n")
_GOOD_BLOCK = re.compile(rb"(?:" + _TEXT + rb"++\r\n)*+\r\n")
# What may not stand in a line: controls, and CR or LF alone (RFC 9112 section 2.2). A CR at the very end may yet become
# a line end.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r[^\n]|(?<!\r)\n")

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110 section 5.6.2, as a pattern
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
    however the bytes are cut; and each byte is looked at once or twice."""
    ends = unit.ends
    if not seen:
        whole = (_GOOD_LINE if ends is LINE else _GOOD_BLOCK).match(data, at, at + unit.most)
        if whole is not None:
            return whole.end()
    elif ends is BLOCK and data.startswith(LINE, at):  # of which the CR had come before
        return at + len(LINE)
    stop = min(len(data), at + unit.most)
    found = data.find(ends, max(at, at + seen - len(ends) + 1), stop)
    if found >= 0:
        stop = found + len(ends)
    # The last byte seen may be a CR that the next one makes bare. What is before the unit is no part of it.
    if data.startswith(b"\n", at) or _CONTROL.search(data, max(at, at + seen - 1), stop):
        return unit.control
    if found >= 0:
        return stop
    return unit.too_long if stop - at == unit.most else 0
