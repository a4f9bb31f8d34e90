"""A headless Chromium, driven by its DevTools protocol. Each page is a context of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

__all__ = ["CHROMIUM", "Browser", "Page"]

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PATIENCE = 20.0  # seconds; what is waited for takes milliseconds
_KEYS = {
    "Enter": (13, "\r"), "Escape": (27, ""), "ArrowDown": (40, ""), "ArrowUp": (38, ""), "Tab": (9, ""),
    "End": (35, ""), "Home": (36, ""),
}  # fmt: skip


class Browser:
    """One process, with those that it starts, in a session of their own."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        self._child = subprocess.Popen(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={folder}",
                "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run",
                "--disable-component-update", "--disable-extensions", "--mute-audio", "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "TZ": "UTC", "HOME": str(folder)},
        )  # fmt: skip
        try:
            self._open = contextlib.ExitStack()
            self._wire = self._open.enter_context(connect(self._address(), max_size=None, proxy=None, compression=None))
        except BaseException:
            self._kill()
            raise

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """A page that has nothing of the others."""
        control = _Session(self._wire, None)
        context = control.call("Target.createBrowserContext")["browserContextId"]
        target = control.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = control.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        try:
            yield Page(_Session(self._wire, session))
        finally:
            control.call("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        """Let it end by itself, with all its processes; or end it."""
        with contextlib.suppress(Exception):
            _Session(self._wire, None).call("Browser.close")
            self._child.wait(PATIENCE)
        self._open.close()
        self._kill()

    def _address(self) -> str:
        assert self._child.stderr is not None
        told, until = "", time.monotonic() + PATIENCE
        while not (found := re.search(r"DevTools listening on (ws://\S+)", told)):
            ready, _, _ = select.select([self._child.stderr], [], [], max(until - time.monotonic(), 0))
            text = os.read(self._child.stderr.fileno(), 65536).decode(errors="replace") if ready else ""
            assert text, f"Chromium does not start: {told}"
            told += text
        return found[1]

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.communicate()


class _Session:
    """Commands to one target, and what it says meanwhile."""

    _last = 0

    def __init__(self, wire: ClientConnection, id: str | None) -> None:
        self._wire = wire
        self._id = id
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        _Session._last += 1
        number = _Session._last
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._id is not None:
            message["sessionId"] = self._id
        self._wire.send(json.dumps(message))
        while True:
            answer = json.loads(self._wire.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]  # type: ignore[no-any-return]  # JSON
            if answer.get("sessionId") == self._id:
                self.events.append(answer)


class Page:
    """One page. What goes wrong in it is in :attr:`problems`."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            session.call(f"{domain}.enable")

    @property
    def problems(self) -> list[str]:
        """Exceptions, errors on the console, and what the browser refused: violations of the security policy too."""
        self.js("0")
        found = []
        for event in self._session.events:
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
        return found

    @property
    def asked(self) -> list[str]:
        """The URLs that it has asked for."""
        self.js("0")
        return [
            event["params"]["request"]["url"]
            for event in self._session.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Its size in CSS pixels, and which colours its user prefers."""
        self._session.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._session.call("Emulation.setEmulatedMedia", features=[scheme])

    def goto(self, url: str) -> None:
        """Load a page and wait until it has loaded."""
        self._session.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page, a promise's too."""
        found = self._session.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true; its value."""
        until = time.monotonic() + PATIENCE
        value = f"const it = ({expression}); return it instanceof Node || it"
        attempt = f"(() => {{ try {{ {value} }} catch {{ return null }} }})()"
        while not (found := self.js(attempt)):
            assert time.monotonic() < until, f"never true: {expression}; {self.problems}"
            self.js("new Promise((done) => setTimeout(done, 10))")
        return found

    def press(self, *keys: str) -> None:
        for key in keys:
            code, text = _KEYS[key] if key in _KEYS else (ord(key.upper()), key)
            event = {"key": key, "windowsVirtualKeyCode": code, "text": text} if text else {
                "key": key, "windowsVirtualKeyCode": code}  # fmt: skip
            self._session.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **event)
            self._session.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        self._session.call("Input.insertText", text=text)

    def screenshot(self, path: str) -> None:
        data = self._session.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))
