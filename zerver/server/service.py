"""The service: one app's engine and effectors on one loop, from start to close."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from zerver_runtime.outcome import Failure, Outcome, Success
from zerver_runtime.reactor.breaker import StateChange
from zerver_runtime.reactor.budget import RetryBudget
from zerver_runtime.reactor.compute_pool import ComputePool
from zerver_runtime.reactor.compute_pool import Observe as ComputeObserver
from zerver_runtime.reactor.dispatcher import Dispatcher, Scope, Ticket
from zerver_runtime.reactor.loop import Timers
from zerver_runtime.reactor.task_system import TaskSystem
from zerver_runtime.reactor.thread_clock import ThreadClock
from zerver_runtime.reactor.threads import ThreadPool
from zerver_runtime.scheduler import Scheduler

from ..config import Config
from ..effect import Effect
from ..effect_results import interpret
from ..effectors.base import Done, Effector, hand_over
from ..engine.blocking import BlockingEngine
from ..engine.live import Engine
from ..engine.reactor import ReactorEngine
from ..engine.step_placement import StepPlacement
from ..error import EffectFailed, Error, ErrorKind
from ..faults import Faults
from ..metrics.meters import Meters
from ..problem import error_response
from ..request import Request
from ..response import Response
from ..site import Site
from ..surroundings import Surroundings
from ..trace.events import Trace
from ..trace.observe import EffectObserver
from ..trace.propagation import Propagation
from ..trace.recorder import Sink
from .assembly import built_in_effectors, policies
from .local_stage import LocalStage
from .processors import compute_workers

__all__ = ["Host", "Service"]

_log = logging.getLogger("zerver")

_LAST = 0.5  # seconds that what was cancelled has to come to its end
# A stream that waits for its next chunk keeps a thread, and there is no other bound on how many streams are open.
_STREAMS = 256


class Host(msgspec.Struct, frozen=True):
    """What the process of a service gives it. Nothing, where that is somebody else's server."""

    scheduler: int | None = None
    """Which scheduler of a Node this is, if Zerver itself serves the app (0 without a Node)."""
    make_compute_pool: Callable[[ComputeObserver], ComputePool] | None = None
    """Gives a pool on the workers of the Node; without it, workers are spawned with the first task."""
    stage: Scheduler | None = None
    """Keeps the app's actors for the Node; without it, they run on the loop of the service."""
    shared_cache: Scheduler | None = None
    """Finds the cache of the whole Node; without it, each service has its own."""
    export: Sink | None = None
    """Takes kept traces beside the store, to export them."""
    meters: Meters | None = None
    """Count its requests and effects; without them, nothing is counted."""


