"""A Node where its surroundings fail it: standard streams, descriptors, its own death, what the application raises."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from node_kit import PROGRAMS, Program, program, session, wait_until


def test_a_scheduler_that_never_yields_does_not_outlive_its_node() -> None:
    """It would keep its listener open, and the kernel would go on dealing it connections."""
    with program("spinning") as node:
        node.expect(lambda line: "spins" in line)
        os.kill(node.pid, signal.SIGKILL)
        node.process.wait()
        wait_until(lambda: not session(node.pid), what="the end of a scheduler that spins")


def test_a_node_whose_times_are_for_ever_runs_and_stops() -> None:
    with program("patient") as node:
        node.expect(lambda line: "booted" in line)
        node.signal(signal.SIGTERM)
        assert node.end() == 0
        assert node.said[-1] == {"exit": 0}


def test_what_comes_out_of_a_turn_ends_the_process_and_the_node_replaces_it() -> None:
    with program("interrupted") as node:
        node.expect_log("died: exit 5")
        node.expect(lambda line: line.get("booted") == [0, 2])
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def run_with(streams: str) -> subprocess.Popen[bytes]:
    """streams: what a shell does to them. The program says nothing, and its exit code is the Node's."""
    command = f'exec "$0" "$1" crashing {streams}'
    return subprocess.Popen(
        ["sh", "-c", command, sys.executable, str(PROGRAMS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end(node: subprocess.Popen[Any]) -> int:
    node.send_signal(signal.SIGTERM)
    try:
        return node.wait(15)
    finally:
        for pid in session(node.pid):
            os.kill(pid, signal.SIGKILL)
        node.wait()


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_node_runs_with_standard_streams_closed(streams: str, tmp_path: Path) -> None:
    node = run_with(f"{tmp_path / 'crashes'} {streams}")
    try:
        wait_until((tmp_path / "crashes").exists, what="a scheduler that was killed and is back")
    finally:
        code = end(node)
    assert code == 0


def test_nobody_waits_for_a_reader_of_standard_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        node = subprocess.Popen(
            [sys.executable, str(PROGRAMS), "crashing", str(tmp_path / "crashes")],
            stdout=subprocess.DEVNULL,
            stderr=writing,
            start_new_session=True,
        )
        try:
            wait_until((tmp_path / "crashes").exists, what="a scheduler that was killed and is back")
        finally:
            code = end(node)
        assert code == 0
        assert os.get_blocking(writing)  # others share it
    finally:
        os.close(reading)
        os.close(writing)


class Narrow(Program):
    """With so few descriptors that connections alone could take them all."""

    def __init__(self, *arguments: object, programs: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
        try:
            super().__init__(*arguments, programs=programs)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_leave_descriptors_for_links_and_are_served_when_there_are_some_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("node_kit.Program", Narrow)
    with program("keeping") as node:
        port = node.expect(lambda line: "port" in line)["port"]
        victim = node.expect(lambda line: line.get("booted") == [1, 1])["pid"]
        node.expect(lambda line: line.get("linked") == 1)
        with ExitStack() as held:
            for _ in range(100):
                held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            node.expect(lambda line: line.get("kept", 0) >= 25)
            # It is full. A sibling dies, and the link to its successor takes one descriptor more.
            os.kill(victim, signal.SIGKILL)
            node.expect(lambda line: line.get("booted") == [1, 2])
            node.expect(lambda line: line.get("linked") == 2)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            assert connection.recv(100) == b"hello"
        node.signal(signal.SIGTERM)
        assert node.end() == 0
        assert node.said[-1] == {"exit": 0}
        booted = sorted(line["booted"] for line in node.said if "booted" in line)
        assert booted == [[0, 1], [1, 1], [1, 2]]  # the full one has lived on


def test_a_node_without_descriptors_for_a_process_tries_again_and_gives_up_loudly() -> None:
    with program("starving") as node:
        node.expect_log("could not be forked: [Errno 24] Too many open files")
        node.expect_log("giving up performance scheduler")
        assert node.end() == 0
        assert node.said[-1] == {"exit": 1}


def test_a_reload_hands_on_the_names_of_each_scheduler() -> None:
    with program("named") as node:
        node.expect(lambda line: line.get("named") == [1, 1])
        node.signal(signal.SIGHUP)
        node.expect(lambda line: line.get("named") == [2, 2])
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_who_never_stops_to_ask_does_not_keep_a_process_from_ending() -> None:
    with program("pestered") as node:
        node.expect(lambda line: "answered" in line)
        node.signal(signal.SIGTERM)
        assert node.end() == 0
        assert [line["log"] for line in node.said if "log" in line] == []  # nobody had to be killed


def test_under_development_a_node_checks_what_stays_within_a_process() -> None:
    with program("checking") as node:
        refused = node.expect(lambda line: "refused" in line)["refused"]
        assert "Echo.echo(): token is a builtins.function, which is not plain data" in refused
        assert node.end() == 0


def test_what_was_asked_before_a_reload_is_answered_by_the_old_process() -> None:
    with program("begun") as node:
        found = node.expect(lambda line: "answered" in line)
        assert (found["answered"], found["refused"]) == (20, 0)
        assert {"drains": True} in node.said[: node.said.index(found)], "while it drained"
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_a_program_that_is_started_as_a_script_finds_its_own_actors_by_their_path(tmp_path: Path) -> None:
    """Imported a second time under its name, its classes would be others than those that it looks for."""
    guide = (PROGRAMS.parents[2] / "docs" / "guides" / "actors.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "myapp.py").write_text("\n\n".join(blocks[:3]))
    with subprocess.Popen(
        [sys.executable, "-u", "myapp.py"], cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as node:
        assert node.stdout is not None
        try:
            counts = [int(node.stdout.readline()) for _ in range(2)]
        finally:
            code = end(node)
    assert len({*counts, 0}) == 3, "each has counted on, whoever said so first"
    assert code == 0
