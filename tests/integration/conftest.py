"""What holds for every integration test: nothing that it started is left over; an async one has a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from asgi_kit import ENGINES
from postgres_kit import PostgresServer
from redis_kit import REDIS_SERVER, RedisServer
from serve_kit import Process, Start

PATIENCE = 5.0  # seconds that threads have to end; they take milliseconds


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    # Debugging, a loop finds calls from the wrong thread.
    asyncio.run(pyfuncitem.obj(**arguments), debug=True)
    return True


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "engines(*names): of reactor, pool (its steps on threads), blocking; default all"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that uses the fixture ``engine`` runs once on each engine, or on those that its marker names."""
    if "engine" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("engines")
        metafunc.parametrize("engine", marker.args if marker else tuple(ENGINES), indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Apps run on this engine."""
    for name, value in ENGINES[request.param].items():
        monkeypatch.setenv(name, value)
    return str(request.param)


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a program in the folder of the test."""
    started: list[Process] = []

    def start(*arguments: str, env: dict[str, str] | None = None) -> Process:
        started.append(Process(folder, *arguments, env=env))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def zerver(start: Start, engine: str) -> Start:
    """Starts a command of zerver, whose app runs on the engine of the test."""

    def zerver(*arguments: str, env: dict[str, str] | None = None) -> Process:
        settings = {**ENGINES[engine], "ZERVER_SCHEDULERS__PERFORMANCE": "2", **(env or {})}
        return start("-m", "zerver", *arguments, env=settings)

    return zerver


def open_files() -> dict[str, str]:
    """What each file descriptor of this process is; empty where the system does not tell."""
    found = {}
    try:
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of the listing itself
                found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        pass
    return found


def pending_tasks() -> list[str]:
    """Tasks that never came to their end, of loops that have."""
    tasks = [one for one in gc.get_objects() if isinstance(one, asyncio.Task)]
    return [repr(one) for one in tasks if not one.done()]


class Errors(logging.Handler):
    """What asyncio reports: exceptions of callbacks, and of tasks that nobody looked at."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


def eventually(leaked: Callable[[], object]) -> object:
    """What is leaked still when time is up."""
    until = time.monotonic() + PATIENCE
    while found := leaked():
        if time.monotonic() > until:
            return found
        time.sleep(0.005)
    return None


@pytest.fixture(scope="session", autouse=True)
def _baseline() -> None:
    """What a process keeps for good is there before the first test, and is not looked through after each."""
    uvloop.new_event_loop().close()  # libuv keeps a pipe for signals
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(_baseline: None) -> Iterator[None]:
    """Threads, tasks and file descriptors (hence sockets) are back at their baseline, and no loop met an error."""
    threads, files, errors = set(threading.enumerate()), open_files(), Errors()
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.addHandler(errors)
    try:
        yield
    finally:
        left = eventually(lambda: [one.name for one in threading.enumerate() if one not in threads])
        gc.collect()
        asyncio_log.removeHandler(errors)
    assert not left, f"threads are left: {left}"
    assert not errors.messages, errors.messages
    tasks = pending_tasks()
    assert not tasks, f"tasks are left: {tasks}"
    opened = eventually(lambda: {what for fd, what in open_files().items() if files.get(fd) != what})
    assert not opened, f"files are left open: {opened}"
    gc.freeze()  # what is left is there for good: the next test need not look through it


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests that need one; it runs when a test begins."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server for all tests that need one; it runs when a test begins."""
    if REDIS_SERVER is None:
        pytest.skip("NOT TESTED: there is no redis-server; install it (Debian: apt-get install redis-server)")
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
