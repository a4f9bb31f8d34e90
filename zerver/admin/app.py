"""The app of the admin address."""

from __future__ import annotations

from collections.abc import Iterable

from ..app import App
from ..console.routes import console_routes
from .guard import guard
from .metrics_page import add_metrics
from .sources import AdminSources

__all__ = ["admin_app"]


def admin_app(sources: AdminSources, names: Iterable[str] = ()) -> App:
    """Serves ``/metrics`` and the console. ``names``: hosts that it is known by, beside ``localhost`` and loopback
    addresses; requests to others are refused."""
    app = App()
    app.use(guard(names))
    add_metrics(app, sources)
    console_routes(app, sources)
    return app
