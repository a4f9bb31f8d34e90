"""The pure parts of the lean HTTP client: bytes of requests, answers out of bytes, and the pool."""

from __future__ import annotations

import gzip
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver.effectors.http_client.pool import Pool
from zerver.effectors.http_client.request import Origin, encode, fits, origin_of
from zerver.effectors.http_client.response import Fault, Head, ResponseReader, gunzip, parse_head
from zerver.effects import http
from zerver.effects.http import HttpRequest, HttpResult, checked_url
from zerver.error import DefinitionError

MOST = 1000


# Requests


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a.b/c?d", (False, "a.b", 80, "a.b")),
        ("http://a.b:8080", (False, "a.b", 8080, "a.b:8080")),
        ("https://a.b/", (True, "a.b", 443, "a.b")),
        ("https://[::1]:8443/x", (True, "::1", 8443, "[::1]:8443")),
    ],
)
def test_the_origin_of_a_url(url: str, origin: tuple[bool, str, int, str]) -> None:
    found = origin_of(url)
    assert (found.tls, found.host, found.port, found.authority) == origin
    assert origin_of(url) is found


@pytest.mark.parametrize("url", ["ftp://a/", "a", "", "http:///x"])
def test_what_is_no_http_url_has_no_origin(url: str) -> None:
    with pytest.raises(DefinitionError, match="absolute http"):
        origin_of(url)


def sent(request: HttpRequest) -> bytes:
    return encode(request, origin_of(request.url))


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (
            http.get("http://a.b/c?d=e"),
            b"GET /c?d=e HTTP/1.1\r\nHost: a.b\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nUser-Agent: zerver\r\n\r\n",
        ),
        (
            http.post("http://a.b", body=b"x\r\n\r\ny", headers={"User-Agent": "me", "X": ""}),
            b"POST / HTTP/1.1\r\nHost: a.b\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nuser-agent: me\r\nx: \r\n"
            b"content-type: application/octet-stream\r\nContent-Length: 6\r\n\r\nx\r\n\r\ny",
        ),
        (
            http.put("http://a.b/", headers={"Host": "c"}),
            b"PUT / HTTP/1.1\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nUser-Agent: zerver\r\nhost: c\r\n"
            b"Content-Length: 0\r\n\r\n",
        ),
        (
            http.delete("http://a.b/"),
            b"DELETE / HTTP/1.1\r\nHost: a.b\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nUser-Agent: zerver\r\n\r\n",
        ),
    ],
    ids=["get", "post", "put", "delete"],
)
def test_a_request_is_written(effect: object, expected: bytes) -> None:
    assert sent(effect.args) == expected  # type: ignore[attr-defined]


EVIL = st.sampled_from(["\r", "\n", "\r\n", "\0", "\r\nx: y", "a\nb", "\r\n\r\nGET / HTTP/1.1\r\n\r\n"])


@given(EVIL, st.integers(0, 3), st.booleans())
def test_nothing_in_a_request_ends_a_line_of_it_early(evil: str, where: int, body: bool) -> None:
    parts = ["GET", "http://a.b/c", "x", "y"]
    parts[where] += evil
    method, url, name, value = parts
    request = HttpRequest(method, url, ((name, value),), b"z" if body else None, frozenset({200}))
    with pytest.raises(DefinitionError, match="end early"):
        encode(request, origin_of("http://a.b/"))


@pytest.mark.parametrize(("method", "url"), [("GET /x HTTP/1.1", "http://a.b/"), ("GET", "http://a.b/ HTTP/1.1")])
def test_nor_a_part_of_its_first_line(method: str, url: str) -> None:
    with pytest.raises(DefinitionError, match="end early"):
        sent(HttpRequest(method, url, (), None, frozenset({200})))


@pytest.mark.parametrize(
    ("headers", "fitting"),
    [({}, True), ({"X": "y"}, True), ({"Accept-Encoding": "br"}, False), ({"Expect": "100-continue"}, False)],
)
def test_what_needs_the_bigger_client(headers: dict[str, str], fitting: bool) -> None:
    assert fits(http.get("http://a.b/", headers=headers).args) is fitting


