"""What the source of a step shows: slots it uses, continuations it names, and how it can end.

Only what is certain counts: a slot or continuation is seen when it stands as a plain name (or ``module.Name``)
of the step's globals or closure. What is not seen is unknown, and checked at run time; nothing is guessed.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import inspect
import linecache
import types
from collections import ChainMap
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from .decision import Continue, Done, Fail, Need
from .slot import Slot

__all__ = ["SlotUse", "SourceFacts", "examine", "function_of", "imported_for_checkers", "names_of"]

_READERS = {"require": "reads", "optional": "reads", "put": "writes"}
_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTION, ast.Lambda, ast.ClassDef)


class SlotUse(msgspec.Struct, frozen=True):
    """A slot that the source reads or writes, and the line."""

    verb: Literal["reads", "writes"]
    slot: type[Slot[Any]]
    line: int


class SourceFacts(msgspec.Struct, frozen=True):
    """What is certain about a step."""

    uses: tuple[SlotUse, ...]
    then: tuple[Callable[..., Any], ...]
    """Continuations that are named."""
    complete: bool
    """Whether every ``return`` was understood; otherwise there may be continuations beyond ``then``."""
    continues: int | None
    """The line of a ``return`` that goes on with the next step, if there is one."""
    params: tuple[tuple[str, int], ...] = ()
    """Path parameters that it asks for by name, and the lines."""
    looks: bool = False
    """Whether it looks at which path parameters there are, so that it may ask for those only."""


def function_of(fn: Any) -> types.FunctionType | None:
    """The plain function behind a callable: of a bound method, a wrapper, a partial, an instance with ``__call__``."""
    for _ in range(50):  # a longer chain of wrappers is a circle
        inner = _behind(fn)
        if inner is None:
            break
        fn = inner
    if isinstance(fn, types.FunctionType):
        return fn
    method = inspect.getattr_static(type(fn), "__call__", None)
    return method if isinstance(method, types.FunctionType) else None


def _behind(fn: Any) -> Any:
    if isinstance(fn, functools.partial):
        return fn.func
    if isinstance(fn, types.MethodType):
        return fn.__func__
    return getattr(fn, "__wrapped__", None)


def names_of(fn: types.FunctionType) -> dict[str, Any]:
    """The names in a function's closure that are bound by now."""
    found = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def examine(fn: types.FunctionType, context: str) -> SourceFacts | None:
    """The facts about a function whose context parameter is called ``context``; ``None`` where there is no
    source."""
    node = _definition(fn)
    return None if node is None else _Reading(fn, context, node).facts()


