"""Decisions: four frozen values, and what is refused when they are made."""

from __future__ import annotations

import datetime
import enum
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from interpreter_driver import effect

from zerver import (
    Compensation,
    Continue,
    CtxView,
    Decision,
    DefinitionError,
    Done,
    ErrorKind,
    Fail,
    Need,
    Response,
    Slot,
)
from zerver.effect import Effect
from zerver.response import FileBody, StreamBody


class A(Slot[int]): ...


class B(Slot[int]): ...


def show(ctx: CtxView) -> Decision:
    return Done.empty()


@pytest.mark.parametrize(
    "decision", [Continue(), Fail(ErrorKind.NOT_FOUND), Done.empty(), Need([])], ids=lambda one: type(one).__name__
)
def test_decisions_are_frozen_and_compare_by_value(decision: Any) -> None:
    field = (decision.__struct_fields__ or ("anything",))[0]
    with pytest.raises(AttributeError):
        setattr(decision, field, None)
    assert decision == decision.__copy__()


# --- Done


@pytest.mark.parametrize(
    ("done", "status", "headers", "body"),
    [
        (Done.json({"a": 1}), 200, {"content-type": "application/json"}, b'{"a":1}'),
        (Done.json([], status=201), 201, {"content-type": "application/json"}, b"[]"),
        (Done.text("häh"), 200, {"content-type": "text/plain; charset=utf-8"}, "häh".encode()),
        (Done.html("<p>"), 200, {"content-type": "text/html; charset=utf-8"}, b"<p>"),
        (Done.bytes(b"\0"), 200, {"content-type": "application/octet-stream"}, b"\0"),
        (Done.bytes(b"", content_type="image/png"), 200, {"content-type": "image/png"}, b""),
        (Done.empty(), 204, {}, b""),
        (Done.empty(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": '"1"'}), 304, {"etag": '"1"'}, b""),
        (Done.redirect("/to"), 307, {"location": "/to"}, b""),
        (Done.redirect("/to", status=303, headers={"X-A": "b"}), 303, {"location": "/to", "x-a": "b"}, b""),
        (Done.file("/srv/a.txt"), 200, {}, FileBody("/srv/a.txt")),
        (Done.file(Path("/a"), filename="b", content_type="x/y"), 200, {"content-type": "x/y"}, FileBody("/a", "b")),
    ],
)  # fmt: skip
def test_constructors_of_done(done: Done, status: int, headers: dict[str, str], body: Any) -> None:
    assert done.response.status == status
    assert dict(done.response.headers) == headers
    assert done.response.body == body


def test_headers_may_be_a_mapping_or_pairs_and_repeat_and_replace_the_content_type() -> None:
    pairs = Done.json(1, headers=[("Set-Cookie", "a=1"), ("set-cookie", "b=2")])
    assert pairs.response.headers == (
        ("content-type", "application/json"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    )
    mapping = Done.json(1, headers=MappingProxyType({"Content-Type": "application/vnd.api+json"}))
    assert mapping.response.headers == (("content-type", "application/vnd.api+json"),)


def test_streams_take_plain_and_async_iterables() -> None:
    def plain() -> Iterator[bytes]:
        yield b"x"

    async def asynchronous() -> AsyncIterator[bytes]:
        yield b"x"

    for chunks in ([b"x"], plain(), asynchronous()):
        response = Done.stream(chunks, content_type="text/event-stream").response
        assert response.status == 200
        assert isinstance(response.body, StreamBody)
        assert response.body.chunks is chunks


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_any_status_of_a_redirect_may_be_chosen(status: int) -> None:
    assert Done.redirect("/", status=status).response.status == status


@pytest.mark.parametrize("status", [200, 300, 304, 306, 309, 404, "307"])
def test_a_redirect_has_a_status_of_redirects(status: Any) -> None:
    with pytest.raises(DefinitionError, match="allowed: 301, 302, 303, 307, 308"):
        Done.redirect("/", status=status)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/a b", "/a%20b"),
        ("/ä", "/%C3%A4"),
        ("/x\r\nset-cookie: a=1", "/x%0D%0Aset-cookie:%20a=1"),
        ("https://a.example/p?q=1&r=%20#f", "https://a.example/p?q=1&r=%20#f"),
        ("/a\0b", "/a%00b"),
    ],
)
def test_what_may_not_stand_in_a_location_is_percent_encoded(url: str, location: str) -> None:
    assert dict(Done.redirect(url).response.headers)["location"] == location


def test_a_response_that_is_given_is_checked_too() -> None:
    for headers in ((("x", "a\r\nb: c"),), (("a b", "x"),)):
        with pytest.raises(DefinitionError, match="header"):
            Done(Response(200, headers))


# --- Fail


def test_fail_takes_the_kind_and_all_it_says() -> None:
    fail = Fail(ErrorKind.CONFLICT, "taken", "name", {"by": 1}, 2.0)
    assert (fail.kind, fail.what, fail.key, fail.detail, fail.retry_after) == (
        ErrorKind.CONFLICT,
        "taken",
        "name",
        {"by": 1},
        2.0,
    )


@pytest.mark.parametrize("kind", [404, "NOT_FOUND", None, HTTPStatus.NOT_FOUND])
def test_the_kind_of_fail_is_an_error_kind(kind: Any) -> None:
    with pytest.raises(DefinitionError, match="the kind is an ErrorKind, such as"):
        Fail(kind)


@pytest.mark.parametrize(
    "options", [{"what": 3}, {"what": None}, {"key": 7}, {"what": ValueError("x")}], ids=lambda one: str(one)
)
def test_what_and_key_of_fail_are_text(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"Fail\(NOT_FOUND\): what and key are text; convert them with str\(\)"):
        Fail(ErrorKind.NOT_FOUND, **options)


# --- Need


def test_need_keeps_its_effects_in_a_tuple_whatever_they_came_in() -> None:
    one, other = effect(A), effect(B)
    for effects in ([one, other], (one, other), iter([one, other])):
        assert Need(effects).effects == (one, other)  # type: ignore[arg-type]
    mine = [one]
    need = Need(mine)
    mine.append(other)
    assert need.effects == (one,)


def test_need_by_default_waits_for_all_in_parallel_and_goes_on_with_the_next_step() -> None:
    need = Need([])
    assert (need.mode, need.join, need.then, need.detach, need.compensations) == ("parallel", "all", None, False, ())


class Mode(enum.Enum):
    parallel = "parallel"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Need(effect()), ["its first argument is a list of effects", "Need([effect], ...)"]),
        (lambda: Need([effect(), "select 1"]), ["effect 1 is 'select 1'", "constructors of zerver.effects"]),
        (lambda: Need([Effect]), ["effect 0 is", "constructors of zerver.effects"]),
        (lambda: Need([[effect()]]), ["effect 0 is"]),
        (lambda: Need("effects"), ["effect 0 is 'e'"]),
        (lambda: Need([], then=Done.empty()), ["then=Done(", "is not a step function"]),
        (lambda: Need([], then="show"), ["then='show' is not a step function"]),
        (lambda: Need([], join="most"), ["join='most' is not a join", "'all_required'"]),
        (lambda: Need([], mode="both"), ["mode='both' is not a mode", "'sequential'"]),
        (lambda: Need([], mode=Mode.parallel), ["is not a mode"]),
        (lambda: Need([effect(required=False)], join="all_required"), ["without a required effect", "detach=True"]),
        (lambda: Need([effect()], detach=True), ["detach=True does not go with join='all'"]),
        (lambda: Need([effect(A), effect(B), effect(A)]), ["effects 0 and 2 both write slot A", "a slot of its own"]),
        (lambda: Need([effect(A), effect(A)], join="all_required"), ["both write slot A"]),
    ],
)  # fmt: skip
def test_a_need_that_makes_no_sense_is_refused_with_the_cure(make: Any, words: list[str]) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    message = str(caught.value)
    assert message.startswith("Need: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("join", ["any", "first_success"])
def test_alternatives_may_share_a_slot(join: Any) -> None:
    assert len(Need([effect(A), effect(A)], join=join).effects) == 2


def test_effects_without_a_slot_never_collide() -> None:
    assert len(Need([effect(), effect()]).effects) == 2


def test_compensations_are_kept_in_a_tuple() -> None:
    undo = Compensation("undo", "on_failure", effect())
    assert Need([effect()], compensations=[undo]).compensations == (undo,)


# --- JSON


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize("value", [datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC), Colour.RED])
def test_json_of_done_takes_what_the_encoder_takes(value: Any) -> None:
    assert Done.json(value).response.body in (b'"2030-01-02T00:00:00+00:00"', b'"red"')
