"""Tracing: what happened to a request, event by event."""

from .events import Event, EventKind, Events, Record, Trace

__all__ = ["Event", "EventKind", "Events", "Record", "Trace"]