class Service:
    """What serves an app on one loop. All calls on that loop's thread. ``trace`` takes the events of all requests."""

    def __init__(
        self,
        site: Site,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        trace: Trace | None = None,
        host: Host = Host(),  # noqa: B008  # it is frozen
    ) -> None:
        self.site = site
        self.config = config
        self.loop = loop
        self.mount_states: dict[str, dict[str, Any]] = {}
        """What the lifespans of mounted apps left for their requests, by the mount's path."""
        self.requests = 0
        """So far: ids that were given."""
        self._id_prefix = os.urandom(6).hex()
        self._on_error = site.on_error
        calls = config.reactor.effector_pool
        self._calls = ThreadPool(calls.size, calls.queue, name="zerver-call")
        # Each request has one job at most here, or two while a stream is closed.
        self.responses = ThreadPool(_STREAMS, sys.maxsize, name="zerver-response")
        """Runs what comes after the pipeline: streams that are sent, and exit callbacks."""
        self._own_effectors = site.effectors
        self.meters = meters = host.meters
        keeps = trace is not None and config.trace.bodies
        observer = EffectObserver(None if meters is None else meters.effects.told, values=keeps, tell=_tell_breaker)
        if host.make_compute_pool is None:
            waiting = config.reactor.compute_pool.queue
            compute = ComputePool(compute_workers(config), waiting, observe=observer.compute, loop=loop)
        else:
            compute = host.make_compute_pool(observer.compute)
        self.compute = compute
        self._local: LocalStage | None = None
        stage = host.stage
        if stage is None:
            self._local = LocalStage(loop)
            stage = self._local.scheduler
        self.stage = stage
        propagation = None if trace is None else Propagation(observer.starting, sampled=host.export is not None)
        built_in = built_in_effectors(
            config, self._calls, compute, observer.current, stage, host.shared_cache,
            None if propagation is None else propagation.lines,
        )  # fmt: skip
        own = {kind: _OnLoop(driver, loop) for kind, driver in site.effectors.items()}
        self._timers = Timers(loop)
        self.dispatcher = Dispatcher(
            {**built_in, **own},
            policy_for=policies(config.effects),
            interpret=_interpret,
            faults=_LoggingFaults(),
            clock=time.monotonic,
            call_later=self._timers.call_later,
            random=random.random,
            observe=None if trace is None and meters is None else observer.effect,
        )
        around = Surroundings(
            clock=time.monotonic_ns, sources=_RealSources(), render=self.render, trace=trace,
            count=None if meters is None else meters.requests.count,
        )  # fmt: skip
        self.engine: Engine = self._make_engine(around)
        self._opening: asyncio.Task[None] | None = None
        self._closing = AsyncExitStack()
        self._closing.callback(self.abandon)
        self._close_later(self._local)
        self.trace = trace
        self._close_later(trace)
        for kind, driver in built_in.items():
            if kind not in own:
                self._close_later(driver)

    async def ready(self) -> None:
        """Start the app's actors, where no Node does, and open its own effectors; once, whoever asks first. The
        built-in ones open what they need at first use: an app without SQL has no database file."""
        if self._opening is None:
            self._opening = self.loop.create_task(self._open())
        await asyncio.shield(self._opening)

    async def drain(self, seconds: float) -> None:
        """Wait so long for requests and background effects; then cancel what is left."""
        live = self.engine.live
        await live.idle(seconds, killed=False)
        live.cancel_all("the server stops")
        await live.idle(_LAST, killed=True)

    async def close(self) -> None:
        """Cancel what is live, close effectors and pools. Threads that hang are left behind: they are daemons and keep
        no process alive. What a driver raises is raised when the others are closed, too."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        async with self._closing:
            await self.drain(0)

    def abandon(self) -> None:
        """Let go of everything without the loop, which may be closed already."""
        for part in (self.engine, self._timers, self._calls, self.responses):
            part.close()
        if self._local is not None:
            self._local.abandon()

    def request_id(self) -> str:
        """A new one; unique among all processes."""
        self.requests = number = self.requests + 1
        return f"{self._id_prefix}{number:06x}"

    async def perform(self, effect: Effect[Any]) -> Any:
        """See :meth:`App.perform`."""
        settled: asyncio.Future[Outcome] = self.loop.create_future()

        def done(ticket: Ticket, outcome: Outcome) -> None:
            if not settled.done():
                settled.set_result(outcome)

        ticket = self.dispatcher.start(effect, self._new_scope(), None, done)
        try:
            outcome = await settled
        finally:
            ticket.cancel()
        if isinstance(outcome, Success):
            return outcome.value
        error = outcome.error
        raise EffectFailed(effect.label, error if isinstance(error, Error) else Error(ErrorKind.INTERNAL))

    def render(self, error: Error, request: Request, exception: BaseException | None) -> Response:
        """The response of an error: the app's, or problem+json. Never raises."""
        debug = self.config.observability.debug
        return error_response(error, request, exception, self._on_error, _not_rendered, debug)

    def _make_engine(self, around: Surroundings) -> Engine:
        config, loop = self.config, self.loop
        steps, deadline = config.reactor.continuation_pool, config.limits.deadline
        if config.reactor.engine == "blocking":
            pool = ThreadPool(steps.size, steps.queue, name="zerver-request")
            return BlockingEngine(loop, pool, self.responses, self.dispatcher, around, deadline, self._new_scope)
        thread_clock = ThreadClock()
        tasks = TaskSystem(
            loop.call_soon, loop.call_soon_threadsafe, around.clock,
            bound=steps.queue, size=steps.size, waiting=steps.queue, delayed=thread_clock.delayed,
        )  # fmt: skip
        return ReactorEngine(
            tasks, self._timers.call_later, self.responses, self.dispatcher, around, deadline, self._new_scope,
            StepPlacement(steps.mode, steps.step_budget_ms / 1000, thread_clock),
        )  # fmt: skip

    def _new_scope(self) -> Scope:
        return Scope(RetryBudget(self.config.limits.retry_budget))

    async def _open(self) -> None:
        if self._local is not None:
            self._local.start(self.site.actors)
        for driver in self._own_effectors.values():
            opening = getattr(driver, "open", None)
            if opening is not None:
                await opening()
            self._close_later(driver)

    def _close_later(self, driver: object) -> None:
        close = getattr(driver, "close", None)
        if close is not None:
            self._closing.push_async_callback(close)


class _OnLoop:
    """A driver of the app. Where it calls ``done`` on another thread than the loop's, that is handed over to the loop:
    there it would corrupt the books of all requests."""

    def __init__(self, driver: Effector, loop: asyncio.AbstractEventLoop) -> None:
        self._driver = driver
        self._loop = loop
        self._thread = threading.get_ident()

    def start(self, effect: Any, done: Done, /) -> Callable[[], object] | None:
        loop, thread = self._loop, self._thread

        def settle(outcome: Outcome) -> None:
            if threading.get_ident() == thread:
                done(outcome)
            else:
                hand_over(loop, done, outcome)

        return self._driver.start(effect, settle)


def _not_rendered(request: Request, what: str, problem: BaseException) -> None:
    _log.error("request %s: %s", request.id, what, exc_info=problem)


def _interpret(effect: Effect[Any], raw: Any) -> Outcome:
    outcome = interpret(effect, raw, time.time)
    if type(outcome) is Failure and isinstance(outcome.error, Error) and outcome.error.kind is ErrorKind.INTERNAL:
        _log.error("%s", outcome.error.what)  # our own data or types are wrong; whoever runs the app must hear of it
    return outcome


class _LoggingFaults(Faults):
    """Faults whose cause is a bug are logged; the client does not see the cause."""

    def crashed(self, effect: Effect[Any], exception: BaseException) -> Error:
        _log.error("%s: its driver failed", effect.label, exc_info=exception)
        return super().crashed(effect, exception)


class _RealSources:
    """The machine's time of day and randomness."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def random(self) -> float:
        return random.random()

    def uuid(self) -> UUID:
        return uuid4()


def _tell_breaker(target: str, change: StateChange) -> None:
    """Who runs the app learns once that a service is down, and once that it is back: not with each attempt."""
    log = logging.getLogger("zerver.effects")
    if change.before == "closed":
        log.warning("%s failed too often: its circuit breaker is open, and it is left alone for now", target)
    elif change.after == "closed":
        log.warning("%s is well again: its circuit breaker is closed", target)
