"""Problem details: the default rendering of errors (RFC 9457)."""

from __future__ import annotations

import math
import traceback
from urllib.parse import quote

from .error import Error
from .request import Request
from .response import Response, encode_json

__all__ = ["problem_response"]


def problem_response(error: Error, request: Request, exception: BaseException | None, debug: bool = False) -> Response:
    """``application/problem+json`` with the members of RFC 9457 section 3.1 (``type`` is left out: about:blank), and
    ``kind``, ``key``, ``request_id`` and the error's ``detail`` as ``info``. The traceback only under ``debug``.

    :raises Exception: a part of the error is not of its type, or has no JSON form.
    """
    kind = error.kind
    body: dict[str, object] = {
        "title": kind.title,
        "status": kind.status,
        "detail": _text(error.what or kind.title),
        "instance": quote(request.path, safe="/:@!$&'()*+,;=", errors="replace"),  # RFC 3986 section 3.3
        "kind": kind.name,
        "request_id": request.id,
    }
    if error.key is not None:
        body["key"] = _text(error.key)
    if error.detail:
        body["info"] = dict(error.detail)
    if debug and exception is not None:
        body["traceback"] = [_text(line) for line in traceback.format_exception(exception)]
    headers = [("content-type", "application/problem+json")]
    if error.retry_after is not None:
        headers.append(("retry-after", str(max(1, math.ceil(error.retry_after)))))
    return Response(kind.status, tuple(headers), encode_json(body))


def _text(value: str) -> str:
    """Without lone surrogates, which JSON in UTF-8 cannot carry."""
    return value.encode("utf-8", "replace").decode()
