"""A function call on its way to a compute worker: by name and pickle there, as a value or an exception back."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import traceback
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from .compute_protocol import MOST_BYTES, Raised, dump

__all__ = [
    "ComputeCancelled",
    "ComputeClosed",
    "ComputeFull",
    "ComputeProblem",
    "ComputeTask",
    "OverBudget",
    "RemoteError",
    "RemoteTraceback",
    "Untransferable",
    "WorkerDied",
    "call",
    "find_function",
    "pack",
    "unpack",
]

_ROOM = 64 * 1024  # for all that goes with arguments or a result


class ComputeProblem(Exception):
    """Why a task has no result, other than what its function raised."""


class ComputeFull(ComputeProblem):
    """As many tasks as may wait do."""


class ComputeClosed(ComputeProblem):
    """The pool was closed before the task was done."""


class ComputeCancelled(ComputeProblem):
    """The task was cancelled, and has let go of its worker."""


class OverBudget(ComputeProblem):
    """The task used more CPU time than it may; its worker was replaced."""


class WorkerDied(ComputeProblem):
    """The worker ended in the middle of the task, by itself or by somebody else's signal."""


class Untransferable(ComputeProblem):
    """The function cannot be found in a worker, or its arguments or its result cannot cross to the other process."""


class RemoteError(ComputeProblem):
    """The function raised an exception that cannot be pickled: its type and message."""


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: its traceback there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class ComputeTask(msgspec.Struct, frozen=True):
    """A call of the function that is found as `name`, "module:qualname".

    batch: interactive tasks go first. cpu_budget: seconds of CPU time, after which it is ended; None: no bound.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    batch: bool = False
    cpu_budget: float | None = None


def pack(task: ComputeTask) -> bytes:
    """Its arguments, as a worker takes them. Untransferable: one cannot be pickled, or they are too long."""
    try:
        data = dump((task.args, dict(task.kwargs)))
    except Exception as error:
        raise Untransferable(f"{task.name}: {_culprit(task)} cannot be pickled: {_said(error)}") from error
    if len(data) > MOST_BYTES - _ROOM:
        raise Untransferable(f"{task.name}: its arguments take {len(data)} bytes, more than the {MOST_BYTES} allowed")
    return data


def _culprit(task: ComputeTask) -> str:
    named = [(f"argument {number}", value) for number, value in enumerate(task.args, 1)]
    for name, value in (*named, *((f"argument {key!r}", value) for key, value in task.kwargs.items())):
        try:
            dump(value)
        except Exception:
            return f"{name} ({type(value).__module__}.{type(value).__qualname__})"
    return "what its arguments hold together"


def find_function(name: str) -> Callable[..., Any]:
    """What "module:qualname" names, imported if need be. Raises what importing raises, and AttributeError."""
    module, _, qualname = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return cast("Callable[..., Any]", found)


def call(name: str, arguments: bytes) -> bytes | Raised:
    """In the worker: call it. Never raises."""
    where = "import"
    try:
        function = find_function(name)
        where = "arguments"
        args, kwargs = pickle.loads(arguments)
        where = "call"
        value = function(*args, **kwargs)
        del args, kwargs
        where = "result"
        data = dump(value)
        if len(data) > MOST_BYTES - _ROOM:
            raise ValueError(f"it takes {len(data)} bytes, more than the {MOST_BYTES} allowed")
        return data
    except BaseException as error:  # an exit, too, is an answer of the function's and no reason to end the worker
        return _raised(where, error)


def _raised(where: str, error: BaseException) -> Raised:
    data = b""
    if where == "call":
        with contextlib.suppress(BaseException):  # of somebody else's __reduce__
            data = dump(error)
        if len(data) > MOST_BYTES - _ROOM:
            data = b""
    kind = type(error)
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:  # of somebody else's __str__
        text = ""
    return Raised(where, data, f"{kind.__module__}.{kind.__qualname__}", _said(error), text[-_ROOM // 4 :])


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:1000]
    except BaseException:
        return type(error).__name__


def unpack(name: str, result: bytes | Raised) -> tuple[Any, BaseException | None]:
    """The value that came back, or the exception instead."""
    if isinstance(result, Raised):
        problem = _problem(name, result)
        with contextlib.suppress(BaseException):  # some refuse attributes: a frozen dataclass does, for one
            problem.__cause__ = RemoteTraceback(result.traceback)
        return None, problem
    try:
        return pickle.loads(result), None
    except BaseException as error:
        problem = Untransferable(f"{name}: its result cannot be read here: {_said(error)}")
        problem.__cause__ = error
        return None, problem


def _problem(name: str, raised: Raised) -> BaseException:
    if raised.where == "import":
        return Untransferable(f"{name}: a compute worker cannot import it: {raised.message}")
    if raised.where == "arguments":
        return Untransferable(f"{name}: a compute worker cannot read its arguments: {raised.message}")
    if raised.where == "result":
        return Untransferable(f"{name}: its result cannot be pickled: {raised.message}")
    if raised.exception:
        try:
            found = pickle.loads(raised.exception)
            if isinstance(found, BaseException):
                return found
        except BaseException:  # its class is not here, or differs
            pass
    return RemoteError(f"{name}: {raised.kind}: {raised.message}")
