"""The OpenTelemetry SDK, and its exporter for OTLP over HTTP: the only import of both.

They read ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_SERVICE_NAME`` and ``OTEL_EXPORTER_OTLP_*`` themselves.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from .spans import SpanData

__all__ = ["OtlpSender"]

_KINDS = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_UNSET = Status(StatusCode.UNSET)
_SCOPE = InstrumentationScope("zerver", schema_url="https://opentelemetry.io/schemas/1.44.0")
_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.trace.span",  # of members of a client's tracestate that the SDK does not know, and leaves out
)

_SESSIONS = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER"
)  # fmt: skip
_SAID: Final = 500  # characters of what is wrong; some of it is the collector's
_PARAMETERS: Final = re.compile(r"([?&][^=&\s]+=)[^&\s)]+")  # of the collector's URL: a key may be among them
_ANSWER: Final = 4096  # bytes of an answer that are read, so that its connection can be used again
_READING: Final = 1.0  # seconds for that


class OtlpSender:
    """A :class:`~zerver.trace.span_exporter.Sender`."""

    def __init__(self) -> None:
        found = Resource.create()
        self._resource = _Resource(found.attributes, found.schema_url)
        # Whoever names a session of their own gets it.
        self._exporter = OTLPSpanExporter(session=None if any(map(os.environ.get, _SESSIONS)) else _Session())
        self._said = _Said(threading.get_ident())
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._said)
        self._stopped = False

    def send(self, batch: Sequence[SpanData], /) -> str:
        said = self._said.texts
        readable = [self._span(one) for one in batch]
        said.clear()
        if self._exporter.export(readable) is SpanExportResult.SUCCESS:
            return ""
        text = " ".join(dict.fromkeys((said[0], said[-1]))) if said else "the collector does not take them"
        text = _PARAMETERS.sub(r"\1…", text)
        return text if len(text) <= _SAID else f"{text[:_SAID]}…"

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK has no types there

    def close(self) -> None:
        self.stop()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._said)

    def _span(self, data: SpanData) -> ReadableSpan:
        trace, flags = int(data.context.trace_id, 16), TraceFlags(data.context.flags)
        state = _state(data.context.state)
        parent = None
        if data.parent_id:
            remote = data.parent_id == data.context.span_id
            parent = SpanContext(trace, int(data.parent_id, 16), remote, flags, state)
        return ReadableSpan(
            name=data.name,
            context=SpanContext(trace, int(data.span_id, 16), False, flags, state),
            parent=parent,
            resource=self._resource,
            attributes=data.attributes,
            events=[Event(one.name, one.attributes, one.at_ns) for one in data.events],
            kind=_KINDS[data.kind],
            status=Status(StatusCode.ERROR, data.description or None) if data.failed else _UNSET,
            start_time=data.start_ns,
            end_time=data.end_ns,
            instrumentation_scope=_SCOPE,
        )


def _state(text: str) -> TraceState | None:
    if not text:
        return None
    return TraceState([(key, value) for key, _, value in (one.partition("=") for one in text.split(","))])


class _Session(requests.Session):
    """Nothing in an answer matters but its head. The exporter would read all of it, however large or slow; and takes a
    redirect, which it does not follow, for a success."""

    def request(self, *args: Any, **options: Any) -> requests.Response:
        response = super().request(*args, **(options | {"stream": True}))
        size = response.headers.get("content-length", "")
        if size.isdecimal() and int(size) <= _ANSWER:
            until = time.monotonic() + _READING
            while response.raw.read1(_ANSWER) and time.monotonic() < until:
                pass
        response.close()
        if 300 <= response.status_code < 400:
            raise requests.RequestException(f"it answered {response.status_code}, a redirect, which is not followed")
        return response


class _Resource(Resource):
    """The exporter takes the hash of each span's, which is that of its JSON; there is one."""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class _Said(logging.Filter):
    """Keeps what the exporter says on this thread: it does so with each attempt, and we say it once in a while."""

    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread
        self.texts: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.texts.append(record.getMessage())
        return False
