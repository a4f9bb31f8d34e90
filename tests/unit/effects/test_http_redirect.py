"""Where redirects lead, and with what."""

from __future__ import annotations

from typing import Any

import pytest

from zerver.effectors.http_redirect import NoRedirect, redirected
from zerver.effects import http
from zerver.effects.http import HttpRequest, HttpResult
from zerver.error import DefinitionError


def to(location: str, status: int = 302) -> HttpResult:
    return HttpResult(status, (("location", location),), b"")


def following(
    location: str, status: int = 302, method: str = "GET", url: str = "https://a.b/c/d?e", **options: Any
) -> HttpRequest:
    following = redirected(http.request(method, url, redirects=1, **options).args, to(location, status))
    assert isinstance(following, HttpRequest), following
    return following


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://x.y/z", "https://x.y/z"),
        ("/z?q#f", "https://a.b/z?q"),
        ("z", "https://a.b/c/z"),
        ("?q", "https://a.b/c/d?q"),
        ("//x.y:8443", "https://x.y:8443/"),
        ("/\xc3\xa9 \xe9", "https://a.b/%C3%A9%20%EF%BF%BD"),
    ],
)
def test_where_it_leads(location: str, url: str) -> None:
    assert following(location).url == url


@pytest.mark.parametrize(
    "location",
    [
        "http://a.b/",
        "ftp://a.b/",
        "javascript:x",
        "https://user:pass@a.b/",
        "https://a.b:99999/",
        "https://[x]/",
    ],
)
def test_where_it_may_not_lead(location: str) -> None:
    assert isinstance(redirected(http.get("https://a.b/", redirects=1).args, to(location)), NoRedirect)


@pytest.mark.parametrize("status", [200, 300, 304, 305, 306, 404])
def test_what_is_no_redirect(status: int) -> None:
    assert redirected(http.get("https://a.b/").args, to("/x", status)) is None
    assert redirected(http.get("https://a.b/").args, HttpResult(302, (), b"")) is None


@pytest.mark.parametrize(
    ("method", "status", "becomes"),
    [
        ("POST", 301, "GET"), ("POST", 302, "GET"), ("POST", 303, "GET"), ("POST", 307, "POST"), ("POST", 308, "POST"),
        ("PUT", 302, "PUT"), ("PUT", 303, "GET"), ("HEAD", 303, "HEAD"), ("GET", 301, "GET"),
    ],
)  # fmt: skip
def test_what_becomes_of_the_method_and_the_body(method: str, status: int, becomes: str) -> None:
    request = following("/", status, method, body=b"x", headers={"X": "y"})
    assert (request.method, request.body) == (becomes, b"x" if becomes == method else None)
    names = {name for name, _ in request.headers}
    assert names == ({"x", "content-type"} if becomes == method else {"x"})


@pytest.mark.parametrize(
    ("location", "kept"), [("/x", True), ("https://a.b/x", True), ("https://c.b/", False), ("https://a.b:444/", False)]
)
def test_credentials_stay_with_their_origin(location: str, kept: bool) -> None:
    secret = {"Authorization": "s", "Cookie": "c=d"}
    request = following(location, 307, "POST", headers={**secret, "X": "y"}, idem="k")
    names = {name for name, _ in request.headers}
    assert names == ({"authorization", "cookie", "x", "idempotency-key"} if kept else {"x"})


@pytest.mark.parametrize("redirects", [-1, 21, True, 1.0, "1"])
def test_how_many_may_be_asked_for(redirects: Any) -> None:
    with pytest.raises(DefinitionError, match="from 0 to 20"):
        http.get("https://a.b/", redirects=redirects)
