"""What is wrong with a configuration, in words: where it came from, the path, the value, and what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping

from msgspec import inspect

from zerver.error import ZerverError

__all__ = ["ConfigError", "allowed", "choices", "dotted", "shown"]

_LONGEST = 80


class ConfigError(ZerverError):
    """The configuration is wrong: correct the file, variable or flag that each of ``problems`` names."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return "\n- ".join((f"{len(self.problems)} problems in the configuration:", *self.problems))


def dotted(path: tuple[str, ...]) -> str:
    """``server.port``; a key that is no plain name is quoted: ``effects.targets["sql:default"].timeout``."""
    parts = [f".{key}" if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) else f"[{shown(key)}]" for key in path]
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:
    """``value`` on one line, not long, and without the password of a URL."""
    if isinstance(value, Mapping):
        return "{...}"
    if isinstance(value, list | tuple):
        return "[...]"
    if isinstance(value, str):
        value = re.sub(r"//.*@", "//***@", value, flags=re.DOTALL)
    elif not (value is None or isinstance(value, int | float)):
        return f"a Python {type(value).__name__}"
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of more digits than Python agrees to print
        return "a huge number"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def choices(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown ``name``: which one may be meant, and which there are."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    question = f", did you mean {shown(close[0])}?" if close else "."
    return f"{question} Allowed: {', '.join(dotted((one,)) for one in known)}"


def allowed(kind: inspect.Type) -> str:
    """What a setting of this type may be."""
    match kind:
        case inspect.UnionType(types=kinds):
            return " or ".join(allowed(one) for one in kinds)
        case inspect.NoneType():
            return "null"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case inspect.FloatType(gt=None, ge=low, le=high):
            return f"a number from {low} to {high}"
        case inspect.FloatType(gt=low, le=high):
            return f"a number above {low}, at most {high}"
        case inspect.StrType(max_length=high):
            return f"a string of 1 to {high} characters, no control characters"
        case inspect.ListType(item_type=kind):
            return f"a list, each of it {allowed(kind)}"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case _:
            return "an object"