# Answers


def read(pieces: list[bytes], to_head: bool = False, eof: bool = False) -> tuple[HttpResult | Fault | None, bool, int]:
    """The answer, whether the connection may be used again, and how many pieces were taken."""
    reader = ResponseReader(MOST)
    reader.expect(to_head)
    for taken, piece in enumerate(pieces, 1):
        answer = reader.feed(piece)
        if answer is not None:
            return answer, reader.reusable, taken
    return (reader.eof() if eof else None), reader.reusable, len(pieces)


TOKEN = st.text("abcXYZ0189-_!", min_size=1, max_size=10).filter(
    lambda name: name.lower() not in ("content-length", "transfer-encoding", "connection", "content-encoding")
)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
FIELDS = st.lists(st.tuples(TOKEN, VALUE), max_size=6)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({one % (len(data) + 1) for one in at} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places) if start < end]


def chunked(body: bytes, sizes: list[int]) -> bytes:
    pieces = [one for one in cut(body, sizes) if one]
    return b"".join([f"{len(one):x};a=b\r\n".encode() + one + b"\r\n" for one in pieces]) + b"0\r\nX: y\r\n\r\n"


@given(
    st.sampled_from([200, 201, 302, 404, 503, 599]),
    FIELDS,
    st.binary(max_size=300),
    st.sampled_from(["length", "chunks", "end"]),
    st.booleans(),
    st.integers(0, 3),
    st.lists(st.integers(0, 2000), max_size=8),
)
def test_an_answer_is_the_same_however_its_bytes_are_cut(
    status: int, fields: list[tuple[str, str]], body: bytes, framing: str, packed: bool, interim: int, at: list[int]
) -> None:
    content = gzip.compress(body, mtime=0) if packed else body
    head = [f"HTTP/1.1 {status} X"] + [f"{name}: {value}" for name, value in fields]
    if packed:
        head.append("Content-Encoding: gzip")
    if framing == "length":
        head.append(f"Content-Length: {len(content)}")
    elif framing == "chunks":
        head.append("Transfer-Encoding: Chunked")
    data = b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n" * interim
    data += ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + (
        chunked(content, at) if framing == "chunks" else content
    )
    answer, reusable, taken = read(cut(data, at), eof=framing == "end")
    assert isinstance(answer, HttpResult)
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers[: len(fields)] == tuple([(name.lower(), value) for name, value in fields])
    assert reusable is (framing != "end")
    assert taken == len(cut(data, at))


@pytest.mark.parametrize(
    "surplus", [b"\n", b"\r\n", b"\r\n\r\n", b"0", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
)
@pytest.mark.parametrize("framing", ["length", "chunks", "head"])
def test_nothing_may_follow_an_answer(framing: str, surplus: bytes) -> None:
    data = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "head": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    }[framing]
    for at in range(len(data)):  # the last piece holds at least a byte of the answer
        answer, reusable, _ = read([data[:at], data[at:] + surplus], framing == "head")
        assert isinstance(answer, HttpResult)
        assert answer.body == (b"" if framing == "head" else b"hello")
        assert not reusable
        assert read([data[:at], data[at:]], framing == "head")[1]


