"""Plain data decoded to types: JSON bodies, texts of queries, paths, headers and forms, results of effects.

Types are what msgspec takes (builtins, dataclasses, Structs, TypedDicts, enums, ``Literal``, ``Annotated`` with
``msgspec.Meta``, ...) and pydantic models, at any depth. pydantic is never imported: a class with ``model_validate``
is asked. Data that does not fit is :class:`Undecodable`; a type that nothing can decode is the app's mistake, a
:class:`DefinitionError`.
"""

from __future__ import annotations

import builtins
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, TypeVar, overload

import msgspec
from msgspec import inspect

from .error import DefinitionError
from .lax import Lax, options

__all__ = ["Undecodable", "collects", "convert", "decode_json", "quoted"]

T = TypeVar("T")

_SHOWN: Final = 80  # characters of input in a message
_CHOICES: Final = 20  # values of an enum in a message
_PATH: Final = 120  # characters of a path: a recursive type makes it as deep as the client likes
_ERRORS: Final = 10_000  # pydantic builds all of its errors at once; past so many it takes too long

_PLAIN: Final = frozenset({str, int, float, bool, type(None), list, tuple, dict, bytes})

_EXPECTED: Final = {
    "Invalid UUID": "Expected a UUID",
    "Invalid RFC3339 encoded datetime": "Expected a date-time such as 2024-05-17T08:30:00Z (RFC 3339)",
    "Invalid RFC3339 encoded date": "Expected a date such as 2024-05-17 (RFC 3339)",
    "Invalid RFC3339 encoded time": "Expected a time such as 08:30:00 (RFC 3339)",
    "Invalid ISO8601 duration": "Expected a duration such as PT1H30M (ISO 8601)",
    "Invalid decimal string": "Expected a decimal number",
    "Invalid base64 encoded string": "Expected base64",
    "Number out of range": "Expected a number that fits a 64-bit float",
    "Integer value out of range": "Expected an integer with fewer digits",
}


class Undecodable(Exception):
    """Data that is not what the type asks for. Raised by this module, caught by whoever knows whose data it is.

    ``what`` is a sentence that says what was expected, with at most 80 characters of the data. ``path`` is where:
    ``$.items[2].title``; ``[...]`` is some value of a dict. ``syntax`` tells data that cannot be read at all from
    data of the wrong shape.
    """

    def __init__(self, what: str, path: str = "$", syntax: bool = False) -> None:
        super().__init__(what, path, syntax)
        self.what = what
        self.path = _printable(path, _PATH)
        self.syntax = syntax

    def __str__(self) -> str:
        return f"{self.what} (at {self.path})"


@overload
def decode_json(data: bytes) -> Any: ...
@overload
def decode_json(data: bytes, type: type[T]) -> T: ...
@overload
def decode_json(data: bytes, type: Any) -> Any: ...
def decode_json(data: bytes, type: Any = Any) -> Any:
    """JSON (RFC 8259) in UTF-8 as a value of ``type``. Nothing is coerced; pydantic models validate in JSON mode.

    :raises Undecodable: broken syntax (also what is no UTF-8, a lone surrogate, nesting past the interpreter's
        recursion limit), or the wrong shape, which includes a ``ValueError`` or ``TypeError`` of a ``__post_init__``
        or validator. What is both is broken syntax.
    :raises DefinitionError: a type that nothing can decode.
    """
    plan = _plan_of(type)
    if plan.foreign is not None:
        raise _undecodable_type(plan.foreign)
    try:
        if not data.isascii():
            data.decode()  # msgspec does not look into what it skips
        return plan.decoder.decode(data)
    except msgspec.ValidationError as problem:
        if type is not Any:
            _check_syntax(data)
        raise _wrong_shape(problem, plan.node) from None
    except msgspec.DecodeError as problem:
        what = str(problem)
        if "truncated" in what:
            what = f"JSON ends too early (byte {len(data)})"
        raise Undecodable(what, syntax=True) from None
    except UnicodeDecodeError as problem:
        raise Undecodable(f"JSON is not in UTF-8 (byte {problem.start})", syntax=True) from None
    except RecursionError:
        raise Undecodable("JSON is nested too deeply", syntax=True) from None
    except TypeError as problem:
        _check_syntax(data)
        raise _unhashable(problem) from None


def _check_syntax(data: bytes) -> None:
    try:
        decode_json(data)
    except Undecodable as problem:
        if problem.syntax:
            raise


