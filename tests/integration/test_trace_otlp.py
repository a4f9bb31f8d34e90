"""Export by OTLP under ``zerver serve``, to a collector that decodes what comes; and what is sent to upstreams."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from otlp_receiver import OtlpReceiver, ReceivedSpan
from serve_kit import PATIENCE, Process, Start, wait_for

APP = """
from typing import Never
from zerver import App, CtxView, Decision, Done, Need, Retry, Slot, http, sql

class Said(Slot[dict]):
    "What the upstream said."

class Rows(Slot[list]):
    "Of the database."

def ask(ctx: CtxView[Never, Said | Rows]) -> Decision:
    url = f"http://127.0.0.1:{ctx.param('port', int)}/stock?token=t"
    extra = {"te": "trailers"} if ctx.query("full", default="") else {}  # which aiohttp performs
    return Need([
        http.get(url, into=Said, retry=Retry(3, base=0.001), timeout=10, headers=extra),
        sql.query("select 'x' as a where 1 = :one", {"one": 1}, into=Rows, timeout=10),
    ], then=show)

def show(ctx: CtxView[Said | Rows]) -> Decision:
    assert ctx.require(Rows)
    return Done.json(ctx.require(Said))

def boom(ctx: CtxView) -> Decision:
    raise ValueError("a bug")

