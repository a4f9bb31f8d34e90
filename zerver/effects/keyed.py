"""What the stores of values by key have in common: what a key is, and how a value is kept."""

from __future__ import annotations

import re
from typing import Any

from ..error import DefinitionError
from ..response import encode_json

__all__ = ["checked_key", "encoded"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def checked_key(constructor: str, key: str) -> str:
    """The key.

    :raises DefinitionError: it is not 1 to 512 characters without control characters.
    """
    if not isinstance(key, str):
        raise DefinitionError(f"{constructor}: a key is text, not {type(key).__name__}")
    if not 1 <= len(key) <= 512 or _CONTROL.search(key) or any("\ud800" <= c <= "\udfff" for c in key):
        raise DefinitionError(f"{constructor}: key {key[:80]!r}: 1 to 512 characters, none of them control characters")
    return key


def encoded(constructor: str, key: str, value: Any) -> bytes:
    """Bytes as they are, all else as JSON.

    :raises DefinitionError: it is not bytes and has no JSON form.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return encode_json(value)
    except TypeError as problem:
        raise DefinitionError(f"{constructor}: the value of {key!r} cannot be encoded: {problem}") from None
