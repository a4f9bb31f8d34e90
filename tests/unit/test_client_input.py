"""What clients send: what is read, what is refused with which status and key, and that no bytes do anything else."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, assert_type

import msgspec
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerver import client_input
from zerver.client_input import (
    BadInput,
    Form,
    Upload,
    idempotency_key,
    parse_form,
    parse_query,
    read_header,
    read_json,
    read_param,
    read_query,
)
from zerver.error import DefinitionError, Error, ErrorKind
from zerver.request import Request

JSON = "application/json"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=xYz"
ID = uuid.UUID("6f1c1d0a-8a3b-4c59-9d0e-2b6f4a1d7c33")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Item:
    title: str


@dataclasses.dataclass
class Order:
    items: list[Item]


class Model(pydantic.BaseModel):
    items: list[dict[str, int]]


def post(body: bytes = b"", content_type: str | None = JSON, **headers: str) -> Request:
    given = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value is not None]
    return Request("POST", "/", headers=tuple(pairs), body=body)


def refused(call: Callable[[], object]) -> Error:
    with pytest.raises(BadInput) as caught:
        call()
    return caught.value.error


def test_bad_input_is_not_caught_by_except_exception() -> None:
    assert not issubclass(BadInput, Exception)


# JSON


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json ; charset=utf8 ; x=y;",
        "application/vnd.api+json",
        "application/problem+json; charset=utf-8",
    ],
)
def test_json_is_read_by_its_content_type(content_type: str) -> None:
    assert read_json(post(b'{"a":1}', content_type)) == {"a": 1}


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/json+xml",
        "+json",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-8",
        "application/json, application/json",
        "application/json;;;=",
        'application/json; charset="utf-8',
        "application/x-www-form-urlencoded",
        "\x1b[31m",
        "",
    ],
)
def test_another_content_type_or_charset_is_415(content_type: str) -> None:
    error = refused(lambda: read_json(post(b"{}", content_type)))
    assert error.kind is ErrorKind.UNSUPPORTED_MEDIA_TYPE
    assert error.key == "header.content-type"
    assert "Send Content-Type: application/json" in error.what
    assert error.what.isprintable()


def test_a_body_without_content_type_is_415_and_says_what_to_send() -> None:
    error = refused(lambda: read_json(post(b"{}", None)))
    assert error == Error(
        ErrorKind.UNSUPPORTED_MEDIA_TYPE, "Send Content-Type: application/json", "header.content-type"
    )


def test_two_content_types_are_415() -> None:
    request = Request("POST", "/", headers=((b"content-type", b"application/json"),) * 2, body=b"{}")
    assert refused(lambda: read_json(request)).kind is ErrorKind.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", None])
def test_an_empty_body_is_400(content_type: str | None) -> None:
    error = refused(lambda: read_json(post(b"", content_type)))
    assert (error.kind, error.what, error.key) == (ErrorKind.INVALID_INPUT, "The body is empty: expected JSON", "$")


def test_broken_json_is_400_with_the_byte() -> None:
    error = refused(lambda: read_json(post(b'{"a":}'), Order))
    assert error == Error(ErrorKind.INVALID_INPUT, "JSON is malformed: invalid character (byte 5)", "$")


@pytest.mark.parametrize("type_", [Order, Model])
def test_json_of_the_wrong_shape_is_422_with_the_path(type_: Any) -> None:
    error = refused(lambda: read_json(post(b'{"items":[{"title":1},{"title":"x"},7]}'), type_))
    assert error.kind is ErrorKind.UNPROCESSABLE
    assert error.key in ("$.items[0].title", "$.items[1].title")


def test_a_compressed_body_is_415() -> None:
    error = refused(lambda: read_json(post(b"\x1f\x8b\x08", content_encoding="gzip")))
    assert (error.kind, error.key) == (ErrorKind.UNSUPPORTED_MEDIA_TYPE, "header.content-encoding")
    form = post(b"\x1f\x8b\x08", URLENCODED, content_encoding="gzip")
    assert refused(lambda: parse_form(form)).kind is ErrorKind.UNSUPPORTED_MEDIA_TYPE
    assert parse_form(post(b"a=1", URLENCODED, content_encoding="identity")) == {"a": "1"}


def test_a_type_that_nothing_can_decode_is_the_apps_mistake() -> None:
    reads: list[Callable[[], object]] = [
        lambda: read_json(post(b"{}"), complex),
        lambda: read_query({"a": ["1"]}, "a", complex),
        lambda: read_header(post(), "content-type", complex),
        lambda: read_param({"a": "1"}, "a", complex),
        lambda: Form({"a": ["1"]}).read("a", complex),
    ]
    for read in reads:
        with pytest.raises(DefinitionError, match="complex cannot be decoded"):
            read()


# Path parameters


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [
        ("x", str, "x"),
        (7, int, 7),
        (7, str, "7"),
        (7, float, 7.0),
        (7, Color | int, 7),
        ("7", int, 7),
        (1.5, float, 1.5),
        (ID, uuid.UUID, ID),
        (str(ID), uuid.UUID, ID),
        (ID, str, str(ID)),
        ("red", Color, Color.RED),
        ("2024-05-17", dt.date, dt.date(2024, 5, 17)),
        (7, Annotated[int, msgspec.Meta(ge=1)], 7),
        (7, Any, 7),
        (7, object, 7),
    ],
)
def test_path_parameters_are_passed_or_read(value: object, type_: Any, expected: object) -> None:
    got = read_param({"id": value}, "id", type_)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("value", "type_"),
    [("x", int), ("1.0", int), (7, Color), (7, uuid.UUID), (0, Annotated[int, msgspec.Meta(ge=1)]), (1.5, int)],
)
def test_a_path_parameter_of_the_wrong_type_is_422(value: object, type_: Any) -> None:
    error = refused(lambda: read_param({"id": value}, "id", type_))
    assert (error.kind, error.key) == (ErrorKind.UNPROCESSABLE, "path.id")
    assert error.what.startswith("The path parameter 'id': Expected ")


def test_a_path_parameter_that_the_route_does_not_have_is_the_apps_mistake() -> None:
    with pytest.raises(DefinitionError, match=r"path parameter 'id'.*it has \{name\}, \{slug\}\); add \{id\}"):
        read_param({"name": "x", "slug": 1}, "id")
    with pytest.raises(DefinitionError, match="it has none"):
        read_param({}, "id", int)


# Queries


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (b"", {}),
        (b"a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        (b"a", {"a": [""]}),
        (b"a=", {"a": [""]}),
        (b"=a", {"": ["a"]}),
        (b"&&a=1&&", {"a": ["1"]}),
        (b"a=b=c", {"a": ["b=c"]}),
        (b"a+b=c+d", {"a b": ["c d"]}),
        (b"%61%3D=%26%2B%20", {"a=": ["&+ "]}),
        (b"a=%C3%A9%e2%82%ac", {"a": ["é€"]}),
        ("a=é".encode(), {"a": ["é"]}),
        (b"a=100%&b=%4&c=%zz&d=%%41", {"a": ["100%"], "b": ["%4"], "c": ["%zz"], "d": ["%A"]}),
        (b"a=1;b=2", {"a": ["1;b=2"]}),
        (b"a=%2541", {"a": ["%41"]}),
        (b"a=%00", {"a": ["\0"]}),
    ],
)
def test_queries_are_parsed_as_browsers_write_them(query: bytes, fields: Mapping[str, list[str]]) -> None:
    assert parse_query(query) == fields
    assert parse_form(post(query, URLENCODED)) == {name: values[0] for name, values in fields.items()}


@pytest.mark.parametrize("query", [b"a=%ff", b"%ff=a", b"a=\xff", b"a=%ed%a0%80", b"a=%c3", b"a=%c3&b=%a9"])
def test_what_is_no_utf8_is_400(query: bytes) -> None:
    assert refused(lambda: parse_query(query)) == Error(
        ErrorKind.INVALID_INPUT, "The query is not percent-encoded UTF-8", "query"
    )
    assert refused(lambda: parse_form(post(query, URLENCODED))).key == "form"


def test_more_than_1000_fields_are_400() -> None:
    assert len(parse_query(b"&".join(b"a%d=" % n for n in range(1000)))) == 1000
    error = refused(lambda: parse_query(b"&".join([b"a="] * 1001)))
    assert error == Error(ErrorKind.INVALID_INPUT, "The query has more than 1000 fields", "query")
    assert refused(lambda: parse_form(post(b"a&" * 1001, URLENCODED))).what == "The form has more than 1000 fields"


def sources(fields: dict[str, list[str]]) -> list[tuple[str, Callable[..., Any]]]:
    return [
        ("query", lambda *args, **kwargs: read_query(fields, *args, **kwargs)),
        ("form", Form(fields).read),
    ]


FIELDS = {"limit": ["10"], "ids": ["1", "2", "2"], "text": [""], "on": ["TRUE"], "color": ["red"], "bad": ["1", "x"]}


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("limit", str, "10"),
        ("limit", int, 10),
        ("limit", int | None, 10),
        ("limit", float, 10.0),
        ("limit", list[int], [10]),
        ("limit", Literal[10, 20], 10),
        ("text", str, ""),
        ("on", bool, True),
        ("color", Color, Color.RED),
        ("ids", list[int], [1, 2, 2]),
        ("ids", list, ["1", "2", "2"]),
        ("ids", tuple[int, ...], (1, 2, 2)),
        ("ids", tuple[int, str, float], (1, "2", 2.0)),
        ("ids", set[int], {1, 2}),
        ("ids", frozenset[str], frozenset({"1", "2"})),
        ("ids", list[int] | None, [1, 2, 2]),
    ],
)
def test_fields_are_read_as_the_type(name: str, type_: Any, expected: object) -> None:
    for _, read in sources(FIELDS):
        got = read(name, type_)
        assert got == expected
        assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("name", "type_", "what"),
    [
        ("none", str, "'none' is missing"),
        ("none", int | None, "'none' is missing"),
        ("none", list[int], "'none' is missing"),
        ("ids", str, "'ids' is given 3 times: expected one"),
        ("ids", int, "'ids' is given 3 times: expected one"),
        ("text", int, "'text': Expected `int`, got ''"),
        ("color", bool, "'color': Expected `bool`, got 'red'"),
        ("color", Literal["a", "b"], "'color': Expected one of 'a', 'b', got 'red'"),
        ("bad", list[int], "'bad': Expected `int`, got 'x'"),
        ("ids", Annotated[list[int], msgspec.Meta(max_length=2)], "'ids': Expected `array` of length <= 2"),
        ("ids", tuple[int, int], "'ids': Expected `array` of length 2"),
    ],
)
def test_fields_that_are_missing_repeated_or_wrong_are_422(name: str, type_: Any, what: str) -> None:
    for place, read in sources(FIELDS):
        error = refused(partial(read, name, type_))
        assert (error.kind, error.key) == (ErrorKind.UNPROCESSABLE, f"{place}.{name}")
        assert what in error.what


def test_defaults_stand_in_for_missing_fields_only() -> None:
    for _, read in sources({"limit": ["x"]}):
        marker = object()
        assert read("none", default=marker) is marker
        assert read("none", int, None) is None
        assert read("none", list[int], ()) == ()
        assert refused(partial(read, "limit", int, 5)).kind is ErrorKind.UNPROCESSABLE


# Headers


def test_headers_are_read_by_name_in_any_case() -> None:
    request = post(if_match='"a"', x_count="5", accept="a, b ,,c", x_name="é\x7f")
    assert read_header(request, "If-Match") == '"a"'
    assert read_header(request, "X-COUNT", int) == 5
    assert read_header(request, "Accept", list[str]) == ["a", "b", "c"]
    assert read_header(request, "x-name") == "é\x7f"
    assert read_header(request, "x-none", default=None) is None
    assert read_header(request, "x-none", int, 7) == 7


def test_a_secret_is_not_repeated_in_what_is_wrong_with_it() -> None:
    assert refused(lambda: read_header(post(x_api_key="s455"), "X-Api-Key", int)) == Error(
        ErrorKind.UNPROCESSABLE, "The header 'x-api-key': Expected `int`", "header.x-api-key"
    )
    assert refused(lambda: read_query({"token": ["s455"]}, "token", Literal["a"])).what == (
        "The query parameter 'token': Expected one of 'a'"
    )


def test_repeated_headers_are_one_list() -> None:
    request = Request("GET", "/", headers=((b"x-a", b"1"), (b"x-b", b"9"), (b"x-a", b"2")))
    assert read_header(request, "X-A") == "1, 2"
    assert read_header(request, "X-A", list[int]) == [1, 2]
    assert refused(lambda: read_header(request, "X-A", int)).kind is ErrorKind.UNPROCESSABLE


def test_a_missing_or_wrong_header_is_422() -> None:
    error = refused(lambda: read_header(post(), "If-Match"))
    assert error == Error(ErrorKind.UNPROCESSABLE, "The header 'if-match' is missing", "header.if-match")
    error = refused(lambda: read_header(post(x_count="\x1b5"), "X-Count", int))
    assert error.what == "The header 'x-count': Expected `int`, got '\\x1b5'"
    assert error.key == "header.x-count"


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc-123", "abc-123"),
        ('"abc-123"', "abc-123"),
        (r'"a\"b\\c"', r"a\bc".replace("\\b", '"b\\')),
        ('a"b\\', 'a"b\\'),
        ("x" * 255, "x" * 255),
        ('"' + "x" * 255 + '"', "x" * 255),
    ],
)
def test_idempotency_keys_are_read_bare_and_quoted(header: str, key: str) -> None:
    assert idempotency_key(post(idempotency_key=header)) == key


BAD_KEYS = ["", '""', '"', '"a', 'a" "', '"a"b"', '"a"; x=1', '"a\\x"', "a b", '"a b"', "é", "a\x7f", "a\tb", "a, b"]


@pytest.mark.parametrize("header", [*BAD_KEYS, "x" * 256, '"' + "x" * 256 + '"'])
def test_a_bad_idempotency_key_is_400(header: str) -> None:
    error = refused(lambda: idempotency_key(post(idempotency_key=header)))
    assert (error.kind, error.key) == (ErrorKind.INVALID_INPUT, "header.idempotency-key")
    assert error.what.startswith("Idempotency-Key: expected 1 to 255 visible ASCII characters, got ")
    assert error.what.isprintable()


def test_several_idempotency_keys_are_400() -> None:
    request = Request("POST", "/", headers=((b"idempotency-key", b"a"), (b"idempotency-key", b"a")))
    assert refused(lambda: idempotency_key(request)).kind is ErrorKind.INVALID_INPUT


def test_a_missing_idempotency_key_is_none() -> None:
    assert idempotency_key(post()) is None


# Forms


def multipart(*parts: str | tuple[str, bytes]) -> bytes:
    """A body out of (headers, content) pairs; a text alone is the name of a field of content ``x``."""
    body = b""
    for part in parts:
        head, content = part if isinstance(part, tuple) else (f'Content-Disposition: form-data; name="{part}"', b"x")
        body += b"--xYz\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--xYz--\r\n"


BODY = multipart(
    ('Content-Disposition: form-data; name="a"', b"1"),
    ('content-disposition: FORM-DATA; NAME=a\r\nContent-Type: text/plain; charset="utf-8"', "é\r\n--xY\n".encode()),
    (
        'Content-Disposition: form-data; name="f"; filename="C:\\dir\\ü;.png"\r\nContent-Type: image/png',
        b"\x89\x00\xff",
    ),
    ('Content-Disposition: form-data; filename=""; name="f"', b""),
    ('X-Other: 1\r\nContent-Disposition: form-data; name="q\\"\\\\"', b""),
)


def test_multipart_forms_are_read() -> None:
    form = parse_form(post(BODY, MULTIPART))
    assert dict(form) == {"a": "1", 'q"\\': ""}
    assert form.getlist("a") == ["1", "é\r\n--xY\n"]
    assert form.filelist("f") == [
        Upload("C:\\dir\\ü;.png", "image/png", b"\x89\x00\xff"),
        Upload("", "text/plain", b""),
    ]
    assert dict(form.files) == {"f": form.filelist("f")[0]}
    assert form.read("a", list[str]) == ["1", "é\r\n--xY\n"]
    assert refused(lambda: form.read("f")).key == "form.f"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (MULTIPART, multipart()),
        (MULTIPART, b"\r\n" + multipart() + b"an epilogue"),
        (URLENCODED, b""),
        (URLENCODED + "; charset=UTF-8", b""),
    ],
)
def test_a_form_may_be_empty(content_type: str, body: bytes) -> None:
    form = parse_form(post(body, content_type))
    assert len(form) == 0
    assert dict(form.files) == {}
    assert form.getlist("a") == []
    assert form.filelist("a") == []


def test_a_form_is_an_immutable_mapping_of_first_values() -> None:
    form = parse_form(post(b"a=1&b=2&a=3", URLENCODED))
    assert form == {"a": "1", "b": "2"}
    assert list(form) == ["a", "b"]
    assert form.get("c") is None
    with pytest.raises(TypeError):
        form["a"] = "2"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    with pytest.raises(TypeError):
        form.files["a"] = Upload("", "", b"")  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    form.getlist("a").append("4")
    assert form.getlist("a") == ["1", "3"]
    with pytest.raises(AttributeError):
        Upload("", "", b"").filename = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert repr(form) == "<Form of 2 fields and 0 files>"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        JSON,
        "multipart/mixed; boundary=xYz",
        "multipart/form-data; boundary",
        URLENCODED + "; charset=latin-1",
    ],
)
def test_another_content_type_of_a_form_is_415(content_type: str | None) -> None:
    error = refused(lambda: parse_form(post(multipart("a"), content_type)))
    assert (error.kind, error.key) == (ErrorKind.UNSUPPORTED_MEDIA_TYPE, "header.content-type")
    assert "application/x-www-form-urlencoded or multipart/form-data" in error.what


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "ends before its last boundary"),
        (b"a=1", "is malformed (byte 0)"),
        (multipart("a")[:-4], "ends before its last boundary"),
        (multipart("a").replace(b"\r\n", b"\n"), "is malformed"),
        (multipart("a").replace(b"xYz", b"xyz"), "is malformed"),
        (multipart(("", b"x")), "Part 1 of the form: expected Content-Disposition"),
        (multipart("a", ("X: y", b"x")), 'Part 2 of the form: expected Content-Disposition: form-data; name="..."'),
        (multipart(("Content-Disposition: form-data", b"x")), "expected Content-Disposition"),
        (multipart(("Content-Disposition: attachment; name=a", b"x")), "expected Content-Disposition"),
        (multipart(('Content-Disposition: form-data; name="a', b"x")), "expected Content-Disposition"),
        (multipart(("Content-Disposition: form-data; name=a; name=b", b"x")), "expected Content-Disposition"),
        (multipart(("Content-Disposition: form-data; name=a\r\n" * 2 + "X: y", b"x")), "has a header twice"),
        (multipart(("Bad Header: x", b"x")), "is malformed"),
        (multipart(("Content-Disposition: form-data; name=a; filename*=utf-8''x", b"")), "has filename*"),
        (multipart("a").replace(b'"a"', b'"\xff"'), "has a Content-Disposition that is not in UTF-8"),
        (multipart(('Content-Disposition: form-data; name="a"', b"\xff")), "The form field 'a' is not in UTF-8"),
        (multipart(*["a"] * 1001), "The form has more than 1000 fields"),
    ],
)
def test_a_broken_multipart_form_is_400(body: bytes, what: str) -> None:
    error = refused(lambda: parse_form(post(body, MULTIPART)))
    assert (error.kind, error.key) == (ErrorKind.INVALID_INPUT, "form")
    assert what in error.what


@pytest.mark.parametrize("boundary", ["", '; boundary=""', f"; boundary={'x' * 71}", '; boundary="é"'])
def test_a_multipart_form_needs_a_boundary(boundary: str) -> None:
    error = refused(lambda: parse_form(post(multipart("a"), "multipart/form-data" + boundary)))
    assert error == Error(
        ErrorKind.INVALID_INPUT, "Content-Type: expected a boundary of 1 to 70 ASCII characters", "form"
    )


def test_1000_parts_are_read() -> None:
    assert len(parse_form(post(multipart(*["a"] * 1000), MULTIPART)).getlist("a")) == 1000


def test_broken_forms_write_nothing_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        refused(lambda: parse_form(post(b"--xyz\r\n", MULTIPART)))
        refused(lambda: parse_form(post(b"--xYz\r\nBad Header: x\r\n", MULTIPART)))
    assert caplog.records == []


# Properties


def attempt(call: Callable[[], object]) -> Error | None:
    """The refusal, which is a 4xx; anything but that and a value is raised."""
    try:
        call()
    except BadInput as problem:
        return problem.error
    return None


def check(error: Error | None) -> None:
    if error is not None:
        assert error.kind in (ErrorKind.INVALID_INPUT, ErrorKind.UNSUPPORTED_MEDIA_TYPE, ErrorKind.UNPROCESSABLE)
        assert error.what.isprintable()
        assert error.key is not None
        assert error.key.isprintable()


PIECES = [
    b"--xYz",
    b"--xYz--",
    b"\r\n",
    b"\r",
    b"\n",
    b"Content-Disposition: form-data; name=a",
    b"a: b",
    b"-",
    b"%",
    b"&",
]
PIECES += [
    b'"',
    b"\\",
    b"; filename=b",
    b"=",
    b"%41",
    b"+",
    b"{",
    b"}",
    b"[",
    b"1",
    b":",
    b",",
    b"\xff",
    b"\x00",
    b"null",
]
BODIES = st.binary(max_size=80) | st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)
OPTIONS = st.lists(
    st.sampled_from([";", " ", "boundary", "charset", "=", '"', "\\", "xYz", "utf-8", "/", "+json", ","]), max_size=12
).map("".join)
TYPES = st.none() | st.sampled_from([JSON, URLENCODED, MULTIPART])
HEADERS = st.text(st.characters(max_codepoint=255), max_size=40)
ALL_TYPES: list[Any] = [
    str,
    int,
    float,
    bool,
    Color,
    uuid.UUID,
    dt.datetime,
    list[int],
    set[str],
    int | None,
    Any,
    Model,
]


@given(BODIES, TYPES | OPTIONS | HEADERS | OPTIONS.map("multipart/form-data".__add__))
@example(BODY, MULTIPART)
def test_any_body_with_any_content_type_gives_a_value_or_a_4xx(body: bytes, content_type: str | None) -> None:
    request = post(body, content_type)
    for call in (
        lambda: read_json(request),
        lambda: read_json(request, Order),
        lambda: read_json(request, Model),
        lambda: parse_form(request),
        lambda: read_header(request, "content-type", list[int], None),
    ):
        check(attempt(call))


@given(st.integers(0, len(BODY)), st.binary(max_size=3), st.integers(0, 20))
def test_any_damage_to_a_multipart_form_gives_a_value_or_a_4xx(at: int, put: bytes, drop: int) -> None:
    check(attempt(lambda: parse_form(post(BODY[:at] + put + BODY[at + drop :], MULTIPART))))


@given(BODIES, st.sampled_from(ALL_TYPES))
def test_any_query_gives_values_or_a_4xx(query: bytes, type_: Any) -> None:
    fields: dict[str, list[str]] = {}
    check(attempt(lambda: fields.update(parse_query(query))))
    for name in [*fields, "none"]:
        check(attempt(partial(read_query, fields, name, type_)))


@given(HEADERS, st.sampled_from(ALL_TYPES))
def test_any_header_gives_a_value_or_a_4xx(value: str, type_: Any) -> None:
    request = post(x=value, idempotency_key=value)
    check(attempt(lambda: read_header(request, "x", type_)))
    check(attempt(lambda: read_param({"x": value}, "x", type_)))
    check(attempt(lambda: idempotency_key(request)))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(st.characters(exclude_categories=["Cs"])))
def test_percent_encoding_reads_back(name: str, value: str) -> None:
    def encode(text: str) -> bytes:
        return b"".join(b"%%%02X" % byte for byte in text.encode())

    assert parse_query(encode(name) + b"=" + encode(value)) == {name: [value]}


@given(st.binary(), st.text('\t !"%;=\\abcé€', max_size=9))
def test_files_read_back(content: bytes, filename: str) -> None:
    quoted = filename.replace("\\", "\\\\").replace('"', '\\"')
    body = multipart((f'Content-Disposition: form-data; name="f"; filename="{quoted}"', content))
    if b"\r\n--xYz" in b"\r\n" + content:
        return
    assert parse_form(post(body, MULTIPART)).files["f"] == Upload(filename, "text/plain", content)


PART = b"--xYz\r\nContent-Disposition: form-data; name=a\r\n\r\n"
NASTY: list[tuple[Callable[[bytes], object], list[bytes]]] = [
    (lambda data: read_json(post(data)), [b"["]),
    (parse_query, [b"&", b"%", b"%41", b"%ff", b"+", b"="]),
    (lambda data: parse_form(post(data, URLENCODED)), [b"&", b"%"]),
    (lambda data: parse_form(post(data, MULTIPART)), [b"-", b"\r\n", b"\r\n-", PART, PART + b"\r\n"]),
    (
        lambda data: parse_form(post(PART + data, MULTIPART)),
        [b"-", b"\r\n--xY", b"\r\n--xYz-", b"\r\n--xYz ", b"\r"],
    ),
    (lambda data: parse_form(post(b"--xYz\r\n" + data, MULTIPART)), [b"a", b":", b"a:b\r\n", b"a: "]),
    (lambda data: parse_form(post(b"", MULTIPART + data.decode("latin-1"))), [b"; ", b'"', b';a="\\', b" "]),
    (lambda data: idempotency_key(post(idempotency_key='"' + data.decode("latin-1"))), [b"\\", b"a"]),
    (lambda data: read_header(post(x=data.decode("latin-1")), "x", float), [b"1", b"1.", b"1e"]),
    (lambda data: read_header(post(x=data.decode("latin-1")), "x", set[int]), [b","]),
]


@pytest.mark.parametrize(("call", "nasty"), [(call, nasty) for call, those in NASTY for nasty in those])
def test_a_nasty_mebibyte_takes_well_below_a_second(call: Callable[[bytes], object], nasty: bytes) -> None:
    data = (nasty * (1 << 20))[: 1 << 20]
    began = time.process_time()
    check(attempt(lambda: call(data)))
    assert time.process_time() - began < 0.7


def test_messages_hold_little_of_what_was_sent() -> None:
    long = "x" * 10_000
    errors = [
        refused(lambda: read_json(post(b"{}", long))),
        refused(lambda: read_json(post(b"{}", content_type="text/plain", content_encoding=long))),
        refused(lambda: read_query({"a": [long]}, "a", int)),
        refused(lambda: read_header(post(x=long), "x", Color)),
        refused(lambda: idempotency_key(post(idempotency_key=long))),
        refused(lambda: read_param({"a": long}, "a", uuid.UUID)),
        refused(
            lambda: parse_form(post(multipart((f"Content-Disposition: form-data; name={long}", b"\xff")), MULTIPART))
        ),
    ]
    errors.append(refused(lambda: read_query({}, long)))
    for error in errors:
        assert f"{error.what} {error.key}".count("x") <= 2 * 90
        assert error.what.count("x") <= 90


def test_checkers_know_the_types() -> None:
    fields = {"limit": ["1"]}
    assert_type(read_query(fields, "limit"), str)
    assert_type(read_query(fields, "limit", int), int)
    assert_type(read_query(fields, "limit", int, default=None), int | None)
    assert_type(read_query(fields, "limit", int, 5), int)
    assert_type(read_query(fields, "limit", default=None), str | None)
    assert_type(read_query(fields, "limit", list[int]), list[int])
    assert_type(read_header(post(), "content-type"), str)
    assert_type(read_header(post(x="1"), "x", int, default=None), int | None)
    assert_type(read_param({"id": 1}, "id", int), int)
    assert_type(read_param({"id": 1}, "id"), str)
    assert_type(read_json(post(b"[]"), list[int]), list[int])
    assert_type(read_json(post(b"[]")), Any)
    assert_type(Form(fields).read("limit", int), int)
    assert_type(Form(fields).read("limit", int, default=None), int | None)
    assert_type(Form(fields)["limit"], str)


def test_the_default_of_a_required_value_has_a_name() -> None:
    assert repr(client_input.MISSING) == "MISSING"
