"""The trace store: kept traces in one SQLite file, bounded in size and age.

Any number of processes write and read it at once (WAL). Everything here blocks: it is for a thread, a process of its
own, or the command line. Who only reads uses :class:`TraceReader`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Self

import msgspec

from ..error import ZerverError
from .record import Row, Summary, TraceRecord, Why, decode

__all__ = ["StoreError", "TraceQuery", "TraceReader", "TraceStore"]

_SCHEMA = 1
_TABLES = (
    """CREATE TABLE IF NOT EXISTS traces (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, route TEXT NOT NULL, method TEXT NOT NULL,
        path TEXT NOT NULL, status INTEGER, started_ns INTEGER NOT NULL, took_ns INTEGER NOT NULL, why TEXT NOT NULL,
        client TEXT NOT NULL, scheduler INTEGER NOT NULL, error TEXT NOT NULL, data BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS traces_by_id ON traces (id)",
    "CREATE INDEX IF NOT EXISTS traces_by_start ON traces (started_ns)",
)
_INSERT = "INSERT INTO traces VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SUMMARY = "seq, id, route, method, path, status, started_ns, took_ns, why, client, scheduler, error"
_AGED = 10.0  # seconds between two looks for what is too old
_JOURNAL = 4 * 1024 * 1024  # bytes that the write-ahead log keeps of its file


class StoreError(ZerverError):
    """The trace store cannot be opened, read or written."""


class TraceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which traces. Everything that is given has to hold."""

    route: str | None = None
    """Text in the route's label or in the path, in any case."""
    status: tuple[int, int] | None = None
    """The lowest and the highest one."""
    slower_ns: int | None = None
    """Took at least so long."""
    why: Why | None = None
    text: str | None = None
    """Text in the route's label, path, client or error, in any case; or in the id, as it is."""
    since_ns: int | None = None
    """Started then or later: wall clock, nanoseconds since the epoch."""
    after_seq: int | None = None
    before_seq: int | None = None