@pytest.mark.parametrize("field", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_204_that_announces_a_body_may_be_followed_by_it(field: str) -> None:
    head = f"HTTP/1.1 204 No Content\r\n{field}\r\n\r\n".encode()
    answer, reusable, _ = read([head])
    assert isinstance(answer, HttpResult)
    assert not reusable
    assert read([b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"])[1]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_no_bytes_make_it_raise(data: bytes, at: list[int]) -> None:
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        answer, _, _ = read(cut(start + data, at), eof=True)
        assert answer is None or isinstance(answer, (HttpResult, Fault))


def test_what_is_no_http_is_refused_by_its_first_byte() -> None:
    assert isinstance(read([b"S"])[0], Fault)
    assert read([b"HTT"])[0] is None


def test_a_reader_reads_one_answer_after_another() -> None:
    reader = ResponseReader(MOST)
    for n in range(3):
        reader.expect(False)
        assert reader.untouched
        assert reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n") is None
        assert not reader.untouched
        answer = reader.feed(b"%d\r\n0\r\n\r\n" % n)
        assert isinstance(answer, HttpResult)
        assert answer.body == b"%d" % n
        reader.expect(False)
        answer = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n)
        assert isinstance(answer, HttpResult)
        assert (answer.body, reader.reusable) == (b"%d" % n, True)


@pytest.mark.parametrize("size", [MOST, MOST + 1])
@pytest.mark.parametrize("framing", ["length", "chunks", "end", "gzip"])
def test_a_body_has_at_most_so_many_bytes(size: int, framing: str) -> None:
    body = bytes(size)
    head, content = {
        "length": (f"Content-Length: {size}", body),
        "chunks": ("Transfer-Encoding: chunked", chunked(body, [100])),
        "end": ("X: y", body),
        "gzip": (f"Content-Encoding: gzip\r\nContent-Length: {len(gzip.compress(body))}", gzip.compress(body)),
    }[framing]
    answer = read([f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + content], eof=True)[0]
    if size == MOST:
        assert isinstance(answer, HttpResult)
        assert answer.body == body
    else:
        assert answer == Fault("the answer is larger than 1000 bytes", False)


def test_an_endless_head_is_given_up() -> None:
    answer, _, taken = read([b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 1024] * 100])
    assert answer == Fault("the answer's head is too large")
    assert taken < 70


def parsed(*lines: str) -> Head | Fault:
    return parse_head("\r\n".join([*lines, "", ""]).encode("latin-1"))


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        (["HTTP/1.1 200 OK"], True),
        (["HTTP/1.1 200 OK", "Connection: close"], False),
        (["HTTP/1.1 200 OK", "Connection: a", "Connection: b ,CLOSE"], False),
        (["HTTP/1.1 200 OK", "Connection: closed"], True),
        (["HTTP/1.0 200 OK"], False),
        (["HTTP/1.0 200 OK", "Connection: Keep-Alive"], True),
        (["HTTP/1.0 200 OK", "Connection: Keep-Alive", "Transfer-Encoding: chunked"], False),
    ],
)
def test_whether_the_upstream_keeps_the_connection(lines: list[str], keep_alive: bool) -> None:
    head = parsed(*lines)
    assert isinstance(head, Head)
    assert head.keep_alive is keep_alive


@given(st.binary(max_size=300), st.integers(1, 400))
def test_gunzip_makes_no_more_than_it_may(body: bytes, most: int) -> None:
    packed = gzip.compress(body, mtime=0)
    assert gunzip(packed, most) == (body if len(body) <= most else None)
    half = len(body) // 2
    two = gzip.compress(body[:half], mtime=0) + gzip.compress(body[half:], mtime=0)
    assert gunzip(two, most) == (body if len(body) <= most else None)


def test_gunzip_takes_only_so_many_members() -> None:
    assert gunzip(gzip.compress(b"", mtime=0) * 16, 10) == b""
    assert isinstance(gunzip(gzip.compress(b"", mtime=0) * 17, 10), Fault)


# The pool


def test_the_connection_that_was_used_last_is_used_next() -> None:
    pool: Pool[str, int] = Pool()
    for connection in (1, 2, 3):
        assert pool.keep("a", connection, 0.0) is None
    assert [pool.take("a") for _ in range(4)] == [3, 2, 1, None]
    assert pool.take("b") is None


