"""The command line, without starting a server."""

from __future__ import annotations

import inspect
import io
import json
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import zerver
from zerver.cli.commands import cli
from zerver.cli.project import ProjectError, new_project
from zerver.cli.reload import changed_files, snapshot
from zerver.cli.serve import plain_serve, serve
from zerver.cli.target import TargetError, load_app
from zerver.config import ServerConfig
from zerver.server.app_traceback import app_traceback, first_app_line
from zerver.server.listener import ListenError, open_listener
from zerver.server.log import JsonFormatter, LineFormatter, Lines, printable

ROOT = Path(__file__).resolve().parents[2]

SHOP = """
from typing import Never
from zerver import App, Continue, CtxView, Decision, Done, Need, Slot, sql, step
from starlette.applications import Starlette

class ItemId(Slot[int]): ...
class Item(Slot[dict]): ...

@step
def read_id(ctx: CtxView[Never, ItemId]) -> Decision:
    ctx.put(ItemId, ctx.param("id", int))
    return Continue()

@step
def load(ctx: CtxView[ItemId, Item]) -> Decision:
    if ctx.require(ItemId) == 7:
        return choose(ctx)
    return Need([sql.query_one("select 1", into=Item)], then=show)

def choose(ctx: CtxView[ItemId, Item]) -> Decision:
    return Done.empty()

def show(ctx: CtxView[Item]) -> Decision:
    if not ctx.require(Item):
        return Need([], then=show)
    return Done.json(ctx.require(Item))

def guard(ctx: CtxView) -> Decision:
    return Continue()

def hello(ctx: CtxView) -> Decision:
    return Done.text("hello")

class Holder:
    inner = App()

app = App()
app.use(guard)
app.get("/items/{id:int}", read_id, load)
app.get("/hello", hello, deadline=2.5)
app.post("/hello", hello)
site = Starlette()
app.mount("/site", site)
other = App()
number = 3
async def bare(scope, receive, send): ...
def make(): ...
"""

BROKEN = """
from zerver import App, CtxView, Decision, Done, Slot, step

class Name(Slot[str]): ...

def show(ctx: CtxView[Name]) -> Decision:
    return Done.text(ctx.require(Name))

app = App()
app.get("/", show)
"""

