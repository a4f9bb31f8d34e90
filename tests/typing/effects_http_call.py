"""The types of http, call and timer effects, as both checkers see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

from zerver.effect import Effect, Retry
from zerver.effects import call, http, timer
from zerver.effects.http import HttpResult
from zerver.need import need
from zerver.slot import Slot


class Weather(Slot[dict[str, Any]]): ...


class Count(Slot[int]): ...


class Perhaps(Slot[int | None]): ...


class Names(Slot[list[str]]): ...


class Answer(Slot[HttpResult]): ...


def blocking(number: int) -> str:
    return str(number)


async def awaiting(number: int) -> str:
    return str(number)


def untyped() -> Any: ...


URL = "https://example.com"


def http_without_a_type_gives_the_answer() -> None:
    assert_type(http.get(URL), Effect[HttpResult])
    assert_type(http.post(URL, json={}, idem="k"), Effect[HttpResult])
    assert_type(http.request("PROPFIND", URL), Effect[HttpResult])
    assert_type(http.get(URL, into=Answer), Effect[HttpResult])


def http_into_a_slot_gives_its_type() -> None:
    assert_type(http.get(URL, into=Weather), Effect[dict[str, Any]])
    assert_type(http.get(URL, into=Perhaps), Effect[int | None])
    assert_type(http.get(URL, into=Names, as_=list[str]), Effect[list[str]])
    assert_type(http.request("GET", URL, into=Count), Effect[int])
    http.get(URL, into=Count, as_=str)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def http_as_a_type_gives_it() -> None:
    assert_type(http.get(URL, as_=bytes), Effect[bytes])
    assert_type(http.put(URL, body="x", as_=list[str]), Effect[list[str]])
    assert_type(http.request("GET", URL, as_=int), Effect[int])


def optional_effects_give_none_too(maybe: bool) -> None:
    assert_type(http.get(URL, required=False), Effect[HttpResult | None])
    assert_type(http.get(URL, into=Count, required=False, timeout=0.1, retry=Retry(2)), Effect[int | None])
    assert_type(http.get(URL, as_=str, required=maybe), Effect[str | None])
    assert_type(http.request("GET", URL, into=Count, required=False), Effect[int | None])
    assert_type(call.run(blocking, 1, required=False), Effect[str | None])
    assert_type(call.run(awaiting, 1, required=maybe), Effect[str | None])


def unknown_options_are_refused() -> None:
    http.get(URL, timout=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    http.get(URL, timeout="1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def call_gives_what_the_function_returns() -> None:
    assert_type(call.run(blocking, 1), Effect[str])
    assert_type(call.run(awaiting, 1), Effect[str])
    assert_type(call.run(lambda: 3), Effect[int])
    assert_type(call.run(int, "1", kwargs={"base": 8}), Effect[int])
    assert_type(call.run(untyped), Effect[Any])


class Text(Slot[str]): ...


def call_into_a_slot_checks_that_it_fits() -> None:
    assert_type(call.run(blocking, 1, into=Text), Effect[str])
    assert_type(call.run(awaiting, 1, into=Text, required=False), Effect[str | None])
    assert_type(call.run(blocking, 1, as_=str, idem="k", retry=Retry(2)), Effect[str])
    call.run(blocking, 1, into=Count)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    call.run(awaiting, 1, into=Count)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def timers_give_nothing(at: datetime) -> None:
    assert_type(timer.sleep(0.5), Effect[None])
    assert_type(timer.until(at, required=False), Effect[None])


async def awaited_together_each_keeps_its_type() -> None:
    given = await need(
        http.get(URL, into=Weather, required=False), call.run(awaiting, 1), http.post(URL, form={"a": 1})
    )
    assert_type(given, tuple[dict[str, Any] | None, str, HttpResult])
