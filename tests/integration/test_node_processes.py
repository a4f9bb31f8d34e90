"""What a Node and its processes hold and import: only what is their own."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path

from node_kit import Program, program, session, wait_until


def sockets_of(pid: int) -> set[str]:
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        if int(fd) > 2 and target.startswith(("socket:", "pipe:")):
            found.add(target)
    return found


def listening() -> set[str]:
    """Inodes of TCP sockets that listen."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return {f"socket:[{line.split()[9]}]" for line in lines if line.split()[3] == "0A"}


def linked(node: Program, count: int) -> dict[int, int]:
    return {node.expect(lambda line, slot=slot: line.get("linked") == slot)["pid"]: slot for slot in range(count)}


def test_each_end_of_a_socket_is_open_in_exactly_one_process() -> None:
    with program("plain", 2, 1) as node:
        schedulers = linked(node, 3)
        listeners = listening()

        def settled() -> dict[str, list[int]] | None:
            holders: dict[str, list[int]] = defaultdict(list)
            for pid in session(node.pid):
                for target in sockets_of(pid):
                    holders[target].append(pid)
            # The Node closes a pair when it has sent it; until then it holds both ends.
            pairs = [
                held for target, held in holders.items() if target.startswith("socket") and target not in listeners
            ]
            return holders if all(len(held) == 1 for held in pairs) else None

        holders = wait_until(settled, what="one holder for each end")
        performance = {pid for pid, slot in schedulers.items() if slot < 2}
        for target, held in holders.items():
            if target in listeners:
                assert set(held) == {node.pid, *performance}  # who never accepts does not hold it open
            elif target.startswith("pipe:") and node.pid in held:
                assert len(held) == 2  # stacks: written by one scheduler, read by the Node
            elif target.startswith("pipe:"):
                assert len(held) == 1  # a loop's own
        # The Node keeps its control ends (3 schedulers, 1 compute worker) and its own wake-up pair, and no links.
        unix = {target for target, held in holders.items() if node.pid in held and target.startswith("socket")}
        assert len(unix - listeners) == 4 + 2
        # A scheduler: its control end, a link to each of two siblings and to the worker, and what its loop is woken by.
        for pid in schedulers:
            own = {one for one in sockets_of(pid) if one.startswith("socket")} - listeners
            assert len(own) in (4, 6)
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_the_node_imports_neither_uvloop_nor_an_application() -> None:
    with program("plain", 1, 0) as node:
        pids = linked(node, 2)
        assert all(line["uvloop"] for line in node.said if "linked" in line)
        before = len(node.said)
        os.kill(next(iter(pids)), signal.SIGKILL)  # so that the Node has something to say
        said = node.expect(lambda line: "imported" in line, after=before)
        assert "died: signal 9" in said["log"]
        assert said["imported"] == []
        node.signal(signal.SIGTERM)
        assert node.end() == 0


def test_compute_workers_and_schedulers_are_restarted_and_end_with_the_node() -> None:
    with program("plain", 1, 2) as node:
        linked(node, 2)
        wait_until(lambda: len(session(node.pid)) == 5, what="1 + 1 + 2 processes and the Node")
        worker = max(set(session(node.pid)))
        os.kill(worker, signal.SIGKILL)
        node.expect_log("compute scheduler")
        wait_until(lambda: len(session(node.pid)) == 5 and worker not in session(node.pid), what="a new worker")
        node.signal(signal.SIGTERM)
        assert node.end() == 0
        assert node.said[-1] == {"exit": 0}