app = App()
app.get("/ask/{port:int}", ask)
app.get("/boom", boom)
"""

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50", "ZERVER_TRACE__SAMPLE": "1"}


class Upstream:
    """Answers 503, then 200, and so on; keeps the headers that it got."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.headers.append({name.lower(): value for name, value in self.headers.items()})
                body = json.dumps({"attempts": len(upstream.headers)}).encode()
                self.send_response(503 if len(upstream.headers) % 2 else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.port: int = self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    one = Upstream()
    yield one
    one.close()


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as one:
        yield one


def ask(port: int, path: str, **headers: str) -> tuple[int, str]:
    """The status, and the request's id."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["x-request-id"]
    finally:
        connection.close()


def of_request(receiver: OtlpReceiver, id: str) -> list[ReceivedSpan]:
    """All its spans, which come in one batch."""
    roots = receiver.found(lambda span: span.attributes.get("zerver.request_id") == id)
    return receiver.found(lambda span: roots and span.trace_id == roots[0].trace_id)


def stopped(server: Process) -> str:
    """End it; what it had logged."""
    server.signal(signal.SIGTERM)
    assert server.ended() == 0, server.errors
    return server.errors


@pytest.mark.engines("reactor", "blocking")
@pytest.mark.parametrize("driver", ["", "?full=1"], ids=["lean", "aiohttp"])
def test_a_request_its_steps_and_each_attempt_of_an_effect_are_one_trace_with_its_caller_and_its_upstream(
    zerver: Start, receiver: OtlpReceiver, upstream: Upstream, engine: str, driver: str
) -> None:
    server = zerver("serve", "app:app", "--port", "0", env={**SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    port = server.port()
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "rojo=1,congo=2"}
    status, id = ask(port, f"/ask/{upstream.port}{driver}", **headers)
    assert status == 200
    wait_for(lambda: of_request(receiver, id))
    found = of_request(receiver, id)
    root = found[0]
    assert (root.name, root.kind, root.parent_id) == ("GET /ask/{port:int}", "server", CALLER)
    assert {(span.trace_id, span.trace_state) for span in found} == {(TRACE, "rojo=1,congo=2")}
    asks, shows = (span for span in found if span.kind == "internal" and not span.name.startswith("wait: "))
    assert [(one.name, one.parent_id) for one in (asks, shows)] == [("ask", root.span_id), ("show", root.span_id)]
    first, second = (span for span in found if span.name == "GET")
    (query,) = (span for span in found if span.name == "SELECT zerver.db")
    assert {span.parent_id for span in (first, second, query)} == {asks.span_id}
    assert {span.kind for span in (first, second, query)} == {"client"}
    # What the upstream was told is the span that is exported for it.
    assert [one["traceparent"] for one in upstream.headers] == [
        f"00-{TRACE}-{one.span_id}-01" for one in (first, second)
    ]
    assert {one["tracestate"] for one in upstream.headers} == {"rojo=1,congo=2"}
    assert (first.failed, first.attributes["http.response.status_code"], first.attributes["error.type"]) == (
        True, 503, "503",
    )  # fmt: skip
    assert "http.request.resend_count" not in first.attributes
    assert (second.failed, second.attributes["http.request.resend_count"]) == (False, 1)
    assert second.attributes["http.response.status_code"] == 200
    assert second.attributes["url.full"] == f"http://127.0.0.1:{upstream.port}/stock?token=[redacted]"
    assert query.attributes["db.query.text"] == "select ? as a where ? = :one"
    assert root.start_ns <= first.start_ns <= first.end_ns <= second.start_ns <= second.end_ns <= root.end_ns
    assert "WARNING" not in stopped(server)


@pytest.mark.engines("reactor")
def test_all_schedulers_export_through_one_process_which_says_whose_they_are(
    zerver: Start, receiver: OtlpReceiver, upstream: Upstream
) -> None:
    env = {
        **SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=other",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }  # fmt: skip
    server = zerver("serve", "app:app", "--port", "0", env=env)
    port = server.port()
    schedulers = set()
    asked: list[str] = []

    def both() -> bool:
        roots = receiver.found(lambda span: span.kind == "server")
        if len(roots) == len(asked):
            asked.append(ask(port, "/boom")[1])
        schedulers.update(span.attributes["zerver.scheduler"] for span in roots)
        return {0, 1} <= schedulers

    wait_for(both)
    stopped(server)
    roots = receiver.found(lambda span: span.kind == "server")
    assert sorted(span.attributes["zerver.request_id"] for span in roots) == sorted(asked), "also those of the end"
    assert all(span.failed and span.attributes["error.type"] == "500" for span in roots)
    assert len({span.resource["telemetry.sdk.language"] for span in roots}) == 1
    assert {span.resource["service.name"] for span in roots} == {"shop"}
    assert {span.resource["deployment.environment.name"] for span in roots} == {"test"}
    assert {one["x-key"] for one in receiver.requests} == {"a b"}
    assert {one["content-encoding"] for one in receiver.requests} == {"gzip"}


@pytest.mark.engines("reactor", "blocking")
def test_what_waits_for_a_full_batch_is_sent_at_the_stop(zerver: Start, receiver: OtlpReceiver, engine: str) -> None:
    env = {
        **SOON,
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/v1/traces",
    }
    server = zerver("serve", "app:app", "--port", "0", env=env)
    asked = {ask(server.port(), "/boom")[1]}
    stopped(server)
    roots = receiver.found(lambda span: span.kind == "server")
    assert {span.attributes["zerver.request_id"] for span in roots} == asked


@pytest.mark.engines("reactor")
def test_a_reload_and_the_death_of_the_exporting_process_end_no_export(zerver: Start, receiver: OtlpReceiver) -> None:
    env = {**SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    server = zerver("serve", "app:app", "--port", "0", env=env)
    port = server.port()
    before = ask(port, "/boom")[1]
    server.signal(signal.SIGHUP)
    server.read_until("reloaded; listening on")
    after = ask(port, "/boom")[1]
    stopped(server)
    assert of_request(receiver, before)
    assert of_request(receiver, after)
    server = zerver("serve", "app:app", "--port", "0", env={**env, **SOON})
    port = server.port()
    id = ask(port, "/boom")[1]
    wait_for(lambda: of_request(receiver, id))
    first = exporting(server)
    assert len(first) == 1, "no other process has the SDK in it"
    os.kill(first.pop(), signal.SIGKILL)
    wait_for(lambda: exporting(server))
    id = ask(port, "/boom")[1]
    wait_for(lambda: of_request(receiver, id))
    stopped(server)


def exporting(server: Process) -> set[int]:
    """The processes of a server that have imported what spans are encoded with."""
    children = Path(f"/proc/{server.child.pid}/task/{server.child.pid}/children").read_text().split()
    return {int(child) for child in children if "_upb" in Path(f"/proc/{child}/maps").read_text()}


@pytest.mark.engines("reactor", "blocking")
def test_an_upstream_is_told_of_a_trace_that_begins_here_and_that_nobody_may_record_it(
    zerver: Start, upstream: Upstream, engine: str
) -> None:
    server = zerver("serve", "app:app", "--port", "0")
    port = server.port()
    assert ask(port, f"/ask/{upstream.port}", traceparent=f"00-{TRACE.upper()}-{CALLER}-01", tracestate="a=1")[0] == 200
    stopped(server)
    (first, second) = (one["traceparent"].split("-") for one in upstream.headers)
    assert (first[0], first[3]) == ("00", "00"), "no spans are exported"
    assert first[1] == second[1] != TRACE
    assert first[2] != second[2]
    assert not any("tracestate" in one for one in upstream.headers)


@pytest.mark.engines("reactor", "blocking")
def test_a_collector_that_is_away_harms_no_request_and_no_stop(zerver: Start, engine: str) -> None:
    env = {**SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}
    server = zerver("serve", "app:app", "--port", "0", env=env)
    port = server.port()
    for _ in range(20):
        assert ask(port, "/boom")[0] == 500
    began = time.monotonic()
    errors = stopped(server)
    assert time.monotonic() - began < 10
    assert len([line for line in errors.splitlines() if "traces were not exported" in line]) == 1, errors
    assert "opentelemetry" not in errors, "its exporter would say so each time"


@pytest.mark.engines("reactor")
def test_a_collector_that_does_not_answer_delays_no_request_and_the_stop_a_little(
    zerver: Start, receiver: OtlpReceiver
) -> None:
    receiver.hold.clear()
    server = zerver("serve", "app:app", "--port", "0", env={**SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    port = server.port()
    assert ask(port, "/boom")[0] == 500
    wait_for(lambda: receiver.requests)  # it is being held
    for _ in range(20):
        began = time.monotonic()
        assert ask(port, "/boom")[0] == 500
        assert time.monotonic() - began < 2
    began = time.monotonic()
    assert "the collector does not take what is left to export" in stopped(server)
    assert time.monotonic() - began < 12


@pytest.mark.engines("reactor", "blocking")
def test_an_exporter_that_is_asked_for_and_not_installed_is_an_error_that_says_what_to_do(
    folder: Path, zerver: Start, engine: str
) -> None:
    (folder / "opentelemetry").mkdir()
    (folder / "opentelemetry" / "__init__.py").write_text("")  # hides the real one
    env = {"PYTHONPATH": str(folder), "ZERVER_TRACE__OTLP": "true"}
    server = zerver("serve", "app:app", "--port", "0", env=env)
    assert server.ended() == 1
    assert "trace.otlp = true: the OpenTelemetry exporter is not installed: pip install 'zerver[otel]'" in server.errors
    assert "Traceback" not in server.errors
    # Where the environment alone asks for it, it may be meant for others.
    del env["ZERVER_TRACE__OTLP"]
    server = zerver("serve", "app:app", "--port", "0", env={**env, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    server.read_until(r"traces are not exported: .* pip install 'zerver\[otel\]'")
    assert ask(server.port(), "/boom")[0] == 500
    stopped(server)
