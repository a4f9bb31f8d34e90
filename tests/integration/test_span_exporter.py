"""The exporter's thread: what is dropped, what is logged, and how it ends."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from otlp_receiver import OtlpReceiver
from serve_kit import PATIENCE, wait_for

from zerver.trace.record import RequestNote, TraceRecord, encode
from zerver.trace.span_attributes import SpanSettings
from zerver.trace.span_exporter import Sender, SpanExporter
from zerver.trace.spans import SpanData

Make = Callable[..., SpanExporter]


class Scripted:
    """A sender that answers what ``says`` has, one after another, then an empty text; waits while ``hold`` is clear."""

    def __init__(self, *says: str) -> None:
        self.says = list(says)
        self.hold = threading.Event()
        self.hold.set()
        self.sending = threading.Event()
        self.batches: list[list[str]] = []
        self.closed = False

    def send(self, batch: Sequence[SpanData], /) -> str:
        self.sending.set()
        assert self.hold.wait(PATIENCE)
        self.batches.append([one.attributes["zerver.request_id"] for one in batch if one.kind == "server"])  # type: ignore[misc]  # text
        answer = self.says.pop(0) if self.says else ""
        if answer == "raise":
            raise OSError("it is broken")
        return answer

    def stop(self) -> None:
        self.hold.set()

    def close(self) -> None:
        self.closed = True


def record(id: str) -> bytes:
    note = RequestNote("GET", "/")
    return encode(TraceRecord(id=id, route="GET /", why="asked", started_ns=1, took_ns=2, status=200, request=note))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")


@pytest.fixture
def exporter() -> Iterator[Make]:
    made: list[SpanExporter] = []

    def exporter(sender: Sender | None = None) -> SpanExporter:
        made.append(SpanExporter(SpanSettings(), None if sender is None else lambda: sender))
        return made[-1]

    yield exporter
    for one in made:
        one.finish(PATIENCE)


def test_all_that_waits_is_sent_before_it_ends(exporter: Make) -> None:
    sender = Scripted()
    one = exporter(sender)
    one.put([record(str(number)) for number in range(300)])
    assert one.finish(PATIENCE)
    assert sender.closed
    assert [id for batch in sender.batches for id in batch] == [str(number) for number in range(300)]
    assert not one.put([record("late")])
    found = one.statistics()
    assert (found.exported, found.spans, found.dropped, found.queued) == (300, 300, 0, 0)


def test_what_there_is_no_room_for_is_dropped_counted_and_told(
    exporter: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "3")
    sender = Scripted()
    sender.hold.clear()
    one = exporter(sender)
    one.put([record("0")])
    assert sender.sending.wait(PATIENCE)
    one.put([record(str(number)) for number in range(1, 10)])
    assert (one.statistics().queued, one.statistics().dropped) == (3, 6)
    one.put([b"x" * (17 * 1024 * 1024)])
    assert one.statistics().dropped == 7
    sender.hold.set()
    assert one.finish(PATIENCE)
    assert [id for batch in sender.batches for id in batch] == ["0", "1", "2", "3"]
    assert caplog.messages == ["7 traces were not exported: there was no room for them"]


def test_failures_are_told_once_in_a_while_and_when_they_are_over(
    exporter: Make, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Scripted("code: 503", "code: 503", "raise")
    one = exporter(sender)
    for number in range(5):
        one.put([record(str(number))])
        wait_for(lambda done=number + 1: one.statistics().exported + one.statistics().failed == done)
    found = one.statistics()
    assert (found.exported, found.failed) == (2, 3)
    one.finish(PATIENCE)
    assert caplog.messages == [
        "1 traces were not exported: code: 503", "traces are exported again; 2 were lost",
    ]  # fmt: skip


def test_a_record_that_cannot_be_read_stops_no_other(exporter: Make) -> None:
    sender = Scripted()
    one = exporter(sender)
    one.put([b"nonsense", record("1")])
    assert one.finish(PATIENCE)
    assert sender.batches == [["1"]]
    assert one.statistics().failed == 1


def test_its_end_does_not_wait_longer_than_it_is_told_to(exporter: Make, caplog: pytest.LogCaptureFixture) -> None:
    sender = Scripted()
    sender.hold.clear()
    one = exporter(sender)
    one.put([record("0")])
    assert sender.sending.wait(PATIENCE)
    one.put([record("1"), record("2")])
    assert not one.finish(0.05)
    assert one.statistics().dropped == 2
    assert caplog.messages == ["the collector does not take what is left to export; it is dropped"]
    assert one.finish(PATIENCE), "it was told to stop"


def test_a_sender_that_cannot_be_made_is_told_and_all_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Sender:
        raise ValueError("no such certificate")

    one = SpanExporter(SpanSettings(), fails)
    wait_for(lambda: caplog.messages)
    assert one.put([record("0")])
    assert one.statistics().dropped == 1
    assert one.finish(PATIENCE)
    assert caplog.messages == ["traces cannot be exported: no such certificate"]


def test_a_collector_that_answers_503_gets_it_again_in_time_and_is_told_of_once(
    exporter: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
        receiver.status = 503
        one = exporter()
        for number in range(3):
            one.put([record(str(number))])
            wait_for(lambda done=number + 1: one.statistics().failed == done)
        assert len(receiver.requests) >= 3
        receiver.status = 200
        one.put([record("3")])
        wait_for(lambda: one.statistics().exported == 1)
        assert [span.attributes["zerver.request_id"] for span in receiver.spans] == ["3"]
        assert one.finish(PATIENCE)
    ours = [one for one in caplog.messages if "traces" in one]
    assert len(ours) == 2
    assert ours[0].startswith("1 traces were not exported: ")
    assert ours[1] == "traces are exported again; 2 were lost"
    assert not [one for one in caplog.records if one.name.startswith("opentelemetry")]


@contextmanager
def collector(head: bytes, body: Callable[[], bytes]) -> Iterator[str]:
    """Answers whatever comes with ``head``, and then with ``body``, again and again. Yields its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(PATIENCE)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                with client, suppress(OSError):
                    client.recv(65536)
                    client.sendall(b"HTTP/1.1 %b\r\n\r\n" % head)
                    while more := body():
                        client.sendall(more)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(PATIENCE)


