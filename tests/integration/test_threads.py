"""The thread pool: bounded, lazily grown, and no thread of it keeps the process alive."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from zerver_runtime.reactor.threads import Job, PoolClosed, ThreadPool

SECONDS = 5.0


class Gate:
    """Jobs that run until they are let go."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self.begun = threading.Semaphore(0)

    def wait(self) -> None:
        self.begun.release()
        assert self._go.wait(SECONDS)

    def fill(self, pool: ThreadPool, count: int) -> None:
        for _ in range(count):
            assert pool.submit(self.wait)
        for _ in range(count):
            assert self.begun.acquire(timeout=SECONDS)

    def open(self) -> None:
        self._go.set()


class Result:
    """A ``done`` that can be waited for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, BaseException | None]] = []
        self.thread: threading.Thread | None = None
        self._come = threading.Event()

    def __call__(self, value: Any, problem: BaseException | None) -> None:
        self.calls.append((value, problem))
        self.thread = threading.current_thread()
        self._come.set()

    def get(self) -> tuple[Any, BaseException | None]:
        assert self._come.wait(SECONDS)
        return self.calls[0]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def close(pool: ThreadPool) -> None:
    """Close and wait until the threads have ended."""
    ended = threading.Event()
    pool.close(ended.set)
    assert ended.wait(SECONDS)
    assert pool.statistics().threads == 0


def test_a_job_runs_on_a_thread_of_the_pool_and_its_result_is_handed_over_there() -> None:
    pool = ThreadPool(1, 0, name="work")
    result = Result()
    assert pool.submit(lambda: threading.current_thread(), result)
    value, problem = result.get()
    assert (value, problem) == (result.thread, None)
    assert value.name == "work-1"
    assert value.daemon
    close(pool)


@pytest.mark.parametrize("raised", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), StopIteration()])
def test_whatever_a_job_raises_is_handed_over_and_ends_no_thread(raised: BaseException) -> None:
    pool = ThreadPool(1, 1)

    def work() -> None:
        raise raised

    first, second = Result(), Result()
    assert pool.submit(work, first)
    assert first.get() == (None, raised)
    assert pool.submit(lambda: 7, second)
    assert second.get() == (7, None)
    assert pool.statistics().threads == 1
    close(pool)


def test_what_nobody_waits_for_is_logged_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    pool = ThreadPool(1, 1)
    assert pool.submit(lambda: 1 / 0)
    until(lambda: pool.statistics().completed)
    close(pool)
    assert "ZeroDivisionError" in caplog.text


def test_a_done_that_raises_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    pool = ThreadPool(1, 1)
    result = Result()

    def done(value: Any, problem: BaseException | None) -> None:
        raise RuntimeError("done is broken")

    assert pool.submit(lambda: 1, done)
    assert pool.submit(lambda: 2, result)
    assert result.get() == (2, None)
    close(pool)
    assert "done is broken" in caplog.text


def test_it_grows_only_when_no_thread_is_free(gate: Gate) -> None:
    pool = ThreadPool(3, 0)
    assert pool.statistics().threads == 0
    for _ in range(5):
        result = Result()
        assert pool.submit(lambda: 1, result)
        result.get()
    assert pool.statistics().threads == 1
    gate.fill(pool, 2)
    assert pool.statistics().threads == 2
    gate.open()
    close(pool)


def test_it_takes_size_jobs_and_queue_more_and_refuses_the_next(gate: Gate) -> None:
    pool = ThreadPool(2, 3)
    gate.fill(pool, 2)
    waiting = [Result() for _ in range(3)]
    for result in waiting:
        assert pool.submit(lambda: 1, result)
    assert pool.submit(lambda: 1) is None
    assert (pool.statistics().queued, pool.statistics().refused, pool.statistics().running) == (3, 1, 2)
    assert repr(pool) == "<ThreadPool zerver: 2 of 2 busy, 3 queued, 1 refused>"
    gate.open()
    for result in waiting:
        assert result.get() == (1, None)
    until(lambda: pool.statistics().completed == 5)
    assert pool.submit(lambda: 1)
    close(pool)


def test_without_a_queue_a_free_thread_takes_the_next_job(gate: Gate) -> None:
    pool = ThreadPool(1, 0)
    for _ in range(50):  # also right after the one before
        result = Result()
        assert pool.submit(lambda: 1, result)
        result.get()
    gate.fill(pool, 1)
    assert pool.submit(lambda: 1) is None
    gate.open()
    close(pool)


def test_jobs_are_begun_in_the_order_they_came(gate: Gate) -> None:
    pool = ThreadPool(1, 100)
    gate.fill(pool, 1)
    order: list[int] = []
    for number in range(100):
        assert pool.submit(lambda number=number: order.append(number))
    gate.open()
    until(lambda: pool.statistics().completed == 101)
    assert order == list(range(100))
    close(pool)


def test_a_job_that_waits_can_be_cancelled_and_gives_back_its_place(gate: Gate) -> None:
    pool = ThreadPool(1, 1)
    gate.fill(pool, 1)
    result = Result()
    job = pool.submit(lambda: 1, result)
    assert isinstance(job, Job)
    assert job.cancel()
    assert not job.cancel()
    assert pool.submit(lambda: 1)
    gate.open()
    close(pool)
    assert result.calls == []


def test_a_job_that_has_begun_cannot_be_cancelled(gate: Gate) -> None:
    pool = ThreadPool(1, 1)
    result = Result()
    job = pool.submit(gate.wait, result)
    assert job is not None
    assert gate.begun.acquire(timeout=SECONDS)
    assert not job.cancel()
    gate.open()
    assert result.get() == (None, None)
    close(pool)


def test_closing_drops_what_waits_and_lets_finish_what_runs(gate: Gate) -> None:
    pool = ThreadPool(1, 2)
    running, waiting = Result(), Result()
    assert pool.submit(gate.wait, running)
    assert gate.begun.acquire(timeout=SECONDS)
    assert pool.submit(lambda: 1, waiting)
    ended = threading.Event()
    pool.close(ended.set)
    value, problem = waiting.get()
    assert value is None
    assert isinstance(problem, PoolClosed)
    assert waiting.thread is threading.current_thread()
    assert not ended.is_set()
    assert pool.submit(lambda: 1) is None
    gate.open()
    assert running.get() == (None, None)
    assert ended.wait(SECONDS)


def test_closing_again_is_harmless_and_tells_again() -> None:
    pool = ThreadPool(2, 2)
    close(pool)
    close(pool)
    pool.close()


def test_each_thread_says_goodbye_on_itself() -> None:
    gone: list[threading.Thread] = []
    pool = ThreadPool(2, 2, ending=lambda: gone.append(threading.current_thread()))
    gate = Gate()
    gate.fill(pool, 2)
    gate.open()
    close(pool)
    assert len(set(gone)) == 2
    assert threading.current_thread() not in gone


def test_an_idle_thread_keeps_nothing_of_its_last_job_alive() -> None:
    class Thing: ...

    pool = ThreadPool(1, 1)
    thing = Thing()
    kept = weakref.ref(thing)
    assert pool.submit(lambda thing=thing: thing, lambda value, problem: None)
    del thing
    until(lambda: kept() is None)
    close(pool)


def test_when_no_thread_can_be_made_jobs_wait_for_those_there_are(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPool(3, 1)
    start = threading.Thread.start
    gate.fill(pool, 1)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    result = Result()
    assert pool.submit(lambda: 1, result)
    assert pool.submit(lambda: 1) is None
    assert ThreadPool(1, 1).submit(lambda: 1) is None
    monkeypatch.setattr(threading.Thread, "start", start)
    gate.open()
    assert result.get() == (1, None)
    close(pool)


def test_a_job_that_hangs_does_not_keep_the_process_alive() -> None:
    program = (
        "import threading\n"
        "from zerver_runtime.reactor.threads import ThreadPool\n"
        "begun = threading.Event()\n"
        "ThreadPool(1, 1).submit(lambda: (begun.set(), threading.Event().wait()))\n"
        "assert begun.wait(5)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=10)


def test_under_load_from_many_threads_every_job_is_done_exactly_once_or_refused() -> None:
    pool = ThreadPool(4, 8)
    lock = threading.Lock()
    done: dict[int, int] = {}
    accepted: set[int] = set()
    cancelled: set[int] = set()

    def submit(first: int) -> None:
        for number in range(first, first + 500):

            def finished(value: Any, problem: BaseException | None, number: int = number) -> None:
                with lock:
                    done[number] = done.get(number, 0) + 1

            job = pool.submit(lambda: None, finished)
            if job is not None:
                with lock:
                    accepted.add(number)
                if number % 7 == 0 and job.cancel():
                    with lock:
                        cancelled.add(number)

    submitters = [threading.Thread(target=submit, args=(first,)) for first in range(0, 2000, 500)]
    for thread in submitters:
        thread.start()
    for thread in submitters:
        thread.join()
    until(lambda: pool.statistics().completed == len(accepted) - len(cancelled))
    close(pool)
    assert done == dict.fromkeys(accepted - cancelled, 1)
    now = pool.statistics()
    assert (now.running, now.queued, now.refused) == (0, 0, 2000 - len(accepted))
