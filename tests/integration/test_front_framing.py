"""What is no HTTP/1.1 request is refused over a real socket: 400 or the status of its limit, then the end of the
connection, and nothing of what came after it is executed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from front_kit import Client, Front, answers, cuts, front, request

from zerver import App, CtxView, Decision, Done
from zerver.error import Error
from zerver.request import Request
from zerver.response import Response

executed: list[str] = []
app = App()


@app.get("/run/{name}")
def run(ctx: CtxView) -> Decision:
    executed.append(ctx.param("name"))
    return Done.text("ran")


@app.post("/run/{name}")
def take(ctx: CtxView) -> Decision:
    executed.append(ctx.param("name"))
    return Done.bytes(ctx.body)


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    """Reads all, and answers only then."""
    if scope["type"] == "http":
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            executed.append("mounted")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ran"})


app.mount("/mounted", mounted)

NEXT = request("/run/next")  # what follows must not be executed, whatever an intermediary took it for

LIMITS: dict[str, Any] = {
    "request_line": 128, "header_count": 10, "header_bytes": 512, "body_bytes": 64, "chunk_extension_bytes": 32,
    "trailer_count": 3, "trailer_bytes": 96, "linger_timeout": 0.2,
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[Front]:
    with front(app, **LIMITS) as serving:
        yield serving
        serving.at_rest()


@pytest.fixture(autouse=True)
def nothing_executed() -> Iterator[None]:
    executed.clear()
    yield
    assert executed == []


def refused(server: Front, sent: bytes, status: int) -> None:
    raw = server.ask(sent, eof=True)
    (answer,) = answers(raw)
    assert answer.status == status, raw
    assert answer.closes
    assert answer.field("content-type") == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["request_id"]


GET = b"GET /run/a HTTP/1.1\r\nHost: h\r\n"
POST = b"POST /run/a HTTP/1.1\r\nHost: h\r\n"

FRAMING = {
    # RFC 9112 section 6.3, rule 3: both may be an attempt at request smuggling.
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "listed length": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "length with _": POST + b"Content-Length: 0_3\r\n\r\nabc",
    "length in hex": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "length with a space": POST + b"Content-Length: 3 3\r\n\r\nabc",
    "no length": POST + b"Content-Length:\r\n\r\n",
    "length in Arabic digits": POST + "Content-Length: ٣\r\n\r\nabc".encode(),
    "superscript length": POST + b"Content-Length: \xb3\r\n\r\nabc",
    "huge length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two codings in lines": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "capital Chunked": POST + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked with VT": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked in HTTP/1.0": b"POST /run/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # Lines
    "obs-fold": GET + b"X-A: b\r\n c\r\n\r\n",
    "obs-fold with a tab": GET + b"X-A: b\r\n\tc\r\n\r\n",
    "space before the first field": b"GET /run/a HTTP/1.1\r\n Host: h\r\n\r\n",
    "space before the colon": b"GET /run/a HTTP/1.1\r\nHost : h\r\n\r\n",
    "space before the colon of the length": POST + b"Content-Length : 3\r\n\r\nabc",
    "tab before the colon": GET + b"X-A\t: b\r\n\r\n",
    "no colon": GET + b"X-A\r\n\r\n",
    "no name": GET + b": b\r\n\r\n",
    "a name that is no token": GET + b"X(A): b\r\n\r\n",
    "a name that is no ASCII": GET + b"X\xe4: b\r\n\r\n",
    "bare LF at the request line": b"GET /run/a HTTP/1.1\nHost: h\r\n\r\n",
    "bare LF in the fields": b"GET /run/a HTTP/1.1\r\nHost: h\nX-A: b\r\n\r\n",
    "bare LF at the end": GET + b"\n",
    "bare CR in a value": GET + b"X-A: b\rc\r\n\r\n",
    "bare CR at the request line": b"GET /run/a HTTP/1.1\rHost: h\r\n\r\n",
    "CR CR LF": b"GET /run/a HTTP/1.1\r\nHost: h\r\r\n\r\n",
    "NUL in a value": GET + b"X-A: b\x00c\r\n\r\n",
    "NUL in a name": GET + b"X-\x00: b\r\n\r\n",
    "NUL in the target": b"GET /run/a\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
    "control in a value": GET + b"X-A: b\x1b[31m\r\n\r\n",
    "DEL in a value": GET + b"X-A: \x7f\r\n\r\n",
    # Host
    "no Host": b"GET /run/a HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: h\r\n\r\n",
    "listed Host": b"GET /run/a HTTP/1.1\r\nHost: h, i\r\n\r\n",
    "empty Host": b"GET /run/a HTTP/1.1\r\nHost:\r\n\r\n",
    "Host with userinfo": b"GET /run/a HTTP/1.1\r\nHost: u@h\r\n\r\n",
    "Host with a path": b"GET /run/a HTTP/1.1\r\nHost: h/a\r\n\r\n",
    "Host with a space": b"GET /run/a HTTP/1.1\r\nHost: h i\r\n\r\n",
    "Host with a bad port": b"GET /run/a HTTP/1.1\r\nHost: h:a\r\n\r\n",
    # Target
    "userinfo in the target": b"GET http://u:p@h/run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "a target without a slash": b"GET run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "an asterisk for GET": b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    "a foreign scheme": b"GET ftp://h/run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "no host in the target": b"GET http:///run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "a fragment": b"GET /run/a#b HTTP/1.1\r\nHost: h\r\n\r\n",
    "a space in the target": b"GET /run/a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "no ASCII in the target": b"GET /run/\xe4 HTTP/1.1\r\nHost: h\r\n\r\n",
    # Request line
    "two spaces": b"GET  /run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "a tab": b"GET\t/run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "a space at the end": b"GET /run/a HTTP/1.1 \r\nHost: h\r\n\r\n",
    "a space at the beginning": b" GET /run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "no version": b"GET /run/a\r\nHost: h\r\n\r\n",
    "a small http": b"GET /run/a http/1.1\r\nHost: h\r\n\r\n",
    "version 1.1 with more digits": b"GET /run/a HTTP/1.10\r\nHost: h\r\n\r\n",
    "a method that is no token": b"GE(T /run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "three empty lines": b"\r\n\r\n\r\nGET /run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}  # fmt: skip

CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a size that is no hex": b"g\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a size with _": b"0_3\r\nabc\r\n0\r\n\r\n",
    "a size with a space before": b" 3\r\nabc\r\n0\r\n\r\n",
    "a size with a space behind": b"3 \r\nabc\r\n0\r\n\r\n",
    "a size past 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "bare CR after the size": b"3\rabc\r\n0\r\n\r\n",
    "bare LF after the data": b"3\r\nabc\n0\r\n\r\n",
    "no end of the data": b"3\r\nabc0\r\n\r\n",
    "more data than the size": b"3\r\nabcd\r\n0\r\n\r\n",
    "less data than the size": b"3\r\nab\r\n0\r\n\r\n",
    "bare LF at the end": b"3\r\nabc\r\n0\r\n\n",
    "an extension with a control": b"3;a=\x01\r\nabc\r\n0\r\n\r\n",
    "an extension with bare LF": b"3;a=b\nabc\r\n0\r\n\r\n",
    "an extension that is none": b"3;;\r\nabc\r\n0\r\n\r\n",
    "an extension with an open quote": b'3;a="b\r\nabc\r\n0\r\n\r\n',
    "a trailer that is none": b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    "a folded trailer": b"3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n",
    "a trailer with NUL": b"3\r\nabc\r\n0\r\nA: \x00\r\n\r\n",
}


@pytest.mark.parametrize("case", FRAMING)
def test_a_framing_error_is_400_and_the_end(server: Front, case: str) -> None:
    refused(server, FRAMING[case] + NEXT, 505 if case == "HTTP/2" else 400)


@pytest.mark.parametrize("case", CHUNKS)
@pytest.mark.parametrize("path", ["/run/a", "/mounted/a"])
def test_a_fault_in_the_chunks_is_400_and_the_end(server: Front, path: str, case: str) -> None:
    head = request(path, "Transfer-Encoding: chunked", method="POST")
    refused(server, head + CHUNKS[case] + NEXT, 400)


LIMITED = {
    "request line": (b"GET /run/" + b"a" * 128 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    "request line without an end": (b"GET /run/" + b"a" * 1000, 414),
    "header count": (request("/run/a", *[f"X-{n}: a" for n in range(10)]), 431),
    "header size": (request("/run/a", "X-A: " + "a" * 500), 431),
    "header size without an end": (b"GET /run/a HTTP/1.1\r\nX-A: " + b"a" * 2000, 431),
    "body by length": (request("/run/a", method="POST", body=b"a" * 65), 413),
    "body by length, before it comes": (request("/run/a", "Content-Length: 65", method="POST"), 413),
    "body of a petabyte": (request("/run/a", "Content-Length: 1000000000000000", method="POST"), 413),
    "body by chunks": (
        request("/run/a", "Transfer-Encoding: chunked", method="POST") + b"20\r\n" + b"a" * 32 + b"\r\n21\r\n", 413,
    ),
    "one large chunk, before it comes": (
        request("/run/a", "Transfer-Encoding: chunked", method="POST") + b"41\r\n", 413,
    ),
    "chunk extensions": (
        request("/run/a", "Transfer-Encoding: chunked", method="POST") + b"1;" + b"a" * 33 + b"\r\nb\r\n0\r\n\r\n", 413,
    ),
    "chunk extensions of several": (
        request("/run/a", "Transfer-Encoding: chunked", method="POST") + b"1;aaaaaaaa\r\nb\r\n" * 5, 413,
    ),
    "trailer size": (
        request("/run/a", "Transfer-Encoding: chunked", method="POST") + b"0\r\nA: " + b"a" * 96 + b"\r\n\r\n", 431,
    ),
    "trailer count": (
        request("/run/a", "Transfer-Encoding: chunked", method="POST") + b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", 431,
    ),
    "version": (b"GET /run/a HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    "CONNECT": (b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 501),
    "an expectation": (request("/run/a", "Expect: 200-ok"), 417),
}  # fmt: skip


@pytest.mark.parametrize("case", LIMITED)
def test_each_limit_has_its_status(server: Front, case: str) -> None:
    sent, status = LIMITED[case]
    refused(server, sent + NEXT, status)


def test_what_is_within_the_limits_is_served(server: Front) -> None:
    line = b"GET /run/" + b"a" * (128 - len("GET /run/ HTTP/1.1")) + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    full = request("/run/b", *[f"X-{n}: a" for n in range(9)])
    chunks = request("/run/c", "Transfer-Encoding: chunked", method="POST")
    chunks += b"20;a=b\r\n" + b"a" * 32 + b'\r\n20;c="d"\r\n' + b"b" * 32 + b"\r\n0\r\nA: b\r\n\r\n"
    whole = request("/run/d", method="POST", body=b"c" * 64)
    found = answers(server.ask(line + full + chunks + whole, eof=True))
    assert [one.status for one in found] == [200] * 4
    assert found[2].body == b"a" * 32 + b"b" * 32
    assert executed == ["a" * 110, "b", "c", "d"]
    executed.clear()


ALLOWED = {
    "absolute-form": b"GET http://other/run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "no Host in HTTP/1.0": b"GET /run/a HTTP/1.0\r\n\r\n",
    "one empty line": b"\r\nGET /run/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "white space around a value": b"GET /run/a HTTP/1.1\r\nHost:  \t h \t\r\n\r\n",
    "obs-text": b"GET /run/a HTTP/1.1\r\nHost: h\r\nX-A: \xe4\r\n\r\n",
    "an empty value": b"GET /run/a HTTP/1.1\r\nHost: h\r\nX-A:\r\n\r\n",
    "Host with a port": b"GET /run/a HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "Expect in HTTP/1.0": b"GET /run/a HTTP/1.0\r\nExpect: 200-ok\r\n\r\n",
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_is_allowed_is_served(server: Front, case: str) -> None:
    (answer,) = answers(server.ask(ALLOWED[case], eof=True))
    assert (answer.status, answer.body) == (200, b"ran")
    assert executed == ["a"]
    executed.clear()


CUT = {
    "a request": (request("/run/a"), [200]),
    "a body": (request("/run/a", method="POST", body=b"body"), [200]),
    "chunks": (
        request("/run/a", "Transfer-Encoding: chunked", method="POST") + b"2;a=b\r\nbo\r\n2\r\ndy\r\n0\r\nA: b\r\n\r\n",
        [200],
    ),
    "two, and an error": (request("/run/a") * 2 + b"GET / HTTP/1.1\nHost: h\r\n\r\n" + NEXT, [200, 200, 400]),
    "an error in chunks": (
        request("/run/a", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabcd\r\n" + NEXT, [400],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CUT)
def test_the_verdict_is_the_same_however_the_bytes_are_cut(server: Front, case: str) -> None:
    sent, statuses = CUT[case]
    for pieces in [*cuts(sent)][:: 1 if len(sent) < 60 else 7]:
        found = answers(server.ask(*pieces, eof=True))
        assert [one.status for one in found] == statuses, pieces
        assert executed == ["a"] * statuses.count(200), pieces
        executed.clear()


def test_a_refusal_reaches_a_client_that_still_sends(server: Front) -> None:
    """RFC 9112 section 9.6: a plain close while the client sends would destroy the answer on its way."""
    with server.connect() as client:
        client.send(request("/run/a", "Content-Length: 1000000", method="POST"))
        client.send(*[b"a" * 10_000] * 20)
        assert client.answer().status == 413
        client.closed()
        assert not client.was_reset


def test_a_refused_client_that_stays_is_cut_off(server: Front) -> None:
    with server.connect() as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.answer().status == 400
        client.closed()  # its side of the connection stays open
        server.at_rest()


def test_a_fault_after_an_answer_is_told_only_then(server: Front) -> None:
    with server.connect() as client:
        for _ in range(2):
            client.send(request("/run/a"))
            assert client.answer().status == 200
        client.send(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n" + NEXT)
        assert client.answer().status == 400
        client.closed()
    assert executed == ["a", "a"]
    executed.clear()


def test_a_fault_in_the_body_ends_a_mounted_app_that_waits_for_it(server: Front) -> None:
    client = Client(server.address)
    with client:
        client.send(request("/mounted/a", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
        server.call(lambda: None)
        client.send(b"what\r\n" + NEXT)
        assert client.answer().status == 400
        client.closed()
    server.at_rest()


def test_the_app_says_how_an_error_in_a_body_looks() -> None:
    def on_error(error: Error, asked: Request) -> Response:
        return Response(error.kind.status, (("x-own", error.kind.name),), asked.path.encode())

    own = App(on_error=on_error)
    own.post("/run", take)
    chunked = request("/run", "Transfer-Encoding: chunked", method="POST")
    with front(own, **LIMITS) as server:
        for sent, status, name in (
            (request("/run", method="POST", body=b"x" * 65), 413, "PAYLOAD_TOO_LARGE"),
            (chunked + b"nonsense\r\n", 400, "INVALID_INPUT"),
        ):
            (answer,) = answers(server.ask(sent + NEXT, eof=True))
            assert (answer.status, answer.field("x-own"), answer.body) == (status, name, b"/run")
            assert answer.closes
        refused(server, b"nonsense\r\n\r\n" + NEXT, 400)  # there is no request that it could be asked about
