"""What upstreams do to a client: each a script of one answer, and what is to come of it, whichever driver it is."""

from __future__ import annotations

import gzip
from typing import Final, NamedTuple

from raw_upstream import Script, Step

__all__ = ["BODY", "CUT", "FAULTS", "LARGEST", "OK", "POISONED", "Expected", "Fault"]

BODY: Final = b"hello"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGEST: Final = 100_000  # bytes of a body
POISON: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
RESET, CLOSE, HALF_CLOSE, HANG, PAUSE = Step


class Expected(NamedTuple):
    """``body`` of a success; None is a failure. ``kept``: whether the connection may serve the next request."""

    body: bytes | None = None
    retryable: bool = True
    kept: bool = False


GOOD: Final = Expected(BODY, kept=True)
ONCE: Final = Expected(BODY)
EMPTY: Final = Expected(b"")
FAILS: Final = Expected()
FOR_GOOD: Final = Expected(retryable=False)
POISONED: Final = Expected(b"", kept=True)  # it gives the next request an answer that nobody asked for: see the test


class Fault(NamedTuple):
    name: str
    script: Script
    expected: Expected
    aiohttp: Expected | None = None
    """Where it differs: it is more lenient."""
    method: str = "GET"


def head(*fields: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    return "".join([f"{one}\r\n" for one in (f"{version} {status}", *fields, "")]).encode("latin-1")


def length(n: object, *fields: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    return head(f"Content-Length: {n}", *fields, status=status, version=version)


def dripped(data: bytes) -> Script:
    """A few bytes at a time."""
    return [step for at in range(0, len(data), 7) for step in (data[at : at + 7], PAUSE)]


def member(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def gzipped(body: bytes) -> bytes:
    return length(len(body), "Content-Encoding: gzip") + body


# Where an answer may break off: after nothing, within each part of it.
CUT: Final[dict[str, bytes]] = {
    "before the answer": b"",
    "in the status line": b"HTTP/1.",
    "in a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "after the head": length(5),
    "in the body": length(5) + b"he",
    "in a chunk's size": CHUNKED + b"5",
    "in a chunk": CHUNKED + b"5\r\nhel",
    "between chunks": CHUNKED + b"5\r\nhello\r\n",
    "in the trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX: ",
    "after an interim answer": head(status="103 Early Hints"),
}

FAULTS: Final[list[Fault]] = [
    Fault("nothing", [OK], GOOD),
    Fault("drip", dripped(OK), GOOD),
    Fault("drip of chunks", dripped(CHUNKED + b"2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n"), GOOD),
    *(Fault(f"reset {where}", [part, PAUSE, RESET], FAILS) for where, part in CUT.items()),
    *(Fault(f"close {where}", [part, CLOSE], FAILS) for where, part in CUT.items()),
    *(Fault(f"half-close {where}", [part, HALF_CLOSE], FAILS) for where, part in CUT.items()),
    Fault("half-close after the answer", [OK, HALF_CLOSE], ONCE),
    Fault("close after the answer", [OK, CLOSE], ONCE),
    Fault("reset after the answer", [OK, PAUSE, RESET], ONCE),
    Fault("Connection: close", [length(5, "Connection: x, Close") + BODY, HANG], ONCE),
    # Lengths
    Fault("delimited by the end", [head(), BODY, CLOSE], ONCE),
    Fault("delimited by the end of half", [head(), BODY, HALF_CLOSE], ONCE),
    Fault("delimited by the end, no reason", [b"HTTP/1.1 200\r\n\r\nhello", CLOSE], ONCE),
    Fault("HTTP/1.0", [length(5, version="HTTP/1.0") + BODY, HANG], ONCE),
    Fault("HTTP/1.0 keep-alive", [length(5, "Connection: keep-alive", version="HTTP/1.0") + BODY], GOOD),
    Fault("too short", [length(6) + BODY, CLOSE], FAILS),
    Fault("too long", [OK + b"surplus", HANG], ONCE, FAILS),
    Fault("a line too long", [OK + b"\r\n"], ONCE, GOOD),
    Fault("another answer after it", [OK + POISON, HANG], ONCE),
    Fault("another answer soon after it", [OK, PAUSE, POISON, HANG], ONCE, POISONED),
    Fault("another answer after chunks", [CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + POISON, HANG], ONCE),
    Fault("another answer after an empty one", [length(0) + POISON, HANG], EMPTY),
    *(
        Fault(f"Content-Length: {one}", [length(one) + BODY, CLOSE], FAILS)
        for one in ("+5", "-5", "0x5", "5 5", "5, 5", "5;", "", "5e0", "9" * 30, "\xb2")
    ),
    Fault("two lengths", [length(5, "Content-Length: 6") + BODY, CLOSE], FAILS),
    Fault("the same length twice", [length(5, "Content-Length: 5") + BODY, CLOSE], FAILS),
    Fault("length and chunks", [length(5, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", CLOSE], FAILS),
    Fault("chunks and length", [head("Transfer-Encoding: chunked", "Content-Length: 5") + BODY, CLOSE], FAILS),
    *(
        Fault(
            f"Transfer-Encoding: {one}",
            [head(f"Transfer-Encoding: {one}") + b"5\r\nhello\r\n0\r\n\r\n", CLOSE],
            FAILS,
            lenient,
        )
        for one, lenient in {
            "chunked, chunked": ONCE,
            "gzip, chunked": ONCE,
            "chunked, gzip": Expected(b"5\r\nhello\r\n0\r\n\r\n"),
            "xchunked": Expected(b"5\r\nhello\r\n0\r\n\r\n"),
        }.items()
    ),
    # Chunks
    *(
        Fault(f"bad chunk {n}", [CHUNKED + chunk, CLOSE], FAILS)
        for n, chunk in enumerate(
            [
                b"zz\r\nhello",
                b"-5\r\nhello",
                b"0x5\r\nhello",
                b"+5\r\nhello\r\n0\r\n\r\n",
                b"\r\n5\r\nhello\r\n0\r\n\r\n",
                b"5\r\nhelloX\r\n0\r\n\r\n",
                b"5\r\nhello0\r\n\r\n",
                b"5_0\r\nhello",
                b"f" * 17 + b"\r\nhello",
                b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
            ]
        )
    ),
    Fault("bare LF in chunks", [CHUNKED + b"5\nhello\n0\n\n", CLOSE], FAILS),
    Fault("many trailers", [CHUNKED + b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n", CLOSE], FAILS),
    # Heads
    *(
        Fault(f"status line {line!r}", [f"{line}\r\nContent-Length: 5\r\n\r\nhello".encode(), CLOSE], FAILS)
        for line in (
            "HTTP/1.1 20 OK",
            "HTTP/1.1 000 OK",
            "HTTP/1.1 2000 OK",
            "ICY 200 OK",
            "HTTP/3.0 200 OK",
            "",
            "200 OK",
            "HTTP/1.1 \u0662\u0660\u0660 OK",
            "GET / HTTP/1.1",
        )
    ),
    Fault("HTTP/2.0", [length(5, version="HTTP/2.0") + BODY, CLOSE], FAILS, ONCE),
    Fault("space before a colon", [length(5, "X : y") + BODY, CLOSE], FAILS),
    Fault("no name", [length(5, ": y") + BODY, CLOSE], FAILS),
    Fault("no colon", [length(5, "xyz") + BODY, CLOSE], FAILS),
    Fault("NUL in a header", [length(5, "X: a\0b") + BODY, CLOSE], FAILS),
    Fault("bare CR in a header", [length(5, "X: a\rSet-Cookie: b") + BODY, CLOSE], FAILS),
    Fault("a folded header", [length(5, "X: a", " Content-Length: 6") + BODY, CLOSE], FAILS, ONCE),
    Fault("bare LF", [b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", CLOSE], FAILS, ONCE),
    Fault("many headers", [length(5, *["X: y"] * 5000) + BODY, CLOSE], FAILS),
    Fault("a large header", [length(5, "X: " + "y" * 100_000) + BODY, CLOSE], FAILS),
    Fault(
        "a body split off a header", [length(5, "X: a", "", "HTTP/1.1 200 OK") + BODY, HANG], Expected(b"HTTP/"), FAILS
    ),
    # Interim answers
    Fault("interim answers", [head(status="100 Continue") + head("Link: a", status="103 Early Hints") + OK], GOOD),
    Fault("a storm of interim answers", [head(status="102 Processing") * 1000 + OK], FAILS, GOOD),
    Fault(
        "another protocol",
        [head("Connection: upgrade", "Upgrade: x", status="101 Switching Protocols"), HANG],
        FOR_GOOD,
    ),
    # Bodies where there are none
    Fault("a body to HEAD", [OK, HANG], EMPTY, FAILS, method="HEAD"),
    Fault("a length to HEAD", [length(5)], Expected(b"", kept=True), method="HEAD"),
    Fault("chunks to HEAD", [CHUNKED], Expected(b"", kept=True), method="HEAD"),
    Fault("a body with 204", [length(5, status="204 No Content") + BODY, HANG], EMPTY, FAILS),
    Fault("a body after 204", [length(5, status="204 No Content"), PAUSE, BODY, HANG], EMPTY),
    Fault("204", [head(status="204 No Content")], Expected(b"", kept=True)),
    Fault("304 with a length", [length(5, status="304 Not Modified")], Expected(b"", kept=True)),
    Fault("a body with 304", [length(5, status="304 Not Modified") + BODY, HANG], EMPTY, FAILS),
    # Sizes and codings
    Fault("too large by its length", [length(LARGEST + 1), HANG], FOR_GOOD),
    Fault("too large by a chunk", [CHUNKED + b"fffffff\r\n" + bytes(LARGEST + 1), HANG], FOR_GOOD),
    Fault("too large by its end", [head() + bytes(LARGEST + 1), HANG], FOR_GOOD),
    Fault("gzip", [gzipped(member(BODY))], GOOD),
    Fault("gzip of two members", [gzipped(member(b"he") + member(b"llo"))], GOOD),
    Fault("an empty body in gzip", [gzipped(b"")], Expected(b"", kept=True)),
    Fault("a bomb", [gzipped(member(bytes(10 * LARGEST)))], FOR_GOOD, Expected(retryable=False, kept=True)),
    Fault(
        "a bomb of members",
        [gzipped(member(bytes(LARGEST - 5)) + member(bytes(LARGEST)))],
        FOR_GOOD,
        Expected(retryable=False, kept=True),
    ),
    Fault("gzip that is cut off", [gzipped(member(BODY)[:-4])], FAILS, GOOD),
    Fault("gzip with something after it", [gzipped(member(BODY) + b"x" * 20)], FAILS),
    Fault("no gzip", [gzipped(BODY)], FAILS),
    Fault("a coding that nobody asked for", [length(5, "Content-Encoding: br") + BODY], FOR_GOOD, FAILS),
]
