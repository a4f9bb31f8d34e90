"""The site: a frozen app, as servers see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import msgspec

from zerver_runtime.actor import Actor

from .effectors.base import Effector
from .error import Error
from .pipeline import Pipeline
from .request import Request
from .response import Response
from .routing import Router

__all__ = ["AsgiApp", "HostedActor", "Mount", "OnError", "Site"]

AsgiApp: TypeAlias = Callable[[Any, Any, Any], Any]
OnError: TypeAlias = Callable[[Error, Request], Response]


class Mount(msgspec.Struct, frozen=True):
    """An ASGI app below a path. ``path`` has no slash at its end; empty is the root."""

    path: str
    app: AsgiApp


class HostedActor(msgspec.Struct, frozen=True):
    """An actor of the app: its class, and what that is made with."""

    kind: type[Actor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Site(msgspec.Struct, frozen=True):
    """Everything that a server needs of an app."""

    router: Router[Pipeline]
    mounts: tuple[Mount, ...]
    """The longest path first."""
    effectors: Mapping[str, Effector]
    """The app's own, by family."""
    lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None
    on_error: OnError | None
    warnings: tuple[str, ...]
    """What the checks at the start found that keeps nothing from starting."""
    actors: Mapping[str, HostedActor] = {}
    """By name."""

    @property
    def labels(self) -> list[str]:
        """How messages and metrics name its routes."""
        return [pipeline.label for _, _, pipeline in self.router.routes()]

    def mount_of(self, path: str) -> Mount | None:
        """The mount that a path is below, if any."""
        for mount in self.mounts:
            if path == mount.path or path.startswith(mount.path + "/"):
                return mount
        return None
