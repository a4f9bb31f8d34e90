"""What is a request, and what it says."""

from __future__ import annotations

import pytest
from wire_kit import bytewise, connection, cut_in_two, talk

from zerver.wire import END, Body, Closed, Closing, Head

GET = b"GET / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def one(data: bytes) -> Head:
    """The only request in these bytes, which is the same however they are cut."""
    result = talk([data])
    (head,) = result.heads
    assert not result.statuses, result.seen
    assert talk(bytewise(data)).seen == result.seen
    assert talk([data, data]).heads == [head, head] or result.connection.closing is not None
    return head


def test_a_head_has_all_that_a_request_needs() -> None:
    data = (
        b"GET /a%20b/%C3%A9?x=%20&y HTTP/1.1\r\nHost: example.org:8080\r\nACCEPT:*/*\r\nX-Empty:\r\n"
        b"X-Spaced: \t one  two\t \r\nX-Latin: \xe9\r\nAccept: text/html\r\n\r\n"
    )
    assert one(data) == Head(
        method="GET",
        target=b"/a%20b/%C3%A9?x=%20&y",
        path="/a b/é",
        query=b"x=%20&y",
        headers=(
            (b"host", b"example.org:8080"),
            (b"accept", b"*/*"),
            (b"x-empty", b""),
            (b"x-spaced", b"one  two"),
            (b"x-latin", b"\xe9"),
            (b"accept", b"text/html"),
        ),
        version="1.1",
        keep_alive=True,
        length=0,
        expects_continue=False,
        upgrade="",
    )


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", b""),
        (b"/?", "/", b""),
        (b"/a?b?c=/d", "/a", b"b?c=/d"),
        (b"//a", "//a", b""),
        (b"/a;b=c/@:!$&'()*+,=-._~", "/a;b=c/@:!$&'()*+,=-._~", b""),
        (b"/a|b^c`{d}\"<>\\?e|f", "/a|b^c`{d}\"<>\\", b"e|f"),  # as browsers send them
        (b"/%2Fa%3Fb%25", "//a?b%", b""),
        (b"/%ff%e9", "/\ufffd\ufffd", b""),
        (b"/100%/%zz", "/100%/%zz", b""),
        # RFC 9112 section 3.2.2
        (b"http://b", "/", b""),
        (b"http://b?x", "/", b"x"),
        (b"HTTPS://b:443/c%20d?x=y", "/c d", b"x=y"),
    ],
)  # fmt: skip
def test_the_target_is_a_path_and_a_query(target: bytes, path: str, query: bytes) -> None:
    head = one(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (head.target, head.path, head.query) == (target, path, query)


def test_options_may_ask_about_the_server() -> None:
    assert one(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path == "*"  # RFC 9112 section 3.2.4


@pytest.mark.parametrize("minor", [b"0", b"1"])
def test_the_host_of_an_absolute_target_is_the_host(minor: bytes) -> None:
    head = one(b"GET http://b:8/ HTTP/1." + minor + b"\r\nX: y\r\nHost: a\r\n\r\n")  # RFC 9112 section 3.2.2
    assert head.headers == ((b"x", b"y"), (b"host", b"b:8"))
    assert one(b"GET http://b/ HTTP/1.0\r\n\r\n").headers == ((b"host", b"b"),)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PROPFIND", "M-SEARCH", "a!#$%&'*+-.^_`|~0Z", "get", "PRI"])
def test_a_method_is_any_token(method: str) -> None:
    assert one(method.encode() + b" / HTTP/1.1\r\nHost: a\r\n\r\n").method == method


@pytest.mark.parametrize(
    "host", [b"a", b"a.b:80", b"1.2.3.4", b"[::1]", b"[::ffff:1.2.3.4]:8080", b"a:", b"a%20b", b"a_b~"]
)
def test_a_host_is_a_name_or_an_address_and_a_port(host: bytes) -> None:
    assert one(GET + b"Host: " + host + b"\r\n\r\n").headers == ((b"host", host),)


def test_one_empty_line_before_a_request_is_skipped() -> None:
    assert one(b"\r\n" + GET + HOST + b"\r\n").path == "/"  # RFC 9112 section 2.2
    result = talk([b"\r\n"], eof=True)
    assert [type(event) for event in result.seen] == [Closed]


KEEPING = [
    (b"1.1", None, True),
    (b"1.1", b"keep-alive", True),
    (b"1.1", b"close", False),
    (b"1.1", b"Close", False),
    (b"1.1", b"keep-alive, close", False),
    (b"1.1", b"x ,\tclose , y", False),
    (b"1.1", b"closed", True),
    (b"1.1", b"x-close", True),
    (b"1.0", None, False),
    (b"1.0", b"keep-alive", True),
    (b"1.0", b"Keep-Alive", True),
    (b"1.0", b"close, keep-alive", False),
]


@pytest.mark.parametrize(("version", "option", "kept"), KEEPING)
def test_the_connection_is_kept_as_version_and_connection_say(version: bytes, option: bytes | None, kept: bool) -> None:
    field = b"" if option is None else b"Connection: " + option + b"\r\n"
    data = b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + field + b"\r\n"
    assert one(data).keep_alive is kept
    result = talk([data + data])
    assert len(result.heads) == (2 if kept else 1)  # RFC 9112 section 9.6: nothing after close is executed
    assert (b"\r\nconnection: close\r\n" in result.out) is not kept
    assert (b"\r\nconnection: keep-alive\r\n" in result.out) is (kept and version == b"1.0")
    assert result.connection.closing is (None if kept else Closing.LINGER)
    assert talk([data]).connection.closing is (None if kept else Closing.NOW)


def test_close_counts_in_any_line_of_connection() -> None:
    assert not one(GET + HOST + b"Connection: x\r\nConnection: close\r\n\r\n").keep_alive


BODIES = [
    (POST + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    (POST + b"Content-Length: 0005\r\n\r\nhello", b"hello"),
    (POST + b"Content-Length: 4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n\0\xff", b"\0\xff"),
    (b"POST / HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab", b"ab"),
    (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (CHUNKED + b"1\r\nh\r\n004\r\nello\r\n000\r\n\r\n", b"hello"),
    (CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    (CHUNKED + b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    (CHUNKED + b'5;a\r\nhello\r\n0;b="c;\\"d" ; e = f\r\n\r\n', b"hello"),
    (CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\nContent-Length: 3\r\n\r\n", b"hello"),
    (CHUNKED + b"0\r\n\r\n", b""),
]


@pytest.mark.parametrize(("data", "body"), BODIES)
def test_a_body_ends_where_its_length_or_its_chunks_say(data: bytes, body: bytes) -> None:
    whole = talk([data])
    assert whole.seen[1:] == ([Body(body)] if body else []) + [END]
    assert not whole.connection.closing
    for pieces in (bytewise(data), *cut_in_two(data)):
        assert talk(pieces).seen == whole.seen
    twice = talk([data + GET + HOST + b"\r\n" + data])
    assert twice.seen[0] == whole.seen[0]
    assert [head.method for head in twice.heads] == [whole.heads[0].method, "GET", whole.heads[0].method]
    assert twice.body == body * 2


def test_a_body_of_no_bytes_is_none() -> None:
    assert one(POST + b"Content-Length: 0\r\n\r\n").length == 0


def test_trailers_are_dropped() -> None:
    head = one(CHUNKED + b"0\r\nX-Secret: y\r\n\r\n")
    assert head.headers == ((b"host", b"a"), (b"transfer-encoding", b"chunked"))


def test_pipelined_requests_are_told_one_at_a_time_in_order() -> None:
    wire = connection()
    data = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3))
    (first,) = wire.feed(data, 0.0)
    assert isinstance(first, Head)
    assert not wire.waiting
    assert wire.feed(b"", 0.0) == []
    wire.respond(200, (), b"", 0.0)
    assert wire.waiting
    paths = []
    while wire.waiting:
        (head,) = wire.feed(b"", 0.0)
        assert isinstance(head, Head)
        paths.append(head.path)
        wire.respond(200, (), b"", 0.0)
    assert (first.path, paths) == ("/0", ["/1", "/2"])
    assert wire.idle


def test_the_same_fields_again_are_read_as_the_first_time() -> None:
    fields = HOST + b"X: y\r\n\r\n"
    for later in (b"GET /b?c HTTP/1.1\r\n", b"HEAD /b HTTP/1.1\r\n", b"GET /b HTTP/1.0\r\n", b"X / HTTP/1.1\r\n"):
        assert talk([GET + fields, later + fields]).heads[1] == one(later + fields)
    other = talk([GET + fields, GET + fields[:-2] + b"Z: 1\r\n\r\n"]).heads[1]
    assert other.headers == ((b"host", b"a"), (b"x", b"y"), (b"z", b"1"))


EXPECTS = POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"


def test_a_client_that_waits_is_told_to_go_on_once() -> None:
    wire = connection()
    (head,) = wire.feed(EXPECTS, 0.0)
    assert isinstance(head, Head)
    assert head.expects_continue
    assert wire.proceed() == b"HTTP/1.1 100 Continue\r\n\r\n"  # RFC 9110 section 10.1.1
    assert wire.proceed() == b""
    assert wire.feed(b"abc", 0.0) == [Body(b"abc"), END]
    assert b"connection" not in wire.respond(200, (), b"", 0.0)


def test_a_client_that_did_not_wait_is_not_told_to_go_on() -> None:
    wire = connection()
    wire.feed(EXPECTS + b"a", 0.0)
    assert wire.proceed() == b""


def test_a_client_that_went_on_by_itself_is_not_told_to_go_on_in_its_next_request() -> None:
    data = CHUNKED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") + b"0\r\n\r\n"
    wire = talk([data]).connection
    wire.feed(GET + HOST + b"\r\n", 0.0)
    assert wire.proceed() == b""


def test_a_client_that_is_refused_instead_of_told_to_go_on_may_or_may_not_send_its_body() -> None:
    wire = connection()
    wire.feed(EXPECTS, 0.0)
    assert b"\r\nconnection: close\r\n" in wire.respond(403, (), b"", 0.0)
    assert wire.closing is Closing.LINGER
    assert wire.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0.0) == []


def test_an_expectation_of_nothing_or_of_http_1_0_is_ignored() -> None:
    assert not one(GET + HOST + b"Expect: 100-continue\r\n\r\n").expects_continue
    old = b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: keep-alive\r\n\r\nab"
    assert not one(old).expects_continue


UPGRADE = (
    b"GET /ws?a=b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nX: \t y \r\n\r\n"
)


def test_an_upgrade_takes_the_head_and_what_follows_along() -> None:
    for pieces in ([UPGRADE + b"\x81\x00"], [UPGRADE, b"\x81\x00"]):
        wire = connection()
        events = [event for piece in pieces for event in wire.feed(piece, 0.0)]
        (head,) = events
        assert isinstance(head, Head)
        assert head.upgrade == "websocket"
        assert wire.take_over() == (
            b"GET /ws?a=b HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nx: y\r\n\r\n"
            b"\x81\x00"
        )
        assert wire.feed(b"more", 0.0) == []
        assert wire.deadline is None
        assert wire.closing is None


def test_an_upgrade_may_be_answered_as_if_it_were_none() -> None:
    result = talk([UPGRADE + UPGRADE])  # RFC 9110 section 7.8
    assert len(result.heads) == 2
    assert result.connection.closing is None


@pytest.mark.parametrize(
    "data",
    [
        GET + HOST + b"Upgrade: websocket\r\n\r\n",
        GET + HOST + b"Connection: upgrade\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
        POST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        GET + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
    ],
)
def test_an_upgrade_needs_both_fields_and_a_get_of_http_1_1_without_a_body(data: bytes) -> None:
    assert not one(data).upgrade
    wire = connection()
    wire.feed(data, 0.0)
    with pytest.raises(RuntimeError, match="does not ask for another protocol"):
        wire.take_over()


def test_whole_requests_are_answered_after_the_client_has_closed_its_side() -> None:
    data = GET + HOST + b"\r\n"
    wire = connection()
    assert len(wire.feed(data * 2, 0.0)) == 1
    assert wire.feed_eof(0.0) == []
    assert b"connection" not in wire.respond(200, (), b"", 0.0)
    assert len(wire.feed(b"", 0.0)) == 1
    assert b"\r\nconnection: close\r\n" in wire.respond(200, (), b"", 0.0)
    assert wire.closing is Closing.NOW


def test_an_idle_connection_that_the_client_closes_is_closed() -> None:
    wire = connection()
    (event,) = wire.feed_eof(0.0)
    assert isinstance(event, Closed)
    assert wire.closing is Closing.NOW


def test_a_refusal_is_still_owed_when_the_client_closes_its_side() -> None:
    wire = connection()
    (refused,) = wire.feed(b"GET / HTTP/1.1\r\n\r\n", 0.0)
    assert wire.feed_eof(0.0) == []
    assert wire.refuse(refused, 0.0).startswith(b"HTTP/1.1 400 ")  # type: ignore[arg-type]
    assert wire.closing is Closing.NOW
