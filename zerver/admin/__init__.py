"""The admin address: an app of its own, on an address of its own, for those who run an app."""

from .app import admin_app
from .sources import AdminSources

__all__ = ["AdminSources", "admin_app"]
