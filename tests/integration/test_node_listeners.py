"""Connections are served whatever happens to a scheduler: a death, a reload, a reload that fails, fewer of them."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from node_kit import Program, program, wait_until


def ask(port: int) -> tuple[int, int, int, str]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(5)
        data = b""
        while chunk := connection.recv(100):
            data += chunk
    slot, incarnation, listener, version = data.decode().split()
    return int(slot), int(incarnation), int(listener), version


def booted(node: Program, slot: int, incarnation: int) -> int:
    pid: int = node.expect(lambda line: line.get("booted") == [slot, incarnation])["pid"]
    return pid


class Clients:
    """Connects without end, from a thread, and keeps what each connection came to."""

    def __init__(self, port: int) -> None:
        self.answers: list[tuple[int, int, int, str]] = []
        self.faults: list[str] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, args=(port,))
        self._thread.start()

    def _run(self, port: int) -> None:
        while not self._stop:
            try:
                self.answers.append(ask(port))
            except (OSError, ValueError) as error:
                self.faults.append(repr(error))

    def stop(self) -> None:
        self._stop = True
        self._thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "version").write_text("one")
    return tmp_path


def test_while_a_scheduler_is_dead_a_sibling_serves_its_listener(folder: Path) -> None:
    with program("serve", 2, folder, 1.5) as node:
        port = node.expect(lambda line: "port" in line)["port"]
        victim = booted(node, 1, 1)
        booted(node, 0, 1)
        wait_until(lambda: {ask(port)[0] for _ in range(20)} == {0, 1}, what="both serve")
        os.kill(victim, signal.SIGKILL)
        node.expect_log("performance scheduler 1.1")
        answers = [ask(port) for _ in range(60)]
        assert {slot for slot, *_ in answers} == {0}
        assert {listener for _, _, listener, _ in answers} == {0, 1}  # its own, and the one that it adopted
        booted(node, 1, 2)
        # Its owner is back, and has it alone.
        wait_until(
            lambda: {(slot, listener) for slot, _, listener, _ in [ask(port) for _ in range(30)]} == {(0, 0), (1, 1)},
            what="each serves its own",
        )
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_a_reload_loses_no_connection_and_brings_the_new_version(folder: Path) -> None:
    with program("serve", 2, folder, 0.05) as node:
        port = node.expect(lambda line: "port" in line)["port"]
        booted(node, 0, 1), booted(node, 1, 1)
        clients = Clients(port)
        try:
            wait_until(lambda: len(clients.answers) > 20, what="connections")
            (folder / "version").write_text("two")
            node.signal(signal.SIGHUP)
            for slot in (0, 1, 2):
                booted(node, slot, 2)
            wait_until(lambda: clients.answers[-1][3] == "two", what="the new version")
            # The old ones are gone, and only the new ones serve.
            seen = len(clients.answers)
            wait_until(lambda: len(clients.answers) > seen + 50, what="more connections")
            assert {answer[1:4:2] for answer in clients.answers[seen + 10 :]} == {(2, "two")}
        finally:
            clients.stop()
        assert clients.faults == []
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_a_reload_that_fails_leaves_the_old_ones_serving(folder: Path) -> None:
    with program("serve", 2, folder, 0.05) as node:
        port = node.expect(lambda line: "port" in line)["port"]
        booted(node, 0, 1), booted(node, 1, 1)
        clients = Clients(port)
        try:
            (folder / "version").write_text("broken")
            node.signal(signal.SIGHUP)
            node.expect_log("this version does not boot")
            node.expect_log("the reload failed")
            seen = len(clients.answers)
            wait_until(lambda: len(clients.answers) > seen + 50, what="more connections")
            # And the next reload works.
            (folder / "version").write_text("three")
            node.signal(signal.SIGHUP)
            wait_until(lambda: clients.answers[-1][3] == "three", what="the repaired version")
        finally:
            clients.stop()
        assert clients.faults == []
        assert {answer[3] for answer in clients.answers} == {"one", "three"}
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_shrinking_drains_and_closes_a_listener_without_losing_a_connection(folder: Path) -> None:
    with program("serve", 2, folder, 0.05) as node:
        port = node.expect(lambda line: "port" in line)["port"]
        leaving = booted(node, 1, 1)
        staying = booted(node, 0, 1)
        clients = Clients(port)
        try:
            wait_until(lambda: {answer[0] for answer in clients.answers} == {0, 1}, what="both serve")
            node.signal(signal.SIGTTOU)
            wait_until(lambda: not Path(f"/proc/{leaving}").exists(), what="the end of the scheduler")
            seen = len(clients.answers)
            wait_until(lambda: len(clients.answers) > seen + 50, what="more connections")
        finally:
            clients.stop()
        assert clients.faults == []
        assert {answer[0] for answer in clients.answers[seen + 1 :]} == {0}
        assert [len(listening(pid, port)) for pid in (node.pid, staying)] == [1, 1]
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_a_stop_answers_every_connection_that_was_taken_in(folder: Path) -> None:
    with program("serve", 2, folder, 0.05) as node:
        port = node.expect(lambda line: "port" in line)["port"]
        booted(node, 0, 1), booted(node, 1, 1)
        ask(port)
        waiting = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(20)]
        node.signal(signal.SIGTERM)
        answers = [connection.recv(100) for connection in waiting]
        for connection in waiting:
            connection.close()
        assert all(answers)
        assert node.end() == 0
        with pytest.raises(ConnectionRefusedError):
            ask(port)


def listening(pid: int, port: int) -> set[Any]:
    """Listening sockets on a port that a process holds."""
    inodes = {
        f"socket:[{line.split()[9]}]"
        for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    }
    held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    return inodes & held