def test_a_connection_is_kept_for_its_time() -> None:
    pool: Pool[str, int] = Pool(seconds=10.0)
    assert pool.due is None
    pool.keep("a", 1, 100.0)
    pool.keep("b", 2, 105.0)
    assert pool.due == 110.0
    assert pool.expire(109.0) == []
    assert pool.expire(110.0) == [1]
    assert (pool.due, pool.take("a"), pool.take("b"), pool.due) == (115.0, None, 2, None)


def test_so_many_are_kept_of_one_origin_and_of_all() -> None:
    pool: Pool[str, int] = Pool(each=2, total=3)
    assert [pool.keep("a", n, 0.0) for n in (1, 2, 3)] == [None, None, 1]
    assert [pool.keep("b", n, 0.0) for n in (4, 5)] == [None, 2]
    assert repr(pool) == "<Pool of 2 origins: 3 idle>"
    assert pool.drop(3)
    assert not pool.drop(3)
    assert (pool.clear(), len(pool)) == ([4, 5], 0)


@given(st.lists(st.tuples(st.sampled_from(["keep", "take", "drop", "expire"]), st.sampled_from("abc")), max_size=60))
def test_a_connection_is_in_one_place_at_a_time(actions: list[tuple[str, str]]) -> None:
    pool: Pool[str, int] = Pool(seconds=5.0, each=3, total=6)
    idle: dict[int, str] = {}
    for now, (action, origin) in enumerate(actions):
        if action == "keep":
            idle[now] = origin
            closed = pool.keep(origin, now, float(now))
            if closed is not None:
                del idle[closed]
        elif action == "take":
            taken = pool.take(origin)
            of_origin = [one for one, where in idle.items() if where == origin]
            assert taken == (max(of_origin) if of_origin else None)
            idle.pop(taken or -1, None)
            if taken == 0:
                idle.pop(0, None)
        elif action == "drop" and idle:
            gone = min(idle)
            assert pool.drop(gone)
            del idle[gone]
        elif action == "expire":
            late = pool.expire(float(now))
            assert late == [one for one in idle if one + 5 <= now]
            for one in late:
                del idle[one]
        assert len(pool) == len(idle) <= 6
        assert all(list(idle.values()).count(one) <= 3 for one in "abc")


def test_an_origin_is_told_by_its_parts() -> None:
    assert origin_of("http://a.b/") == Origin(
        False,
        "a.b",
        80,
        "Host: a.b\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nUser-Agent: zerver\r\n",
        "a.b",
        10,
    )


PARTS = st.sampled_from(
    ["a.b", "A.b", "[::1]", "[::1", "1.2.3.4", ":80", ":443", ":8080", ":0", ":99999", "/", "//", "?", "#", "%", "%2F",
     " ", "é", "@", "u:p@", "..", "\n", "&=", "[", "]", "^", "'"]
)  # fmt: skip


@given(st.sampled_from(["http://", "https://", "HTTP://", ""]), st.lists(PARTS, max_size=6))
def test_a_url_that_needs_no_change_is_judged_as_any_other(scheme: str, parts: list[str]) -> None:
    url = scheme + "".join(parts)
    found = [verdict(url, params) for params in (None, {"x": "y"})]
    if isinstance(found[0], str):
        assert found[0] == found[1]
    else:
        (plain, target), (longer, same) = found
        assert (longer, same) == (plain + ("&" if "?" in plain else "?") + "x=y", target)
        assert checked_url("n", plain) == (plain, target)


def verdict(url: str, params: dict[str, str] | None) -> tuple[str, str] | str:
    try:
        return checked_url("n", url, params)
    except DefinitionError as problem:
        return str(problem)


def test_what_is_saved_is_not_decoded() -> None:
    assert http.get("http://a.b/", save="x", as_=HttpResult).args.save == "x"
    assert not fits(http.get("http://a.b/", save="x").args)
    with pytest.raises(DefinitionError, match="no body to decode"):
        http.get("http://a.b/", save="x", as_=bytes)
    with pytest.raises(DefinitionError, match="a path as text"):
        http.get("http://a.b/", save=b"x")  # type: ignore[call-overload]
