"""TLS: the context of a server, out of the files that the configuration names."""

from __future__ import annotations

import os
import ssl

from ..config import ServerConfig
from ..error import ZerverError

__all__ = ["TlsError", "server_context"]


class TlsError(ZerverError):
    """The certificate or its key cannot be used; the message names the setting and says why."""


def server_context(server: ServerConfig) -> ssl.SSLContext | None:
    """The context, with the defaults of this Python's ``ssl`` (TLS 1.2 at least); ``None`` where TLS is not asked for.

    :raises TlsError: a file cannot be read, is not what it should be, or the two do not belong together.
    """
    if server.tls_cert is None:
        if server.tls_key is None:
            return None
        raise TlsError("server.tls_key is given without server.tls_cert; give the certificate, too")
    for name, path in (("tls_cert", server.tls_cert), ("tls_key", server.tls_key)):
        if path is not None:
            _check_readable(name, path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(server.tls_cert, server.tls_key, _no_password)
    except ssl.SSLError as problem:
        files = server.tls_cert if server.tls_key is None else f"{server.tls_cert} and {server.tls_key}"
        reason = problem.reason or str(problem)
        if reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"server.tls_key {server.tls_key} is not the key of {server.tls_cert}") from None
        raise TlsError(f"TLS with {files}: {reason}; give a certificate and its key in PEM form") from None
    return context


def _check_readable(name: str, path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as problem:
        raise TlsError(f"server.{name} {path}: {problem.strerror}") from None


def _no_password() -> str:
    # Otherwise OpenSSL asks the terminal.
    raise TlsError("server.tls_key is encrypted; give it without a password")
