"""Responses as ASGI messages: bytes, streams and files."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from zerver_runtime.reactor.threads import ThreadPool

from ..effectors.base import hand_over
from ..error import AppError, Error, ErrorKind
from ..request import Request
from ..response import FileBody, Response, StreamBody
from ..surroundings import Render

__all__ = ["send_response"]

T = TypeVar("T")

_log = logging.getLogger("zerver")
_WITHOUT_LENGTH = frozenset({204, 304})  # RFC 9110 section 8.6
_END: Any = object()


async def send_response(
    request: Request, answer: Response, render: Render, pool: ThreadPool, gone: asyncio.Future[None], send: Any
) -> None:
    """Send a response, to HEAD without its body. ``render`` makes the response where this one cannot be sent; ``pool``
    reads plain iterables; ``gone`` is done when the client has gone: sending stops then."""
    out = _Out(send, request)
    try:
        await _send(request, answer, render, pool, gone, out)
    except _Gone:
        return
    except (Exception, SystemExit) as problem:
        # Where the head is out, leaving the body without its end makes the server cut the connection, so that the
        # client does not take half an answer for a whole one.
        _log.error("request %s: its response failed", request.id, exc_info=problem)
        if not out.begun:
            failed = render(Error(ErrorKind.INTERNAL, "the response cannot be sent"), request, problem)
            with suppress(_Gone):
                await _send(request, failed, render, pool, gone, out)


class _Gone(Exception):
    """The client has gone, says ``send``."""


class _Out:
    """``send``, and whether it was used."""

    def __init__(self, send: Any, request: Request) -> None:
        self.begun = False
        self._send = send
        self._id = (b"x-request-id", request.id.encode("ascii"))

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            message["headers"] = [*message["headers"], self._id]
        try:
            await self._send(message)
        except OSError as problem:  # what servers raise there, since version 2.4 of the ASGI specification
            raise _Gone from problem

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, body: bytes, more: bool = False) -> None:
        await self({"type": "http.response.body", "body": body, "more_body": more})


async def _send(
    request: Request, answer: Response, render: Render, pool: ThreadPool, gone: asyncio.Future[None], out: _Out
) -> None:
    if isinstance(answer.body, FileBody) and not await _on_thread(pool, functools.partial(_readable, answer.body.path)):
        answer = render(Error(ErrorKind.NOT_FOUND, "the file is not there"), request, None)
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in answer.headers]
    body = answer.body
    if isinstance(body, StreamBody):
        await _send_stream(request, answer.status, body, headers, pool, gone, out)
    elif gone.done():
        return
    elif isinstance(body, FileBody):
        await _send_file(request, answer.status, body, headers, gone, out)
    else:
        if answer.status not in _WITHOUT_LENGTH:
            headers.append((b"content-length", b"%d" % len(body)))
        await out.start(answer.status, headers)
        await out.body(b"" if request.method == "HEAD" else body)


async def _until_gone(sending: Coroutine[Any, Any, BaseException | None], gone: asyncio.Future[None]) -> None:
    task = asyncio.ensure_future(sending)
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        (problem,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(problem, (Exception, SystemExit)):
        raise problem
    if problem is not None and not gone.done():
        raise AppError("it cancelled itself") from problem


# Streams


async def _send_stream(
    request: Request,
    status: int,
    body: StreamBody,
    headers: list[tuple[bytes, bytes]],
    pool: ThreadPool,
    gone: asyncio.Future[None],
    out: _Out,
) -> None:
    chunks = body.chunks
    source = _Awaited(chunks) if isinstance(chunks, AsyncIterable) else _OnThreads(chunks, pool)
    try:
        if gone.done():
            return
        await out.start(status, headers)
        if request.method == "HEAD":
            await out.body(b"")
        else:
            await _until_gone(_pump(source, out), gone)
    finally:
        await source.close()


async def _pump(source: _Awaited | _OnThreads, out: _Out) -> BaseException | None:
    try:
        while (chunk := await source.next()) is not _END:
            if not isinstance(chunk, (bytes, bytearray, memoryview)):
                raise AppError(f"Done.stream gives bytes, not {type(chunk).__name__}; encode it")
            await out.body(bytes(chunk), more=True)
        await out.body(b"")
    except (Exception, SystemExit) as problem:  # returned: an exit that leaves a task ends the loop
        return problem
    return None


class _Awaited:
    """An async iterable, run on the loop."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self._iterator: AsyncIterator[bytes] | None = None

    async def next(self) -> bytes:
        if self._iterator is None:
            self._iterator = aiter(self._chunks)
        return await anext(self._iterator, _END)

    async def close(self) -> None:
        """Run the ``finally`` of a generator that is not exhausted."""
        for one in _to_close(self._iterator, self._chunks, "aclose"):
            await one()