@overload
def convert(value: object, type: type[T], lax: bool = False) -> T: ...
@overload
def convert(value: object, type: Any, lax: bool = False) -> Any: ...
def convert(value: Any, type: Any, lax: bool = False) -> Any:
    """Plain Python data (builtins, datetimes, UUIDs, Decimals) as a value of ``type``. What already is one is passed.

    With ``lax``, at any depth, a text is also read as a number (``-?[0-9]+``; fractions and exponents for floats;
    never ``nan`` or ``inf``) or a bool (``true false 1 0`` in upper or lower case), and the integers 0 and 1 as
    bools, where the type does not take the text or integer as it is. Dates, times, UUIDs, Decimals and enums of texts
    are read from text also without it.

    :raises Undecodable: the wrong shape.
    :raises DefinitionError: a type that nothing can decode, or make from this value.
    """
    if type is Any or (type is str and value.__class__ is str):
        return value
    plan = _plan_of(type)
    try:
        return msgspec.convert(plan.lax.read(value) if lax else value, type, dec_hook=_from_python)
    except msgspec.ValidationError as problem:
        wrong = _wrong_shape(problem, plan.node)
        text = _text_at(value, wrong.path)
        if lax and text is not None and problem.__cause__ is None:
            wrong = Undecodable(f"{wrong.what.partition(', got ')[0]}, got {quoted(text)}", wrong.path)
        raise wrong from None
    except RecursionError:
        raise Undecodable("Nested too deeply") from None
    except TypeError as problem:
        raise _unhashable(problem) from None


def collects(type: Any) -> bool:
    """Whether the type is a list, tuple or set (or one of those or None): what takes a repeated parameter.

    :raises DefinitionError: a type that nothing can decode.
    """
    return type is not str and _plan_of(type).lax.many


def quoted(text: str) -> str:
    """A text as it may stand in a message: in quotes, control characters escaped, cut after 80 characters."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


# How a type is decoded: worked out once per type.


class _Plan:
    __slots__ = ("decoder", "foreign", "lax", "node")

    def __init__(self, type: Any) -> None:
        try:
            self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(type, dec_hook=_from_json)
            self.node = inspect.type_info(type)
        except (TypeError, NameError, AttributeError) as problem:
            raise DefinitionError(f"type {_name(type)} cannot be decoded: {problem}") from None
        self.foreign: Any = None
        for node in _walk(self.node):
            if isinstance(node, inspect.CustomType) and not _decodable(node.cls):
                self.foreign = node.cls
            elif isinstance(node, inspect.DataclassType) and hasattr(node.cls, "__pydantic_validator__"):
                raise DefinitionError(
                    f"type {_name(node.cls)} is a pydantic dataclass, whose validators would not run; "
                    "make it a pydantic BaseModel or a plain dataclass"
                )
        self.lax = Lax.of(self.node)


@lru_cache(maxsize=1024)
def _plan(type: Any) -> _Plan:
    return _Plan(type)


def _plan_of(type: Any) -> _Plan:
    try:
        return _plan(type)
    except TypeError:  # unhashable metadata in Annotated
        return _Plan(type)


def _walk(root: inspect.Type) -> Iterator[inspect.Type]:
    """Every type in a type, each once: recursive types are cycles."""
    seen: set[int] = set()
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, inspect.Type):
            yield node
        for name in node.__struct_fields__:
            below = getattr(node, name)
            for child in below if isinstance(below, tuple) else (below,):
                stack += [child] if isinstance(child, (inspect.Type, inspect.Field)) else []


def _decodable(cls: Any) -> bool:
    return cls is object or hasattr(cls, "model_validate")


def _undecodable_type(cls: Any) -> DefinitionError:
    return DefinitionError(
        f"type {_name(cls)} cannot be decoded; use builtins, dataclasses, TypedDicts, msgspec Structs, enums, "
        "datetimes, UUIDs, Decimals or pydantic models"
    )


def _name(type: Any) -> str:
    return f"{type.__module__}.{type.__qualname__}" if isinstance(type, builtins.type) else str(type)


# Classes that msgspec does not know.


class _Invalid(ValueError):
    """A pydantic model's first error on its way through msgspec, which adds the path to the model."""

    def __init__(self, what: str, loc: Iterable[int | str]) -> None:
        super().__init__(what)
        self.path = "".join(map(_step, loc))


def _step(key: int | str) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if key.isascii() and key.isidentifier() else "[...]"


