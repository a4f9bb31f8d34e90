"""Zerver: a web request engine. Routes are pipelines of pure steps; effects are declared; the engine does the rest."""

from typing import TYPE_CHECKING, Any

from .app import App
from .context import CtxView
from .decision import Compensation, Continue, Decision, Done, Fail, Need, Step
from .effect import Effect, Retry
from .effectors.base import AsyncEffector, Effector
from .effects import actor, cache, call, compute, file, http, kv, sql, timer
from .error import (
    AppError,
    DefinitionError,
    EffectFailed,
    Error,
    ErrorKind,
    SlotMissing,
    UndeclaredSlot,
    ZerverError,
)
from .need import need
from .request import Request
from .response import Response
from .slot import Slot
from .step import step

if TYPE_CHECKING:
    from .server.boot import Server

__all__ = [
    "App",
    "AppError",
    "AsyncEffector",
    "Compensation",
    "Continue",
    "CtxView",
    "Decision",
    "DefinitionError",
    "Done",
    "Effect",
    "EffectFailed",
    "Effector",
    "Error",
    "ErrorKind",
    "Fail",
    "Need",
    "Request",
    "Response",
    "Retry",
    "Server",
    "Slot",
    "SlotMissing",
    "Step",
    "UndeclaredSlot",
    "ZerverError",
    "actor",
    "cache",
    "call",
    "compute",
    "file",
    "http",
    "kv",
    "need",
    "sql",
    "step",
    "timer",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Server":  # its imports (uvicorn) are only for those who serve
        from .server.boot import Server

        return Server
    raise AttributeError(f"module 'zerver' has no attribute {name!r}")
