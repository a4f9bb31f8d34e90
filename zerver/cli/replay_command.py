"""``zerver replay``: run a kept request again, and make a test of it."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from pathlib import Path

from ..app import App
from ..error import AppError
from ..replay import Replay, replay
from ..replay.recording_file import SUFFIX, read_recording, write_recording
from ..trace.record import TraceRecord
from ..trace.store import TraceReader
from .import_path import look_here
from .serve import load

__all__ = ["EXITS", "find_app", "find_record", "run", "save_test"]

EXITS = {"identical": 0, "diverged": 1, "partial": 2}
"""Exit codes. 2 is also for what cannot be replayed at all."""

_LONGEST = 100  # characters of the name of a test

_TEST = '''"""A recorded request, replayed: what the app did with it, it does still."""

from pathlib import Path

from {module} import {name}
from zerver.testing import replay

RECORDING = Path(__file__).parent / "recordings" / "{recording}"


def test_{slug}() -> None:
    replay({app}, RECORDING).check({until})
'''


def find_record(path: str, id: str) -> TraceRecord:
    """The record of a request by its id, or its end, or ``last``, in the store at ``path``; or in the file ``id``.

    :raises AppError: there is none, or its file cannot be read.
    :raises StoreError, RecordError: it cannot be read.
    """
    file = Path(id)
    try:
        if file.suffix and file.is_file():
            return read_recording(file.read_bytes())
    except OSError as problem:
        raise AppError(f"the recording cannot be read: {problem}") from None
    with TraceReader(path) as reader:
        newest = reader.summaries(limit=1) if id == "last" else ()
        found = reader.get(newest[0].id if newest else id)
    if found is None:
        raise AppError(f"no trace of request {id} was kept; see 'zerver trace list'")
    return found


def find_app(record: TraceRecord) -> str:
    """``MODULE:ATTR`` of the app, where one of the modules of its steps has just one.

    :raises AppError: none has.
    """
    look_here()
    for step in record.steps:
        module = _module_of(step.where.rpartition(":")[0])
        if module is None:
            continue
        with contextlib.suppress(Exception, SystemExit):  # it may do anything when it is imported
            importlib.import_module(module)
        names = vars(sys.modules[module]) if module in sys.modules else {}
        apps = [name for name, value in names.items() if isinstance(value, App)]
        if len(apps) == 1:
            return f"{module}:{apps[0]}"
    raise AppError("which app is it? Give --app MODULE:ATTR, as for 'zerver serve'")


def _module_of(file: str) -> str | None:
    """Of a file that is here, or was in a folder that is laid out as this one."""
    parts = Path(file).with_suffix("").parts
    for start in range(1, len(parts)):
        here = Path(*parts[start:]).with_suffix(".py")
        # It is imported: no other than what can have steps. A recording may come from anywhere, and names it.
        if all(part.isidentifier() for part in parts[start:]) and here.is_file() and b"zerver" in here.read_bytes():
            return ".".join(parts[start:])
    return None


def run(target: str, record: TraceRecord) -> Replay:
    """Replay it with this app."""
    return replay(load(target), record)


def save_test(target: str, record: TraceRecord, report: Replay, path: Path | None, *, force: bool) -> tuple[Path, Path]:
    """Write a test of a replay that did not diverge, and its recording in ``recordings/`` beside it.

    :param path: the test's file; ``None``: ``test_replay_….py``, in ``tests/`` where there is one.
    :param force: whether files that are there are replaced.
    :raises AppError: a file is there, or cannot be written.
    """
    slug = _slug(record)
    if path is None or path.is_dir():
        path = (path or Path("tests" if Path("tests").is_dir() else ".")) / f"test_replay_{slug}.py"
    if path.suffix != ".py" or not path.name.startswith("test_"):
        raise AppError(f"--save-test {path}: give a name that pytest finds, such as test_replay.py")
    recording = path.parent / "recordings" / f"{slug}{SUFFIX}"
    for file in (path, recording):
        if file.exists() and not force:
            raise AppError(f"{file} exists; give another PATH, or --force to replace it")
    module, _, attribute = target.partition(":")
    attribute = attribute or "app"
    until = f'until="{report.limit.step}"' if report.outcome == "partial" and report.limit is not None else ""
    text = _TEST.format(
        module=module, name=attribute.partition(".")[0], app=attribute, recording=recording.name, slug=slug, until=until
    )
    try:
        recording.parent.mkdir(parents=True, exist_ok=True)
        recording.write_text(write_recording(record), encoding="utf-8")
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise AppError(f"the test cannot be written: {problem}") from None
    return path, recording


def _slug(record: TraceRecord) -> str:
    words = f"{record.route or record.request.method} {record.status or 'gone'} {record.id[-6:]}"
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r":\w+", "", words.lower()))[-_LONGEST:].strip("_")
