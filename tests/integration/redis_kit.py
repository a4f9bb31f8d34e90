"""A real Redis server: ``redis-server`` of the system."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

__all__ = ["REDIS_SERVER", "RedisServer"]

REDIS_SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
_PATIENCE = 10.0  # seconds for a server to be ready


class RedisServer:
    """A server that keeps nothing on disk, on a TCP port of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zerver-redis-"))
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if self.process is None:
            options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self.folder)]
            self.process = subprocess.Popen([str(REDIS_SERVER), *options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.ask("PING")
                return
            except redis.ConnectionError:
                assert time.monotonic() < until, "redis-server does not start"
                time.sleep(0.01)

    def ask(self, *command: Any) -> Any:
        """The reply to a command, on a connection of its own."""
        with redis.Redis(port=self.port, single_connection_client=True) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)
