"""Metrics and the admin address of a server that runs by itself, as Prometheus and as somebody's browser see them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from node_kit import session
from prometheus_client.parser import text_string_to_metric_families
from serve_kit import PATIENCE, Process, Start, get, refused, rest, send, wait_for

APP = """
import os, time
from typing import Never
from zerver import App, CtxView, Decision, Done, Need, Slot, cache, timer
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

class Found(Slot[object]):
    pass

def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")

def who(ctx: CtxView) -> Decision:
    return Done.text(str(os.getpid()))

def look(ctx: CtxView[Never, Found]) -> Decision:
    return Need([cache.get("k", into=Found, timeout=10), timer.sleep(0.001)], then=looked)

def looked(ctx: CtxView[Found]) -> Decision:
    ctx.on_exit(lambda: None)
    return Done.text("looked")

def chunks(ctx: CtxView) -> Decision:
    return Done.stream(iter([b"a", b"b"]))

def boom(ctx: CtxView) -> Decision:
    raise ValueError("a bug")

def stuck(ctx: CtxView) -> Decision:
    time.sleep(60)
    return Done.text("at last")

app = App()
app.get("/hello/{name}", hello)
app.get("/who", who)
app.get("/look", look)
app.get("/chunks", chunks)
app.get("/boom", boom)
app.get("/stuck", stuck)
app.post("/take", hello)
app.mount("/old", Starlette(routes=[Route("/{rest:path}", lambda request: PlainTextResponse("old"))]))
"""

ADMIN = {"ZERVER_OBSERVABILITY__ADMIN": "127.0.0.1:0"}
UPS = {("0", "performance"), ("1", "performance"), ("2", "efficiency")}

pytestmark = pytest.mark.engines("reactor", "blocking")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


class Server:
    """A server with an admin address; it says that before it listens."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.admin = int(process.read_until(r"metrics at http://127\.0\.0\.1:(\d+)/metrics")[1])
        self.port = process.port()

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Names, and the values of labels in the order of the labels' names."""
        status, text = get(self.admin, "/metrics")
        assert status == 200
        return {
            (one.name, tuple(value for _, value in sorted(one.labels.items()))): one.value
            for family in text_string_to_metric_families(text)
            for one in family.samples
        }

    def requests(self, route: str, status: str = "2xx", method: str = "GET") -> float:
        return self.metrics().get(("zerver_requests_total", (method, route, status)), 0.0)

    def up(self) -> set[tuple[str, ...]]:
        """(slot, class) of the schedulers that answer."""
        ups = samples(self.metrics(), "zerver_scheduler_up")
        return {(slot, kind) for (kind, slot), up in ups.items() if up}

    def load(self, path: str, count: int) -> list[str]:
        """So many requests, four at a time and each on a connection of its own; what was answered."""
        answers: list[str] = []

        def client() -> None:
            for _ in range(count // 4):
                status, text = get(self.port, path)
                assert status == 200
                answers.append(text)

        clients = [threading.Thread(target=client) for _ in range(4)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        assert len(answers) == count // 4 * 4
        return answers


@pytest.fixture
def server(zerver: Start) -> Server:
    return Server(zerver("serve", "app:app", "--port", "0", env=ADMIN))


def samples(found: dict[tuple[str, tuple[str, ...]], float], name: str) -> dict[tuple[str, ...], float]:
    return {labels: value for (one, labels), value in found.items() if one == name}


def counters(found: dict[tuple[str, tuple[str, ...]], float]) -> dict[tuple[str, tuple[str, ...]], float]:
    grows = re.compile(r"_(total|bucket|count|sum)$")
    return {place: value for place, value in found.items() if grows.search(place[0])}


@contextmanager
def nothing_goes_down(server: Server) -> Iterator[None]:
    """As one sees who looks as often as there is an answer."""
    over = threading.Event()
    problems: list[str] = []

    def watch() -> None:
        before: dict[tuple[str, tuple[str, ...]], float] = {}
        while not over.is_set():
            now = counters(server.metrics())
            problems.extend(
                f"{place}: {value} -> {now.get(place)}"
                for place, value in before.items()
                if now.get(place, -1.0) < value
            )
            before = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert not problems


def test_each_request_is_counted_once_wherever_it_ended(server: Server) -> None:
    asked = {"/hello/a?b": 5, "/look": 3, "/chunks": 2, "/boom": 1, "/nowhere/at/all": 4, "/old/x": 2}
    for path, count in asked.items():
        for _ in range(count):
            get(server.port, path)
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.request("PURGE", "/hello/a")
        assert connection.getresponse().status == 405
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.putrequest("POST", "/take")
        connection.putheader("content-length", str(1 << 40))
        connection.endheaders()
        assert connection.getresponse().status == 413
    expected = {
        ("GET", "/hello/{name}", "2xx"): 5,
        ("GET", "/look", "2xx"): 3,
        ("GET", "/chunks", "2xx"): 2,
        ("GET", "/boom", "5xx"): 1,
        ("GET", "(none)", "4xx"): 4,
        ("other", "(none)", "4xx"): 1,
        ("POST", "/take", "4xx"): 1,
        ("GET", "/old/*", "2xx"): 2,
    }

    def counted() -> dict[tuple[str, ...], float]:
        found = samples(server.metrics(), "zerver_requests_total")
        return {labels: count for labels, count in found.items() if count}

    # An exchange is closed just after its last byte, and a busy machine may not let a scheduler answer in time.
    wait_for(lambda: counted() == expected)
    found = server.metrics()
    durations = samples(found, "zerver_request_duration_seconds_count")
    assert durations["GET", "/look"] == 3
    assert samples(found, "zerver_request_duration_seconds_sum")["GET", "/look"] >= 3 * 0.001
    effects = samples(found, "zerver_effects_total")
    assert (effects["success", "cache"], effects["success", "timer"]) == (3, 3)
    assert samples(found, "zerver_breakers")["closed", "cache"] >= 1


def test_a_trace_that_cannot_be_written_is_counted_as_dropped(zerver: Start) -> None:
    server = Server(
        zerver("serve", "app:app", "--port", "0", env={**ADMIN, "ZERVER_TRACE__STORE": "sqlite:////proc/none/t.db"})
    )
    assert get(server.port, "/boom")[0] == 500
    wait_for(lambda: samples(server.metrics(), "zerver_traces_dropped_total")[()] == 1)
    assert samples(server.metrics(), "zerver_traces_kept_total")[("error",)] == 1


@pytest.mark.engines("reactor")
def test_what_was_answered_by_all_schedulers_is_counted_whichever_of_them_dies(server: Server) -> None:
    wait_for(lambda: server.up() == UPS)
    pids = set(server.load("/who", 80))
    assert len(pids) == 2
    wait_for(lambda: server.requests("/who") == 80)
    with nothing_goes_down(server):
        os.kill(int(min(pids)), signal.SIGKILL)
        wait_for(
            lambda: (
                samples(server.metrics(), "zerver_scheduler_starts_total").get(("performance", "0"), 0)
                + samples(server.metrics(), "zerver_scheduler_starts_total").get(("performance", "1"), 0)
                == 3
            )
        )
        wait_for(lambda: server.requests("/who") == 80)
        server.load("/who", 40)
        wait_for(lambda: server.requests("/who") == 120)
        wait_for(lambda: server.up() == UPS)


@pytest.mark.engines("reactor")
def test_nothing_counted_is_lost_in_a_reload(server: Server) -> None:
    wait_for(lambda: server.up() == UPS)
    server.load("/look", 40)
    with nothing_goes_down(server):
        server.process.signal(signal.SIGHUP)
        server.process.read_until("reloaded")
        server.load("/look", 40)
        wait_for(lambda: sum(samples(server.metrics(), "zerver_scheduler_starts_total").values()) == 6)
        wait_for(lambda: server.requests("/look") == 80)
        found = samples(server.metrics(), "zerver_effects_total")
        assert found["success", "cache"] == 80


@pytest.mark.engines("reactor")
def test_what_old_schedulers_answer_until_their_end_is_counted(server: Server) -> None:
    wait_for(lambda: server.up() == UPS)
    answered: list[str] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            answered.extend(server.load("/who", 40))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        server.process.signal(signal.SIGHUP)
        server.process.read_until("reloaded")
        wait_for(lambda: len(set(answered)) == 4)  # and nobody has looked meanwhile
    finally:
        over.set()
        loading.join()
    wait_for(lambda: sum(samples(server.metrics(), "zerver_scheduler_starts_total").values()) == 6)
    wait_for(lambda: server.requests("/who") == len(answered))


@pytest.mark.engines("reactor")
def test_nothing_counted_is_lost_with_the_process_that_adds_it_up(server: Server) -> None:
    wait_for(lambda: server.up() == UPS)
    pids = set(server.load("/who", 40))
    wait_for(lambda: server.requests("/who") == 40)
    os.kill(int(min(pids)), signal.SIGKILL)
    wait_for(lambda: sum(samples(server.metrics(), "zerver_scheduler_starts_total").values()) == 4)
    wait_for(lambda: server.up() == UPS)
    before = counters(server.metrics())
    assert before["zerver_requests_total", ("GET", "/who", "2xx")] == 40
    known = {*pids, str(server.process.child.pid)}
    (collector,) = [pid for pid in session(server.process.child.pid) if is_collector(pid, server.admin, known)]
    os.kill(collector, signal.SIGKILL)
    wait_for(lambda: sum(samples(server.metrics(), "zerver_scheduler_starts_total").values()) == 5)
    wait_for(lambda: server.up() == UPS)
    after = counters(server.metrics())
    assert {place: (value, after.get(place)) for place, value in before.items() if after.get(place, -1.0) < value} == {}
    assert after["zerver_requests_total", ("GET", "/who", "2xx")] == 40


def is_collector(pid: int, port: int, others: set[str]) -> bool:
    """Whether this process holds connections of the admin address: only who accepts them does."""
    return str(pid) not in others and os.getpriority(os.PRIO_PROCESS, pid) > 0 and accepts(pid, port)


def accepts(pid: int, port: int) -> bool:
    epolls = [one for one in Path(f"/proc/{pid}/fdinfo").iterdir() if "tfd:" in one.read_text()]
    sockets = {one.name for one in Path(f"/proc/{pid}/fd").iterdir() if listens(one, port)}
    watched = {number for one in epolls for number in re.findall(r"tfd:\s+(\d+)", one.read_text())}
    return bool(sockets & watched)


def listens(descriptor: Path, port: int) -> bool:
    try:
        inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
    except FileNotFoundError:  # the process has closed it meanwhile
        return False
    if inode is None:
        return False
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[9] == inode[1] and int(row[1].partition(":")[2], 16) == port and row[3] == "0A" for row in rows)


@pytest.mark.engines("reactor")
def test_a_scheduler_that_does_not_answer_is_told_of_and_its_counts_stay(zerver: Start) -> None:
    inline = {"ZERVER_REACTOR__CONTINUATION_POOL__MODE": "inline", "ZERVER_SERVER__GRACE": "0"}
    server = Server(zerver("serve", "app:app", "--port", "0", env={**ADMIN, **inline}))
    wait_for(lambda: server.up() == UPS)
    server.load("/who", 40)
    wait_for(lambda: server.requests("/who") == 40)
    with send(server.port, b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n"):
        wait_for(lambda: len(server.up()) == 2)
        wait_for(lambda: server.requests("/who") == 40)
        server.process.kill()


def test_no_page_of_somebody_elses_reads_the_admin_address_by_way_of_a_browser(server: Server) -> None:
    for host, status in (("localhost", 200), (f"127.0.0.1:{server.admin}", 200), ("evil.example", 403)):
        asked = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        answer = rest(send(server.admin, asked)).decode()
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert ("zerver_requests_total" in answer) is (status == 200)
        assert "access-control" not in answer.lower()


def test_the_admin_address_serves_nothing_of_the_app_and_the_app_nothing_of_it(server: Server) -> None:
    assert get(server.admin, "/hello/a")[0] == 404
    assert get(server.port, "/metrics")[0] == 404


def test_the_admin_address_ends_with_the_server(server: Server) -> None:
    wait_for(lambda: server.requests("/who") == 0)
    with closing(http.client.HTTPConnection("127.0.0.1", server.admin, timeout=PATIENCE)) as idle:
        idle.request("GET", "/metrics")
        idle.getresponse().read()
        server.process.signal(signal.SIGTERM)
        assert server.process.ended() == 0
    assert refused(server.admin)
    assert "ERROR" not in server.process.errors


@pytest.mark.parametrize("taken", [False, True])
def test_under_zerver_dev_it_is_there_by_itself_and_stays_through_changes(
    zerver: Start, folder: Path, taken: bool
) -> None:
    with closing(socket.socket()) as other:
        held = False
        if taken:
            with suppress(OSError):  # somebody else has it, who may give it back at any time
                other.bind(("127.0.0.1", 9180))
                other.listen()
                held = True
        server = Server(zerver("dev", "app:app", "--port", "0"))
        assert not held or server.admin != 9180
        wait_for(lambda: server.requests("/who") == 0)
        (folder / "app.py").write_text(APP.replace('"/who"', '"/whoever"'))
        server.process.read_until("listening on")
        wait_for(lambda: ("zerver_requests_total", ("GET", "/whoever", "2xx")) in server.metrics())


def test_without_being_asked_for_there_is_no_admin_address(zerver: Start) -> None:
    process = zerver("serve", "app:app", "--port", "0")
    port = process.port()
    assert get(port, "/hello/a")[0] == 200
    process.signal(signal.SIGTERM)
    assert process.ended() == 0
    assert "metrics" not in process.errors


def test_an_address_that_others_can_reach_is_warned_about(zerver: Start) -> None:
    process = zerver("serve", "app:app", "--port", "0", env={"ZERVER_OBSERVABILITY__ADMIN": "0.0.0.0:0"})
    admin = int(process.read_until(r"metrics at http://0\.0\.0\.0:(\d+)/metrics")[1])
    process.read_until("WARNING zerver: the admin address .* can be reached from other machines")
    process.port()
    asked = b"GET /metrics HTTP/1.1\r\nHost: 10.1.2.3\r\nConnection: close\r\n\r\n"
    wait_for(lambda: rest(send(admin, asked)).startswith(b"HTTP/1.1 200 "))


def test_an_admin_address_that_is_taken_is_an_error_before_anything_starts(server: Server, zerver: Start) -> None:
    process = zerver(
        "serve", "app:app", "--port", "0", env={"ZERVER_OBSERVABILITY__ADMIN": f"127.0.0.1:{server.admin}"}
    )
    assert process.ended() == 1
    assert f"observability.admin: port {server.admin} of 127.0.0.1 is in use" in process.errors
