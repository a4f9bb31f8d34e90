"""A reactor engine without loop, threads and time: each goes on when it is told to, in any order.

world = World("adaptive")
client = world.begin(Program((Stage("need", (Ask(),)),)))
world.settle(world.held[0], Success(1))
world.rounds()
"""

from __future__ import annotations

from asyncio import events
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from interpreter_driver import FakeSources, render

from zerver import Continue, CtxView, Decision, Done, Need, need
from zerver.compiled_step import CompiledStep
from zerver.effect import Effect
from zerver.engine.live import Exchange
from zerver.engine.reactor import ReactorEngine
from zerver.engine.step_placement import Mode, StepPlacement
from zerver.error import Error, ErrorKind
from zerver.execution import Phase
from zerver.faults import Faults
from zerver.pipeline import Pipeline
from zerver.request import Request
from zerver.response import Response
from zerver.step import compile_step
from zerver.surroundings import Surroundings
from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.budget import RetryBudget
from zerver_runtime.reactor.bulkhead import BulkheadPolicy
from zerver_runtime.reactor.dispatcher import Dispatcher, Scope
from zerver_runtime.reactor.effector import Policy
from zerver_runtime.reactor.retry import RetryPolicy
from zerver_runtime.reactor.task_system import TaskSystem
from zerver_runtime.reactor.thread_clock import ThreadClock
from zerver_runtime.reactor.threads import Done as JobDone
from zerver_runtime.reactor.threads import PoolClosed, ThreadPoolStatistics
from zerver_runtime.testing.clock import FakeClock

__all__ = ["Ask", "Client", "FakePool", "Program", "Stage", "World"]

MS = 1_000_000


class Ask(msgspec.Struct, frozen=True):
    """An effect. ``at_once``: it settles within its start. ``lets_go``: it calls ``done`` when it is cancelled."""

    required: bool = True
    batch: bool = False
    at_once: bool | None = None  # True: with a success; False: with a failure
    lets_go: bool = True
    attempts: int = 1
    crashes: bool = False


class Stage(msgspec.Struct, frozen=True):
    """What a step does."""

    what: Literal["continue", "need", "await", "done", "raise", "exit"] = "continue"
    effects: tuple[Ask, ...] = ()
    join: Any = "all"
    mode: Any = "parallel"
    detach: bool = False
    takes: int = 0  # milliseconds of waiting
    exits: int = 0


class Program(msgspec.Struct, frozen=True):
    """What a request does, and what is done when its answer comes."""

    stages: tuple[Stage, ...] = ()
    deadline: float = 30.0
    on_answer: Literal["nothing", "out", "close", "begin", "cancel", "raise"] = "nothing"


class FakeJob:
    def __init__(self, pool: FakePool, work: Callable[[], Any], done: JobDone | None) -> None:
        self.pool, self.work, self.done = pool, work, done
        self.result: Any = None

    def cancel(self) -> bool:
        if self not in self.pool.queued:
            return False
        self.pool.queued.remove(self)
        return True

    def begin(self) -> None:
        """A thread takes it and works on it; it has not handed it over yet."""
        self.pool.queued.remove(self)
        self.pool.running.append(self)
        loop = events._get_running_loop()
        events._set_running_loop(None)
        try:
            self.result = self.work()
        finally:
            events._set_running_loop(loop)

    def finish(self) -> None:
        """It hands over what came of it."""
        self.pool.running.remove(self)
        if self.done is not None:
            self.done(self.result, None)


class FakePool:
    """As `ThreadPool`, with threads that do nothing by themselves."""

    def __init__(self, size: int, waiting: int) -> None:
        self.size, self.waiting = size, waiting
        self.queued: list[FakeJob] = []
        self.running: list[FakeJob] = []
        self.closed = False

    def submit(self, work: Callable[[], Any], done: JobDone | None = None) -> FakeJob | None:
        if self.closed or len(self.queued) + len(self.running) >= self.size + self.waiting:
            return None
        job = FakeJob(self, work, done)
        self.queued.append(job)
        return job

    def close(self, closed: Callable[[], object] | None = None) -> None:
        self.closed = True
        dropped, self.queued = self.queued, []
        for job in dropped:
            if job.done is not None:
                job.done(None, PoolClosed("closed"))

    def statistics(self) -> ThreadPoolStatistics:
        return ThreadPoolStatistics(self.size, self.size, len(self.running), len(self.queued), 0, 0)


class Held:
    """An effect that an effector performs."""

    def __init__(self, ask: Ask, done: Callable[[Outcome], None]) -> None:
        self.ask, self.done = ask, done
        self.cancelled = False


