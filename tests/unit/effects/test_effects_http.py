"""The constructors of http effects: what is sent, and what is refused."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver.effect import Effect, Retry
from zerver.effects import http
from zerver.effects.http import HttpResult
from zerver.error import DefinitionError
from zerver.slot import Slot


class Weather(Slot[dict[str, Any]]): ...


def sent(effect: Effect[Any]) -> http.HttpRequest:
    assert isinstance(effect.args, http.HttpRequest)
    return effect.args


VERBS = {
    "get": (http.get, True),
    "head": (http.head, True),
    "post": (http.post, False),
    "put": (http.put, True),
    "patch": (http.patch, False),
    "delete": (http.delete, True),
    "options": (http.options, True),
    "trace": (http.trace, True),
}


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_says_whether_it_may_be_repeated(name: str) -> None:
    verb, idempotent = VERBS[name]
    effect = verb("http://a/")
    assert (effect.op, sent(effect).method, effect.idempotent) == (name, name.upper(), idempotent)
    assert effect.label == f"http.{name}"
    assert repr(verb) == f"http.{name}"


def test_an_unknown_method_is_sent_as_it_is_and_never_repeated() -> None:
    effect = http.request("propfind", "http://a/")
    assert (effect.op, sent(effect).method, effect.idempotent) == ("propfind", "PROPFIND", False)
    with pytest.raises(DefinitionError, match="idem="):
        http.request("PROPFIND", "http://a/", retry=Retry(2))


def test_a_post_with_a_key_may_be_retried_and_sends_the_key() -> None:
    effect = http.post("http://a/", idem="order-7", retry=Retry(3))
    assert effect.idem == "order-7"
    assert sent(effect).headers == (("idempotency-key", "order-7"),)


@pytest.mark.parametrize(
    ("url", "target", "written"),
    [
        ("http://a", "http:a:80", "http://a/"),
        ("https://a", "http:a:443", "https://a/"),
        ("HTTPS://A.Example:443/x", "http:a.example:443", "https://a.example/x"),
        ("https://a:80/", "http:a:80", "https://a:80/"),
        ("http://a:08080/", "http:a:8080", "http://a:8080/"),
        ("http://a?x=1", "http:a:80", "http://a/?x=1"),
        ("http://a/x#part", "http:a:80", "http://a/x"),
        ("http://a/x?q=1#part", "http:a:80", "http://a/x?q=1"),
        ("http://a/b c/é", "http:a:80", "http://a/b%20c/%C3%A9"),
        ("http://a/%7Euser%2F?a=%20", "http:a:80", "http://a/%7Euser%2F?a=%20"),
        ("http://[::1]:8000/", "http:[::1]:8000", "http://[::1]:8000/"),
        ("http://[::FFFF:1.2.3.4]/", "http:[::ffff:1.2.3.4]:80", "http://[::ffff:1.2.3.4]/"),
        ("http://my_box-1.local/a@b:c", "http:my_box-1.local:80", "http://my_box-1.local/a@b:c"),
        ("http://a/\\x", "http:a:80", "http://a/%5Cx"),
    ],
)
def test_the_target_is_host_and_port_and_the_url_is_percent_encoded(url: str, target: str, written: str) -> None:
    effect = http.get(url)
    assert (effect.target, sent(effect).url) == (target, written)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not absolute"),
        ("/path", "not absolute"),
        ("//host/path", "not absolute"),
        ("a.example/path", "not absolute"),
        ("ftp://a/", "not absolute"),
        ("file:///etc/passwd", "not absolute"),
        ("http:///path", "not absolute"),
        ("http://", "not absolute"),
        ("http://a b/", "not absolute"),
        ("http://a\\@b/", "user information"),
        ("http://user@a/", "user information"),
        ("http://user:secret@a/", "user information"),
        ("http://a:70000/", "ports are 1 to 65535"),
        ("http://a:0/", "ports are 1 to 65535"),
        ("http://a:٣/", "not ASCII"),
        ("http://a:x/", "not absolute"),
        ("http://bücher.example/", "xn--"),
        ("http://[::1/", "not absolute"),
        ("http://[1.2.3.4]/", "no IPv6 address"),
        ("http://[1::2::3]/", "no IPv6 address"),
        ("http://a/\r\nHost: b", "control characters"),
        ("http://a/\n", "control characters"),
        ("\thttp://a/", "control characters"),
        ("http://a/\0", "control characters"),
        ("http://a/\x7f", "control characters"),
        ("http://a/\ud800", "lone surrogates"),
        (b"http://a/", "not text"),
    ],
)
def test_a_url_that_cannot_be_sent_as_it_was_meant_is_refused(url: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says) as refused:
        http.get(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("method", ["", "GET /", "GE\r\nT", "G\0T", "GÉT", None, "CONNECT", "connect"])
def test_a_method_that_is_no_token_or_opens_a_tunnel_is_refused(method: Any) -> None:
    with pytest.raises(DefinitionError, match=r"http\.request"):
        http.request(method, "http://a/")


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({"a": "1"}, "a=1"),
        ({"a": 1, "b": 2.5, "c": True}, "a=1&b=2.5&c=true"),
        ({"a": ["x", "y"], "b": ()}, "a=x&a=y"),
        ({"q": "a b&c=d/é\r\n"}, "q=a%20b%26c%3Dd%2F%C3%A9%0D%0A"),
    ],
)
def test_params_are_added_to_the_query_percent_encoded(params: dict[str, Any], query: str) -> None:
    assert sent(http.get("http://a/p", params=params)).url == f"http://a/p?{query}"
    assert sent(http.get("http://a/p?z=0#x", params=params)).url == f"http://a/p?z=0&{query}"


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(TEXT, TEXT))
def test_params_arrive_as_they_were_given(params: dict[str, str]) -> None:
    query = urlsplit(sent(http.get("http://a/", params=params)).url).query
    assert parse_qsl(query, keep_blank_values=True) == list(params.items())


@given(st.text())
def test_a_path_never_changes_host_or_breaks_the_line(path: str) -> None:
    try:
        effect = http.get(f"http://a/{path}")
    except DefinitionError:
        return
    assert effect.target == "http:a:80"
    url = sent(effect).url
    assert url.startswith("http://a/")
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url


@given(st.text("aB1.-_:@[]\\/?# %é", max_size=12))
def test_the_host_is_the_one_that_url_parsers_see_or_the_url_is_refused(authority: str) -> None:
    url = f"http://{authority}/x"
    try:
        effect = http.get(url)
    except DefinitionError:
        return
    parts = urlsplit(url)
    host, _, port = effect.target.removeprefix("http:").rpartition(":")
    assert (host.strip("[]"), int(port)) == (parts.hostname, parts.port or 80)
    assert urlsplit(sent(effect).url).hostname == parts.hostname


@pytest.mark.parametrize(
    ("body", "content_type", "content"),
    [
        ({"json": {"a": 1}}, "application/json", b'{"a":1}'),
        ({"json": []}, "application/json", b"[]"),
        ({"body": b"\0\1"}, "application/octet-stream", b"\0\1"),
        ({"body": "é"}, "text/plain; charset=utf-8", "é".encode()),
        ({"form": {"a": "b c", "d": [1, False]}}, "application/x-www-form-urlencoded", b"a=b+c&d=1&d=false"),
        ({"body": b""}, "application/octet-stream", b""),
    ],
)
def test_each_kind_of_body_has_its_content_type(body: dict[str, Any], content_type: str, content: bytes) -> None:
    request = sent(http.post("http://a/", **body))
    assert (request.body, dict(request.headers)) == (content, {"content-type": content_type})
    own = sent(http.post("http://a/", headers={"Content-Type": "text/csv"}, **body))
    assert own.headers == (("content-type", "text/csv"),)


def test_without_a_body_none_is_sent() -> None:
    request = sent(http.post("http://a/", json=None, body=None, form=None))
    assert (request.body, request.headers) == (None, ())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"json": {}, "body": b""}, "json and body"),
        ({"json": {}, "form": {}}, "json and form"),
        ({"json": object()}, "cannot be encoded"),
        ({"body": 3}, "body is int"),
        ({"body": "\ud800"}, "lone surrogates"),
        ({"form": {"a": None}}, "form 'a' holds NoneType"),
        ({"form": {"a": "\ud800"}}, "lone surrogates"),
        ({"params": {"a": {}}}, "params 'a' holds dict"),
        ({"headers": {"a": "b\r\nc: d"}}, "header a"),
        ({"headers": {"a": "b\0"}}, "header a"),
        ({"headers": {"a": "\x01"}}, "header a"),
        ({"headers": {"a": "é"}}, "header a"),
        ({"headers": {"a\r\n": "b"}}, "header name"),
        ({"headers": {"": "b"}}, "header name"),
        ({"headers": {"a": 1}}, "header a"),
        ({"headers": {"Content-Length": "3"}}, "Content-Length"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "Transfer-Encoding"),
        ({"headers": {"Idempotency-Key": "a"}, "idem": "b"}, "leave it out"),
        ({"idem": "a b"}, "idem="),
        ({"idem": "a\r\n"}, "idem="),
        ({"idem": ""}, "idem="),
        ({"idem": "a" * 256}, "idem="),
        ({"expect": 200}, "expect="),
        ({"expect": ()}, "expect="),
        ({"expect": range(300, 200)}, "expect="),
        ({"expect": range(300)}, "expect="),
        ({"expect": {200, 600}}, "expect="),
        ({"expect": {"200"}}, "expect="),
        ({"timeout": 0}, "timeout=0"),
        ({"into": int}, "not a slot"),
        ({"into": Weather, "as_": int}, "disagrees"),
        ({"priority": "urgent"}, "priority="),
    ],
)
def test_what_cannot_be_sent_or_expected_is_refused_by_name(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says) as refused:
        http.post("http://a/", **arguments)
    assert "http.post" in str(refused.value)


def test_trace_has_no_body() -> None:
    with pytest.raises(DefinitionError, match="TRACE"):
        http.trace("http://a/", body=b"x")


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="timout"):
        http.get("http://a/", timout=1)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("expect", "kept"),
    [
        (range(200, 300), range(200, 300)),
        ((200, 404), frozenset({200, 404})),
        ({HTTPStatus.OK}, frozenset({200})),
        ([503], frozenset({503})),
    ],
)
def test_expect_takes_ranges_and_collections_of_statuses(expect: Any, kept: Any) -> None:
    assert sent(http.get("http://a/", expect=expect)).expect == kept
    assert sent(http.get("http://a/")).expect == range(200, 400)


def test_common_options_are_kept() -> None:
    effect = http.get(
        "http://a/", into=Weather, timeout=0.1, retry=Retry(2), required=False, priority="batch", idem="k"
    )
    assert (effect.into, effect.timeout, effect.retry) == (Weather, 0.1, Retry(2))
    assert (effect.required, effect.priority, effect.idem) == (False, "batch", "k")


def answer(body: bytes, content_type: str | None = None) -> HttpResult:
    return HttpResult(200, () if content_type is None else (("content-type", content_type),), body)


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (None, "é".encode(), "é"),
        ("text/plain", "é".encode(), "é"),
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ('text/plain;x=y; Charset="ISO-8859-1"', b"\xe9", "é"),
        ("text/plain; charset=klingon", "é".encode(), "é"),
        ("text/plain; charset=base64", "é".encode(), "é"),
        ("text/plain; charset=idna", "é".encode(), "é"),
        ("text/plain; charset=unicode_escape", rb"\x41", r"\x41"),
    ],
)
def test_text_is_read_in_the_charset_that_the_answer_names(content_type: str | None, body: bytes, text: str) -> None:
    assert answer(body, content_type).text() == text


def test_headers_of_an_answer_are_found_in_any_case_and_joined() -> None:
    result = HttpResult(200, (("via", "a"), ("x", "y"), ("via", "b")), b"")
    assert (result.header("Via"), result.header("X"), result.header("z")) == ("a, b", "y", None)
