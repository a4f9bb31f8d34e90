"""What an error of PostgreSQL, or of the connection to it, means for an effect."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Final

from zerver_runtime.outcome import Failure

from ..effect import Effect
from ..error import Error, ErrorKind
from .base import internal
from .postgres_values import unprocessable

__all__ = ["failure", "unreachable"]

# PostgreSQL, "Error Codes".
_CONFLICTS: Final = {"23505": "unique", "23503": "foreign key", "23001": "foreign key", "23P01": "exclusion"}
_VALUES: Final = {
    "22001": "is too long", "22003": "is out of range", "22007": "is no date or time", "22008": "is out of range",
    "22021": "holds what the database cannot store", "22P02": "is not written as its type is",
    "22P05": "holds what the database cannot store",
}  # fmt: skip
_LOCKED: Final = {"40001", "40P01", "55P03"}
_CANCELLED: Final = "57014"
# Connections, resources, and an operator who stops the server.
_AWAY: Final = ("08", "53", "57P", "58")
_ARGUMENT: Final = re.compile(r"query argument \$([0-9]+):")
_REASON: Final = re.compile(r"\(([^()]*)\)\Z")

_log = logging.getLogger("zerver.effects")


def unreachable(effect: Effect[Any], problem: BaseException | None) -> Failure:
    """There is no connection. Where the server refuses this user or has no such database, it is a matter of
    configuration, and the log says so; else it may be well again soon.
    """
    code = getattr(problem, "sqlstate", None) or ""
    if code.startswith(("28", "3D", "42")) or (isinstance(problem, ValueError) and not code):
        return internal(effect, f"the database refuses the connection: {type(problem).__name__}: {problem}", problem)
    _log.warning("%s (%s): no connection: %s: %s", effect.label, effect.target, type(problem).__name__, problem)
    return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, f"{effect.label}: cannot be reached"), retryable=True)


def failure(effect: Effect[Any], names: Sequence[str], problem: Exception) -> Failure:
    """What an error of a statement says; ``names`` are those of its parameters.

    A violated unique, primary, foreign or exclusion key is CONFLICT, with its kind in ``detail``; a value that its type
    does not hold UNPROCESSABLE; what other transactions have locked, and a connection that is lost,
    UPSTREAM_UNAVAILABLE and worth a retry; a statement that the server ends by a limit of its own TIMEOUT. All else is
    INTERNAL, and its text is for the log alone.
    """
    if getattr(problem, "detail", None):  # it has all values of the row: nothing for a log
        problem.detail = None  # type: ignore[attr-defined]  # of asyncpg
    code = getattr(problem, "sqlstate", None) or ""
    constraint = _CONFLICTS.get(code)
    if constraint is not None:
        # The name that PostgreSQL gives to a primary key; it does not tell in another way.
        if constraint == "unique" and str(getattr(problem, "constraint_name", "")).endswith("_pkey"):
            constraint = "primary key"
        what = f"{effect.label}: a {constraint} constraint forbids it"
        return Failure(Error(ErrorKind.CONFLICT, what, detail={"constraint": constraint}))
    if code in _VALUES and names:
        _log.info("%s (%s): %s", effect.label, effect.target, type(problem).__name__)
        return unprocessable(effect, None, _VALUES[code])
    if code in _LOCKED:
        return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, f"{effect.label}: the database is locked"), retryable=True)
    if code == _CANCELLED:
        what = f"{effect.label}: the database ended it after a time-out of its own"
        return Failure(Error(ErrorKind.TIMEOUT, what), retryable=True)
    argument = _ARGUMENT.search(str(problem))
    if argument is not None and code in ("", "22000"):
        return _argument(effect, names[int(argument[1]) - 1], problem)
    if code.startswith(_AWAY) or (not code and (isinstance(problem, OSError) or _closed(problem))):
        _log.warning("%s (%s): %s: %s", effect.label, effect.target, type(problem).__name__, problem)
        return Failure(
            Error(ErrorKind.UPSTREAM_UNAVAILABLE, f"{effect.label}: the connection was lost"), retryable=True
        )
    return internal(effect, f"{type(problem).__name__}: {problem}", problem)


def _argument(effect: Effect[Any], name: str, problem: Exception) -> Failure:
    """The driver could not write a value as the type that the server asks for. Of the right kind it is too much for
    its type; of another it is a bug."""
    if isinstance(problem.__cause__, (ValueError, ArithmeticError)):
        return unprocessable(effect, name, "does not fit its type in the database")
    # All of its text, or the exception itself, would have the value in the log.
    found = _REASON.search(str(problem))
    what = f"parameter :{name} is of a type that the statement does not take; cast it, as :{name}::int"
    return internal(effect, what if found is None else f"{what}: {found[1]}")


def _closed(problem: Exception) -> bool:
    """asyncpg says so in words alone. It cannot "switch to state" on an idle connection whose end the server has just
    announced."""
    name, text = type(problem).__name__, str(problem)
    return (name == "InterfaceError" and "closed" in text) or (
        name == "InternalClientError" and text.startswith("cannot switch to state")
    )
