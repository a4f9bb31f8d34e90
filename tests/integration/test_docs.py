"""The documentation is true: its code runs, its sessions answer as shown, its links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

import zerver
from zerver import App

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").rglob("*.md"))
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def modules(page: Path) -> list[str]:
    """A block that begins with an import starts a module; the blocks after it go on with that module."""
    found: list[str] = []
    for block in blocks(page, "python"):
        if isinstance(ast.parse(block).body[0], (ast.Import, ast.ImportFrom)):
            found.append(block)
        else:
            assert found, f"{name_of(page)}: its first Python block does not begin with an import"
            found[-1] += "\n\n" + block
    return found


CODE = [
    pytest.param(source, id=f"{name_of(page)}-{n}") for page in PAGES for n, source in enumerate(modules(page), start=1)
]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Any]:
    loaded = []

    def load(source: str) -> ModuleType:
        name = f"documented_{len(loaded)}"
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        loaded.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]


@pytest.mark.parametrize("source", CODE)
def test_every_python_block_runs_and_its_app_could_start(source: str, load: Any) -> None:
    app = getattr(load(source), "app", None)
    if isinstance(app, App):
        report = app.check()
        assert not report.errors
        assert not report.warnings


def test_the_driver_of_the_guide_keeps_the_rules_as_its_own_test_says(load: Any) -> None:
    (source, *_) = modules(ROOT / "docs/guides/own-effector.md")
    load(source).test_the_feed_keeps_the_rules()


def test_the_first_app_of_the_readme_is_the_example() -> None:
    assert (ROOT / "examples/hello/app.py").read_text() in blocks(ROOT / "README.md", "python")


# Sessions


SESSIONS = [
    pytest.param(page, block, id=f"{name_of(page)}-{n}")
    for page in PAGES
    for n, block in enumerate(blocks(page, "console"), start=1)
]


def app_of(page: Path, block: str, load: Any) -> App:
    if page.name != "README.md":
        (source,) = modules(page)
        return load(source).app  # type: ignore[no-any-return]
    if "/todos" in block:
        from examples.todo.app import app
    else:
        from examples.hello.app import app
    return app


def request_of(client: TestClient, command: str) -> tuple[Any, bool]:
    """Send what a curl command would; whether it shows the head too."""
    words = iter(shlex.split(command))
    assert next(words) == "curl"
    method, url, body, show_head = "GET", "", None, False
    headers = {}
    for word in words:
        match word:
            case "-i":
                show_head = True
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(":")
                headers[name] = value.strip()
            case "-d":
                body = next(words)
                method = "POST" if method == "GET" else method
            case _:
                assert word.startswith("localhost:8080/"), word
                url = word.removeprefix("localhost:8080")
    return client.request(method, url, content=body, headers=headers), show_head


def assert_shown(answer: Any, expected: str, with_head: bool) -> None:
    if with_head:
        head, _, expected = expected.partition("\n\n")
        first, *lines = head.splitlines()
        assert first == f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"
        for line in lines:
            name, _, value = line.partition(": ")
            assert answer.headers[name] == value
    given = TIME.sub("TIME", answer.text)
    pattern = re.escape(TIME.sub("TIME", expected)).replace("…", r"\w+")
    assert re.fullmatch(pattern, given), given


@pytest.mark.parametrize(("page", "session"), SESSIONS)
def test_every_curl_session_answers_as_shown(
    page: Path, session: str, load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the storage of the app
    with TestClient(app_of(page, session, load)) as client:
        for exchange in session.removeprefix("$ ").rstrip("\n").split("\n$ "):
            command, _, expected = exchange.partition("\n")
            answer, with_head = request_of(client, command)
            assert_shown(answer, expected, with_head)


def test_json_blocks_are_json() -> None:
    for page in PAGES:
        for block in blocks(page, "json"):
            json.loads(block)


# Links and names


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    text = BLOCK.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES + EXAMPLES, ids=name_of)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)} links to {link}; there is no such heading"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=name_of)
def test_every_page_is_in_the_index(page: Path) -> None:
    index = ROOT / "docs" / "README.md"
    assert page == index or f"({page.relative_to(index.parent)})" in index.read_text()


@pytest.mark.parametrize("name", zerver.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert any(re.search(rf"\b{name}\b", page.read_text()) for page in PAGES if page.name != "CHANGELOG.md")


def test_the_map_names_only_what_is_there() -> None:
    """In the map of the architecture, a line that is indented under a folder names modules and folders in it."""
    (tree,) = [block for block in blocks(ROOT / "docs/architecture.md", "text") if "zerver_runtime/" in block]
    folders: list[tuple[int, Path]] = [(-1, ROOT)]
    for line in tree.splitlines():
        names = line.split("  ")[0] if not line.startswith(" ") else line.lstrip().split("  ")[0]
        depth = len(line) - len(line.lstrip())
        while folders[-1][0] >= depth:
            folders.pop()
        for name in names.split():
            path = folders[-1][1] / name
            assert path.is_dir() if name.endswith("/") else path.with_suffix(".py").is_file(), f"{path} is not there"
            if name.endswith("/"):
                folders.append((depth, path))
