"""The command line: ``zerver``, or ``python -m zerver``. The user's page is ``docs/reference/command-line.md``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments of the process name."""
    from .commands import cli  # typer takes its time, and importing this module is how the console script begins

    cli()
