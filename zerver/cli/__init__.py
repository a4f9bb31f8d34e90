"""The command line: ``zerver``, or ``python -m zerver``. The user's page is ``docs/reference/command-line.md``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments of the process name."""
    from .serve import plain_serve, serve  # importing this module is how the console script begins

    given = plain_serve(sys.argv[1:])
    if given is not None:
        serve(**given)
        return
    from .commands import cli

    cli()
