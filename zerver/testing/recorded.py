"""Recorded requests as tests; ``zerver replay ID --save-test`` writes them."""

from __future__ import annotations

import os
from pathlib import Path

from ..app import App
from ..replay import Replay
from ..replay import replay as replay_record
from ..replay.recording_file import read_recording

__all__ = ["replay"]


def replay(app: App, path: str | os.PathLike[str]) -> Replay:
    """Run a recorded request again, without anything that the app uses: ``replay(app, "…/get_todos_404.zrec").check()``
    fails at the first difference, and says which.

    :param path: a file that ``zerver replay --save-test`` or ``zerver trace export`` wrote.
    :raises RecordError: the file is no recording, or of a later version.
    :raises AppError: the app cannot start.
    :raises OSError: the file cannot be read.
    """
    return replay_record(app, read_recording(Path(path).read_bytes()))
