"""From what a driver gives to the value of an effect: statuses judged, bodies and rows decoded.

Drivers give raw results (an ``HttpResult``, columns and tuples of rows, bytes), which is what a trace keeps and
a replay feeds in again. What an app sees is made of them here, by the effect's
:attr:`~zerver.effect.Effect.result_type`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast, get_args

from msgspec import inspect

from zerver_runtime.outcome import Failure, Outcome, Success

from .codec import Undecodable, convert, decode_json
from .effect import Effect, result_type
from .effects.http import HttpResult
from .effects.kv import KvPage
from .effects.sql import SqlResult, SqlRows
from .error import DefinitionError, Error, ErrorKind
from .lax import options

__all__ = ["interpret"]

Body: TypeAlias = Literal["answer", "bytes", "text", "json"]
Row: TypeAlias = Literal["record", "any record", "tuple", "column"]

P = TypeVar("P")

_RECORDS = (
    inspect.AnyType,
    inspect.CustomType,
    inspect.DataclassType,
    inspect.DictType,
    inspect.StructType,
    inspect.TypedDictType,
)
_TUPLES = (inspect.ListType, inspect.NamedTupleType, inspect.TupleType, inspect.VarTupleType)
_ANY_RECORD = inspect.DictType(inspect.StrType(), inspect.AnyType())
_ANY_RECORDS = inspect.ListType(_ANY_RECORD)

_MAY_PASS = frozenset({429, 502, 503, 504})
# RFC 9110 section 5.6.7: IMF-fixdate, the one form that may be sent.
_DATE = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT")
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_SECONDS = re.compile(r"[0-9]{1,9}")


def interpret(effect: Effect[Any], raw: Any, now: Callable[[], float]) -> Outcome:
    """What an attempt settled to, given what its driver gave. Never raises for what came from outside.

    :param now: seconds since the epoch; asked only where an upstream says until when it wants to be left alone.
    """
    try:
        family = effect.family
        if family == "http":
            return _http(effect, raw, now)
        of_family = _OTHERS.get(family)
        if of_family is not None:
            return of_family(effect, raw)
        wanted = result_type(effect)
        return Success(raw if wanted is None else convert(raw, wanted))
    except Undecodable as problem:
        return _misfit(effect, problem)
    except DefinitionError as problem:
        return Failure(Error(ErrorKind.INTERNAL, f"{effect.label}: {problem}"))


def _misfit(effect: Effect[Any], problem: Undecodable) -> Failure:
    """Data of another server is its fault; our own data is ours, and none of it goes to the client."""
    if effect.family == "http":
        what = f"{effect.label}: the body is not what was expected: {problem}"
        return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, what, problem.path))
    expected = problem.what.partition(", got ")[0]
    what = f"{effect.label}: the value does not fit its type: {expected} (at {problem.path})"
    return Failure(Error(ErrorKind.INTERNAL, what, problem.path))


# HTTP


def _http(effect: Effect[Any], raw: HttpResult, now: Callable[[], float]) -> Outcome:
    status = raw.status
    if status not in effect.args.expect:
        what = f"{effect.label}: the upstream answered {status}"
        error = Error(ErrorKind.UPSTREAM_UNAVAILABLE, what, detail={"status": status})
        if status not in _MAY_PASS:
            return Failure(error)
        return Failure(error, retryable=True, retry_after=_retry_after(raw.header("retry-after"), now))
    wanted = result_type(effect)
    if wanted is None:
        return Success(raw)
    nullable, body = _plan(_body_of, wanted)
    if body == "answer":
        return Success(raw)
    if not raw.body and nullable:
        return Success(None)
    if body == "json":
        if not raw.body:
            raise Undecodable(f"Expected JSON, got an empty body with status {status}")
        return Success(decode_json(raw.body, wanted))
    if body == "bytes":
        return Success(convert(raw.body, wanted))
    try:
        return Success(convert(raw.text(), wanted))
    except UnicodeError as problem:
        raise Undecodable(f"Expected text in the charset of its Content-Type ({problem.__class__.__name__})") from None


def _retry_after(header: str | None, now: Callable[[], float]) -> float | None:
    """``Retry-After`` (RFC 9110 section 10.2.3) in seconds; ``None`` where it is missing or neither of its two
    forms.
    """
    if header is None:
        return None
    if _SECONDS.fullmatch(header):
        return float(header)
    date = _DATE.fullmatch(header)
    if date is None:
        return None
    day, month, year, hour, minute, second = date.groups()
    try:
        at = datetime(
            int(year), _MONTHS.index(month) // 3 + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
        )
    except ValueError:
        return None
    return max(0.0, at.timestamp() - now())


@lru_cache(maxsize=1024)
def _body_of(wanted: Any) -> tuple[bool, Body]:
    """Whether a type takes ``None``, and what else it is made of."""
    nullable, kinds = False, []
    for node in _nodes(wanted):
        nullable |= isinstance(node, (inspect.NoneType, inspect.AnyType))
        if not isinstance(node, inspect.NoneType):
            kinds.append(node)
    if len(kinds) == 1:
        kind = kinds[0]
        if isinstance(kind, inspect.StructType) and kind.cls is HttpResult:
            return nullable, "answer"
        if isinstance(kind, inspect.BytesType):
            return nullable, "bytes"
        if isinstance(kind, inspect.StrType):
            return nullable, "text"
    return nullable, "json"


def _plan(of: Callable[[Any], P], wanted: Any) -> P:
    """What is worked out once for each type."""
    try:
        return of(wanted)
    except TypeError:  # unhashable metadata in Annotated
        return cast("P", of.__wrapped__(wanted))  # type: ignore[attr-defined]  # of lru_cache


def _nodes(wanted: Any) -> Iterator[inspect.Type]:
    try:
        return options(inspect.type_info(wanted))
    except (TypeError, NameError, AttributeError) as problem:
        raise DefinitionError(f"type {wanted!r} cannot be decoded: {problem}") from None


# SQL


def _sql(effect: Effect[Any], raw: Any) -> Outcome:
    if effect.op != "transaction":
        return _rows(effect, raw)
    values = []
    for inner, rows in zip(effect.args.effects, raw, strict=True):
        outcome = interpret(inner, rows, _no_clock)
        if isinstance(outcome, Failure):
            return outcome
        values.append(outcome.value)
    return Success(tuple(values))


def _no_clock() -> float:
    raise AssertionError("only HTTP has dates that are relative to now")


def _rows(effect: Effect[Any], raw: SqlRows) -> Outcome:
    if effect.op == "execute":
        return Success(SqlResult(raw.rows_affected, raw.last_row_id))
    wanted = result_type(effect)
    if effect.op == "query":
        shape: Row = "record" if wanted is None else _plan(_item_shape, wanted)
        rows = [_shaped(shape, raw.columns, row) for row in raw.rows]
        return Success(rows if wanted is None or shape == "any record" else convert(rows, wanted, lax=True))
    if not raw.rows:
        return Failure(Error(ErrorKind.NOT_FOUND, f"{effect.label}: there is no such row"))
    one: Row = "any record" if wanted is None else _plan(_shape, wanted)
    row = _shaped(one, raw.columns, raw.rows[0])
    return Success(row if one == "any record" else convert(row, wanted, lax=True))


def _shaped(shape: Row, columns: Sequence[str], row: tuple[Any, ...]) -> Any:
    if shape in ("record", "any record"):
        return dict(zip(columns, row, strict=True))
    if shape == "tuple":
        return row
    if len(row) != 1:
        raise DefinitionError(f"its type takes one column, and the statement gives {len(row)}: {', '.join(columns)}")
    return row[0]


@lru_cache(maxsize=1024)
def _shape(wanted: Any) -> Row:
    return _shape_of(_nodes(wanted))


@lru_cache(maxsize=1024)
def _item_shape(wanted: Any) -> Row:
    for node in _nodes(wanted):
        if isinstance(node, inspect.AnyType):
            return "record"
        if isinstance(node, (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType)):
            shape = _shape_of(options(node.item_type))
            return "record" if shape == "any record" and node != _ANY_RECORDS else shape
    raise DefinitionError(f"its value is a list of rows: use list[...], not {wanted!r}, or sql.query_one for one row")


def _shape_of(nodes: Iterable[inspect.Type]) -> Row:
    for node in nodes:
        if node == _ANY_RECORD:
            return "any record"  # as a row is: there is nothing to decode
        if isinstance(node, _RECORDS):
            return "tuple" if isinstance(node, inspect.StructType) and node.array_like else "record"
        if isinstance(node, _TUPLES):
            return "tuple"
    return "column"


# KV


def _kv(effect: Effect[Any], raw: Any) -> Outcome:
    wanted = result_type(effect)
    if effect.op == "scan":
        items, cursor = raw
        (each,) = get_args(wanted) or (Any,)
        return Success(
            KvPage([(key, _value(value, each, f"$.items[{n}][1]")) for n, (key, value) in enumerate(items)], cursor)
        )
    if effect.op != "get" or raw is None:
        return Success(None)
    return Success(_value(raw, Any if wanted is None else wanted, "$"))


def _value(raw: bytes, wanted: Any, path: str) -> Any:
    try:
        return convert(raw, wanted) if _plan(_body_of, wanted)[1] == "bytes" else decode_json(raw, wanted)
    except Undecodable as problem:
        hint = "; bytes are read with as_=bytes or a Slot[bytes]" if problem.syntax else ""
        raise Undecodable(problem.what + hint, path + problem.path[1:]) from None


# Files


def _file(effect: Effect[Any], raw: bytes | None) -> Outcome:
    wanted = result_type(effect)
    if raw is None or wanted is None:
        return Success(raw)
    body = _plan(_body_of, wanted)[1]
    if body == "json":
        return Success(decode_json(raw, wanted))
    if body != "text":
        return Success(convert(raw, wanted))
    try:
        return Success(convert(raw.decode(), wanted))
    except UnicodeError:
        raise Undecodable("Expected text in UTF-8") from None


# Others


def _as_it_is(effect: Effect[Any], raw: Any) -> Outcome:
    return Success(raw)


_OTHERS: Final[Mapping[str, Callable[[Effect[Any], Any], Outcome]]] = {
    "sql": _sql, "kv": _kv, "cache": _kv, "file": _file, "timer": _as_it_is, "call": _as_it_is, "compute": _as_it_is,
    "actor": _as_it_is,
}  # fmt: skip
