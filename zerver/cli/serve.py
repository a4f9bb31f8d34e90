"""``zerver serve``, and its command line read without typer: that takes longer than the rest of the start together."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..config import Config, engine_enabled, load_config
from ..error import ZerverError
from ..server.log import configure_logging
from .import_path import look_here

if TYPE_CHECKING:
    from ..app import App

__all__ = ["configured", "flags", "load", "plain_serve", "readable_errors", "serve"]

_log = logging.getLogger("zerver")

_OPTIONS = {
    "--host": str, "--port": int, "--uds": str, "--schedulers": int, "--engine": str, "--config": str, "--fd": int,
    "--admin-fd": int,
}  # fmt: skip


def plain_serve(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What to call :func:`serve` with, where these are the arguments of ``zerver serve`` and there is nothing to say
    about them. Everything else (help, mistakes, other commands) is for typer: ``None``."""
    if arguments[:1] != ["serve"]:
        return None
    given: dict[str, Any] = {}
    rest = iter(arguments[1:])
    for one in rest:
        name, equals, value = one.partition("=")
        if not one.startswith("-"):
            name, value = "target", one
        elif name not in _OPTIONS:
            return None
        elif not equals:
            value = next(rest, "-")
        whole = _OPTIONS.get(name) is int
        name = name.removeprefix("--").replace("-", "_")
        if name in given or value.startswith("-") or (whole and not re.fullmatch("[0-9]{1,9}", value)):
            return None
        given[name] = int(value) if whole else value
    return given if "target" in given else None


def serve(
    target: str,
    host: str | None = None,
    port: int | None = None,
    uds: str | None = None,
    schedulers: int | None = None,
    engine: str | None = None,
    config: str | None = None,
    fd: int | None = None,
    admin_fd: int | None = None,
) -> None:
    """Serve an app until SIGTERM or SIGINT."""
    with readable_errors():
        given = flags(host, port, uds, schedulers, engine)
        settings = configured(config, given)
        if settings.reactor.engine == "reactor":
            from ..server.node_boot import serve_node

            look_here()  # a scheduler that loads no app may still have to find the classes of its actors

            serve_node(lambda: (load(target), configured(config, given)), settings, fd=fd, admin_fd=admin_fd)
            return
        if schedulers is not None:
            _log.warning("--schedulers %d: the blocking engine serves in one process", schedulers)
        app = load(target)
        app.site()
        from ..server.listener import inherit, open_listener
        from ..server.one_process import serve_in_one_process

        server = settings.server
        serve_in_one_process(app, settings, open_listener(server) if fd is None else inherit(fd, server), admin_fd)


def flags(
    host: str | None, port: int | None, uds: str | None, schedulers: int | None, engine: str | None
) -> dict[str, Any]:
    """The settings that flags give."""
    server = {name: value for name, value in (("host", host), ("port", port), ("uds", uds)) if value is not None}
    given: dict[str, Any] = {"server": server}
    if schedulers is not None:
        given["schedulers"] = {"performance": schedulers}
    if engine is not None:
        given["reactor"] = {"enabled": engine_enabled(engine, "--engine")}
    return given


def configured(path: str | None, given: dict[str, Any]) -> Config:
    """The settings, and logging as they say."""
    settings = load_config(path, overrides=given)
    configure_logging(settings.server.log_level, settings.server.log_format)
    return settings


def load(target: str) -> App:
    """See :func:`~zerver.cli.target.load_app`."""
    from .target import load_app

    return load_app(target)


@contextmanager
def readable_errors() -> Iterator[None]:
    """What can go wrong at the start, as one message and exit code 1. Anything else is a bug, with its traceback."""
    try:
        yield
    except ZerverError as problem:
        sys.stderr.write(f"zerver: {problem}\n")
        raise SystemExit(1) from None
