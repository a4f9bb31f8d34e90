"""JSON as configuration is written in it: RFC 8259, strictly, with the place of an error."""

from __future__ import annotations

import json

from zerver.config.problem import ConfigError, shown

__all__ = ["decode", "parse"]


def parse(text: bytes, source: str = "config.json") -> object:
    """The JSON value in ``text`` (UTF-8).

    :raises ConfigError: it is not JSON, or repeats a key in an object. The message has ``source``, and line and column
        (from 1; for a byte that is not UTF-8 the column counts bytes).
    """
    try:
        return decode(text.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        # Positions are in what the codec saw, which is without a byte order mark.
        seen = text.removeprefix(b"\xef\xbb\xbf")
        line = seen.count(b"\n", 0, error.start) + 1
        column = error.start - seen.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{source}:{line}:{column}: not valid JSON: not UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{source}: not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{source}: not valid JSON: {error}") from None


def decode(text: str) -> object:
    """The JSON value in ``text``.

    :raises ValueError: it is not JSON, or repeats a key in an object.
    :raises RecursionError: it is nested about a thousand levels deep.
    """
    return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} is given twice in one object")
        found[key] = value
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
