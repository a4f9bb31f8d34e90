"""The call and timer effectors, and the adapter for ``async def perform``."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from effector_conformance import Probe, until

from zerver.effect import Effect
from zerver.effectors.base import AsyncEffector
from zerver.effectors.call import CallEffector
from zerver.effectors.timer import TimerEffector
from zerver.effects import call, timer
from zerver.error import Error, ErrorKind
from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.threads import ThreadPool

# call


def run(check: Callable[[CallEffector], Awaitable[None]], size: int = 2, queue: int = 10) -> None:
    async def main() -> None:
        pool = ThreadPool(size, queue, name="calls")
        effector = CallEffector(pool)
        await check(effector)
        await effector.close()
        pool.close()

    asyncio.run(main())


async def failed(effector: Any, effect: Effect[Any]) -> tuple[Failure, Error]:
    outcome = await Probe(effector, effect).settled()
    assert isinstance(outcome, Failure), outcome
    assert isinstance(outcome.error, Error)
    return outcome, outcome.error


def where(*args: Any, **kwargs: Any) -> tuple[threading.Thread, Any, Any]:
    return threading.current_thread(), args, kwargs


async def where_async(*args: Any, **kwargs: Any) -> tuple[threading.Thread, Any, Any]:
    await asyncio.sleep(0)
    return where(*args, **kwargs)


class Service:
    async def __call__(self) -> threading.Thread:
        return threading.current_thread()

    async def method(self) -> threading.Thread:
        return threading.current_thread()


def test_a_function_runs_on_a_thread_and_an_async_one_on_the_loop() -> None:
    async def check(effector: CallEffector) -> None:
        outcome = await Probe(effector, call.run(where, 1, kwargs={"func": 2})).settled()
        assert isinstance(outcome, Success)
        thread, *given = outcome.value  # type: ignore[misc]  # of where()
        assert thread.name == "calls-1"
        assert given == [(1,), {"func": 2}]
        for effect in (
            call.run(where_async, 1, kwargs={"a": 2}),
            call.run(functools.partial(where_async, 1), kwargs={"a": 2}),
        ):
            assert await Probe(effector, effect).settled() == Success((threading.current_thread(), (1,), {"a": 2}))
        for fn in (Service(), Service().method, functools.partial(Service())):
            assert await Probe(effector, call.run(fn)).settled() == Success(threading.current_thread())

    run(check)


class Odd(BaseException):
    """Not even an Exception."""


def raising(problem: BaseException) -> None:
    raise problem


async def raising_async(problem: BaseException) -> None:
    raise problem


@pytest.mark.parametrize("fn", [raising, raising_async])
@pytest.mark.parametrize(
    "problem", [ValueError("secret"), TimeoutError("secret"), ConnectionError("secret"), SystemExit("secret")]
)
def test_what_a_function_raises_is_internal_and_its_text_only_in_the_log(
    fn: Any, problem: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(effector: CallEffector) -> None:
        outcome, error = await failed(effector, call.run(fn, problem))
        assert (error.kind, outcome.retryable) == (ErrorKind.INTERNAL, False)
        assert "secret" not in error.what

    run(check)
    assert f"{fn.__qualname__} raised {type(problem).__name__}" in caplog.text
    assert "secret" in caplog.text


def test_whatever_else_a_thread_raises_is_internal_too() -> None:
    async def check(effector: CallEffector) -> None:
        for problem in (Odd(), KeyboardInterrupt(), StopIteration(), GeneratorExit()):
            _, error = await failed(effector, call.run(raising, problem))
            assert error.kind is ErrorKind.INTERNAL

    run(check)


def test_wrong_arguments_are_internal_for_both_kinds() -> None:
    async def check(effector: CallEffector) -> None:
        for fn in (len, raising_async):
            _, error = await failed(effector, call.run(fn, 1, 2, 3))
            assert error.kind is ErrorKind.INTERNAL

    run(check)


def test_a_function_that_gives_an_awaitable_undeclared_is_refused_with_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def check(effector: CallEffector) -> None:
        _, error = await failed(effector, call.run(lambda: where_async(1)))
        assert error.kind is ErrorKind.INTERNAL

    run(check)
    assert "returned a coroutine, but is no 'async def': write one that awaits it" in caplog.text


class Proxy:
    """Of what is not there, at first."""

    there = False

    @property
    def __class__(self) -> Any:
        if not Proxy.there:
            raise LookupError("nothing is here")
        return int


def test_a_function_that_gives_what_cannot_even_be_looked_at_has_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def check(effector: CallEffector) -> None:
        _, error = await failed(effector, call.run(Proxy))
        assert error.kind is ErrorKind.INTERNAL

    run(check)
    Proxy.there = True  # for who looks for leaks
    assert "returned what raises when it is looked at" in caplog.text


def test_a_full_pool_is_overloaded_with_retry_after() -> None:
    go = threading.Event()

    async def check(effector: CallEffector) -> None:
        probes = [Probe(effector, call.run(go.wait, 10)) for _ in range(3)]
        outcome, error = await failed(effector, call.run(where))
        assert (error.kind, error.retry_after, outcome.retryable) == (ErrorKind.OVERLOADED, 1.0, False)
        assert isinstance(await Probe(effector, call.run(where_async)).settled(), Success)  # needs no thread
        go.set()
        for probe in probes:
            assert await probe.settled() == Success(True)

    run(check, size=1, queue=2)


def test_a_blocking_call_that_was_cancelled_is_done_when_it_returns_and_not_before() -> None:
    go, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(10)

    async def check(effector: CallEffector) -> None:
        probe = Probe(effector, call.run(work))
        await until(begun.is_set)
        assert probe.cancel is not None
        probe.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert probe.outcomes == []
        go.set()
        await probe.settled()

    run(check)


def test_a_call_that_waits_for_a_thread_is_cancelled_at_once_and_never_made() -> None:
    go = threading.Event()
    made: list[int] = []

    async def check(effector: CallEffector) -> None:
        running = Probe(effector, call.run(go.wait, 10))
        waiting = Probe(effector, call.run(made.append, 1))
        assert waiting.cancel is not None
        waiting.cancel()
        assert len(waiting.outcomes) == 1
        go.set()
        await running.settled()
        assert isinstance(await Probe(effector, call.run(made.append, 2)).settled(), Success)

    run(check, size=1)
    assert made == [2]


def test_a_call_that_returns_after_the_loop_has_closed_disturbs_nobody() -> None:
    program = (
        "import asyncio, threading\n"
        "from zerver_runtime.reactor.threads import ThreadPool\n"
        "from zerver.effectors.call import CallEffector\n"
        "from zerver.effects import call\n"
        "go = threading.Event()\n"
        "pool = ThreadPool(1, 1)\n"
        "async def main():\n"
        "    CallEffector(pool).start(call.run(go.wait), print)\n"
        "asyncio.run(main())\n"
        "ended = threading.Event()\n"
        "pool.close(ended.set)\n"
        "go.set()\n"
        "assert ended.wait(5)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, timeout=20, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("", "")


# timer


class Wall:
    """A time of day that the test sets."""

    def __init__(self) -> None:
        self.now = datetime(2024, 5, 17, tzinfo=UTC)

    def __call__(self) -> float:
        return self.now.timestamp()


def test_a_timer_settles_after_its_time_and_at_once_when_that_has_passed() -> None:
    async def main() -> None:
        wall = Wall()
        effector = TimerEffector(wall)
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await Probe(effector, timer.sleep(0.02)).settled() == Success(None)
        assert loop.time() - began >= 0.019
        for passed in (timer.sleep(0), timer.until(wall.now), timer.until(wall.now - timedelta(days=1))):
            assert Probe(effector, passed).outcomes == [Success(None)]

    asyncio.run(main())


def test_a_timer_until_a_time_of_day_never_settles_before_it() -> None:
    async def main() -> None:
        wall = Wall()
        effector = TimerEffector(wall)
        probe = Probe(effector, timer.until(wall.now + timedelta(milliseconds=5)))
        for _ in range(20):
            await asyncio.sleep(0.001)  # the loop's clock goes on, the time of day does not
        assert probe.outcomes == []
        wall.now += timedelta(seconds=1)
        assert await probe.settled() == Success(None)

    asyncio.run(main())


def test_a_cancelled_timer_is_done_at_once() -> None:
    async def main() -> None:
        effector = TimerEffector()
        probe = Probe(effector, timer.sleep(3600))
        assert repr(effector) == "<TimerEffector: 1 waiting>"
        assert probe.cancel is not None
        probe.cancel()
        assert len(probe.outcomes) == 1
        assert repr(effector) == "<TimerEffector: 0 waiting>"

    asyncio.run(main())


# async def perform


def custom(op: str = "do") -> Effect[Any]:
    return Effect(family="mail", op=op, target="mail:host", args=None)


@pytest.mark.parametrize(
    ("problem", "kind", "retryable"),
    [
        (TimeoutError("secret"), ErrorKind.TIMEOUT, True),
        (ConnectionError("secret"), ErrorKind.UPSTREAM_UNAVAILABLE, True),
        (ConnectionRefusedError("secret"), ErrorKind.UPSTREAM_UNAVAILABLE, True),
        (OSError("secret"), ErrorKind.UPSTREAM_UNAVAILABLE, True),
        (ValueError("secret"), ErrorKind.INTERNAL, False),
        (SystemExit("secret"), ErrorKind.INTERNAL, False),
        (StopAsyncIteration("secret"), ErrorKind.INTERNAL, False),
    ],
)
def test_each_exception_of_a_driver_has_its_kind_and_tells_the_client_nothing(
    problem: BaseException, kind: ErrorKind, retryable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def perform(effect: Effect[Any]) -> None:
        raise problem

    async def main() -> None:
        outcome, error = await failed(AsyncEffector(perform), custom())
        assert (error.kind, outcome.retryable) == (kind, retryable)
        assert error.what.startswith("mail.do: ")
        assert "secret" not in error.what

    asyncio.run(main())
    if kind is ErrorKind.INTERNAL:
        assert f"mail.do (mail:host): {type(problem).__name__} in its driver" in caplog.text


def test_a_driver_may_give_a_value_or_an_outcome() -> None:
    async def perform(effect: Effect[Any]) -> object:
        return {"value": 7, "success": Success(7), "failure": Failure("no", retryable=True)}[effect.op]

    async def main() -> None:
        effector = AsyncEffector(perform)
        assert await Probe(effector, custom("value")).settled() == Success(7)
        assert await Probe(effector, custom("success")).settled() == Success(7)
        assert await Probe(effector, custom("failure")).settled() == Failure("no", retryable=True)

    asyncio.run(main())


def test_cancelled_means_cancelled() -> None:
    seen: list[str] = []

    async def perform(effect: Effect[Any]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        probe = Probe(AsyncEffector(perform), custom())
        await asyncio.sleep(0)
        assert probe.cancel is not None
        probe.cancel()
        assert isinstance(await probe.settled(), Failure)

    asyncio.run(main())
    assert seen == ["cancelled"]


def test_one_task_is_all_that_an_attempt_takes() -> None:
    async def perform(effect: Effect[Any]) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        effector = AsyncEffector(perform)
        before = len(asyncio.all_tasks())
        Probe(effector, custom())
        assert len(asyncio.all_tasks()) == before + 1
        await effector.close()
        assert len(asyncio.all_tasks()) == before

    asyncio.run(main())


def test_a_driver_is_opened_and_closed_after_what_is_in_flight_has_gone() -> None:
    order: list[str] = []

    async def perform(effect: Effect[Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            order.append("gone")

    async def opened() -> None:
        order.append("open")

    async def closed() -> None:
        order.append("close")

    async def main() -> None:
        effector = AsyncEffector(perform, open=opened, close=closed)
        await effector.open()
        probe = Probe(effector, custom())
        await asyncio.sleep(0)
        await effector.close()
        assert len(probe.outcomes) == 1
        assert isinstance(await Probe(effector, custom()).settled(), Failure)

    asyncio.run(main())
    assert order == ["open", "gone", "close"]
