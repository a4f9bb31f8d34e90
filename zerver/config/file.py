"""Finds and reads the configuration file: the one part of the configuration that does I/O."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from zerver.config.document import parse
from zerver.config.merge import load
from zerver.config.problem import ConfigError
from zerver.config.settings import Config

__all__ = ["load_config"]


def load_config(
    path: str | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Read the file and combine it with the environment (default ``os.environ``) and the flags, as ``load`` does.

    The file is ``path``, else what ``ZERVER_CONFIG`` names, else ``config.json`` in the current directory. Only the
    last may be missing.

    :raises ConfigError: the file cannot be read or is not JSON, or a setting is wrong.
    """
    env = os.environ if env is None else env
    named = path or env.get("ZERVER_CONFIG")
    source = named or "config.json"
    try:
        text = Path(source).read_bytes()
    except FileNotFoundError:
        if not named:
            return load({}, env, overrides)
        raise ConfigError(f"{source}: no such configuration file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"{source}: the configuration file cannot be read: {error}") from None
    return load(parse(text, source), env, overrides, source=source)
