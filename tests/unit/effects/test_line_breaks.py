"""CR, LF and NUL: refused wherever they could end something early on a wire, and harmless where they are content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zerver import actor, cache, http, kv, sql
from zerver.effect import Effect
from zerver.effectors.http_client.request import encode, origin_of
from zerver.effects.http import HttpRequest
from zerver.effects.sql_text import numbered
from zerver.error import DefinitionError
from zerver_runtime.actor import Actor, behaviour

EVIL = pytest.mark.parametrize(
    "evil", ["\r", "\n", "\r\n", "\0", "\r\nx: y", "\r\n\r\nGET / HTTP/1.1\r\n\r\n"], ids=repr
)
URL = "http://a/"


class Someone(Actor):
    @behaviour
    def hear(self, text: str) -> None: ...


REFUSED: dict[str, Callable[[str], Effect[Any]]] = {
    "http method": lambda evil: http.request(f"GET{evil}", URL),
    "http method alone": lambda evil: http.request(evil, URL),
    "http scheme": lambda evil: http.get(f"http{evil}://a/"),
    "http host": lambda evil: http.get(f"http://a{evil}/"),
    "http port": lambda evil: http.get(f"http://a:80{evil}/"),
    "http path": lambda evil: http.get(f"http://a/b{evil}"),
    "http query": lambda evil: http.get(f"http://a/?b{evil}=c"),
    "http fragment": lambda evil: http.get(f"http://a/#b{evil}"),
    "http URL, behind": lambda evil: http.get(f"http://a{evil}"),
    "http URL, before": lambda evil: http.get(f"{evil}http://a"),
    "http header name": lambda evil: http.get(URL, headers={f"a{evil}": "b"}),
    "http header value": lambda evil: http.get(URL, headers={"a": f"b{evil}c"}),
    "http header value, at its end": lambda evil: http.get(URL, headers={"a": f"b{evil}"}),
    "http header value, at its start": lambda evil: http.get(URL, headers={"a": f"{evil}b"}),
    "http idem": lambda evil: http.post(URL, idem=f"a{evil}"),
    "kv.get": lambda evil: kv.get(f"a{evil}"),
    "kv.put": lambda evil: kv.put(f"{evil}a", 1),
    "kv.put idem": lambda evil: kv.put("a", 1, idem=f"a{evil}"),
    "kv.delete": lambda evil: kv.delete(f"a{evil}"),
    "kv.delete idem": lambda evil: kv.delete("a", idem=f"a{evil}"),
    "kv.scan": lambda evil: kv.scan(f"a{evil}"),
    "kv.scan after": lambda evil: kv.scan("a", after=f"a{evil}"),
    "cache.get": lambda evil: cache.get(f"a{evil}"),
    "cache.set": lambda evil: cache.set(f"a{evil}", 1, ttl=1),
    "cache.delete": lambda evil: cache.delete(f"a{evil}"),
    "actor.ask": lambda evil: actor.ask(f"a{evil}", Someone.hear, "x"),
    "actor.tell": lambda evil: actor.tell(f"a{evil}", Someone.hear, "x"),
}


@EVIL
@pytest.mark.parametrize("where", REFUSED)
def test_no_line_break_and_no_nul_gets_where_it_could_end_something_early(where: str, evil: str) -> None:
    with pytest.raises(DefinitionError):
        REFUSED[where](evil)


@pytest.mark.parametrize("make", [sql.query, sql.query_one, sql.execute])
def test_a_statement_holds_no_nul(make: Callable[[str], Effect[Any]]) -> None:
    with pytest.raises(DefinitionError, match="NUL"):
        make("select 1\0")
    with pytest.raises(DefinitionError, match="NUL"):
        numbered("select '\0'")


@EVIL
@pytest.mark.parametrize("field", ["method", "path", "header name", "header value", "idem"])
def test_the_client_that_writes_the_bytes_refuses_them_again(field: str, evil: str) -> None:
    """For whoever makes a request without its constructor."""
    parts = {one: f"a{evil}" if one == field else "a" for one in ("method", "path", "header name", "header value")}
    headers = ((parts["header name"], parts["header value"]),)
    if field == "idem":
        headers += (("idempotency-key", f"a{evil}"),)
    request = HttpRequest(parts["method"], f"{URL}{parts['path']}", headers, b"{}", range(200, 400), 0, None)
    with pytest.raises(DefinitionError, match="would let them end early"):
        encode(request, origin_of(URL))


CONTENT: dict[str, Callable[[str], bytes]] = {
    "params": lambda evil: sent(http.get(URL, params={f"a{evil}": f"b{evil}"})),
    "form": lambda evil: sent(http.post(URL, form={f"a{evil}": f"b{evil}"})).partition(b"\r\n\r\n")[2],
    "json": lambda evil: sent(http.post(URL, json={f"a{evil}": f"b{evil}"})).partition(b"\r\n\r\n")[2],
}


def sent(effect: Effect[Any]) -> bytes:
    return encode(effect.args, origin_of(effect.args.url)).removesuffix(b"\r\n\r\n")


@EVIL
@pytest.mark.parametrize("where", CONTENT)
def test_what_clients_sent_is_encoded_where_it_belongs(where: str, evil: str) -> None:
    told = CONTENT[where](evil)
    if where == "params":
        told = told.partition(b"\r\n")[0]
    assert not {b"\r", b"\n", b"\0"} & {told[n : n + 1] for n in range(len(told))}


@EVIL
def test_a_body_is_measured_whatever_it_holds(evil: str) -> None:
    body = f"a{evil}"
    head, _, rest = encode(http.post(URL, body=body).args, origin_of(URL)).partition(b"\r\n\r\n")
    assert rest == body.encode()
    assert f"\r\nContent-Length: {len(body)}".encode() in head
