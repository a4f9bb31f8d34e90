"""Tracebacks as the app's author needs them: without the frames of Zerver and of the import system."""

from __future__ import annotations

import contextlib
import importlib
import os
import traceback

__all__ = ["app_traceback", "first_app_line"]

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_MACHINERY = (importlib.__file__, contextlib.__file__)


def app_traceback(exception: BaseException) -> str:
    """The traceback, and those of what caused it, without frames that are not the app's. No line end at the end."""
    told = traceback.TracebackException.from_exception(exception)
    unfinished: list[traceback.TracebackException | None] = [told]
    while unfinished:
        part = unfinished.pop()
        if part is not None:
            part.stack = traceback.StackSummary.from_list([frame for frame in part.stack if _is_app(frame.filename)])
            unfinished += (part.__cause__, part.__context__, *(part.exceptions or ()))
    return "".join(told.format()).rstrip("\n")


def first_app_line(exception: BaseException) -> str | None:
    """``file:line``, where the app's own code comes first in the traceback; ``None`` where it does not come."""
    for frame in traceback.extract_tb(exception.__traceback__):
        if _is_app(frame.filename):
            return f"{frame.filename}:{frame.lineno}"
    return None


def _is_app(file: str) -> bool:
    return not file.startswith((_OURS, "<frozen ")) and file not in _MACHINERY
