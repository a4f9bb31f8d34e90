"""What compute workers are given to do. A module of its own, because a worker imports functions by their names."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    "Broken",
    "Expected",
    "Frozen",
    "Fussy",
    "Sticky",
    "add",
    "burn",
    "burn_on_threads",
    "close_everything",
    "echo",
    "fork",
    "fork_and_wait",
    "garbage",
    "hang",
    "kill_itself",
    "leave",
    "note",
    "pair",
    "pid",
    "print_a_lot",
    "print_to_nobody",
    "raise_broken",
    "raise_expected",
    "raise_frozen",
    "raise_fussy",
    "raise_sticky",
    "return_and_die",
    "return_broken",
    "signalled",
    "sleep",
    "write_pid",
]


class Expected(Exception):
    """Crosses whole."""


class Sticky(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Fussy(Exception):
    """Can be pickled, and not be made again."""

    def __init__(self, one: str, *, two: str) -> None:
        super().__init__(one + two)


@dataclass(frozen=True, slots=True)
class Frozen(Exception):
    """Takes no attribute, hence no cause."""

    text: str


class Broken:
    """Can be pickled, and raises when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return raise_expected, ("cannot be loaded",)


def add(one: int, two: int = 1) -> int:
    return one + two


def echo(value: Any) -> Any:
    return value


def pid() -> int:
    return os.getpid()


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def write_pid(path: str) -> None:
    Path(path).write_text(str(os.getpid()))


def note(path: str) -> NoReturn:
    """Says who it is, and then does not come back."""
    write_pid(path)
    hang()


def return_and_die(size: int) -> bytes:
    """Its result is on its way when its worker ends."""
    time.sleep(0.1)
    threading.Timer(0.05, os._exit, (1,)).start()
    return b"x" * size


def hang() -> NoReturn:
    while True:
        time.sleep(3600)


def burn(seconds: float = 3600.0) -> float:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def burn_on_threads(count: int) -> None:
    threads = [threading.Thread(target=burn) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def leave(code: int) -> None:
    os._exit(code)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raise_expected(*arguments: Any) -> NoReturn:
    problem = Expected(*arguments)
    problem.add_note("a note")
    raise problem


def raise_sticky() -> NoReturn:
    raise Sticky("held")


def raise_frozen() -> NoReturn:
    raise Frozen("frozen")


def raise_fussy() -> NoReturn:
    raise Fussy("a", two="b")


def raise_broken() -> NoReturn:
    raise Expected(Broken())


def return_broken() -> Broken:
    return Broken()


def print_a_lot() -> str:
    print("x" * 200_000)  # noqa: T201
    os.write(1, b"straight to the descriptor\n")
    sys.stderr.write("and to the other\n")
    return "said"


class _Nobody:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> NoReturn:
        raise RuntimeError("nobody is there")


def print_to_nobody() -> str:
    sys.stdout = sys.stderr = _Nobody()
    return "said"


def close_everything() -> NoReturn:
    os.closerange(3, 256)
    hang()


def garbage() -> NoReturn:
    """Writes into whatever sockets there are: also into the channel."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.write(int(name), b"\xff" * 64)
        except OSError:
            pass
    hang()


def signalled(number: int) -> str:
    os.kill(os.getpid(), number)
    time.sleep(0.01)
    return "went on"


def fork(ends: str) -> int:
    """Its child comes back from it as well, before it; or exits. The child's exit code."""
    child = os.fork()
    if child == 0:
        if ends == "exits":
            sys.exit(3)
        if ends == "raises":
            raise Expected("in the child")
        return -1
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_wait(path: str) -> None:
    """A child that has the channel, too, and outlives its parent unless it is ended with it."""
    if os.fork() == 0:
        hang()
    child = subprocess.Popen(["sleep", "3600"])
    Path(path).write_text(str(child.pid))
    hang()


def pair() -> socket.socket:
    return socket.socketpair()[0]
