"""Reload on change: the app runs in a child process, which reloads it, or is started again, when a file changes.

The listening socket belongs to this process. It stays open while the child restarts, so a client that comes in between
waits instead of being refused.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..config import Config, ConfigError, ServerConfig
from ..server.listener import Listener, ListenError, open_listener

__all__ = ["admin_for_development", "changed_files", "snapshot", "supervise"]

_log = logging.getLogger("zerver")

_ADMIN = 9180  # the port that is tried first
_PERIOD = 0.25  # seconds between two looks at the files

Snapshot = Mapping[str, tuple[int, int]]


def snapshot(folder: str, files: Iterable[str] = ()) -> Snapshot:
    """When each ``.py`` file and ``config.json`` below ``folder``, and each of ``files``, was modified, and its size.
    Hidden folders and virtual environments are left out."""
    return {path: state for path in (*_watched(folder), *files) if (state := _state(path)) is not None}


def changed_files(before: Snapshot, after: Snapshot) -> list[str]:
    """The files that were changed, added or removed."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def admin_for_development() -> Listener:
    """Where the admin address is while an app is developed: each time at the same port, so that a page stays where it
    is; or on any free one, where something else has that."""
    try:
        return open_listener(ServerConfig(port=_ADMIN))
    except ListenError:
        return open_listener(ServerConfig(port=0))


def supervise(
    command: Sequence[str],
    config: Config,
    look: Callable[[], Snapshot],
    configured: Callable[[], Config],
    admin: Listener | None = None,
) -> None:
    """Run ``command`` with ``--fd N``, and with ``--admin-fd N`` for ``admin``, until SIGTERM or SIGINT. Whenever
    ``look`` sees a change, have it reload the app (SIGHUP) where the engine can do that, or else run it again.
    ``configured`` reads the configuration anew: a changed address is listened on from the next start.

    :raises ListenError: it cannot listen, at the start.
    """
    listener = open_listener(config.server)
    signals: list[int] = []
    child: subprocess.Popen[bytes] | None = None
    try:
        with _collected(signals):
            while not signals:
                seen = look()
                child, names = _start(command, listener, admin), ""
                while changed := _until_change(child, seen, look, signals):
                    names = ", ".join(os.path.relpath(path) for path in changed)
                    if child.poll() is not None or not _reloads(config, configured):
                        break
                    seen = look()
                    _log.info("%s changed; reloading", names)
                    child.send_signal(signal.SIGHUP)
                _stop(child, signals)
                if not signals:
                    _log.info("%s changed; starting again", names)
                    config, listener = _moved(config, listener, configured)
    finally:
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()
        listener.close()
        if admin is not None:
            admin.close()


def _watched(folder: str) -> Iterator[str]:
    for here, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__pycache__"))
            and name != "node_modules"
            and not os.path.exists(os.path.join(here, name, "pyvenv.cfg"))
        ]
        for name in files:
            if name.endswith(".py") or name == "config.json":
                yield os.path.join(here, name)


def _state(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # removed since, or a dangling link
        return None
    return found.st_mtime_ns, found.st_size


@contextmanager
def _collected(signals: list[int]) -> Iterator[None]:
    """Handlers that only append: what to do is decided in the loop."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, _: signals.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(command: Sequence[str], listener: Listener, admin: Listener | None) -> subprocess.Popen[bytes]:
    fds = {"--fd": listener.sockets[0].fileno()}
    if admin is not None:
        fds["--admin-fd"] = admin.sockets[0].fileno()
    given = [text for name, fd in fds.items() for text in (name, str(fd))]
    return subprocess.Popen([*command, *given], pass_fds=tuple(fds.values()))


def _until_change(
    child: subprocess.Popen[bytes], seen: Snapshot, look: Callable[[], Snapshot], signals: list[int]
) -> list[str]:
    """The files that changed; none where a signal came first."""
    running = True
    while not signals:
        changed = changed_files(seen, look())
        if changed:
            return changed
        if running and child.poll() is not None:
            running = False
            _log.warning("the app has ended (exit code %d); waiting for a change", child.returncode)
        time.sleep(_PERIOD)
    return []


def _stop(child: subprocess.Popen[bytes], signals: list[int]) -> None:
    """Stop the child gracefully, or at once when another signal comes."""
    if child.poll() is None:
        child.terminate()
    told = len(signals)
    while True:
        try:
            child.wait(timeout=_PERIOD)
        except subprocess.TimeoutExpired:
            if len(signals) > told:
                child.kill()
        else:
            return


def _reloads(config: Config, configured: Callable[[], Config]) -> bool:
    """Whether the running child can follow to the configuration that there is by now."""
    if config.reactor.engine != "reactor":
        return False
    try:
        wanted = configured()
    except ConfigError:
        return True  # its new schedulers say what is wrong, and the old ones go on
    return _fixed(wanted) == _fixed(config)


def _fixed(config: Config) -> tuple[object, ...]:
    """What only a new start changes."""
    server, admin = config.server, config.observability.admin
    return (
        config.reactor.engine,
        config.schedulers,
        server.host,
        server.port,
        server.uds,
        server.tls_cert is None,
        admin,
    )


def _moved(config: Config, listener: Listener, configured: Callable[[], Config]) -> tuple[Config, Listener]:
    """The listener at the address that is configured by now; the one that there is where that cannot be had."""
    server = config.server
    try:
        wanted = configured()
        to = wanted.server
        if (to.host, to.port, to.uds) == (server.host, server.port, server.uds):
            return wanted, listener
        moved = open_listener(to)
    except ConfigError:
        return config, listener  # the child says what is wrong
    except ListenError as problem:
        _log.error("%s; still listening on %s", problem, listener.address)
        return config, listener
    listener.close()
    return wanted, moved
