"""The HTTP front end against other servers: the same answer, one process on one core, wrk on the other.

Needs wrk, and nginx as the measure (both are Debian packages), and the extra ``bench`` (Granian, FastAPI). What is not
there is left out, and said.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bench.harness import Figure, Figures

__all__ = ["BENCHMARK", "CLIENT_CPU", "Command", "cpu_seconds", "load", "serving", "zerver"]

_ROOT = Path(__file__).resolve().parent.parent
_COMPILED = _ROOT / "build" / "compiled"
_PATH = "/todos/42"
_BODY = b'{"id":"42","ok":true}'
_CONNECTIONS = 64
_SECONDS = 3
_ROUNDS = 5
_SERVER_CPU, CLIENT_CPU = "0", "1"

Command = Callable[[int, Path], "list[str] | str"]
"""What serves on a port, with a folder for its files; or why it cannot."""

_NGINX = """daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null; events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; server {{ listen 127.0.0.1:{port}; location / {{
default_type application/json; return 200 '{{"id":"42","ok":true}}'; }} }} }}"""


def _nginx(port: int, folder: Path) -> list[str] | str:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        return "nginx is not installed"
    conf = folder / "nginx.conf"
    conf.write_text(_NGINX.format(folder=folder, port=port))
    return [program, "-e", "/dev/null", "-p", str(folder), "-c", str(conf)]


def zerver(schedulers: int, *, compiled: bool = False) -> Command:
    """Zerver with so many scheduler processes; ``compiled``: what ``make compiled`` has made."""

    def command(port: int, folder: Path) -> list[str] | str:
        python = [sys.executable, "-m", "zerver", "serve", "bench.http_apps:zerver_app"]
        if compiled:
            if not _COMPILED.is_dir():
                return "there is no compiled build: make compiled"
            python = ["env", "PYTHONSAFEPATH=1", f"PYTHONPATH={_COMPILED}:{_ROOT}", *python]
        return [*python, "--port", str(port), "--schedulers", str(schedulers)]

    return command


def _granian(interface: str, target: str) -> Command:
    def command(port: int, folder: Path) -> list[str] | str:
        if find_spec("granian") is None:
            return "Granian is not installed; it is in the extra bench"
        python = [sys.executable, "-m", "granian", "--interface", interface, "--no-access-log", "--log-level", "error"]
        return [*python, "--workers", "1", "--loop", "uvloop", "--port", str(port), target]

    return command


def _uvicorn(target: str, needs: str) -> Command:
    def command(port: int, folder: Path) -> list[str] | str:
        if find_spec(needs) is None:
            return f"{needs} is not installed; it is in the extra bench"
        python = [sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return [*python, "--log-level", "error", "--port", str(port), target]

    return command


_SIDES: dict[str, Command] = {
    "nginx, return 200": _nginx,
    "Zerver, three steps": zerver(1),
    "Zerver, compiled": zerver(1, compiled=True),
    "Granian, RSGI": _granian("rsgi", "bench.http_apps:rsgi_app"),
    "Starlette on uvicorn": _uvicorn("bench.http_apps:starlette_app", "starlette"),
    "FastAPI on uvicorn": _uvicorn("bench.http_apps:fastapi_app", "fastapi"),
}


@contextmanager
def serving(side: str, serve: Command, cpus: str = _SERVER_CPU) -> Iterator[tuple[int, int] | str]:
    """The port and the pid of a server that answers; or why there is none. ``cpus``: where it may run."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = serve(port, Path(folder))
        if isinstance(command, str):
            yield command
            return
        environment = {**os.environ, "ZERVER_OBSERVABILITY__ACCESS_LOG": "false"}
        server = subprocess.Popen(["taskset", "-c", cpus, *command], env=environment, stderr=subprocess.DEVNULL)
        try:
            _until_it_answers(side, server, port)
            yield port, server.pid
        finally:
            server.terminate()
            server.wait()


def _until_it_answers(side: str, server: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                client.sendall(f"GET {_PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b""
                while chunk := client.recv(65536):
                    answer += chunk
        except OSError:
            time.sleep(0.05)
            continue
        if not answer.endswith(_BODY):
            raise RuntimeError(f"{side}: the answer is not the same: {answer!r}")
        return
    raise RuntimeError(f"{side}: it does not answer")


def cpu_seconds(pid: int) -> float:
    """Of a process and all below it."""
    children: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
            times[int(entry)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    total, left = 0.0, [pid]
    while left:
        one = left.pop()
        total += times.get(one, 0.0)
        left += children.get(one, [])
    return total


def load(port: int, pid: int, cpu: str = CLIENT_CPU) -> tuple[float, float]:
    """Requests a second, and CPU microseconds of the server for each. ``cpu``: that of the client."""
    began = cpu_seconds(pid)
    wrk = ["taskset", "-c", cpu, "wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}"]
    told = subprocess.run([*wrk, f"http://127.0.0.1:{port}{_PATH}"], capture_output=True, text=True, check=True).stdout
    took = cpu_seconds(pid) - began
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    requests = int(re.findall(r"(\d+) requests in", told)[0])
    return float(re.findall(r"Requests/sec:\s*([\d.]+)", told)[0]), took / requests * 1e6


def _measure() -> list[Figure]:
    if shutil.which("wrk") is None:
        raise SystemExit("bench http: wrk is not installed (Debian: apt-get install wrk nginx-light)")
    rates: dict[str, list[float]] = {side: [] for side in _SIDES}
    micros: dict[str, list[float]] = {side: [] for side in _SIDES}
    for turn in range(_ROUNDS):
        for side in list(_SIDES) if turn % 2 == 0 else list(_SIDES)[::-1]:
            with serving(side, _SIDES[side]) as found:
                if isinstance(found, str):
                    if turn == 0:
                        print(f"{side}: left out: {found}")
                    continue
                load(*found)  # warm
                rate, cpu = load(*found)
                rates[side].append(rate)
                micros[side].append(cpu)
    medians = {side: statistics.median(values) for side, values in rates.items() if values}
    figures = []
    for side, rate in medians.items():
        figures.append(Figure(side, rate, "requests/s"))
        figures.append(Figure(f"{side}: CPU for each", statistics.median(micros[side]), "us"))
    goals = {
        "nginx, return 200": "0.55 (0.75)", "Granian, RSGI": "1.2", "Starlette on uvicorn": "4",
        "FastAPI on uvicorn": "12",
    }  # fmt: skip
    for name in ("Zerver, three steps", "Zerver, compiled"):
        if (ours := medians.get(name)) is not None:
            figures += [
                Figure(f"{name} / {side}", ours / medians[side], "x", goals[side]) for side in goals if side in medians
            ]
    return figures


BENCHMARK = Figures(
    name="http",
    question=f"How fast is the front end? GET {_PATH} through three steps, {_CONNECTIONS} keep-alive connections, the "
    "server on one core and wrk on the other; medians of rounds in turn.",
    measure=_measure,
)
