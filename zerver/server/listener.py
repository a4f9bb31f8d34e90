"""The listening sockets: TCP, a Unix socket, or one that was inherited."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Sequence

from ..config import Config, ServerConfig
from ..config.rules import admin_address
from ..error import ZerverError

__all__ = ["ListenError", "Listener", "inherit", "open_admin", "open_listener"]

_log = logging.getLogger("zerver")

_BACKLOG = 2048  # connections that the kernel keeps until they are accepted; it caps this at net.core.somaxconn


class ListenError(ZerverError, OSError):
    """It cannot be listened there; the message names the address and says what to do. ``errno`` is the system's."""

    def __str__(self) -> str:
        return str(self.strerror)


class Listener:
    """An address that is listened on. :attr:`address` is how a message names it: ``http://127.0.0.1:8080``,
    ``unix:/run/a``. :attr:`sockets`: one, or several that the kernel deals connections out to."""

    def __init__(self, sockets: Sequence[socket.socket], owned_path: str | None = None, scheme: str = "http") -> None:
        self.sockets = sockets
        name = sockets[0].getsockname()
        if sockets[0].family == socket.AF_UNIX:
            self.address = f"unix:{os.fsdecode(name)}"
        else:
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            self.address = f"{scheme}://{host}:{name[1]}"
        self._path = owned_path
        self._file = _identity(owned_path) if owned_path else None

    def __repr__(self) -> str:
        return f"<Listener {self.address}>"

    def close(self) -> None:
        """Stop listening, and remove the socket's file unless another server has put its own there."""
        for sock in self.sockets:
            sock.close()
        if self._path is not None and _identity(self._path) == self._file:
            os.unlink(self._path)
        self._path = None


def open_listener(server: ServerConfig, count: int = 1) -> Listener:
    """Listen where ``server`` says; with ``count`` sockets, but of a Unix socket there is only one.

    Of a host name with several addresses one is taken, IPv4 first. A socket file that nobody listens on is replaced;
    who may connect to a new one is up to the umask.

    :raises ListenError: the address is in use, not of this machine, or not allowed.
    """
    if server.uds is not None:
        return _open_unix(server.uds)
    return _open_tcp(server, count)


def open_admin(config: Config, fd: int | None = None) -> Listener | None:
    """Listen at the admin address, if there is one; or go on with the socket that a parent process has opened there as
    ``fd``.

    :raises ListenError: it cannot listen there.
    """
    address = admin_address(config.observability.admin)
    if address is None:
        return None
    where = ServerConfig(host=address[0], port=address[1])
    try:
        listener = open_listener(where) if fd is None else inherit(fd, where)
    except ListenError as problem:  # it is not the address of the app that has to change
        raise ListenError(problem.errno, f"observability.admin: {problem}") from None
    for sock in listener.sockets:
        sock.setblocking(False)
    _log.info("metrics at %s/metrics", listener.address)
    _log.info("console at %s/console/", listener.address)
    host = listener.sockets[0].getsockname()[0]
    if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        _log.warning(
            "the admin address %s can be reached from other machines, and asks nobody who they are: "
            "let no one but those who run the app get there",
            listener.address,
        )
    return listener


def inherit(fd: int, server: ServerConfig) -> Listener:
    """The listening socket that a parent process has opened as ``fd``, and cleans up after."""
    return Listener([socket.socket(fileno=fd)], scheme=_scheme(server))


def _scheme(server: ServerConfig) -> str:
    return "http" if server.tls_cert is None else "https"


def _open_tcp(server: ServerConfig, count: int) -> Listener:
    host, port = server.host, server.port
    where = f"port {port} of {host}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as problem:  # UnicodeError: a label that IDNA cannot encode
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise ListenError(
            errno.EADDRNOTAVAIL, f"cannot listen on {host}: {reason}; give an address of this machine as host"
        ) from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    opened: list[socket.socket] = []
    try:
        for position in range(count):
            sock = socket.socket(family, kind, protocol)
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if position:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            if count > 1:
                # Of the first one only now: bound with it, it would share a port with another server of this user.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.listen(_BACKLOG)  # now, not when the app is ready: only this finds that the port is in use
            address = sock.getsockname()
        return Listener(opened, scheme=_scheme(server))
    except OSError as problem:
        for sock in opened:
            sock.close()
        advice = {
            errno.EADDRINUSE: "is in use; stop the program that listens there, or give another port",
            errno.EACCES: "needs more rights than this user has; give a port from 1024 on",
            errno.EADDRNOTAVAIL: "is not on this machine; give an address that is, such as 127.0.0.1 or 0.0.0.0",
        }.get(problem.errno or 0, f"cannot be listened on: {problem.strerror}")
        raise ListenError(problem.errno, f"{where} {advice}") from None


def _open_unix(path: str) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            sock.bind(path)
        sock.listen(_BACKLOG)
        return Listener([sock], path)
    except OSError as problem:
        sock.close()
        advice = {
            errno.ENOENT: "its folder does not exist; make it first",
            errno.EACCES: "this user may not write to its folder; give another path",
        }.get(problem.errno or 0, problem.strerror)
        raise ListenError(problem.errno, f"unix socket {path}: {advice}") from None


def _remove_stale(path: str) -> None:
    """Remove a socket that a server has left behind.

    :raises ListenError: somebody listens on it, or it is no socket.
    """
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ListenError(errno.EADDRINUSE, "there is a file that is not a socket; give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server whose queue is full is one too
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise ListenError(
                errno.EADDRINUSE, "it is in use; stop the program that listens there, or give another path"
            )
    os.unlink(path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