class _OnThreads:
    """A plain iterable, run on threads of the pool: one at a time, and closed when the last call into it is back."""

    def __init__(self, chunks: Iterable[bytes], pool: ThreadPool) -> None:
        self._chunks = chunks
        self._pool = pool
        self._begun = False
        # Guarded by the lock.
        self._lock = threading.Lock()
        self._iterator: Any = None
        self._closed = False

    async def next(self) -> bytes:
        self._begun = True
        return await _on_thread(self._pool, self._next)

    async def close(self) -> None:
        """See :meth:`_Awaited.close`. Not awaited when the server has cancelled the request: it may hang."""
        task = asyncio.current_task()
        if not self._begun and not hasattr(self._chunks, "close"):
            return
        if task is not None and task.cancelling():
            # The pool may be closed before a thread of it gets to this.
            threading.Thread(target=self._close, name="zerver-close", daemon=True).start()
        else:
            await _on_thread(self._pool, self._close)

    def _next(self) -> bytes:
        with self._lock:
            if self._closed:
                raise AppError("the stream was closed")
            if self._iterator is None:
                self._iterator = iter(self._chunks)
            chunk: bytes = next(self._iterator, _END)
            return chunk

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            for one in _to_close(self._iterator, self._chunks, "close"):
                one()


def _to_close(iterator: object, iterable: object, name: str) -> list[Callable[[], Any]]:
    both = (iterable,) if iterator is None or iterator is iterable else (iterator, iterable)
    return [getattr(one, name) for one in both if hasattr(one, name)]


async def _on_thread(pool: ThreadPool, work: Callable[[], T]) -> T:
    """What ``work`` gives on a thread of the pool. It runs also when nobody waits for it any more."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[tuple[T, BaseException | None]] = loop.create_future()

    def done(value: T, problem: BaseException | None) -> None:
        hand_over(loop, _settle, result, (value, problem))

    if pool.submit(work, done) is None:
        raise AppError("the server has stopped")
    value, problem = await result
    if isinstance(problem, Exception):
        raise problem
    if problem is not None:  # an exit or interrupt would end the loop
        raise AppError(f"it raised {type(problem).__name__}") from problem
    return value


def _settle(result: asyncio.Future[T], value: T) -> None:
    if not result.done():
        result.set_result(value)


# Files


def _readable(path: str) -> bool:
    """Whether a file is there.

    :raises OSError: it is, and cannot be opened.
    """
    if not os.path.isfile(path):
        return False
    with open(path, "rb"):
        return True


async def _send_file(
    request: Request,
    status: int,
    body: FileBody,
    headers: list[tuple[bytes, bytes]],
    gone: asyncio.Future[None],
    out: _Out,
) -> None:
    """Through Starlette, which knows ranges and ``If-Range`` (RFC 9110 sections 14 and 13.1.5)."""
    own = {name for name, _ in headers}
    # A name from the file system may have bytes that are no text.
    from starlette.responses import FileResponse  # where no file is sent, the start is faster without it

    filename = None if body.filename is None else body.filename.encode("utf-8", "replace").decode()
    file = FileResponse(body.path, status_code=status, filename=filename)
    file.raw_headers[:] = [*headers, *(pair for pair in file.raw_headers if pair[0] not in own)]

    async def receive() -> dict[str, Any]:
        await asyncio.wait((gone,))
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        # Only this ends when the client goes: what opens and closes the file comes to its end.
        await _until_gone(out(message), gone)
        if gone.done():
            raise _Gone

    # A range of other units is to be ignored (RFC 9110 section 14.2).
    asked = [(n, v) for n, v in request.headers if n != b"range" or v.lower().startswith(b"bytes=")]
    scope = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": request.method, "headers": asked}
    await file(scope, receive, send)