class _Module:
    """A parsed file, and the functions that it defines by name and first line, decorators included."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.tree = ast.parse("".join(lines))
        self.defined: dict[tuple[str, int], _Definition] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, _FUNCTION):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                self.defined[node.name, first] = node


_parsed: dict[str, _Module] = {}
_MOST_PARSED = 4  # steps are read module by module, so a few suffice; large ones take megabytes


def _module(file: str) -> _Module | None:
    lines = linecache.getlines(file)
    known = _parsed.get(file)
    if known is not None and known.lines is lines:
        return known
    if not lines:
        return None
    try:
        made = _Module(lines)
    except (SyntaxError, ValueError):
        return None
    _parsed.pop(file, None)
    while len(_parsed) >= _MOST_PARSED:
        _parsed.pop(next(iter(_parsed)), None)
    _parsed[file] = made
    return made


def _definition(fn: types.FunctionType) -> _Definition | None:
    module = _module(fn.__code__.co_filename)
    return None if module is None else module.defined.get((fn.__code__.co_name, fn.__code__.co_firstlineno))


@functools.lru_cache(maxsize=64)
def imported_for_checkers(file: str) -> frozenset[str]:
    """The names that a file imports only under ``if TYPE_CHECKING``."""
    module = _module(file)
    names = set()
    for node in ast.walk(module.tree) if module else ():
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for inner in node.body:
                if isinstance(inner, (ast.Import, ast.ImportFrom)):
                    names |= {alias.asname or alias.name.partition(".")[0] for alias in inner.names}
    return frozenset(names)


class _Reading:
    """One look at one function."""

    def __init__(self, fn: types.FunctionType, context: str, node: _Definition) -> None:
        self.context = context
        self.locals = _bound_in(fn.__code__)
        self.names = ChainMap(names_of(fn), fn.__globals__, builtins.__dict__)
        self.own = list(_same_scope(node))
        self.then: list[Callable[..., Any]] = []
        self.complete = True
        self.continues: int | None = None

    def facts(self) -> SourceFacts:
        for node in self.own:
            if isinstance(node, ast.Return):
                self._returns(node.value, node.lineno)
        uses, then = tuple(self._uses()), tuple(dict.fromkeys(self.then))
        return SourceFacts(uses, then, self.complete, self.continues, tuple(self._params()), self._looks())

    def _uses(self) -> Iterator[SlotUse]:
        for method, call in self._calls_of_context():
            if method in _READERS and call.args and (slot := self._slot(call.args[0])):
                yield SlotUse("writes" if method == "put" else "reads", slot, call.lineno)
        for node in self.own:
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                if keyword.arg == "into" and (slot := self._slot(keyword.value)):
                    yield SlotUse("writes", slot, keyword.value.lineno)

    def _params(self) -> Iterator[tuple[str, int]]:
        for method, call in self._calls_of_context():
            match call.args:
                case [ast.Constant(value=str(name)), *_] if method == "param":
                    yield name, call.lineno

    def _looks(self) -> bool:
        for node in self.own:
            match node:
                case ast.Attribute(value=ast.Name(id=self.context), attr="params"):
                    return True
        return False

    def _calls_of_context(self) -> Iterator[tuple[str, ast.Call]]:
        """Calls of methods of the context, while that is surely what its name stands for."""
        if any(
            isinstance(node, ast.Name) and node.id == self.context and not isinstance(node.ctx, ast.Load)
            for node in self.own
        ):
            return
        for node in self.own:
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=self.context), attr=method)):
                    yield method, node

    def _slot(self, node: ast.expr) -> type[Slot[Any]] | None:
        value = self._resolve(node)
        return value if isinstance(value, type) and issubclass(value, Slot) else None

    def _resolve(self, node: ast.expr) -> Any:
        """The object that a plain name, or a name in a module or class, stands for; ``None`` when that is not
        certain."""
        match node:
            case ast.Name(id=name):
                return None if name in self.locals else self.names.get(name)
            case ast.Attribute(value=inner, attr=attr):
                holder = self._resolve(inner)
                if isinstance(holder, (types.ModuleType, type)):
                    with contextlib.suppress(Exception):  # a module may make its names when asked, and fail
                        return getattr(holder, attr)
        return None

    def _returns(self, value: ast.expr | None, line: int) -> None:
        match value:
            case ast.IfExp(body=body, orelse=orelse):
                self._returns(body, line)
                self._returns(orelse, line)
            case ast.NamedExpr(value=inner):
                self._returns(inner, line)
            case ast.Call(func=func):
                made = self._resolve(func)
                if made is Continue:
                    self.continues = line
                elif made is Need:
                    self._needs(value, line)
                elif made is not Done and made is not Fail and getattr(made, "__self__", None) is not Done:
                    self.complete = False
            case _:
                self.complete = False

    def _needs(self, call: ast.Call, line: int) -> None:
        unpacked = [
            *(one for one in call.args if isinstance(one, ast.Starred)),
            *(k for k in call.keywords if not k.arg),
        ]
        if unpacked or len(call.args) > 3:  # then= may be among them
            self.complete = False
            return
        then = next((keyword.value for keyword in call.keywords if keyword.arg == "then"), None)
        if then is None or (isinstance(then, ast.Constant) and then.value is None):
            self.continues = line
            return
        continuation = self._resolve(then) if isinstance(then, ast.Name) else None
        if callable(continuation):
            self.then.append(continuation)
        else:
            self.complete = False


def _bound_in(code: types.CodeType) -> set[str]:
    """The names that a function binds, in the scopes inside it too: what they stand for is not known."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return {*code.co_varnames, *code.co_cellvars}.union(*map(_bound_in, inner))


def _same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function's own body, without those of functions and classes inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _SCOPES):
            yield child
            yield from _same_scope(child)
