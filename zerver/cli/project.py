"""``zerver new``: the files of a small app that runs, with a test that passes."""

from __future__ import annotations

import re
from pathlib import Path

from ..error import ZerverError

__all__ = ["ProjectError", "new_project"]

_APP = '''\
"""{name}."""

from zerver import App, CtxView, Decision, Done

app = App()


@app.get("/hello/{{name}}")
def hello(ctx: CtxView) -> Decision:
    return Done.json({{"hello": ctx.param("name")}})
'''

_TEST = """\
from starlette.testclient import TestClient

from app import app


def test_hello_greets_by_name() -> None:
    with TestClient(app) as client:
        answer = client.get("/hello/world")
    assert answer.status_code == 200
    assert answer.json() == {"hello": "world"}
"""

_CONFIG = """\
{
  "server": {
    "host": "127.0.0.1",
    "port": 8080
  }
}
"""


# Also what keeps pytest from taking the settings of a project further up.
_PYPROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
dependencies = ["zerver"]

[tool.pytest.ini_options]
testpaths = ["."]
"""


class ProjectError(ZerverError):
    """The project cannot be made; the message says why."""


def new_project(name: str, parent: Path) -> list[Path]:
    """Make the folder ``name`` in ``parent``, and its files.

    :raises ProjectError: it is no name for a folder, there is something of that name, or the disk refuses.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", name):
        raise ProjectError(f"{name!r}: a name is a letter, then letters, digits, - and _, at most 64 in all")
    folder = parent / name
    files = {
        "app.py": _APP.format(name=name),
        "test_app.py": _TEST,
        "config.json": _CONFIG,
        "pyproject.toml": _PYPROJECT.format(name=name.lower()),
    }
    try:
        folder.mkdir()  # fails on anything of that name, also on a dangling link
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise ProjectError(f"{folder} exists already, and is left as it is; give another name") from None
    except OSError as problem:
        raise ProjectError(f"{folder} cannot be made: {problem.strerror}") from None
    return [folder / file for file in files]
