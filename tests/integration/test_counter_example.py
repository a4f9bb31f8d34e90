"""The counter example: shared by all processes, and there again when its own is killed."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from node_kit import session, wait_until

ROOT = Path(__file__).resolve().parents[2]
VISIT = re.compile(r"scheduler (\d): visit (\d+), by the counter in (\d)")
PROCESS = re.compile(r"scheduler (\d) is process (\d+)")


class Example:
    """`python -m examples.counter`, line by line."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.counter"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._rest = b""

    def read_until(self, enough: Callable[[list[str]], bool], timeout: float = 20.0) -> list[str]:
        """The lines from here on, as soon as they are enough."""
        assert self.process.stdout is not None
        first, end = len(self.lines), time.monotonic() + timeout
        while not enough(self.lines[first:]):
            left = end - time.monotonic()
            assert left > 0, f"not within {timeout} s: {self.lines}"
            if select.select([self.process.stdout], [], [], left)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"it has ended: {self.lines}"
                *lines, self._rest = (self._rest + data).split(b"\n")
                self.lines += [line.decode() for line in lines]
        return self.lines[first:]

    def processes(self) -> dict[str, int]:
        """By scheduler, the newest."""
        return {found[1]: int(found[2]) for line in self.lines if (found := PROCESS.fullmatch(line))}


def visits(lines: list[str]) -> list[tuple[str, int, str]]:
    """Who visited, how many visits that made, and where the counter was."""
    return [(found[1], int(found[2]), found[3]) for line in lines if (found := VISIT.fullmatch(line))]


def all_three(lines: list[str]) -> bool:
    return {who for who, _, _ in visits(lines)} == {"0", "1", "2"}


@pytest.fixture
def example() -> Iterator[Example]:
    started = Example()
    try:
        yield started
    finally:
        left = session(started.process.pid)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        started.process.wait()
        assert started.process.stdout is not None
        started.process.stdout.close()
    assert not left, f"processes were left: {left}"


def stop(example: Example) -> int:
    os.killpg(example.process.pid, signal.SIGINT)  # Ctrl-C
    code = example.process.wait(20)
    wait_until(lambda: not session(example.process.pid), what="a process is left")
    return code


def each_once(totals: list[int]) -> bool:
    """Visits by different processes are shown in any order; sooner or later those up to one of them are all there."""
    return bool(totals) and sorted(totals) == list(range(1, len(totals) + 1))


def test_all_processes_count_with_one_counter(example: Example) -> None:
    example.read_until(lambda lines: all_three(lines) and each_once([total for _, total, _ in visits(lines)]))
    assert len(example.processes()) == len(set(example.processes().values())) == 3
    assert stop(example) == 0


def test_it_answers_again_after_a_kill_of_the_process_that_it_lives_in(example: Example) -> None:
    (*_, (_, _, home)) = visits(example.read_until(all_three))
    victim = example.processes()[home]
    os.kill(victim, signal.SIGKILL)

    def back(lines: list[str]) -> bool:
        """A new counter elsewhere, which began anew, and which all processes know, the restarted one among them."""
        new = [visit for visit in visits(lines) if visit[2] != home]
        return (
            example.processes()[home] != victim
            and {who for who, _, _ in new} == {"0", "1", "2"}
            and each_once([total for _, total, _ in new])
        )

    after = example.read_until(back)
    assert len({where for _, _, where in visits(after) if where != home}) == 1
    assert stop(example) == 0
