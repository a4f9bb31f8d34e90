"""The body of an answer, piece by piece into a file, off the loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar

from .folder import Folder, FolderProblem

__all__ = ["NotSaved", "TooLarge", "save"]

T = TypeVar("T")

_AT_ONCE: Final = 256 * 1024  # bytes that are worth the way to a thread


class TooLarge(Exception):
    """The body has more than ``most`` bytes."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


class NotSaved(Exception):
    """The folder or the disk does not take it."""

    def __init__(self, problem: FolderProblem | OSError) -> None:
        super().__init__(problem)
        self.problem = problem


async def save(folder: Folder, path: str, pieces: AsyncIterator[bytes]) -> bytes:
    """Save a body. The file is there as a whole when this returns, and otherwise nothing has changed. Gives what is
    left of the body in memory: nothing.

    :raises TooLarge: it has more bytes than a file of that folder may have.
    :raises NotSaved: for one of the reasons that :meth:`Folder.write` has.
    """
    writing = folder.writing(path, _never)
    put: Callable[[bytes], None] | None = None

    def begin() -> None:
        nonlocal put
        put = writing.__enter__()

    def go_on() -> None:
        assert put is not None
        put(b"".join(waiting))

    waiting: list[bytes] = []
    size = held = 0
    try:
        await _on_a_thread(begin)
        async for piece in pieces:
            size += len(piece)
            if size > folder.most:
                raise TooLarge(folder.most)
            waiting.append(piece)
            held += len(piece)
            if held >= _AT_ONCE:
                await _on_a_thread(go_on)
                waiting, held = [], 0
        await _on_a_thread(go_on)
    except BaseException:
        if put is not None:
            await _on_a_thread(writing.__exit__, *sys.exc_info())
        raise
    await _on_a_thread(writing.__exit__, None, None, None)
    return b""


def _never() -> bool:
    return False


async def _on_a_thread(do: Callable[..., T], *args: Any) -> T:
    """Call it there, and let go only when it has returned: what it holds open must not be closed beneath it."""
    job = asyncio.get_running_loop().run_in_executor(None, do, *args)
    cancelled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError as heard:
            cancelled = heard
    problem = job.exception()
    if cancelled is not None:
        raise cancelled
    if isinstance(problem, (FolderProblem, OSError)):
        raise NotSaved(problem) from None
    return job.result()
