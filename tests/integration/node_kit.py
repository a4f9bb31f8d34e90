"""Starts a program of `node_programs`, reads what it says, and sees to it that nothing of it is left."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).with_name("node_programs.py")


def session(leader: int) -> list[int]:
    """The processes of one session, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], Any], timeout: float = 15.0, what: str = "") -> Any:
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.005)
    return value


class Program:
    """`said` holds every line so far, as a dict."""

    def __init__(self, *arguments: object, programs: Path = PROGRAMS) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(programs), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.said: list[dict[str, Any]] = []
        self._rest = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def expect(self, wanted: Callable[[dict[str, Any]], Any], timeout: float = 20.0, after: int = 0) -> dict[str, Any]:
        """The first line, from number `after` on, that is wanted."""
        end = time.monotonic() + timeout
        while True:
            for line in self.said[after:]:
                if wanted(line):
                    return line
            after = len(self.said)
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"not said within {timeout} s; said: {self.said}")

    def expect_log(self, text: str, timeout: float = 20.0, after: int = 0) -> str:
        found: str = self.expect(lambda line: text in line.get("log", ""), timeout, after)["log"]
        return found

    def end(self, timeout: float = 20.0) -> int:
        """Its exit code, when all of it is gone."""
        while self._read(timeout):
            pass
        code = self.process.wait(timeout)
        wait_until(lambda: not session(self.pid), what="a process of the Node is left")
        return code

    def _read(self, timeout: float) -> bool:
        assert self.process.stdout is not None
        if timeout <= 0 or not select.select([self.process.stdout], [], [], timeout)[0]:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.said += [json.loads(line) for line in lines]
        return bool(data)


@contextmanager
def program(*arguments: object, programs: Path = PROGRAMS) -> Iterator[Program]:
    """Ends whatever the program has left, and fails then."""
    started = Program(*arguments, programs=programs)
    try:
        yield started
    finally:
        left = session(started.pid)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        started.process.wait()
        assert started.process.stdout is not None
        started.process.stdout.close()
    assert not left, f"processes were left: {left}"
