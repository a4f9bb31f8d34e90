"""Responses: every header and status that may not be sent is refused, and JSON of everything that has a form."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import uuid
from http import HTTPStatus
from typing import Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver import DefinitionError, Done, Response
from zerver.response import FileBody, StreamBody, encode_json, file_body, location, response

# --- Status


@pytest.mark.parametrize("status", [200, 201, 299, 304, 404, 418, 500, 599, HTTPStatus.IM_A_TEAPOT])
def test_any_final_status_may_be_sent(status: int) -> None:
    assert response(status=status).status == status


@pytest.mark.parametrize("status", [100, 101, 199, 600, 999, 0, -1, 10**9, "200", 200.0, None, True, b"200"])
def test_other_statuses_are_refused(status: Any) -> None:
    for make in (lambda: response(status=status), lambda: Response(status)):
        with pytest.raises(DefinitionError, match="a response's status is a number from 200 to 599"):
            make()


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("body", [b"x", StreamBody([]), FileBody("/x")], ids=["bytes", "stream", "file"])
def test_a_status_without_a_body_takes_none(status: int, body: Any) -> None:
    for make in (lambda: response(body, status=status), lambda: Response(status, (), body)):
        with pytest.raises(DefinitionError, match=f"status {status} has no body"):
            make()
    assert response(b"", status=status).body == b""


# --- Headers


def refused(name: Any, value: Any) -> str:
    """Why a header is refused, the same by every way of making a response."""
    messages = set()
    for make in (
        lambda: response(headers={name: value}),
        lambda: response(headers=[(name, value)]),
        lambda: response(b"x", content_type="text/plain", headers=[("x-fine", "fine"), (name, value)]),
        lambda: Response(200, ((name, value),)),
    ):
        with pytest.raises(DefinitionError) as caught:
            make()
        messages.add(str(caught.value))
    (message,) = messages
    return message


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a:",
        ":a",
        "a\r\nb",
        "a\n",
        "a\0",
        "ä",
        "a(b)",
        "a,b",
        "a/b",
        "a;b",
        "a=b",
        'a"',
        "a\tb",
        "{a}",
        "\x7f",
    ],
)
def test_a_header_name_is_a_token(name: str) -> None:
    assert f"header name {name!r}" in refused(name, "x")


@pytest.mark.parametrize("name", [None, 1, b"name"])
def test_a_header_name_is_text(name: Any) -> None:
    assert "header name" in refused(name, "x")


@pytest.mark.parametrize("value", ["a\r\nb", "\r", "\n", "\0", "a\0", "ä\n", "x\r", "\nx"])
def test_a_header_value_has_no_cr_lf_or_nul(value: str) -> None:
    assert "header x: its value holds CR, LF or NUL" in refused("x", value)


@pytest.mark.parametrize("value", [None, 1, b"bytes", 1.5, ["a"]])
def test_a_header_value_is_text(value: Any) -> None:
    message = refused("x", value)
    assert f"header x: its value is {type(value).__name__}, not text" in message
    assert "str()" in message


def test_a_header_value_is_latin_1() -> None:
    assert response(headers={"x": "h\u00e4h"}).headers == (("x", "h\u00e4h"),)
    assert "header x: its value is not latin-1" in refused("x", "\u20ac")
    assert "RFC 8187" in refused("x", "\ud800")


@pytest.mark.parametrize(
    "name", ["Connection", "content-length", "Keep-Alive", "Transfer-Encoding", "UPGRADE", "Trailer"]
)
def test_headers_that_frame_the_message_are_the_engines_own(name: str) -> None:
    assert f"header {name}: the engine sets it itself; leave it out" in refused(name, "x")


def test_names_become_lower_case_and_values_lose_the_blanks_around_them() -> None:
    for made in (response(headers={"X-A": " \tb c\t "}), Response(200, (("X-A", " \tb c\t "),))):
        assert made.headers == (("x-a", "b c"),)


def test_the_content_type_is_checked_too() -> None:
    with pytest.raises(DefinitionError, match="header content-type: its value holds CR, LF or NUL"):
        response(content_type="text/html\r\nset-cookie: a=1")
    with pytest.raises(DefinitionError, match="header content-type"):
        Done.bytes(b"", content_type="x\n")


@given(st.text(), st.text())
def test_no_cr_lf_or_nul_ever_passes(name: str, value: str) -> None:
    made = []
    for make in (
        lambda: response(headers=[(name, value)]),
        lambda: response(content_type=value),
        lambda: Response(200, ((name, value),)),
        lambda: Done.json(1, headers={name: value}).response,
        lambda: Done.redirect(value, headers={name: "x"}).response,
    ):
        try:
            made.append(make())
        except (DefinitionError, UnicodeEncodeError):  # quote() refuses lone surrogates
            continue
    for one in made:
        for line in one.headers:
            for text in line:
                assert not {"\r", "\n", "\0"} & set(text)
                text.encode("latin-1")
            assert line[0] == line[0].lower()


@given(st.text())
def test_a_location_is_printable_ascii_whatever_the_url(url: str) -> None:
    try:
        made = location(url)
    except UnicodeEncodeError:
        return
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made


def test_a_location_keeps_what_is_reserved_or_encoded() -> None:
    url = "https://user@[::1]:80/a/%20b?c=d&e=f;g,h=(i)*'!$+~#j"
    assert location(url) == url


# --- Responses


def test_a_response_is_200_without_headers_and_body_if_nothing_else_is_said() -> None:
    assert response() == Response() == Response(200, (), b"")


def test_responses_are_frozen_and_compare_by_value() -> None:
    made: Any = Response(200, (("a", "b"),), b"c")
    assert made == Response(200, (("a", "b"),), b"c")
    with pytest.raises(AttributeError):
        made.status = 500


@pytest.mark.parametrize("body", ["text", None, bytearray(b"x"), [b"x"], 3], ids=lambda body: type(body).__name__)
def test_a_body_is_bytes(body: Any) -> None:
    with pytest.raises(DefinitionError, match=f"body: {type(body).__name__} is not bytes"):
        Response(200, (), body)


def test_file_bodies_take_any_path() -> None:
    assert file_body(pathlib.PurePosixPath("/a/b"), None) == FileBody("/a/b")


# --- JSON


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    x: int


class Struct(msgspec.Struct):
    name: str
    inner: Point | None = None


class Renamed(msgspec.Struct, rename="camel", tag="kind"):
    first_name: str


class Model(pydantic.BaseModel):
    when: datetime.date
    tags: set[str] = set()


class Pair(NamedTuple):
    a: int
    b: str


class Typed(TypedDict):
    a: int


DAY = datetime.date(2030, 1, 2)
UUID = uuid.UUID(int=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (0, "0"), (-1.5, "-1.5"), ("ä\n", '"ä\\n"'), ([1, [2]], "[1,[2]]"),
        ((1, 2), "[1,2]"), ({"a": {}}, '{"a":{}}'), ({1: 2}, '{"1":2}'), (float("nan"), "null"),
        (2**63, "9223372036854775808"),
        (Point(1), '{"x":1,"y":0.5}'), (Slotted(1), '{"x":1}'),
        (Struct("a", Point(1)), '{"name":"a","inner":{"x":1,"y":0.5}}'),
        (Renamed("zoe"), '{"type":"kind","firstName":"zoe"}'),
        (Model(when=DAY), '{"when":"2030-01-02","tags":[]}'),
        (Pair(1, "x"), '[1,"x"]'), (Typed(a=1), '{"a":1}'),
        (datetime.datetime(2030, 1, 2, 3, 4, 5, 6, datetime.UTC), '"2030-01-02T03:04:05.000006+00:00"'),
        (DAY, '"2030-01-02"'), (datetime.time(1, 2, 3), '"01:02:03"'),
        (datetime.timedelta(seconds=1), '"PT1S"'),
        (UUID, '"00000000-0000-0000-0000-000000000001"'), ({UUID: 1}, '{"00000000-0000-0000-0000-000000000001":1}'),
        (decimal.Decimal("1.10"), '"1.10"'), (Colour.RED, '"red"'), (Level.LOW, "1"), ({Colour.RED: 1}, '{"red":1}'),
        ({1}, "[1]"), (frozenset({"a"}), '["a"]'), (b"\0\1", '"AAE="'),
        ([Slotted(1), Model(when=DAY)], '[{"x":1},{"when":"2030-01-02","tags":[]}]'),
        ({1: Struct("a", Point(2))}, '{"1":{"name":"a","inner":{"x":2,"y":0.5}}}'),
        ({"deep": [{"point": Point(1), "set": {1}}]}, '{"deep":[{"point":{"x":1,"y":0.5},"set":[1]}]}'),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_json_of_every_supported_type(value: Any, text: str) -> None:
    assert encode_json(value).decode() == text


@pytest.mark.parametrize("value", [object(), lambda: 1, {"a": {1: object()}}, {(1, 2): 3}, "\ud800", 1j, type])
def test_what_has_no_json_form_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        encode_json(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_json_is_read_back_as_it_was(value: Any) -> None:
    assert json.loads(encode_json(value)) == value
