"""A program in a process of its own, such as ``zerver serve``."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["APP", "PATIENCE", "Process", "Start", "get", "refused", "rest", "send", "wait_for"]

PATIENCE = 15.0  # seconds; what is waited for takes milliseconds


APP = '''
import threading, time
from pathlib import Path
from zerver import App, CtxView, Decision, Done, Need, timer

def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")

def wait(ctx: CtxView) -> Decision:
    """Answers when the file "go" is there: what a test holds in flight."""
    Path("waiting").touch()
    return Need([timer.sleep(0.01)], then=look)

def look(ctx: CtxView) -> Decision:
    return Done.text("at last") if Path("go").exists() else Need([timer.sleep(0.01)], then=look)

def boom(ctx: CtxView) -> Decision:
    raise ValueError(ctx.query("why"))

app = App()
app.get("/", hello)
app.get("/wait", wait)
app.get("/boom", boom)
'''


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


Start = Callable[..., Process]


def get(port: int, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def send(port: int, request: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    client.sendall(request)
    return client


def rest(client: socket.socket) -> bytes:
    """Everything until the other side closes."""
    received = b""
    with client:
        while chunk := client.recv(65536):
            received += chunk
    return received


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        pause.wait(0.01)


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False
    return False
