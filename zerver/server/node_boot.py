"""The Node of a web app: opens the sockets, forks the schedulers that serve, and says where they listen.

Nothing of the application is imported here, nor uvloop, Starlette or uvicorn: each scheduler imports what it runs,
after the fork. So a reload re-imports the application by forking again.
"""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zerver_runtime.node_config import NodeConfig
from zerver_runtime.node_words import NodeLimits
from zerver_runtime.process import ApplicationFailed, run_node
from zerver_runtime.ref import class_path

from ..cache_actor import CACHE, CacheActor
from ..config import Config
from ..config.rules import is_redis
from ..error import AppError
from ..trace.span_exporter import finish_exports
from .listener import Listener, ListenError, inherit, open_admin, open_listener
from .log import Lines, announce, printable
from .processors import compute_workers, performance_schedulers
from .tracing import export_actor

if TYPE_CHECKING:
    from zerver_runtime.scheduler_process import SchedulerContext

    from ..app import App

__all__ = ["serve_node"]

_log = logging.getLogger("zerver")

# Seconds beyond `server.grace` that a scheduler has for its end: what was cancelled, the lifespan.
_LIFESPAN = 30.0
# Seconds for the app's import and its lifespan. Migrations may be part of that.
_BOOT = 600.0
_SIGNALLED = 128
"""With the number of a signal added, the Node's exit code where a second one ended all at once."""


def serve_node(
    load: Callable[[], tuple[App, Config]],
    config: Config,
    *,
    fd: int | None = None,
    admin_fd: int | None = None,
    no_reload: str = "",
) -> None:
    """Serve an app until SIGTERM or SIGINT.

    ``load`` is called in each scheduler: it gives the app, and the configuration as it is by then. ``config`` is that
    of the Node. ``fd``, ``admin_fd``: sockets that listen already, for the app and the admin address. ``no_reload``:
    why SIGHUP brings no reload, for the log.

    :raises ListenError: it cannot listen there.
    :raises TlsError: the certificate or its key cannot be used.
    :raises ConfigError: traces are to be exported, and cannot be.
    :raises AppError: the app could not start, or not stop as it should; or its schedulers died again and again.
    :raises RuntimeError: other threads run, whose locks a fork would copy as they are.
    """
    if config.server.tls_cert is not None or config.server.tls_key is not None:
        from .tls import server_context

        server_context(config.server)
    actors = _actors(config)
    count = performance_schedulers(config)
    listener = open_listener(config.server, count) if fd is None else inherit(fd, config.server)
    for sock in listener.sockets:
        sock.setblocking(False)
    try:
        admin = open_admin(config, admin_fd)
    except ListenError:
        listener.close()
        raise
    node = NodeConfig(
        performance=count,
        efficiency=1,
        compute=compute_workers(config),
        listeners=listener.sockets,
        shared=len(listener.sockets) < count,
        lent=fd is not None,
        actors=actors,
        limits=NodeLimits(grace=config.server.grace + _LIFESPAN, boot=_BOOT),
        no_reload=no_reload,
        check_arguments=config.observability.debug,
    )
    try:
        _preload()
        code = _run(load, config, listener, admin, node)
    except ApplicationFailed as failure:
        raise AppError(str(failure)) from None
    finally:
        listener.close()
        if admin is not None:
            admin.close()
    if code > _SIGNALLED:
        signal.signal(code - _SIGNALLED, signal.SIG_DFL)
        signal.raise_signal(code - _SIGNALLED)
    if code:
        raise AppError("the schedulers could not be kept running; the log says why")


def _actors(config: Config) -> dict[str, tuple[str, tuple[Any, ...], str]]:
    effects, actors = config.effects, export_actor(config)
    if not is_redis(effects.cache):
        actors[CACHE] = (class_path(CacheActor), (effects.cache_bytes,), CacheActor.affinity)
    return actors


def _preload() -> None:
    """What every scheduler imports of Zerver, so that none has to: it starts sooner, and they share the memory."""
    from . import asgi, http_protocol, scheduler_boot, tracing  # noqa: F401  # for those that come after

    gc.collect()
    gc.freeze()  # or the first collection in each scheduler would write to all of it


def _run(
    load: Callable[[], tuple[App, Config]], config: Config, listener: Listener, admin: Listener | None, node: NodeConfig
) -> int:
    served: list[bool] = []

    async def boot(context: SchedulerContext) -> None:
        if context.kind == "efficiency":
            # It serves no connections: it holds actors, and imports what they are made of when it gets them.
            context.on_drain.append(lambda: finish_exports(context.scheduler))
            if admin is not None:
                from .admin import boot_admin

                await boot_admin(context, config, lambda: load()[0], admin)
            return
        from .scheduler_boot import boot_scheduler

        if admin is not None:
            admin.close()
        await boot_scheduler(context, load, measured=admin is not None)

    def serving() -> None:
        announce(listener.address, "reloaded; listening on" if served else "listening on")
        served.append(True)

    # A Unix socket's file goes first: who comes from now on is to be refused.
    return run_node(node, boot, _warn, serving, listener.close)


def _warn(text: str) -> None:
    """What an app fails with has a traceback, and a stack is of many lines: for people to read."""
    _log.warning(Lines(map(printable, text.splitlines())))
