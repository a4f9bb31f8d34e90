"""Standard output, of which nobody may be the reader any more (`demo | head`)."""

from __future__ import annotations

import os
import sys

__all__ = ["write"]


def write(text: str) -> None:
    """Write at once; into nothing, from when the reader is gone."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())  # also for what is still buffered
        os.close(nothing)
