"""What may leave a process; and where in an argument the thing is that may not."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Any

import msgspec
import pytest

from zerver_runtime.message import NotPlainData
from zerver_runtime.plain_data import check_arguments, find_foreign


class Ref:
    pass


class Colour(enum.Enum):
    RED = 1


class Point(msgspec.Struct):
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Order:
    lines: list[Any]


LAMBDA = lambda: None  # noqa: E731


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1.5, "a", b"a", bytearray(b"a"), [1, [2]], (1, "a"), {1}, frozenset({1}), {"a": {"b": [None]}},
     Ref(), [Ref()], Colour.RED, Point(1), Point([Point(2)]), Order([Point(1)]), datetime.datetime(2026, 1, 1),
     datetime.timedelta(1), decimal.Decimal(1), uuid.UUID(int=1)],
)  # fmt: skip
def test_plain_data_and_refs_pass(value: object) -> None:
    assert find_foreign(value, Ref) is None


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "value"),
        (LAMBDA, "value"),
        (Point, "value"),
        ([1, object()], "value[1]"),
        ({"a": [object()]}, "value['a'][0]"),
        ({(1, LAMBDA): 1}, None),
        (Point(1, object()), "value.y"),
        (Order([Point(LAMBDA)]), "value.lines[0].x"),
        (iter([]), "value"),
    ],
)
def test_the_path_leads_to_what_is_not(value: object, path: str | None) -> None:
    found = find_foreign(value, Ref)
    assert found is not None
    if path is not None:
        assert found[0] == path


@dataclasses.dataclass(frozen=True)
class Corner:
    x: int


class Half(msgspec.Struct):
    x: int


def half() -> Half:
    made = Half(1)
    del made.x
    return made


@pytest.mark.parametrize(
    ("value", "path", "what"),
    [
        (
            {Corner(1): 1},
            "key Corner(x=1) of value",
            "which becomes a dict on the way, and no dict takes that as a key",
        ),
        ({(1, (Corner(1),)): 1}, "key (1, (Corner(x=1),)) of value[1][0]", "no dict takes that as a key"),
        ([half()], "value[0].x", "not set"),
        ([msgspec.Raw(b"1")], "value[0]", "a msgspec.Raw"),
    ],
    ids=["key", "inside-of-a-key", "not-set", "raw"],
)
def test_what_would_not_arrive_as_it_is_sent_is_refused(value: object, path: str, what: str) -> None:
    found = find_foreign(value, Ref)
    assert found is not None
    assert found[0] == path
    assert what in found[1]


def test_a_key_may_be_whatever_stays_one() -> None:
    keys = [1, "a", b"a", None, 1.5, (1, ("a", 2)), frozenset([1]), Ref(), uuid.UUID(int=1)]
    assert find_foreign(dict.fromkeys(keys, 1), Ref) is None


def test_a_value_that_contains_itself_is_refused_and_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    found = find_foreign(loop, Ref)
    assert found is not None
    assert "levels deep" in found[1]


def test_the_error_names_the_argument_also_among_star_args_and_keywords() -> None:
    with pytest.raises(NotPlainData, match=r"Counter\.add\(\): amount is a builtins\.object"):
        check_arguments("Counter.add", ["amount"], (object(),), None, Ref)
    with pytest.raises(NotPlainData, match=r"rest\[1\]\[0\] is"):
        check_arguments("Counter.add", ["amount", "rest"], (1, 2, [object()]), None, Ref)
    with pytest.raises(NotPlainData, match=r"twice is"):
        check_arguments("Counter.add", [], (), {"twice": object()}, Ref)
