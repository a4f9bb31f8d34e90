"""What a thread's clock tells: real threads on a real CPU."""

from __future__ import annotations

import threading
import time

from zerver_runtime.reactor.thread_clock import ThreadClock

MS = 1_000_000


def test_a_thread_that_computes_runs_and_one_that_waits_does_not() -> None:
    clock = ThreadClock()
    try:
        before, delayed = clock.read()
        until = time.thread_time_ns() + 30 * MS
        while time.thread_time_ns() < until:
            pass
        ran, _ = clock.read()
        assert ran - before >= 29 * MS
        threading.Event().wait(0.05)
        after, delayed_after = clock.read()
        assert after - ran < 25 * MS
        assert delayed_after >= delayed
    finally:
        clock.close()


def test_after_close_it_still_tells_the_time_on_the_cpu() -> None:
    clock = ThreadClock()
    clock.close()
    clock.close()
    ran, delayed = clock.read()
    assert ran > 0
    assert delayed == 0
