"""Where modules are looked for."""

from __future__ import annotations

import os
import sys

__all__ = ["look_here"]


def look_here() -> None:
    """The current directory is where modules are looked for first."""
    folder = os.getcwd()
    if sys.path[:1] not in ([folder], [""]):
        sys.path.insert(0, folder)
