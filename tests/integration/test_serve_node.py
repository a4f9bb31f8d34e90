"""``zerver serve`` with the reactor engine: a Node and its schedulers, as a process, with clients."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from load_kit import Load
from serve_kit import APP, PATIENCE, Process, Start, get, refused, rest, send, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.engines("reactor")

WHO = """
import contextlib, os
from pathlib import Path
from zerver import App, CtxView, Decision, Done

VERSION = "one"

def note(what: str) -> None:
    with open("notes", "a") as notes:
        notes.write(f"{what} {os.getpid()}\\n")

@contextlib.asynccontextmanager
async def lifespan(app):
    note("begin")
    yield
    note("end")

def who(ctx: CtxView) -> Decision:
    return Done.text(f"{VERSION} {os.getpid()}")

app = App(lifespan=lifespan)
app.get("/", who)
"""

QUIET = {"ZERVER_OBSERVABILITY__ACCESS_LOG": "false"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "who.py").write_text(WHO)
    return tmp_path


def serving(pid: int) -> set[int]:
    """The schedulers of a Node; its compute workers are niced."""
    own = os.getpriority(os.PRIO_PROCESS, pid)
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    with contextlib.suppress(ProcessLookupError):
        return {one for one in children if os.getpriority(os.PRIO_PROCESS, one) == own}
    return serving(pid)


def notes(folder: Path) -> list[tuple[str, int]]:
    found = [line.split() for line in (folder / "notes").read_text().splitlines()]
    return [(what, int(pid)) for what, pid in found]


def served_by(port: int) -> tuple[str, int]:
    version, pid = get(port)[1].split()
    return version, int(pid)


# Processes


def test_the_node_imports_nothing_of_the_application_nor_what_that_is_made_of(folder: Path) -> None:
    (folder / "main.py").write_text(
        "import os, signal, sys\n"
        "from zerver.server import node_boot\n"
        "announce = node_boot.announce\n"
        "def stop(*given):\n    announce(*given)\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "node_boot.announce = stop\n"
        "from zerver.cli import main\n"
        "sys.argv = ['zerver', 'serve', 'app:app', '--port', '0', '--schedulers', '1', '--engine', 'reactor']\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules)\n"
    )
    process = Process(folder, "main.py")
    assert process.ended() == 0, process.errors
    tops = {name.partition(".")[0] for name in process.output.split()}
    assert tops & {"app", "uvloop", "starlette", "uvicorn", "aiohttp", "anyio", "rich", "pydantic"} == set()
    assert {"zerver", "zerver_runtime"} <= tops


@pytest.mark.parametrize("flags", [("--schedulers", "3"), ()])
def test_each_scheduler_answers_and_has_a_lifespan_of_its_own(
    folder: Path, zerver: Start, flags: tuple[str, ...]
) -> None:
    server = zerver("serve", "who:app", "--port", "0", *flags)
    port = server.port()
    count = 3 if flags else 2  # what the fixture sets in the environment
    wait_for(lambda: (folder / "notes").exists() and len(notes(folder)) == count)
    schedulers = serving(server.child.pid)
    wait_for(lambda: {served_by(port)[1] for _ in range(20)} == schedulers)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert sorted(notes(folder)) == sorted((what, pid) for what in ("begin", "end") for pid in schedulers)


@pytest.mark.engines("blocking")
def test_the_blocking_engine_says_that_it_has_no_schedulers(zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", "--schedulers", "3")
    server.read_until("--schedulers 3: the blocking engine serves in one process")
    server.port()
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


def test_schedulers_below_1_are_refused(zerver: Start) -> None:
    server = zerver("serve", "app:app", "--schedulers", "0")
    assert server.ended() == 1
    assert server.errors.startswith("zerver: command-line flag: schedulers.performance = 0: must be a whole number")


def test_a_second_server_on_the_port_is_refused(zerver: Start) -> None:
    first = zerver("serve", "app:app", "--port", "0")
    port = first.port()
    second = zerver("serve", "app:app", "--port", str(port))
    assert second.ended() == 1
    assert second.errors == (
        f"zerver: port {port} of 127.0.0.1 is in use; stop the program that listens there, or give another port\n"
    )
    assert get(port) == (200, "hello")
    first.signal(signal.SIGTERM)
    assert first.ended() == 0


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 / 0\n", "module 'broken' failed when it was imported:\n"),
        ("import missing_thing\n", "module 'broken' failed when it was imported:\n"),
        ("app = 3\n", "broken is a int, not a zerver.App; there is no App in 'broken'\n"),
        ("import sys\nsys.exit('no')\n", "module 'broken' failed when it was imported:\n"),
    ],
)
def test_what_is_wrong_with_an_app_is_said_once_and_tried_once(
    folder: Path, zerver: Start, source: str, told: str
) -> None:
    (folder / "broken.py").write_text("with open('tries', 'a') as tries: tries.write('x')\n" + source)
    server = zerver("serve", "broken", "--port", "0")
    assert server.ended() == 1
    assert server.errors.startswith(f"zerver: {told}")
    assert server.errors.count("broken") <= 3
    assert server.errors.count("zerver: ") == 1
    assert 1 <= len((folder / "tries").read_text()) <= 2  # once in each scheduler, at most


def test_a_warning_of_an_app_is_said_once(folder: Path, zerver: Start) -> None:
    (folder / "unread.py").write_text(
        "from typing import Never\nfrom zerver import App, CtxView, Decision, Done, Slot\n"
        "class Name(Slot[str]): ...\n"
        "def show(ctx: CtxView[Never, Name]) -> Decision:\n    ctx.put(Name, 'x')\n    return Done.text('x')\n"
        "app = App()\napp.get('/', show)\n"
    )
    server = zerver("serve", "unread", "--port", "0", "--schedulers", "2")
    server.read_until("WARNING zerver: .* writes slot Name, which no step reads")
    wait_for(lambda: len(serving(server.child.pid)) == 2)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert "which no step reads" not in server.errors


def test_a_configuration_that_is_wrong_at_a_reload_is_said_and_the_old_one_serves_on(
    folder: Path, zerver: Start
) -> None:
    server = zerver("serve", "who:app", "--port", "0")
    port = server.port()
    (folder / "config.json").write_text('{"server": {"prot": 1}}')
    server.signal(signal.SIGHUP)
    server.read_until(r'zerver: config\.json: server\.prot = 1: unknown key, did you mean "port"')
    server.read_until("the reload failed: the old schedulers go on serving")
    assert served_by(port)[0] == "one"
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


# Reload


def test_a_reload_brings_the_new_version_and_ends_the_old_one(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "who:app", "--port", "0", env=QUIET)
    port = server.port()
    wait_for(lambda: len(notes(folder)) == 2)
    old = serving(server.child.pid)
    (folder / "who.py").write_text(WHO.replace('"one"', '"two"'))
    server.signal(signal.SIGHUP)
    server.read_until(rf"reloaded; listening on http://127\.0\.0\.1:{port}\n")
    wait_for(lambda: not serving(server.child.pid) & old)
    assert {served_by(port)[0] for _ in range(10)} == {"two"}
    assert {pid for what, pid in notes(folder) if what == "end"} == old
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


def test_a_reload_that_fails_leaves_the_old_version_serving_and_says_why_once(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "who:app", "--port", "0", env=QUIET)
    port = server.port()
    wait_for(lambda: len(notes(folder)) == 2)  # or the second scheduler meets the change at its start
    (folder / "who.py").write_text("x = (\n")
    server.signal(signal.SIGHUP)
    said = server.read_until(r"(?s)^.*the reload failed: the old schedulers go on serving")[0]
    assert said.count("SyntaxError: '(' was never closed") == 1
    assert {served_by(port)[0] for _ in range(10)} == {"one"}
    (folder / "who.py").write_text(WHO.replace('"one"', '"three"'))
    server.signal(signal.SIGHUP)
    server.read_until("reloaded")
    wait_for(lambda: {served_by(port)[0] for _ in range(10)} == {"three"})
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


def test_dev_shows_an_error_and_serves_on_with_what_there_was(folder: Path, zerver: Start) -> None:
    server = zerver("dev", "who:app", "--port", "0", env=QUIET)
    port = server.port()
    (folder / "who.py").write_text("x = (\n")
    server.read_until(r"who\.py changed; reloading")
    said = server.read_until(r"(?s)^.*the old schedulers go on serving")[0]
    assert "\\n" not in said  # lines to read, each of them a record
    assert re.search(r"WARNING zerver:     x = \($", said, re.M)
    assert re.search(r"WARNING zerver: SyntaxError: '\(' was never closed$", said, re.M)
    assert served_by(port)[0] == "one"
    (folder / "who.py").write_text(WHO.replace('"one"', '"two"'))
    server.read_until("reloaded; listening on")
    wait_for(lambda: served_by(port)[0] == "two")
    server.signal(signal.SIGINT)
    assert server.ended() == 0


# Nothing is lost


def test_ten_reloads_under_load_lose_no_request_and_leave_nothing(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "who:app", "--port", "0", env=QUIET)
    node = server.child.pid
    load = Load(server.port())
    try:
        wait_for(lambda: len(notes(folder)) == 2)
        open_before = len(os.listdir(f"/proc/{node}/fd"))
        for _ in range(10):
            load.until_answered(200)
            server.signal(signal.SIGHUP)
            server.read_until("reloaded")
        load.until_answered(200)
        wait_for(lambda: len(serving(node)) == 2)
        wait_for(lambda: len(os.listdir(f"/proc/{node}/fd")) == open_before)
    finally:
        load.stop()
    assert load.lost == []
    assert load.refused == 0
    assert set(load.statuses) <= {200, 503}
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


@pytest.mark.timeout(90)
def test_ten_stops_under_load_lose_no_request(zerver: Start) -> None:
    for _ in range(10):
        server = zerver("serve", "app:app", "--port", "0", env=QUIET)
        load = Load(server.port())
        try:
            load.until_answered(200)
            server.signal(signal.SIGTERM)
            assert server.ended() == 0
        finally:
            load.stop()
        assert load.lost == []
        assert set(load.statuses) <= {200, 503}
        assert server.errors == ""


def test_a_stop_under_load_of_a_unix_socket_loses_no_request(folder: Path, zerver: Start) -> None:
    path = folder / "s"
    server = zerver("serve", "app:app", "--uds", str(path), env=QUIET)
    assert server.listening() == f"unix:{path}"
    load = Load(str(path))
    try:
        load.until_answered(200)
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
    finally:
        load.stop()
    assert load.lost == []
    assert not path.exists()


def test_a_killed_scheduler_costs_the_requests_on_it_and_its_place_is_taken_at_once(
    folder: Path, zerver: Start
) -> None:
    server = zerver("serve", "who:app", "--port", "0", env=QUIET)
    port = server.port()
    wait_for(lambda: len(notes(folder)) == 2)
    first = serving(server.child.pid)
    load = Load(port)
    try:
        load.until_answered(500)
        victim = min(first)
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        load.until_answered(200)  # by the other one, meanwhile
        server.read_until(rf"performance scheduler \d\.1 \(pid {victim}\) died: signal 9")
        wait_for(lambda: any(what == "begin" and pid not in first for what, pid in notes(folder)))
        replaced = time.monotonic() - killed
        (heir,) = serving(server.child.pid) - first
        wait_for(lambda: served_by(port)[1] == heir)
    finally:
        load.stop()
    assert len(load.lost) <= 64
    assert load.refused == 0
    assert replaced < 0.5
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


# Health


def test_health_is_answered_where_that_is_asked_for_and_the_app_has_no_such_route(folder: Path, zerver: Start) -> None:
    (folder / "own.py").write_text(APP + 'app.get("/readyz", hello)\n')
    env = {"ZERVER_OBSERVABILITY__HEALTH": "true"}
    port = zerver("serve", "own", "--port", "0", env=env).port()
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz") == (200, "hello")
    assert get(zerver("serve", "app", "--port", "0", env=env).port(), "/readyz") == (200, "ok\n")
    assert get(zerver("serve", "app", "--port", "0").port(), "/healthz")[0] == 404


def test_a_server_that_stops_is_not_ready_and_still_alive(folder: Path, zerver: Start) -> None:
    env = {"ZERVER_OBSERVABILITY__HEALTH": "true", "ZERVER_SERVER__GRACE": "60"}
    server = zerver("serve", "app:app", "--port", "0", "--schedulers", "1", env=env)
    port = server.port()
    probes = [send(port, b"GET /" + part) for part in (b"healthz", b"readyz")]
    busy = send(port, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for((folder / "waiting").exists)
    server.signal(signal.SIGTERM)
    wait_for(lambda: refused(port))
    for probe in probes:
        probe.sendall(b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [rest(probe)[9:12] for probe in probes] == [b"200", b"503"]
    (folder / "go").touch()
    assert rest(busy).endswith(b"at last")
    assert server.ended() == 0


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem, key.pem, and other.pem: a key of something else."""
    made = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=made, check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["openssl", "genrsa", "-out", "other.pem", "2048"], cwd=made, check=True, capture_output=True)
    return made


