"""What the drivers of ``http`` report when there is no answer: the same words and kinds, whichever driver it was."""

from __future__ import annotations

import logging
import ssl
from typing import Any, Final

from zerver_runtime.outcome import Failure

from ..effect import Effect
from ..error import Error, ErrorKind

__all__ = [
    "BAD_CERTIFICATE",
    "BROKEN",
    "NO_CONNECTION",
    "NO_SUCH_HOST",
    "NO_TLS",
    "connect_fault",
    "unavailable",
]

BAD_CERTIFICATE: Final = "its certificate cannot be verified"
NO_TLS: Final = "no TLS connection"
NO_CONNECTION: Final = "no connection"
NO_SUCH_HOST: Final = "there can be no such host"
BROKEN: Final = "the connection broke"

_log = logging.getLogger("zerver.effects")


def unavailable(
    effect: Effect[Any], what: str, problem: BaseException | None = None, *, retryable: bool = True
) -> Failure:
    """The client learns what went wrong; where, and what the exception said, is for the log."""
    _log.info("%s (%s): %s: %r", effect.label, effect.target, what, problem)
    return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, f"{effect.label}: {what}"), retryable=retryable)


def connect_fault(effect: Effect[Any], problem: BaseException) -> Failure | None:
    """What an exception means that came while a connection was made. None for those that say nothing about it."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return unavailable(effect, BAD_CERTIFICATE, problem, retryable=False)
    if isinstance(problem, ssl.SSLError):
        return unavailable(effect, NO_TLS, problem)
    if isinstance(problem, UnicodeError):  # of the resolver: an empty or overlong label
        return unavailable(effect, NO_SUCH_HOST, problem, retryable=False)
    if isinstance(problem, OSError):
        return unavailable(effect, NO_CONNECTION, problem)
    return None
