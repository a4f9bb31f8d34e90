"""Path templates: ``/todos/{id:int}``, read once when a route is added.

The syntax is Starlette's. A parameter is ``{name}`` or ``{name:convertor}``; convertors are ``str`` (the
default), ``path``, ``int``, ``float``, ``uuid``, and what ``starlette.convertors.register_url_convertor``
added before the template was read. A segment is what stands between two slashes, and may mix literals and
parameters (``/{name}.json``, ``/{a}-{b}``).

What differs from Starlette, where a template is one regular expression:

- A parameter sees one segment. Only ``path`` (and convertors that subclass ``PathConvertor``) sees slashes,
  whatever the convertor's regex allows.
- A path matches as a whole: a trailing newline is not ignored, and ``path`` takes newlines too.
- Braces that are no parameter are an error, not literals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

__all__ = ["Kind", "Mixed", "Parameter", "Segment", "Template", "TemplateError", "parse_template"]

_PARAMETER_OR_BRACE = re.compile(r"\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class TemplateError(ValueError):
    """A template that cannot be read. The message names it, the position (from 0), and what to do."""

    def __init__(self, template: str, position: int, problem: str) -> None:
        super().__init__(f"template {template!r}, position {position}: {problem}")


class Kind(IntEnum):
    """What a segment is. The lower kind is the more specific one and is tried first."""

    LITERAL = 0
    MIXED = 1
    """Literals and parameters, or several parameters."""
    TYPED = 2
    """One parameter of any convertor but ``str`` and ``path``."""
    STR = 3
    MIXED_PATH = 4
    """As MIXED, and one of the parameters is a ``path``."""
    PATH = 5
    END = 6
    """Closes the kinds of a template with a ``path``: of two that agree so far, the one that says more about
    the tail (``/{p:path}/raw`` beside ``/{p:path}``) is the more specific."""


class Parameter:
    """One ``{name:convertor}``.

    ``fullmatch`` says whether the convertor takes a text. ``convert`` makes the value of such a text; its
    ValueError means "does not match after all" (an int of more digits than Python reads).
    """

    __slots__ = ("convert", "fullmatch", "kind", "loose", "name", "regex")

    def __init__(self, name: str, convertor_name: str) -> None:
        """Raises KeyError if no such convertor is registered, re.error if its regex does not compile."""
        # A Node that serves an app imports this module, but nothing that the app is made of.
        from starlette.convertors import CONVERTOR_TYPES, PathConvertor, StringConvertor

        convertor = CONVERTOR_TYPES[convertor_name]
        if isinstance(convertor, PathConvertor):
            self.kind = Kind.PATH
        elif type(convertor) is StringConvertor:
            self.kind = Kind.STR
        else:
            self.kind = Kind.TYPED
        self.name = name
        self.regex = convertor.regex
        # A loose parameter takes any text, so that only what stands beside it says where it ends.
        self.loose = self.kind is Kind.PATH or convertor.regex == StringConvertor.regex
        # A path is a path with a newline in it, too: DOTALL.
        pattern = re.compile(convertor.regex, re.DOTALL if self.kind is Kind.PATH else 0)
        self.fullmatch: Callable[[str], object | None] = pattern.fullmatch
        self.convert: Callable[[str], Any] = convertor.convert


class Mixed:
    """A segment of several parts: it cuts a text into one text per parameter.

    Where there is a choice, parameters further to the left take more (as in a regular expression):
    ``{a}-{b}`` cuts ``x-y-z`` into ``x-y`` and ``z``.

    One regular expression for the segment would try every combination of places for its literals: with three
    ``str`` parameters cubic work, minutes for a path of 8 KiB. But a loose parameter takes whatever it is
    given, so that the *run* of literals and typed parameters to its right may be placed for good, as far to the
    right as it fits: if any placement leads to a match, that one does, and it is the one that the regular
    expression would have found. Runs are therefore placed from right to left, each once, by one scan.

    A scan is linear if a run starts with a literal that the typed parameter behind it cannot take. Typed
    parameters side by side (``{a:int}{b:int}``), or after a loose one without a literal between, can cost a
    power of the segment's length: as many factors as there are such parameters, never exponential.
    """

    __slots__ = ("_runs", "kind", "parameters")

    def __init__(self, parts: Sequence[str | Parameter]) -> None:
        """Raises re.error if the convertors' expressions do not compile together."""
        self.parameters = tuple(part for part in parts if isinstance(part, Parameter))
        spans = any(parameter.kind is Kind.PATH for parameter in self.parameters)
        self.kind = Kind.MIXED_PATH if spans else Kind.MIXED

        sources = [""]
        typed: list[list[str]] = [[]]
        loose: list[Parameter | None] = []
        for part in parts:
            if isinstance(part, str):
                sources[-1] += re.escape(part)
            elif part.loose:
                loose.append(part)
                sources.append("")
                typed.append([])
            else:
                sources[-1] += f"(?P<{part.name}>{part.regex})"
                typed[-1].append(part.name)
        loose.append(None)

        runs: list[tuple[Callable[[str, int, int], re.Match[str] | None], list[str], Parameter | None]] = []
        for index, source in enumerate(sources):
            # The first run stands at the start of the text; the greedy dots put any other to the right.
            pattern = re.compile(f"({source})" if index == 0 else f"(?s:.*)({source})")
            runs.append((pattern.fullmatch if loose[index] is None else pattern.match, typed[index], loose[index]))
        # From right to left: how to find the run, its parameters, and the loose parameter to its right.
        self._runs = tuple(reversed(runs))

    def split(self, text: str) -> list[str] | None:
        """The text of each parameter in order, or None if the literals do not fit.

        Loose parameters are not checked: their text may be one that the convertor refuses (an empty one). Then
        no other way to cut `text` would do either. `text` holds slashes only for a segment with a ``path``.
        """
        texts: dict[str, str] = {}
        # What is right of a path stands in the last of the segments that it spans, what is left in the first.
        low, high = text.rfind("/") + 1, len(text)
        start = high
        for find, names, after in self._runs:
            if after is not None:
                high = start - 1  # leaves it one character at least
                if after.kind is Kind.PATH:
                    slash = text.find("/")
                    low, high = 0, start if slash < 0 else min(start, slash)
            found = find(text, low, high)
            if found is None:
                return None
            if after is not None:
                texts[after.name] = text[found.end(1) : start]
            for name in names:
                texts[name] = found[name]
            start = found.start(1)
        return [texts[parameter.name] for parameter in self.parameters]


