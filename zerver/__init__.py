"""Zerver: a web request engine. Routes are pipelines of pure steps; effects are declared; the engine does the rest."""

from .app import App
from .context import CtxView
from .decision import Compensation, Continue, Decision, Done, Fail, Need, Step
from .effect import Effect, Retry
from .effects import call, http, kv, sql, timer
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

__all__ = [
    "App",
    "AppError",
    "Compensation",
    "Continue",
    "CtxView",
    "Decision",
    "DefinitionError",
    "Done",
    "Effect",
    "EffectFailed",
    "Error",
    "ErrorKind",
    "Fail",
    "Need",
    "Request",
    "Response",
    "Retry",
    "Slot",
    "SlotMissing",
    "Step",
    "UndeclaredSlot",
    "ZerverError",
    "call",
    "http",
    "kv",
    "need",
    "sql",
    "step",
    "timer",
]

__version__ = "0.1.0"