class Client:
    """One request, from outside. Its steps follow its program, and write down what must not be."""

    def __init__(self, world: World, program: Program, name: str) -> None:
        self.world, self.program, self.name = world, program, name
        self.exchange: Exchange | None = None
        self.begun = False  # `begin` has returned
        self.answers: list[Response | None] = []
        self.closed = False
        self.exits_due = 0
        self.exits: list[int] = []
        self.at_stage = 0

    def answered(self, response: Response | None) -> bool:
        self.answers.append(response)
        what = self.program.on_answer
        if what == "begin" and not self.world.stopped:
            self.world.begin(Program((Stage("done"),)))
        elif what == "raise":
            raise ValueError("a bug of the server")
        elif what == "out" and not self.begun:
            self.closed = True  # should it be over
            return True
        elif self.exchange is not None and what == "close":
            self.close()
        elif self.exchange is not None and what == "cancel":
            self.exchange.cancel("twice")
        return False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            assert self.exchange is not None
            self.exchange.close()

    @property
    def over(self) -> bool:
        return bool(self.answers)

    @property
    def pipeline(self) -> Pipeline:
        sync, asynchronous = compile_step(self.step), compile_step(self.async_step)
        steps: list[CompiledStep] = [asynchronous if one.what == "await" else sync for one in self.program.stages]
        return Pipeline(f"GET /{self.name}", (*steps, sync), int(self.program.deadline * 1e9))

    # Its steps

    def step(self, ctx: CtxView) -> Decision:
        stage = self._begin(ctx)
        if stage.what == "need":
            return self._need(stage)
        return self._end(stage)

    async def async_step(self, ctx: CtxView) -> Decision:
        stage = self._begin(ctx)
        if stage.what == "await":
            await need(*self._need(stage).effects, join=stage.join, mode=stage.mode)
            self._expect(not self.over, "a step goes on after the end of its request")
        return self._end(stage)

    def then(self, ctx: CtxView) -> Decision:
        return self.step(ctx)

    def _begin(self, ctx: CtxView[Any, Any]) -> Stage:
        self._expect(not self.over, "a step has begun after the end of its request")
        self._expect(events._get_running_loop() is None, "a step sees a loop")
        self._expect(not self.exits, "a step runs after exit callbacks")
        stages = self.program.stages
        stage = stages[self.at_stage] if self.at_stage < len(stages) else Stage("done")
        self.at_stage += 1
        for n in range(self.exits_due, self.exits_due + stage.exits):
            ctx.on_exit(lambda n=n: self._exit(n))  # type: ignore[misc]
        self.exits_due += stage.exits
        self.world.behind += stage.takes * MS
        return stage

    def _need(self, stage: Stage) -> Need:
        effects = [
            Effect[Any](
                family="own",
                op="do",
                target="own",
                args=one,
                required=one.required,
                idempotent=True,
                priority="batch" if one.batch else "interactive",
            )
            for one in stage.effects
        ]
        return Need(effects, join=stage.join, mode=stage.mode, detach=stage.detach, then=self.then)

    def _end(self, stage: Stage) -> Decision:
        if stage.what == "raise":
            raise ValueError("a bug of the app")
        if stage.what == "exit":
            raise SystemExit(3)
        if stage.what in ("continue", "await"):
            return Continue()
        return Done.text(self.name)

    def _exit(self, n: int) -> None:
        self._expect(self.closed and self.over, "exit callbacks run before the end")
        self._expect(self.exchange is not None and self.exchange.run.offloaded is None, "a step still runs")
        self._expect(events._get_running_loop() is None, "an exit callback sees a loop")
        self.exits.append(n)

    def _expect(self, condition: bool, otherwise: str) -> None:
        """Steps cannot raise it: what they raise is a bug of the app."""
        if not condition:
            self.world.problems.append(f"{self.name}: {otherwise}")

    def check(self) -> None:
        assert not self.world.problems, self.world.problems
        assert len(self.answers) <= 1, "answered twice"
        assert self.exits == list(range(self.exits_due))[::-1][: len(self.exits)], "each once, the last one first"

    def __repr__(self) -> str:
        return f"<Client {self.name}: {self.answers}, {self.exchange!r}>"