UNREAD = """
from typing import Never
from zerver import App, CtxView, Decision, Done, Slot

class Name(Slot[str]): ...

def show(ctx: CtxView[Never, Name]) -> Decision:
    ctx.put(Name, "x")
    return Done.text("x")

app = App()
app.get("/", show)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory of a test: modules in it can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("ZERVER_CONFIG", raising=False)
    monkeypatch.delenv("ZERVER_ENGINE", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def shop(folder: Path) -> Path:
    (folder / "shop.py").write_text(SHOP)
    (folder / "broken.py").write_text(BROKEN)
    (folder / "unread.py").write_text(UNREAD)
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


# MODULE:ATTR


@pytest.mark.parametrize("target", ["shop:app", "shop", "shop:", "shop:Holder.inner"])
def test_a_target_is_a_module_and_an_attribute_that_is_app_by_default_and_may_have_dots(
    shop: Path, target: str
) -> None:
    assert isinstance(load_app(target), zerver.App)


def test_the_current_directory_is_looked_in_first(folder: Path) -> None:
    (folder / "wave.py").write_text("from zerver import App\nhere = App()\n")  # the standard library has a wave, too
    sys.modules.pop("wave", None)
    assert load_app("wave:here") is sys.modules["wave"].here


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("shop.py", "shop.py: give the module's name, not its file: shop:app"),
        ("src/shop.py:api", "src/shop.py:api: give the module's name, not its file: src.shop:api"),
        ("", "'' is not MODULE:ATTR; give for example shop.main:app, or main for main:app"),
        (":app", "':app' is not MODULE:ATTR; give for example shop.main:app, or main for main:app"),
        ("shop:a b", "'shop:a b' is not MODULE:ATTR; give for example shop.main:app, or main for main:app"),
        ("missing:app", "there is no module 'missing' in {folder}, nor is one installed; "),
        ("missing.part:app", "there is no module 'missing' in {folder}, nor is one installed; "),
        ("shop.part:app", "there is no module 'shop.part' in {folder}, nor is one installed; "),
        ("shop:ap", "shop:ap: module 'shop' has no attribute 'ap'; its apps: shop:app, shop:other"),
        ("shop:Holder.x", "shop:Holder.x: the type has no attribute 'x'; its apps: shop:app, shop:other"),
        ("shop:number", "shop:number is a int, not a zerver.App; its apps: shop:app, shop:other"),
        ("shop:make", "shop:make is a function, not a zerver.App; its apps: shop:app, shop:other"),
        ("shop:App", "shop:App is a class; make an app of it, as in app = App(); its apps: shop:app, shop:other"),
        (
            "shop:site",
            "shop:site is an ASGI app of starlette, not a zerver.App; mount it in one: "
            'app = App(); app.mount("/", site); its apps: shop:app, shop:other',
        ),
        (
            "shop:bare",
            "shop:bare is an ASGI function, not a zerver.App; mount it in one: "
            'app = App(); app.mount("/", bare); its apps: shop:app, shop:other',
        ),
        ("json:app", "json:app: module 'json' has no attribute 'app'; there is no App in 'json'"),
    ],
)
def test_a_target_that_is_no_app_is_refused_and_the_message_says_what_to_do(
    shop: Path, target: str, message: str
) -> None:
    with pytest.raises(TargetError) as refused:
        load_app(target)
    assert str(refused.value).startswith(message.format(folder=shop))


@pytest.mark.parametrize(
    ("source", "ends"),
    [
        ("def f():\n    return 1 / 0\nf()\n", ["in f", "ZeroDivisionError: division by zero"]),
        ("import surely_missing\n", ["line 1, in <module>", "ModuleNotFoundError: No module named 'surely_missing'"]),
        ("x = (\n", ['failing.py", line 1', "SyntaxError: '(' was never closed"]),
        ("import sys\nsys.exit(4)\n", ["line 2, in <module>", "SystemExit: 4"]),
        (
            "from zerver import step\n@step\ndef f(ctx): ...\n",
            ["line 2, in <module>", "DefinitionError: step f (", "annotate its parameter 'ctx'"],
        ),
    ],
)
def test_a_module_that_fails_shows_its_own_traceback_only(folder: Path, source: str, ends: list[str]) -> None:
    (folder / "failing.py").write_text(source)
    result = run("routes", "failing:app")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("zerver: module 'failing' failed when it was imported:\n")
    for end in ends:
        assert end in result.stderr
    files = set(re.findall(r'File "(.*?)"', result.stderr))
    assert files == {str(folder / "failing.py")}


def test_a_traceback_also_leaves_our_frames_out_of_causes_and_groups() -> None:
    def fail() -> None:
        try:
            load_app("surely_missing:app")
        except TargetError as problem:
            raise ExceptionGroup("all", [problem, ValueError("x")]) from problem

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    told = app_traceback(caught.value)
    assert "TargetError: there is no module" in told
    assert "ValueError: x" in told
    assert set(re.findall(r'File "(.*?)"', told)) == {__file__}
    assert first_app_line(caught.value) == f"{__file__}:{caught.value.__traceback__.tb_lineno}"  # type: ignore[union-attr]


# Commands


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_the_version_is_shown(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (0, f"zerver {zerver.__version__}\n")


def test_no_command_shows_the_help() -> None:
    assert "Commands:" in run().output


def test_help_fits_80_columns_and_cuts_no_sentence_off(folder: Path) -> None:
    _, *shown = run("--help").output.splitlines()
    assert not [line for line in shown if "..." in line]
    assert max(map(len, shown)) <= 80


def test_routes_lists_method_path_steps_and_mounts(shop: Path) -> None:
    assert run("routes", "shop").output.splitlines() == [
        "METHOD  PATH             STEPS",
        "GET     /items/{id:int}  guard -> read_id -> load",
        "GET     /hello           guard -> hello",
        "POST    /hello           guard -> hello",
        "MOUNT   /site            starlette.applications.Starlette",
    ]


def test_routes_stays_within_80_columns(folder: Path) -> None:
    steps = "".join(
        f"def a_step_with_a_long_name_{n}(ctx: CtxView) -> Decision: return Done.text('')\n" for n in range(9)
    )
    names = ", ".join(f"a_step_with_a_long_name_{n}" for n in range(9))
    (folder / "wide.py").write_text(
        f"from zerver import App, CtxView, Decision, Done\n{steps}app = App()\n"
        f"app.get('/short', {names})\napp.delete('/a/path/that/is/longer/than/its/column/is/{{wide}}', {names})\n"
    )
    result = run("routes", "wide")
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    assert all(result.output.count(f"a_step_with_a_long_name_{n}") == 2 for n in range(9))


def test_routes_of_an_empty_app_says_so(folder: Path) -> None:
    (folder / "empty.py").write_text("from zerver import App\napp = App()\n")
    assert run("routes", "empty").output == "no routes\n"


def test_an_app_with_errors_is_refused_with_all_of_them(shop: Path) -> None:
    result = run("routes", "broken")
    assert result.exit_code == 1
    assert result.stderr.startswith("zerver: the app cannot start:\n  - route GET /: step show reads slot Name")
    assert "Traceback" not in result.stderr


def test_graph_shows_steps_slots_continuations_and_what_is_unknown(shop: Path) -> None:
    assert run("graph", "shop").output.splitlines() == [
        "GET /items/{id:int}",
        "  1. guard: no slots",
        "     next read_id",
        "  2. read_id: writes ItemId",
        "     next load",
        "  3. load: reads ItemId; writes Item",
        "     then show: reads Item",
        "          then show (above)",
        "     then unknown",
        "",
        "GET /hello (deadline 2.5 s)",
        "  1. guard: no slots",
        "     next hello",
        "  2. hello: no slots",
        "     ends",
        "",
        "POST /hello",
        "  1. guard: no slots",
        "     next hello",
        "  2. hello: no slots",
        "     ends",
    ]


@pytest.mark.parametrize(
    ("route", "heads"),
    [("GET /hello", ["GET /hello"]), ("/hello", ["GET /hello", "POST /hello"]), ("/items/{id:int}", ["GET /items"])],
)
def test_graph_of_one_route_or_of_all_methods_of_a_path(shop: Path, route: str, heads: list[str]) -> None:
    shown = [line for line in run("graph", "shop", route).output.splitlines() if line[:1].isalpha()]
    assert len(shown) == len(heads)
    assert all(line.startswith(head) for line, head in zip(shown, heads, strict=True))


def test_graph_of_an_unknown_route_lists_the_routes(shop: Path) -> None:
    result = run("graph", "shop", "/nothing")
    assert result.exit_code == 1
    assert result.stderr == (
        "zerver: shop has no route '/nothing'; it has:\n  GET /items/{id:int}\n  GET /hello\n  POST /hello\n"
    )


def test_check_of_a_good_app_exits_with_0_and_says_what_is_per_process(shop: Path) -> None:
    result = run("check", "shop:app")
    assert result.exit_code == 0
    assert "note: 'zerver serve' forks a scheduler for each CPU from a Node. " in result.stdout
    assert result.stdout.endswith("shop:app: 0 error(s), 0 warning(s)\n")


def test_check_says_what_processes_the_settings_mean(shop: Path) -> None:
    (shop / "config.json").write_text('{"schedulers": {"performance": 3}}')
    assert "note: 'zerver serve' forks 3 scheduler(s) from a Node. " in run("check", "shop:app").stdout
    (shop / "config.json").write_text('{"reactor": {"enabled": false}}')
    assert "note: the blocking engine serves from one process, without a Node. " in run("check", "shop:app").stdout


PER_PROCESS = """
from zerver import App, AsyncEffector, CtxView, Decision, Done
from zerver_runtime import Actor

