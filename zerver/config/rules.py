"""What the type of a setting cannot say: URLs of stores, names of targets, names of engines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from zerver.config.problem import ConfigError, choices, shown
from zerver.config.settings import EffectsConfig, ObservabilityConfig, ServerConfig, TraceConfig

__all__ = [
    "admin_address",
    "cache_store",
    "effects_problems",
    "engine_enabled",
    "is_redis",
    "kv_store",
    "observability_problems",
    "server_problems",
    "sql_store",
    "sqlite_path",
    "trace_problems",
]

_SQLITE = "sqlite:///relative/path.db or sqlite:////absolute/path.db"
_REDIS = "redis://USER:PASSWORD@HOST:PORT/NUMBER (rediss:// for TLS)"
_POSTGRES = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def engine_enabled(name: str, source: str) -> bool:
    """Whether an engine's name, as ``ZERVER_ENGINE`` and ``--engine`` give it, means ``reactor.enabled``.

    :raises ConfigError: there is no such engine.
    """
    if name not in ("blocking", "reactor"):
        raise ConfigError(f"{source} = {shown(name)}: unknown engine. Allowed: reactor, blocking")
    return name == "reactor"


def sqlite_path(url: str) -> str:
    """The file of ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db`` (the form that SQLAlchemy uses).

    :raises ValueError: it is no such URL. The message says what it must be.
    """
    scheme, _, rest = url.partition("://")
    if scheme.lower() != "sqlite" or not rest.startswith("/") or rest.endswith("/"):
        raise ValueError(f"must be {_SQLITE}")
    if rest == "/:memory:":
        raise ValueError("must name a file: in memory, each connection would have a database of its own")
    if "?" in rest or "#" in rest:
        raise ValueError("must have a plain path after sqlite:///; options are set in effects.sqlite")
    return rest[1:]


def sql_store(url: str) -> Literal["sqlite", "postgres"]:
    """What a URL of ``effects.databases`` names.

    :raises ValueError: nothing that ``sql`` effects know. The message says what it must be.
    """
    scheme, _, rest = url.partition("://")
    kind = scheme.lower()
    if kind in ("postgres", "postgresql"):
        if not rest:
            raise ValueError(f"must be {_POSTGRES}")
        return "postgres"
    if kind.startswith(("postgres+", "postgresql+")):
        raise ValueError(f"must be {_POSTGRES}, without the name of a driver")
    if kind != "sqlite":
        raise ValueError(f"must be {_SQLITE}, or {_POSTGRES}")
    sqlite_path(url)
    return "sqlite"


def is_redis(url: str) -> bool:
    """Whether the URL of a store means Redis or Valkey."""
    return url.partition("://")[0].lower() in ("redis", "rediss")


def kv_store(url: str) -> None:
    """Look at the URL of ``effects.kv``.

    :raises ValueError: it names no store of ``kv`` effects. The message says what it must be.
    """
    scheme, _, rest = url.partition("://")
    if is_redis(url) and rest:
        return
    if is_redis(url) or scheme.lower() in ("valkey", "valkeys"):
        raise ValueError(f"must be {_REDIS}, for Valkey, too")
    if scheme.lower() != "sqlite":
        raise ValueError(f"must be {_SQLITE}, or {_REDIS}")
    sqlite_path(url)


def cache_store(url: str) -> None:
    """Look at the URL of ``effects.cache``.

    :raises ValueError: it names no cache. The message says what it must be.
    """
    if url.lower() != "memory://" and not (is_redis(url) and url.partition("://")[2]):
        raise ValueError(f"must be memory://, or {_REDIS}")


def server_problems(server: ServerConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """As :func:`effects_problems`."""
    yield from _address_problems(server.trusted_proxies, ("server", "trusted_proxies"))


def admin_address(admin: str | None) -> tuple[str, int] | None:
    """Host and port of ``observability.admin``; ``None`` where it is off.

    :raises ValueError: it is no such address. The message says what it must be.
    """
    if admin is None or admin == "off":
        return None
    host, _, port = admin.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not re.fullmatch(r"[^\s/@\[\]]+", host) or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:9180 or [::1]:9180, or off")
    return host, int(port)


def observability_problems(observability: ObservabilityConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """As :func:`effects_problems`."""
    try:
        admin_address(observability.admin)
    except ValueError as error:
        yield ("observability", "admin"), f" = {shown(observability.admin)}: {error}"


def trace_problems(trace: TraceConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """As :func:`effects_problems`."""
    yield from _address_problems(trace.trusted, ("trace", "trusted"))
    try:
        sqlite_path(trace.store)
    except ValueError as error:
        yield ("trace", "store"), f" = {shown(trace.store)}: {error}"


def _address_problems(names: Iterable[str], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in names:
        try:
            if name != "unix":
                ipaddress.ip_network(name)
        except ValueError as error:
            yield path, f": {error}; each is an address, a network such as 10.0.0.0/8, or unix"


def effects_problems(effects: EffectsConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """For each setting that is wrong, its path, and how a message about it goes on after the path."""
    urls = [(("effects", "databases", name), url, sql_store) for name, url in effects.databases.items()]
    stores: list[tuple[tuple[str, ...], str, Callable[[str], object]]] = [
        *urls,
        (("effects", "kv"), effects.kv, kv_store),
        (("effects", "cache"), effects.cache, cache_store),
    ]
    for path, url, check in stores:
        try:
            check(url)
        except ValueError as error:
            yield path, f" = {shown(url)}: {error}"
    for target in effects.targets:
        wrong = _target_problem(target, effects.databases)
        if wrong:
            yield ("effects", "targets", target), f": {wrong}"


def _target_problem(target: str, databases: Iterable[str]) -> str | None:
    family, _, rest = target.partition(":")
    match family:
        case "kv" | "cache" | "file":
            return None if target == family else f"must be {family}, which has no parts"
        case "sql":
            return None if rest in databases else f"no such database{choices(rest, databases)}"
        case "http":
            host, _, port = rest.rpartition(":")
            right = re.fullmatch(r"[^\s/:@A-Z]+|\[[0-9a-f:.]+\]", host) and re.fullmatch(r"[1-9][0-9]{0,4}", port)
            return None if right and int(port) <= 65_535 else "must be http:HOST:PORT, the host in lower case"
        case "call" | "compute":
            right = re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", rest)
            return None if right else f"must be {family}:MODULE.FUNCTION"
        case "actor":
            return None if rest else "must be actor:NAME"
        case _:
            families = ("http", "sql", "kv", "cache", "file", "call", "compute", "actor")
            return f"unknown effect family{choices(family, families)}"
