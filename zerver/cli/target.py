"""``MODULE:ATTR``: the app that a command is about."""

from __future__ import annotations

import importlib
import inspect
import os
from types import ModuleType
from typing import Any

from ..app import App
from ..error import ZerverError
from ..server.app_traceback import app_traceback, first_app_line
from .import_path import look_here

__all__ = ["TargetError", "load_app"]


class TargetError(ZerverError):
    """``MODULE:ATTR`` leads to no app; the message says why."""


def load_app(target: str) -> App:
    """Import ``module:attribute``. The attribute is ``app`` by default, and may have dots. The current directory is
    where modules are looked for first.

    :raises TargetError: there is no such module or attribute, the module fails when it is imported (the message ends
        with its traceback), or the attribute is not an :class:`App`.
    """
    name, _, attribute = target.partition(":")
    attribute = attribute or "app"
    if name.endswith(".py") or os.sep in name:
        dotted = name.removesuffix(".py").replace(os.sep, ".").strip(".")
        raise TargetError(f"{target}: give the module's name, not its file: {dotted}:{attribute}")
    if not name or not all(part.isidentifier() for part in (*name.split("."), *attribute.split("."))):
        raise TargetError(f"{target!r} is not MODULE:ATTR; give for example shop.main:app, or main for main:app")
    look_here()
    module = _import(name, os.getcwd())
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetError(f"{target}: {_name(found)} has no attribute {part!r}; {_candidates(module)}") from None
    if isinstance(found, App):
        return found
    raise TargetError(f"{target} is {_what(found, name, attribute)}; {_candidates(module)}")


def _import(name: str, folder: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as problem:  # a module may end the program when it is imported
        if isinstance(problem, ModuleNotFoundError) and first_app_line(problem) is None:
            raise TargetError(
                f"there is no module {problem.name!r} in {folder}, nor is one installed; run the command in the "
                "project's folder, or correct the name"
            ) from None
        raise TargetError(f"module {name!r} failed when it was imported:\n{app_traceback(problem)}") from None


def _name(holder: Any) -> str:
    return f"module {holder.__name__!r}" if isinstance(holder, ModuleType) else f"the {type(holder).__name__}"


def _candidates(module: ModuleType) -> str:
    apps = sorted(name for name, value in vars(module).items() if isinstance(value, App))
    if not apps:
        return f"there is no App in {module.__name__!r}"
    return "its apps: " + ", ".join(f"{module.__name__}:{name}" for name in apps)


def _what(found: Any, name: str, attribute: str) -> str:
    if isinstance(found, type) and issubclass(found, App):
        return "a class; make an app of it, as in app = App()"
    if _is_asgi(found):
        kind = (
            "an ASGI function" if inspect.isroutine(found) else f"an ASGI app of {type(found).__module__.split('.')[0]}"
        )
        return f'{kind}, not a zerver.App; mount it in one: app = App(); app.mount("/", {attribute})'
    return f"{'a function' if inspect.isroutine(found) else f'a {type(found).__name__}'}, not a zerver.App"


def _is_asgi(found: Any) -> bool:
    """Whether it takes three arguments, as ASGI apps do: an instance with ``__call__``, or a function."""
    if isinstance(found, type) or not callable(found):
        return False
    try:
        return len(inspect.signature(found).parameters) == 3
    except (TypeError, ValueError):  # some callables of C tell nothing
        return False
