"""The request, as an engine hands it to the interpreter: complete, undecoded, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Request"]

_NO_PARAMS: Mapping[str, Any] = {}


class Request(msgspec.Struct, frozen=True):
    """One request with its complete body. Headers are (lower-case name, value) as received; text is made when
    asked for."""

    method: str
    path: str
    """Percent-decoded."""
    query: bytes = b""
    """What follows the ``?``, undecoded."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    client_ip: str = ""
    id: str = ""
    params: Mapping[str, Any] = _NO_PARAMS
    """Path parameters, converted by their convertors."""

    def header(self, name: bytes) -> bytes | None:
        """The value of a header by its lower-case name; several are joined with ``, `` (RFC 9110 section 5.3)."""
        values = [value for key, value in self.headers if key == name]
        if not values:
            return None
        return values[0] if len(values) == 1 else b", ".join(values)
