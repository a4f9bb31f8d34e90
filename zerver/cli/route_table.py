"""What an app serves, as text: one entry for each route and mount."""

from __future__ import annotations

import inspect
import textwrap

from ..site import AsgiApp, Site

__all__ = ["route_table"]

_WIDEST = 34  # of the column of paths; a longer path has its steps on the next line


def route_table(site: Site, width: int = 80) -> list[str]:
    """Lines of at most ``width`` characters, unless a single name is longer."""
    rows = [
        (method, path, " -> ".join(step.name for step in pipeline.steps))
        for method, path, pipeline in site.router.routes()
    ]
    rows += [("MOUNT", mount.path or "/", _label(mount.app)) for mount in site.mounts]
    if not rows:
        return ["no routes"]
    heads = ("METHOD", "PATH", "STEPS")
    first = max(len(method) for method, _, _ in [heads, *rows]) + 2
    second = max([len(path) for _, path, _ in [heads, *rows] if len(path) <= _WIDEST]) + 2
    lines: list[str] = []
    for method, path, steps in [heads, *rows]:
        head = f"{method:{first}}{path:{second}}"
        indent = " " * (first + second)
        if len(path) > second - 2:
            lines.append(head)
            head = indent
        lines += textwrap.wrap(
            steps, width, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
    return lines


def _label(app: AsgiApp) -> str:
    if inspect.isroutine(app):
        return f"{app.__module__}.{app.__qualname__}"
    return f"{type(app).__module__}.{type(app).__qualname__}"
