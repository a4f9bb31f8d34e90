"""CPU work in processes of its own: ``compute.run(render, report, cpu_budget=2.0)``.

A worker process imports the function by its name and calls it. Arguments and result cross by pickle, so they are
copies, and the function shares nothing with the server: no globals, no open files, no connections.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar, Unpack, overload

import msgspec

from ..effect import Effect, Priority, Retry
from ..error import DefinitionError
from ..slot import Key
from .call import checked
from .options import Into, Options

__all__ = ["NO_FALLBACK", "Compute", "ComputeOptions", "run"]

T = TypeVar("T")

NO_FALLBACK: Final = msgspec.UNSET
"""In ``Compute.fallback``: a full queue is a failure."""

_NO_KWARGS: Mapping[str, Any] = {}


class Compute(msgspec.Struct, frozen=True):
    """The function, by name, and what it is called with."""

    name: str
    """``module:qualname``."""
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    fallback: Any
    cpu_budget: float | None


class ComputeOptions(Options, total=False):
    """What ``run`` takes beside the function, its arguments and the fallback."""

    kwargs: Mapping[str, Any]
    cpu_budget: float | None


@overload
def run(
    fn: Callable[..., T],
    /,
    *args: Any,
    fallback: T = ...,
    into: None = None,
    as_: None = None,
    required: Literal[True] = True,
    **options: Unpack[ComputeOptions],
) -> Effect[T]: ...
@overload
def run(
    fn: Callable[..., T],
    /,
    *args: Any,
    fallback: T = ...,
    into: None = None,
    as_: None = None,
    required: bool,
    **options: Unpack[ComputeOptions],
) -> Effect[T | None]: ...
@overload
def run(
    fn: Callable[..., T],
    /,
    *args: Any,
    fallback: T = ...,
    into: Key[object, T],
    as_: type[T] | None = None,
    required: Literal[True] = True,
    **options: Unpack[ComputeOptions],
) -> Effect[T]: ...
@overload
def run(
    fn: Callable[..., T],
    /,
    *args: Any,
    fallback: T = ...,
    into: Into[T],
    as_: type[T] | None = None,
    required: bool,
    **options: Unpack[ComputeOptions],
) -> Effect[T | None]: ...
@overload
def run(
    fn: Callable[..., T],
    /,
    *args: Any,
    fallback: T = ...,
    into: None = None,
    as_: type[T],
    required: Literal[True] = True,
    **options: Unpack[ComputeOptions],
) -> Effect[T]: ...
@overload
def run(
    fn: Callable[..., T],
    /,
    *args: Any,
    fallback: T = ...,
    into: None = None,
    as_: type[T],
    required: bool,
    **options: Unpack[ComputeOptions],
) -> Effect[T | None]: ...
def run(
    fn: Callable[..., Any],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] = _NO_KWARGS,
    fallback: Any = NO_FALLBACK,
    cpu_budget: float | None = None,
    into: Any = None,
    as_: Any = None,
    required: bool = True,
    timeout: float | None = None,
    retry: Retry | None = None,
    priority: Priority = "interactive",
    idem: str | None = None,
) -> Effect[Any]:
    """Call ``fn(*args, **kwargs)`` in a worker process; the value is what it returns, as it is.

    ``fallback`` is the value when too many tasks wait already; without one that is a failure TOO_MANY_REQUESTS.
    ``cpu_budget``: seconds of CPU time, of all its threads together; a function that uses more is ended with its
    worker. So is one that is timed out or cancelled. There is no time-out by default, but the request's deadline.

    It is not idempotent: a retry needs ``idem``.

    :raises DefinitionError: ``fn`` is not a plain function or class at the top level of a module that a worker could
        import: of ``__main__``, a lambda, nested in a function, bound to an object, a ``partial``, ``async def``;
        ``kwargs`` are no mapping from text; a budget that is not a finite number of seconds above 0.
    """
    given = checked("compute.run", fn, kwargs)
    name = _name(fn)
    if cpu_budget is not None and (
        isinstance(cpu_budget, bool) or not isinstance(cpu_budget, (int, float)) or not 0 < cpu_budget < math.inf
    ):
        raise DefinitionError(f"compute.run: cpu_budget={cpu_budget!r}; give a finite number of seconds above 0")
    return Effect(
        family="compute",
        op="run",
        # One breaker for each function: that one of them keeps being timed out says nothing of the others.
        target=f"compute:{name.replace(':', '.')}",
        args=Compute(name, args, given, fallback, cpu_budget),
        into=into,
        as_=as_,
        timeout=timeout,
        retry=retry,
        required=required,
        priority=priority,
        idem=idem,
    )


_HOW = "write a function at the top level of a module"


def _name(fn: Any) -> str:
    """``module:qualname``, under which a worker finds the same function."""
    if isinstance(fn, functools.partial):
        raise _refused(fn, "is a partial; run the function itself, and give all of its arguments here")
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str):
        if module == "__main__":
            raise _refused(
                fn, "is defined in __main__, which a worker does not have; move it to a module and import it"
            )
        if "<lambda>" in qualname:
            raise _refused(fn, f"is a lambda, and a worker finds functions by their names; {_HOW}")
        if "<locals>" in qualname:
            raise _refused(fn, f"is defined inside of another function, where a worker cannot find it; {_HOW}")
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        raise _refused(fn, "is 'async def', and a worker has no loop; run a plain function, or use call.run")
    if isinstance(module, str) and isinstance(qualname, str):
        found: Any = sys.modules.get(module)
        for part in qualname.split("."):
            found = getattr(found, part, None)
        # A class method is bound anew each time that it is looked up.
        if found is fn or (isinstance(fn, types.MethodType) and isinstance(found, types.MethodType) and found == fn):
            return f"{module}:{qualname}"
    if getattr(fn, "__self__", None) is not None:
        raise _refused(fn, f"is bound to an object, which a worker does not have; {_HOW}, and give it the data")
    raise _refused(fn, f"cannot be found again by its name in its module; {_HOW}")


def _refused(fn: Any, why: str) -> DefinitionError:
    named = fn if isinstance(getattr(fn, "__qualname__", None), str) else type(fn)
    name = f"{getattr(named, '__module__', None)}.{named.__qualname__}"
    return DefinitionError(f"compute.run: {name} {why}")