Segment: TypeAlias = str | Parameter | Mixed
"""A literal is its text."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was read. Made by `parse_template`."""

    text: str
    shape: str
    """The text without parameter names. Two templates of one shape match the same paths."""
    segments: tuple[Segment, ...]
    """As ``text.split("/")`` would cut it: the first is the empty literal before the first slash."""
    span: int | None
    """The index of the segment with the ``path`` parameter."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind of each segment. Of two templates that match, the one whose kinds sort first goes first."""
        kinds = tuple(Kind.LITERAL if isinstance(segment, str) else segment.kind for segment in self.segments)
        return kinds if self.span is None else (*kinds, Kind.END)

    @property
    def literals(self) -> dict[int, str]:
        """Literal segments by index. Behind a ``path`` the index counts from the end (-1 is the last)."""
        return {
            index if self.span is None or index < self.span else index - len(self.segments): segment
            for index, segment in enumerate(self.segments)
            if isinstance(segment, str)
        }

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in order."""
        found: list[Parameter] = []
        for segment in self.segments:
            if isinstance(segment, Parameter):
                found.append(segment)
            elif isinstance(segment, Mixed):
                found += segment.parameters
        return tuple(found)

    def texts(self, segments: list[str]) -> list[str] | None:
        """The text of each parameter in order, or None if a mixed segment does not fit.

        `segments` is the path split at its slashes: as many as the template has, or more if it has a ``path``.
        Literal segments and what the convertors take are the caller's to check.
        """
        if self.span is not None:
            stop = len(segments) - (len(self.segments) - self.span - 1)
            segments = [*segments[: self.span], "/".join(segments[self.span : stop]), *segments[stop:]]
        texts: list[str] = []
        for segment, text in zip(self.segments, segments, strict=True):
            if isinstance(segment, Parameter):
                texts.append(text)
            elif isinstance(segment, Mixed):
                cut = segment.split(text)
                if cut is None:
                    return None
                texts += cut
        return texts


def parse_template(text: str) -> Template:
    """Read a template.

    Raises TemplateError if it does not start with ``/``; if braces are unbalanced; if a parameter has no name,
    a bad one, one that the template uses already, or a convertor that is unknown or whose regex is broken; if
    there is more than one ``path`` (each way to share out the slashes would have to be tried).
    """
    if not text.startswith("/"):
        raise TemplateError(text, 0, f"a template starts with '/': write {'/' + text!r}")
    rows: list[list[str | Parameter]] = [[]]
    seen: dict[str, Parameter] = {}
    shape = ""
    end = 0

    def add_literal(literal: str) -> None:
        first, *rest = literal.split("/")
        rows[-1] += [first] if first else []
        rows.extend([segment] if segment else [] for segment in rest)

    for brace in _PARAMETER_OR_BRACE.finditer(text):
        if brace[1] is None:
            missing = "}" if brace[0] == "{" else "{"
            raise TemplateError(
                text, brace.start(), f"{brace[0]!r} without its {missing!r}: write a parameter as {{name:convertor}}"
            )
        parameter, convertor_name = _parse_parameter(text, brace.start() + 1, brace[1], seen)
        seen[parameter.name] = parameter
        literal = text[end : brace.start()]
        add_literal(literal)
        rows[-1].append(parameter)
        shape += f"{literal}{{:{convertor_name}}}"
        end = brace.end()
    add_literal(text[end:])

    segments: list[Segment] = []
    for row in rows:
        if all(isinstance(part, str) for part in row):
            segments.append("".join(str(part) for part in row))
        elif len(row) == 1:
            segments.append(row[0])
        else:
            try:
                segments.append(Mixed(row))
            except re.error as error:
                raise TemplateError(
                    text, 0, f"the convertors' regexes do not compile side by side ({error}): change one of them"
                ) from error
    span = next((i for i, s in enumerate(segments) if not isinstance(s, str) and s.kind >= Kind.MIXED_PATH), None)
    return Template(text, shape + text[end:], tuple(segments), span)


def _parse_parameter(text: str, position: int, inside: str, seen: dict[str, Parameter]) -> tuple[Parameter, str]:
    """What stands between two braces from `position` on, and its convertor's name."""
    name, colon, convertor_name = inside.partition(":")
    convertor_name = convertor_name if colon else "str"
    if not name:
        raise TemplateError(text, position, "a parameter without a name: write {name} or {name:convertor}")
    if _NAME.fullmatch(name) is None:
        raise TemplateError(
            text, position, f"{name!r} is no parameter name: use ASCII letters, digits and '_', no digit first"
        )
    if name in seen:
        raise TemplateError(text, position, f"parameter {name!r} is there already: give one another name")
    position += len(name) + len(colon)
    try:
        parameter = Parameter(name, convertor_name)
    except KeyError:
        from starlette.convertors import CONVERTOR_TYPES

        known = ", ".join(sorted(CONVERTOR_TYPES))
        raise TemplateError(
            text,
            position,
            f"unknown convertor {convertor_name!r}: use one of {known}, or register it first with"
            " starlette.convertors.register_url_convertor",
        ) from None
    except re.error as error:
        raise TemplateError(
            text, position, f"the regex of convertor {convertor_name!r} is broken ({error}): correct it"
        ) from error
    if parameter.kind is Kind.PATH and any(other.kind is Kind.PATH for other in seen.values()):
        raise TemplateError(
            text, position, "a second 'path' parameter: a template has one at most, make this one a 'str'"
        )
    return parameter, convertor_name
