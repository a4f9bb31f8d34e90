"""The constructors of sql effects: what a statement is told from its text, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver.effect import Effect, Retry
from zerver.effects import http, sql
from zerver.effects.sql import SqlResult, SqlStatement
from zerver.effects.sql_text import numbered, read_statement
from zerver.error import DefinitionError
from zerver.slot import Slot


class Item(Slot[dict[str, Any]]): ...


class Changed(Slot[SqlResult]): ...


class Both(Slot[tuple[SqlResult, int]]): ...


READS = [
    "select 1",
    " \n-- first\n/* then */ SELECT * FROM t;",
    "values (1), (2)",
    "select replace(a, 'x', 'y') from t",
    "select 'insert into t' as \"update\"",
    "with a as (select 1) select * from a",
    "with a as (select 'delete') select [update], `insert` from a -- delete",
    "explain query plan select * from t",
    "select 1 ; -- that was all",
]
WRITES = [
    "insert into t values (1)",
    "update t set a = 1",
    "delete from t",
    "replace into t values (1)",
    "create table t (a)",
    "drop table t",
    "pragma user_version = 3",
    "vacuum",
    "with a as (select 1) insert into t select * from a",
    "WITH a AS (SELECT 1) Delete from t",
    "with a as (select replace(b, 'x', 'y') from t) select * from a",
    "explain analyze delete from t",
    "select * into u from t",
    "analyze",
    "call something()",
    "create trigger g after insert on t begin update t set a = 1; delete from u; end;",
]


@pytest.mark.parametrize("text", READS)
def test_what_certainly_only_reads_may_be_repeated(text: str) -> None:
    effect = sql.query(text)
    assert effect.idempotent
    assert effect.args.reads
    assert sql.query(text, retry=Retry(3)).retry == Retry(3)


@pytest.mark.parametrize("text", WRITES)
def test_what_may_write_may_not_be_repeated_without_a_key(text: str) -> None:
    effect = sql.execute(text)
    assert not effect.idempotent
    assert not effect.args.reads
    with pytest.raises(DefinitionError, match="idem="):
        sql.execute(text, retry=Retry(2))
    assert sql.execute(text, retry=Retry(2), idem="k").idem == "k"


@pytest.mark.parametrize(
    ("text", "inserts"),
    [
        ("insert into t values (1)", True),
        ("with a as (select 1) insert into t select * from a", True),
        ("replace into t values (1)", True),
        ("insert into t values (1) on conflict do nothing", False),
        ("update t set a = 'insert'", False),
        ("select 1", False),
    ],
)
def test_only_plain_inserts_have_a_last_row_id(text: str, inserts: bool) -> None:
    assert read_statement(text).inserts is inserts


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("select 1", set()),
        ("select :a, :b_2, :a", {"a", "b_2"}),
        ("select ':a', \":b\", `:c`, [:d], :e", {"e"}),
        ("select 'it''s :a' || :b", {"b"}),
        ("select 1 -- :a\n, :b /* :c */", {"b"}),
        ("select a::text, :b::int", {"b"}),
        ("select '{}' ->> '$.a', :b", {"b"}),
        ("select 1.5e3, 0x1F, :a", {"a"}),
        ("select naïve, :a", {"a"}),
    ],
)
def test_parameters_are_found_outside_of_texts_names_and_comments(text: str, names: set[str]) -> None:
    assert read_statement(text).names == names


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no statement"),
        (" ; -- nothing", "no statement"),
        ("select 1; select 2", "one statement"),
        ("select 1;;drop table t", "one statement"),
        ("select ?", r"\?"),
        ("select ?1", r"\?1"),
        ("select @a", "@a"),
        ("select $a", r"\$a"),
        ("select $1", r"\$1"),
        ("select :1", ":1"),
        ("select 'open", "never closed"),
        ('select "open', "never closed"),
        ("select /* open", "never closed"),
        ("select [open", "never closed"),
        ("select 1\0", "NUL"),
        ("select '\ud800'", "surrogates"),
        ("begin", "BEGIN is the engine's"),
        ("BEGIN IMMEDIATE", "sql.transaction"),
        ("commit", "COMMIT"),
        ("end", "END"),
        ("rollback", "ROLLBACK"),
        ("savepoint a", "SAVEPOINT"),
        ("release a", "RELEASE"),
        ("attach 'x' as y", "ATTACH"),
        ("-- now\n detach y", "DETACH"),
    ],
)
def test_a_text_that_is_not_one_statement_with_named_parameters_is_refused(text: str, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        sql.execute(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (r"select E'it\'s :a' || :b", {"b"}),
        ("select $$ ; ' :a $$ || :b", {"b"}),
        ("select $x$ $$ :a $x$ || :b", {"b"}),
        ("do $$ begin; delete from t; end $$", set()),
        ("select /* /* :a */ ' */ :b", {"b"}),
        ("select payload ? 'a', payload ?| :keys", {"keys"}),
        ("select f(a := :b)", {"b"}),
        ("select a[1:2], a[ :i ], :b", {"b"}),  # of both dialects: SQLite's name is [ :i ]
        ("select (array[:a, 'it''s'])[1:2], E'\\':b'", {"a"}),
    ],
)
def test_what_only_postgresql_reads_is_a_statement_too(text: str, names: set[str]) -> None:
    assert read_statement(text).names == names


@pytest.mark.parametrize(
    ("text", "numbered_text", "names"),
    [
        ("select 1", "select 1", ()),
        ("select :a, :b, :a", "select $1, $2, $1", ("a", "b")),
        (
            "select ':a', \":b\" -- :c\n, :d::int /* :e /* :f */ :g */",
            "select ':a', \":b\" -- :c\n, $1::int /* :e /* :f */ :g */",
            ("d",),
        ),
        ("select a[lo:hi], a[:i]", "select a[lo $1], a[$2]", ("hi", "i")),
        ("select $t$:a$t$, E':a\\':b', u&':a'", "select $t$:a$t$, E':a\\':b', u&':a'", ()),
        ("select a::b::c, x ->> :k", "select a::b::c, x ->> $1", ("k",)),
    ],
)
def test_parameters_are_numbered_for_postgresql(text: str, numbered_text: str, names: tuple[str, ...]) -> None:
    found = numbered(text)
    assert (found.sql, found.names) == (numbered_text, names)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("select 1", False),
        ("with a as (select 1) insert into t select * from a", False),
        ("-- now\nupdate t set a = :a", False),
        ("set search_path = a", True),
        ("select set_config('a', 'b', false)", True),
        ("select pg_advisory_lock(1)", True),
        ("select 'set_config'", False),
        ("create temp table t (a int)", True),
        ("listen a", True),
    ],
)
def test_what_may_leave_something_behind_on_its_connection_is_known(text: str, changes: bool) -> None:
    assert numbered(text).changes_session is changes


@given(st.text(st.sampled_from("'\"`[]:;-/*?$ \nabeE\\r0\0é"), max_size=40))
def test_any_text_is_numbered_or_refused(text: str) -> None:
    try:
        found = numbered(text)
    except DefinitionError:
        return
    assert all(f":{name}" in text for name in found.names)
    assert len(found.names) == len({one for one in range(1, 40) if f"${one}" in found.sql}) or "$" in text


@given(st.text(st.sampled_from("'\"`[]:;-/*? \nabselctinupdr0\0é"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        statement = read_statement(text)
    except DefinitionError:
        return
    assert all(f":{name}" in text for name in statement.names)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_nothing_inside_of_a_text_literal_counts(value: str) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    statement = read_statement(f"with a as (select {quoted} as b) select b, :name from a")
    assert statement.names == {"name"}
    assert statement.reads


def test_every_parameter_needs_a_value() -> None:
    with pytest.raises(DefinitionError, match="parameter :b has no value"):
        sql.query("select :a, :b", {"a": 1})
    with pytest.raises(DefinitionError, match="params is list"):
        sql.query("select :a", [1])  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="bytes, not text"):
        sql.query(b"select 1")  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="db="):
        sql.query("select 1", db="")


def test_parameters_are_those_of_the_time_when_it_was_built() -> None:
    given = {"a": 1, "unused": 2}
    effect = sql.query("select :a", given)
    given["a"] = 3
    assert effect.args.params["a"] == 1


@pytest.mark.parametrize("make", [sql.query, sql.query_one, sql.execute])
def test_the_target_is_the_database(make: Any) -> None:
    assert make("select 1").target == "sql:default"
    effect = make("select 1", db="other", timeout=2, required=False)
    assert (effect.target, effect.timeout, effect.required, effect.family) == ("sql:other", 2, False, "sql")
    assert isinstance(effect.args, SqlStatement)


def test_execute_gives_counts_only() -> None:
    assert sql.execute("delete from t", into=Changed).into is Changed
    with pytest.raises(DefinitionError, match="SqlResult"):
        sql.execute("delete from t", into=Item)  # type: ignore[call-overload]


def test_a_transaction_has_the_target_of_its_statements() -> None:
    inner = [sql.execute("delete from t", db="b"), sql.query_one("select 1", db="b", as_=int)]
    effect = sql.transaction(inner, into=Both, timeout=1.0, idem="k", retry=Retry(2))
    assert (effect.family, effect.op, effect.target) == ("sql", "transaction", "sql:b")
    assert (effect.into, effect.timeout, effect.idem, effect.idempotent) == (Both, 1.0, "k", False)
    assert effect.args.effects == tuple(inner)
    assert sql.transaction([sql.query("select 1"), sql.query("select 2")]).idempotent


@pytest.mark.parametrize(
    ("effects", "says"),
    [
        ([], "no statements"),
        ([http.get("http://a/")], "item 0 is no statement"),
        (["select 1"], "item 0 is no statement"),
        ([sql.transaction([sql.query("select 1")])], "item 0 is no statement"),
        ([sql.query("select 1"), sql.query_one("select 1", into=Item)], "item 1 .* slot of its own"),
        ([sql.query("select 1", timeout=1)], "item 0 .* timeout="),
        ([sql.query("select 1", retry=Retry(2))], "item 0 .* retry="),
        ([sql.query("select 1", idem="k")], "item 0 .* idem="),
        ([sql.query("select 1", required=False)], "item 0 .* required="),
        ([sql.query("select 1"), sql.query("select 1", db="b")], "sql:b, sql:default"),
    ],
)
def test_a_transaction_refuses_what_it_cannot_do_as_one(effects: list[Effect[Any]], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        sql.transaction(effects)
