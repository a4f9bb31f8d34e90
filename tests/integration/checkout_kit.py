"""The checkout example under ``zerver serve``, with its simulator: each in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from serve_kit import PATIENCE, Process, wait_for

from zerver.cli.trace_view import trace_page
from zerver.trace.store import StoreError, TraceReader

__all__ = ["DEADLINE", "ROOT", "SERVICES", "Got", "Shop"]

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("inventory", "pricing", "suggestions", "payment")
DEADLINE = 3.0  # seconds; that of the route
CART = [{"sku": "cup", "quantity": 1}, {"sku": "tea", "quantity": 2}]


class Got(NamedTuple):
    """What a client got."""

    status: int
    id: str
    body: Any
    retry_after: str | None


def ask(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Got:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with closing(connection):
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        data = answer.read()
        body = json.loads(data) if data else None
        return Got(answer.status, answer.headers.get("x-request-id", ""), body, answer.headers.get("retry-after"))


class Shop:
    """``breaker``: what is different from the breakers of the example's config.json, for all targets."""

    def __init__(self, folder: Path, engine: str, breaker: dict[str, float]) -> None:
        self.folder = folder
        self.simulator = Process(folder, "-m", "examples.checkout.simulator", "0")
        try:
            assert self.simulator.child.stdout is not None
            lines = [self.simulator.child.stdout.readline().decode().split() for _ in range(len(SERVICES) + 1)]
            urls = dict(lines)
            assert set(urls) == {"faults", *SERVICES}
            self.faults = int(urls["faults"].rpartition(":")[2])
            config = json.loads((ROOT / "examples/checkout/config.json").read_text())
            targets = config["effects"]["targets"]
            for number, name in enumerate(SERVICES, start=1):
                policies = targets.pop(f"http:127.0.0.1:{9000 + number}")
                policies["breaker"] |= breaker
                targets[urls[name].replace("//", "")] = policies
            (folder / "config.json").write_text(json.dumps(config))
            self.env = {f"CHECKOUT_{name.upper()}": urls[name] for name in SERVICES}
            serve = ("-m", "zerver", "serve", "examples.checkout.app:app", "--port", "0", "--engine", engine)
            self.server = Process(folder, *serve, env=self.env)
        except BaseException:
            self.simulator.kill()
            raise
        try:
            self.port = self.server.port()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        self.server.kill()
        self.simulator.kill()

    def stop(self) -> int:
        """Stop the server; its exit code."""
        self.server.signal(signal.SIGTERM)
        return self.server.ended()

    def told(self) -> Any:
        """What the simulator was asked."""
        return ask(self.faults, "GET", "/").body

    def behave(self, **faults: dict[str, float]) -> None:
        """Each service as told, all others well."""
        for name in SERVICES:
            assert ask(self.faults, "PUT", f"/faults/{name}", faults.get(name, {})).status == 200

    def fill(self, cart: Any = CART) -> None:
        assert ask(self.port, "PUT", "/cart", cart, {"x-api-key": "ada-key"}).status == 204

    def checkout(self, key: str | None, **headers: str) -> Got:
        given = {"x-api-key": "ada-key", **({} if key is None else {"idempotency-key": key})}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(self.port, "POST", "/checkout", headers=given)

    def charged(self, key: str) -> Any:
        """The charge of an order of Ada's, or None."""
        return self.told()["charges"].get(f"1:{key}")

    def run(self, *arguments: str, **env: str) -> tuple[int, str]:
        """Run a module of Python where the server runs: its exit code, and what it says."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ZERVER_")}
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=PATIENCE,
            env={**clean, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **self.env, **env},
        )  # fmt: skip
        return done.returncode, done.stdout

    def trace(self, id: str) -> str:
        """What ``zerver trace show`` shows of a request, as one line of text; waits until it is kept."""
        wait_for(lambda: self._page(id))
        return " ".join(" ".join(self._page(id)).split())

    def _page(self, id: str) -> list[str]:
        try:
            with TraceReader(str(self.folder / "var/traces.db")) as reader:
                record = reader.get(id)
        except StoreError:
            return []
        return [] if record is None else trace_page(record, lambda text, colour: text)
