"""The cache that all processes of a Node share: one actor, asked by name."""

from __future__ import annotations

import time
from typing import ClassVar

from zerver_runtime.actor import Actor, Affinity, behaviour
from zerver_runtime.mailbox import MailboxPolicy

from .lru import Lru, LruStatistics

__all__ = ["CACHE", "CacheActor"]

CACHE = "zerver.cache"
"""Its name."""


class CacheActor(Actor):
    """``most``: bytes that it keeps. A restart begins with an empty cache: to carry one over would cost more than to
    fill it."""

    affinity: ClassVar[Affinity] = "efficiency"
    mailbox: ClassVar[MailboxPolicy] = MailboxPolicy(bound=8192, full="fail")

    def __init__(self, most: int) -> None:
        self._lru = Lru(most)

    @behaviour
    def get(self, key: str) -> bytes | None:
        return self._lru.get(key, time.monotonic())

    @behaviour
    def set(self, key: str, value: bytes, ttl: float) -> None:
        self._lru.set(key, value, ttl, time.monotonic())

    @behaviour
    def delete(self, key: str) -> None:
        self._lru.delete(key)

    @behaviour
    def statistics(self) -> LruStatistics:
        return self._lru.statistics()
