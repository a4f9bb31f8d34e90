"""Values and recordings as bytes and as files: they come back as they were, or are refused."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver.effects.http import HttpResult
from zerver.effects.sql import SqlRows
from zerver.replay.recording_file import read_recording, write_recording
from zerver.trace.events import EventKind
from zerver.trace.record import (
    VERSION,
    EffectNote,
    ErrorNote,
    EventNote,
    GivenNote,
    NeedNote,
    RecordError,
    RequestNote,
    ResponseNote,
    ResultNote,
    StepNote,
    TraceRecord,
    encode,
)
from zerver.trace.values import UNENCODABLE, Snapshot, comes_back, pack, snapshot, unpack

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5)
    | st.decimals(allow_nan=False) | st.uuids() | st.datetimes() | st.dates() | st.times() | st.timedeltas()
)  # fmt: skip
KEYS = st.text(max_size=3) | st.integers(-5, 5) | st.uuids()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=3)
        | st.sets(KEYS, max_size=3) | st.frozensets(KEYS, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert comes_back(pack(value), None, value)


@given(st.lists(st.tuples(SCALARS, SCALARS), max_size=3))
def test_rows_come_back_as_they_were(rows: list[tuple[Any, Any]]) -> None:
    value = SqlRows(("a", "b"), rows, 1, None)
    assert unpack(pack(value), SqlRows) == value
    assert unpack(pack([value]), list[SqlRows]) == [value]


class Point(msgspec.Struct):
    x: int


def test_what_has_a_type_comes_back_by_it() -> None:
    assert unpack(pack(Point(1)), Point) == Point(1)
    assert not comes_back(pack(Point(1)), None, Point(1))


@pytest.mark.parametrize("value", [object(), [lambda: 0], {"a": object()}])
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(UNENCODABLE):
        pack(value)


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (2, b"\x01"),
        (3, b"\x91\x91\x01"),
        (5, b"\x91\x92\x90\x01"),
        (6, b"x"),
        (11, b"\x93\xce\xff\xff\xff\xff\x00\x00"),
    ],
)
def test_what_is_no_value_is_refused(code: int, data: bytes) -> None:
    with pytest.raises(ValueError, match=rf"extension type {code} has no such value"):
        unpack(msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data)))


def test_a_snapshot_is_of_what_can_change() -> None:
    when = datetime(2030, 1, 1)
    assert [snapshot(one) for one in (None, 1, "a", b"b", when)] == [None, 1, "a", b"b", when]
    changing: list[Any] = [1]
    taken = snapshot(changing)
    changing.append(2)
    assert isinstance(taken, Snapshot)
    assert unpack(taken.data or b"") == [1]
    assert snapshot([object()]).data is None


class Unset(msgspec.Struct):
    field: int


class Elsewhere:
    """As a proxy of what is not there."""

    @property
    def __class__(self) -> Any:
        raise LookupError("nothing is here")


def test_a_snapshot_of_what_cannot_be_looked_at_says_so() -> None:
    unset = Unset(1)
    del unset.field
    assert snapshot(unset).why == "a Unset cannot be encoded"
    assert snapshot(Elsewhere()).why == "a Elsewhere cannot be encoded"


@pytest.mark.parametrize(
    "value", [[0] * 100_000, ["x" * 10_000] * 1_000, {str(n): [0] * 1_000 for n in range(1_000)}, {*range(100_000)}]
)
def test_what_is_too_large_to_be_kept_is_not_even_encoded(value: Any) -> None:
    taken = snapshot(value)
    assert (taken.data, taken.why) == (None, "it is larger than what is kept")


@pytest.mark.parametrize("value", [[], {}, [[]] * 10_000, ["x"] * 10_000, {"a": [1] * 1_000}, [None] * 65_536])
def test_what_may_be_kept_is_encoded(value: Any) -> None:
    assert unpack(snapshot(value).data) == value


# Files


def record(**fields: Any) -> TraceRecord:
    return TraceRecord(
        id="r1", route="GET /", why="error", started_ns=1, took_ns=2, **({"request": RequestNote("GET", "/")} | fields)
    )  # fmt: skip


FULL = record(
    deadline_ns=30,
    status=500,
    client="192.0.2.1",
    request=RequestNote("POST", "/ü", b"a=1", ((b"host", b"h"), (b"x", b"\xff")), b'{"$text": "b"}', 14, ("query:t",)),
    response=ResponseNote(500, (("a", "b"),), b"\x00\xff", 2),
    events=(
        EventNote(EventKind.NeedScheduled, 1, "s", 1, -1, NeedNote((EffectNote("l", "sql", "query", "sql:default"),))),
    ),
    results=(
        ResultNote(1, 0, raw=pack(SqlRows(("a",), [(1,), ("x",), (b"\xff",), (None,)]))),
        ResultNote(1, 1, raw=pack(SqlRows(("a",), [(date(2030, 1, 1), time(1), timedelta(1))]))),
        ResultNote(1, 2, raw=msgspec.msgpack.encode(HttpResult(200, (("a", "b"),), b"body"))),
        ResultNote(2, 0, error=ErrorNote("TIMEOUT"), detail=pack({"$text": 1})),
        ResultNote(2, 1, raw=pack({"$text": "x"})),
    ),
    given=(GivenNote("now", "2030-01-01T00:00:00+00:00"), GivenNote("random", 0.25)),
    steps=(StepNote("s", "f.py:1", "d"),),
)


def test_a_file_is_read_as_it_was_written() -> None:
    text = write_recording(FULL)
    assert encode(read_recording(text.encode())) == encode(FULL)
    assert '"rows": [[1], ["x"], [{"$base64": "/w=="}], [null]]' in text


@given(st.binary(max_size=20), st.binary(max_size=20), VALUES)
def test_any_bytes_are_read_as_they_were_written(body: bytes, query: bytes, value: Any) -> None:
    one = record(request=RequestNote("GET", "/", query, body=body), results=(ResultNote(1, 0, raw=pack(value)),))
    assert read_recording(write_recording(one).encode()) == one


def test_what_is_exported_or_stored_is_read_too() -> None:
    assert encode(read_recording(msgspec.json.encode(FULL))) == encode(FULL)
    assert encode(read_recording(encode(FULL))) == encode(FULL)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "this is no trace"),
        (b"{}", "this is no recording"),
        (b"{", "this is no recording"),
        (json.dumps({"version": VERSION + 1}).encode(), f"of version {VERSION + 1}; this Zerver reads up to {VERSION}"),
        (b'{"version": null}', "of version None"),
        (b'{"id": {"$text": 5}}', "this is no recording"),
        (b'{"id": {"$base64": 5}}', "this is no recording"),
        (b'{"id": {"$msgpack": 1' + b"0" * 30 + b"}}", "this is no recording"),
        (
            write_recording(FULL).replace('"started_ns": 1', '"started_ns": 1' + "0" * 400).encode(),
            "this is no recording",
        ),
        (write_recording(FULL).replace('"id": "r1"', '"id": "\\ud800"').encode(), "this is no recording"),
        (b'{"id": ' * 9_999, "this is no recording"),
        (b"\x91" * 9_999, "this is no trace"),
    ],
)
def test_what_is_no_recording_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(RecordError, match=told):
        read_recording(data)


def test_lines_are_short_where_they_can_be() -> None:
    lines = write_recording(FULL).splitlines()
    assert max(map(len, lines)) < 200
    assert lines[1] == '  "version": 1,'
