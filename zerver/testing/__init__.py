"""Tools for the tests of apps: no server, no sockets, no sleeps."""

from .recorded import replay

__all__ = ["replay"]
