"""Health checks that the server answers itself: ``/healthz`` and ``/readyz``."""

from __future__ import annotations

from ..response import Response

__all__ = ["HEALTH_PATHS", "health_answer"]

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})


def health_answer(method: str, path: str, ready: bool) -> Response:
    """The answer at one of :data:`HEALTH_PATHS`: 200 at the first while the process lives, at the second while it is
    ``ready`` for requests, else 503."""
    if method not in ("GET", "HEAD"):
        allow = ("allow", "GET, HEAD, OPTIONS")  # RFC 9110 section 10.2.1
        return Response(204 if method == "OPTIONS" else 405, (allow,))
    good = ready or path == "/healthz"
    headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"))
    return Response(200 if good else 503, headers, b"ok\n" if good else b"not ready\n")
