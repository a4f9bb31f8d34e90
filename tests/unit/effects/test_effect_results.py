"""From raw results to values: statuses, bodies, rows and stored values."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver.effect import Effect
from zerver.effect_results import interpret
from zerver.effects import call, http, kv, sql, timer
from zerver.effects.http import HttpResult
from zerver.effects.kv import KvPage
from zerver.effects.sql import SqlResult, SqlRows
from zerver.error import DefinitionError, Error, ErrorKind
from zerver.slot import Slot
from zerver_runtime.outcome import Failure, Outcome, Success

NOW = datetime(2024, 5, 17, 8, 30, tzinfo=UTC).timestamp()


def settle(effect: Effect[Any], raw: Any) -> Outcome:
    return interpret(effect, raw, lambda: NOW)


def value(effect: Effect[Any], raw: Any) -> Any:
    outcome = settle(effect, raw)
    assert isinstance(outcome, Success), outcome
    return outcome.value


def failure(effect: Effect[Any], raw: Any) -> tuple[Failure, Error]:
    outcome = settle(effect, raw)
    assert isinstance(outcome, Failure), outcome
    assert isinstance(outcome.error, Error)
    return outcome, outcome.error


class Colour(enum.Enum):
    RED = "red"


class Todo(msgspec.Struct):
    id: int
    title: str
    done: bool = False


class Weather(Slot[dict[str, Any]]): ...


class MaybeTodo(Slot[Todo | None]): ...


class TodoItem(Slot[Todo]): ...


class Whole(Slot[HttpResult]): ...


class Model(pydantic.BaseModel):
    id: int
    done: bool


@dataclass
class Point:
    x: int
    y: int


class Pair(NamedTuple):
    a: int
    b: str


class Typed(TypedDict):
    a: int


class Array(msgspec.Struct, array_like=True):
    a: int
    b: str


# http


def answer(body: bytes = b"", status: int = 200, **headers: str) -> HttpResult:
    return HttpResult(status, tuple((name.replace("_", "-"), text) for name, text in headers.items()), body)


URL = "http://a/"
TODO = b'{"id": 1, "title": "milk"}'

BODIES: list[tuple[Any, bytes, Any]] = [
    (dict[str, int], b'{"a": 1}', {"a": 1}),
    (Todo, TODO, Todo(1, "milk")),
    (list[Todo], b"[" + TODO + b"]", [Todo(1, "milk")]),
    (Todo | None, TODO, Todo(1, "milk")),
    (Todo | None, b"null", None),
    (Todo | None, b"", None),
    (None, b"", None),
    (Any, b"[1]", [1]),
    (Any, b"", None),
    (int, b"7", 7),
    (Model, b'{"id": 1, "done": true}', Model(id=1, done=True)),
    (datetime, b'"2024-05-17T08:30:00Z"', datetime(2024, 5, 17, 8, 30, tzinfo=UTC)),
    (bytes, b"\0\xff", b"\0\xff"),
    (bytes, b"", b""),
    (bytes | None, b"", None),
    (bytes | None, b"x", b"x"),
    (str, b'"x"', '"x"'),
    (str, b"", ""),
    (str | None, b"x", "x"),
    (Annotated[str, msgspec.Meta(max_length=3)], b"abc", "abc"),
    (str | int, b'"x"', "x"),
    (Colour, b'"red"', Colour.RED),
]


@pytest.mark.parametrize(("type_", "body", "expected"), BODIES)
def test_a_body_is_decoded_to_the_type_that_is_asked_for(type_: Any, body: bytes, expected: Any) -> None:
    class Into(Slot[type_]): ...  # type: ignore[valid-type]

    assert value(http.get(URL, into=Into), answer(body)) == expected
    if type_ is not None:
        assert value(http.get(URL, as_=type_), answer(body)) == expected


def test_without_a_type_the_whole_answer_is_the_value() -> None:
    raw = answer(b"x", 302, location="/y")
    assert value(http.get(URL), raw) is raw
    assert value(http.get(URL, into=Whole), raw) is raw
    assert value(http.get(URL, as_=HttpResult), raw) is raw
    assert value(http.get(URL, as_=HttpResult | None), raw) is raw  # type: ignore[call-overload]


def test_text_is_read_in_its_charset() -> None:
    raw = answer(b"\xe9", content_type="text/plain; charset=latin-1")
    assert value(http.get(URL, as_=str), raw) == "é"


@pytest.mark.parametrize(
    ("type_", "body", "path"),
    [
        (Todo, b"{", "$"),
        (Todo, b"", "$"),
        (Todo, b'{"id": 1}', "$.title"),
        (list[Todo], b'[{"id": "x", "title": ""}]', "$[0].id"),
        (Model, b'{"id": "x", "done": true}', "$.id"),
        (int, b"null", "$"),
        (str, b"\xff", "$"),
        (Annotated[str, msgspec.Meta(max_length=3)], b"abcd", "$"),
        (Annotated[bytes, msgspec.Meta(max_length=3)], b"abcd", "$"),
    ],
)
def test_a_body_of_another_shape_is_the_upstreams_fault(type_: Any, body: bytes, path: str) -> None:
    outcome, error = failure(http.get(URL, as_=type_), answer(body))
    assert (error.kind, error.key, outcome.retryable) == (ErrorKind.UPSTREAM_UNAVAILABLE, path, False)
    assert "http.get" in error.what
    assert path in error.what


def test_the_message_names_the_slot() -> None:
    _, error = failure(http.get(URL, into=TodoItem), answer(b"{}"))
    assert error.what.startswith("http.get into TodoItem: ")


@pytest.mark.parametrize("status", [100, 199, 400, 401, 404, 409, 429, 500, 501, 502, 503, 504, 599])
def test_a_status_that_is_not_expected_fails_with_it_in_detail(status: int) -> None:
    outcome, error = failure(http.get(URL, into=Weather), answer(b"secret", status))
    assert (error.kind, error.detail) == (ErrorKind.UPSTREAM_UNAVAILABLE, {"status": status})
    assert outcome.retryable is (status in (429, 502, 503, 504))
    assert "secret" not in error.what


@pytest.mark.parametrize("status", [200, 204, 301, 304, 399])
def test_by_default_200_to_399_are_expected(status: int) -> None:
    assert value(http.get(URL), answer(b"", status)).status == status


def test_expect_says_what_is_a_success() -> None:
    assert value(http.get(URL, expect=(404,), as_=Todo), answer(TODO, 404)) == Todo(1, "milk")
    outcome, error = failure(http.get(URL, expect=(404,)), answer(b"", 200))
    assert (error.detail, outcome.retryable) == ({"status": 200}, False)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("Fri, 17 May 2024 08:30:12 GMT", 12.0),
        ("Fri, 17 May 2024 08:29:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("9" * 400, None),
        ("Fri, 31 Feb 2024 00:00:00 GMT", None),
        ("Fri, 17 Foo 2024 00:00:00 GMT", None),
        ("Fri, 17 May 0000 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"retry_after": header}
    outcome, _ = failure(http.get(URL), answer(b"", 503, **headers))
    assert outcome.retry_after == seconds
    outcome, _ = failure(http.get(URL), answer(b"", 500, **headers))
    assert outcome.retry_after is None


@given(st.text())
def test_no_retry_after_header_is_harmful(header: str) -> None:
    outcome, _ = failure(http.get(URL), answer(b"", 503, retry_after=header))
    assert outcome.retry_after is None or outcome.retry_after >= 0


@given(st.binary(), st.sampled_from([Todo, str, bytes, Any, Todo | None, list[int], Model]))
def test_any_body_is_decoded_or_a_failure(body: bytes, type_: Any) -> None:
    settle(http.get(URL, as_=type_), answer(body, content_type="text/plain; charset=utf-16"))


# sql


def rows(*given: tuple[Any, ...], columns: str = "") -> SqlRows:
    names = tuple(columns.split()) if columns else tuple("abcdefgh"[: len(given[0]) if given else 1])
    return SqlRows(names, list(given))


ONE: list[tuple[Any, SqlRows, Any]] = [
    (Todo, rows((1, "milk", 0), columns="id title done"), Todo(1, "milk", False)),
    (Todo, rows((1, "milk", 1, "more"), columns="id title done x"), Todo(1, "milk", True)),
    (Todo | None, rows((1, "milk"), columns="id title"), Todo(1, "milk")),
    (dict[str, Any], rows((1, "x")), {"a": 1, "b": "x"}),
    (dict[str, int], rows((1,)), {"a": 1}),
    (Point, rows((1, 2), columns="x y"), Point(1, 2)),
    (Typed, rows((1,)), {"a": 1}),
    (Model, rows((1, 1), columns="id done"), Model(id=1, done=True)),
    (Any, rows((1,)), {"a": 1}),
    (tuple[int, str], rows((1, "x")), (1, "x")),
    (tuple[Any, ...], rows((1, "x", None)), (1, "x", None)),
    (list[int], rows((1, 2)), [1, 2]),
    (Pair, rows((1, "x")), Pair(1, "x")),
    (Array, rows((1, "x")), Array(1, "x")),
    (int, rows((3,)), 3),
    (bool, rows((1,)), True),
    (str, rows(("x",)), "x"),
    (str | None, rows((None,)), None),
    (float, rows((3,)), 3.0),
    (bytes, rows((b"\0",)), b"\0"),
    (Decimal, rows(("1.50",)), Decimal("1.50")),
    (datetime, rows(("2024-05-17 08:30:00",)), datetime(2024, 5, 17, 8, 30)),
    (UUID, rows(("12345678-1234-5678-1234-567812345678",)), UUID("12345678-1234-5678-1234-567812345678")),
    (Colour, rows(("red",)), Colour.RED),
    (Annotated[int, msgspec.Meta(ge=0)], rows((3,)), 3),
]


@pytest.mark.parametrize(("type_", "raw", "expected"), ONE)
def test_a_row_is_decoded_to_the_type_that_is_asked_for(type_: Any, raw: SqlRows, expected: Any) -> None:
    result = value(sql.query_one("select 1", as_=type_), raw)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(("type_", "raw", "expected"), ONE)
def test_rows_are_decoded_to_a_list_of_it(type_: Any, raw: SqlRows, expected: Any) -> None:
    twice = SqlRows(raw.columns, [raw.rows[0], raw.rows[0]])
    assert value(sql.query("select 1", as_=list[type_]), twice) == [expected, expected]
    assert value(sql.query("select 1", as_=list[type_]), SqlRows(raw.columns, [])) == []


def test_without_a_type_rows_are_dicts() -> None:
    raw = rows((1, "x"), (2, "y"))
    assert value(sql.query("select 1"), raw) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert value(sql.query_one("select 1"), raw) == {"a": 1, "b": "x"}
    assert value(sql.query("select 1", as_=list), raw) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_other_collections_of_rows_are_taken() -> None:
    raw = rows((1,), (2,), (2,))
    assert value(sql.query("select 1", as_=set[int]), raw) == {1, 2}
    assert value(sql.query("select 1", as_=tuple[int, ...]), raw) == (1, 2, 2)
    assert value(sql.query("select 1", as_=tuple[dict[str, Any], ...]), raw) == ({"a": 1}, {"a": 2}, {"a": 2})


@pytest.mark.parametrize(
    ("make", "type_"),
    [
        (sql.query_one, Annotated[dict[str, Any], msgspec.Meta(max_length=1)]),
        (sql.query, list[Annotated[dict[str, Any], msgspec.Meta(max_length=1)]]),
        (sql.query, Annotated[list[dict[str, Any]], msgspec.Meta(min_length=2)]),
    ],
)
def test_bounds_hold_for_rows_of_anything_too(make: Any, type_: Any) -> None:
    assert isinstance(interpret(make("select 1", as_=type_), rows((1, 2)), lambda: 0.0), Failure)


@pytest.mark.parametrize("type_", [Todo, Todo | None, int, None, dict[str, Any]])
def test_no_row_is_not_found_whatever_the_type(type_: Any) -> None:
    effect = sql.query_one("select 1", as_=type_)
    _, error = failure(effect, SqlRows(("a",), []))
    assert error.kind is ErrorKind.NOT_FOUND


@pytest.mark.parametrize(
    ("effect", "raw", "path", "says"),
    [
        (sql.query_one("select 1", as_=Todo), rows((1, None), columns="id title"), "$.title", "Expected `str`"),
        (sql.query_one("select 1", as_=int), rows(("secret",)), "$", "Expected `int`"),
        (sql.query("select 1", as_=list[Todo]), rows((1, "x", 7), columns="id title done"), "$[0].done", "bool"),
        (sql.query("select 1", as_=list[int]), rows((1,), ("secret",)), "$[1]", "Expected `int`"),
        (sql.query_one("select 1", as_=int), rows((1, 2)), None, "takes one column, and the statement gives 2: a, b"),
        (sql.query("select 1", as_=Todo), rows(), None, "list of rows"),
        (sql.query("select 1", as_=int), rows((1,)), None, "list of rows"),
        (sql.query_one("select 1", as_=Failure), rows((1,)), "$.error", "missing"),
        (sql.query_one("select 1", as_=lambda: 1), rows((1,)), None, "cannot be decoded"),  # type: ignore[call-overload]
    ],
)
def test_rows_of_another_shape_are_our_fault_and_tell_nothing(
    effect: Effect[Any], raw: SqlRows, path: str | None, says: str
) -> None:
    _, error = failure(effect, raw)
    assert (error.kind, error.key) == (ErrorKind.INTERNAL, path)
    assert effect.label in error.what
    assert says in error.what
    assert "secret" not in error.what


def test_execute_gives_its_counts() -> None:
    assert value(sql.execute("delete from t"), SqlRows((), [], 3, None)) == SqlResult(3, None)


def test_a_transaction_gives_each_statement_its_own_type() -> None:
    effect = sql.transaction([sql.execute("delete from t"), sql.query_one("select 1", as_=int), sql.query("select 1")])
    assert value(effect, (SqlRows((), [], 2), rows((7,)), rows((1,)))) == (SqlResult(2), 7, [{"a": 1}])
    _, error = failure(effect, (SqlRows((), [], 2), rows(("x",)), rows((1,))))
    assert (error.kind, error.key) == (ErrorKind.INTERNAL, "$")


# kv


STORED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(STORED)
def test_what_was_put_is_what_is_got(stored: Any) -> None:
    assert value(kv.get("k"), kv.put("k", stored).args.value) == stored


@given(st.binary())
def test_bytes_come_back_as_bytes(stored: bytes) -> None:
    assert value(kv.get("k", as_=bytes), kv.put("k", stored).args.value) == stored


def test_a_missing_value_is_none_and_no_failure() -> None:
    for effect in (kv.get("k"), kv.get("k", into=TodoItem), kv.get("k", as_=bytes), kv.get("k", into=MaybeTodo)):
        assert value(effect, None) is None
    assert value(kv.put("k", 1), None) is None
    assert value(kv.delete("k"), None) is None


def test_stored_values_are_decoded_to_the_slots_type() -> None:
    assert value(kv.get("k", into=TodoItem), TODO) == Todo(1, "milk")
    assert value(kv.get("k", into=MaybeTodo), TODO) == Todo(1, "milk")
    assert value(kv.get("k", as_=str), b'"x"') == "x"
    _, error = failure(kv.get("k", into=TodoItem), b'{"id": "x", "title": ""}')
    assert (error.kind, error.key) == (ErrorKind.INTERNAL, "$.id")
    _, error = failure(kv.get("k"), b"\xff")
    assert "as_=bytes" in error.what


def test_a_page_is_decoded_value_by_value() -> None:
    raw = ([("k:1", b"1"), ("k:2", b"2")], "k:2")
    assert value(kv.scan("k:"), raw) == KvPage([("k:1", 1), ("k:2", 2)], "k:2")
    assert value(kv.scan("k:", as_=KvPage[bytes]), raw) == KvPage([("k:1", b"1"), ("k:2", b"2")], "k:2")
    assert value(kv.scan("k:", as_=KvPage), ([], None)) == KvPage([], None)
    _, error = failure(kv.scan("k:", as_=KvPage[Todo]), ([("k:1", TODO), ("k:2", b'{"id": 1}')], None))
    assert (error.kind, error.key) == (ErrorKind.INTERNAL, "$.items[1][1].title")


# the others


def test_values_of_calls_and_timers_pass_as_they_are() -> None:
    class Thing: ...

    thing = Thing()
    assert value(call.run(Thing), thing) is thing
    assert value(call.run(Thing, into=TodoItem), thing) is thing  # type: ignore[call-overload]
    assert value(timer.sleep(1), None) is None


def test_effects_of_an_apps_own_families_are_converted_to_their_type() -> None:
    mail: Effect[Any] = Effect(family="mail", op="send", target="mail", args=None, as_=Todo)
    assert value(mail, {"id": 1, "title": "x"}) == Todo(1, "x")
    assert value(mail, Todo(1, "x")) == Todo(1, "x")
    _, error = failure(mail, {"id": 1})
    assert (error.kind, error.key) == (ErrorKind.INTERNAL, "$.title")
    untyped: Effect[Any] = Effect(family="mail", op="send", target="mail", args=None)
    assert value(untyped, json) is json


def test_a_type_that_nothing_can_decode_is_an_error_that_names_it() -> None:
    class Opaque: ...

    _, error = failure(http.get(URL, as_=Opaque), answer(b"{}"))
    assert error.kind is ErrorKind.INTERNAL
    assert "Opaque" in error.what
    with pytest.raises(DefinitionError):
        http.get("nowhere")