class TraceStore:
    """Writes traces. Opened by the first :meth:`write`; to be used on one thread at a time.

    ``max_bytes``: of the file; the oldest traces make room. ``max_age``: seconds. ``busy_timeout``: seconds to wait
    while another process writes.
    """

    def __init__(self, path: str, *, max_bytes: int, max_age: float, busy_timeout: float = 5.0) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._aged_at = 0.0

    def write(self, rows: Sequence[Row]) -> None:
        """Add traces in one transaction, and let go of those that are too old or too many.

        :raises StoreError: it could not be done; nothing of ``rows`` is there. A later call opens the file anew.
        """
        try:
            if self._connection is None:
                self._connection = _open(self._path, self._busy_timeout)
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(_INSERT, rows)
                self._let_go(connection)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError, OverflowError, UnicodeError) as problem:
            self.close()
            raise StoreError(f"trace store {self._path}: {problem}") from problem

    def close(self) -> None:
        """Once; but a later :meth:`write` opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _let_go(self, connection: sqlite3.Connection) -> None:
        now = time.time()
        if now - self._aged_at >= _AGED:
            self._aged_at = now
            connection.execute("DELETE FROM traces WHERE started_ns < ?", (int((now - self._max_age) * 1e9),))
        while _used(connection) > self._max_bytes:
            first, last = connection.execute("SELECT min(seq), max(seq) FROM traces").fetchone()
            if first is None or first == last:
                break  # the newest stays, however large it is
            connection.execute("DELETE FROM traces WHERE seq <= ?", (first + (last - first) // 10,))


class TraceReader:
    """Reads traces, while others write.

    :raises StoreError: there is no such file, or it is no trace store.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        if not os.path.exists(path):
            raise StoreError(
                f"trace store {path}: it is not there. No trace has been kept yet, or the server has another folder. "
                "Kept are requests that fail or are slow, and what trace.sample and trace.trusted add"
            )
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
            self._connection.execute("PRAGMA query_only = ON")
            _check(self._connection)
        except sqlite3.Error as problem:
            raise StoreError(f"trace store {path}: {problem}") from problem

    def summaries(self, query: TraceQuery | None = None, *, limit: int = 100, oldest: bool = False) -> list[Summary]:
        """What the query asks for, the newest first; or, with ``oldest``, the oldest first, which with ``after_seq`` is
        how to follow the store."""
        where, values = _conditions(query or TraceQuery())
        order = "ASC" if oldest else "DESC"
        rows = self._all(f"SELECT {_SUMMARY} FROM traces{where} ORDER BY seq {order} LIMIT ?", (*values, limit))
        return [Summary(**dict(zip(Summary.__struct_fields__, row, strict=True))) for row in rows]

    def get(self, request_id: str) -> TraceRecord | None:
        """The trace of a request by its id; or the newest one whose id ends so."""
        rows = self._all("SELECT data FROM traces WHERE id = ? ORDER BY seq DESC LIMIT 1", (request_id,))
        if not rows and request_id:
            ends = "SELECT data FROM traces WHERE substr(id, -length(?1)) = ?1 ORDER BY seq DESC LIMIT 1"
            rows = self._all(ends, (request_id,))
        return decode(rows[0][0]) if rows else None

    def records(self, query: TraceQuery | None = None, *, limit: int = 100, oldest: bool = False) -> list[TraceRecord]:
        """As :meth:`summaries`, but all of each trace."""
        where, values = _conditions(query or TraceQuery())
        order = "ASC" if oldest else "DESC"
        rows = self._all(f"SELECT data FROM traces{where} ORDER BY seq {order} LIMIT ?", (*values, limit))
        return [decode(data) for (data,) in rows]

    def routes(self) -> list[tuple[str, int]]:
        """The labels of the routes that there are traces of, and how many of each; the most first."""
        rows = self._all("SELECT route, count(*) FROM traces GROUP BY route ORDER BY 2 DESC, 1", ())
        return [(route, count) for route, count in rows]

    def last_seq(self) -> int:
        """Of the newest trace; 0 where there is none."""
        return int(self._all("SELECT coalesce(max(seq), 0) FROM traces", ())[0][0])

    def count(self, query: TraceQuery | None = None) -> int:
        """How many traces there are."""
        where, values = _conditions(query or TraceQuery())
        return int(self._all(f"SELECT count(*) FROM traces{where}", values)[0][0])

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _all(self, statement: str, values: Sequence[Any]) -> list[Any]:
        try:
            with closing(self._connection.execute(statement, values)) as cursor:
                return cursor.fetchall()
        except (sqlite3.Error, OverflowError, UnicodeError) as problem:  # the latter of what was asked for
            raise StoreError(f"trace store {self._path}: {problem}") from problem


def _open(path: str, busy_timeout: float) -> sqlite3.Connection:
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    # Requests are in it: it is for the user who runs the server. What exists already keeps its mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout, check_same_thread=False)
    try:
        _write_ahead(connection, busy_timeout)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL}")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
            connection.execute("COMMIT")
        _check(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection, busy_timeout: float) -> None:
    # Switching to WAL is refused at once, whatever the busy time-out, while another process switches too: as schedulers
    # do that stop together, with the first traces of each.
    until = time.monotonic() + busy_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)


def _check(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != _SCHEMA:
        raise sqlite3.DatabaseError(
            f"it is of form {version}, and this Zerver knows form {_SCHEMA}; move the file away"
        )


def _used(connection: sqlite3.Connection) -> int:
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    return (pages - free) * size


def _conditions(query: TraceQuery) -> tuple[str, list[Any]]:
    conditions: list[tuple[str, list[Any]]] = []
    if query.route is not None:
        conditions.append(("(instr(lower(route), ?) OR instr(lower(path), ?))", [query.route.lower()] * 2))
    if query.text is not None:
        places = " OR ".join(f"instr(lower({name}), ?)" for name in ("route", "path", "client", "error"))
        conditions.append((f"(instr(id, ?) OR {places})", [query.text, *[query.text.lower()] * 4]))
    if query.status is not None:
        conditions.append(("status BETWEEN ? AND ?", list(query.status)))
    for condition, value in (
        ("took_ns >= ?", query.slower_ns),
        ("why = ?", query.why),
        ("started_ns >= ?", query.since_ns),
        ("seq > ?", query.after_seq),
        ("seq < ?", query.before_seq),
    ):
        if value is not None:
            conditions.append((condition, [value]))
    text = " AND ".join(condition for condition, _ in conditions)
    return f" WHERE {text}" if text else "", [value for _, values in conditions for value in values]
