"""Recordings of earlier versions, kept here, are read and replay: in the form of files, and as a store has them.

``tests/recordings/v1`` holds those of version 1 of the record; a later version adds a folder of its own.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerver import App
from zerver.replay.recording_file import read_recording, write_recording
from zerver.testing import replay

FOLDER = Path(__file__).resolve().parents[1] / "recordings"
FILES = sorted(FOLDER.glob("v*/*"))
PARTIAL = {"order_secret": "order"}
"""Those that end at a step, as it reads what is redacted."""


@pytest.fixture(scope="module")
def shop() -> Iterator[App]:
    spec = importlib.util.spec_from_file_location("recorded_shop", FOLDER / "recorded_shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["recorded_shop"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.app
    del sys.modules["recorded_shop"]


def test_there_are_some() -> None:
    assert len(FILES) >= 9


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_an_old_recording_replays(shop: App, file: Path) -> None:
    report = replay(shop, file)
    report.check(until=PARTIAL.get(file.stem))
    assert report.changed == ()


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_an_old_recording_can_be_written_anew(file: Path) -> None:
    record = read_recording(file.read_bytes())
    assert read_recording(write_recording(record).encode()) == record
