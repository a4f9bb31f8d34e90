"""``zerver replay``: what it says, its exit codes, and the test that it writes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from replay_kit import ask, recorded
from typer.testing import CliRunner, Result

from zerver.cli.commands import cli
from zerver.cli.target import load_app
from zerver.replay.recording_file import write_recording
from zerver.trace.record import Row, StepNote, TraceRecord, encode
from zerver.trace.store import TraceReader, TraceStore

PATIENCE = 60

APP = """
from typing import Never

from zerver import App, Continue, CtxView, Decision, Done, ErrorKind, Fail, Need, Slot, call, step


class Price(Slot[int]):
    ""\"What it costs.""\"


def ask_price(name: str) -> int:
    return 7


@step
def guard(ctx: CtxView) -> Decision:
    return Continue() if ctx.header("authorization", default="x") == "x" else Fail(ErrorKind.UNAUTHORIZED)


@step
def load(ctx: CtxView[Never, Price]) -> Decision:
    return Need([call.run(ask_price, ctx.param("name"), into=Price)], then=show)


def show(ctx: CtxView[Price]) -> Decision:
    return Done.json({"price": ctx.require(Price)})


app = App()
app.get("/items/{name}", guard, load)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with two kept traces: of ``r00000``, and of ``r00001``, which a guard turned away."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("ZERVER_CONFIG", raising=False)
    known = set(sys.modules)
    (tmp_path / "shopped.py").write_text(APP)
    (tmp_path / "tests").mkdir()
    requests = [ask("GET", "/items/tea"), ask("GET", "/items/tea", authorization="y")]
    keep(asyncio.run(recorded(load_app("shopped:app"), requests)))
    forget(tmp_path, known)
    yield tmp_path
    forget(tmp_path, known)


def keep(records: list[TraceRecord]) -> None:
    store = TraceStore("var/traces.db", max_bytes=10_000_000, max_age=86_400.0 * 36_500)
    store.write([
        Row(one.id, one.route, one.request.method, one.request.path, one.status, one.started_ns, one.took_ns, one.why,
            one.client, 0, "", encode(one))
        for one in records
    ])  # fmt: skip
    store.close()


def forget(folder: Path, known: set[str]) -> None:
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def zerver(*arguments: str) -> Result:
    known = set(sys.modules)
    result = CliRunner().invoke(cli, ["replay", *arguments])
    forget(Path.cwd(), known)
    return result


def change(folder: Path, before: str, after: str) -> None:
    file = folder / "shopped.py"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))


def test_the_same_exits_with_0_and_finds_the_app_by_the_steps(folder: Path) -> None:
    for id in ("r00000", "0000"):
        result = zerver(id)
        assert (result.exit_code, result.stdout) == (0, "GET /items/{name}: identical: 200, 1 effect in 3 steps\n")
    assert zerver("r00000", "--app", "shopped:app", "--store", "var/traces.db").exit_code == 0


def test_a_divergence_exits_with_1_and_says_where(folder: Path) -> None:
    change(folder, 'ctx.param("name"), into', '"milk", into')
    result = zerver("r00000")
    line = 1 + APP.splitlines().index("def load(ctx: CtxView[Never, Price]) -> Decision:") - 1
    place = f"step load ({folder}/shopped.py:{line})"
    about = "call.run into Price at call:shopped.ask_price: shopped.ask_price"
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == [
        f"GET /items/{{name}}: diverged at {place}, Need 1, effect 0: another effect",
        f"  expected  {about}, with other arguments",
    ]  # fmt: skip
    assert "'milk'" in result.stdout.splitlines()[2]
    assert result.stdout.splitlines()[3] == "note: step load changed since the recording"


