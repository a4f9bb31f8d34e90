"""Which connections are kept, and which one is used next. Decides; its caller opens and closes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Pool"]

K = TypeVar("K", bound=Hashable)
C = TypeVar("C", bound=Hashable)


class Pool(Generic[K, C]):
    """Idle connections by origin. The one that was used last is used next, so that what a burst has left grows old
    and is closed. How many are in use is bounded by the bulkheads above; how many are kept, here.

    :param seconds: how long one is kept.
    :param each: how many of one origin.
    :param total: how many of all. Origins may come from clients, so there is no end to them.
    """

    __slots__ = ("_each", "_idle", "_of", "_seconds", "_total")

    def __init__(self, seconds: float = 15.0, each: int = 64, total: int = 256) -> None:
        self._seconds = seconds
        self._each = each
        self._total = total
        # Both hold the same connections, those that were kept first in front. An origin whose last one was taken stays
        # until expire(): as a rule it is kept again at once.
        self._of: dict[K, dict[C, None]] = {}
        self._idle: dict[C, tuple[K, float]] = {}

    def take(self, origin: K) -> C | None:
        """The connection to use; None if a new one is to be opened."""
        kept = self._of.get(origin)
        if not kept:
            return None
        connection = kept.popitem()[0]
        del self._idle[connection]
        return connection

    def keep(self, origin: K, connection: C, now: float) -> C | None:
        """It is idle from now on. Gives the one that is to be closed for it, if there is one."""
        kept = self._of.get(origin)
        if kept is None:
            kept = self._of[origin] = {}
        kept[connection] = None
        self._idle[connection] = (origin, now)
        if len(kept) > self._each:
            oldest = next(iter(kept))
        elif len(self._idle) > self._total:
            oldest = next(iter(self._idle))
        else:
            return None
        self.drop(oldest)
        return oldest

    def drop(self, connection: C) -> bool:
        """It is closed, or about to be. False if it was not kept."""
        found = self._idle.pop(connection, None)
        if found is None:
            return False
        kept = self._of[found[0]]
        del kept[connection]
        if not kept:
            del self._of[found[0]]
        return True

    def expire(self, now: float) -> list[C]:
        """Those that have been idle for too long: they are to be closed."""
        late = []
        for connection, (_, since) in self._idle.items():
            if now < since + self._seconds:
                break
            late.append(connection)
        for connection in late:
            self.drop(connection)
        for origin in [origin for origin, kept in self._of.items() if not kept]:
            del self._of[origin]
        return late

    def clear(self) -> list[C]:
        """All of them: they are to be closed."""
        kept = list(self._idle)
        self._of.clear()
        self._idle.clear()
        return kept

    @property
    def due(self) -> float | None:
        """When to call :meth:`expire` next; None while nothing is kept."""
        for _, since in self._idle.values():
            return since + self._seconds
        return None

    def __len__(self) -> int:
        return len(self._idle)

    def __repr__(self) -> str:
        return f"<Pool of {len(self._of)} origins: {len(self._idle)} idle>"
