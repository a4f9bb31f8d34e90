"""The answer to a request that no route of the app takes."""

from __future__ import annotations

from ..error import Error, ErrorKind
from ..match import MethodMismatch
from ..request import Request
from ..response import Response
from ..surroundings import Render

__all__ = ["answer_without_route"]


def answer_without_route(request: Request, found: MethodMismatch | None, render: Render) -> Response:
    """404 where there is nothing at its path; else 204 to OPTIONS and 405 to what is not allowed there, both with what
    is (RFC 9110 section 10.2.1)."""
    if found is None:
        return render(Error(ErrorKind.NOT_FOUND, f"there is nothing at {request.path[:200]}"), request, None)
    answer = Response(204)
    if request.method != "OPTIONS":
        answer = render(Error(ErrorKind.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here"), request, None)
    return Response(answer.status, (*answer.headers, ("allow", ", ".join(found.allowed))), answer.body)
