"""The types of sql, kv and cache effects, as both checkers see them."""

from __future__ import annotations

from typing import Any, assert_type

import msgspec

from zerver.effect import Effect, Retry
from zerver.effects import cache, kv, sql
from zerver.effects.kv import KvPage
from zerver.effects.sql import SqlResult
from zerver.need import need
from zerver.slot import Slot


class Todo(msgspec.Struct):
    id: int
    title: str


class TodoItem(Slot[Todo]): ...


class TodoList(Slot[list[Todo]]): ...


class Changed(Slot[SqlResult]): ...


class Moved(Slot[tuple[SqlResult, Todo]]): ...


class Cached(Slot[Todo | None]): ...


class Page(Slot[KvPage[Todo]]): ...


def queries_give_dicts_where_nothing_else_is_asked_for() -> None:
    assert_type(sql.query("select 1"), Effect[list[dict[str, Any]]])
    assert_type(sql.query_one("select 1", {}), Effect[dict[str, Any]])
    assert_type(sql.query("select 1", required=False), Effect[list[dict[str, Any]] | None])
    assert_type(sql.query_one("select :a", {"a": 1}, required=False), Effect[dict[str, Any] | None])


def queries_give_the_type_of_slot_or_as() -> None:
    assert_type(sql.query("select 1", into=TodoList, retry=Retry(2)), Effect[list[Todo]])
    assert_type(sql.query_one("select 1", {"a": 1}, into=TodoItem), Effect[Todo])
    assert_type(sql.query_one("select 1", as_=int, db="other"), Effect[int])
    assert_type(sql.query_one("select 1", into=TodoItem, required=False), Effect[Todo | None])
    assert_type(sql.query("select 1", as_=list[Todo], required=False), Effect[list[Todo] | None])
    sql.query_one("select 1", into=TodoItem, as_=int)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def execute_gives_counts() -> None:
    assert_type(sql.execute("delete from t"), Effect[SqlResult])
    assert_type(sql.execute("delete from t", into=Changed), Effect[SqlResult])
    assert_type(sql.execute("delete from t", required=False), Effect[SqlResult | None])
    sql.execute("delete from t", into=TodoItem)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def transactions_give_tuples() -> None:
    inner = [sql.execute("delete from t"), sql.query_one("select 1", as_=Todo)]
    assert_type(sql.transaction(inner), Effect[tuple[Any, ...]])
    assert_type(sql.transaction(inner, required=False), Effect[tuple[Any, ...] | None])
    assert_type(sql.transaction(inner, into=Moved), Effect[tuple[SqlResult, Todo]])
    assert_type(sql.transaction(inner, into=Moved, required=False), Effect[tuple[SqlResult, Todo] | None])


def kv_gives_none_for_a_missing_key() -> None:
    assert_type(kv.get("k"), Effect[Any])
    assert_type(kv.get("k", into=Cached), Effect[Todo | None])
    assert_type(kv.get("k", into=TodoItem), Effect[Todo | None])
    assert_type(kv.get("k", as_=bytes, required=False), Effect[bytes | None])
    assert_type(kv.put("k", 1, idem="x"), Effect[None])
    assert_type(kv.delete("k"), Effect[None])


def kv_scan_gives_a_page() -> None:
    assert_type(kv.scan("k"), Effect[KvPage[Any]])
    assert_type(kv.scan("k", limit=5, after="k1", as_=KvPage[int]), Effect[KvPage[int]])
    assert_type(kv.scan("k", into=Page), Effect[KvPage[Todo]])
    assert_type(kv.scan("k", into=Page, required=False), Effect[KvPage[Todo] | None])
    kv.scan("k", into=TodoItem)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def cache_gives_none_for_a_missing_key() -> None:
    assert_type(cache.get("k"), Effect[Any])
    assert_type(cache.get("k", into=Cached), Effect[Todo | None])
    assert_type(cache.get("k", into=TodoItem, required=False), Effect[Todo | None])
    assert_type(cache.get("k", as_=bytes), Effect[bytes | None])
    assert_type(cache.set("k", 1, ttl=5), Effect[None])
    assert_type(cache.delete("k"), Effect[None])
    cache.set("k", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def awaited_together_each_keeps_its_type() -> None:
    given = await need(sql.query_one("select 1", into=TodoItem), kv.get("k", into=Cached))
    assert_type(given, tuple[Todo, Todo | None])
