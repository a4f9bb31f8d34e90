"""Decoding: what each type takes, what it refuses, where it says the fault is, and whose fault it is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import pickle
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict, assert_type

import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver.codec import Undecodable, collects, convert, decode_json, quoted
from zerver.error import DefinitionError


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


Many: Any = enum.Enum("Many", [(f"M{n}", f"m{n}") for n in range(50)])  # type: ignore[misc]


@dataclasses.dataclass
class Item:
    title: str
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count {self.count} is below 0\n")
        if self.count == 666:
            raise ZeroDivisionError("a bug of the app")


@dataclasses.dataclass
class Order:
    items: list[Item]
    colors: dict[str, Color] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Tree:
    value: int
    kids: list[Tree] = dataclasses.field(default_factory=list)


class Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    the_name: str = ""


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    name: str


class Row(TypedDict):
    id: int
    done: bool


class Pair(NamedTuple):
    left: bool
    right: bool


class Model(pydantic.BaseModel):
    name: str
    ages: list[int] = []
    inner: Model | None = None


class StrictModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    at: dt.datetime
    count: int = 0

    @pydantic.field_validator("count")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"odd {'x' * 500}\x1b[0m")
        if value == 666:
            raise ZeroDivisionError("a bug of the app")
        return value


@dataclasses.dataclass
class Holder:
    models: list[Model]


class Opaque:
    """Nothing can decode it."""


class Shape(Protocol):
    sides: int


class Word(str):
    """msgspec does not decode subclasses of str."""


def refused(call: Callable[[], object]) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        call()
    return caught.value


# JSON


@pytest.mark.parametrize(
    ("data", "type_", "expected"),
    [
        (b'{"a":[1,2.5,null,true,"x"]}', Any, {"a": [1, 2.5, None, True, "x"]}),
        (b' "\\u00e9\\ud83d\\ude00" ', str, "é😀"),
        ("é".encode().join([b'"', b'"']), str, "é"),
        (b"99999999999999999999999999", int, 99999999999999999999999999),
        (b'{"items":[{"title":"a"}]}', Order, Order([Item("a")])),
        (b'{"theName":"x"}', Strict, Strict("x")),
        (b'[{"type":"dog","name":"x"}]', list[Cat | Dog], [Dog("x")]),
        (b'{"id":1,"done":false}', Row, {"id": 1, "done": False}),
        (b'"red"', Color, Color.RED),
        (b"2", Level, Level.HIGH),
        (b'"6f1c1d0a-8a3b-4c59-9d0e-2b6f4a1d7c33"', uuid.UUID, uuid.UUID("6f1c1d0a-8a3b-4c59-9d0e-2b6f4a1d7c33")),
        (b'"2024-05-17T08:30:00Z"', dt.datetime, dt.datetime(2024, 5, 17, 8, 30, tzinfo=dt.UTC)),
        (b'{"name":"a"}', Model, Model(name="a")),
        (b'[{"name":"a"}]', list[Model], [Model(name="a")]),
        (b'{"x":{"name":"a"}}', dict[str, Model], {"x": Model(name="a")}),
        (b"null", Model | None, None),
        (b'{"name":"a"}', Model | None, Model(name="a")),
        (b'{"models":[{"name":"a","inner":{"name":"b"}}]}', Holder, Holder([Model(name="a", inner=Model(name="b"))])),
        (b"[1]", object, [1]),
    ],
)
def test_json_becomes_a_value_of_the_type(data: bytes, type_: Any, expected: Any) -> None:
    assert decode_json(data, type_) == expected


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "JSON ends too early (byte 0)"),
        (b"  ", "JSON ends too early (byte 2)"),
        (b'{"items":[', "JSON ends too early (byte 10)"),
        (b'{"items":}', "JSON is malformed: invalid character (byte 9)"),
        (b"[1] 2", "trailing characters (byte 5)"),
        (b"[1,]", "(byte 3)"),
        (b"NaN", "(byte 0)"),
        (b"01", "(byte 1)"),
        (b"{'a':1}", "(byte 1)"),
        (b"\xef\xbb\xbf1", "JSON is malformed"),
        (b'"\x00"', "(byte 1)"),
        (b'"\xff"', "JSON is not in UTF-8 (byte 1)"),
        (b'{"skipped":"\xff"}', "JSON is not in UTF-8 (byte 12)"),
        (b'"\xed\xa0\x80"', "JSON is not in UTF-8 (byte 1)"),
        (b'"\\ud800"', "JSON"),
        (b'"\\udc00 "', "surrogate"),
        (b"[" * 100_000, "JSON is nested too deeply"),
        (b'{"a":' * 100_000, "JSON is nested too deeply"),
        (b'{"items":[{"title":1}', "JSON ends too early (byte 21)"),
    ],
)
@pytest.mark.parametrize("type_", [Any, Order, int, set, Model])
def test_broken_json_is_syntax_whatever_the_type(data: bytes, what: str, type_: Any) -> None:
    problem = refused(lambda: decode_json(data, type_))
    assert problem.syntax
    assert problem.path == "$"
    assert what in problem.what


@pytest.mark.parametrize(
    ("data", "type_", "path", "what"),
    [
        (b'"x"', int, "$", "Expected `int`, got `str`"),
        (b"1.0", int, "$", "Expected `int`, got `float`"),
        (b'"1"', int, "$", "Expected `int`, got `str`"),
        (b"1", bool, "$", "Expected `bool`, got `int`"),
        (b"1e999", Any, "$", "Expected a number that fits a 64-bit float"),
        (
            b'{"items":[{"title":"a"},{"title":"a"},{"title":1}]}',
            Order,
            "$.items[2].title",
            "Expected `str`, got `int`",
        ),
        (b'{"items":[{}]}', Order, "$.items[0].title", "Object missing required field `title`"),
        (b"{}", Order, "$.items", "Object missing required field `items`"),
        (b'{"items":[],"colors":{"k":"green"}}', Order, "$.colors[...]", "Expected one of 'red', 'blue'"),
        (b'"green"', Color, "$", "Expected one of 'red', 'blue'"),
        (b"7", Level, "$", "Expected one of 1, 2"),
        (b'["z"]', list[Literal["a", "b"] | None], "$[0]", "Expected one of 'a', 'b'"),
        (b'{"z":1}', dict[Color, int], "$", "Expected one of 'red', 'blue', in a key"),
        (b'{"z":1}', dict[int, int], "$", "Expected `int`, got `str`, in a key"),
        (b'[{"type":"cow"}]', list[Cat | Dog], "$[0].type", "Expected one of 'cat', 'dog'"),
        (b'{"a\\u001bb":1}', Strict, "$", "Unknown field 'a\\x1bb'"),
        (b'"x"', uuid.UUID, "$", "Expected a UUID"),
        (b'"x"', dt.datetime, "$", "Expected a date-time such as 2024-05-17T08:30:00Z (RFC 3339)"),
        (b'"x"', dt.date, "$", "Expected a date such as 2024-05-17 (RFC 3339)"),
        (b'"x"', dt.time, "$", "Expected a time such as 08:30:00 (RFC 3339)"),
        (b'"x"', dt.timedelta, "$", "Expected a duration such as PT1H30M (ISO 8601)"),
        (b'"x"', Decimal, "$", "Expected a decimal number"),
        (b'"x"', bytes, "$", "Expected base64"),
        (b"0", Annotated[int, msgspec.Meta(ge=1)], "$", "Expected `int` >= 1"),
        (b'{"items":[{"title":"a","count":-5}]}', Order, "$.items[0]", "count -5 is below 0\\n"),
        (b"[[1]]", set, "$", "Expected items that can be in a set"),
        (b'{"ages":[1]}', Model, "$.name", "Field required"),
        (b'{"name":"a","ages":[1,"x"]}', Model, "$.ages[1]", "Input should be a valid integer"),
        (b'{"models":[{"name":"a","inner":{}}]}', Holder, "$.models[0].inner.name", "Field required"),
        (b'{"x":[]}', dict[str, Model], "$[...]", "Input should be an object"),
        (b'{"at":"2024-05-17T08:30:00Z","count":"2"}', StrictModel, "$.count", "Input should be a valid integer"),
        (b'{"at":"2024-05-17T08:30:00Z","count":1}', StrictModel, "$.count", "Value error, odd xxx"),
        (b'{"at":"2024-05-17T08:30:00Z","\\u001b":1}', StrictModel, "$[...]", "Extra inputs are not permitted"),
    ],
)
def test_json_of_the_wrong_shape_says_what_was_expected_and_where(
    data: bytes, type_: Any, path: str, what: str
) -> None:
    problem = refused(lambda: decode_json(data, type_))
    assert not problem.syntax
    assert problem.path == path
    assert what in problem.what


def test_the_choices_of_a_large_enum_are_cut() -> None:
    what = refused(lambda: decode_json(b'"x"', Many)).what
    assert "'m0'" in what
    assert what.endswith("'m19', …")


def test_models_are_validated_in_the_json_mode_of_pydantic() -> None:
    """So that a strict model takes a date-time, which in JSON can only be text."""
    assert decode_json(b'{"at":"2024-05-17T08:30:00Z"}', StrictModel).at.year == 2024


def test_the_errors_of_a_model_are_not_built_when_there_are_masses_of_them() -> None:
    data = b'{"name":"a","ages":[' + b",".join([b'"x"'] * 20_000) + b"]}"
    assert refused(lambda: decode_json(data, Model)).what == "20000 values are wrong"


@pytest.mark.parametrize(
    "data", [b'{"title":"a","count":666}', b'[{"title":"a","count":666}]', b'{"at":"2024-05-17T08:30:00Z","count":666}']
)
def test_other_exceptions_of_validators_are_bugs_of_the_app(data: bytes) -> None:
    type_: Any = list[Item] if data.startswith(b"[") else StrictModel if b"at" in data else Item
    with pytest.raises(ZeroDivisionError):
        decode_json(data, type_)


@pytest.mark.parametrize(
    ("type_", "named"),
    [
        (Opaque, "test_codec.Opaque"),
        (list[Opaque], "test_codec.Opaque"),
        (dict[str, Opaque | None], "test_codec.Opaque"),
        (Iterable[int], "collections.abc.Iterable"),
        (complex, "complex"),
        (Shape, "test_codec.Shape"),
        (Word, "test_codec.Word"),
        (Model | int, "Model | int"),
        (dataclasses.make_dataclass("Forward", [("x", "Nowhere")]), "Nowhere"),
        (enum.Enum("Mixed", {"a": 1, "b": "x"}), "Mixed"),
    ],
)
def test_a_type_that_nothing_can_decode_is_the_apps_mistake_whatever_the_client_sent(type_: Any, named: str) -> None:
    for data in (b"{}", b"[]", b"1", b"broken"):
        with pytest.raises(DefinitionError, match="cannot be decoded") as caught:
            decode_json(data, type_)
        assert named in str(caught.value)


def test_a_pydantic_dataclass_is_refused_since_its_validators_would_not_run() -> None:
    @pydantic.dataclasses.dataclass
    class Loose:
        age: Annotated[int, pydantic.Field(ge=1)]

    with pytest.raises(DefinitionError, match="Loose is a pydantic dataclass"):
        decode_json(b'{"age":-1}', list[Loose])


def test_types_with_unhashable_metadata_decode() -> None:
    assert decode_json(b"1", Annotated[int, {"unhashable": []}]) == 1


def test_pydantic_is_not_imported() -> None:
    code = "import sys, zerver.codec as c; c.decode_json(b'[1]', list[int]); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Texts


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        (
            int,
            {"0": 0, "-12": -12, "007": 7, "9" * 40: int("9" * 40)},
            [
                "",
                " 1",
                "1 ",
                "+1",
                "1.0",
                "1e3",
                "1_000",
                "0x1",
                "\u0661\u0662",
                "--1",
                "null",
                "true",
                "1\n",
                "9" * 5000,
            ],
        ),
        (
            float,
            {"1": 1.0, "-1.5": -1.5, ".5": 0.5, "1e3": 1000.0, "2E-1": 0.2, "1" + "0" * 300: 1e300},
            [
                "",
                "nan",
                "NaN",
                "inf",
                "-Infinity",
                "1e999",
                "1.",
                ".",
                "1_0.0",
                "\u0660.\u0665",
                "1e",
                "0x1p3",
                "1" + "0" * 400,
            ],
        ),
        (
            bool,
            {"true": True, "TRUE": True, "1": True, "false": False, "False": False, "0": False},
            ["", "yes", "on", "2", "01", "t", " true", "null"],
        ),
        (str, {"": "", "null": "null", "1": "1"}, []),
        (str | None, {"": "", "null": "null"}, []),
        (int | None, {"5": 5}, ["", "null", "none", "x"]),
        (Annotated[int, msgspec.Meta(ge=1, le=9)], {"5": 5}, ["0", "10", "x"]),
        (Annotated[str, msgspec.Meta(min_length=2)], {"ab": "ab", "12": "12"}, ["a", ""]),
        (Color, {"red": Color.RED}, ["RED", "green", ""]),
        (Level, {"2": Level.HIGH}, ["3", "HIGH", "1.0", ""]),
        (Literal["a", "b"], {"a": "a"}, ["c", ""]),
        (Literal[1, 2], {"1": 1}, ["3", "1.0", "", "9" * 30]),
        (Literal[10, "ten", "20"], {"10": 10, "ten": "ten", "20": "20"}, ["11", ""]),
        (int | str, {"5": "5", "x": "x"}, []),
        (int | float, {"5": 5, "5.5": 5.5}, ["x"]),
        (int | Color, {"5": 5, "red": Color.RED}, ["green"]),
        (Any, {"5": "5", "true": "true"}, []),
        (object, {"5": "5"}, []),
        (uuid.UUID, {"6f1c1d0a-8a3b-4c59-9d0e-2b6f4a1d7c33": uuid.UUID("6f1c1d0a-8a3b-4c59-9d0e-2b6f4a1d7c33")}, ["x"]),
        (dt.date, {"2024-05-17": dt.date(2024, 5, 17)}, ["17.5.2024", "", "2024-05-17T00:00:00"]),
        (
            dt.datetime,
            {
                "2024-05-17T08:30:00Z": dt.datetime(2024, 5, 17, 8, 30, tzinfo=dt.UTC),
                "2024-05-17 08:30:00": dt.datetime(2024, 5, 17, 8, 30),
            },
            ["1700000000", "", "2024-05-17"],
        ),
        (
            Decimal,
            {"1.10": Decimal("1.10"), "-5": Decimal(-5), "1e2": Decimal(100)},
            ["", "nan", "Infinity", "sNaN", "1_0", "\u0661", " 1", "1e99999999999999999999"],
        ),
        (pydantic.RootModel[int], {"5": pydantic.RootModel[int](5)}, ["x"]),
    ],
)
def test_texts_are_read_as_the_type(type_: Any, good: dict[str, Any], bad: list[str]) -> None:
    for text, expected in good.items():
        value = convert(text, type_, lax=True)
        assert value == expected
        assert type(value) is type(expected)
    for text in bad:
        problem = refused(partial(convert, text, type_, lax=True))
        assert not problem.syntax
        assert problem.path == "$"


@pytest.mark.parametrize(
    ("text", "type_", "what"),
    [
        ("abc", int, "Expected `int`, got 'abc'"),
        ("", int, "Expected `int`, got ''"),
        ("x\x1b\u202e", int | None, "Expected `int | null`, got 'x\\x1b\\u202e'"),
        ("0", Annotated[int, msgspec.Meta(ge=1)], "Expected `int` >= 1, got '0'"),
        ("nan", Decimal, "Expected `decimal`, got 'nan'"),
        ("green", Color, "Expected one of 'red', 'blue', got 'green'"),
        ("x" * 200, uuid.UUID, f"Expected a UUID, got '{'x' * 80}…'"),
    ],
)
def test_the_refusal_of_a_text_says_what_was_expected_and_quotes_what_came(text: str, type_: Any, what: str) -> None:
    assert refused(lambda: convert(text, type_, lax=True)).what == what


def test_lists_of_texts_are_read_item_by_item() -> None:
    assert convert(["1", "2"], list[int], lax=True) == [1, 2]
    assert convert(["1", "1"], set[int], lax=True) == {1}
    assert convert(["1", "x"], tuple[int, str], lax=True) == (1, "x")
    assert convert(["1", "2"], tuple[int, ...] | None, lax=True) == (1, 2)
    problem = refused(lambda: convert(["1", "x"], list[int], lax=True))
    assert (problem.path, problem.what) == ("$[1]", "Expected `int`, got 'x'")
    assert refused(lambda: convert(["1", "2", "3"], tuple[int, int], lax=True)).what.startswith(
        "Expected `array` of length 2"
    )


@pytest.mark.parametrize("type_", [int, float, bool, Level, Literal[1], list[int]])
def test_without_lax_a_text_is_a_text(type_: Any) -> None:
    refused(lambda: convert("1", type_))
    refused(lambda: convert(["1"], type_))


@pytest.mark.parametrize(
    ("type_", "many"),
    [
        (list[int], True),
        (list, True),
        (tuple[int, int], True),
        (set[str] | None, True),
        (frozenset[str], True),
        (Annotated[list[int], msgspec.Meta(max_length=3)], True),
        (str, False),
        (bytes, False),
        (Any, False),
        (dict[str, int], False),
        (int | None, False),
    ],
)
def test_lists_tuples_and_sets_collect(type_: Any, many: bool) -> None:
    assert collects(type_) is many


# Rows and other results


@dataclasses.dataclass
class Todo:
    id: int
    title: str
    done: bool
    due: dt.datetime | None = None
    flag: bool | None = None
    number: int | bool = 0


def test_rows_of_scalars_become_classes() -> None:
    row = {"id": 1, "title": "1", "done": 0, "due": "2024-05-17 08:30:00", "flag": 1, "number": 1, "unknown": 7}
    expected = Todo(1, "1", False, dt.datetime(2024, 5, 17, 8, 30), True, 1)
    before = repr(row)
    todo = convert(row, Todo, lax=True)
    assert todo == expected
    assert todo.done is False
    assert todo.flag is True
    assert todo.number is not True
    assert repr(row) == before
    assert convert([row, row], list[Todo], lax=True) == [expected, expected]
    assert convert({"id": 1, "done": 1}, Row, lax=True) == {"id": 1, "done": True}
    assert convert({"name": "a", "ages": []}, Model, lax=True) == Model(name="a")
    assert convert({"x": {"id": 1, "title": "", "done": 1}}, dict[str, Todo], lax=True)["x"].done is True
    assert convert([1, 0], Pair, lax=True) == Pair(True, False)


@pytest.mark.parametrize("value", [2, -1, 1.0, b"1", None, "yes"])
def test_only_0_and_1_are_bools(value: object) -> None:
    problem = refused(lambda: convert({"id": 1, "title": "", "done": value}, Todo, lax=True))
    assert problem.path == "$.done"


@pytest.mark.parametrize("text", ["1.0", "nan", "x", ""])
def test_texts_in_rows_follow_the_same_rules_and_are_not_shown(text: str) -> None:
    problem = refused(lambda: convert({"id": text, "title": "", "done": 0}, Todo, lax=True))
    assert (problem.path, problem.what) == ("$.id", "Expected `int`, got `str`")


def test_without_lax_0_is_no_bool() -> None:
    refused(lambda: convert({"id": 1, "title": "", "done": 0}, Todo))


def test_recursive_types_are_read_at_every_depth() -> None:
    tree = convert({"value": "1", "kids": [{"value": "2", "kids": [{"value": "3"}]}]}, Tree, lax=True)
    assert tree == Tree(1, [Tree(2, [Tree(3)])])
    problem = refused(lambda: convert({"value": 1, "kids": [{"value": "x"}]}, Tree, lax=True))
    assert problem.path == "$.kids[0].value"


def test_what_nests_past_the_recursion_limit_is_refused() -> None:
    nested: dict[str, Any] = {"value": 1}
    for _ in range(5000):
        nested = {"value": 1, "kids": [nested]}
    assert refused(lambda: convert(nested, Tree)).what == "Nested too deeply"
    assert refused(lambda: convert(nested, Tree, lax=True)).what == "Nested too deeply"


@pytest.mark.parametrize("name", ["x - at `$\x1b", "x` - at `$\x1b", "` - at `key` in `$\x1b", "\x1b" * 500, "`"])
def test_the_name_of_an_unknown_field_cannot_put_control_characters_anywhere(name: str) -> None:
    problem = refused(lambda: decode_json(msgspec.json.encode({name: 1}), Strict))
    assert (problem.what + problem.path).isprintable()
    assert problem.what.startswith("Unknown field ")


def test_the_path_of_a_deep_fault_is_cut() -> None:
    data = b'{"value":1,"kids":[' * 60 + b'{"value":"x"}' + b"]}" * 60
    assert len(refused(lambda: decode_json(data, Tree)).path) <= 121


@pytest.mark.parametrize("value", [Item("a"), Model(name="a"), Opaque(), Cat(9), dt.date(2024, 5, 17), Level.LOW])
def test_what_already_is_of_the_type_is_passed(value: Any) -> None:
    assert convert(value, type(value)) is value
    assert convert([value], list[Any]) == [value]


def test_an_undecodable_type_is_the_apps_mistake_unless_the_value_is_one() -> None:
    values: list[object] = [{}, "x", Item("a")]
    for value in values:
        with pytest.raises(DefinitionError, match=r"test_codec\.Opaque cannot be decoded"):
            convert(value, Opaque, lax=True)
    with pytest.raises(DefinitionError, match="Iterable"):
        convert("x", Iterable[int], lax=True)
    with pytest.raises(DefinitionError, match="Shape"):
        convert(Opaque(), Shape)


# Properties

TYPES: list[Any] = [
    *(Any, int, float, bool, str, bytes, Decimal, uuid.UUID, dt.datetime, Color, Level, Order, Tree, Strict, Row, Pair),
    *(Model, StrictModel, Holder, list[Model | None], dict[int, float], set, set[int], tuple[int, str], Cat | Dog),
    *(Literal[1, "a", None], int | None, Annotated[str, msgspec.Meta(max_length=3)], msgspec.Raw, object),
]
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.sampled_from(["items", "value", "kids"]), below),
    max_leaves=9,
)
JSONISH = st.text('{}[]":,0123456789.eE-+truefalsn\\ud \x00é', max_size=60).map(str.encode)


def attempt(call: Callable[[], object]) -> Undecodable:
    """What the call refuses, or a blank where it does not."""
    try:
        call()
    except Undecodable as problem:
        return problem
    return Undecodable("")


@given(st.binary(max_size=60) | JSONISH, st.sampled_from(TYPES))
def test_any_bytes_decode_or_are_undecodable(data: bytes, type_: Any) -> None:
    problem = attempt(lambda: decode_json(data, type_))
    assert (problem.what + problem.path).isprintable()
    assert problem.path.startswith("$")


@given(PLAIN, st.sampled_from([type_ for type_ in TYPES if type_ is not msgspec.Raw]), st.booleans())
def test_any_plain_data_converts_or_is_undecodable(value: object, type_: Any, lax: bool) -> None:
    problem = attempt(lambda: convert(value, type_, lax))
    assert (problem.what + problem.path).isprintable()
    assert not problem.syntax


@given(PLAIN, st.sampled_from([Order, Tree, Row, Model, list[int], dict[str, float], set[int]]))
def test_lax_takes_whatever_strict_takes(value: Any, type_: Any) -> None:
    try:
        strict = convert(value, type_)
    except Undecodable:
        return
    assert repr(convert(value, type_, lax=True)) == repr(strict)


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.uuids(), st.datetimes())
def test_texts_of_values_are_read_back(i: int, f: float, b: bool, u: uuid.UUID, d: dt.datetime) -> None:
    assert convert(str(i), int, lax=True) == i
    assert math.isclose(convert(repr(f), float, lax=True), f)
    assert convert(str(b), bool, lax=True) is b
    assert convert(str(u), uuid.UUID, lax=True) == u
    assert convert(d.isoformat(), dt.datetime, lax=True) == d


@given(st.text())
def test_quoted_text_is_printable_and_short(text: str) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text[:80])) <= 2 + 80 * 10
    assert quoted("x" * 81) == repr("x" * 80 + "…")


@pytest.mark.parametrize("type_", [Any, Tree, Model], ids=str)
@pytest.mark.parametrize(
    "nasty", [b"[", b"[[],", b'{"a":', b'"', b'"\\u', b"9", b"-", b" ", b"\xff", b'[{"x":'], ids=str
)
def test_a_nasty_mebibyte_takes_well_below_a_second(nasty: bytes, type_: Any) -> None:
    data = (nasty * (1 << 20))[: 1 << 20]
    began = time.process_time()
    attempt(lambda: decode_json(data, type_))
    assert time.process_time() - began < 0.5


def test_undecodable_can_be_pickled_and_shown() -> None:
    problem = refused(lambda: decode_json(b'{"items":[1]}', Order))
    again = pickle.loads(pickle.dumps(problem))
    assert (again.what, again.path, again.syntax) == (problem.what, problem.path, problem.syntax)
    assert str(problem) == "Expected `object`, got `int` (at $.items[0])"


def test_checkers_know_the_type() -> None:
    assert_type(decode_json(b"1"), Any)
    assert_type(decode_json(b"1", int), int)
    assert_type(decode_json(b"[1]", list[int]), list[int])
    assert_type(convert("1", int, lax=True), int)
