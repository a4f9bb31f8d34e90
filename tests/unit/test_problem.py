"""Problem details: what a client learns of an error, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver import Error, ErrorKind, Request
from zerver.problem import problem_response

REQUEST = Request("GET", "/todos/7", id="abc1")
ANY_TEXT = st.text(st.characters())  # lone surrogates included


def body_of(error: Error, exception: BaseException | None = None, debug: bool = False) -> dict[str, Any]:
    body = problem_response(error, REQUEST, exception, debug).body
    assert isinstance(body, bytes)
    found: dict[str, Any] = json.loads(body)
    return found


def caught() -> ValueError:
    try:
        raise ValueError("secret \udce9")
    except ValueError as problem:
        return problem


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_each_kind_has_its_status_and_title(kind: ErrorKind) -> None:
    answer = problem_response(Error(kind), REQUEST, None)
    assert answer.status == kind.status
    assert answer.headers == (("content-type", "application/problem+json"),)
    assert body_of(Error(kind)) == {
        "title": kind.title, "status": kind.status, "detail": kind.title, "instance": "/todos/7", "kind": kind.name,
        "request_id": "abc1",
    }  # fmt: skip


def test_what_key_and_detail_are_members_where_they_are_given() -> None:
    body = body_of(Error(ErrorKind.CONFLICT, "taken", "$.name", {"by": "you"}))
    assert (body["detail"], body["key"], body["info"]) == ("taken", "$.name", {"by": "you"})


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (90, "90")])
def test_retry_after_is_in_whole_seconds_rounded_up_and_at_least_one(seconds: float, header: str) -> None:
    answer = problem_response(Error(ErrorKind.OVERLOADED, retry_after=seconds), REQUEST, None)
    assert ("retry-after", header) in answer.headers


def test_a_traceback_is_there_under_debug_only() -> None:
    error = Error(ErrorKind.INTERNAL, "step load failed")
    assert "traceback" not in body_of(error, caught())
    assert "traceback" not in body_of(error, None, debug=True)
    lines = body_of(error, caught(), debug=True)["traceback"]
    assert "ValueError: secret ?\n" in lines
    assert "secret" not in json.dumps(body_of(error, caught()))


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_can_be_sent(what: str, key: str) -> None:
    body = body_of(Error(ErrorKind.INVALID_INPUT, what, key))
    sendable = re.sub("[\ud800-\udfff]", "?", what)
    assert body["detail"] == (sendable or ErrorKind.INVALID_INPUT.title)


@given(ANY_TEXT)
def test_the_instance_is_a_uri_reference_whatever_the_path(path: str) -> None:
    """RFC 9457 section 3.1.5, RFC 3986 section 4.1. Decoded it is the path again."""
    answer = problem_response(Error(ErrorKind.NOT_FOUND), Request("GET", "/" + path), None)
    assert isinstance(answer.body, bytes)
    instance = json.loads(answer.body)["instance"]
    assert re.fullmatch(r"([A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-F]{2})+", instance)
    assert unquote(instance) == "/" + re.sub("[\ud800-\udfff]", "?", path)
