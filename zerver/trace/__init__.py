"""Tracing: what happened to a request, event by event."""

from .events import EventKind, Trace

__all__ = ["EventKind", "Trace"]
