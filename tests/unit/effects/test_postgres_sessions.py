"""The connections to a PostgreSQL database, with connections that are none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from zerver.effectors import postgres_sessions
from zerver.effectors.postgres_sessions import NoConnection, PostgresSessions, Session


class Connection:
    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109  as asyncpg has it
        self.closed = True


class Server:
    """Each connection is there when the test says so."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.asked: list[asyncio.Future[None]] = []

    async def connect(self) -> Connection:
        self.asked.append(asyncio.get_running_loop().create_future())
        await self.asked[-1]
        self.made.append(Connection())
        return self.made[-1]

    async def answer(self, problem: Exception | None = None) -> None:
        """To all that have asked."""
        await turns()
        asked, self.asked = self.asked, []
        for one in asked:
            if problem is None:
                one.set_result(None)
            else:
                one.set_exception(problem)
        await turns()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(check: Callable[[Server, PostgresSessions], Awaitable[None]], size: int = 2) -> None:
    async def main() -> None:
        server = Server()
        sessions = PostgresSessions(server.connect, size)
        try:
            await check(server, sessions)
        finally:
            await sessions.close()
        assert all(one.closed for one in server.made)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def taken(sessions: PostgresSessions) -> asyncio.Task[Session]:
    return asyncio.get_running_loop().create_task(sessions.take())


async def held(server: Server, sessions: PostgresSessions) -> Session:
    task = taken(sessions)
    await server.answer()
    return await task


def test_no_more_are_made_than_may_be_and_who_came_first_is_first() -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        tasks = [taken(sessions) for _ in range(4)]
        await server.answer()
        assert [task.done() for task in tasks] == [True, True, False, False]
        first = tasks[0].result()
        sessions.give_back(first)
        assert await tasks[2] is first
        sessions.give_back(tasks[1].result())
        assert await tasks[3] is tasks[1].result()
        assert len(server.made) == 2

    run(check)


def test_one_that_is_given_to_somebody_who_leaves_in_the_same_turn_goes_to_the_next() -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        session = await held(server, sessions)
        leaving, staying = taken(sessions), taken(sessions)
        await turns()
        sessions.give_back(session)
        leaving.cancel()
        await turns()
        assert leaving.cancelled()
        assert await staying is session

    run(check, size=1)


def test_one_whose_taker_has_left_is_there_for_the_next() -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        leaving = taken(sessions)
        await turns()
        leaving.cancel()
        await server.answer()
        assert sessions.idle() is not None
        assert len(server.made) == 1

    run(check)


def test_the_one_that_was_used_last_is_used_next() -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        tasks = [taken(sessions) for _ in range(2)]
        await server.answer()
        for task in tasks:
            sessions.give_back(task.result())
        assert sessions.idle() is tasks[1].result()

    run(check)


def test_closed_and_long_idle_ones_are_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        session = await held(server, sessions)
        sessions.give_back(session)
        session.connection.closed = True
        assert sessions.idle() is None
        session = await held(server, sessions)
        sessions.give_back(session)
        monkeypatch.setattr(postgres_sessions, "_STALE", 0.0)
        assert sessions.idle() is None
        assert session.connection.closed

    run(check, size=1)


def test_who_waits_while_the_server_is_away_is_told_at_once_and_the_next_tries_again() -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        tasks = [taken(sessions) for _ in range(5)]
        await server.answer(ConnectionRefusedError("away"))
        for task in tasks:
            with pytest.raises(NoConnection) as caught:
                await task
            assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert (await held(server, sessions)).connection is server.made[0]

    run(check)


def test_a_failure_while_others_are_in_use_lets_who_waits_wait_for_those() -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        session = await held(server, sessions)
        waiting = taken(sessions)
        await server.answer(ConnectionRefusedError("too many"))
        assert not waiting.done()
        sessions.give_back(session)
        assert await waiting is session

    run(check)


def test_one_that_comes_back_closed_is_replaced_for_who_waits() -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        session = await held(server, sessions)
        waiting = taken(sessions)
        await turns()
        session.connection.closed = True
        sessions.give_back(session)
        await server.answer()
        assert (await waiting).connection is server.made[1]

    run(check, size=1)


def test_one_that_cannot_be_made_as_new_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_sessions, "_PATIENCE", 0.01)

    async def check(server: Server, sessions: PostgresSessions) -> None:
        async def hangs(connection: Connection) -> None:
            await asyncio.sleep(10)

        async def fails(connection: Connection) -> None:
            raise ConnectionResetError

        for work in (hangs, fails):
            session = await held(server, sessions)
            await sessions.recover(session, work)
            assert session.connection.closed
            assert sessions.idle() is None

    run(check, size=1)


def test_whoever_recovers_one_waits_for_it_also_when_cancelled() -> None:
    async def check(server: Server, sessions: PostgresSessions) -> None:
        go = asyncio.Event()

        async def work(connection: Connection) -> None:
            await go.wait()

        session = await held(server, sessions)
        task = asyncio.get_running_loop().create_task(sessions.recover(session, work))
        for _ in range(3):
            await turns()
            task.cancel()
        await turns()
        assert not task.done()
        go.set()
        await task
        assert sessions.idle() is session

    run(check, size=1)
