"""Whether traces are exported: by the configuration, or by what OpenTelemetry has in the environment."""

from __future__ import annotations

import pytest

from zerver.trace.otlp import decide

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
TRACES = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}


@pytest.mark.parametrize(
    ("otlp", "env", "wanted"),
    [
        (None, {}, False), (True, {}, True), (False, ENDPOINT, False),
        (None, ENDPOINT, True), (None, TRACES, True), (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (None, {"OTEL_TRACES_EXPORTER": "otlp"}, True), (None, {"OTEL_TRACES_EXPORTER": "console , OTLP"}, True),
        (None, {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False), (True, {"OTEL_TRACES_EXPORTER": "none"}, False),
        (None, {**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False), (True, {"OTEL_SDK_DISABLED": " TRUE"}, False),
        (None, {**ENDPOINT, "OTEL_SDK_DISABLED": "1"}, True), (None, {"OTEL_SERVICE_NAME": "shop"}, False),
        (True, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        (True, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True),
        (True, {"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_PROTOCOL": ""}, True),
    ],
)  # fmt: skip
def test_who_asks_for_it_and_who_switches_it_off(otlp: bool | None, env: dict[str, str], wanted: bool) -> None:
    assert decide(otlp, env, installed=True) == (wanted, "")


@pytest.mark.parametrize(
    ("otlp", "env", "installed", "says"),
    [
        (True, {}, False, "pip install 'zerver[otel]'"),
        (None, ENDPOINT, False, "pip install 'zerver[otel]'"),
        (True, {"OTEL_TRACES_EXPORTER": "zipkin"}, True, 'OTEL_TRACES_EXPORTER = "zipkin"'),
        (None, {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True, 'OTEL_EXPORTER_OTLP_PROTOCOL = "grpc"'),
        (True, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, True, "http/protobuf"),
    ],
)
def test_what_is_asked_for_and_cannot_be_done_is_said(
    otlp: bool | None, env: dict[str, str], installed: bool, says: str
) -> None:
    wanted, problem = decide(otlp, env, installed=installed)
    assert not wanted
    assert says in problem


@pytest.mark.parametrize("env", [{}, {**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_who_does_not_ask_for_it_need_not_have_it(env: dict[str, str]) -> None:
    assert decide(None, env, installed=False) == (False, "")
