"""Errors: what can go wrong for a client (values), and what can be wrong with an app (exceptions).

Expected failures are values: an :class:`Error` has a closed :class:`ErrorKind`, and travels in ``Fail`` and in the
outcome of an effect. Exceptions mean bugs; their classes say whose: :class:`AppError` the app's,
:class:`ZerverError`'s other subclasses in the modules that raise them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

__all__ = [
    "AppError",
    "DefinitionError",
    "EffectFailed",
    "Error",
    "ErrorKind",
    "SlotMissing",
    "UndeclaredSlot",
    "ZerverError",
]


# RFC 9110 renamed these; the standard library followed in Python 3.13.
_PHRASES = {one.value: one.phrase for one in HTTPStatus} | {413: "Content Too Large", 422: "Unprocessable Content"}


class ErrorKind(enum.Enum):
    """The closed set of reasons why a request fails. The value is the HTTP status (RFC 9110 section 15)."""

    INVALID_INPUT = 400
    UNAUTHORIZED = 401
    FORBIDDEN = 403
    NOT_FOUND = 404
    METHOD_NOT_ALLOWED = 405
    NOT_ACCEPTABLE = 406
    CONFLICT = 409
    PAYLOAD_TOO_LARGE = 413
    UNSUPPORTED_MEDIA_TYPE = 415
    UNPROCESSABLE = 422
    TOO_MANY_REQUESTS = 429
    INTERNAL = 500
    NOT_IMPLEMENTED = 501
    UPSTREAM_UNAVAILABLE = 502
    OVERLOADED = 503
    TIMEOUT = 504

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self.value

    @property
    def title(self) -> str:
        """The status's phrase in RFC 9110, as RFC 9457 wants it for ``type: about:blank``."""
        return _PHRASES[self.value]


class Error(msgspec.Struct, frozen=True):
    """One failure, as a value.

    ``what`` is a sentence for the client. ``key`` is what it is about: the path of a field (``$.title``), a
    parameter (``query.limit``), an id. ``detail`` is plain data for machines; the upstream's status is
    ``detail["status"]``. ``retry_after`` (seconds) becomes the ``Retry-After`` header. Nothing here is secret:
    all of it reaches the client.
    """

    kind: ErrorKind
    what: str = ""
    key: str | None = None
    detail: Mapping[str, Any] | None = None
    retry_after: float | None = None


class ZerverError(Exception):
    """Base of every exception that Zerver raises on purpose."""


class AppError(ZerverError):
    """The app is wrong: fix its code. Ends a request with 500 and the traceback in the log."""


class DefinitionError(AppError):
    """A slot, step, route, effect or Need is declared wrongly. Raised where it is defined or built, or at start."""


class EffectFailed(ZerverError):
    """An effect that was performed outside of a request (:meth:`App.perform`) failed; ``error`` says how."""

    def __init__(self, label: str, error: Error) -> None:
        super().__init__(f"{label}: {error.kind.name}: {error.what}")
        self.error = error


class UndeclaredSlot(AppError):
    """A step read or wrote a slot that its annotation does not declare."""


class SlotMissing(AppError):
    """``require`` of a slot that nothing has set."""
