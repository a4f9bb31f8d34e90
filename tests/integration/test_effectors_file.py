"""The file effector on a real folder: what is inside, and what is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from effector_conformance import Probe, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_kit import running

from zerver import App, CtxView, Decision, Done, Need, Slot, step
from zerver.effect import Effect
from zerver.effect_results import interpret
from zerver.effectors.file import FileEffector
from zerver.effectors.folder import Folder, FolderProblem, Stopped
from zerver.effects import file
from zerver.error import Error, ErrorKind
from zerver_runtime.outcome import Failure, Success

Check = Callable[["Files"], Awaitable[None]]


class Files:
    def __init__(self, root: Path, max_bytes: int = 1000) -> None:
        self.effector = FileEffector(str(root), max_bytes=max_bytes)

    async def value(self, effect: Effect[Any]) -> Any:
        outcome = await Probe(self.effector, effect).settled()
        assert isinstance(outcome, Success), outcome
        outcome = interpret(effect, outcome.value, time.time)
        assert isinstance(outcome, Success), outcome
        return outcome.value

    async def error(self, effect: Effect[Any]) -> Error:
        outcome = await Probe(self.effector, effect).settled()
        if isinstance(outcome, Success):
            outcome = interpret(effect, outcome.value, time.time)
        assert isinstance(outcome, Failure), outcome
        assert isinstance(outcome.error, Error)
        assert not outcome.retryable
        return outcome.error


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "var" / "files"


def run(check: Check, root: Path, **options: Any) -> None:
    async def main() -> None:
        files = Files(root, **options)
        try:
            await check(files)
        finally:
            await files.effector.close()

    asyncio.run(main(), debug=True)


class Report(msgspec.Struct):
    title: str


@pytest.mark.parametrize(
    ("content", "kept", "kind"),
    [
        (b"\0\xff", b"\0\xff", bytes),
        (b"", b"", bytes),
        ("é🎈\n", "é🎈\n".encode(), str),
        (Report("é"), '{"title":"é"}'.encode(), Report),
        ([1, None], b"[1,null]", list[int | None]),
        ({"a": 1}, b'{"a":1}', Any),
    ],
)
def test_what_is_written_is_read_as_its_type(root: Path, content: Any, kept: bytes, kind: Any) -> None:
    async def check(files: Files) -> None:
        assert await files.value(file.write("a/b/c.x", content)) is None
        assert (root / "a" / "b" / "c.x").read_bytes() == kept
        assert await files.value(file.read("a/b/c.x", as_=kind)) == content
        assert await files.value(file.read("a/b/c.x")) == kept

    run(check, root)


@pytest.mark.parametrize(("content", "kind"), [(b"\xff", str), (b"{", dict[str, int]), (b"1", str | None), (b"x", int)])
def test_a_file_that_does_not_fit_its_type_is_a_bug_that_shows_nothing_of_it(
    root: Path, content: bytes, kind: Any
) -> None:
    async def check(files: Files) -> None:
        await files.value(file.write("a", content))
        if kind == str | None:
            assert await files.value(file.read("a", as_=kind)) == "1"
            return
        assert (await files.error(file.read("a", as_=kind))).kind is ErrorKind.INTERNAL

    run(check, root)


def test_nothing_is_made_before_something_is_written(root: Path) -> None:
    async def check(files: Files) -> None:
        assert (await files.error(file.read("a"))).kind is ErrorKind.NOT_FOUND
        assert (await files.error(file.write("../a", b""))).kind is ErrorKind.FORBIDDEN
        assert not root.parent.exists()

    run(check, root)


@pytest.mark.parametrize(
    "path", ["a", "./a", ".//a", "é ñ/🎈", "a\\b", "-rf", "...", "..a", "a..", "new\nline", ".hidden"]
)
def test_names_that_stay_inside_are_taken(root: Path, path: str) -> None:
    async def check(files: Files) -> None:
        await files.value(file.write(path, b"1"))
        assert await files.value(file.read(path)) == b"1"

    run(check, root)


FORBIDDEN = [
    "", ".", "..", "/", "a/", "a/.", "../files-evil/secret", "a/../../files-evil/secret", "a/../inside", "/etc/passwd",
    "//etc/passwd", "inside\0", "in\0side", "\ud800", "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("path", FORBIDDEN)
def test_paths_that_lead_out_or_to_nothing_are_forbidden(root: Path, path: str) -> None:
    evil = root.parent / "files-evil"
    evil.mkdir(parents=True)
    (evil / "secret").write_text("secret")
    (root / "a").mkdir(parents=True)
    (root / "inside").write_text("inside")

    async def check(files: Files) -> None:
        for effect in (file.read(path), file.write(path, b"mine")):
            error = await files.error(effect)
            assert error.kind is ErrorKind.FORBIDDEN
            assert str(root) not in error.what
        found = {one.relative_to(root.parent): one.read_text() for one in root.parent.rglob("*") if one.is_file()}
        assert found == {Path("files-evil/secret"): "secret", Path("files/inside"): "inside"}

    run(check, root)


def test_an_absolute_path_of_a_file_inside_is_forbidden_too(root: Path) -> None:
    async def check(files: Files) -> None:
        await files.value(file.write("a", b"1"))
        assert (await files.error(file.read(str(root / "a")))).kind is ErrorKind.FORBIDDEN

    run(check, root)


def test_symbolic_links_are_not_followed_wherever_they_lead(root: Path, tmp_path: Path) -> None:
    root.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (root / "inside").write_text("inside")
    (root / "folder").mkdir()
    (root / "file-out").symlink_to(secret)
    (root / "file-in").symlink_to("inside")
    (root / "dangling").symlink_to(tmp_path / "made-by-you")
    (root / "folder-out").symlink_to(tmp_path)
    (root / "folder-in").symlink_to("folder")
    (root / "folder" / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")

    async def check(files: Files) -> None:
        for path in (
            "file-out", "file-in", "dangling", "folder-out/secret", "folder-in/new", "folder/up/inside", "loop",
            "loop/a", "folder-out/new/er",
        ):  # fmt: skip
            assert (await files.error(file.read(path))).kind is ErrorKind.FORBIDDEN, path
            assert (await files.error(file.write(path, b"mine"))).kind is ErrorKind.FORBIDDEN, path
        assert secret.read_text() == "secret"
        assert sorted(os.listdir(tmp_path)) == ["secret", "var"]
        assert os.listdir(root / "folder") == ["up"]

    run(check, root)


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    root.parent.mkdir(parents=True)
    root.symlink_to(tmp_path / "disk")

    async def check(files: Files) -> None:
        await files.value(file.write("a", b"1"))
        assert await files.value(file.read("a")) == b"1"

    run(check, root)


def test_a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere(root: Path, tmp_path: Path) -> None:
    """Whoever has write access swaps a folder and a link to the outside, again and again, while it is read."""
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "x").write_text("secret")
    (root / "a").mkdir(parents=True)
    (root / "a" / "x").write_text("mine")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(root / "a", root / "b")
            (root / "a").symlink_to(evil)
            (root / "a").unlink()
            os.rename(root / "b", root / "a")

    folder = Folder(str(root), 1000)
    thread = threading.Thread(target=swap)
    thread.start()
    seen: set[str] = set()
    try:
        until, tries = time.monotonic() + 20, 0
        while tries < 2000 or ("mine" not in seen and time.monotonic() < until):
            tries += 1
            try:
                seen.add(folder.read("a/x", lambda: False).decode())
            except FolderProblem as problem:
                seen.add(problem.kind.name)
    finally:
        stop.set()
        thread.join()
    assert seen <= {"mine", "FORBIDDEN", "NOT_FOUND"}
    assert "mine" in seen


def test_what_is_no_regular_file_is_neither_read_nor_replaced(root: Path) -> None:
    (root / "folder").mkdir(parents=True)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(root / "socket"))

        async def check(files: Files) -> None:
            for path in ("fifo", "socket"):
                assert (await files.error(file.read(path))).kind is ErrorKind.FORBIDDEN
                assert (await files.error(file.write(path, b""))).kind is ErrorKind.FORBIDDEN
            assert (await files.error(file.read("folder"))).kind is ErrorKind.NOT_FOUND
            assert (await files.error(file.write("folder", b""))).kind is ErrorKind.CONFLICT

        run(check, root)


def test_a_file_where_a_folder_is_needed_is_a_conflict_or_not_found(root: Path) -> None:
    async def check(files: Files) -> None:
        await files.value(file.write("a", b"1"))
        assert (await files.error(file.write("a/b", b""))).kind is ErrorKind.CONFLICT
        assert (await files.error(file.read("a/b"))).kind is ErrorKind.NOT_FOUND
        assert (await files.error(file.read("x" * 300))).kind is ErrorKind.NOT_FOUND
        assert (await files.error(file.write("x" * 300, b""))).kind is ErrorKind.UNPROCESSABLE
        assert (await files.error(file.write("x" * 300 + "/a", b""))).kind is ErrorKind.UNPROCESSABLE
        assert os.listdir(root) == ["a"]

    run(check, root)


def test_sizes_are_bounded(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check(files: Files) -> None:
        await files.value(file.write("a", b"x" * 10))
        error = await files.error(file.write("a", b"y" * 11))
        assert error.kind is ErrorKind.PAYLOAD_TOO_LARGE
        assert await files.value(file.read("a")) == b"x" * 10
        (root / "a").write_bytes(b"z" * 11)
        assert (await files.error(file.read("a"))).kind is ErrorKind.INTERNAL

    run(check, root, max_bytes=10)
    assert "'a': the file is larger than 10 bytes" in caplog.text


def test_a_write_that_fails_leaves_the_old_file_and_no_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(files: Files) -> None:
        await files.value(file.write("a", b"old"))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("zerver.effectors.folder.os.fsync", full)
        error = await files.error(file.write("a", b"new"))
        assert error.kind is ErrorKind.INTERNAL
        assert "space" not in error.what
        monkeypatch.undo()
        assert os.listdir(root) == ["a"]
        assert await files.value(file.read("a")) == b"old"

    run(check, root)


def test_a_write_that_nobody_wants_any_more_changes_nothing(root: Path) -> None:
    folder = Folder(str(root), 10**8)
    folder.write("a", b"old", lambda: False)
    for turns in range(4):
        left = [turns]

        def stopped(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        with pytest.raises(Stopped):
            folder.write("a", b"x" * (3 * 1024 * 1024), stopped)
        assert os.listdir(root) == ["a"]
        assert (root / "a").read_bytes() == b"old"
    with pytest.raises(Stopped):
        folder.read("a", lambda: True)


def test_a_reader_sees_the_old_or_the_new_file_whole(root: Path) -> None:
    async def check(files: Files) -> None:
        contents = {bytes([n]) * 500_000 for n in range(4)}
        await files.value(file.write("a", bytes([0]) * 500_000))
        writes = [Probe(files.effector, file.write("a", content)) for content in sorted(contents) * 5]
        while not all(probe.outcomes for probe in writes):
            assert await files.value(file.read("a")) in contents
        assert os.listdir(root) == ["a"]

    run(check, root, max_bytes=1_000_000)


def test_a_disk_that_hangs_keeps_neither_the_loop_nor_the_stop(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr("zerver.effectors.file._PATIENCE", 0.05)
    monkeypatch.setattr("zerver.effectors.folder.os.fsync", lambda _: go.wait(20))
    probes: list[Probe] = []

    async def check(files: Files) -> None:
        probes.extend(Probe(files.effector, file.write(f"a{n}", b"")) for n in range(6))
        await until(lambda: len(os.listdir(root)) == 4 if root.exists() else False)
        assert probes[5].cancel is not None
        probes[5].cancel()
        assert len(probes[5].outcomes) == 1

    try:
        run(check, root)
    finally:
        go.set()
    assert [len(probe.outcomes) for probe in probes[4:]] == [1, 1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "in", "out", "\0", "é"]), min_size=1, max_size=6))
def test_no_path_reads_or_writes_outside(tmp_path: Path, parts: list[str]) -> None:
    root = tmp_path / "root"
    if not root.exists():
        (root / "a").mkdir(parents=True)
        (root / "out").symlink_to(tmp_path)
        (root / "a" / "out").symlink_to("../..")
        (tmp_path / "in").write_text("secret")
    folder = Folder(str(root), 100)
    path = "/".join(parts)
    with contextlib.suppress(FolderProblem):
        assert folder.read(path, lambda: False) != b"secret"
    with contextlib.suppress(FolderProblem):
        folder.write(path, b"mine", lambda: False)
    assert sorted(os.listdir(tmp_path)) == ["in", "root"]
    assert (tmp_path / "in").read_text() == "secret"


class Note(Slot[str]):
    """The text of a note."""


@step
def load(ctx: CtxView[Note, Note]) -> Decision:
    return Need([file.read(ctx.param("path"), into=Note)], then=show)


def show(ctx: CtxView[Note]) -> Decision:
    return Done.text(ctx.require(Note))


def test_an_app_answers_403_and_404_by_itself(root: Path) -> None:
    root.mkdir(parents=True)
    (root / "a.txt").write_text("note")
    app = App()
    app.get("/{path:path}", load)

    async def main() -> None:
        async with running(app, effects={"files": {"root": str(root)}}) as rig:
            assert await rig.get("/a.txt").status() == 200
            assert await rig.get("/b.txt").status() == 404
            assert await rig.get("/../../secret").status() == 403

    asyncio.run(main())
