"""Programs that start a Node with compute workers; run as those of `node_programs`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from node_programs import QUICK, run, say, until

from zerver_runtime.node_config import NodeConfig
from zerver_runtime.node_words import NodeLimits
from zerver_runtime.reactor.compute_pool import ComputePool
from zerver_runtime.reactor.compute_task import ComputeTask
from zerver_runtime.scheduler_process import SchedulerContext


def runs(path: str) -> bool:
    """Whether a task has said so there."""
    return os.path.exists(path) and os.path.getsize(path) > 0


class Client:
    """One scheduler's use of its pool."""

    def __init__(self, context: SchedulerContext, queue: int = 1000) -> None:
        self.context = context
        self.pool: ComputePool = context.compute_pool(queue)
        self.values: list[Any] = []
        self.problems: list[str] = []
        context.on_drain.append(self._drain)

    def __call__(self, name: str, *args: Any, **options: Any) -> Callable[[], None]:
        return self.pool.submit(ComputeTask(f"compute_functions:{name}", args, **options), self._done)

    def done(self, count: int, then: Callable[[], None]) -> None:
        until(self.context, lambda: len(self.values) + len(self.problems) >= count, then)

    def say(self, **fields: Any) -> None:
        _, slot, incarnation = self.context.place
        say(slot=slot, incarnation=incarnation, values=self.values, problems=self.problems, **fields)

    def soon(self, call: Callable[[], object]) -> None:
        self.context.loop.call_soon(call)

    def _done(self, value: Any, problem: BaseException | None) -> None:
        if problem is None:
            self.values.append(value)
        else:
            self.problems.append(type(problem).__name__)

    async def _drain(self) -> None:
        await self.pool.close(0.05)
        self.say(drained=True)


def sharing() -> None:
    """Each of three schedulers has the workers do something."""

    def boot(context: SchedulerContext) -> None:
        client = Client(context)
        for _ in range(60):
            client("pid")
        client.done(60, client.say)

    run(NodeConfig(performance=2, compute=2, limits=QUICK), boot)


def hostile() -> None:
    """One scheduler has its tasks killed all the time, and another one's come to no harm by it."""

    def boot(context: SchedulerContext) -> None:
        client = Client(context)
        if context.place.scheduler == 0:
            for number in range(40):
                cancel = client("sleep", 0.01)
                context.loop.call_later(0.004 * number, cancel)
                if number % 8 == 0:
                    client("burn", cpu_budget=0.01)
            client.done(45, client.say)
        else:
            for number in range(300):
                client("add", number)
            client.done(300, client.say)

    # So few restarts would be too many, if these were crashes.
    limits = NodeLimits(restart_first=0.001, restart_cap=0.01, intensity=2, window=100)
    run(NodeConfig(performance=2, efficiency=0, compute=1, limits=limits), boot)


def crashing() -> None:
    def boot(context: SchedulerContext) -> None:
        client = Client(context)
        for _ in range(8):
            client("leave", 7)
            client("close_everything")
        client("add", 1)
        client.done(17, client.say)

    limits = NodeLimits(restart_first=0.001, restart_cap=0.01, intensity=2, window=100)
    run(NodeConfig(performance=1, efficiency=0, compute=1, limits=limits), boot)


def orphans(path: str) -> None:
    """A scheduler dies while its task keeps the only worker."""

    def boot(context: SchedulerContext) -> None:
        client = Client(context)
        if context.place.scheduler == 1:
            until(context, lambda: runs(path), lambda: client("add", 1))
            client.done(1, client.say)
        elif context.place.incarnation == 1:
            client("note", path)
            until(context, lambda: runs(path), client.say)

    run(NodeConfig(performance=2, efficiency=0, compute=1, limits=QUICK), boot)


def reloading() -> None:
    """Each scheduler has more under way when the reload comes than can be done before its end."""

    def boot(context: SchedulerContext) -> None:
        client = Client(context)

        def begin() -> None:
            for _ in range(20):
                client("sleep", 0.005)
            client("pid")
            client.done(21, end)
            if context.place.incarnation == 1:
                context.loop.call_soon(os.kill, os.getppid(), signal.SIGHUP)

        def end() -> None:
            """What was done is said before the drain, which waits for it, goes on."""
            client.say()
            finished.set_result(None)

        finished = context.loop.create_future()
        context.on_drain.insert(0, lambda: finished)
        context.loop.call_soon(begin)

    run(NodeConfig(performance=1, efficiency=0, compute=1, limits=QUICK), boot)


def starting_others(path: str) -> None:
    """A task that has started processes of its own is cancelled."""

    def boot(context: SchedulerContext) -> None:
        client = Client(context)
        cancel = client("fork_and_wait", path)
        until(context, lambda: runs(path), cancel)
        client.done(1, client.say)

    run(NodeConfig(performance=1, efficiency=0, compute=1, limits=QUICK), boot)


def stopping(path: str) -> None:
    def boot(context: SchedulerContext) -> None:
        client = Client(context)
        client("note", path)
        client("add", 1)
        until(context, lambda: runs(path), client.say)

    run(NodeConfig(performance=1, efficiency=0, compute=1, limits=QUICK), boot)


def without() -> None:
    def boot(context: SchedulerContext) -> None:
        try:
            context.compute_pool()
        except RuntimeError as problem:
            say(refused=str(problem))

    run(NodeConfig(performance=1, efficiency=0, limits=QUICK), boot)


def measure(count: int) -> None:
    """Round trips, one after the other, in microseconds."""
    import time

    def boot(context: SchedulerContext) -> None:
        client = Client(context)
        times: list[float] = []

        def again(value: Any = None, problem: Any = None) -> None:
            times.append(time.perf_counter())
            if len(times) < count:
                client.pool.submit(ComputeTask("compute_functions:add", (1,)), again)
            else:
                say(each=(times[-1] - times[99]) / (count - 100) * 1e6)

        context.loop.call_soon(again)

    run(NodeConfig(performance=1, efficiency=0, compute=1, limits=QUICK), boot)


if __name__ == "__main__":
    globals()[sys.argv[1]](*(int(one) if one.isdigit() else one for one in sys.argv[2:]))
