"""Opens the console in a browser, where somebody sits in front of one."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Mapping

from ..config.rules import admin_address

__all__ = ["console_url", "open_when_up", "somebody_looks"]

_PATIENCE = 60.0  # seconds that the app has to come up
_PERIOD = 0.1


def console_url(admin: str | None) -> str | None:
    """Where the console of an admin address is; ``None`` where there is none, or its port is not known yet."""
    address = admin_address(admin)
    if address is None or address[1] == 0:
        return None
    host, port = address
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/console/"


def somebody_looks(terminal: bool, environment: Mapping[str, str], platform: str) -> bool:
    """Whether there is a person to open a browser for: a terminal, a screen, and no continuous integration."""
    if not terminal or environment.get("CI"):
        return False
    return platform in ("darwin", "win32") or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def open_when_up(admin: str | None) -> None:
    """Open the console once its address is listened on, from a thread; nothing where nobody looks."""
    url, address = console_url(admin), admin_address(admin)
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if url is not None and address is not None and somebody_looks(terminal, os.environ, sys.platform):
        threading.Thread(target=_open, args=(url, address), name="zerver-browse", daemon=True).start()


def _open(url: str, address: tuple[str, int]) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            socket.create_connection(address, timeout=1.0).close()
        except OSError:
            time.sleep(_PERIOD)
        else:
            webbrowser.open(url)
            return
