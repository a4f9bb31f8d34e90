"""The errors of effects that are not their driver's: what the dispatcher decides itself."""

from __future__ import annotations

from typing import Any

from .effect import Effect
from .error import Error, ErrorKind

__all__ = ["Faults"]

_AGAIN = 1.0  # seconds: when trying again is worthwhile after an overload that says nothing more exact


class Faults:
    """Makes an :class:`~zerver.error.Error` of each. All of them reach the client, so they name the effect,
    never its target.
    """

    def timeout(self, effect: Effect[Any], seconds: float) -> Error:
        """An attempt took longer than its time-out."""
        return Error(ErrorKind.TIMEOUT, f"{effect.label}: no result within {seconds:g} s")

    def deadline(self, effect: Effect[Any]) -> Error:
        """The request's deadline passed first."""
        return Error(ErrorKind.TIMEOUT, f"{effect.label}: the request's deadline passed first")

    def breaker_open(self, effect: Effect[Any], retry_after: float) -> Error:
        """The target fails so often that it is left alone for ``retry_after`` more seconds."""
        what = f"{effect.label}: left alone for now, because it failed too often"
        return Error(ErrorKind.UPSTREAM_UNAVAILABLE, what, retry_after=retry_after)

    def bulkhead_full(self, effect: Effect[Any]) -> Error:
        """As many attempts at the target are in flight, and waiting, as may be."""
        return Error(ErrorKind.OVERLOADED, f"{effect.label}: too many are under way", retry_after=_AGAIN)

    def unknown_family(self, effect: Effect[Any]) -> Error:
        """Nothing performs effects of this family."""
        what = f"{effect.label}: nothing performs {effect.family!r} effects; register a driver with app.effector()"
        return Error(ErrorKind.INTERNAL, what)

    def crashed(self, effect: Effect[Any], exception: BaseException) -> Error:
        """Its driver, or the decoding of its result, raised. What it raised is for the log alone."""
        return Error(ErrorKind.INTERNAL, f"{effect.label}: its driver failed")
