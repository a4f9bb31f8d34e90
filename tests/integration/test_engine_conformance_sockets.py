"""The same app on every engine, end to end: ``zerver serve`` in a process of its own, and a client with sockets."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from asgi_kit import ENGINES
from conformance_app import ROWS
from engine_conformance import Answer, Row, compare_answers, hold_answers
from serve_kit import PATIENCE, Process

HERE = Path(__file__).parent
NOT_THE_ENGINES = ("connection", "date", "keep-alive", "transfer-encoding", "x-request-id")
"""Headers of the server and its framing; a HEAD may be told of a chunked body (RFC 9112 section 6.1) or not."""


@contextmanager
def serving(folder: Path, engine: str) -> Iterator[int]:
    """The port on which the app is served by this engine."""
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    arguments = ("-m", "zerver", "serve", "conformance_app:app", "--port", "0")
    server = Process(folder, *arguments, env={"PYTHONPATH": path, **ENGINES[engine]})
    try:
        yield server.port()
        server.signal(signal.SIGTERM)
        assert server.ended() == 0, server.errors
    finally:
        server.kill()


def connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)


def ask(client: http.client.HTTPConnection, prefix: str, row: Row) -> list[Answer]:
    answers = []
    for one in row.asks:
        client.request(one.method, prefix + one.path, one.body or None, dict(one.headers))
        answer = client.getresponse()
        body, id = answer.read(), answer.headers["x-request-id"]
        headers = [(name.lower(), value) for name, value in answer.getheaders()]
        kept = tuple(sorted(pair for pair in headers if pair[0] not in NOT_THE_ENGINES))
        answers.append(Answer(answer.status, kept, body.replace(id.encode(), b"ID")))
    return answers


def test_the_rows_that_are_asked_over_sockets_get_the_same_answers_on_every_engine(tmp_path: Path) -> None:
    told: dict[str, dict[str, list[Answer]]] = {}
    for engine in ENGINES:
        with serving(tmp_path, engine) as port, closing(connect(port)) as client:
            told[engine] = {prefix: ask(client, prefix, row) for prefix, row in ROWS.items()}
    assert len(ROWS) > 20
    for prefix, row in ROWS.items():
        for engine in ENGINES:
            hold_answers(row, engine, told[engine][prefix])
            where = f"{row.name!r}: blocking and {engine} differ in"
            compare_answers(where, told["blocking"][prefix], told[engine][prefix])
