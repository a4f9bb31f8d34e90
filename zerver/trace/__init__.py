"""Tracing: what happened to a request, event by event."""

from .events import Event, EventKind, Record, Trace

__all__ = ["Event", "EventKind", "Record", "Trace"]
