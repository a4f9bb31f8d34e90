"""The types of file effects, as both checkers see them."""

from __future__ import annotations

from typing import assert_type

import msgspec

from zerver.effect import Effect, Retry
from zerver.effects import file
from zerver.need import need
from zerver.slot import Slot


class Report(msgspec.Struct):
    title: str


class Loaded(Slot[Report]): ...


class Text(Slot[str]): ...


def read_gives_bytes_where_nothing_else_is_asked_for() -> None:
    assert_type(file.read("a"), Effect[bytes])
    assert_type(file.read("a", required=False), Effect[bytes | None])


def read_gives_the_type_of_slot_or_as() -> None:
    assert_type(file.read("a", into=Loaded, retry=Retry(2)), Effect[Report])
    assert_type(file.read("a", into=Text), Effect[str])
    assert_type(file.read("a", as_=Report, timeout=1.0), Effect[Report])
    assert_type(file.read("a", into=Loaded, required=False), Effect[Report | None])
    assert_type(file.read("a", as_=str, required=False), Effect[str | None])
    file.read("a", into=Loaded, as_=str)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def write_gives_nothing() -> None:
    assert_type(file.write("a", b""), Effect[None])
    assert_type(file.write("a", Report("x"), idem="k"), Effect[None])
    file.write(7, b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def awaited_together_each_keeps_its_type() -> None:
    given = await need(file.read("a", into=Text), file.read("b", into=Loaded))
    assert_type(given, tuple[str, Report])
