"""Steps: pure functions ``CtxView -> Decision``, and what their annotation declares.

``@step`` checks a step where it is defined and returns the same function. It is optional where ``app.get(...)`` or
``then=`` compiles the function anyway; what it adds is the error at the definition instead of at start.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Never, TypeVar, overload

import typing_extensions

from . import step_source
from .compiled_step import CompiledStep, holder, same
from .context import CtxView
from .decision import Step
from .error import DefinitionError
from .slot import Slot, unalias
from .step_source import SourceFacts

__all__ = ["check_source", "compile_step", "continuation", "step"]

F = TypeVar("F", bound=Step)

_ATTRIBUTE = "__zerver_step__"


@overload
def step(fn: F, /) -> F: ...
@overload
def step(*, then: tuple[Step, ...] | None = None) -> Callable[[F], F]: ...
def step(fn: Any = None, /, *, then: tuple[Step, ...] | None = None) -> Any:
    """Declare a step where it is defined. ``then`` names its continuations, for steps whose source does not
    show them as plain names.

    :raises DefinitionError: the first parameter is not annotated with ``CtxView[...]`` of slots that exist at
        run time, or the source uses a slot that the annotation does not declare.
    """
    frame = sys._getframe(1)
    if fn is not None:
        compile_step(fn, frame.f_locals)
        return fn
    if then is not None and not (isinstance(then, tuple) and all(callable(one) for one in then)):
        raise DefinitionError(f"@step(then={then!r}): give a tuple of step functions, as in @step(then=(show,))")

    def declare(fn: F) -> F:
        compile_step(fn, frame.f_locals, then)
        return fn

    return declare


def compile_step(
    fn: Any, defining: Mapping[str, Any] | None = None, then: tuple[Step, ...] | None = None
) -> CompiledStep:
    """The compiled form of a step that is being declared, made once and kept on the function. ``defining``
    holds the local names of the frame that declares it.

    :raises DefinitionError: see :func:`step`.
    """
    known = _known(fn)
    if known is None:
        known = _compile(fn, {} if defining is None else defining)
        known.then = then
        check_source(known)
        _keep(fn, known)
    elif then is not None:
        known.then = then
    return known


def continuation(fn: Any) -> CompiledStep:
    """The compiled form of a continuation met at run time. Its source is not read: what it touches is checked
    as it runs.

    :raises DefinitionError: see :func:`step`.
    """
    known = _known(fn)
    if known is None:
        if isinstance(fn, types.FunctionType) and fn.__closure__:
            return _closure(fn)
        known = _compile(fn, {})
        if isinstance(fn, (types.FunctionType, types.MethodType)):  # a partial may be made for one request
            _keep(fn, known)
    return known


_closures: weakref.WeakKeyDictionary[types.CodeType, tuple[Any, Any, CompiledStep]] = weakref.WeakKeyDictionary()


def _closure(fn: types.FunctionType) -> CompiledStep:
    """The compiled form of a closure. Each request makes it anew: kept on it, the compiled form would be a reference
    cycle each time; compiled each time, it would cost more than the rest of the request. So what its definition
    declares is kept for its code, where it does not depend on what it closes over."""
    code, annotations = fn.__code__, fn.__annotations__
    known = _closures.get(code)
    if known is not None and known[0] is fn.__globals__ and known[1] == annotations:
        return known[2].of(fn)
    compiled = _compile(fn, {})
    if set(code.co_freevars).isdisjoint(re.findall(r"\w+", str(annotations))):
        _closures[code] = fn.__globals__, annotations, compiled.of(lambda _: None)
    return compiled


def check_source(compiled: CompiledStep) -> SourceFacts | None:
    """What the step's source shows by now; ``None`` where there is no source.

    :raises DefinitionError: it uses a slot that the annotation does not declare.
    """
    function = step_source.function_of(compiled.fn)
    facts = step_source.examine(function, compiled.context) if function else None
    for use in facts.uses if facts else ():
        declared = compiled.reads if use.verb == "reads" else compiled.writes
        if use.slot not in declared:
            union = " | ".join(sorted(slot.__name__ for slot in {*declared, use.slot}))
            place = f"CtxView[{union}, ...]" if use.verb == "reads" else f"CtxView[..., {union}]"
            raise DefinitionError(
                f"step {compiled.name} ({compiled.where}): line {use.line} {use.verb} slot {use.slot.__name__} without "
                f"declaring it; annotate {compiled.context} as {place}"
            )
    return facts


def _known(fn: Any) -> CompiledStep | None:
    known = getattr(holder(fn), "__dict__", {}).get(_ATTRIBUTE)
    # functools.wraps copies __dict__ to the wrapper: what is found there may be about the function inside.
    if not isinstance(known, CompiledStep) or holder(known.fn) is not holder(fn) or type(known.fn) is not type(fn):
        return None
    return known if same(known.fn, fn) else known.of(fn)


def _keep(fn: Any, compiled: CompiledStep) -> None:
    if hasattr(holder(fn), "__dict__"):
        setattr(holder(fn), _ATTRIBUTE, compiled)


def _compile(fn: Any, defining: Mapping[str, Any]) -> CompiledStep:
    if isinstance(fn, type) or not callable(fn):
        raise DefinitionError(f"{fn!r} is not a step: a step is a function that takes a CtxView and returns a Decision")
    code_of = step_source.function_of(fn)
    named = code_of if isinstance(fn, functools.partial) and code_of else fn
    name = getattr(named, "__qualname__", type(fn).__qualname__).rpartition("<locals>.")[2]
    where = f"{code_of.__code__.co_filename}:{code_of.__code__.co_firstlineno}" if code_of else "unknown place"
    blame = f"step {name} ({where})"
    if code_of is not None and (inspect.isgeneratorfunction(code_of) or inspect.isasyncgenfunction(code_of)):
        raise DefinitionError(
            f"{blame}: it is a generator; a step returns one Decision, and 'await need(...)' asks for effects"
        )
    parameter = _only_parameter(fn, blame)
    if parameter.annotation is inspect.Parameter.empty:
        raise DefinitionError(
            f"{blame}: annotate its parameter {parameter.name!r} with the slots that it reads and writes, as in "
            f"'{parameter.name}: CtxView[Reads, Writes]', or plain CtxView for none"
        )
    globals_ = code_of.__globals__ if code_of else {}
    names = {**defining, **step_source.names_of(code_of)} if code_of else dict(defining)
    view = _evaluate(parameter.annotation, globals_, names, blame)
    reads, writes = (frozenset(_slots(part, globals_, names, blame)) for part in _view_arguments(view, blame))
    return CompiledStep(fn, name, where, parameter.name, reads, writes)


def _only_parameter(fn: Any, blame: str) -> inspect.Parameter:
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except NameError as problem:  # from Python 3.14 on, annotations are evaluated when asked for
        raise DefinitionError(_unresolved(blame, problem, None)) from None
    except (TypeError, ValueError) as problem:
        raise DefinitionError(f"{blame}: its parameters cannot be seen ({problem}); wrap it in a function") from None
    required = [
        one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if len(required) != 1 or required[0].kind is required[0].KEYWORD_ONLY or required[0] is not parameters[0]:
        found = ", ".join(one.name for one in required) or "none"
        raise DefinitionError(
            f"{blame}: a step takes exactly one argument, its context; found {len(required)} ({found}). Read what the "
            "client sent from the context: ctx.param('id', int), ctx.query('limit', int), ctx.json(Model)"
        )
    return required[0]


def _evaluate(annotation: Any, globals_: dict[str, Any], names: dict[str, Any], blame: str) -> Any:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    try:
        return unalias(eval(annotation, globals_, names) if isinstance(annotation, str) else annotation)
    except NameError as problem:
        raise DefinitionError(_unresolved(blame, problem, globals_.get("__file__"))) from None
    except Exception as problem:
        raise DefinitionError(f"{blame}: its annotation {annotation!r} cannot be evaluated: {problem}") from None


def _unresolved(blame: str, problem: NameError, file: str | None) -> str:
    name = problem.name
    if file is not None and name in step_source.imported_for_checkers(file):
        return (
            f"{blame}: {name} is imported only under 'if TYPE_CHECKING', but the declaration of a step counts at run "
            "time too; move the import out of that block"
        )
    return f"{blame}: {name} in its annotation is not defined there; define or import the slot before the step"


def _view_arguments(view: Any, blame: str) -> tuple[Any, Any]:
    if view is CtxView:
        return Never, Never
    if typing.get_origin(view) is CtxView:
        arguments = typing.get_args(view)
        return arguments[0], arguments[1] if len(arguments) > 1 else Never
    raise DefinitionError(
        f"{blame}: its parameter is annotated {view!r}; a step's context is a CtxView[Reads, Writes]. "
        "Read what the client sent from that: ctx.param('id', int), ctx.query('limit', int), ctx.json(Model)"
    )


def _slots(part: Any, globals_: dict[str, Any], names: dict[str, Any], blame: str) -> list[type[Slot[Any]]]:
    part = _evaluate(part, globals_, names, blame)
    if part is Never or part is typing.NoReturn or part is typing_extensions.Never:
        return []
    if typing.get_origin(part) in (typing.Union, types.UnionType):
        return [slot for one in typing.get_args(part) for slot in _slots(one, globals_, names, blame)]
    if isinstance(part, type) and issubclass(part, Slot) and part is not Slot:
        return [part]
    raise DefinitionError(f"{blame}: {part!r} in CtxView[...] is not a slot; give a slot, a union of slots, or Never")
