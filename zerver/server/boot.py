"""``Server(app).listen()``: an app that is loaded already on a socket, from its check to its graceful stop."""

from __future__ import annotations

import threading

import msgspec

from ..app import App
from ..config import Config, load, load_config
from ..error import AppError

__all__ = ["Server"]


class Server:
    """Serves one app: with the reactor engine in processes that this one forks, with the blocking engine in this one.

    ``config``: by default ``config.json`` and the environment, as ``load_config`` reads them at :meth:`listen`.
    """

    def __init__(self, app: App, config: Config | None = None) -> None:
        self.app = app
        self.config = config

    def listen(self, host: str | None = None, port: int | None = None, uds: str | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully and return. What is given wins over the configuration.

        At the stop nothing new is accepted, requests in flight have ``server.grace`` seconds to finish and are then
        cancelled, and the lifespan ends. A second SIGINT ends the process at once. Signals are only seen when this is
        called on the main thread.

        Where it listens is logged at level info; where logging is not set up, it is written to standard error.

        :raises ConfigError: a setting is wrong.
        :raises AppError: the app has errors (found before anything is opened), or its lifespan failed, at the start or
            at the stop; in the blocking engine that exception is the cause. In the reactor engine: other threads run.
        :raises ListenError: an OSError; it cannot listen there.
        """
        config = _configured(load_config() if self.config is None else self.config, host, port, uds)
        app = self.app
        app.site()
        app.config = config
        if config.reactor.engine == "blocking":
            from .listener import open_listener
            from .one_process import serve_in_one_process

            serve_in_one_process(app, config, open_listener(config.server))
            return
        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if others or threading.current_thread() is not threading.main_thread():
            raise AppError(
                f"Server.listen() forks, and other threads run ({', '.join(others)}), whose locks the new processes "
                "would find locked; call it from the main thread before any other begins, use 'zerver serve', or the "
                "blocking engine"
            )
        from .node_boot import serve_node

        serve_node(
            lambda: (app, config),
            config,
            no_reload="SIGHUP: Server.listen() cannot import the app anew; use 'zerver serve' for that",
        )


def _configured(config: Config, host: str | None, port: int | None, uds: str | None) -> Config:
    """:raises ConfigError: a value that is given is not allowed."""
    given = {name: value for name, value in (("host", host), ("port", port), ("uds", uds)) if value is not None}
    if not given:
        return config
    merged = {**msgspec.to_builtins(config.server), **given}
    return msgspec.structs.replace(config, server=load({"server": merged}, source="Server.listen()").server)
