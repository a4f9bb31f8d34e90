"""SQL statements: ``sql.query_one("select * from todo where id = :id", {"id": 7}, into=TodoItem)``.

Parameters are written ``:name``. Values may be text, numbers, bools, bytes, dates and times, UUIDs, Decimals,
enums and ``None``. A row is decoded from a dict of its columns; where the type is a tuple, from the row as a
tuple; where it is a single value, from the only column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar, Unpack, overload

import msgspec

from ..effect import Effect, Priority, Retry
from ..error import DefinitionError
from ..slot import Key
from .options import Into, Options
from .sql_text import read_statement

__all__ = ["SqlResult", "SqlRows", "SqlStatement", "SqlTransaction", "execute", "query", "query_one", "transaction"]

T = TypeVar("T")
D = TypeVar("D")

Row: TypeAlias = dict[str, Any]

_NO_PARAMS: Mapping[str, Any] = {}


class SqlStatement(msgspec.Struct, frozen=True):
    """One statement. ``reads``: it certainly changes nothing, so a connection that only reads may run it.
    ``inserts``: it adds rows, and updates none instead, so the database's last row id is one of them.
    """

    sql: str
    params: Mapping[str, Any]
    reads: bool
    inserts: bool


class SqlTransaction(msgspec.Struct, frozen=True):
    """Statements that take effect together or not at all."""

    effects: tuple[Effect[Any], ...]


class SqlRows(msgspec.Struct, frozen=True):
    """What a driver gives for one statement, undecoded. ``query_one`` may stop after one row.

    ``rows_affected``: how many rows an INSERT, UPDATE or DELETE changed, else 0. ``last_row_id``: of the last
    row that an INSERT without ON CONFLICT added to a table that has row ids; ask for any other id with
    RETURNING.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    rows_affected: int = 0
    last_row_id: int | None = None


class SqlResult(msgspec.Struct, frozen=True):
    """The value of ``sql.execute``; see :class:`SqlRows`."""

    rows_affected: int
    last_row_id: int | None = None


class _Query(Generic[D]):
    __slots__ = ("__doc__", "_op")

    def __init__(self, op: str, doc: str) -> None:
        self._op = op
        self.__doc__ = doc

    @overload
    def __call__(
        self,
        sql: str,
        params: Mapping[str, Any] = ...,
        *,
        db: str = "default",
        into: None = None,
        as_: None = None,
        required: Literal[True] = True,
        **options: Unpack[Options],
    ) -> Effect[D]: ...
    @overload
    def __call__(
        self,
        sql: str,
        params: Mapping[str, Any] = ...,
        *,
        db: str = "default",
        into: None = None,
        as_: None = None,
        required: bool,
        **options: Unpack[Options],
    ) -> Effect[D | None]: ...
    @overload
    def __call__(
        self,
        sql: str,
        params: Mapping[str, Any] = ...,
        *,
        db: str = "default",
        into: Key[object, T],
        as_: type[T] | None = None,
        required: Literal[True] = True,
        **options: Unpack[Options],
    ) -> Effect[T]: ...
    @overload
    def __call__(
        self,
        sql: str,
        params: Mapping[str, Any] = ...,
        *,
        db: str = "default",
        into: Into[T],
        as_: type[T] | None = None,
        required: bool,
        **options: Unpack[Options],
    ) -> Effect[T | None]: ...
    @overload
    def __call__(
        self,
        sql: str,
        params: Mapping[str, Any] = ...,
        *,
        db: str = "default",
        into: None = None,
        as_: type[T],
        required: Literal[True] = True,
        **options: Unpack[Options],
    ) -> Effect[T]: ...
    @overload
    def __call__(
        self,
        sql: str,
        params: Mapping[str, Any] = ...,
        *,
        db: str = "default",
        into: None = None,
        as_: type[T],
        required: bool,
        **options: Unpack[Options],
    ) -> Effect[T | None]: ...
    def __call__(self, sql: str, params: Mapping[str, Any] = _NO_PARAMS, **options: Any) -> Effect[Any]:
        return _effect(self._op, sql, params, **options)

    def __repr__(self) -> str:
        return f"sql.{self._op}"


query: _Query[list[Row]] = _Query(
    "query",
    """All rows of a statement, as a list (default: of dicts).

    :raises DefinitionError: a text that is not one statement with ``:name`` parameters, or a parameter without a value.
    """,
)
query_one: _Query[Row] = _Query(
    "query_one",
    """The first row of a statement (default: a dict). Without a row it fails as NOT_FOUND.

    :raises DefinitionError: see ``query``.
    """,
)


