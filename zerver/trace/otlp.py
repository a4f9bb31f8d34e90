"""Whether kept traces are exported by OTLP: as the configuration says, or, where that says nothing, as the environment
does in the variables that OpenTelemetry has for it. Pure but for :func:`exports`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..config.problem import ConfigError, shown

if TYPE_CHECKING:
    from ..config.settings import TraceConfig

__all__ = ["decide", "exports"]

_log = logging.getLogger("zerver.trace")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def exports(trace: TraceConfig) -> bool:
    """Whether this process is to export, if it keeps traces: not where ``trace.enabled`` is off. To be asked once, at
    its start.

    :raises ConfigError: ``trace.otlp`` is true, and it cannot. Where only the environment asks for it, that is logged.
    """
    if trace.enabled is False:
        return False
    wanted, problem = decide(trace.otlp, os.environ, installed=_installed())
    if problem and trace.otlp:
        raise ConfigError(f"trace.otlp = true: {problem}")
    if problem:
        _log.warning("traces are not exported: %s", problem)
    return wanted


def decide(otlp: bool | None, env: Mapping[str, str], *, installed: bool) -> tuple[bool, str]:
    """Whether to export; and why not, where it is asked for and cannot be done. ``installed``: whether the exporter
    is."""
    names = {name for part in env.get("OTEL_TRACES_EXPORTER", "").split(",") if (name := part.strip().lower())}
    asked = any(env.get(name) for name in _ENDPOINTS) or "otlp" in names
    if otlp is False or (otlp is None and not asked):
        return False, ""
    # These two switch off whatever an application asks for.
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or "none" in names:
        return False, ""
    if names and "otlp" not in names:
        given = env["OTEL_TRACES_EXPORTER"]
        return False, f"OTEL_TRACES_EXPORTER = {shown(given)}: Zerver has otlp, or none"
    for name in _PROTOCOLS:
        if protocol := env.get(name, "").strip().lower():
            if protocol != "http/protobuf":
                return False, f"{name} = {shown(protocol)}: Zerver speaks http/protobuf (port 4318, as a rule)"
            break
    if not installed:
        return False, "the OpenTelemetry exporter is not installed: pip install 'zerver[otel]'"
    return True, ""


def _installed() -> bool:
    try:
        return all(
            importlib.util.find_spec(name) is not None
            for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        )
    except ImportError:  # a package above it is missing
        return False
