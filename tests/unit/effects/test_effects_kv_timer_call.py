"""The constructors of kv, cache, timer and call effects."""

from __future__ import annotations

import functools
import math
import os.path
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from zerver.effect import Retry
from zerver.effects import cache, call, kv, timer
from zerver.effects.kv import KvPage
from zerver.error import DefinitionError
from zerver.slot import Slot


class Count(Slot[int]): ...


class Page(Slot[KvPage[int]]): ...


# kv


@pytest.mark.parametrize("effect", [kv.get("k"), kv.put("k", 1), kv.delete("k"), kv.scan("k")])
def test_kv_effects_may_all_be_repeated(effect: Any) -> None:
    assert effect.idempotent
    assert (effect.family, effect.target) == ("kv", "kv")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"\0\xff", b"\0\xff"),
        (bytearray(b"ab"), b"ab"),
        ("text", b'"text"'),
        (None, b"null"),
        ({"a": [1, True]}, b'{"a":[1,true]}'),
        (datetime(2024, 5, 17, tzinfo=UTC), b'"2024-05-17T00:00:00+00:00"'),
    ],
)
def test_bytes_are_kept_as_they_are_and_all_else_as_json(value: Any, kept: bytes) -> None:
    assert kv.put("k", value).args.value == kept


@pytest.mark.parametrize("key", ["", "a" * 513, "a\n", "\0", "\x7f", "\x85", "\ud800", 7, None, b"k"])
def test_a_key_is_1_to_512_characters_without_controls(key: Any) -> None:
    for make in (kv.get, functools.partial(kv.put, value=1), kv.delete):
        with pytest.raises(DefinitionError, match=r"kv\.(get|put|delete)"):
            make(key)
    if key != "":
        with pytest.raises(DefinitionError, match=r"kv\.scan"):
            kv.scan(key)
    with pytest.raises(DefinitionError, match=r"kv\.scan"):
        kv.scan("a", after=key) if key is not None else kv.scan(key)


@pytest.mark.parametrize("key", ["a", "a" * 512, "é:ü/ñ 🎈"])
def test_other_keys_are_taken(key: str) -> None:
    assert kv.get(key).args.key == key


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: kv.put("k", object()), "cannot be encoded"),
        (lambda: kv.put("k", 1, idem=""), "idem="),
        (lambda: kv.put("k", 1, idem="a\n"), "idem="),
        (lambda: kv.scan("k", limit=0), "limit=0"),
        (lambda: kv.scan("k", limit=1001), "limit=1001"),
        (lambda: kv.scan("k", limit=True), "limit=True"),
        (lambda: kv.scan("k", into=Count), "KvPage"),
        (lambda: kv.scan("k", as_=list), "KvPage"),
    ],
)
def test_kv_refuses_what_it_cannot_do(make: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        make()


def test_scan_takes_pages() -> None:
    effect = kv.scan("k:", limit=5, after="k:3", into=Page)
    assert (effect.args.prefix, effect.args.limit, effect.args.after) == ("k:", 5, "k:3")
    assert kv.scan("", as_=KvPage[int]).args.limit == 100
    assert kv.scan("", as_=KvPage).as_ is KvPage


# cache


@pytest.mark.parametrize("effect", [cache.get("k"), cache.set("k", 1, ttl=1), cache.delete("k")])
def test_cache_effects_may_all_be_repeated(effect: Any) -> None:
    assert effect.idempotent
    assert (effect.family, effect.target) == ("cache", "cache")


def test_values_are_cached_as_kv_keeps_them() -> None:
    effect = cache.set("k", {"a": 1}, ttl=60)
    assert (effect.args.value, effect.args.ttl) == (b'{"a":1}', 60.0)
    assert cache.set("k", b"\0", ttl=1e-9).args.value == b"\0"


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, 10 * 366 * 86_400.1, True, "60", None])
def test_a_ttl_is_seconds_above_0_and_at_most_10_years(ttl: Any) -> None:
    with pytest.raises(DefinitionError, match=r"cache\.set: ttl="):
        cache.set("k", 1, ttl=ttl)


@pytest.mark.parametrize("key", ["", "a" * 513, "a\n", "\ud800", 7])
def test_cache_keys_are_those_of_kv(key: Any) -> None:
    for make in (cache.get, functools.partial(cache.set, value=1, ttl=1), cache.delete):
        with pytest.raises(DefinitionError, match=r"cache\.(get|set|delete)"):
            make(key)
    with pytest.raises(DefinitionError, match=r"cache\.set: the value of 'k' cannot be encoded"):
        cache.set("k", object(), ttl=1)


# timer


def test_timers_wait_for_a_time_or_until_one() -> None:
    at = datetime(2024, 5, 17, tzinfo=UTC)
    assert timer.sleep(0.5, priority="batch").args.seconds == 0.5
    assert timer.until(at, required=False).args.at == at
    assert {timer.sleep(0).target, timer.until(at).target} == {"timer"}
    assert timer.sleep(1).idempotent


@pytest.mark.parametrize("seconds", [-1, -0.001, math.inf, math.nan, "1", None, True])
def test_a_sleep_is_a_finite_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(DefinitionError, match="seconds="):
        timer.sleep(seconds)


@pytest.mark.parametrize("at", [datetime(2024, 5, 17), date(2024, 5, 17), 17.5, timedelta(1)])
def test_a_time_without_a_zone_is_refused(at: Any) -> None:
    with pytest.raises(DefinitionError, match="time zone"):
        timer.until(at)


# call


class Greeter:
    def __call__(self) -> str:
        return "hello"

    def greet(self) -> str:
        return "hello"


@pytest.mark.parametrize(
    ("fn", "target"),
    [
        (time.sleep, "call:time.sleep"),
        (os.path.join, "call:posixpath.join"),
        (functools.partial(functools.partial(time.sleep), 1), "call:time.sleep"),
        (Greeter(), f"call:{__name__}.Greeter"),
        (Greeter().greet, f"call:{__name__}.Greeter.greet"),
        (Greeter, f"call:{__name__}.Greeter"),
        ([].append, "call:builtins.list.append"),
        (len, "call:builtins.len"),
    ],
)
def test_the_target_of_a_call_is_its_function(fn: Any, target: str) -> None:
    assert call.run(fn).target == target


def test_arguments_are_those_of_the_time_when_it_was_built() -> None:
    kwargs = {"base": 8}
    effect = call.run(int, "17", kwargs=kwargs, into=Count)
    kwargs["base"] = 16
    assert (effect.args.fn, effect.args.args, effect.args.kwargs) == (int, ("17",), {"base": 8})
    assert effect.into is Count


def test_a_call_is_not_repeated_without_a_key() -> None:
    with pytest.raises(DefinitionError, match="idem="):
        call.run(len, "a", retry=Retry(2))
    assert call.run(len, "a", retry=Retry(2), idem="k").retry == Retry(2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [((3,), "cannot be called"), ((len, "a"), None), ((len, "a", {"x": 1}), None)],
)
def test_only_what_can_be_called_is_taken(arguments: tuple[Any, ...], says: str | None) -> None:
    if says is None:
        assert call.run(*arguments).args.args == arguments[1:]
    else:
        with pytest.raises(DefinitionError, match=says):
            call.run(*arguments)


@pytest.mark.parametrize("kwargs", [[("a", 1)], {1: 2}, None])
def test_kwargs_are_a_mapping_from_names(kwargs: Any) -> None:
    with pytest.raises(DefinitionError, match="kwargs="):
        call.run(len, kwargs=kwargs)
