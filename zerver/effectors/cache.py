"""Performs ``cache`` effects: in this process, in the actor that a Node's processes share, or on Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from zerver_runtime.actor import whereis
from zerver_runtime.message import ActorError
from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler

from ..cache_actor import CACHE, CacheActor
from ..config.rules import is_redis
from ..effect import Effect
from ..effects.cache import CacheDelete, CacheGet, CacheSet
from ..error import Error, ErrorKind
from ..lru import Lru
from .actor import Asks
from .base import Done, closed, unreachable
from .redis_commands import Operation, RedisCommands

__all__ = ["CacheEffector"]

_VALUE: Final = "zerver:cache:"


class CacheEffector:
    """``url``: ``memory://``, or that of Redis or Valkey. In memory it is a cache of this process, of ``most`` bytes;
    or, with a ``stage``, the :class:`CacheActor` that is found there by the name ``zerver.cache``.

    Raw results are ``bytes | None`` for ``get``, and ``None``.

    :raises ConfigError: Redis without the package that it takes.
    """

    def __init__(
        self, url: str, *, most: int, stage: Scheduler | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store: _Store
        if is_redis(url):
            self._store = _RedisCache(url)
        else:
            self._store = _OwnCache(Lru(most), clock) if stage is None else _SharedCache(stage)

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        return self._store.start(effect, done)

    async def close(self) -> None:
        """Cancel what is in flight, and leave no task or connection."""
        await self._store.close()

    def __repr__(self) -> str:
        return f"<CacheEffector: {self._store!r}>"


class _Store(Protocol):
    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None: ...
    async def close(self) -> None: ...


class _OwnCache:
    """Settles at once."""

    def __init__(self, lru: Lru, clock: Callable[[], float]) -> None:
        self._lru = lru
        self._clock = clock
        self._closed = False

    def start(self, effect: Effect[Any], done: Done, /) -> None:
        args = effect.args
        if self._closed:
            done(closed(effect))
        elif isinstance(args, CacheGet):
            done(Success(self._lru.get(args.key, self._clock())))
        elif isinstance(args, CacheSet):
            self._lru.set(args.key, args.value, args.ttl, self._clock())
            done(Success(None))
        else:
            self._lru.delete(args.key)
            done(Success(None))

    async def close(self) -> None:
        self._closed = True

    def __repr__(self) -> str:
        return f"<a cache of this process: {self._lru.statistics()}>"


class _SharedCache:
    """Asks the actor; looks its name up each time, as a restart makes another one."""

    def __init__(self, stage: Scheduler) -> None:
        self._stage = stage
        self._asks = Asks()

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        if self._asks.closed:
            done(closed(effect))
            return None
        try:
            with self._stage:
                reply = _sent(effect.args)
        except ActorError:  # its mailbox is full
            what = f"{effect.label}: the cache has too much to do"
            done(Failure(Error(ErrorKind.OVERLOADED, what, retry_after=1.0)))
            return None
        if reply is None:
            done(unreachable(effect))
            return None
        return self._asks.wait(reply, effect, done, _lost)

    async def close(self) -> None:
        self._asks.close()

    def __repr__(self) -> str:
        return f"<the shared cache: {len(self._asks)} asked>"


def _sent(args: CacheGet | CacheSet | CacheDelete) -> Reply[Any] | None:
    actor = whereis(CACHE, CacheActor)
    if actor is None:
        return None
    if isinstance(args, CacheGet):
        return actor.get(args.key)
    return actor.set(args.key, args.value, args.ttl) if isinstance(args, CacheSet) else actor.delete(args.key)


class _RedisCache:
    def __init__(self, url: str) -> None:
        self._redis = RedisCommands(url, "effects.cache")
        self.close = self._redis.close

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        return self._redis.start(effect, done, _operation(effect))

    def __repr__(self) -> str:
        return repr(self._redis)


def _operation(effect: Effect[Any]) -> Operation:
    args = effect.args
    if isinstance(args, CacheGet):
        return Success((yield "GET", _VALUE + args.key))
    if isinstance(args, CacheSet):
        yield "SET", _VALUE + args.key, args.value, "PX", max(1, round(args.ttl * 1000))
    else:
        yield "DEL", _VALUE + args.key
    return Success(None)


def _lost(effect: Effect[Any], problem: ActorError) -> Failure:
    return unreachable(effect)
