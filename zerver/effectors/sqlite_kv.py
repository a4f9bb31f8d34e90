"""Performs ``kv`` effects on SQLite."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from zerver_runtime.outcome import Outcome, Success

from ..effect import Effect
from ..effects.kv import KvGet, KvPut, KvScan
from .base import Done
from .sqlite import SqliteDatabase

__all__ = ["SqliteKv"]

_REMEMBERED: Final = 24 * 3600.0  # seconds
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS kv_idem (idem TEXT NOT NULL, op TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL, "
    "PRIMARY KEY (idem, op, key)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS kv_idem_at ON kv_idem (at)",
)


class SqliteKv:
    """``clock``: seconds since the epoch, by which ``idem`` keys are forgotten after 24 hours."""

    def __init__(self, url: str, *, readers: int, busy_timeout: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._database = SqliteDatabase(url, readers=readers, busy_timeout=busy_timeout, name="kv", schema=_SCHEMA)
        self.close = self._database.close

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        args = effect.args
        if isinstance(args, KvGet):
            return self._database.start(effect, done, functools.partial(_get, args), reads=True)
        if isinstance(args, KvScan):
            return self._database.start(effect, done, functools.partial(_scan, args), reads=True)
        return self._database.start(effect, done, functools.partial(_write, effect, self._clock), reads=False)

    def __repr__(self) -> str:
        return repr(self._database)


def _get(args: KvGet, connection: sqlite3.Connection) -> Outcome:
    row = connection.execute("SELECT value FROM kv WHERE key = ?", (args.key,)).fetchone()
    return Success(None if row is None else row[0])


def _scan(args: KvScan, connection: sqlite3.Connection) -> Outcome:
    """SQLite compares text by its UTF-8, which is the order of code points; keys with one prefix stand together."""
    first = (args.after,) if args.after is not None and args.after >= args.prefix else (args.prefix,)
    beyond = ">" if args.after is not None and args.after >= args.prefix else ">="
    cursor = connection.execute(f"SELECT key, value FROM kv WHERE key {beyond} ? ORDER BY key", first)
    items: list[tuple[str, bytes]] = []
    try:
        for key, value in cursor:
            if not key.startswith(args.prefix):
                break
            if len(items) == args.limit:
                return Success((items, items[-1][0]))
            items.append((key, value))
    finally:
        cursor.close()
    return Success((items, None))


def _write(effect: Effect[Any], clock: Callable[[], float], connection: sqlite3.Connection) -> Outcome:
    if effect.idem is None:
        _apply(effect, connection)
        return Success(None)
    now = clock()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM kv_idem WHERE at < ?", (now - _REMEMBERED,))
    taken = connection.execute(
        "INSERT OR IGNORE INTO kv_idem (idem, op, key, at) VALUES (?, ?, ?, ?)",
        (effect.idem, effect.op, effect.args.key, now),
    )
    if taken.rowcount == 1:
        _apply(effect, connection)
    connection.execute("COMMIT")
    return Success(None)


def _apply(effect: Effect[Any], connection: sqlite3.Connection) -> None:
    args = effect.args
    if isinstance(args, KvPut):
        connection.execute(
            "INSERT INTO kv (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (args.key, args.value),
        )
    else:
        connection.execute("DELETE FROM kv WHERE key = ?", (args.key,))
