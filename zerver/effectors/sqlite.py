"""SQLite databases: each connection on a thread of its own, one that writes and some that read.

SQLite has one writer at a time; WAL lets readers go on beside it. So writes wait for each other here, in a
queue, and not in SQLite's busy handler; that is left for what other processes hold.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from zerver_runtime.outcome import Failure, Outcome

from ..config.rules import sqlite_path
from ..effect import Effect
from ..error import Error, ErrorKind
from .base import Done, cancelled, closed, hand_over, internal
from .lane import Lane

__all__ = ["SqliteDatabase", "failure"]

_AGAIN: Final = 0.05  # seconds between two attempts to interrupt a statement
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_CONFLICTS: Final = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "unique",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "primary key",
    sqlite3.SQLITE_CONSTRAINT_ROWID: "primary key",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign key",
}


class SqliteDatabase:
    """One database file, whose directory is made if it is missing; or, with ``sqlite://``, one in memory, which has one
    connection for all. Connections, and with them the file, are made when they are first needed: an app that has no
    use for a database has none.

    :param readers: connections that read, made when they are needed.
    :param busy_timeout: seconds that SQLite waits for a lock that another process holds.
    :param schema: statements that make what is missing, run on each new connection.
    :raises ValueError: a URL that is not ``sqlite:///relative``, ``sqlite:////absolute`` or ``sqlite://``.
    """

    def __init__(self, url: str, *, readers: int, busy_timeout: float, name: str, schema: tuple[str, ...] = ()) -> None:
        in_memory = url in ("sqlite://", "sqlite:///:memory:")
        self._path = ":memory:" if in_memory else sqlite_path(url)
        self._name = name
        self._busy_timeout = busy_timeout
        self._schema = schema
        self._local = threading.local()
        self._writer = Lane(1, name=f"zerver-{name}-writer", ending=self._disconnect)
        self._readers = self._writer
        if not in_memory:
            self._readers = Lane(readers, name=f"zerver-{name}-reader", ending=self._disconnect)
        # Of the loop's thread.
        self._runs: set[_Run] = set()

    def start(
        self, effect: Effect[Any], done: Done, work: Callable[[sqlite3.Connection], Outcome], *, reads: bool
    ) -> Callable[[], object] | None:
        """Run ``work`` on a connection's thread, for one attempt at ``effect``. What it raises is made a
        failure, and what it leaves of a transaction is rolled back.
        """
        lane = self._readers if reads else self._writer
        run = _Run(self, lane, effect, done, work, reads)
        if not lane.start(run):
            done(closed(effect))
            return None
        self._runs.add(run)
        return run.cancel

    async def close(self) -> None:
        """Cancel what is in flight, end the threads and close the connections. A statement that waits for the
        lock of another process keeps this waiting, at most for the busy time-out.
        """
        loop = asyncio.get_running_loop()
        for run in list(self._runs):
            run.cancel()
        ended = []
        for lane in {self._writer, self._readers}:
            gone: asyncio.Future[None] = loop.create_future()
            lane.close(functools.partial(hand_over, loop, _resolve, gone, None))
            ended.append(gone)
        for gone in ended:  # comes after the last word of every run, which went the same way
            await gone

    def connection(self, reads: bool) -> sqlite3.Connection:
        """For a run: the connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = self._local.connection = self._connect(reads and self._readers is not self._writer)
            except (sqlite3.Error, OSError) as problem:
                problem.add_note(f"opening database {self._name}, {self._path}")
                raise
        return connection

    def over(self, run: _Run) -> None:
        """For a run."""
        self._runs.discard(run)

    def _connect(self, read_only: bool) -> sqlite3.Connection:
        if self._path != ":memory:":
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout, isolation_level=None, cached_statements=256
        )
        try:
            self._prepare(connection, read_only)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, read_only: bool) -> None:
        statements = [
            "PRAGMA synchronous=NORMAL",
            "PRAGMA foreign_keys=ON",
            *([] if self._path == ":memory:" else ["PRAGMA journal_mode=WAL"]),
            *self._schema,
            *(["PRAGMA query_only=ON"] if read_only else []),
        ]
        # Switching to WAL is refused at once, whatever the busy time-out, while another process switches too.
        until = time.monotonic() + self._busy_timeout
        for statement in statements:
            while True:
                try:
                    connection.execute(statement)
                    break
                except sqlite3.OperationalError as problem:
                    if not _is_busy(problem) or time.monotonic() >= until:
                        raise
                    time.sleep(0.01)

    def _disconnect(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            connection.close()

    def __repr__(self) -> str:
        return f"<SqliteDatabase {self._name} at {self._path}: {len(self._runs)} in flight>"


class _Run:
    """One attempt, from the queue to its ``done``."""

    __slots__ = (
        "_asked",
        "_connection",
        "_database",
        "_done",
        "_effect",
        "_lane",
        "_lock",
        "_reads",
        "_timer",
        "_work",
    )

    def __init__(
        self,
        database: SqliteDatabase,
        lane: Lane,
        effect: Effect[Any],
        done: Done,
        work: Callable[[sqlite3.Connection], Outcome],
        reads: bool,
    ) -> None:
        self._database = database
        self._effect = effect
        self._done: Done | None = done
        self._work = work
        self._reads = reads
        # Of the loop's thread.
        self._lane = lane
        self._timer: asyncio.TimerHandle | None = None
        # Of both, guarded by the lock: an interrupt must not hit the next statement on the same connection.
        self._lock = threading.Lock()
        self._asked = False
        self._connection: sqlite3.Connection | None = None

    def cancel(self) -> None:
        """Leave the queue, or interrupt the statement that runs."""
        if self._done is None:
            return
        if self._lane.take_out(self):
            self.settle(cancelled(self._effect))
            return
        with self._lock:
            self._asked = True
            if self._connection is not None:
                self._connection.interrupt()
        # An interrupt that comes just before a statement begins does nothing.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_AGAIN, self.cancel)

    def on_thread(self) -> Outcome:
        connection = None
        try:
            connection = self._database.connection(self._reads)
            self._connection = connection  # before the look: whoever asks from here on interrupts it
            try:
                if self._asked:
                    return cancelled(self._effect)
                return self._work(connection)
            finally:
                with self._lock:
                    self._connection = None
        except sqlite3.Error as problem:
            return cancelled(self._effect) if self._asked else failure(self._effect, problem)
        except BaseException as problem:  # to be seen with the effect's name, and not to end the thread
            return internal(self._effect, f"{type(problem).__name__} on its connection's thread", problem)
        finally:
            if connection is not None and connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.rollback()

    def settle(self, outcome: Outcome) -> None:
        done, self._done = self._done, None
        if self._timer is not None:
            self._timer.cancel()
        self._database.over(self)
        if done is not None:
            done(outcome)


def failure(effect: Effect[Any], problem: sqlite3.Error) -> Failure:
    """What an error of SQLite says.

    A violated unique, primary or foreign key is CONFLICT, with its kind in ``detail``; a lock that another
    process holds is UPSTREAM_UNAVAILABLE and worth a retry; all else is INTERNAL, and its text is for the log
    alone.
    """
    code = getattr(problem, "sqlite_errorcode", 0)
    constraint = _CONFLICTS.get(code)
    if constraint is not None:
        what = f"{effect.label}: a {constraint} constraint forbids it"
        return Failure(Error(ErrorKind.CONFLICT, what, detail={"constraint": constraint}))
    if _is_busy(problem):
        return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, f"{effect.label}: the database is locked"), retryable=True)
    return internal(effect, f"{getattr(problem, 'sqlite_errorname', type(problem).__name__)}: {problem}", problem)


def _is_busy(problem: sqlite3.Error) -> bool:
    """Extended codes have the primary one in their low byte."""
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF in _BUSY


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)