class World:
    """The engine and what it lives in. ``behind``: nanoseconds by which the loop is late, because of steps."""

    def __init__(self, mode: Mode, *, size: int = 2, waiting: int = 2, bound: int = 4, places: int = 3) -> None:
        self.time = FakeClock(1.0)
        self.behind = 0
        self.stopped = False
        self.ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.held: list[Held] = []
        self.clients: list[Client] = []
        self.problems: list[str] = []
        self.tasks = TaskSystem(self.call_soon, self.call_soon, self.clock, bound=bound, size=1, waiting=1)
        self.blocking, self.burning, self.afterwards = FakePool(size, waiting), FakePool(1, waiting), FakePool(2, 10**6)
        self.tasks._blocking, self.tasks._burning = self.blocking, self.burning  # type: ignore[assignment]
        bulkhead = BulkheadPolicy(in_flight=places, per_request=2, queue=2)
        self.dispatcher = Dispatcher(
            {"own": self},
            policy_for=lambda effect: Policy(
                5.0, RetryPolicy(effect.args.attempts, base=0.1, factor=2.0, cap=1.0), None, bulkhead
            ),
            interpret=lambda effect, value: Success(value),
            faults=Faults(),
            clock=lambda: self.clock() / 1e9,
            call_later=self.time.call_later,
            random=lambda: 0.5,
        )
        self.engine = ReactorEngine(
            self.tasks,
            self.time.call_later,
            self.afterwards,  # type: ignore[arg-type]
            self.dispatcher,
            Surroundings(clock=self.clock, sources=FakeSources(), render=render),
            30.0,
            lambda *run: Scope(RetryBudget(3)),
            StepPlacement(mode, 0.01, ThreadClock()),
        )

    # What engine and effectors are given; it is the running loop, too

    def clock(self) -> int:
        return round(self.time.now() * 1e9) + self.behind

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self.ready.append((callback, args))

    call_soon_threadsafe = call_soon

    def start(self, effect: Effect[Any], done: Callable[[Outcome], None], /) -> Callable[[], object]:
        ask: Ask = effect.args
        if ask.crashes:
            raise ValueError("a bug of the driver")
        held = Held(ask, done)
        self.held.append(held)
        if ask.at_once is not None:
            self.settle(held, Success(None) if ask.at_once else self.failure())

        def cancel() -> None:
            held.cancelled = True
            if ask.lets_go:
                self.settle(held, Success(None))

        return cancel

    # What happens

    def begin(self, program: Program) -> Client:
        client = Client(self, program, str(len(self.clients)))
        self.clients.append(client)
        request = Request("GET", f"/{client.name}", id=client.name)
        client.exchange = self.engine.begin(client.pipeline, request, self.clock(), client.answered)
        client.begun = True
        if client.closed and client.exchange is not None:
            client.exchange.close()
        return client

    def failure(self) -> Failure:
        return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, "it is down"), retryable=True)

    def settle(self, held: Held, outcome: Outcome) -> None:
        if held in self.held:
            self.held.remove(held)
            held.done(outcome)

    def round(self) -> None:
        """What is ready, and not what becomes so meanwhile: as a loop does."""
        for _ in range(len(self.ready)):
            callback, args = self.ready.popleft()
            callback(*args)

    def rounds(self) -> None:
        while self.ready:
            self.round()

    @property
    def pools(self) -> tuple[FakePool, ...]:
        return self.blocking, self.burning, self.afterwards

    def finish_everything(self) -> None:
        """All that is under way comes to its end, and is closed."""
        for _ in range(1000):
            self.rounds()
            for job in [job for pool in self.pools for job in pool.queued]:
                job.begin()
            for job in [job for pool in self.pools for job in pool.running]:
                job.finish()
            for held in list(self.held):
                self.settle(held, Success(None))
            for client in self.clients:
                if client.over:
                    client.close()
            if not self.ready and not self.held and not any(pool.queued or pool.running for pool in self.pools):
                if not self.time.pending:
                    return
                self.time.advance(1.0)
        raise AssertionError(f"it never comes to an end: {self.leftovers()}")

    def leftovers(self) -> dict[str, object]:
        """What is left of anything."""
        exchanges = [one.exchange for one in self.clients if one.exchange is not None]
        found: dict[str, object] = {
            "live": list(self.engine.live),
            "pending": self.dispatcher.pending,
            "in flight": self.dispatcher.in_flight,
            "timers": self.time.pending,
            "queued": self.tasks.statistics().queued,
            "unanswered": [one for one in self.clients if not one.answers],
            "exits to run": [one for one in self.clients if len(one.exits) != one.exits_due],
            "not closed": [one for one in exchanges if one.run.phase is not Phase.CLOSED],
            "offloaded": [one for one in exchanges if one.run.offloaded],
            "tickets": [one for one in exchanges if getattr(one, "_tickets", None)],
        }
        return {name: value for name, value in found.items() if value}
