"""The bytes of answers, read back by a parser of somebody else."""

from __future__ import annotations

import gc
from collections.abc import Iterable

import h11
import pytest
from wire_kit import UNIX_TIME, connection

from zerver.wire import Closing, Connection, Head, Writer
from zerver.wire.writer import Texts, http_date

FIELDS = (("content-type", "text/plain; charset=utf-8"), ("x-latin", "é"), ("set-cookie", "a=b"), ("set-cookie", "c=d"))


def asked(method: str = "GET", version: str = "1.1", option: str = "") -> Connection:
    """A connection that owes an answer."""
    wire = connection()
    connection_field = f"Connection: {option}\r\n" if option else ""
    (head,) = wire.feed(f"{method} / HTTP/{version}\r\nHost: a\r\n{connection_field}\r\n".encode(), 0.0)
    assert isinstance(head, Head)
    return wire


def read_back(out: bytes, method: str = "GET", eof: bool = False) -> tuple[h11.Response, bytes, object]:
    """Status and fields, body, and the state in which the server's side is left."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(out)
    if eof:
        client.receive_data(b"")
    head = client.next_event()
    while isinstance(head, h11.InformationalResponse):
        head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    assert client.trailing_data[0] == b""
    return head, body, client.their_state


@pytest.mark.parametrize("body", [b"", b"hello", bytes(range(256)) * 300])
@pytest.mark.parametrize("status", [200, 201, 206, 299, 302, 404, 413, 422, 500, 599])
def test_a_whole_answer_has_status_date_fields_length_and_body(status: int, body: bytes) -> None:
    wire = asked()
    head, read, state = read_back(wire.respond(status, FIELDS, body, 0.0))
    assert head.status_code == status
    assert head.http_version == b"1.1"
    assert list(head.headers) == [
        (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        *((name.encode(), value.encode("latin-1")) for name, value in FIELDS),
        (b"content-length", str(len(body)).encode()),
    ]
    assert read == body
    assert state is h11.DONE
    assert wire.closing is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, b"OK"),
        (413, b"Content Too Large"),
        (414, b"URI Too Long"),
        (416, b"Range Not Satisfiable"),
        (418, b"I'm a Teapot"),
        (422, b"Unprocessable Content"),
        (299, b""),
    ],
)
def test_the_reason_is_that_of_rfc_9110(status: int, reason: bytes) -> None:
    assert asked().respond(status, (), b"", 0.0).startswith(b"HTTP/1.1 %d %b\r\n" % (status, reason))


def test_lines_of_the_callers_own_stand_among_the_fields() -> None:
    head, _, _ = read_back(asked().respond(200, (), b"", 0.0, b"x-request-id: 7\r\n"))
    assert (b"x-request-id", b"7") in list(head.headers)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_has_no_body_has_no_length(status: int, streamed: bool) -> None:
    wire = asked()  # RFC 9110 section 8.6
    if streamed:
        out = wire.begin(status, ()) + wire.chunk(b"ignored") + wire.end(0.0)
    else:
        out = wire.respond(status, (), b"", 0.0)
    head, body, state = read_back(out)
    assert [name for name, _ in head.headers] == [b"date"]
    assert body == b""
    assert state is h11.DONE


def test_the_answer_to_head_has_the_length_but_not_the_body() -> None:
    wire = asked("HEAD")  # RFC 9110 section 9.3.2
    out = wire.respond(200, (), b"hello", 0.0)
    assert out.endswith(b"\r\ncontent-length: 5\r\n\r\n")
    assert read_back(out, "HEAD")[2] is h11.DONE


@pytest.mark.parametrize("length", [None, 5])
def test_the_answer_to_head_may_be_a_stream_of_which_nothing_is_sent(length: int | None) -> None:
    wire = asked("HEAD")
    out = wire.begin(200, (), length) + wire.chunk(b"hello") + wire.end(0.0)
    head, body, state = read_back(out, "HEAD")
    framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"5")
    assert framing in list(head.headers)
    assert out.endswith(b"\r\n\r\n")
    assert out.count(b"\r\n\r\n") == 1
    assert (body, state) == (b"", h11.DONE)
    assert wire.closing is None


STREAMS: list[list[bytes]] = [[], [b""], [b"hello"], [b"a", b"", b"b" * 70_000, b"0\r\n\r\n"]]


@pytest.mark.parametrize("pieces", STREAMS)
def test_a_stream_goes_in_chunks(pieces: list[bytes]) -> None:
    wire = asked()
    out = wire.begin(200, FIELDS) + b"".join(map(wire.chunk, pieces)) + wire.end(5.0)
    head, body, state = read_back(out)
    assert (b"transfer-encoding", b"chunked") in list(head.headers)
    assert body == b"".join(pieces)
    assert state is h11.DONE
    assert wire.closing is None
    assert wire.deadline == 80.0


@pytest.mark.parametrize("option", ["", "keep-alive"])
def test_a_stream_to_http_1_0_ends_with_the_connection(option: str) -> None:
    wire = asked(version="1.0", option=option)  # RFC 9112 section 6.3
    out = wire.begin(200, ()) + wire.chunk(b"hel") + wire.chunk(b"lo") + wire.end(0.0)
    head, body, _ = read_back(out, eof=True)
    assert [name for name, _ in head.headers] == [b"date", b"connection"]
    assert body == b"hello"
    assert wire.closing is Closing.NOW


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_of_known_length_keeps_the_connection(version: str) -> None:
    wire = asked(version=version, option="keep-alive")
    out = wire.begin(200, (), 5) + wire.chunk(b"hel") + wire.chunk(b"lo") + wire.end(0.0)
    head, body, _ = read_back(out)
    assert (b"content-length", b"5") in list(head.headers)
    assert body == b"hello"
    assert wire.closing is None


def test_a_stream_that_is_longer_than_it_said_is_a_bug_and_one_that_is_shorter_is_cut_off() -> None:
    wire = asked()
    wire.begin(200, (), 5)
    with pytest.raises(ValueError, match="has 1 bytes too many"):
        wire.chunk(b"hello!")
    wire.chunk(b"hell")
    assert wire.end(0.0) == b""
    assert wire.closing is Closing.NOW


def test_a_stream_that_is_given_up_has_no_end_that_looks_like_one() -> None:
    wire = asked()
    out = wire.begin(200, ()) + wire.chunk(b"hel")
    wire.abort()
    assert wire.closing is Closing.NOW
    with pytest.raises(h11.RemoteProtocolError):
        read_back(out, eof=True)


def test_the_date_changes_with_the_second() -> None:
    writer = Writer(UNIX_TIME)
    dates = []
    for time in (UNIX_TIME, UNIX_TIME + 0.9, UNIX_TIME + 1, UNIX_TIME + 86_400):
        writer.tick(time)
        dates.append(writer.start(200, (), b"").split(b"\r\n")[1])
    assert dates == [
        b"date: Sun, 06 Nov 1994 08:49:37 GMT",
        b"date: Sun, 06 Nov 1994 08:49:37 GMT",
        b"date: Sun, 06 Nov 1994 08:49:38 GMT",
        b"date: Mon, 07 Nov 1994 08:49:37 GMT",
    ]


def test_dates_are_imf_fixdates_of_every_day_and_month() -> None:
    from email.utils import formatdate

    for day in range(800):
        second = UNIX_TIME + day * 86_400
        assert http_date(second) == formatdate(second, usegmt=True)


def test_what_a_writer_remembers_has_a_bound() -> None:
    writer = Writer(UNIX_TIME)
    for number in range(2000):
        writer.full(200, (("x", str(number)),), b"", b"", without_body=False)
        writer.full(200, (("x", "y" * 2000),), b"", b"", without_body=False)
    assert sum(len(one) for one in gc.get_referents(writer) if isinstance(one, dict)) < 300


def test_the_last_answer_says_so() -> None:
    wire = asked()
    wire.last()
    head, _, state = read_back(wire.respond(200, (), b"", 0.0))
    assert (b"connection", b"close") in list(head.headers)
    assert state is h11.MUST_CLOSE
    assert wire.closing is Closing.NOW


def test_an_idle_connection_answers_one_more_request_when_the_next_answer_is_the_last() -> None:
    wire = connection()
    wire.last()
    assert wire.closing is None
    wire.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0.0)
    assert b"\r\nconnection: close\r\n" in wire.respond(200, (), b"", 0.0)
    assert wire.closing is Closing.LINGER
    assert wire.feed(b"", 0.0) == []


def test_a_stream_that_has_begun_keeps_its_word_when_the_next_answer_is_the_last() -> None:
    wire = asked()
    wire.begin(200, ())
    wire.last()
    wire.end(0.0)
    assert wire.closing is None
    wire.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0.0)
    wire.respond(200, (), b"", 0.0)
    assert wire.closing is Closing.NOW


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_before_the_body_was_complete_is_the_last(streamed: bool) -> None:
    wire = connection()
    wire.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na", 0.0)
    if streamed:
        out = wire.begin(200, ())
        assert wire.feed(b"", 0.0) != []  # a streamed answer may go on reading the body
        wire.feed(b"bc", 0.0)
        out += wire.end(0.0)
        assert wire.closing is Closing.NOW
    else:
        out = wire.respond(200, (), b"", 0.0)
        assert wire.closing is Closing.LINGER
        assert wire.feed(b"bcGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0.0) == []
    assert b"\r\nconnection: close\r\n" in out


def answers(wire: Connection) -> Iterable[object]:
    fields: Texts = ()
    yield lambda: wire.respond(200, fields, b"", 0.0)
    yield lambda: wire.begin(200, fields)
    yield lambda: wire.chunk(b"x")
    yield lambda: wire.end(0.0)
    yield lambda: wire.take_over()


def test_misuse_is_an_error_that_names_the_state() -> None:
    for number in range(5):
        wire = connection()
        call = list(answers(wire))[number]
        with pytest.raises(RuntimeError, match="<Connection IDLE NONE closing=None>"):
            call()  # type: ignore[operator]
    wire = asked()
    wire.respond(200, (), b"", 0.0)
    with pytest.raises(RuntimeError, match="its answer has begun"):
        wire.respond(200, (), b"", 0.0)
