"""The server as a process: real signals, sockets and files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from asgi_kit import ENGINES
from serve_kit import APP, PATIENCE, Process, Start, get, refused, rest, send, wait_for

from zerver import App, AppError, CtxView, Decision, Done
from zerver.config import Config, ConfigError, ReactorConfig, ServerConfig, load
from zerver.server.boot import Server

# A test that starts a server runs on each engine; in the reactor engine that is a Node with two schedulers.
pytestmark = pytest.mark.engines("reactor", "blocking")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


# Where it listens


def test_serve_says_where_it_listens_and_serves_there(zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0")
    address = server.listening()
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", address)
    assert get(int(address.rpartition(":")[2])) == (200, "hello")
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


def test_an_answer_does_not_name_the_server(zerver: Start) -> None:
    port = zerver("serve", "app:app", "--port", "0").port()
    head = rest(send(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).lower()
    assert b"\r\ndate: " in head
    assert b"server:" not in head


def test_the_client_is_the_peer_whatever_its_headers_say(folder: Path, zerver: Start) -> None:
    (folder / "peer.py").write_text(
        "from zerver import App, CtxView, Decision, Done\n"
        "def show(ctx: CtxView) -> Decision: return Done.text(ctx.client_ip)\n"
        "app = App()\napp.get('/', show)\n"
    )
    port = zerver("serve", "peer", "--port", "0", env={"FORWARDED_ALLOW_IPS": "*"}).port()
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 8.8.8.8\r\nConnection: close\r\n\r\n"
    assert rest(send(port, request)).endswith(b"\r\n\r\n127.0.0.1")


def test_serve_on_a_unix_socket_replaces_a_stale_file_and_removes_its_own(folder: Path, zerver: Start) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    server = zerver("serve", "app:app", "--uds", str(path))
    assert server.listening() == f"unix:{path}"
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert rest(client).endswith(b"\r\n\r\nhello")
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert not path.exists()


def test_a_unix_socket_in_use_is_refused_and_stays(folder: Path, zerver: Start) -> None:
    first = zerver("serve", "app:app", "--uds", "s")
    first.listening()
    second = zerver("serve", "app:app", "--uds", "s")
    assert second.ended() == 1
    assert second.errors == (
        "zerver: unix socket s: it is in use; stop the program that listens there, or give another path\n"
    )
    first.signal(signal.SIGTERM)
    assert first.ended() == 0


def test_settings_come_from_the_file_then_the_environment_then_flags(folder: Path, zerver: Start) -> None:
    (folder / "config.json").write_text('{"server": {"port": 1, "host": "127.0.0.3"}}')
    server = zerver("serve", "app:app", "--port", "0", env={"ZERVER_SERVER__HOST": "127.0.0.2"})
    assert server.listening().startswith("http://127.0.0.2:")


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_at_the_signal_gets_its_answer(folder: Path, zerver: Start, number: int) -> None:
    server = zerver("serve", "app:app", "--port", "0")
    port = server.port()
    client = send(port, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for((folder / "waiting").exists)
    server.signal(number)
    wait_for(lambda: refused(port))
    (folder / "go").touch()
    answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert answer.endswith(b"\r\n\r\nat last")
    assert server.ended() == 0
    assert "Traceback" not in server.errors


def test_idle_connections_do_not_delay_the_stop(zerver: Start) -> None:
    settings = {"ZERVER_SERVER__GRACE": "1000", "ZERVER_LIMITS__HEAD_TIMEOUT": "0.5"}
    server = zerver("serve", "app:app", "--port", "0", env=settings)
    port = server.port()
    used = send(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert used.recv(65536).startswith(b"HTTP/1.1 200")
    silent = send(port, b"")
    half = send(port, b"GET / HTTP/1.1\r\nHos")
    get(port)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0  # long before the grace is over
    for client in (used, silent):
        assert rest(client)[-10:] in (b"", b"hello")
    assert rest(half)[:13] in (b"", b"HTTP/1.1 408 ")


def test_after_the_grace_requests_are_cancelled_and_the_exit_code_is_0(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", env={"ZERVER_SERVER__GRACE": "0.2"})
    client = send(server.port(), b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for((folder / "waiting").exists)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"the server stops" in answer
    assert b"Traceback" not in answer


@pytest.mark.engines("blocking")
def test_sighup_ends_no_server_that_cannot_reload_and_the_log_says_why(zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0")
    port = server.port()
    server.signal(signal.SIGHUP)
    server.read_until("SIGHUP: the blocking engine .* cannot reload; stop it, and start it again\n")
    assert get(port) == (200, "hello")
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


def test_a_second_sigint_ends_the_process_at_once(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", env={"ZERVER_SERVER__GRACE": "1000"})
    port = server.port()
    client = send(port, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for((folder / "waiting").exists)
    server.signal(signal.SIGINT)
    wait_for(lambda: refused(port))
    server.signal(signal.SIGINT)
    assert server.ended() == -signal.SIGINT
    client.close()


def test_a_signal_during_the_start_ends_it_and_the_lifespan(folder: Path, zerver: Start) -> None:
    (folder / "slow.py").write_text(
        "import asyncio, contextlib\nfrom pathlib import Path\nfrom zerver import App\n"
        "@contextlib.asynccontextmanager\nasync def lifespan(app):\n"
        "    try:\n        Path('begun').touch()\n        await asyncio.sleep(1000)\n        yield\n"
        "    finally:\n        Path('undone').touch()\n"
        "app = App(lifespan=lifespan)\n"
    )
    server = zerver("serve", "slow", "--port", "0")
    wait_for((folder / "begun").exists)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert (folder / "undone").exists()
    assert server.errors == ""


# Failures at the start


def test_a_port_in_use_is_one_message_and_exit_code_1(zerver: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = zerver("serve", "app:app", "--port", str(port))
        assert server.ended() == 1
    assert server.errors == (
        f"zerver: port {port} of 127.0.0.1 is in use; stop the program that listens there, or give another port\n"
    )


def test_an_app_with_errors_is_refused_with_one_message(folder: Path, zerver: Start) -> None:
    (folder / "wrong.py").write_text(APP + 'app.get("/", hello)\n')
    server = zerver("serve", "wrong", "--port", "0")
    assert server.ended() == 1
    assert server.errors.startswith("zerver: the app cannot start:\n  - GET / ")
    assert server.errors.count("the app cannot start") == 1
    assert "Traceback" not in server.errors


LIFESPAN = (
    "import contextlib\nfrom zerver import App\n"
    "@contextlib.asynccontextmanager\nasync def lifespan(app):\n{}\napp = App(lifespan=lifespan)\n"
)


def test_a_lifespan_that_fails_at_the_start_is_one_message_that_names_the_line(folder: Path, zerver: Start) -> None:
    (folder / "late.py").write_text(LIFESPAN.format("    {}['the url']\n    yield"))
    server = zerver("serve", "late", "--port", "0")
    assert server.ended() == 1
    assert server.errors == f"zerver: the app's startup failed: KeyError: 'the url' ({folder}/late.py:5)\n"


def test_the_traceback_of_a_failed_lifespan_is_in_the_log_at_debug(folder: Path, zerver: Start) -> None:
    (folder / "late.py").write_text(LIFESPAN.format("    {}['the url']\n    yield"))
    server = zerver("serve", "late", "--port", "0", env={"ZERVER_SERVER__LOG_LEVEL": "debug"})
    assert server.ended() == 1
    assert "DEBUG zerver: the app's startup failed\n    Traceback (most recent call last):\n" in server.errors
    assert server.errors.endswith(f"zerver: the app's startup failed: KeyError: 'the url' ({folder}/late.py:5)\n")


def test_a_lifespan_that_fails_at_the_stop_is_one_message_and_exit_code_1(folder: Path, zerver: Start) -> None:
    (folder / "late.py").write_text(LIFESPAN.format("    yield\n    raise RuntimeError('the pool is stuck')"))
    server = zerver("serve", "late", "--port", "0")
    server.listening()
    server.signal(signal.SIGTERM)
    assert server.ended() == 1
    assert server.errors == f"zerver: the app's shutdown failed: RuntimeError: the pool is stuck ({folder}/late.py:6)\n"


def test_a_mounted_app_that_fails_at_the_start_is_named_by_its_path(folder: Path, zerver: Start) -> None:
    (folder / "late.py").write_text(
        "from zerver import App\napp = App()\n"
        "async def other(scope, receive, send):\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no disk'})\n"
        "app.mount('/other', other)\n"
    )
    server = zerver("serve", "late", "--port", "0")
    assert server.ended() == 1
    assert server.errors.startswith(
        "zerver: the app's startup failed: mount /other: its lifespan failed at start: no disk"
    )


# The log


def test_what_a_client_sends_never_reaches_the_log_raw(zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0")
    port = server.port()
    targets = [
        b"/%0d%0a%1b[31m?%0d%0a%1b[31m", b"/a\x1b[31m", b"/?\x1b", b"/\xc2\x9b", b"/?\xff", b"/%c2%9b%e2%80%ae",
        b"/boom?why=%0d%0a2026-01-01%2000:00:00%20INFO%20zerver:%20forged%1b[31m",
    ]  # fmt: skip
    for target in targets:
        rest(send(port, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    line = "method=GET target=/%0d%0a%1b[31m?%0d%0a%1b[31m status=404"
    assert line in server.errors
    assert r"ValueError: " in server.errors
    lines = server.errors.splitlines()
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if not re.match(r"    |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ [\w.]+: ", line)]
    assert not [line for line in lines if line.endswith("INFO zerver: forged") and not line.startswith("    ")]


def test_each_request_is_one_line_of_log_and_the_server_another(zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0")
    assert get(server.port())[0] == 200
    server.signal(signal.SIGTERM)
    server.ended()
    (line,) = server.errors.splitlines()
    told = r"zerver\.access: client=127\.0\.0\.1 method=GET target=/ status=200 bytes=5 ms=[\d.]+ id=[0-9a-f]+"
    assert re.fullmatch(rf"\S+ \S+ INFO {told}", line)
    assert server.output == ""


def test_the_access_log_can_be_turned_off(zerver: Start) -> None:
    server = zerver("serve", "app:app", "--port", "0", env={"ZERVER_OBSERVABILITY__ACCESS_LOG": "false"})
    assert get(server.port())[0] == 200
    server.signal(signal.SIGTERM)
    server.ended()
    assert server.errors == ""


def test_the_log_level_is_the_configured_one(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "app:app", "--uds", "s", env={"ZERVER_SERVER__LOG_LEVEL": "error"})
    wait_for((folder / "s").exists)
    server.signal(signal.SIGTERM)
    server.ended()
    assert server.errors == ""


# zerver dev


def test_dev_follows_a_change_and_keeps_its_port(folder: Path, zerver: Start, engine: str) -> None:
    server = zerver("dev", "app:app", "--port", "0")
    port = server.port()
    assert get(port) == (200, "hello")
    (folder / "app.py").write_text(APP.replace('"hello"', '"changed"'))
    server.read_until(r"app\.py changed; " + {"reactor": "reloading", "blocking": "starting again"}[engine])
    if engine == "blocking":
        assert get(port) == (200, "changed")  # waits for the app where that is not ready
    assert server.port() == port
    wait_for(lambda: get(port) == (200, "changed"))  # an old scheduler may have taken in another connection
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


def test_dev_waits_for_a_change_when_the_app_does_not_start(folder: Path, zerver: Start) -> None:
    (folder / "app.py").write_text("x = (\n")
    server = zerver("dev", "app:app", "--port", "0")
    server.read_until(r"SyntaxError: '\(' was never closed")
    server.read_until(r"the app has ended \(exit code 1\); waiting for a change")
    (folder / "app.py").write_text(APP)
    assert get(server.port()) == (200, "hello")
    server.signal(signal.SIGINT)
    assert server.ended() == 0


def test_dev_follows_the_configuration_to_another_address(folder: Path, zerver: Start) -> None:
    (folder / "config.json").write_text('{"server": {"uds": "first"}}')
    server = zerver("dev", "app:app")
    assert server.listening() == "unix:first"
    (folder / "config.json").write_text('{"server": {"uds": "second"}}')
    assert server.listening() == "unix:second"
    assert not (folder / "first").exists()
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert not (folder / "second").exists()


@pytest.mark.parametrize(("env", "shown"), [({}, True), ({"ZERVER_DEBUG": "0"}, False)])
def test_dev_shows_tracebacks_to_clients_unless_told_otherwise(zerver: Start, env: dict[str, str], shown: bool) -> None:
    server = zerver("dev", "app:app", "--port", "0", env=env)
    status, body = get(server.port(), "/boom?why=because")
    assert status == 500
    assert ("because" in body) is shown
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


def test_dev_leaves_no_process_behind(folder: Path, zerver: Start) -> None:
    (folder / "app.py").write_text(f"import os\nopen('pid', 'w').write(str(os.getpid()))\n{APP}")
    server = zerver("dev", "app:app", "--port", "0")
    server.listening()
    child = int((folder / "pid").read_text())
    assert child != server.child.pid
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


# zerver new


def test_a_new_project_runs_and_its_test_passes(folder: Path, start: Start, zerver: Start) -> None:
    assert zerver("new", "shop").ended() == 0
    tested = Process(folder / "shop", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    try:
        assert tested.ended() == 0, tested.output
    finally:
        tested.kill()
    assert "1 passed" in tested.output
    config = json.loads((folder / "shop" / "config.json").read_text())
    assert load(config, {}) == Config()
    server = Process(folder / "shop", "-m", "zerver", "serve", "app:app", "--port", "0")
    try:
        assert get(server.port(), "/hello/you") == (200, '{"hello":"you"}')
    finally:
        server.kill()


# Server.listen()


@pytest.fixture
def listen(folder: Path, start: Start, engine: str) -> Callable[..., Process]:
    """Starts a program that calls listen() and goes on to print what it is given."""

    def listen(shown: str, first: str = "from app import app") -> Process:
        (folder / "main.py").write_text(
            f"import logging, os\n{first}\nfrom zerver import Server\n"
            f"try:\n    Server(app).listen(port=0)\nfinally:\n    print({shown})\n"
        )
        return start("main.py", env=ENGINES[engine])

    return listen


def test_listen_serves_until_a_signal_and_then_returns(listen: Callable[..., Process]) -> None:
    server = listen("'after'")
    assert get(server.port()) == (200, "hello")
    server.signal(signal.SIGINT)
    assert (server.ended(), server.output) == (0, "after\n")


def test_listen_sets_no_logging_up(listen: Callable[..., Process]) -> None:
    server = listen("logging.getLogger().handlers, logging.getLogger('zerver').handlers")
    server.listening()
    server.signal(signal.SIGTERM)
    assert (server.ended(), server.output) == (0, "[] []\n")


def test_listen_raises_what_the_start_of_the_app_came_to(folder: Path, listen: Callable[..., Process]) -> None:
    (folder / "late.py").write_text(LIFESPAN.format("    {}['the url']\n    yield"))
    server = listen("'after'", "from late import app")
    assert (server.ended(), server.output) == (1, "after\n")
    assert f"AppError: the app's startup failed: KeyError: 'the url' ({folder}/late.py:5)\n" in server.errors


@pytest.mark.engines("reactor")
def test_listen_answers_sighup_with_what_to_use_instead(listen: Callable[..., Process]) -> None:
    server = listen("'after'")
    port = server.port()
    server.signal(signal.SIGHUP)
    server.read_until("SIGHUP: .*; use 'zerver serve' for that\n")
    assert get(port) == (200, "hello")
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


@pytest.mark.engines("reactor")
def test_listen_refuses_to_fork_while_other_threads_run(listen: Callable[..., Process]) -> None:
    server = listen(
        "'after'",
        "import threading\nfrom app import app\n"
        "threading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()",
    )
    assert server.ended() == 1
    assert "AppError: Server.listen() forks, and other threads run (poller)" in server.errors
    assert "listening" not in server.errors


def test_listen_gives_its_configuration_to_the_app(tmp_path: Path) -> None:
    app = failing_app()
    config = Config(server=ServerConfig(uds=str(tmp_path / "s"), grace=3), reactor=ReactorConfig(enabled=False))
    with pytest.raises(AppError):
        Server(app, config).listen()
    assert app.config is config


def test_listen_raises_what_is_wrong_with_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"Server\.listen\(\): server\.port = 70000: must be a whole number"):
        Server(App(), Config()).listen(port=70000)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        Server(App()).listen()


def test_listen_refuses_an_engine_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZERVER_ENGINE", "turbo")
    with pytest.raises(ConfigError, match="unknown engine"):
        Server(App()).listen(port=0)


def test_listen_raises_what_is_wrong_with_the_app_before_it_opens_a_socket(tmp_path: Path) -> None:
    app = App()
    app.get("/")(empty)
    app.get("/")(empty)
    with pytest.raises(AppError, match="the app cannot start"):
        Server(app, Config()).listen(uds=str(tmp_path / "none" / "s"))


def test_listen_raises_the_error_of_the_socket(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="its folder does not exist"):
        Server(App(), Config()).listen(uds=str(tmp_path / "none" / "s"))


def test_listen_raises_a_failed_lifespan_with_its_cause_and_leaves_nothing_open(tmp_path: Path) -> None:
    threads, handlers = threading.active_count(), signal.getsignal(signal.SIGTERM)
    path = tmp_path / "s"
    with pytest.raises(AppError, match="the app's startup failed: LookupError: no table") as failed:
        Server(failing_app(), Config(reactor=ReactorConfig(enabled=False))).listen(uds=str(path))
    assert isinstance(failed.value.__cause__, LookupError)
    assert not path.exists()
    assert signal.getsignal(signal.SIGTERM) is handlers
    wait_for(lambda: threading.active_count() == threads)


def failing_app() -> App:
    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        if app.config is not None:
            raise LookupError("no table")
        yield

    return App(lifespan=lifespan)


def empty(ctx: CtxView) -> Decision:
    return Done.empty()
