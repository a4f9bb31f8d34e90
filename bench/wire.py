"""What HTTP/1.1 costs, without a socket: a request in and its answer out, against llhttp alone."""

from __future__ import annotations

import time
from itertools import cycle, islice

from httptools import HttpRequestParser

from bench.harness import Benchmark, Side
from zerver.wire import Connection, Head, Limits, Writer

__all__ = ["BENCHMARK"]

SMALL = b"GET /todos/42 HTTP/1.1\r\nHost: localhost:8000\r\n\r\n"
# Eight fields. A client sends the same ones again, as a rule; where each head differs, that is of no use.
LARGE = (
    b"GET /todos/42 HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: text/html,application/json;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\n"
    b"X-Request-Id: %d\r\n\r\n"
)
SAME = [LARGE % 0]
DIFFERENT = [LARGE % number for number in range(10)]
FIELDS = (("content-type", "application/json"),)
BODY = b'{"id":"42","ok":true}'


class _Bare:
    """The least that a server on llhttp can do: take the request apart, and write a constant head."""

    def __init__(self) -> None:
        self.parser = HttpRequestParser(self)
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.out = b""

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        self.headers = []
        self.out = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(BODY),
            BODY,
        )


def _bare(heads: list[bytes], n: int) -> None:
    feed = _Bare().parser.feed_data
    for head in islice(cycle(heads), n):
        time.monotonic()
        feed(head)


def _wire(heads: list[bytes], n: int) -> None:
    connection = Connection(Limits(), Writer(0), 0.0)
    for head in islice(cycle(heads), n):
        now = time.monotonic()
        for event in connection.feed(head, now):
            if type(event) is Head:
                connection.respond(200, FIELDS, BODY, now)


BENCHMARK = Benchmark(
    name="wire",
    question="What does a request and its answer cost on the sans-IO connection, against bare llhttp callbacks? "
    "One header field, or eight: the same each time, or one of them different.",
    sides=(
        Side("llhttp, 1 field", lambda n: _bare([SMALL], n)),
        Side("connection, 1 field", lambda n: _wire([SMALL], n)),
        Side("llhttp, 8 fields", lambda n: _bare(SAME, n)),
        Side("connection, 8 fields, the same", lambda n: _wire(SAME, n)),
        Side("connection, 8 fields, different", lambda n: _wire(DIFFERENT, n)),
    ),
    operations=50_000,
)
