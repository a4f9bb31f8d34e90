"""Contracts section 8: what breaks a rule is refused, and nothing after it on that connection is executed."""

from __future__ import annotations

import pytest
from wire_kit import Talk, bytewise, cut_in_two, talk

from zerver.wire import Closing, End, Refused

NEXT = b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

# What is wrong, the bytes, the status. RFC 9112 unless it says otherwise.
HEADS: list[tuple[str, bytes, int]] = [
    # Section 3: the request line.
    ("no version, as HTTP/0.9", b"GET /\r\n\r\n", 400),
    ("two spaces after the method", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two spaces after the target", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a space before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a space after the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("a tab between", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no method", b"/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a method that is no token", b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a method that is not ASCII", b"G\xc3\x89T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("nothing", b"\r\n\r\n", 400),
    ("two empty lines before the request", b"\r\n\r\n" + NEXT, 400),
    ("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # Section 2.3: the version.
    ("HTTP/0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    ("another protocol", b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", 400),
    ("two digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    ("no minor version", b"GET / HTTP/1\r\nHost: a\r\n\r\n", 400),
    ("digits that are not ASCII", b"GET / HTTP/\xd9\xa1.\xd9\xa1\r\nHost: a\r\n\r\n", 400),
    # Section 3.2: the target.
    ("a relative target", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("* without OPTIONS", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a fragment in the query", b"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a target that is not ASCII", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("NUL in the target", b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("DEL in the target", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a control in the target", b"GET /\x1b[1m HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a URL without a host", b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("userinfo in the target", b"GET http://me:x@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),  # RFC 9110 section 4.2.4
    ("a host in the target with a bad port", b"GET http://a:x/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("authority-form without CONNECT", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),  # RFC 9110 section 9.3.6
    ("CONNECT with a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    # Section 3.2 and RFC 9110 section 7.2: Host.
    ("no Host", GET + b"Accept: */*\r\n\r\n", 400),
    ("no field at all", GET + b"\r\n", 400),
    ("no Host with an absolute target", b"GET http://a/ HTTP/1.1\r\nAccept: */*\r\n\r\n", 400),
    ("two Hosts", GET + b"Host: a\r\nHost: b\r\n\r\n", 400),
    ("two equal Hosts", GET + b"Host: a\r\nHost: a\r\n\r\n", 400),
    ("two Hosts of HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("an empty Host", GET + b"Host: \r\n\r\n", 400),
    ("a list of Hosts", GET + b"Host: a, b\r\n\r\n", 400),
    ("a list of Hosts without a space", GET + b"Host: a,b\r\n\r\n", 400),
    ("userinfo in Host", GET + b"Host: me@a\r\n\r\n", 400),
    ("a path in Host", GET + b"Host: a/b\r\n\r\n", 400),
    ("a URL as Host", GET + b"Host: http://a\r\n\r\n", 400),
    ("a space in Host", GET + b"Host: a b\r\n\r\n", 400),
    ("a bad port in Host", GET + b"Host: a:8o\r\n\r\n", 400),
    ("a port that is not ASCII in Host", "GET / HTTP/1.1\r\nHost: a:٨٠\r\n\r\n".encode(), 400),
    ("a port of six digits in Host", GET + b"Host: a:123456\r\n\r\n", 400),
    ("a bad escape in Host", GET + b"Host: a%2\r\n\r\n", 400),
    ("half an IPv6 address in Host", GET + b"Host: [::1\r\n\r\n", 400),
    # Section 5: the fields.
    ("a space before the colon", GET + b"Host : a\r\n\r\n", 400),
    ("a tab before the colon", GET + b"Host\t: a\r\n\r\n", 400),
    ("a space in a name", GET + b"Host: a\r\nX Y: b\r\n\r\n", 400),
    ("an empty name", GET + b"Host: a\r\n: b\r\n\r\n", 400),
    ("no colon", GET + b"Host: a\r\nX\r\n\r\n", 400),
    ("a name that is no token", GET + b"Host: a\r\nX(Y): b\r\n\r\n", 400),
    ("a name that is not ASCII", GET + b"Host: a\r\nX\xe9: b\r\n\r\n", 400),
    ("obs-fold with a space", GET + b"Host: a\r\nX: b\r\n c\r\n\r\n", 400),  # section 5.2
    ("obs-fold with a tab", GET + b"Host: a\r\nX: b\r\n\tc\r\n\r\n", 400),
    ("obs-fold of nothing", GET + b"Host: a\r\nX: b\r\n \r\n\r\n", 400),
    ("a space before the first field", GET + b" Host: a\r\n\r\n", 400),  # section 2.2
    ("a folded Transfer-Encoding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n", 400),
    ("NUL in a name", GET + b"Host: a\r\nX\x00: b\r\n\r\n", 400),
    ("NUL in a value", GET + b"Host: a\r\nX: b\x00c\r\n\r\n", 400),
    ("a control in a value", GET + b"Host: a\r\nX: b\x1bc\r\n\r\n", 400),
    ("DEL in a value", GET + b"Host: a\r\nX: b\x7f\r\n\r\n", 400),
    ("a vertical tab in Transfer-Encoding", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    # Section 2.2: CR and LF.
    ("LF alone after the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("LF alone everywhere", b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ("LF alone after a field", GET + b"Host: a\nX: b\r\n\r\n", 400),
    ("LF alone as the empty line", GET + b"Host: a\r\n\n", 400),
    ("LF first", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("CR alone in the request line", b"GET /\rX HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("CR alone in a value", GET + b"Host: a\r\nX: b\rY: c\r\n\r\n", 400),
    ("CR alone before a line end", GET + b"Host: a\r\r\n\r\n", 400),
    ("CR alone before the empty line", GET + b"Host: a\r\n\rX: b\r\n\r\n", 400),
    # Section 6: the length.
    ("Content-Length with Transfer-Encoding", POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("Transfer-Encoding with Content-Length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
    ("two lengths", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    ("two equal lengths", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
    ("a list of lengths", POST + b"Content-Length: 3, 3\r\n\r\n", 400),
    ("an empty length", POST + b"Content-Length: \r\n\r\n", 400),
    ("a signed length", POST + b"Content-Length: +3\r\n\r\n", 400),
    ("a negative length", POST + b"Content-Length: -3\r\n\r\n", 400),
    ("an underscore in the length", POST + b"Content-Length: 1_0\r\n\r\n", 400),
    ("a hexadecimal length", POST + b"Content-Length: 0x3\r\n\r\n", 400),
    ("a length with a fraction", POST + b"Content-Length: 3.0\r\n\r\n", 400),
    ("a space in the length", POST + b"Content-Length: 1 0\r\n\r\n", 400),
    ("digits of another script", POST + "Content-Length: ٣\r\n\r\n".encode(), 400),
    ("a superscript", POST + b"Content-Length: \xb3\r\n\r\n", 400),
    ("a length past 64 bits", POST + b"Content-Length: 18446744073709551617\r\n\r\n", 400),
    ("a length of a thousand digits", POST + b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n", 400),
    ("a length of thousands of zeros", POST + b"Content-Length: " + b"0" * 4_500 + b"3\r\n\r\n", 400),
    ("another coding", POST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    ("a list of codings", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
    ("chunked twice in a list", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    ("Transfer-Encoding twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("chunked and identity", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 400),
    ("identity", POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    ("a coding that begins alike", POST + b"Transfer-Encoding: chunkedx\r\n\r\n", 400),
    ("a coding that ends alike", POST + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    ("an empty coding", POST + b"Transfer-Encoding: \r\n\r\n", 400),
    ("chunked in quotes", POST + b'Transfer-Encoding: "chunked"\r\n\r\n', 400),
    ("chunked with a parameter", POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n", 400),
    ("chunked in another case", POST + b"Transfer-Encoding: Chunked\r\n\r\n", 400),
    ("chunked with a comma", POST + b"Transfer-Encoding: ,chunked\r\n\r\n", 400),
    ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),  # section 6.1
    ("an expectation that nobody knows", POST + b"Content-Length: 3\r\nExpect: a-pony\r\n\r\n", 417),
]  # fmt: skip

# Section 7.1: the head is good, and is told.
BODIES: list[tuple[str, bytes, int]] = [
    ("no size", CHUNKED + b"\r\nabc\r\n0\r\n\r\n", 400),
    ("a size that is no number", CHUNKED + b"x\r\nabc\r\n0\r\n\r\n", 400),
    ("a signed size", CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n", 400),
    ("a negative size", CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", 400),
    ("a size with 0x", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    ("an underscore in a size", CHUNKED + b"0_3\r\nabc\r\n0\r\n\r\n", 400),
    ("a size of another script", CHUNKED + "٣\r\nabc\r\n0\r\n\r\n".encode(), 400),
    ("a size past 64 bits", CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n", 400),
    ("white space before a size", CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", 400),
    ("white space after a size", CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 400),
    ("LF alone after a size", CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
    ("CR alone after a size", CHUNKED + b"3\rabc\r\n0\r\n\r\n", 400),
    ("CR, CR, LF after a size", CHUNKED + b"3\r\r\nabc\r\n0\r\n\r\n", 400),
    ("LF alone after the data", CHUNKED + b"3\r\nabc\n0\r\n\r\n", 400),
    ("CR alone after the data", CHUNKED + b"3\r\nabc\r0\r\n\r\n", 400),
    ("no line end after the data", CHUNKED + b"3\r\nabc0\r\n\r\n", 400),
    ("more data than the size says", CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    ("less data than the size says", CHUNKED + b"4\r\nabc\r\n0\r\n\r\n", 400),
    ("an extension without a name", CHUNKED + b"3;\r\nabc\r\n0\r\n\r\n", 400),
    ("an extension without a value", CHUNKED + b"3;a=\r\nabc\r\n0\r\n\r\n", 400),
    ("a name that is no token", CHUNKED + b"3;a b\r\nabc\r\n0\r\n\r\n", 400),
    ("a quoted value without its end", CHUNKED + b'3;a="b\r\nabc\r\n0\r\n\r\n', 400),
    ("NUL in an extension", CHUNKED + b"3;a=\x00\r\nabc\r\n0\r\n\r\n", 400),
    ("LF in an extension", CHUNKED + b"3;a\n\r\nabc\r\n0\r\n\r\n", 400),
    ("LF alone as the end", CHUNKED + b"3\r\nabc\r\n0\r\n\n", 400),
    ("a trailer without a colon", CHUNKED + b"0\r\nX\r\n\r\n", 400),
    ("a folded trailer", CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n", 400),
    ("a space before the colon of a trailer", CHUNKED + b"0\r\nX : a\r\n\r\n", 400),
    ("NUL in a trailer", CHUNKED + b"0\r\nX: \x00\r\n\r\n", 400),
    ("LF alone in a trailer", CHUNKED + b"0\r\nX: a\nY: b\r\n\r\n", 400),
    ("a request in place of the last line end", CHUNKED + b"0\r\n" + NEXT, 400),
]  # fmt: skip

CASES = [pytest.param(data, status, 0, id=what) for what, data, status in HEADS]
CASES += [pytest.param(data, status, 1, id="chunked: " + what) for what, data, status in BODIES]


def is_refused(result: Talk, status: int, heads: int) -> None:
    assert result.statuses == [status], result.seen
    assert len(result.heads) == heads
    assert isinstance(result.seen[-1], Refused)  # and nothing after it
    assert result.out.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in result.out
    assert result.connection.closing in (Closing.LINGER, Closing.NOW)
    assert result.connection.deadline is not None


@pytest.mark.parametrize(("data", "status", "heads"), CASES)
def test_a_broken_rule_is_refused_and_closes_the_connection_however_the_bytes_are_cut(
    data: bytes, status: int, heads: int
) -> None:
    whole = talk([data])
    is_refused(whole, status, heads)
    for pieces in (bytewise(data), [data + NEXT], [data, NEXT], [data + b"\r\n\0\xff" * 9], [*bytewise(data), NEXT]):
        other = talk(pieces)
        is_refused(other, status, heads)
        assert other.seen == whole.seen
        assert other.out == whole.out


@pytest.mark.parametrize(("data", "status", "heads"), CASES[::7])
def test_a_broken_rule_is_refused_wherever_the_bytes_are_cut_in_two(data: bytes, status: int, heads: int) -> None:
    whole = talk([data])
    for pieces in cut_in_two(data):
        assert talk(pieces).seen == whole.seen


@pytest.mark.parametrize(("data", "status", "heads"), CASES[::3])
def test_a_broken_rule_in_a_later_request_leaves_the_one_before_alone(data: bytes, status: int, heads: int) -> None:
    result = talk([b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n" + data])
    assert result.heads[0].path == "/first"
    assert len(result.heads) == 1 + heads
    assert result.statuses == [status]
    assert result.out.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("data", "status", "heads"), CASES)
def test_a_client_that_sent_good_fields_before_is_not_trusted_with_bad_ones(
    data: bytes, status: int, heads: int
) -> None:
    """The fields of the request before are remembered; only the same bytes again may profit from that."""
    good = GET + b"Host: a\r\n\r\n"
    result = talk([good, good, data])
    assert len(result.heads) == 2 + heads
    assert result.statuses == [status]


def test_what_is_refused_says_why_in_words_without_a_byte_of_the_client() -> None:
    for _, data, _ in HEADS + BODIES:
        (refused,) = [event for event in talk([data]).seen if isinstance(event, Refused)]
        assert refused.detail.isascii()
        assert refused.detail.isprintable()
        assert refused.detail.endswith(".")


def test_a_refusal_is_answered_with_problem_details() -> None:
    out = talk([b"GET / HTTP/1.1\r\n\r\n"]).out
    head, _, body = out.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert body == b'{"title":"Bad Request","status":400,"detail":"Host is missing."}'


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET / HTTP/1.1\r\nHos",
        CHUNKED[:-1],
        CHUNKED,
        CHUNKED + b"3\r\nab",
        POST + b"Content-Length: 3\r\n\r\nab",
    ],
)
def test_a_request_that_ends_in_the_middle_is_refused(data: bytes) -> None:
    for pieces in ([data], bytewise(data)):
        result = talk(pieces, eof=True)
        assert result.statuses == [400]
        assert isinstance(result.seen[-1], Refused)
        assert not any(isinstance(event, End) for event in result.seen)
        assert result.connection.closing is Closing.NOW


@pytest.mark.parametrize("cut", [False, True])
def test_a_line_end_is_not_pieced_together_from_a_body_and_the_next_request(cut: bool) -> None:
    data = POST + b"Content-Length: 1\r\n\r\n\r" + b"\n"
    assert talk(bytewise(data) if cut else [data]).statuses == [400]
