"""What a client may use, and the status of what is too much."""

from __future__ import annotations

import pytest
from msgspec import structs
from wire_kit import bytewise, connection, cut_in_two, talk

from zerver.wire import END, Body, Closed, Closing, Head, Limits, Refused

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SMALL = Limits(
    request_line=20, header_count=3, header_bytes=40, body_bytes=5, chunk_extension_bytes=6, trailer_count=2,
    trailer_bytes=16, pipeline_bytes=100,
)  # fmt: skip
SMALL_BODY = Limits(body_bytes=5)


def fields(size: int) -> bytes:
    """A block of so many bytes."""
    block = b"Host: a\r\nX: \r\n\r\n"
    return block[:-4] + b"x" * (size - len(block)) + block[-4:]


LIMITS = [
    ("a request line of 20 bytes", b"GET /" + b"x" * 6 + b" HTTP/1.1\r\nHost: a\r\n\r\n", None),
    ("a request line of 21 bytes", b"GET /" + b"x" * 7 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    ("a request line that does not end", b"G" * 200, 414),
    ("a long line that is bad after the limit", b"GET /" + b"x" * 40 + b"\0", 414),
    ("a long line that is bad before the limit", b"GET /\0" + b"x" * 40, 400),
    ("fields of 40 bytes", b"GET / HTTP/1.1\r\n" + fields(40), None),
    ("fields of 41 bytes", b"GET / HTTP/1.1\r\n" + fields(41), 431),
    ("fields that do not end", b"GET / HTTP/1.1\r\n" + b"X" * 200, 431),
    ("fields that are bad after the limit", b"GET / HTTP/1.1\r\n" + b"X" * 50 + b"\0", 431),
    ("fields that are bad before the limit", b"GET / HTTP/1.1\r\n" + b"X\n" + b"X" * 50, 400),
    ("large fields after a bad line", b"GET HTTP/1.1\r\n" + fields(60), 400),
    ("3 fields", b"GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB:\r\n\r\n", None),
    ("4 fields", b"GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB:\r\nC:\r\n\r\n", 431),
    ("a body of 5 bytes", POST + b"Content-Length: 5\r\n\r\n12345", None),
    ("a body of 6 bytes", POST + b"Content-Length: 6\r\n\r\n123456", 413),
    ("a body that is only announced", POST + b"Content-Length: 999999999999999999\r\n\r\n", 413),
    ("chunks of 5 bytes", CHUNKED + b"2\r\n12\r\n3\r\n345\r\n0\r\n\r\n", None),
    ("chunks of 6 bytes", CHUNKED + b"2\r\n12\r\n4\r\n3456\r\n0\r\n\r\n", 413),
    ("a chunk that is only announced", CHUNKED + b"ffffffffffffffff\r\n", 413),
    ("extensions of 6 bytes", CHUNKED + b"1;ab\r\n1\r\n0;ab\r\n\r\n", None),
    ("extensions of 7 bytes", CHUNKED + b"1;ab\r\n1\r\n0;abc\r\n\r\n", 413),
    ("an extension that does not end", CHUNKED + b"1;" + b"a" * 100, 413),
    ("a size that does not end", CHUNKED + b"0" * 100, 413),
    ("trailers of 16 bytes", CHUNKED + b"0\r\nX: 234567890\r\n\r\n", None),
    ("trailers of 17 bytes", CHUNKED + b"0\r\nX: 2345678901\r\n\r\n", 431),
    ("trailers that do not end", CHUNKED + b"0\r\nX: 1" + b"2" * 100, 431),
    ("2 trailers", CHUNKED + b"0\r\nA:\r\nB:\r\n\r\n", None),
    ("3 trailers", CHUNKED + b"0\r\nA:\r\nB:\r\nC:\r\n\r\n", 431),
]
WIDE = structs.replace(SMALL, header_count=9, header_bytes=200)


@pytest.mark.parametrize(("data", "status"), [pytest.param(*case[1:], id=case[0]) for case in LIMITS])
def test_each_limit_has_its_status_however_the_bytes_are_cut(data: bytes, status: int | None) -> None:
    limits = WIDE if data.startswith(POST) else SMALL
    whole = talk([data], limits)
    assert whole.statuses == ([] if status is None else [status]), whole.seen
    for pieces in (bytewise(data), [data + GET], [data + b"\0\r\n" * 99], [*bytewise(data), GET], *cut_in_two(data)):
        other = talk(pieces, limits)
        assert other.seen[: len(whole.seen)] == whole.seen
        if status is not None:
            assert other.seen == whole.seen


def test_the_defaults_are_those_of_the_contract() -> None:
    limits = Limits()
    assert (limits.request_line, limits.header_count, limits.header_bytes) == (8192, 100, 32768)
    assert limits.body_bytes == 1024 * 1024
    many = b"".join(b"X-%d: y\r\n" % number for number in range(99))
    assert talk([b"GET / HTTP/1.1\r\nHost: a\r\n" + many + b"\r\n"]).statuses == []
    assert talk([b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n" + many + b"\r\n"]).statuses == [431]
    assert talk([b"GET /" + b"a" * 8178 + b" HTTP/1.1\r\nHost: a\r\n\r\n"]).statuses == []
    assert talk([b"GET /" + b"a" * 8179 + b" HTTP/1.1\r\nHost: a\r\n\r\n"]).statuses == [414]


def test_a_body_that_is_too_large_is_refused_at_its_head() -> None:
    wire = connection(SMALL_BODY)
    (head,) = wire.feed(POST + b"Content-Length: 6\r\n\r\n", 0.0)
    assert isinstance(head, Head)
    assert wire.waiting
    (refused,) = wire.feed(b"", 0.0)
    assert isinstance(refused, Refused)
    assert refused.status == 413
    assert b"\r\nconnection: close\r\n" in wire.refuse(refused, 0.0)
    assert wire.closing is Closing.LINGER


def test_a_client_that_waits_with_a_body_that_is_too_large_is_not_told_to_go_on() -> None:
    wire = connection(SMALL_BODY)
    wire.feed(POST + b"Content-Length: 6\r\nExpect: 100-continue\r\n\r\n", 0.0)
    assert wire.proceed() == b""


@pytest.mark.parametrize("limit", [6, None])
@pytest.mark.parametrize(
    "data", [POST + b"Content-Length: 6\r\n\r\n123456", CHUNKED + b"3\r\n123\r\n3\r\n456\r\n0\r\n\r\n"]
)
def test_the_limit_of_a_body_may_be_changed_after_its_head(data: bytes, limit: int | None) -> None:
    wire = connection(SMALL_BODY)
    (_,) = wire.feed(data, 0.0)
    assert wire.body_limit == 5
    wire.body_limit = limit
    assert wire.feed(b"", 0.0) == [Body(b"123456"), END]
    wire.respond(200, (), b"", 0.0)
    wire.feed(data, 0.0)
    assert wire.body_limit == 5


def test_the_limit_of_a_body_may_be_lowered_after_its_head() -> None:
    wire = connection()
    wire.feed(POST + b"Content-Length: 6\r\n\r\n123456", 0.0)
    wire.body_limit = 5
    (refused,) = wire.feed(b"", 0.0)
    assert isinstance(refused, Refused)


def test_reading_pauses_while_too_many_requests_wait() -> None:
    wire = connection(SMALL)
    wire.feed(GET, 0.0)
    assert wire.wants_data
    fed = 0
    while wire.wants_data:
        assert wire.feed(GET, 0.0) == []
        fed += 1
    assert (fed - 1) * len(GET) <= SMALL.pipeline_bytes < fed * len(GET)
    answered = 0
    while True:
        wire.respond(200, (), b"", 0.0)
        answered += 1
        if not wire.waiting:
            break
        assert len(wire.feed(b"", 0.0)) == 1
    assert answered == fed + 1
    assert wire.wants_data


# Time

TIMES = Limits(head_timeout=10.0, body_timeout=30.0, body_rate=10, idle_timeout=75.0, linger_timeout=2.0)


def test_an_idle_connection_is_closed_in_silence() -> None:
    wire = connection(TIMES)
    assert wire.deadline == 75.0
    assert wire.expire(74.9) == []
    (event,) = wire.expire(75.0)
    assert isinstance(event, Closed)
    assert wire.closing is Closing.NOW
    assert wire.feed(GET, 75.0) == []


def test_a_head_has_its_time_from_its_first_byte_on() -> None:
    wire = connection(TIMES)
    wire.feed(b"G", 50.0)
    assert wire.deadline == 60.0
    wire.feed(b"ET / HTTP/1.1\r\n", 59.0)
    wire.feed(b"Host: a\r\n", 59.5)
    assert wire.deadline == 60.0
    (refused,) = wire.expire(60.0)
    assert isinstance(refused, Refused)
    assert refused.status == 408
    assert b"\r\nconnection: close\r\n" in wire.refuse(refused, 60.0)
    assert wire.feed(b"\r\n", 60.0) == []


def test_an_answer_takes_the_time_it_takes() -> None:
    wire = connection(TIMES)
    wire.feed(GET, 50.0)
    assert wire.deadline is None
    assert wire.expire(1e9) == []
    wire.respond(200, (), b"", 100.0)
    assert wire.deadline == 175.0


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n64\r\n"])
def test_a_body_has_its_time_and_more_for_each_byte_that_comes(framing: bytes) -> None:
    wire = connection(TIMES)
    wire.feed(POST + framing, 100.0)
    assert wire.deadline == 130.0
    wire.feed(b"x" * 20, 110.0)
    assert wire.deadline == 132.0
    (refused,) = wire.expire(132.0)
    assert isinstance(refused, Refused)
    assert refused.status == 408


def test_the_time_of_a_body_stands_still_while_the_caller_does_not_read() -> None:
    wire = connection(TIMES)
    wire.feed(POST + b"Content-Length: 100\r\n\r\n", 100.0)
    wire.hold(110.0)
    assert wire.deadline is None
    wire.feed(b"x" * 10, 115.0)
    assert wire.deadline is None
    wire.release(200.0)
    assert wire.deadline == 221.0
    wire.feed(b"x" * 90, 210.0)
    assert wire.deadline is None
    wire.release(300.0)
    wire.hold(300.0)
    assert wire.deadline is None


def test_a_body_that_is_late_after_its_answer_has_begun_cuts_the_answer_off() -> None:
    wire = connection(TIMES)
    wire.feed(POST + b"Content-Length: 100\r\n\r\n", 100.0)
    wire.begin(200, ())
    (refused,) = wire.expire(130.0)
    assert isinstance(refused, Refused)
    assert wire.refuse(refused, 130.0) == b""
    assert wire.closing is Closing.NOW


def test_lingering_has_an_end() -> None:
    wire = connection(TIMES)
    (refused,) = wire.feed(b"GET / HTTP/1.1\r\n\r\n", 100.0)
    assert isinstance(refused, Refused)
    wire.refuse(refused, 100.0)
    assert wire.closing is Closing.LINGER
    assert wire.wants_data
    assert wire.feed(b"x" * 1000, 101.0) == []
    assert wire.expire(101.9) == []
    (event,) = wire.expire(102.0)
    assert isinstance(event, Closed)
    assert wire.closing is Closing.NOW
    assert not wire.wants_data


def test_lingering_ends_with_what_the_client_sends() -> None:
    wire = connection(TIMES)
    (refused,) = wire.feed(b"GET / HTTP/1.1\r\n\r\n", 100.0)
    assert isinstance(refused, Refused)
    wire.refuse(refused, 100.0)
    (event,) = wire.feed_eof(100.0)
    assert isinstance(event, Closed)
