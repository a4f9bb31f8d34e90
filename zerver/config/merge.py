"""File, environment and flags put over each other, each checked against the Structs. Pure: it reads nothing itself."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from zerver.config.document import decode
from zerver.config.problem import ConfigError, allowed, choices, dotted, shown
from zerver.config.rules import (
    effects_problems,
    engine_enabled,
    observability_problems,
    server_problems,
    trace_problems,
)
from zerver.config.settings import DEFAULT_DATABASES, Config

__all__ = ["load"]

_Path = tuple[str, ...]


def load(
    data: object,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    source: str = "config.json",
) -> Config:
    """Combine the decoded file ``data``, the environment and the flags. Later ones win, setting by setting.

    ``overrides`` is nested like the file, and has only the flags that were given. ``source`` names the file in
    messages.

    :raises ConfigError: an unknown key, a wrong type or an impossible value in any of the three, also where a later one
        would replace it.
    """
    merge = _Merge()
    merge.add(source, data)
    for name, layer in _variables(env or {}, merge.problems):
        merge.add(f"environment variable {name}", layer)
    merge.add("command-line flag", overrides or {})
    return merge.finish()


class _Raw(str):
    """Text from the environment: a key in any case, or a value that may be JSON."""


class _Merge:
    """The settings given so far, where each came from, and what was wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._tree: dict[str, Any] = {}
        self._sources: dict[_Path, str] = {}

    def add(self, source: str, layer: object) -> None:
        """Put ``layer`` over what there is."""
        if isinstance(layer, Mapping):
            self._table(Config, self._tree, layer, source, ())
        else:
            self.problems.append(f"{source}: is {shown(layer)}: must be an object")

    def finish(self) -> Config:
        """The result. Rules between settings are looked at only when each setting is right by itself."""
        if self.problems:
            raise ConfigError(*self.problems)
        effects = self._tree.setdefault("effects", {})
        effects["databases"] = {**DEFAULT_DATABASES, **effects.get("databases", {})}
        for target in effects.get("targets", {}).values():
            for part in target.keys() & {"breaker", "bulkhead"}:
                target[part] = {**effects.get(f"default_{part}", {}), **target[part]}
        config = msgspec.convert(self._tree, Config)
        found = (
            *server_problems(config.server),
            *effects_problems(config.effects),
            *trace_problems(config.trace),
            *observability_problems(config.observability),
        )
        wrong = [f"{self._sources[path]}: {dotted(path)}{text}" for path, text in found]
        if wrong:
            raise ConfigError(*wrong)
        return config

    def _table(self, kind: Any, into: dict[str, Any], layer: Mapping[Any, object], source: str, path: _Path) -> None:
        """``kind`` is a Struct, or a ``dict[str, ...]`` whose names are the user's."""
        fields = None if get_origin(kind) is dict else {f.name: f.type for f in msgspec.structs.fields(kind)}
        for key, value in layer.items():
            if not isinstance(key, str):
                self.problems.append(
                    f"{source}: {dotted(path) or 'the top'} has a key that is {shown(key)}, not a string"
                )
                continue
            name = key
            if isinstance(key, _Raw):
                name = next((known for known in fields or into if known.lower() == key.lower()), key.lower())
            here = (*path, name)
            if fields is None:
                self._value(get_args(kind)[1], into, name, value, source, here)
            elif name in fields:
                self._value(fields[name], into, name, value, source, here)
            else:
                self._wrong(source, here, value, f"unknown key{choices(name, fields)}")

    def _value(self, kind: Any, into: dict[str, Any], name: str, value: object, source: str, path: _Path) -> None:
        self._sources[path] = source
        table, optional = _table_in(kind)
        if table is None:
            try:
                into[name] = _leaf(kind, value)
            except ValueError:  # msgspec.ValidationError, or text that no UTF-8 can hold
                self._wrong(source, path, value, f"must be {allowed(inspect.type_info(kind))}")
            return
        if isinstance(value, _Raw):
            value = _json_or_text(value)
        if value is None and optional:
            into.pop(name, None)
        elif isinstance(value, Mapping):
            self._table(table, into.setdefault(name, {}), value, source, path)
        else:
            self._wrong(source, path, value, "must be an object" + " or null" * optional)

    def _wrong(self, source: str, path: _Path, value: object, text: str) -> None:
        self.problems.append(f"{source}: {dotted(path)} = {shown(value)}: {text}")


def _variables(env: Mapping[str, str], problems: list[str]) -> Iterator[tuple[str, object]]:
    """The name of each variable that is a setting, and its layer; a whole section first, so that its keys win."""
    debug = env.get("ZERVER_DEBUG", "").lower()
    if debug in ("0", "1", "false", "true"):
        yield "ZERVER_DEBUG", {"observability": {"debug": debug in ("1", "true")}}
    elif debug:
        problems.append(f"environment variable ZERVER_DEBUG = {shown(debug)}: must be 1 or 0")
    engine = env.get("ZERVER_ENGINE", "")
    seen: dict[str, str] = {}
    for name in sorted(env, key=lambda name: (name.count("__"), name)):
        setting = name[len("ZERVER_") :].upper()
        if not name.upper().startswith("ZERVER_") or "__" not in setting:
            continue
        spelled = name if name.isprintable() else shown(name)
        if setting in seen:
            problems.append(f"environment variable {spelled}: is the same setting as {seen[setting]}; keep one of them")
        seen[setting] = spelled
        layer: object = _Raw(env[name])
        for part in reversed(name[len("ZERVER_") :].split("__")):
            layer = {_Raw(part): layer}
        yield spelled, layer
    if engine:  # the last, as it wins over reactor.enabled
        try:
            yield (
                "ZERVER_ENGINE",
                {"reactor": {"enabled": engine_enabled(engine, "environment variable ZERVER_ENGINE")}},
            )
        except ConfigError as problem:
            problems.append(str(problem))


def _table_in(kind: Any) -> tuple[Any, bool]:
    """The Struct or mapping that ``kind`` is or may be, else None; and whether null may be given for it."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    for option in options:
        if get_origin(option) is dict or (isinstance(option, type) and issubclass(option, msgspec.Struct)):
            return option, type(None) in options
    return None, False


def _leaf(kind: Any, value: object) -> object:
    if isinstance(value, _Raw):
        try:
            return msgspec.convert(decode(value), kind)
        except (ValueError, RecursionError):  # not JSON, or not of this type: then it is the text itself
            value = str(value)
    return msgspec.convert(value, kind)


def _json_or_text(text: str) -> object:
    try:
        return decode(text)
    except (ValueError, RecursionError):
        return text