@pytest.mark.engines("reactor", "blocking")
def test_tls_by_certificate_and_key(folder: Path, zerver: Start, certificate: Path) -> None:
    env = {"ZERVER_SERVER__TLS_CERT": f"{certificate}/cert.pem", "ZERVER_SERVER__TLS_KEY": f"{certificate}/key.pem"}
    server = zerver("serve", "app:app", "--port", "0", env=env)
    address = server.listening()
    assert address.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=certificate / "cert.pem")
    with (
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\nhello")
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


@pytest.mark.parametrize(
    ("cert", "key", "told"),
    [
        ("none.pem", "key.pem", "server.tls_cert {}/none.pem: No such file or directory"),
        ("cert.pem", "none.pem", "server.tls_key {}/none.pem: No such file or directory"),
        ("cert.pem", "other.pem", "server.tls_key {}/other.pem is not the key of {}/cert.pem"),
        (None, "key.pem", "server.tls_key is given without server.tls_cert; give the certificate, too"),
        ("key.pem", "key.pem", "TLS with {}/key.pem and {}/key.pem: "),
    ],
)
def test_tls_files_that_cannot_be_used_are_said_at_the_start(
    zerver: Start, certificate: Path, cert: str | None, key: str, told: str
) -> None:
    env = {"ZERVER_SERVER__TLS_KEY": f"{certificate}/{key}"}
    if cert is not None:
        env["ZERVER_SERVER__TLS_CERT"] = f"{certificate}/{cert}"
    server = zerver("serve", "app:app", "--port", "0", env=env)
    assert server.ended() == 1
    assert server.errors.startswith("zerver: " + told.replace("{}", str(certificate)))
    assert server.errors.count("\n") == 1


# Who the client is


def test_the_word_of_a_trusted_proxy_says_who_the_client_is(folder: Path, zerver: Start) -> None:
    (folder / "peer.py").write_text(
        "from zerver import App, CtxView, Decision, Done\n"
        "def show(ctx: CtxView) -> Decision: return Done.text(ctx.client_ip)\n"
        "app = App()\napp.get('/', show)\n"
    )
    env = {"ZERVER_SERVER__TRUSTED_PROXIES": '["127.0.0.0/8"]'}
    port = zerver("serve", "peer", "--port", "0", env=env).port()
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 8.8.8.8\r\nConnection: close\r\n\r\n"
    assert rest(send(port, request)).endswith(b"\r\n\r\n8.8.8.8")


# WebSockets

CHAT = """
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from app import app

async def echo(socket):
    await socket.accept()
    try:
        while True:
            await socket.send_text(f"{socket.url.path} {socket.client.host} {await socket.receive_text()}")
    except WebSocketDisconnect as gone:
        with open("gone", "a") as file:
            file.write(f"{gone.code} ")

app.mount("/chat", Starlette(routes=[WebSocketRoute("/{room}", echo)]))
"""


UPGRADE = (
    b"GET /chat/a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.engines("reactor", "blocking")
def test_a_mounted_app_has_websockets(folder: Path, zerver: Start) -> None:
    (folder / "chat.py").write_text(CHAT)
    server = zerver("serve", "chat", "--port", "0")
    port = server.port()
    with connect(f"ws://127.0.0.1:{port}/chat/a?x=1") as client:
        for text in ("one", "ü" * 70_000):
            client.send(text)
            assert client.recv(PATIENCE) == f"/chat/a 127.0.0.1 {text}"
    assert get(port) == (200, "hello")
    for path, status in (("/chat", 403), ("/chat/a/b", 403)):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{port}{path}")
        assert refused.value.response.status_code == status
    wait_for(lambda: (folder / "gone").read_text() == "1000 ")
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    logged = re.findall(r"method=GET target=/chat(\S*) status=(\d+) bytes=(\d+) ms=\S+ id=\w+", server.errors)
    sent = len("/chat/a 127.0.0.1 one") + len("/chat/a 127.0.0.1 ") + 140_000
    assert sorted(logged) == [("", "403", "0"), ("/a/b", "403", "0"), ("/a?x=1", "101", str(sent))]


def talks(port: int) -> bool:
    """Whether a chat goes on; where it does not, that is because its scheduler ends."""
    try:
        with connect(f"ws://127.0.0.1:{port}/chat/b") as client:
            client.send("again")
            assert client.recv(PATIENCE) == "/chat/b 127.0.0.1 again"
            return True
    except InvalidStatus as answer:
        if answer.response.status_code != 503:
            raise
    except ConnectionClosed as closed:
        if closed.rcvd is None or closed.rcvd.code != 1012:
            raise
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_websockets_are_closed_with_1012_when_their_scheduler_stops(
    folder: Path, zerver: Start, number: signal.Signals
) -> None:
    (folder / "chat.py").write_text(CHAT)
    server = zerver("serve", "chat", "--port", "0", env={"ZERVER_SERVER__GRACE": "1000"})
    port = server.port()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(f"ws://127.0.0.1:{port}/chat/a")) for _ in range(5)]
        server.signal(number)
        for client in clients:
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(PATIENCE)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    if number == signal.SIGHUP:
        server.read_until("reloaded")  # by one scheduler; the other old one is still there, for a moment
        wait_for(lambda: talks(port))
        server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert (folder / "gone").read_text().split().count("1012") == 5


