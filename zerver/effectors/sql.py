"""Performs ``sql`` effects, on the databases that their URLs name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..config.rules import sql_store
from ..effect import Effect
from .base import Done, internal
from .postgres import PostgresDatabase
from .sqlite import SqliteDatabase
from .sqlite_statements import SqliteStatements

__all__ = ["SqlEffector"]


class SqlEffector:
    """``databases``: their URLs by name. The rest is as for :class:`SqliteDatabase` (``readers``, ``busy_timeout``) and
    :class:`PostgresDatabase` (``size``, ``prepared``), for each of them.

    Raw results are :class:`SqlRows`, and a tuple of them for a transaction.

    :raises ValueError: a URL that is no database's.
    :raises ConfigError: PostgreSQL without the package that it takes.
    """

    def __init__(
        self,
        databases: Mapping[str, str],
        *,
        readers: int = 4,
        busy_timeout: float = 5.0,
        size: int = 10,
        prepared: bool = True,
    ) -> None:
        self._databases: dict[str, SqliteStatements | PostgresDatabase] = {}  # by target
        for key, url in databases.items():
            name = f"sql:{key}"
            if url not in ("sqlite://", "sqlite:///:memory:") and sql_store(url) == "postgres":
                self._databases[name] = PostgresDatabase(url, size=size, prepared=prepared, name=name)
            else:
                sqlite = SqliteDatabase(url, readers=readers, busy_timeout=busy_timeout, name=name)
                self._databases[name] = SqliteStatements(sqlite)

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        database = self._databases.get(effect.target)
        if database is None:
            name, *known = [target.removeprefix("sql:") for target in (effect.target, *sorted(self._databases))]
            done(internal(effect, f"there is no database {name!r}; effects.databases has {', '.join(known)}"))
            return None
        return database.start(effect, done)

    async def close(self) -> None:
        """Close each: cancel what is in flight, and leave no thread, task or connection."""
        for database in self._databases.values():
            await database.close()

    def __repr__(self) -> str:
        return f"<SqlEffector: {', '.join(map(repr, self._databases.values()))}>"
