"""Problem details: the default rendering of errors (RFC 9457)."""

from __future__ import annotations

import copy
import functools
import math
import re
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from .error import AppError, Error
from .request import Request
from .response import Response, encode_json

if TYPE_CHECKING:
    from .site import OnError

__all__ = ["error_response", "problem_response"]

_SAFE = "/:@!$&'()*+,;="  # of a path, RFC 3986 section 3.3
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*")  # what is never quoted


def error_response(
    error: Error,
    request: Request,
    exception: BaseException | None,
    on_error: OnError | None,
    failed: Callable[[Request, str, BaseException], object],
    debug: bool = False,
) -> Response:
    """The response of an error: the app's, or :func:`problem_response`. Never raises; ``failed`` is told in a sentence
    what could not be done, and why."""
    if on_error is not None:
        problem: BaseException
        try:
            answer: object = on_error(error, request)
            if isinstance(answer, Response):
                return answer
            problem = AppError(f"on_error returned a {type(answer).__name__}; it returns a Response")
        except (Exception, SystemExit) as raised:
            problem = raised
        failed(request, f"on_error failed on {error.kind.name}", problem)
    try:
        return problem_response(error, request, exception, debug)
    except Exception as raised:
        failed(request, "its error has no JSON form", raised)
        return problem_response(Error(error.kind), request, exception, debug)


def problem_response(error: Error, request: Request, exception: BaseException | None, debug: bool = False) -> Response:
    """``application/problem+json`` with the members of RFC 9457 section 3.1 (``type`` is left out: about:blank), and
    ``kind``, ``key``, ``request_id`` and the error's ``detail`` as ``info``. The traceback only under ``debug``.

    :raises Exception: a part of the error is not of its type, or has no JSON form.
    """
    kind, path = error.kind, request.path
    body: dict[str, object] = {
        "title": kind.title,
        "status": kind.status,
        "detail": _text(error.what or kind.title),
        "instance": path if _PLAIN.fullmatch(path) else quote(path, safe=_SAFE, errors="replace"),
        "kind": kind.name,
        "request_id": request.id,
    }
    if error.key is not None:
        body["key"] = _text(error.key)
    if error.detail:
        body["info"] = dict(error.detail)
    if debug and exception is not None:
        body["traceback"] = [_text(line) for line in traceback.format_exception(exception)]
    seconds = None if error.retry_after is None else max(1, math.ceil(error.retry_after))
    # To refuse a request must cost little, and half of it would go into checking the same headers over and over.
    made = copy.copy(_without_body(kind.status, seconds))
    msgspec.structs.force_setattr(made, "body", encode_json(body))
    return made


@functools.lru_cache(256)
def _without_body(status: int, retry_after: int | None) -> Response:
    retry = () if retry_after is None else (("retry-after", str(retry_after)),)
    return Response(status, (("content-type", "application/problem+json"), *retry))


def _text(value: str) -> str:
    """Without lone surrogates, which JSON in UTF-8 cannot carry."""
    return value.encode("utf-8", "replace").decode()