def test_a_part_exits_with_2_and_says_up_to_where(folder: Path) -> None:
    result = zerver("r00001")
    assert result.exit_code == 0, "with or without the header: it is turned away"
    assert "note: step guard was the same as far as can be told: it reads header authorization" in result.stdout
    change(folder, 'default="x") == "x"', 'default="x") in ("x", "[redacted]")')
    result = zerver("r00001")
    assert result.exit_code == 2
    assert result.stdout.startswith("GET /items/{name}: replayable up to step guard; the same until then:")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nope",), "no trace of request nope was kept"),
        (("r00000", "--app", "nowhere:app"), "there is no module 'nowhere'"),
        (("r00000", "--store", "none.db"), "none.db"),
        (("r00000", "tests"), "PATH tests: it is for --save-test"),
        (("r00000", "--save-test", "tests/replayed.py"), "give a name that pytest finds"),
        (("broken.zrec",), "this is no recording"),
        (("x" * 300 + ".zrec",), "the recording cannot be read"),
    ],
)
def test_what_cannot_be_replayed_exits_with_2(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    (folder / "broken.zrec").write_text("{")
    result = zerver(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_which_app_it_is_has_to_be_said_where_it_cannot_be_found(folder: Path) -> None:
    change(folder, "app = App()\n", "app = App()\nother = App()\n")
    result = zerver("r00000")
    assert (result.exit_code, "Give --app MODULE:ATTR" in result.stderr) == (2, True)


def test_a_recording_has_nothing_run_that_is_no_app(folder: Path) -> None:
    (folder / "deploy.py").write_text("from pathlib import Path\n\nPath('deployed').touch()\n")
    with TraceReader("var/traces.db") as reader:
        record = reader.get("r00000")
    assert record is not None
    steps = (StepNote("load", "/srv/elsewhere/deploy.py:3", ""),)
    (folder / "foreign.zrec").write_text(write_recording(msgspec.structs.replace(record, steps=steps)))
    result = zerver("foreign.zrec")
    assert (result.exit_code, "Give --app MODULE:ATTR" in result.stderr) == (2, True)
    assert not (folder / "deployed").exists()


def test_verbose_shows_what_was_the_same(folder: Path) -> None:
    lines = zerver("r00000", "-v").stdout.splitlines()
    assert [line for line in lines if "call.run" in line] == [
        "  load: Need all [call.run into Price], then show",
        "  load: call.run into Price at call:shopped.ask_price: shopped.ask_price",
    ]


def test_what_was_exported_is_replayed_elsewhere(folder: Path) -> None:
    exported = CliRunner().invoke(cli, ["trace", "export", "r00000"]).stdout
    (folder / "one.json").write_text(exported)
    (folder / "var/traces.db").unlink()
    assert zerver("one.json").exit_code == 0


def pytest_of(folder: Path, file: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_a_saved_test_passes_as_it_stands_and_fails_when_the_behaviour_changes(folder: Path) -> None:
    result = zerver("r00000", "--save-test")
    test, recording = (
        "tests/test_replay_get_items_name_200_r00000.py",
        "tests/recordings/get_items_name_200_r00000.zrec",
    )
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [f"made {test}", f"made {recording}"]
    assert pytest_of(folder, test).returncode == 0
    change(folder, '{"price": ', '{"cost": ')
    failed = pytest_of(folder, test)
    assert failed.returncode == 1
    assert "diverged at step show" in failed.stdout
    assert 'expected  body {"price":7}' in failed.stdout


def test_a_test_of_a_route_of_any_length_is_saved(folder: Path) -> None:
    with TraceReader("var/traces.db") as reader:
        record = reader.get("r00000")
    assert record is not None
    keep([msgspec.structs.replace(record, id="long00", route="GET /" + "long/" * 99)])
    assert zerver("long00", "--save-test", "--app", "shopped:app").exit_code == 0
    (test,) = (folder / "tests").glob("test_*.py")
    assert test.name.endswith("_200_long00.py")


def test_a_saved_test_of_a_part_passes_up_to_there(folder: Path) -> None:
    change(folder, 'default="x") == "x"', 'default="x") in ("x", "[redacted]")')
    zerver("r00001", "--save-test", "tests/test_part.py")
    assert '.check(until="guard")' in (folder / "tests/test_part.py").read_text()


def test_nothing_is_overwritten_unless_that_is_asked_for(folder: Path) -> None:
    test = folder / "tests/test_mine.py"
    test.write_text("mine")
    result = zerver("r00000", "--save-test", "tests/test_mine.py")
    assert (result.exit_code, "exists; give another PATH, or --force" in result.stderr) == (2, True)
    assert test.read_text() == "mine"
    assert not (folder / "tests/recordings").exists()
    assert zerver("r00000", "--save-test", "tests/test_mine.py", "--force").exit_code == 0
    assert "replay(app, RECORDING)" in test.read_text()


def test_no_test_is_saved_of_what_diverges(folder: Path) -> None:
    change(folder, '{"price": ', '{"cost": ')
    result = zerver("r00000", "--save-test")
    assert (result.exit_code, "diverges already" in result.stderr) == (1, True)
    assert [*(folder / "tests").iterdir()] == []


def test_a_record_of_another_machine_finds_its_module(folder: Path) -> None:
    with TraceReader("var/traces.db") as reader:
        record = reader.get("r00000")
    assert record is not None
    steps = tuple([
        msgspec.structs.replace(one, where=one.where.replace(str(folder), "/srv/elsewhere")) for one in record.steps
    ])  # fmt: skip
    keep([msgspec.structs.replace(record, id="far", steps=steps)])
    assert zerver("far").exit_code == 0