def drop_by_drop() -> bytes:
    threading.Event().wait(0.05)
    return b"."


@pytest.mark.parametrize(
    ("head", "body", "told"),
    [
        (b"200 OK\r\ncontent-length: 100000000000", lambda: bytes(1 << 20), ""),
        (b"200 OK\r\ntransfer-encoding: chunked", lambda: b"100000\r\n" + bytes(1 << 20) + b"\r\n", ""),
        (b"200 OK\r\ncontent-length: 4000", drop_by_drop, ""),
        (b"200 OK", drop_by_drop, ""),
        (b"302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0", bytes, "it answered 302, a redirect"),
        (b"400 " + b"no" * 20_000 + b"\r\ncontent-length: 0", bytes, "code: 400, reason: nonono"),
    ],
    ids=["endless", "endless chunks", "drop by drop", "without a length", "redirect", "long reason"],
)
def test_a_collector_may_answer_anything(
    exporter: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, head: bytes,
    body: Callable[[], bytes], told: str,
) -> None:  # fmt: skip
    with collector(head, body) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
        one = exporter()
        one.put([record("0")])
        wait_for(lambda: one.statistics().exported + one.statistics().failed)
        assert one.statistics().failed == bool(told)
        assert one.finish(PATIENCE)
    (line,) = caplog.messages or [""]
    assert told in line
    assert len(line) < 1_000


def test_what_a_client_says_in_tracestate_is_not_logged(
    exporter: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    headers = ((b"tracestate", b"a=1,1level=2,b@c@d=3"),)
    note, parent = RequestNote("GET", "/", b"", headers), f"00-{'1' * 32}-{'2' * 16}-01"
    kept = TraceRecord(id="0", route="GET /", why="asked", started_ns=1, took_ns=2, request=note, parent=parent)
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        one = exporter()
        one.put([encode(kept)])
        wait_for(lambda: one.statistics().exported)
        assert [span.trace_state.split(",")[0] for span in receiver.spans] == ["a=1"]
    assert caplog.messages == []


def test_a_key_in_the_url_of_the_collector_is_not_logged(
    exporter: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:99999/v1/traces?dataset=a&key=s455")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    one = exporter()
    one.put([record("0")])
    wait_for(lambda: one.statistics().failed)
    assert one.finish(PATIENCE)
    (line,) = caplog.messages
    assert "s455" not in line
    assert "?dataset=…&key=…" in line
