"""PostgreSQL databases: SQL statements through asyncpg, on the loop."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from zerver_runtime.outcome import Failure, Outcome, Success

from ..config.problem import ConfigError
from ..effect import Effect
from ..effects.sql import SqlRows, SqlTransaction
from ..effects.sql_text import Numbered, numbered
from ..error import DefinitionError, Error, ErrorKind
from .base import AsyncEffector, Done, internal
from .postgres_errors import failure, unreachable
from .postgres_sessions import NoConnection, PostgresSessions, Session
from .postgres_values import arguments, decoded_json, encoded_json, plain

__all__ = ["PostgresDatabase"]

_STATEMENTS: Final = 256  # kept prepared on each connection
_HANDSHAKE: Final = 10.0  # seconds for a new connection
_COUNTED: Final = ("INSERT", "UPDATE", "DELETE", "MERGE")
# Prepared statements that no longer fit the tables, or that the server does not know (any more).
_STALE: Final = frozenset({"InvalidCachedStatementError", "InvalidSQLStatementNameError"})

_log = logging.getLogger("zerver.effects")


class PostgresDatabase:
    """One database. Connections are made when they are first needed, ``size`` at most.

    An attempt that is cancelled, or timed out, is cancelled on the server; its connection serves others when the server
    has said that it has ended, and is closed if it does not say so within 2 seconds.

    :param url: as libpq has it: ``postgresql://user:password@host:port/database?sslmode=require``.
    :param prepared: keep statements prepared on their connections. False for pgbouncer's transaction pooling.
    :raises ConfigError: the package asyncpg is missing.
    """

    def __init__(self, url: str, *, size: int = 10, prepared: bool = True, name: str = "sql:default") -> None:
        try:
            self._asyncpg: Any = importlib.import_module("asyncpg")
        except ImportError:
            raise ConfigError(
                f"database {name.removeprefix('sql:')} is a PostgreSQL URL, and asyncpg is not installed: "
                "pip install 'zerver[postgres]'"
            ) from None
        self._url = url
        self._name = name
        self._prepared = prepared
        self._sessions = PostgresSessions(self._connect, size)
        self._attempts = AsyncEffector(self._perform, close=self._sessions.close)

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        return self._attempts.start(effect, done)

    async def close(self) -> None:
        """Cancel what is in flight, here and on the server, and close all connections."""
        await self._attempts.close()

    async def _connect(self) -> Any:
        kept = 100 if self._prepared else 0  # asyncpg names a prepared statement only where it caches some of its own
        connection = await self._asyncpg.connect(self._url, timeout=_HANDSHAKE, statement_cache_size=kept)
        try:
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(
                    kind, schema="pg_catalog", encoder=encoded_json, decoder=decoded_json, format="text"
                )
            for kind in ("inet", "cidr"):
                await connection.set_type_codec(kind, schema="pg_catalog", encoder=str, decoder=str, format="text")
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _perform(self, effect: Effect[Any]) -> Outcome:
        try:
            work = _Work(effect)
        except DefinitionError as problem:
            return internal(effect, str(problem))
        session = self._sessions.idle()
        if session is None:
            try:
                session = await self._sessions.take()
            except NoConnection as problem:
                return unreachable(effect, problem.__cause__)
        try:
            try:
                outcome = await self._run(work, session)
            except Exception as problem:
                if type(problem).__name__ not in _STALE:
                    raise
                _log.info("%s: prepared again (%s)", effect.label, type(problem).__name__)
                session.statements.clear()
                if work.transaction:
                    await session.connection.execute("ROLLBACK")
                outcome = await self._run(work, session)
        except asyncio.CancelledError:
            await self._sessions.recover(session, work.after_failure)
            raise
        except Exception as problem:
            problem.add_note(f"in the statement: {work.text.sql}")
            await self._let_go(session, work, problem)
            return failure(work.current, work.text.names, problem)
        if isinstance(outcome, Failure) and work.transaction:
            await self._sessions.recover(session, _rolled_back)
        elif work.changes_session:
            await self._sessions.recover(session, _reset)
        else:
            self._sessions.give_back(session)
        return outcome

    async def _let_go(self, session: Session, work: _Work, problem: Exception) -> None:
        if work.transaction and not session.connection.is_closed():
            await self._sessions.recover(session, _rolled_back)
            return
        if not isinstance(problem, (self._asyncpg.PostgresError, self._asyncpg.InterfaceError)):
            session.connection.terminate()  # what has become of its protocol is not known
        self._sessions.give_back(session)

    async def _run(self, work: _Work, session: Session) -> Outcome:
        if not work.transaction:
            alone = await self._execute(work, work.statements[0], session)
            return alone if isinstance(alone, Failure) else Success(alone)
        await session.connection.execute("BEGIN")
        results = []
        for effect, text in work.statements:
            rows = await self._execute(work, (effect, text), session)
            if isinstance(rows, Failure):
                return rows
            if effect.op == "query_one" and not rows.rows:
                return Failure(Error(ErrorKind.NOT_FOUND, f"{effect.label}: there is no such row"))
            results.append(rows)
        await session.connection.execute("COMMIT")
        return Success(tuple(results))

    async def _execute(self, work: _Work, one: tuple[Effect[Any], Numbered], session: Session) -> SqlRows | Failure:
        effect, text = work.current, work.text = one
        statement = session.statements.pop(text.sql, None)
        if statement is None:
            statement = _Statement(await session.connection.prepare(text.sql))
        if self._prepared:
            session.statements[text.sql] = statement  # the last of them now
            if len(session.statements) > _STATEMENTS:
                del session.statements[next(iter(session.statements))]
        values = arguments(effect, text.names, statement.parameters)
        if isinstance(values, Failure):
            return values
        if effect.op == "query_one" and effect.args.reads:
            first = await statement.prepared.fetchrow(*values)
            return SqlRows(statement.columns, [] if first is None else [statement.row(first)])
        records = await statement.prepared.fetch(*values)
        command, _, count = (statement.prepared.get_statusmsg() or "").partition(" ")
        changed = int(count.rpartition(" ")[2]) if command in _COUNTED else 0
        return SqlRows(statement.columns, [statement.row(record) for record in records], changed)

    def __repr__(self) -> str:
        return f"<PostgresDatabase {self._name}: {self._sessions!r}>"


class _Work:
    """The statements of an effect, and the one that is under way."""

    __slots__ = ("changes_session", "current", "statements", "text", "transaction")

    def __init__(self, effect: Effect[Any]) -> None:
        args = effect.args
        self.transaction = isinstance(args, SqlTransaction)
        inner: Sequence[Effect[Any]] = args.effects if isinstance(args, SqlTransaction) else (effect,)
        self.statements = [(one, numbered(one.args.sql)) for one in inner]
        self.current, self.text = self.statements[0]
        self.changes_session = any(text.changes_session for _, text in self.statements)

    async def after_failure(self, connection: Any) -> None:
        """What makes the connection as new when the effect was cancelled. Its first statement waits until the server
        has cancelled, too."""
        await connection.execute("ROLLBACK" if self.transaction else "SELECT 1")
        if self.changes_session:
            await connection.reset()


class _Statement:
    """A prepared statement of one connection."""

    __slots__ = ("_nested", "columns", "parameters", "prepared")

    def __init__(self, prepared: Any) -> None:
        self.prepared = prepared
        self.parameters = [one.kind if one.kind == "array" else one.name for one in prepared.get_parameters()]
        attributes = prepared.get_attributes()
        self.columns = tuple([one.name for one in attributes])
        self._nested = any(one.type.kind in ("array", "composite") for one in attributes)

    def row(self, record: Any) -> tuple[Any, ...]:
        return tuple([plain(value) for value in record]) if self._nested else tuple(record)


async def _rolled_back(connection: Any) -> None:
    await connection.execute("ROLLBACK")


async def _reset(connection: Any) -> None:
    await connection.reset()
