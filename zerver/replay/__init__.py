"""Replay: a recorded request runs again, through the same interpreter, against what was recorded.

``replay(app, record)`` is pure but for the app's own steps: no network, no drivers, no clock, no randomness. It reports
the first divergence between the two runs. See ``docs/guides/replay.md``.
"""

from .driver import replay
from .report import Divergence, Limit, Move, Replay, ReplayError

__all__ = ["Divergence", "Limit", "Move", "Replay", "ReplayError", "replay"]
