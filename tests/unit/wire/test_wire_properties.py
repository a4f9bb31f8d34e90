"""Whatever a client sends is requests or one defined refusal, the same however the bytes are cut, in linear time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_kit import bytewise, connection, talk

from zerver.wire import Body, Closed, End, Event, Head, Limits, Refused

TIGHT = Limits(
    request_line=30, header_count=4, header_bytes=120, body_bytes=20, chunk_extension_bytes=8, trailer_count=2,
    trailer_bytes=30,
)  # fmt: skip
STATUSES = {400, 413, 414, 417, 431, 501, 505}

VALID = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a%20b?c=d HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: x, upgrade\r\nUpgrade: y\r\n\r\n",
    b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n2\r\nyz\r\n0\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
]
# What smuggling is made of.
SHARDS = st.sampled_from(
    [
        b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"\n\n", b"\r\n ", b"\0", b"\x0b", b" ", b"\t", b":", b",", b";", b"#",
        b"%", b"0", b"-", b"+", b"x", b"\xff", b"HTTP/1.1", b"HTTP/1.0", b"GET / HTTP/1.1\r\n", b"Host: b\r\n",
        b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b" chunked",
        b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n", b"0\r\n\r\n", b"1\r\nZ\r\n",
    ]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Good requests in which a few bytes were replaced, dropped or put in."""
    data = b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(SHARDS | st.just(b"")) + data[at + draw(st.integers(0, 2)) :]
    return data


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    ends = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def is_lawful(events: list[Event]) -> None:
    """Head (Body* End)? again and again, then at most one Refused, then at most one Closed."""
    ends = [type(event) for event in events if isinstance(event, Refused | Closed)]
    assert ends in ([], [Refused], [Closed], [Refused, Closed])
    requests = events[: len(events) - len(ends)]
    body = False
    for event in requests:
        match event:
            case Head():
                assert not body
                body = event.length != 0
            case Body():
                assert body
                assert event.data
            case End():
                assert body
                body = False
            case Refused() | Closed():
                raise AssertionError(f"{event} is not the last")
    assert not body or ends != [Closed]
    assert {event.status for event in events if isinstance(event, Refused)} <= STATUSES


def without_closed(events: list[Event]) -> list[Event]:
    """Whether a connection that closes lingers first depends on what had come when it was answered."""
    return [event for event in events if not isinstance(event, Closed)]


@settings(max_examples=70)
@given(st.data(), mutated(), st.sampled_from([Limits(), TIGHT]), st.booleans())
def test_mutated_requests_are_requests_or_one_refusal_however_they_are_cut(
    data: st.DataObject, sent: bytes, limits: Limits, eof: bool
) -> None:
    whole = talk([sent], limits, eof=eof)
    is_lawful(whole.seen)
    for pieces in (data.draw(cut(sent)), bytewise(sent)):
        other = talk(pieces, limits, eof=eof)
        is_lawful(other.seen)
        assert without_closed(other.seen) == without_closed(whole.seen)
        assert other.out == whole.out
        assert (other.connection.closing is None) is (whole.connection.closing is None)


@settings(max_examples=50)
@given(st.data(), st.binary(max_size=200) | st.lists(SHARDS, max_size=30).map(b"".join))
def test_any_bytes_are_requests_or_one_refusal(data: st.DataObject, sent: bytes) -> None:
    whole = talk([sent], eof=True)
    is_lawful(whole.seen)
    other = talk(data.draw(cut(sent)), eof=True)
    assert without_closed(other.seen) == without_closed(whole.seen)


@settings(max_examples=60)
@given(mutated())
def test_what_is_taken_here_a_stricter_reader_takes_in_the_same_way(sent: bytes) -> None:
    """Against h11: no request that one of the two does not see, nor another body. h11 may refuse what is taken here."""
    result = talk([sent])
    server = h11.Connection(h11.SERVER)
    server.receive_data(sent.removeprefix(b"\r\n"))
    for number, head in enumerate(result.heads):
        try:
            request = server.next_event()
        except h11.RemoteProtocolError:
            return
        assert isinstance(request, h11.Request)
        assert request.method == head.method.encode()
        assert request.target == head.target
        if not head.target.lower().startswith(b"http"):
            assert list(request.headers) == list(head.headers)
        body = b""
        try:
            while isinstance(event := server.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            return
        if number == len(result.heads) - 1 or not isinstance(event, h11.EndOfMessage):
            return
        server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        server.send(h11.EndOfMessage())
        if server.our_state is not h11.DONE or server.their_state is not h11.DONE:
            return
        server.start_next_cycle()


def seconds(pieces: list[bytes]) -> float:
    wire = connection(Limits(body_bytes=None))
    gc.disable()  # what others have left would be counted
    try:
        started = time.process_time()
        for piece in pieces:
            events = wire.feed(piece, 0.0)
            while events:
                if isinstance(events[-1], End) or (isinstance(events[-1], Head) and events[-1].length == 0):
                    wire.respond(200, (), b"", 0.0)
                events = wire.feed(b"", 0.0) if wire.waiting else []
        return time.process_time() - started
    finally:
        gc.enable()


def is_linear(pieces: Callable[[int], list[bytes]], small: int) -> None:
    """Four times the bytes take about four times the time: far from sixteen. The best of a few runs counts."""
    few, many = pieces(small), pieces(small * 4)
    for _ in range(6):
        if min(seconds(many) for _ in range(2)) < 9 * max(min(seconds(few) for _ in range(2)), 1e-4):
            return
    raise AssertionError("it takes more than linear time")


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_head_byte_by_byte_takes_linear_time() -> None:
    is_linear(lambda n: bytewise(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * n), 1500)


def test_a_waiting_pipeline_byte_by_byte_takes_linear_time() -> None:
    is_linear(lambda n: [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2, *bytewise(b"x" * n)], 2000)


def test_pipelined_requests_in_one_piece_take_linear_time() -> None:
    is_linear(lambda n: [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * n], 250)


def test_small_chunks_in_one_piece_take_linear_time() -> None:
    is_linear(lambda n: [CHUNKED + b"1\r\nx\r\n" * n], 400)