@overload
def execute(
    sql: str,
    params: Mapping[str, Any] = ...,
    *,
    db: str = "default",
    into: Key[object, SqlResult] | None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[SqlResult]: ...
@overload
def execute(
    sql: str,
    params: Mapping[str, Any] = ...,
    *,
    db: str = "default",
    into: Into[SqlResult] | None = None,
    required: bool,
    **options: Unpack[Options],
) -> Effect[SqlResult | None]: ...
def execute(sql: str, params: Mapping[str, Any] = _NO_PARAMS, **options: Any) -> Effect[Any]:
    """Run a statement for what it does: how many rows it changed, and the id of the row that it inserted.

    :raises DefinitionError: see ``query``; a slot that holds anything but :class:`SqlResult`.
    """
    effect = _effect("execute", sql, params, **options)
    if effect.result_type not in (None, Any, SqlResult, SqlResult | None):
        raise DefinitionError(
            f"{effect.label}: its value is an SqlResult; use sql.query_one(... returning ...) for a row"
        )
    return effect


@overload
def transaction(
    effects: Sequence[Effect[Any]],
    *,
    into: None = None,
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[tuple[Any, ...]]: ...
@overload
def transaction(
    effects: Sequence[Effect[Any]], *, into: None = None, required: bool, **options: Unpack[Options]
) -> Effect[tuple[Any, ...] | None]: ...
@overload
def transaction(
    effects: Sequence[Effect[Any]],
    *,
    into: Key[object, T],
    required: Literal[True] = True,
    **options: Unpack[Options],
) -> Effect[T]: ...
@overload
def transaction(
    effects: Sequence[Effect[Any]], *, into: Into[T], required: bool, **options: Unpack[Options]
) -> Effect[T | None]: ...
def transaction(
    effects: Sequence[Effect[Any]],
    *,
    into: Any = None,
    required: bool = True,
    timeout: float | None = None,
    retry: Retry | None = None,
    priority: Priority = "interactive",
    idem: str | None = None,
) -> Effect[Any]:
    """Statements of one database that take effect together or not at all: when one fails, also a ``query_one``
    that finds no row, nothing has happened. The value is the tuple of their values, each decoded to its own
    ``as_``.

    :raises DefinitionError: no statements, or of several databases; something that is no ``sql`` statement; a
        statement with ``into``, ``timeout``, ``retry``, ``idem`` or ``required=False`` of its own, which belong
        to the transaction.
    """
    inner = tuple(effects)
    for place, effect in enumerate(inner):
        if not isinstance(effect, Effect) or not isinstance(effect.args, SqlStatement):
            raise DefinitionError(f"sql.transaction: item {place} is no statement; use sql.query, query_one or execute")
        if effect.into is not None:
            raise DefinitionError(
                f"sql.transaction: item {place} ({effect.label}) has a slot of its own; decode it with as_=, and "
                "give the transaction the slot: it holds the tuple of all values"
            )
        own = [name for name in ("timeout", "retry", "idem") if getattr(effect, name) is not None]
        if own or not effect.required:
            raise DefinitionError(
                f"sql.transaction: item {place} ({effect.label}) has {own[0] if own else 'required'}= of its own; "
                "give it to the transaction, whose statements succeed or fail together"
            )
    targets = sorted({effect.target for effect in inner})
    if len(targets) != 1:
        found = f"databases {', '.join(targets)}" if targets else "no statements"
        raise DefinitionError(f"sql.transaction: it has {found}; give statements of one database")
    return Effect(
        family="sql",
        op="transaction",
        target=targets[0],
        args=SqlTransaction(inner),
        into=into,
        timeout=timeout,
        retry=retry,
        required=required,
        priority=priority,
        idem=idem,
        idempotent=all(effect.idempotent for effect in inner),
    )


def _effect(
    op: str,
    sql: str,
    params: Mapping[str, Any],
    *,
    db: str = "default",
    into: Any = None,
    as_: Any = None,
    required: bool = True,
    timeout: float | None = None,
    retry: Retry | None = None,
    priority: Priority = "interactive",
    idem: str | None = None,
) -> Effect[Any]:
    if not isinstance(sql, str):
        raise DefinitionError(f"sql.{op}: the statement is {type(sql).__name__}, not text")
    if not isinstance(db, str) or not db:
        raise DefinitionError(f"sql.{op}: db={db!r}; give the name of a database of the configuration")
    statement = read_statement(sql)
    if params.__class__ is not dict and not isinstance(params, Mapping):
        raise DefinitionError(f"sql.{op}: params is {type(params).__name__}; give {{'name': value}} for each :name")
    values = dict(params)
    missing = statement.names - values.keys()
    if missing:
        first = min(missing)
        raise DefinitionError(f"sql.{op}: parameter :{first} has no value; give {{{first!r}: ...}} in params")
    return Effect(
        family="sql",
        op=op,
        target=f"sql:{db}",
        args=SqlStatement(sql, values, statement.reads, statement.inserts),
        into=into,
        as_=as_,
        timeout=timeout,
        retry=retry,
        required=required,
        priority=priority,
        idem=idem,
        idempotent=statement.reads,
    )