def test_an_upgrade_that_comes_while_its_scheduler_stops_is_told_to_come_again(folder: Path, zerver: Start) -> None:
    (folder / "chat.py").write_text(CHAT)
    server = zerver("serve", "chat", "--port", "0", "--schedulers", "1")
    port = server.port()
    with send(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        assert client.recv(65536).endswith(b"hello")
        server.signal(signal.SIGTERM)
        wait_for(lambda: refused(port))
        client.sendall(UPGRADE)
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 503 "), answer
    assert b"\r\nretry-after: 1\r\n" in answer.lower()
    assert server.ended() == 0


def test_what_a_client_sends_behind_its_upgrade_is_not_lost(folder: Path, zerver: Start) -> None:
    (folder / "chat.py").write_text(CHAT)
    port = zerver("serve", "chat", "--port", "0").port()
    frame = b"\x81\x82" + bytes(4) + b"hi"  # text, masked with zeros
    with send(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + UPGRADE + frame) as client:
        received = b""
        while not received.endswith(b"/chat/a 127.0.0.1 hi"):
            chunk = client.recv(65536)
            assert chunk, received
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"helloHTTP/1.1 101 " in received


def test_without_a_mount_an_upgrade_is_a_request_like_any_other(zerver: Start) -> None:
    port = zerver("serve", "app", "--port", "0").port()
    for path, status in (("/nothing", 404), ("/", 200)):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{port}{path}")
        assert refused.value.response.status_code == status
