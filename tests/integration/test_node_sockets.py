"""Listening sockets before any Node has them: what can be had, what is told otherwise; and a table that is full."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from zerver_runtime import open_tcp, open_unix
from zerver_runtime.listener import Listeners


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "socket")


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(path) == 0


def test_a_socket_file_that_nobody_listens_on_is_replaced_and_another_is_left_alone(path: str) -> None:
    open_unix(path).close()
    assert Path(path).is_socket()
    with open_unix(path) as listener:
        assert not listener.getblocking()
        assert connects(path)
        with pytest.raises(OSError, match=f"cannot listen on {path}: Address already in use"):
            open_unix(path)
        assert connects(path)


def test_who_listens_and_is_too_busy_to_accept_keeps_its_path(path: str) -> None:
    with open_unix(path, backlog=0), ExitStack() as waiting:
        with suppress(BlockingIOError):
            while True:
                client = waiting.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.setblocking(False)
                client.connect(path)
        with pytest.raises(OSError, match="Address already in use"):
            open_unix(path)


@pytest.mark.parametrize(
    ("name", "why"),
    [("x" * 120, "too long"), ("no/such/folder", "No such file"), ("file", "already in use")],
    ids=["too-long", "no-folder", "no-socket"],
)
def test_a_path_that_cannot_be_had_is_named_with_the_reason(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=rf"cannot listen on {tmp_path / name}: .*{why}"):
        open_unix(str(tmp_path / name))
    assert (tmp_path / "file").is_file()


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port} is none"):
        open_tcp("127.0.0.1", port, 2)


class Loop:
    """Says what is readable when it is asked."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], Any]] = {}

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        self.readers[fd] = lambda: callback(*args)

    def remove_reader(self, fd: Any) -> None:
        self.readers.pop(fd, None)

    add_writer, remove_writer = add_reader, remove_reader

    def run(self) -> None:
        for reader in list(self.readers.values()):
            reader()


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """How many are free: 32."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(fd) for fd in os.listdir("/proc/self/fd")}
    free = [fd for fd in range(soft) if fd not in taken][:32]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1] + 1, hard))
    yield len(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_listener_pauses_before_the_last_descriptors_and_goes_on_when_there_are_some(
    path: str, few_descriptors: int
) -> None:
    loop = Loop()
    with open_unix(path) as listener, ExitStack() as held:
        listeners = Listeners(loop, [(0, listener)])

        def keep(connection: socket.socket, number: int) -> None:
            held.enter_context(connection)

        listeners.on_connection = keep
        listeners.serve(0)
        taken = 0
        for _ in range(40):
            # From another process, so to speak: the client's own descriptor is free again at once.
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(path)
            loop.run()
            if listeners.accepted == taken:
                break
            taken = listeners.accepted
        assert 0 < taken <= few_descriptors - 8
        assert loop.readers == {}
        listeners.resume()
        assert loop.readers == {}  # nothing has changed
        held.close()
        listeners.resume()
        loop.run()
        assert listeners.accepted == taken + 1  # the one that waited
        listeners.leave(0)


def test_that_descriptors_have_run_out_is_said_once_until_there_were_enough_for_a_while(
    path: str, few_descriptors: int, capfd: pytest.CaptureFixture[str]
) -> None:
    loop = Loop()
    with open_unix(path) as listener, ExitStack() as held:
        listeners = Listeners(loop, [(0, listener)])

        def keep(connection: socket.socket, number: int) -> None:
            held.enter_context(connection)

        listeners.on_connection = keep
        listeners.serve(0)

        def run_out() -> int:
            """Connect until nothing is accepted; how often that was said."""
            while loop.readers:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                    client.connect(path)
                loop.run()
            return capfd.readouterr().err.count("no descriptors are left for connections")

        assert run_out() == 1
        held.close()
        listeners.resume()
        assert run_out() == 0  # as before
        held.close()
        listeners.resume()
        listeners.resume()
        assert run_out() == 1
        listeners.leave(0)


def test_a_connection_that_the_application_chokes_on_is_closed_and_the_next_one_served(path: str) -> None:
    loop = Loop()
    seen: list[int] = []

    def choke(connection: socket.socket, number: int) -> None:
        seen.append(number)
        raise LookupError("not today")

    with open_unix(path) as listener:
        listeners = Listeners(loop, [(0, listener)])
        listeners.on_connection = choke
        listeners.serve(0)
        for _ in range(2):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(path)
                loop.run()
                assert client.recv(1) == b""
        assert seen == [0, 0]
        listeners.close_all()
        assert listeners.open == []
