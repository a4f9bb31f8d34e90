"""What the system did with a thread: how long it ran, and how long it was kept from running though it could have."""

from __future__ import annotations

import os
import time

__all__ = ["ThreadClock"]


class ThreadClock:
    """Of the thread that makes it; `read` may be called there only.

    A task that takes long by the clock on the wall has computed, or has waited for something; or the machine was busy,
    and it is not to blame. Only the system knows of the last: Linux tells (`/proc/thread-self/schedstat`, about 2 us),
    and elsewhere it is taken for waiting.
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        try:
            self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def read(self) -> tuple[int, int]:
        """Nanoseconds since the thread began: on a CPU, and ready to run but without one."""
        if self._fd < 0:
            return time.thread_time_ns(), 0
        ran, delayed, _ = os.pread(self._fd, 96, 0).split()
        return int(ran), int(delayed)

    def delayed(self) -> int:
        """The second of the two."""
        return self.read()[1]

    def close(self) -> None:
        """Twice does nothing. Read afterwards, it knows of no delays."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
