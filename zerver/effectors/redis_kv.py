"""Performs ``kv`` effects on Redis or Valkey.

Each key's value is a key of Redis, and one sorted set has all keys, so that a page of them can be read in order.
Scripts keep the two together, and remember ``idem`` keys. What they touch is on one server: not for Redis Cluster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from zerver_runtime.outcome import Success

from ..effect import Effect
from ..effects.kv import KvGet, KvPut, KvScan
from .base import Done
from .redis_commands import Operation, RedisCommands

__all__ = ["RedisKv"]

_VALUE: Final = "zerver:kv:value:"
_KEYS: Final = "zerver:kv:keys"
_IDEM: Final = "zerver:kv:idem:"
_REMEMBERED: Final = 24 * 3600  # seconds

_ONCE: Final = f"if KEYS[3] and not redis.call('SET', KEYS[3], '1', 'NX', 'EX', {_REMEMBERED}) then return 0 end "
_PUT: Final = _ONCE + "redis.call('SET', KEYS[1], ARGV[2]) redis.call('ZADD', KEYS[2], 0, ARGV[1]) return 1"
_DELETE: Final = _ONCE + "redis.call('DEL', KEYS[1]) redis.call('ZREM', KEYS[2], ARGV[1]) return 1"
# Redis names a script by this; it has nothing to do with security.
_NAMES: Final = {script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (_PUT, _DELETE)}


class RedisKv:
    """Raw results are those of :class:`KvEffector`."""

    def __init__(self, url: str) -> None:
        self._redis = RedisCommands(url, "effects.kv")
        self.close = self._redis.close

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        args = effect.args
        if isinstance(args, KvGet):
            return self._redis.start(effect, done, _get(args))
        if isinstance(args, KvScan):
            return self._redis.start(effect, done, _scan(args))
        return self._redis.start(effect, done, _write(effect))

    def __repr__(self) -> str:
        return repr(self._redis)


def _get(args: KvGet) -> Operation:
    return Success((yield "GET", _VALUE + args.key))


def _scan(args: KvScan) -> Operation:
    """Redis compares members of one score by their bytes. UTF-8 has the order of code points, and no byte 0xff."""
    prefix = args.prefix.encode()
    first = b"[" + prefix
    if args.after is not None and args.after >= args.prefix:
        first = b"(" + args.after.encode()
    found = yield "ZRANGEBYLEX", _KEYS, first, b"(" + prefix + b"\xff", "LIMIT", 0, args.limit + 1
    keys = [key.decode() for key in found[: args.limit]]
    if not keys:
        return Success(([], None))
    values = yield "MGET", *[_VALUE + key for key in keys]
    # One without a value was deleted just now.
    items = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
    return Success((items, keys[-1] if len(found) > args.limit else None))


def _write(effect: Effect[Any]) -> Operation:
    args, idem = effect.args, effect.idem
    script, values = (_PUT, (args.key, args.value)) if isinstance(args, KvPut) else (_DELETE, (args.key,))
    keys = [_VALUE + args.key, _KEYS]
    if idem is not None:
        keys.append(f"{_IDEM}{effect.op}:{len(idem)}:{idem}:{args.key}")
    reply = yield "EVALSHA", _NAMES[script], len(keys), *keys, *values
    if isinstance(reply, Exception):  # the server does not know the script
        yield "EVAL", script, len(keys), *keys, *values
    return Success(None)
