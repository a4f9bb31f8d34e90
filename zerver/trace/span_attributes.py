"""Names and attributes of spans, after OpenTelemetry's semantic conventions for HTTP and for databases (1.44). Pure.

What those have no name for is called ``zerver.*``. No value of a statement, no key and no body is among them, and of
URLs no secret parameter.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

import msgspec

from ..config.rules import is_redis, sql_store, sqlite_path
from .record import EffectNote, TraceRecord

if TYPE_CHECKING:
    from ..config.settings import Config

__all__ = ["Attributes", "SpanSettings", "effect_attributes", "effect_name", "request_attributes", "span_settings"]

Attributes: TypeAlias = dict[str, str | int | float | bool]

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_DEFAULT_PORTS = {"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "redis": 6379, "rediss": 6379}
_REDIS = {"get": "GET", "put": "SET", "set": "SET", "delete": "DEL", "scan": "SCAN"}
# Texts, numbers and comments of SQL; what follows a name, a parameter's sign or a dot is none. A text may be cut off.
_VALUES = re.compile(
    r"(?s:(?<![\w$])[eE]'(?:[^'\\]|''|\\.)*(?:'|\\?\Z)|'(?:[^']|'')*(?:'|\Z)|\$(\w*)\$.*?(?:\$\1\$|\Z)|--[^\n]*"
    # Comments may be nested; then all of the rest is left out.
    r"|/\*(?:(?!/\*|\*/).)*\*/|/\*.*)|(?<![\w$:@.?\"])\.?\d[\w.]*"
)


class SpanSettings(msgspec.Struct, frozen=True):
    """What spans tell beside what is in a record. Plain data, which may go to another process."""

    scheme: str = "http"
    proxied: bool = False
    """Whether ``X-Forwarded-Proto`` is a proxy's word."""
    stores: dict[str, Attributes] = {}
    """What is behind the targets of effects: ``sql:default``, ``kv``, ``cache``."""


def span_settings(config: Config) -> SpanSettings:
    """Without what is secret in the configuration."""
    effects, stores = config.effects, dict[str, Attributes]()
    for name, url in effects.databases.items():
        stores[f"sql:{name}"] = _sqlite(url) if sql_store(url) == "sqlite" else _server("postgresql", url)
    stores["kv"] = _server("redis", effects.kv) if is_redis(effects.kv) else _sqlite(effects.kv)
    if is_redis(effects.cache):
        stores["cache"] = _server("redis", effects.cache)
    scheme = "http" if config.server.tls_cert is None else "https"
    return SpanSettings(scheme, bool(config.server.trusted_proxies), stores)


def request_attributes(record: TraceRecord, settings: SpanSettings) -> Attributes:
    """Of the request, as its server saw it."""
    request = record.request
    headers = {name: value.decode("latin-1") for name, value in reversed(request.headers)}
    _, _, route = record.route.partition(" ")
    scheme = headers.get(b"x-forwarded-proto", "").lower() if settings.proxied else ""
    found: Attributes = {
        **_method(request.method),
        "url.path": request.path,
        "url.scheme": scheme if scheme in ("http", "https") else settings.scheme,
    }
    if route:
        found["http.route"] = route
    if request.query:
        found["url.query"] = request.query.decode("latin-1")
    found |= _address("//" + headers.get(b"host", ""), "")
    if record.client:
        found["client.address"] = record.client
    if agent := headers.get(b"user-agent"):
        found["user_agent.original"] = agent
    if record.status is not None:
        found["http.response.status_code"] = record.status
        if record.status >= 500:
            found["error.type"] = str(record.status)
    found |= {"zerver.request_id": record.id, "zerver.kept": record.why}
    if record.engine:
        found |= {"zerver.engine": record.engine, "zerver.scheduler": record.scheduler}
    return found


def effect_name(note: EffectNote, settings: SpanSettings) -> str:
    """Of few kinds: what is asked for, and not which of them."""
    if note.family == "http":
        method = note.what.partition(" ")[0] or note.op.upper()
        return method if method in _METHODS else "HTTP"
    store = settings.stores.get(note.target)
    if store is None:
        return f"{note.family}.{note.op}"
    return f"{_operation(note, store)} {store.get('db.namespace', store['db.system.name'])}"


def effect_attributes(note: EffectNote, attempt: int, settings: SpanSettings) -> Attributes:
    """Of one attempt at an effect; 0 where it came to none."""
    found: Attributes = {"zerver.effect": note.label, "zerver.effect.target": note.target}
    if not note.required:
        found["zerver.effect.required"] = False
    if attempt:
        found["zerver.effect.attempt"] = attempt
    if note.family == "http":
        method, _, url = note.what.partition(" ")
        found |= _method(method or note.op.upper())
        if url:
            found["url.full"] = url
        found |= _address("//" + note.target.removeprefix("http:"), "")
        if attempt > 1:
            found["http.request.resend_count"] = attempt - 1
    elif (store := settings.stores.get(note.target)) is not None:
        found |= store
        found["db.operation.name"] = _operation(note, store)
        if note.family == "sql" and note.what:
            found["db.query.text"] = _VALUES.sub(_mark, note.what)
    return found


def _mark(found: re.Match[str]) -> str:
    return "" if found[0].startswith(("--", "/*")) else "?"


def _operation(note: EffectNote, store: Mapping[str, object]) -> str:
    if note.family != "sql":
        return _REDIS.get(note.op, note.op.upper()) if store["db.system.name"] == "redis" else note.op
    if note.op == "transaction":
        return "BATCH"
    first = re.match(r"[A-Za-z]+", note.what)
    return first[0].upper() if first else note.op


def _method(method: str) -> Attributes:
    if method in _METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": method}


def _sqlite(url: str) -> Attributes:
    return {"db.system.name": "sqlite", "db.namespace": os.path.basename(sqlite_path(url))}


def _server(system: str, url: str) -> Attributes:
    parts = urlsplit(url)
    found: Attributes = {"db.system.name": system, **_address(url, parts.scheme.lower())}
    if name := parts.path.strip("/"):
        found["db.namespace"] = name
    return found


def _address(url: str, scheme: str) -> Attributes:
    """Hosts come from clients, too: what is none is left out."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return {}
    if not host:
        return {}
    found: Attributes = {"server.address": host}
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        found["server.port"] = port
    return found
