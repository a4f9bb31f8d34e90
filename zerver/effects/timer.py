"""Waiting: ``timer.sleep(0.5)``, ``timer.until(when)``. The value is ``None``."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Unpack

import msgspec

from ..effect import Effect
from ..error import DefinitionError
from .options import Options

__all__ = ["Sleep", "Until", "sleep", "until"]


class Sleep(msgspec.Struct, frozen=True):
    """Wait for so many seconds."""

    seconds: float


class Until(msgspec.Struct, frozen=True):
    """Wait until this time of day."""

    at: datetime


def sleep(seconds: float, *, required: bool = True, **options: Unpack[Options]) -> Effect[None]:
    """Settle after so many seconds.

    :raises DefinitionError: a number of seconds that is negative or not finite.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise DefinitionError(f"timer.sleep: seconds={seconds!r}; give a finite number, 0 or above")
    return _effect("sleep", Sleep(seconds), required=required, **options)


def until(at: datetime, *, required: bool = True, **options: Unpack[Options]) -> Effect[None]:
    """Settle at this time; at once when it has passed.

    :raises DefinitionError: a datetime without a time zone, which names no point in time.
    """
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise DefinitionError(f"timer.until: {at!r} has no time zone; use ctx.now() + timedelta(...), which is in UTC")
    return _effect("until", Until(at), required=required, **options)


def _effect(op: str, args: Sleep | Until, **options: Any) -> Effect[None]:
    return Effect(family="timer", op=op, target="timer", args=args, idempotent=True, **options)
