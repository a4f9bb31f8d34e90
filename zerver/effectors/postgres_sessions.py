"""The connections to one PostgreSQL database: made when they are needed, at most so many, and used again.

A connection that is being made is nobody's: who waited for it may be gone when it is there, and then the next has it.
So a time-out that is too short for a handshake delays the first effects, and does not keep all of them from ever having
a connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

__all__ = ["NoConnection", "PostgresSessions", "Session"]

_STALE: Final = 300.0  # seconds: firewalls forget connections that are idle for longer
_PATIENCE: Final = 2.0  # seconds for a connection to be good for others again, and for a good-bye

_log = logging.getLogger("zerver.effects")


class NoConnection(Exception):
    """None can be had; the cause says why."""


class Session:
    """A connection, and the statements that were prepared on it, by their text."""

    __slots__ = ("connection", "since", "statements")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.statements: dict[str, Any] = {}
        self.since = 0.0
        """When it was given back."""


class PostgresSessions:
    """``connect`` makes a connection; ``size`` is how many there are at most. All on one loop's thread."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._closed = False
        self._live: set[Session] = set()
        self._idle: list[Session] = []
        self._waiting: deque[asyncio.Future[Session]] = deque()
        self._connecting: set[asyncio.Task[None]] = set()

    def idle(self) -> Session | None:
        """One that nobody uses, if there is one: the one that was used last."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            session = self._idle.pop()
            if not session.connection.is_closed() and now - session.since < _STALE:
                return session
            self._drop(session)
        return None

    async def take(self) -> Session:
        """Wait for one; first come, first served.

        :raises NoConnection: it cannot be made, and there is no other.
        """
        session = self.idle()
        if session is not None:
            return session
        waiter: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._grow()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())
            else:
                with suppress(ValueError):
                    self._waiting.remove(waiter)
            raise

    def give_back(self, session: Session) -> None:
        """It is as new: no transaction, no statement under way, no settings. Or it is closed."""
        if self._closed or session.connection.is_closed():
            self._drop(session)
            self._grow()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(session)
                return
        session.since = asyncio.get_running_loop().time()
        self._idle.append(session)
        if session.since - self._idle[0].since > _STALE:
            self._drop(self._idle.pop(0))

    async def recover(self, session: Session, work: Callable[[Any], Awaitable[object]]) -> None:
        """Give it back once ``work`` on its connection has made it as new, or closed where that fails or takes too
        long. What was cancelled on the server has ended then; whoever is cancelled waits for it all the same.
        """
        task = asyncio.get_running_loop().create_task(self._recover(session, work))
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])

    async def close(self) -> None:
        """Close all connections; those that are in use are cut."""
        self._closed = True
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        if connecting:
            await asyncio.wait(connecting)
        idle, self._idle = self._idle, []
        await asyncio.gather(
            *[one.connection.close(timeout=_PATIENCE) for one in idle if not one.connection.is_closed()],
            return_exceptions=True,
        )
        for session in list(self._live):
            self._drop(session)

    def _grow(self) -> None:
        missing = min(len(self._waiting), self._size - len(self._live)) - len(self._connecting)
        for _ in range(0 if self._closed else missing):
            self._connecting.add(asyncio.get_running_loop().create_task(self._open()))

    async def _open(self) -> None:
        task: Any = asyncio.current_task()
        try:
            session = Session(await self._connect())
        except Exception as problem:
            self._connecting.discard(task)
            _log.info("PostgreSQL: no connection: %s: %s", type(problem).__name__, problem)
            # Where others are in use, they come back; where not, nobody needs to wait.
            if not self._live and not self._connecting:
                self._refuse(problem)
        else:
            self._connecting.discard(task)
            self._live.add(session)
            self.give_back(session)
        finally:
            self._connecting.discard(task)

    def _refuse(self, problem: Exception) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                error = NoConnection()
                error.__cause__ = problem
                waiter.set_exception(error)

    async def _recover(self, session: Session, work: Callable[[Any], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await work(session.connection)
        except Exception as problem:
            _log.info("PostgreSQL: a connection is given up (%s)", type(problem).__name__)
            session.connection.terminate()
        self.give_back(session)

    def _drop(self, session: Session) -> None:
        self._live.discard(session)
        session.connection.terminate()

    def __repr__(self) -> str:
        return f"<PostgresSessions: {len(self._live)} of {self._size}, {len(self._idle)} idle>"
