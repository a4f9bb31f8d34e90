"""A cache of bytes by key, bounded in bytes: what was used longest ago goes first."""

from __future__ import annotations

import msgspec

__all__ = ["Lru", "LruStatistics"]

_OVERHEAD = 200  # bytes of an entry beside its key and value: the objects and their places


class LruStatistics(msgspec.Struct, frozen=True):
    entries: int
    size: int
    """Bytes: of keys, values and what keeping them takes."""
    hits: int
    misses: int
    evicted: int
    """Entries that had to go before their time."""


class Lru:
    """``most``: bytes in all. ``now`` is in seconds of one monotonic clock, in every call. All takes the same time
    however many entries there are; an entry whose time is over is found when it is asked for, or is the oldest."""

    __slots__ = ("_entries", "_evicted", "_hits", "_misses", "_most", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[str, tuple[bytes, float]] = {}  # in the order of their last use
        self._size = self._hits = self._misses = self._evicted = 0

    def get(self, key: str, now: float) -> bytes | None:
        """The value; ``None`` where there is none any more."""
        entry = self._entries.pop(key, None)
        if entry is None:
            self._misses += 1
            return None
        if now >= entry[1]:
            self._size -= _size(key, entry[0])
            self._misses += 1
            return None
        self._entries[key] = entry
        self._hits += 1
        return entry[0]

    def set(self, key: str, value: bytes, ttl: float, now: float) -> None:
        """Keep it for ``ttl`` seconds. What is too large for the whole cache is not kept, and neither is what the key
        had before."""
        self.delete(key)
        size = _size(key, value)
        if size > self._most:
            self._evicted += 1
            return
        self._entries[key] = (value, now + ttl)
        self._size += size
        while self._size > self._most:
            oldest = next(iter(self._entries))
            if self._entries[oldest][1] > now:
                self._evicted += 1
            self.delete(oldest)

    def delete(self, key: str) -> None:
        """Forget it, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= _size(key, entry[0])

    def statistics(self) -> LruStatistics:
        return LruStatistics(len(self._entries), self._size, self._hits, self._misses, self._evicted)


def _size(key: str, value: bytes) -> int:
    return len(key) * 4 + len(value) + _OVERHEAD
