"""Lines for standard error, which may be closed, or a pipe that nobody reads: a log must never stop who writes it."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys

__all__ = ["complain"]

_PIECE = select.PIPE_BUF
"""Bytes that a pipe has room for when it says that it is writable."""

_dropped = 0


def complain(text: str) -> None:
    """Write it and a newline, at once. What standard error does not take is dropped, and counted there later."""
    global _dropped
    stream = sys.stderr
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):
        # Closed, or captured by a test.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.write(f"{text}\n")
        return
    if _dropped:
        text = f"({_dropped} messages were dropped: nobody read them)\n{text}"
    if _write(number, f"{text}\n".encode(errors="backslashreplace")):
        _dropped = 0
    else:
        _dropped += 1


def _write(number: int, data: bytes) -> bool:
    try:
        own = _unshared(number)
    except OSError:
        own = None
    try:
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        view = memoryview(data)
        while view:
            if not any(events & select.POLLOUT for _, events in poll.poll(0)):
                return False
            view = view[os.write(number if own is None else own, view[:_PIECE]) :]
    except OSError:
        return False
    finally:
        if own is not None:
            os.close(own)
    return True


def _unshared(number: int) -> int | None:
    """A pipe again, for this process alone: whoever shares the other one is not to find it non-blocking."""
    if not stat.S_ISFIFO(os.fstat(number).st_mode):
        return None
    return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
