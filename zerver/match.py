"""What a router says of a method and a path that it knows."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["Match", "MethodMismatch"]

T = TypeVar("T")


class Match(msgspec.Struct, Generic[T], frozen=True):
    """The route that answers. ``params`` is the request's own dict, in the order of the template."""

    endpoint: T
    params: dict[str, Any]
    template: str


class MethodMismatch(msgspec.Struct, frozen=True):
    """The path is known, the method is not: 405, or the answer to OPTIONS. ``allowed`` is for ``Allow``."""

    allowed: tuple[str, ...]
