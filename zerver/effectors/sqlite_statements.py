"""Runs SQL statements on SQLite."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from zerver_runtime.outcome import Failure, Outcome, Success

from ..effect import Effect
from ..effects.sql import SqlRows, SqlStatement, SqlTransaction
from ..error import Error, ErrorKind
from .base import Done, internal
from .sqlite import SqliteDatabase

__all__ = ["SqliteStatements"]

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_TAKEN: Final = "text, a number, a bool, bytes, a date or time, a UUID, a Decimal, an enum of these, or None"


class SqliteStatements:
    """Raw results are :class:`SqlRows`, and a tuple of them for a transaction."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.close = database.close

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        args: SqlStatement | SqlTransaction = effect.args
        if isinstance(args, SqlTransaction):
            bound = []
            for one in args.effects:
                values = _values(one)
                if isinstance(values, Failure):
                    done(values)
                    return None
                bound.append((one, values))
            return self._database.start(effect, done, functools.partial(_transaction, bound), reads=False)
        values = _values(effect)
        if isinstance(values, Failure):
            done(values)
            return None
        return self._database.start(effect, done, functools.partial(_statement, effect, values), reads=args.reads)

    def __repr__(self) -> str:
        return repr(self._database)


def _statement(effect: Effect[Any], values: Mapping[str, Any], connection: sqlite3.Connection) -> Outcome:
    return Success(_execute(effect, values, connection))


def _transaction(
    statements: Sequence[tuple[Effect[Any], Mapping[str, Any]]], connection: sqlite3.Connection
) -> Outcome:
    """What it leaves open when it fails is rolled back by the database."""
    connection.execute("BEGIN IMMEDIATE")
    results = []
    for effect, values in statements:
        rows = _execute(effect, values, connection)
        if effect.op == "query_one" and not rows.rows:
            return Failure(Error(ErrorKind.NOT_FOUND, f"{effect.label}: there is no such row"))
        results.append(rows)
    connection.execute("COMMIT")
    return Success(tuple(results))


def _execute(effect: Effect[Any], values: Mapping[str, Any], connection: sqlite3.Connection) -> SqlRows:
    cursor = connection.cursor()
    try:
        cursor.execute(effect.args.sql, values)
        if effect.op == "query_one" and effect.args.reads:
            rows = cursor.fetchmany(1)
        else:
            rows = cursor.fetchall()  # also where nobody wants them: counts are right only when all rows are read
        columns = tuple([column[0] for column in cursor.description or ()])
        changed = max(cursor.rowcount, 0)
        return SqlRows(columns, rows, changed, cursor.lastrowid if changed and effect.args.inserts else None)
    except sqlite3.Error as problem:
        problem.add_note(f"in the statement: {effect.args.sql}")
        raise
    finally:
        cursor.close()


def _values(effect: Effect[Any]) -> dict[str, Any] | Failure:
    values: dict[str, Any] = {}
    for name, value in effect.args.params.items():
        kind = value.__class__
        if (kind is int and _LEAST <= value <= _MOST) or (kind is str and value.isascii()):  # as most
            values[name] = value
            continue
        while isinstance(value, enum.Enum):
            value = value.value
        if isinstance(value, str):
            if not value.isascii() and not _encodable(value):
                return _unprocessable(effect, name, "holds lone surrogates, which a database cannot store")
        elif isinstance(value, int):
            if not _LEAST <= value <= _MOST:
                return _unprocessable(effect, name, "is an integer of more than 64 bits")
            value = int(value)
        elif isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date
            value = value.isoformat()
        elif isinstance(value, (uuid.UUID, decimal.Decimal)):
            value = str(value)
        elif value is not None and not isinstance(value, (float, bytes, bytearray, memoryview)):
            what = f"parameter :{name} is a {type(value).__qualname__}"
            return internal(effect, f"{what}; give {_TAKEN}, or encode it as JSON")
        values[name] = value
    return values


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unprocessable(effect: Effect[Any], name: str, what: str) -> Failure:
    """The value is most likely the client's: the type that was asked of it did not bound it."""
    return Failure(Error(ErrorKind.UNPROCESSABLE, f"{effect.label}: parameter {name} {what}", key=name))
