"""Both type checkers, with no plug-in, accept and refuse what the files in ``tests/typing`` say.

In files called ``*_rejected.py`` each line that must be refused is marked with ``# refused``; every other line, and
every other file, must be clean. One run of each checker, over all files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tests" / "typing").glob("*.py"))
MARK = "# refused"

Found = dict[str, dict[int, list[str]]]
"""What a checker says: by file and line."""


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments, *(str(file.relative_to(ROOT)) for file in FILES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def mypy() -> Found:
    found: Found = defaultdict(lambda: defaultdict(list))
    for line in run("mypy", "--strict", "--output=json", f"--cache-dir={os.devnull}").splitlines():
        one = json.loads(line)
        if one["severity"] == "error":
            found[Path(one["file"]).name][one["line"]].append(one["message"])
    return found


def basedpyright() -> Found:
    found: Found = defaultdict(lambda: defaultdict(list))
    report = json.loads(run("basedpyright", "--outputjson"))
    assert report["summary"]["filesAnalyzed"] == len(FILES)
    for one in report["generalDiagnostics"]:
        if one["severity"] in ("error", "warning"):
            found[Path(one["file"]).name][one["range"]["start"]["line"] + 1].append(one["message"])
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("checker", [mypy, basedpyright], ids=lambda one: one.__name__)
def test_exactly_the_marked_lines_are_refused(checker: Callable[[], Found]) -> None:
    found = checker()
    wrong: list[str] = []
    marks = 0
    for file in FILES:
        lines = file.read_text().splitlines()
        marked = {number for number, line in enumerate(lines, 1) if MARK in line}
        assert not marked or file.name.endswith("_rejected.py"), file
        marks += len(marked)
        wrong += [
            f"{file.name}:{line} is accepted: {lines[line - 1].strip()}" for line in marked - set(found[file.name])
        ]
        wrong += [f"{file.name}:{line} is refused: {found[file.name][line]}" for line in set(found[file.name]) - marked]
    assert not wrong, "\n".join(sorted(wrong))
    assert marks
