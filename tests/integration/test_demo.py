"""`python -m zerver_runtime demo`, as somebody sees it who has just heard of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from node_kit import session, wait_until

DEMO = [sys.executable, "-m", "zerver_runtime", "demo"]


@contextlib.contextmanager
def demo(*arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """In a session of its own; kills what is left of it, and fails then."""
    process = subprocess.Popen(
        [*DEMO, *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
        wait_until(lambda: not session(process.pid), what="a process of the demo is left")
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_it_plays_its_scenes_in_plain_lines_and_leaves_no_process() -> None:
    with demo("--seconds", "3") as process:
        shown, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b" not in shown
    # Rates of each scheduler, and those of both scenes.
    assert re.search(r"^ *[\d.]+ s  \S+ +0: [\d,]+/s  1: [\d,]+/s", shown, re.MULTILINE), shown
    assert re.search(r"^ping-pong: [\d,]{4,} round trips/s between \d processes$", shown, re.MULTILINE), shown
    assert re.search(r"^fan-out: [\d,]{4,} messages/s", shown, re.MULTILINE), shown
    # The crashes, and that they were survived.
    assert re.search(r"<Worker 0\.0\.1\.\d+> crashed; its supervisor made <Worker 0\.0\.1\.\d+>", shown), shown
    assert re.search(r"kill -9 of process \d+: scheduler \d, with the shared counter", shown), shown
    assert re.search(r"the counter answers, in scheduler \d, \d+ ms after the kill", shown), shown
    assert "did not drain" not in shown  # all of its actors had stopped when they were to
    assert errors.count("\n") == 1, errors  # that of the actor which was to crash
    assert "RuntimeError: the demo wants it" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_when_it_is_interrupted(number: signal.Signals) -> None:
    with demo("--seconds", "30") as process:
        assert process.stdout is not None
        assert "ping-pong" in process.stdout.readline()
        os.killpg(process.pid, number)  # as a terminal does, to all of its processes
        shown, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")
        assert "node:" not in shown  # nobody had to be killed


def test_it_ends_although_nobody_reads_it_any_more() -> None:
    with demo("--seconds", "2") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        assert process.wait(timeout=20) == 0


def test_on_a_terminal_it_draws_one_picture_again_and_again_in_80_columns() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = b""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment["TERM"] = "xterm"
    try:
        with demo_on(theirs, environment) as process:
            until = time.monotonic() + 20
            while process.poll() is None or select.select([ours], [], [], 0)[0]:
                assert time.monotonic() < until, shown.decode()
                if select.select([ours], [], [], 0.05)[0]:
                    shown += os.read(ours, 65536)
            assert process.returncode == 0
    finally:
        os.close(ours)
        os.close(theirs)
    text = shown.decode()
    assert text.startswith("\x1b[?25l")
    assert text.endswith("\x1b[?25h")  # the cursor is back
    assert len(re.findall(r"\x1b\[\d+F", text)) >= 3
    frames = [re.sub(r"\x1b\[[\d?]*[A-Za-z]|\r", "", one).split("\n") for one in re.split(r"\x1b\[\d+F", text)]
    assert all(len(line) <= 80 for one in frames[:-1] for line in one), frames
    assert any("█" in line for one in frames for line in one)


@contextlib.contextmanager
def demo_on(terminal: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*DEMO, "--seconds", "1.5"],
        stdout=terminal, stderr=terminal, stdin=subprocess.DEVNULL, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
        wait_until(lambda: not session(process.pid), what="a process of the demo is left")
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def test_a_senseless_time_is_refused() -> None:
    done = subprocess.run([*DEMO, "--seconds", "0"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "--seconds 0: give a number above 0" in done.stderr