class Counter(Actor): ...

async def perform(effect): ...

def show(ctx: CtxView) -> Decision:
    return Done.empty()

app = App()
app.get("/", show)
app.actor("counter", Counter)
app.effector("mail", AsyncEffector(perform))
"""
OWN_DRIVER = "app.effector: each of the 4 schedulers has its own driver of mail. "
CONNECTIONS = (
    "database main: each of the 4 schedulers makes up to 10 connections (effects.postgres.size), so 40 in all, "
)


@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        ({}, ["cache: it is in memory; under another ASGI server, each process has its own, "], []),
        ({}, ["app.actor: under another ASGI server, each process has an actor of its own for each of counter."], []),
        ({"schedulers": {"performance": 4}}, [OWN_DRIVER], ["connections"]),
        ({"schedulers": {"performance": 1}}, [], ["app.effector", "connections"]),
        (
            {"schedulers": {"performance": 4}, "effects": {"databases": {"main": "postgresql://x/y"}}},
            [CONNECTIONS],
            ["database default"],
        ),
        ({"effects": {"cache": "redis://x"}}, [], ["cache:"]),
        ({"reactor": {"enabled": False}}, ["cache: it is in memory; a second process has its own, "], ["app.effector"]),
        ({"reactor": {"enabled": False}}, ["app.actor: a second process has an actor of its own for each of coun"], []),
    ],
)
def test_check_says_what_each_process_has_for_itself(
    shop: Path, settings: dict[str, object], said: list[str], unsaid: list[str]
) -> None:
    (shop / "per_process.py").write_text(PER_PROCESS)
    (shop / "config.json").write_text(json.dumps(settings))
    told = run("check", "per_process:app").stdout
    assert "per_process:app: 0 error(s)" in told
    for text in said:
        assert f"\nnote: {text}" in f"\n{told}"
    for text in unsaid:
        assert text not in told


def test_check_lists_errors_and_exits_with_1(shop: Path) -> None:
    result = run("check", "broken:app")
    assert result.exit_code == 1
    assert result.stdout.startswith("error: route GET /: step show reads slot Name")
    assert result.stdout.endswith("broken:app: 1 error(s), 0 warning(s)\n")


def test_check_lists_warnings_and_exits_with_0(shop: Path) -> None:
    result = run("check", "unread:app")
    assert result.exit_code == 0
    assert result.stdout.startswith("warning: route GET /: step show writes slot Name, which no step reads")
    assert result.stdout.endswith("unread:app: 0 error(s), 1 warning(s)\n")


def test_check_also_checks_the_configuration(shop: Path) -> None:
    (shop / "config.json").write_text('{"server": {"prot": 1}}')
    (shop / "other.json").write_text("{}")
    result = run("check", "shop:app")
    assert result.exit_code == 1
    assert 'server.prot = 1: unknown key, did you mean "port"?' in result.stderr
    assert run("check", "shop:app", "--config", "other.json").exit_code == 0


@pytest.mark.parametrize("command", ["serve", "dev"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "command-line flag: server.port = 70000: must be a whole number from 0 to 65535"),
        (["--engine", "warp"], '--engine = "warp": unknown engine. Allowed: reactor, blocking'),
        (["--config", "none.json"], "none.json: no such configuration file"),
    ],
)
def test_wrong_settings_end_the_start_with_one_message(
    shop: Path, monkeypatch: pytest.MonkeyPatch, command: str, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("ZERVER_DEBUG", "0")
    result = run(command, "shop:app", *arguments)
    assert (result.exit_code, result.stderr) == (1, f"zerver: {message}\n")


def test_a_plain_serve_is_read_as_typer_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[object, ...]] = []
    monkeypatch.setattr("zerver.cli.commands.serve_app", lambda *given: called.append(given))
    names = [parameter.name for parameter in typer.main.get_command(cli).commands["serve"].params]  # type: ignore[attr-defined]
    assert names == [*inspect.signature(serve).parameters]
    values = {"port": "80", "schedulers": "2", "fd": "3", "admin_fd": "4"}
    flags = [f"--{name.replace('_', '-')}={values.get(name, 'x')}" for name in names[1:]]
    for options in ([], *([flag] for flag in flags), flags):
        for arguments in (
            ["serve", "shop:app", *options],
            ["serve", *" ".join(options).replace("=", " ").split(), "shop"],
        ):
            assert run(*arguments).exit_code == 0
            plain = plain_serve(arguments)
            assert plain is not None
            assert called.pop() == tuple(plain.get(name) for name in names)


@pytest.mark.parametrize(
    "arguments",
    [
        "", "dev a", "serve", "serve --help", "serve a --help", "serve a b", "serve a --prot 1", "serve a --port",
        "serve a --port x", "serve a --port=", "serve a --port -1", "serve a --port ٣", "serve a --port 1 --port 2",
        "serve a --host --port 1", "serve -- a", "--version serve a", "serve --target a", "serve a --target b",
    ],
)  # fmt: skip
def test_what_typer_has_to_say_something_about_is_left_to_it(arguments: str) -> None:
    assert plain_serve(arguments.split()) is None


# zerver new


def test_new_writes_an_app_a_test_and_a_configuration(folder: Path) -> None:
    result = run("new", "my-shop_2")
    assert result.exit_code == 0
    assert sorted(path.name for path in (folder / "my-shop_2").iterdir()) == [
        "app.py",
        "config.json",
        "pyproject.toml",
        "test_app.py",
    ]
    for name in ("app.py", "config.json", "test_app.py"):
        assert f"made my-shop_2/{name}" in result.stdout


@pytest.mark.parametrize("active", [True, False])
def test_new_says_how_to_run_it_from_where_zerver_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, active: bool
) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "zerver").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))
    monkeypatch.setattr(sys, "executable", str(folder / ("bin" if active else "my env") / "python"))
    python = "python" if active else f"'{folder}/my env/python'"
    said = run("new", "shop").stdout
    assert f"cd shop && {'zerver' if active else f'{python} -m zerver'} dev app:app\n" in said
    assert f" && {'pip' if active else f'{python} -m pip'} install pytest httpx2 && {python} -m pytest\n" in said


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_new_overwrites_nothing(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "shop")
    result = run("new", "shop")
    assert result.exit_code == 1
    assert result.stderr == "zerver: shop exists already, and is left as it is; give another name\n"
    assert [path.name for path in folder.rglob("*")] == ["shop"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "-a", "a b", "ä", "a\n", "a" * 65])
def test_new_refuses_what_is_no_name(folder: Path, name: str) -> None:
    with pytest.raises(ProjectError):
        new_project(name, folder)
    assert list(folder.iterdir()) == []


# Reload


def test_a_change_is_a_python_file_or_configuration_that_was_changed_added_or_removed(folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("app.py", "deep/er/part.py", "deep/config.json", "deep/notes.txt", "gone.py"):
        (folder / name).write_text("1")
    before = snapshot(str(folder))
    assert changed_files(before, snapshot(str(folder))) == []
    (folder / "deep/er/part.py").write_text("22")
    (folder / "deep/config.json").write_text("22")
    (folder / "deep/notes.txt").write_text("22")
    (folder / "gone.py").unlink()
    (folder / "more.py").touch()
    found = changed_files(before, snapshot(str(folder)))
    assert found == [str(folder / name) for name in ("deep/config.json", "deep/er/part.py", "gone.py", "more.py")]


def test_hidden_folders_and_virtual_environments_are_not_watched(folder: Path) -> None:
    for name in (".git", "__pycache__", "node_modules", "environment", "source"):
        (folder / name).mkdir()
        (folder / name / "a.py").touch()
    (folder / "environment" / "pyvenv.cfg").touch()
    (folder / "dangling.py").symlink_to("nowhere")
    assert [*snapshot(str(folder))] == [str(folder / "source" / "a.py")]


def test_a_configuration_file_elsewhere_is_watched_when_it_is_named(folder: Path) -> None:
    (folder / "inner").mkdir()
    named = folder / "settings.json"
    before = snapshot(str(folder / "inner"), [str(named)])
    named.touch()
    assert changed_files(before, snapshot(str(folder / "inner"), [str(named)])) == [str(named)]


# The socket


def test_a_listener_names_its_address_also_for_port_0() -> None:
    listener = open_listener(ServerConfig(port=0))
    try:
        assert listener.address == f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        assert not listener.address.endswith(":0")
    finally:
        listener.close()


def test_a_listener_on_ipv6_has_brackets_in_its_address() -> None:
    try:
        listener = open_listener(ServerConfig(host="::1", port=0))
    except ListenError:
        pytest.skip("this machine has no IPv6")
    listener.close()
    assert re.fullmatch(r"http://\[::1\]:[1-9]\d+", listener.address)


def test_a_port_in_use_is_an_error_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=rf"^port {port} of 127\.0\.0\.1 is in use; stop the program") as refused:
            open_listener(ServerConfig(port=port))
    assert refused.value.errno is not None


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.1", "port 0 of 192.0.2.1 is not on this machine; give an address that is"),
        ("no such host", "cannot listen on no such host: "),
        ("." * 70, "cannot listen on ....*; give an address of this machine"),
    ],
)
def test_a_host_that_is_not_this_machine_is_an_error(host: str, message: str) -> None:
    with pytest.raises(ListenError, match=f"^{message}"):
        open_listener(ServerConfig(host=host, port=0))


def test_the_file_of_a_unix_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = open_listener(ServerConfig(uds=str(path)))
    assert listener.address == f"unix:{path}"
    assert path.is_socket()
    listener.close()
    assert not path.exists()


def test_a_socket_file_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    listener = open_listener(ServerConfig(uds=str(path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_socket_file_that_is_in_use_is_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = open_listener(ServerConfig(uds=str(path)))
    with pytest.raises(ListenError, match="it is in use; stop the program that listens there"):
        open_listener(ServerConfig(uds=str(path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="there is a file that is not a socket; give another path"):
        open_listener(ServerConfig(uds=str(path)))
    assert path.read_text() == "precious"


def test_a_socket_in_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="its folder does not exist; make it first"):
        open_listener(ServerConfig(uds=str(tmp_path / "none" / "s")))


def test_the_socket_of_a_server_that_came_after_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = open_listener(ServerConfig(uds=str(path)))
    path.unlink()
    newer = open_listener(ServerConfig(uds=str(path)))
    listener.close()
    assert path.is_socket()
    newer.close()


# The log


def record(message: object, *arguments: object, failure: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(failure), failure, failure.__traceback__) if failure else None
    return logging.LogRecord("zerver", logging.INFO, "", 0, message, arguments, exc_info)


def test_a_record_is_one_plain_line() -> None:
    line = LineFormatter().format(record("listening on %s", "x"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO zerver: listening on x", line)


def test_the_lines_of_a_traceback_are_indented() -> None:
    try:
        raise ValueError("a\nb\x1b[31m")
    except ValueError as problem:
        lines = LineFormatter().format(record("it failed", failure=problem)).split("\n")
    assert lines[0].endswith("it failed")
    assert all(line.startswith("    ") for line in lines[1:])
    assert lines[-2:] == ["    ValueError: a", "    b\\x1b[31m"]


@given(st.text(st.characters(), max_size=30))
def test_no_text_ends_the_line_or_steers_the_terminal(text: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    handler.emit(record("%s|", text))
    assert isinstance(stream.buffer, io.BytesIO)
    (line,) = stream.buffer.getvalue().decode().splitlines()
    assert line.isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_text_that_prints_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_does_not_print_is_shown_as_its_escape() -> None:
    assert printable("a\r\n\t\x00\x1b[31m\x7f\x9b\u202e\u2028\ud800 é") == (
        r"a\r\n\t\x00\x1b[31m\x7f\x9b\u202e\u2028\ud800 é"
    )


@given(st.text(st.characters(), max_size=30))
def test_a_record_as_json_is_one_object_on_one_line(text: str) -> None:
    line = JsonFormatter().format(record("%s|", text))
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert found["message"] == (text + "|").rstrip()
    assert found["level"] == "INFO"
    assert "request_id" not in found


def test_json_has_the_id_of_the_request_and_the_traceback() -> None:
    try:
        raise ValueError("no")
    except ValueError as problem:
        text = JsonFormatter().format(record("request %s: %s", "id1", "it failed", failure=problem))
    found = json.loads(text)
    assert (found["request_id"], found["message"]) == ("id1", "request id1: it failed")
    assert found["exception"].endswith("ValueError: no")
    assert found["time"].endswith("+00:00")


def test_a_line_of_the_access_log_is_an_object_of_its_parts() -> None:
    lines = Lines(["client=- method=GET target=/a?b=c=d status=200 bytes=5 ms=0.125 id=id1", "something else"])
    one, other = (json.loads(line) for line in JsonFormatter().format(record(lines)).splitlines())
    del one["time"], one["level"], one["logger"]
    assert one == {
        "client": "-", "method": "GET", "target": "/a?b=c=d", "status": 200, "bytes": 5, "ms": 0.125,
        "request_id": "id1",
    }  # fmt: skip
    assert other["message"] == "something else"


# The page about it


def test_the_reference_page_has_the_commands_and_options_that_there_are() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    documented = {}
    for section in re.split(r"^## zerver ", page, flags=re.MULTILINE)[1:]:
        name = section.split("\n", 1)[0].strip()
        documented[name] = set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE))
    group = typer.main.get_command(cli)
    assert documented == {name: options(command) for name, command in group.commands.items()}  # type: ignore[attr-defined]


def options(command: Any) -> set[str]:
    """Those of a command, and of the commands below it."""
    own = {
        option
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help" and not getattr(parameter, "hidden", False)
    }
    return own.union(*(options(inner) for inner in getattr(command, "commands", {}).values()))


def test_the_reference_page_shows_each_command_with_its_arguments() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    for usage in (
        "serve MODULE:ATTR", "dev MODULE:ATTR", "routes MODULE:ATTR", "check MODULE:ATTR", "graph MODULE:ATTR [ROUTE]",
        "new NAME",
    ):  # fmt: skip
        assert f"`zerver {usage}`" in page
        command, arguments = usage.split(" ", 1)
        shown = run(command, "--help").output.splitlines()[0].replace("{", "").replace("}", "")
        assert shown.endswith(f"{command} [OPTIONS] {arguments}")


def test_the_console_script_and_the_module_are_the_command_line() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="zerver")
    assert script.load() is zerver.cli.main
