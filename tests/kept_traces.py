"""Kept traces for tests of the console."""

from __future__ import annotations

import time
from typing import Any

from zerver.trace.events import EventKind as E
from zerver.trace.record import (
    EffectNote,
    ErrorNote,
    EventNote,
    NeedNote,
    OutcomeNote,
    RequestNote,
    ResponseNote,
    ResultNote,
    RetryNote,
    Row,
    TraceRecord,
    encode,
)
from zerver.trace.store import TraceStore

__all__ = ["HOSTILE", "checkout", "fill", "row_of", "simple"]

MS = 1_000_000
HOSTILE = "<img src=x onerror=alert(1)>\"'><script>document.title='pwned'</script>\u202egnp"


def simple(id: str, **changed: Any) -> TraceRecord:
    """A request of one step."""
    given: dict[str, Any] = {
        "route": "GET /hello/{name}", "path": "/hello/you", "method": "GET", "status": 200, "why": "sampled",
        "started_ns": time.time_ns(), "took_ns": 2 * MS, "query": b"", "headers": ((b"host", b"localhost"),),
        "body": b"", "client": "127.0.0.1", "error": None, **changed,
    }  # fmt: skip
    took, error, headers = given["took_ns"], given["error"], (("content-type", "text/plain"),)
    end = (
        EventNote(E.Fail, took - 1000, "hello", 0, -1, error)
        if error
        else EventNote(E.Done, took, "hello", 0, -1, None)
    )
    return TraceRecord(
        id=id, route=given["route"], why=given["why"], started_ns=given["started_ns"], took_ns=took,
        status=given["status"], client=given["client"], engine="reactor",
        request=RequestNote(
            given["method"], given["path"], given["query"], given["headers"], given["body"], len(given["body"])
        ),
        response=None if given["status"] is None else ResponseNote(given["status"], headers, b"hello"),
        events=(
            EventNote(E.RequestStart, 0, given["path"], 0, -1, None),
            EventNote(E.StepStart, took // 10, "hello", 0, -1, None),
            EventNote(E.StepEnd, took - 1000, "hello", 0, -1, "Fail" if error else "Done"),
            end,
            EventNote(E.RequestEnd, took, "", 0, -1, None),
        ),
    )  # fmt: skip


def checkout(id: str, **changed: Any) -> TraceRecord:
    """A request that waited, was retried, and dropped what was optional."""

    def effect(label: str, what: str, into: str, required: bool = True) -> EffectNote:
        family, op = label.split(".")
        return EffectNote(label, family, op, f"{family}:{what}", what, into, required)

    effects = (
        effect("sql.query_one", "select * from carts where id = :id", "Cart"),
        effect("http.get", "GET http://stock.internal/levels?sku=8142", "Stock"),
        effect("http.get", "GET http://offers.internal/today", "Offers", required=False),
    )
    timeout = ErrorNote("TIMEOUT", "http.get: no answer within 0.25 s")

    def event(kind: E, ms: float, name: str = "", need: int = 0, index: int = -1, detail: Any = None) -> EventNote:
        return EventNote(kind, round(ms * MS), name, need, index, detail)

    events = (
        event(E.RequestStart, 0, "/checkout/7"),
        event(E.StepStart, 12, "parse"), event(E.StepEnd, 12.4, "parse", detail="Continue"),
        event(E.StepStart, 12.4, "load"), event(E.StepEnd, 13.1, "load", detail="Need"),
        event(E.NeedScheduled, 13.1, "load", 1, -1, NeedNote(effects, "all_required", then="total")),
        *(event(E.ReactorEffectScheduled, 13.2, one.label, 1, index) for index, one in enumerate(effects)),
        event(E.EffectStart, 13.2, "sql.query_one", 1, 0, 0.0),
        event(E.EffectStart, 58.0, "http.get", 1, 1, 0.0448),
        event(E.EffectStart, 13.3, "http.get", 1, 2, 0.0),
        event(E.ReactorEffectCompleted, 31.0, "sql.query_one", 1, 0, OutcomeNote(True)),
        event(E.EffectRetry, 308.0, "http.get", 1, 1, RetryNote(0.03, timeout)),
        event(E.EffectStart, 341.0, "http.get", 1, 1, 0.0),
        event(E.ReactorEffectCompleted, 402.0, "http.get", 1, 1, OutcomeNote(True)),
        event(E.JoinSatisfied, 402.1, "load", 1, -1, "resumed"),
        event(E.EffectCancelled, 402.1, "http.get", 1, 2),
        event(E.ContinuationEnqueued, 402.1, "total", 1), event(E.ContinuationStart, 409.0, "total", 1),
        event(E.StepStart, 409.0, "total", 1), event(E.StepEnd, 410.2, "total", 1, detail="Need"),
        event(E.StepStart, 410.3, "show", 1), event(E.StepEnd, 411.0, "show", 1, detail="Done"),
        event(E.Done, 411.0, "show", 1), event(E.RequestEnd, 412.0),
    )  # fmt: skip
    return TraceRecord(
        id=id, route="GET /checkout/{id:int}", why="slow", started_ns=changed.get("started_ns", time.time_ns()),
        took_ns=412 * MS, status=200, client="127.0.0.1", engine="reactor", scheduler=1,
        request=RequestNote(
            "GET", "/checkout/7", b"currency=eur&token=[redacted]",
            ((b"host", b"shop.example"), (b"user-agent", b"curl/8.5"), (b"authorization", b"[redacted]")),
            redacted=("header:authorization", "query:token"),
        ),
        response=ResponseNote(200, (("content-type", "application/json"),), b'{"id":7,"price":4200,"offers":null}'),
        events=tuple(sorted(events, key=lambda one: one.at_ns)),
        results=(ResultNote(1, 0, raw=b"\x81\xa2id\x07"), ResultNote(1, 1, 2, raw=b"\x93\xc8\x00")),
    )  # fmt: skip


def row_of(record: TraceRecord, error: str = "") -> Row:
    """As the store takes it."""
    return Row(
        record.id, record.route, record.request.method, record.request.path, record.status, record.started_ns,
        record.took_ns, record.why, record.client, record.scheduler, error, encode(record),
    )  # fmt: skip


def fill(path: str, count: int) -> None:
    """A store of ``count`` traces: nine in ten are quick ones of /hello, the others failed, or are checkouts. The
    newest is a checkout, ``id`` counts."""
    store = TraceStore(path, max_bytes=1 << 30, max_age=86_400.0)
    start = time.time_ns() - count * 1_000_000
    rows = []
    for number in range(1, count + 1):
        id, at = f"6a{number:016x}", start + number * 1_000_000
        if number % 10 == 5:
            failed = ErrorNote("UPSTREAM_UNAVAILABLE", "http.get: no connection")
            record = simple(id, status=502, why="error", error=failed, started_ns=at, path=f"/hello/{number}")
            rows.append(row_of(record, "UPSTREAM_UNAVAILABLE"))
        elif number % 10 == 0:
            rows.append(row_of(checkout(id, started_ns=at)))
        else:
            rows.append(row_of(simple(id, started_ns=at, path=f"/hello/{number}", took_ns=(1 + number % 7) * MS)))
    store.write(rows)
    store.close()