def _from_json(kind: Any, value: Any) -> Any:
    return _custom(kind, value, lambda: kind.model_validate_json(json.dumps(value)))


def _from_python(kind: Any, value: Any) -> Any:
    return _custom(kind, value, lambda: kind.model_validate(value))


def _is(value: Any, cls: Any) -> bool:
    try:  # plain data is no Iterable[int] just because it is some Iterable
        return value.__class__ not in _PLAIN and isinstance(value, cls)
    except TypeError:  # a protocol that cannot be asked
        return False


def _custom(kind: Any, value: Any, validate: Callable[[], Any]) -> Any:
    cls = typing.get_origin(kind) or kind
    if cls is object or _is(value, cls):
        return value
    if not _decodable(cls):
        raise _undecodable_type(kind)
    try:
        return validate()
    except ValueError as problem:
        errors = getattr(problem, "errors", None)
        count = getattr(problem, "error_count", None)
        if errors is None or count is None:
            raise
        if count() > _ERRORS:
            raise _Invalid(f"{count()} values are wrong", ()) from None
        first = errors(include_url=False, include_context=False, include_input=False)[0]
        raise _Invalid(first["msg"], first["loc"]) from None


# Messages.


def _wrong_shape(problem: msgspec.ValidationError, node: inspect.Type) -> Undecodable:
    what, path, key = _located(str(problem))
    cause = problem.__cause__
    if isinstance(cause, _Invalid):
        return Undecodable(_printable(what), path + cause.path)
    if cause is not None:  # of a __post_init__: may hold any input
        return Undecodable(_printable(what), path)
    if what.startswith(("Invalid enum value ", "Invalid value ")):
        choices = _choices(node, path, key)
        what = f"Expected one of {choices}" if choices else "Expected one of the allowed values"
    elif what.startswith("Object contains unknown field `"):
        what = f"Unknown field {quoted(what.partition('`')[2][:-1])}"
    elif what.startswith("Object missing required field `"):
        path = f"{path}.{what.partition('`')[2][:-1]}"
    else:
        what = _EXPECTED.get(what, what)
    return Undecodable(f"{what}, in a key" if key else what, path)


def _located(message: str) -> tuple[str, str, bool]:
    """msgspec's message, path, and whether it is about a key of the dict there."""
    what, found, place = message.rpartition(" - at `")
    if not found or not place.endswith("`"):
        return message, "$", False
    place = place[:-1]
    if place.startswith("key` in `"):
        return what, place[9:], True
    return (what, place, False) if place.startswith("$") else (message, "$", False)


def _choices(node: inspect.Type, path: str, key: bool) -> str:
    """The values that the enum, Literal or tag at a path takes; empty where it cannot be found."""
    nodes, tags = list(options(node)), list[Any]()
    steps = re.findall(r"\.([^.\[]+)|\[(?:\.\.\.|[0-9]+)\]", path)
    for name in steps:
        below: list[Any] = []
        for option in nodes:
            if name:
                below += [field.type for field in getattr(option, "fields", ()) if field.encode_name == name]
                tags += [option.tag] if isinstance(option, inspect.StructType) and option.tag_field == name else []
            else:
                below += [getattr(option, "item_type", None), getattr(option, "value_type", None)]
                below += getattr(option, "item_types", ())
        nodes = [option for child in below if child is not None for option in options(child)]
    if key:
        nodes = [option for node in nodes if isinstance(node, inspect.DictType) for option in options(node.key_type)]
    values = [] if nodes else tags
    for option in nodes:
        if isinstance(option, inspect.EnumType):
            values += [member.value for member in option.cls]
        elif isinstance(option, inspect.LiteralType):
            values += option.values
    shown = [repr(value) for value in values[:_CHOICES]]
    return ", ".join([*shown, "…"] if len(values) > _CHOICES else shown)


def _unhashable(problem: TypeError) -> Exception:
    """What msgspec raises bare: an item of a set that cannot be in one."""
    if "unhashable" in str(problem):
        return Undecodable(f"Expected items that can be in a set ({_printable(str(problem))})")
    return problem


def _printable(text: str, limit: int = _SHOWN) -> str:
    """A text that may hold input."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def _text_at(value: Any, path: str) -> str | None:
    """The client's text that a message is about: the value itself, or an item of a list."""
    if isinstance(value, list) and (item := re.fullmatch(r"\$\[([0-9]+)\]", path)):
        value = value[int(item[1])]
    return value if isinstance(value, str) else None
