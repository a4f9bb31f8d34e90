"""The same requests through the front end and through the ASGI form of the app under uvicorn: the same answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from asgi_kit import configured
from fastapi import FastAPI
from front_kit import PATIENCE, Answer, Client, Records, front, request, until
from starlette.staticfiles import StaticFiles

from zerver import App, CtxView, Decision, Done, Fail, Need, timer
from zerver.error import ErrorKind

FILE = bytes(range(256)) * 500


def plain(ctx: CtxView) -> Decision:
    return Done.json({"query": ctx.query("a", default="none"), "client": ctx.client_ip, "name": ctx.param("name")})


def echo(ctx: CtxView) -> Decision:
    return Done.bytes(ctx.body, headers={"X-Method": ctx.method, "X-Type": ctx.header("content-type", default="none")})


def wants_json(ctx: CtxView) -> Decision:
    return Done.json(ctx.json(dict[str, int]))


def later(ctx: CtxView) -> Decision:
    return Need([timer.sleep(0.001)], then=plain)


def stream(ctx: CtxView) -> Decision:
    return Done.stream([b"one", b"two"], content_type="text/event-stream")


def fail(ctx: CtxView) -> Decision:
    return Fail(ErrorKind.TOO_MANY_REQUESTS, what="slowly", key="k")


def bug(ctx: CtxView) -> Decision:
    raise ValueError("secret")


def status(ctx: CtxView) -> Decision:
    return Done.empty(status=ctx.param("status", int), headers={"X-A": "b", "Set-Cookie": "a=b"})


def redirect(ctx: CtxView) -> Decision:
    return Done.redirect("/ä b")


def make_app(root: Path) -> App:
    def file(ctx: CtxView) -> Decision:
        return Done.file(root / "data.bin", filename="ä.bin")

    api = FastAPI()

    @api.get("/items/{item}")
    def item(item: int) -> dict[str, int]:
        return {"item": item}

    @api.post("/items")
    def add(item: dict[str, int]) -> dict[str, int]:
        return item

    app = App()
    for path, step in (
        ("/plain/{name}", plain), ("/later/{name}", later), ("/stream", stream), ("/fail", fail), ("/bug", bug),
        ("/status/{status:int}", status), ("/redirect", redirect), ("/file", file),
    ):  # fmt: skip
        app.get(path, step)
    app.post("/echo", echo)
    app.put("/echo", echo)
    app.post("/json", wants_json)
    app.mount("/api", api)
    app.mount("/static", StaticFiles(directory=root))
    return configured(app, reactor={"enabled": True}, limits={"body_bytes": 1000})


CASES = {
    "plain": request("/plain/n?a=b"),
    "escapes": request("/plain/%C3%A4%20b?a=%26"),
    "a slash in an escape": request("/plain/a%2Fb"),
    "no UTF-8": request("/plain/%ff"),
    "HTTP/1.0": request("/plain/n", version="1.0"),
    "HEAD": request("/plain/n", method="HEAD"),
    "OPTIONS": request("/plain/n", method="OPTIONS"),
    "another method": request("/plain/n", method="DELETE"),
    "a rare method": request("/plain/n", method="PROPFIND"),
    "no route": request("/none/%0a"),
    "a slash too many": request("/plain/n/"),
    "OPTIONS of all": request("*", method="OPTIONS"),
    "a need": request("/later/n"),
    "HEAD of a need": request("/later/n", method="HEAD"),
    "a body": request("/echo", "Content-Type: text/x", method="POST", body=b"body"),
    "PUT": request("/echo", method="PUT", body=b"body"),
    "no body": request("/echo", method="POST"),
    "chunks": request("/echo", "Transfer-Encoding: chunked", method="POST") + b"4\r\nbody\r\n0\r\n\r\n",
    "JSON": request("/json", "Content-Type: application/json", method="POST", body=b'{"a":1}'),
    "broken JSON": request("/json", "Content-Type: application/json", method="POST", body=b'{"a":'),
    "wrong JSON": request("/json", "Content-Type: application/json", method="POST", body=b'{"a":"b"}'),
    "no JSON": request("/json", "Content-Type: text/plain", method="POST", body=b"{}"),
    "too large": request("/echo", method="POST", body=b"x" * 1001),
    "too large in chunks": request("/echo", "Transfer-Encoding: chunked", method="POST") + b"3e9\r\n" + b"x" * 1001,
    "a body on GET": request("/plain/n", body=b"body"),
    "a body without a route": request("/none", method="POST", body=b"body"),
    "a stream": request("/stream"),
    "HEAD of a stream": request("/stream", method="HEAD"),
    "a failure": request("/fail"),
    "a bug": request("/bug"),
    "204": request("/status/204"),
    "304": request("/status/304"),
    "200 without a body": request("/status/200"),
    "a redirect": request("/redirect"),
    "a file": request("/file"),
    "HEAD of a file": request("/file", method="HEAD"),
    "a part of a file": request("/file", "Range: bytes=5-9"),
    "no part of a file": request("/file", "Range: bytes=999999-"),
    "a file of a mount": request("/static/data.bin"),
    "HEAD of a file of a mount": request("/static/data.bin", method="HEAD"),
    "no file of a mount": request("/static/none"),
    "a mounted app": request("/api/items/3"),
    "a body of a mounted app": request("/api/items", "Content-Type: application/json", method="POST", body=b'{"a":1}'),
    "a fault in a mounted app": request("/api/items/x"),
    "HEAD of a mounted app": request("/api/items/3", method="HEAD"),
    "the mount itself": request("/api"),
}
# What only one of the two has: uvicorn's name; how the connection goes on; that HEAD says how GET would be framed.
OWN = {"date", "server", "connection", "x-request-id", "transfer-encoding"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("root")
    (found / "data.bin").write_bytes(FILE)
    return found


@contextmanager
def under_uvicorn(app: App) -> Iterator[Any]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http="httptools", lifespan="on", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until(lambda: server.started)
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()


def ask(address: Any, sent: bytes) -> Answer:
    with Client(address) as client:
        client.send(sent)
        return client.answer(sent.split(b" ", 1)[0].decode())


def comparable(answer: Answer) -> tuple[int, list[tuple[str, str]], Any]:
    body: Any = answer.body
    if answer.field("content-type") == "application/problem+json" and body:
        body = answer.json()
        assert body.pop("request_id")
        if answer.status == 413:
            del body["detail"]
    fields = [(name, value) for name, value in answer.fields if name not in OWN]
    if isinstance(body, dict):
        fields = [one for one in fields if one[0] != "content-length"]  # the ids may differ in length
    return answer.status, sorted(fields), body


def test_each_answer_is_that_of_the_asgi_form(root: Path) -> None:
    differing = []
    with Records(level=60), Records("uvicorn.error", level=60):
        with front(make_app(root), body_bytes=1000) as server:
            ours = {name: ask(server.address, sent) for name, sent in CASES.items()}
        with under_uvicorn(make_app(root)) as address:
            theirs = {name: ask(address, sent) for name, sent in CASES.items()}
    for name in CASES:
        one, other = comparable(ours[name]), comparable(theirs[name])
        if one != other:
            differing.append(f"{name}:\n  {one}\n  {other}")
    assert not differing, "\n".join(differing)
