"""The services that the checkout asks, and what may be wrong with them: ``python -m examples.checkout.simulator``.

Each service has a port of its own from 9001 on; on port 9000 they are told how to behave::

    curl localhost:9000                                            # what each was asked, and the charges
    curl -X PUT localhost:9000/faults/inventory -d '{"slow": 0.3}' # seconds, until told otherwise
    curl -X PUT localhost:9000/faults/inventory -d '{"fail": 2}'   # the next 2 requests get a 503
    curl -X PUT localhost:9000/faults/payment -d '{"hang": 1}'     # the next request is done, but never answered
    curl -X PUT localhost:9000/faults/payment -d '{}'              # well again

``python -m examples.checkout.simulator 0`` takes any free ports. This is the standard library only, a thread for each
connection: other people's services are not written with Zerver.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import msgspec

__all__ = ["main"]

STOCK = {"tea": 40, "cup": 6, "kettle": 2, "sugar": 0}
PRICES = {"tea": 450, "cup": 1200, "kettle": 5900, "sugar": 180}  # cents

Answer: TypeAlias = tuple[int, Any]


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """What is wrong with a service."""

    slow: float = 0.0
    """Seconds that each answer takes longer."""
    fail: int = 0
    """So many requests get a 503."""
    hang: int = 0
    """So many requests are done, but not answered: the worst that can happen to a payment."""


class Service:
    """One of them: what it does, and what it was asked."""

    def __init__(self, name: str, seconds: float, work: Callable[[Request], Answer]) -> None:
        self.name = name
        self.seconds = seconds
        self.work = work
        self.faults = Faults()
        self.requests = 0
        self.connections = 0  # open ones
        self.lock = threading.Lock()

    def behave(self) -> str:
        """What becomes of this request."""
        with self.lock:
            self.requests += 1
            for fault in ("hang", "fail"):
                left = getattr(self.faults, fault)
                if left > 0:
                    setattr(self.faults, fault, left - 1)
                    return fault
            return "answer"


class Request(BaseHTTPRequestHandler):
    """One request to a service, or to the port that rules them."""

    protocol_version = "HTTP/1.1"  # keep-alive
    wbufsize = -1  # head and body leave together

    def setup(self) -> None:
        assert isinstance(self.server, Server)
        self.service = self.server.service
        super().setup()
        with self.service.lock:
            self.service.connections += 1

    def finish(self) -> None:
        with self.service.lock:
            self.service.connections -= 1
        super().finish()

    def do_GET(self) -> None:
        service = self.service
        self.content = self.rfile.read(int(self.headers.get("content-length", 0)))
        fate = service.behave()
        if fate == "fail":
            self.answer(503, {"error": f"{service.name} has a bad day"})
            return
        time.sleep(service.seconds + service.faults.slow)
        status, value = service.work(self)
        if fate == "hang":
            self.close_connection = True
            self.rfile.read(1)  # until the other side has enough of it
        else:
            self.answer(status, value)

    do_POST = do_PUT = do_GET

    def answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def skus(self) -> list[str]:
        return parse_qs(urlsplit(self.path).query).get("sku", [])

    def log_message(self, format: str, *args: Any) -> None:
        """Not a word."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, service: Service) -> None:
        super().__init__(("127.0.0.1", port), Request)
        self.service = service
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not wait for its answer is none of our business."""


# What the services do


def stock(request: Request) -> Answer:
    return 200, {sku: STOCK[sku] for sku in request.skus() if sku in STOCK}


def prices(request: Request) -> Answer:
    return 200, {sku: PRICES[sku] for sku in request.skus() if sku in PRICES}


def suggestions(request: Request) -> Answer:
    return 200, [sku for sku, left in STOCK.items() if left and sku not in request.skus()][:2]


class Charges:
    """A charge is made once for each key, however often it is asked for."""

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, int] = {}
        self.lock = threading.Lock()

    def charge(self, request: Request) -> Answer:
        key = request.headers.get("idempotency-key")
        if key is None:
            return 400, {"error": "no Idempotency-Key"}
        cents = json.loads(request.content)["cents"]
        with self.lock:
            self.asked[key] = self.asked.get(key, 0) + 1
            made = self.made.setdefault(key, {"id": f"ch-{len(self.made) + 1}", "cents": cents})
        return (201, made) if made["cents"] == cents else (409, {"error": "this key was used for another amount"})

    def told(self) -> dict[str, dict[str, Any]]:
        with self.lock:
            return {key: {**made, "asked": self.asked[key]} for key, made in self.made.items()}


def main(first_port: int = 9000) -> None:
    charges = Charges()
    services = [
        Service("inventory", 0.03, stock),
        Service("pricing", 0.03, prices),
        Service("suggestions", 0.01, suggestions),
        Service("payment", 0.05, charges.charge),
    ]
    by_name = {service.name: service for service in services}

    def rule(request: Request) -> Answer:
        if request.command == "PUT":
            service = by_name.get(request.path.removeprefix("/faults/"))
            if service is None:
                return 404, {"error": f"PUT /faults/{' or '.join(by_name)}"}
            try:
                service.faults = msgspec.json.decode(request.content, type=Faults)
            except msgspec.DecodeError as problem:
                return 400, {"error": str(problem)}
            return 200, msgspec.to_builtins(service.faults)
        told: dict[str, Any] = {
            one.name: {"requests": one.requests, "connections": one.connections} for one in services
        }
        return 200, {**told, "charges": charges.told()}

    for number, service in enumerate([Service("faults", 0, rule), *services]):
        server = Server(first_port + number if first_port else 0, service)
        print(f"{service.name:12} http://127.0.0.1:{server.server_port}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*map(int, sys.argv[1:]))
