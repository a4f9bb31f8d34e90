"""Whether and where ``zerver dev`` opens the console."""

from __future__ import annotations

import pytest

from zerver.cli.browse import console_url, somebody_looks


@pytest.mark.parametrize(
    ("admin", "url"),
    [
        ("127.0.0.1:9180", "http://127.0.0.1:9180/console/"),
        ("[::1]:9180", "http://[::1]:9180/console/"),
        ("localhost:80", "http://localhost:80/console/"),
        ("127.0.0.1:0", None),
        ("off", None),
        (None, None),
    ],
)
def test_where_the_console_is(admin: str | None, url: str | None) -> None:
    assert console_url(admin) == url


@pytest.mark.parametrize(
    ("terminal", "environment", "platform", "looks"),
    [
        (True, {"DISPLAY": ":0"}, "linux", True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        (True, {}, "linux", False),
        (True, {"DISPLAY": ""}, "linux", False),
        (True, {}, "darwin", True),
        (False, {"DISPLAY": ":0"}, "linux", False),
        (False, {}, "darwin", False),
        (True, {"DISPLAY": ":0", "CI": "true"}, "linux", False),
    ],
)
def test_a_browser_is_for_who_looks(terminal: bool, environment: dict[str, str], platform: str, looks: bool) -> None:
    assert somebody_looks(terminal, environment, platform) is looks
