"""Commands to a Redis or Valkey server: what comes in one turn of the loop goes out in one piece, on few connections.

An operation is a generator: it yields a command, is sent the reply, and returns the outcome. What waits while all
connections are busy goes out together when one of them is free.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, TypeAlias

from zerver_runtime.outcome import Failure, Outcome

from ..config.problem import ConfigError
from ..effect import Effect
from ..error import Error, ErrorKind
from .base import Done, cancelled, closed, internal

__all__ = ["Operation", "RedisCommands"]

Operation: TypeAlias = Generator[tuple[Any, ...], Any, Outcome]

_CONNECTIONS: Final = 4
_TOGETHER: Final = 256  # commands that go out in one piece
_HANDSHAKE: Final = 5.0  # seconds for a new connection
_FRESH: Final = 1.0  # seconds after which it is asked whether an idle connection is still there
# Replies that say that the server is not able to now: it loads, has no memory, follows another, looks for its leader.
_LATER: Final = ("LOADING", "OOM", "MISCONF", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS")

_log = logging.getLogger("zerver.effects")


class RedisCommands:
    """``setting`` is what has the URL in the configuration.

    :raises ConfigError: the package redis is missing.
    """

    def __init__(self, url: str, setting: str) -> None:
        try:
            pool: Any = importlib.import_module("redis.asyncio.connection").ConnectionPool
            retry: Any = importlib.import_module("redis.asyncio.retry").Retry
            backoff: Any = importlib.import_module("redis.backoff").NoBackoff
            self._errors: Any = importlib.import_module("redis.exceptions")
        except ImportError:
            raise ConfigError(
                f"{setting} is a Redis URL, and redis is not installed: pip install 'zerver[redis]'"
            ) from None
        # Retries are the dispatcher's. The pool is used for what it makes of the URL alone.
        made = pool.from_url(url, retry=retry(backoff(), 0), socket_connect_timeout=_HANDSHAKE)
        self._connections = [_Connection(made.make_connection()) for _ in range(_CONNECTIONS)]
        self._setting = setting
        self._waiting: deque[_Attempt] = deque()
        self._soon = False
        self._closed = False

    def start(self, effect: Effect[Any], done: Done, operation: Operation) -> Callable[[], object] | None:
        """Perform it, for one attempt at ``effect``."""
        if self._closed:
            done(closed(effect))
            return None
        attempt = _Attempt(self, effect, done, operation)
        self._enqueue(attempt)
        return attempt.cancel

    async def close(self) -> None:
        """Cancel what is in flight and close all connections."""
        self._closed = True
        for attempt in list(self._waiting):
            attempt.settle(closed(attempt.effect))
        self._waiting.clear()
        tasks = [one.task for one in self._connections if one.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for connection in self._connections:
            with suppress(Exception):
                await connection.redis.disconnect()

    def leave(self, attempt: _Attempt) -> None:
        """For an attempt that is cancelled: while it waits, at once; when it is sent, with its reply, or with those of
        all that were sent with it, if they are cancelled, too."""
        connection = attempt.sent
        if connection is None:
            with suppress(ValueError):
                self._waiting.remove(attempt)
            attempt.settle(cancelled(attempt.effect))
        elif connection.task is not None and all(one.is_cancelled for one in connection.attempts):
            connection.task.cancel()

    def _enqueue(self, attempt: _Attempt) -> None:
        self._waiting.append(attempt)
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._soon = False
        if self._waiting and not self._closed:
            for connection in self._connections:
                if connection.task is None:
                    connection.task = asyncio.get_running_loop().create_task(self._work(connection))
                    return

    async def _work(self, connection: _Connection) -> None:
        """Send what waits until nothing does."""
        try:
            try:
                # What waits is nobody's while this takes: it may leave, and other connections may take it.
                await self._connected(connection)
            except Exception as problem:
                _log.info("%s: no connection: %s: %s", self._setting, type(problem).__name__, problem)
                failed, self._waiting = self._waiting, deque()
                for attempt in failed:
                    attempt.settle(self._failure(attempt.effect, problem))
                return
            while self._waiting:
                attempts = [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))]
                await self._exchange(connection, attempts)
        finally:
            connection.task = None
            connection.used = asyncio.get_running_loop().time()
            self._flush()

    async def _connected(self, connection: _Connection) -> None:
        redis = connection.redis
        async with asyncio.timeout(_HANDSHAKE):
            if redis.is_connected and asyncio.get_running_loop().time() - connection.used > _FRESH:
                try:
                    gone = await redis.can_read_destructive()
                except (OSError, self._errors.RedisError):
                    gone = True
                if gone:
                    await redis.disconnect(nowait=True)
            if not redis.is_connected:
                await redis.connect()

    async def _exchange(self, connection: _Connection, attempts: list[_Attempt]) -> None:
        connection.attempts = attempts
        for attempt in attempts:
            attempt.sent = connection
        replies: list[Any] = []
        redis = connection.redis
        try:
            await redis.send_packed_command(redis.pack_commands([one.command for one in attempts]), check_health=False)
            for _ in attempts:
                try:
                    replies.append(await redis.read_response(disable_decoding=True))
                except self._errors.ResponseError as problem:
                    replies.append(problem)
        except asyncio.CancelledError:
            await redis.disconnect(
                nowait=True
            )  # it has done so itself; a reply that reached another would be the worst
            for attempt in attempts:
                attempt.settle(cancelled(attempt.effect))
            raise
        except Exception as problem:
            await redis.disconnect(nowait=True)
            for attempt in attempts:
                attempt.settle(self._failure(attempt.effect, problem))
            return
        finally:
            connection.attempts = []
        for attempt, reply in zip(attempts, replies, strict=True):
            self._advance(attempt, reply)

    def _advance(self, attempt: _Attempt, reply: Any) -> None:
        attempt.sent = None
        if attempt.is_cancelled:
            attempt.settle(cancelled(attempt.effect))
        elif isinstance(reply, Exception) and not isinstance(reply, self._errors.NoScriptError):
            attempt.settle(self._failure(attempt.effect, reply))
        elif attempt.send(reply):
            self._enqueue(attempt)

    def _failure(self, effect: Effect[Any], problem: Exception) -> Failure:
        """A reply that says what is wrong with a command, or with our name and password, is a bug or a setting; the
        rest may be well again soon."""
        errors = self._errors
        # The class stands for the code where there is one, and then the text has none.
        refused = isinstance(problem, (errors.AuthenticationError, errors.AuthorizationError, errors.NoPermissionError))
        later = (errors.ReadOnlyError, errors.OutOfMemoryError, errors.ClusterDownError, errors.TryAgainError)
        able = not isinstance(problem, errors.ResponseError) or isinstance(problem, later)
        if refused or not (able or str(problem).startswith(_LATER)):
            return internal(effect, f"{type(problem).__name__}: {problem}", problem)
        _log.warning("%s (%s): %s: %s", effect.label, effect.target, type(problem).__name__, problem)
        return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, f"{effect.label}: cannot be reached"), retryable=True)

    def __repr__(self) -> str:
        return f"<RedisCommands of {self._setting}: {len(self._waiting)} waiting>"


class _Connection:
    """A connection, the task that works on it, and what that has sent."""

    __slots__ = ("attempts", "redis", "task", "used")

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.task: asyncio.Task[None] | None = None
        self.attempts: list[_Attempt] = []
        self.used = 0.0


class _Attempt:
    """One operation, from its start to its ``done``."""

    __slots__ = ("_done", "_operation", "_owner", "command", "effect", "is_cancelled", "sent")

    def __init__(self, owner: RedisCommands, effect: Effect[Any], done: Done, operation: Operation) -> None:
        self._owner = owner
        self._done: Done | None = done
        self._operation = operation
        self.effect = effect
        self.is_cancelled = False
        self.sent: _Connection | None = None
        self.command = next(operation)

    def cancel(self) -> None:
        if self._done is not None and not self.is_cancelled:
            self.is_cancelled = True
            self._owner.leave(self)

    def send(self, reply: Any) -> bool:
        """Go on with a reply; whether there is another command."""
        try:
            self.command = self._operation.send(reply)
        except StopIteration as end:
            self.settle(end.value)
            return False
        except Exception as problem:
            self.settle(internal(self.effect, f"{type(problem).__name__} with its reply", problem))
            return False
        return True

    def settle(self, outcome: Outcome) -> None:
        done, self._done = self._done, None
        self._operation.close()
        if done is not None:
            done(outcome)
