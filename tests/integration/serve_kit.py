"""A program in a process of its own, such as ``zerver serve``."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["PATIENCE", "Process"]

PATIENCE = 15.0  # seconds; what is waited for takes milliseconds


class Process:
    """A process in its own session, whose standard error is read as it comes."""

    def __init__(self, folder: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ZERVER_")}
        self.child = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**clean, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.errors = ""
        self.output = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        """Wait until standard error has ``pattern``, beyond what was found before."""
        assert self.child.stderr is not None
        until = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.errors)):
            ready, _, _ = select.select([self.child.stderr], [], [], max(until - time.monotonic(), 0))
            text = os.read(self.child.stderr.fileno(), 65536).decode() if ready else ""
            assert text, f"no {pattern!r} in: {self.errors}"
            self.errors += text
        self.errors = self.errors[found.end() :]
        return found

    def listening(self) -> str:
        """Where it says it listens."""
        return self.read_until(r"listening on (\S+)\n")[1]

    def port(self) -> int:
        return int(self.listening().rpartition(":")[2])

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        output, errors = self.child.communicate(timeout=PATIENCE)
        self.output, self.errors = output.decode(), self.errors + errors.decode()
        return self.child.returncode

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)  # with the children of dev
        self.child.communicate(timeout=PATIENCE)
