"""Performs ``kv`` effects, in the store that its URL names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..config.rules import is_redis
from ..effect import Effect
from .base import Done
from .redis_kv import RedisKv
from .sqlite_kv import SqliteKv

__all__ = ["KvEffector"]


class KvEffector:
    """``readers`` and ``busy_timeout``: see :class:`SqliteDatabase`. ``clock``: seconds since the epoch, by which
    ``idem`` keys in SQLite are forgotten after 24 hours; Redis has a clock of its own.

    Raw results are ``bytes | None`` for ``get``, pairs and a cursor for ``scan``, and ``None``.

    :raises ValueError: a URL that is no store's.
    :raises ConfigError: Redis without the package that it takes.
    """

    def __init__(
        self, url: str, *, readers: int = 4, busy_timeout: float = 5.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._store: RedisKv | SqliteKv
        if is_redis(url):
            self._store = RedisKv(url)
        else:
            self._store = SqliteKv(url, readers=readers, busy_timeout=busy_timeout, clock=clock)

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        return self._store.start(effect, done)

    async def close(self) -> None:
        """Cancel what is in flight, and leave no thread, task or connection."""
        await self._store.close()

    def __repr__(self) -> str:
        return f"<KvEffector: {self._store!r}>"
