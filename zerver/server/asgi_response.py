"""Responses as ASGI messages: bytes, streams and files."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import FileResponse

from ..error import Error, ErrorKind
from ..execution import Render
from ..request import Request
from ..response import FileBody, Response, StreamBody

__all__ = ["send_response"]

_log = logging.getLogger("zerver")
_WITHOUT_LENGTH = frozenset({204, 304})  # RFC 9110 section 8.6


async def send_response(
    request: Request, answer: Response, render: Render, gone: asyncio.Future[None] | None, send: Any
) -> None:
    """Send a response, to HEAD without its body. ``render`` makes the 404 of a file that is not there. ``gone`` is done
    when the client has gone; a stream then stops."""
    body = answer.body
    if isinstance(body, FileBody) and not await run_in_threadpool(os.path.isfile, body.path):
        answer = render(Error(ErrorKind.NOT_FOUND, "the file is not there"), request, None)
        body = answer.body
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"x-request-id", request.id.encode("ascii")))
    if isinstance(body, FileBody):
        await _send_file(request, answer.status, body, headers, send)
        return
    if isinstance(body, bytes) and answer.status not in _WITHOUT_LENGTH:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})
    elif request.method == "HEAD":
        await _close(body.chunks)
        await send({"type": "http.response.body", "body": b""})
    else:
        await _send_stream(request, body, gone, send)


async def _send_stream(request: Request, body: StreamBody, gone: asyncio.Future[None] | None, send: Any) -> None:
    pump = asyncio.ensure_future(_pump(body.chunks, send))
    try:
        await asyncio.wait((pump, gone) if gone else (pump,), return_when=asyncio.FIRST_COMPLETED)
    finally:
        pump.cancel()
        (problem,) = await asyncio.gather(pump, return_exceptions=True)
        if isinstance(problem, Exception):
            # The status is out already. Leaving the body without its end makes the server cut the connection, so
            # that the client does not take half an answer for a whole one.
            _log.error("request %s: its stream failed", request.id, exc_info=problem)


async def _pump(chunks: Iterable[bytes] | AsyncIterable[bytes], send: Any) -> None:
    iterator: AsyncIterator[bytes]
    if isinstance(chunks, AsyncIterable):
        iterator = aiter(chunks)
    else:
        iterator = iterate_in_threadpool(chunks)
    try:
        async for chunk in iterator:
            if not isinstance(chunk, (bytes, bytearray, memoryview)):
                raise TypeError(f"Done.stream gives bytes, not {type(chunk).__name__}; encode it")
            await send({"type": "http.response.body", "body": bytes(chunk), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await _close(chunks)


async def _close(chunks: Iterable[bytes] | AsyncIterable[bytes]) -> None:
    """Run the ``finally`` of a generator that was not exhausted."""
    if hasattr(chunks, "aclose"):
        await chunks.aclose()
    elif hasattr(chunks, "close"):
        await run_in_threadpool(chunks.close)


async def _send_file(
    request: Request, status: int, body: FileBody, headers: list[tuple[bytes, bytes]], send: Any
) -> None:
    """Through Starlette, which knows ranges and validators (RFC 9110 sections 13 and 14)."""
    own = {name for name, _ in headers}
    file = FileResponse(body.path, status_code=status, filename=body.filename)
    file.raw_headers[:] = [*headers, *(pair for pair in file.raw_headers if pair[0] not in own)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": request.method, "headers": request.headers, "extensions": {}}
    await file(scope, receive, send)
