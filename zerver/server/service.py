"""The service: one app's engine and effectors on one loop, from start to close."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from zerver_runtime.outcome import Outcome, Success
from zerver_runtime.reactor.budget import RetryBudget
from zerver_runtime.reactor.dispatcher import Dispatcher, Scope
from zerver_runtime.reactor.threads import ThreadPool

from ..app import App
from ..config import Config
from ..effect import Effect
from ..effect_results import interpret
from ..engine.blocking import BlockingEngine
from ..error import AppError, EffectFailed, Error, ErrorKind
from ..execution import Surroundings
from ..faults import Faults
from ..problem import problem_response
from ..request import Request
from ..response import Response
from .assembly import built_in_effectors, policies

__all__ = ["Service"]

_log = logging.getLogger("zerver")


class Service:
    """What serves an app on one loop. All calls on that loop's thread."""

    def __init__(self, app: App, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self._on_error = app.on_error
        requests, calls = config.reactor.continuation_pool, config.reactor.effector_pool
        self._requests = ThreadPool(requests.size, requests.queue, name="zerver-request")
        self._calls = ThreadPool(calls.size, calls.queue, name="zerver-call")
        self._own_effectors = app.effectors
        self._effectors = {**built_in_effectors(config, self._calls), **app.effectors}
        self._dispatcher = Dispatcher(
            self._effectors,
            policy_for=policies(config.effects),
            interpret=_interpret,
            faults=_LoggingFaults(),
            clock=time.monotonic,
            call_later=loop.call_later,
            random=random.random,
        )
        around = Surroundings(clock=time.monotonic_ns, sources=_RealSources(), render=self.render)
        self.engine = BlockingEngine(
            loop, self._requests, self._dispatcher, around, config.limits.deadline, self._new_scope
        )
        self._opening: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Open the app's own effectors; once, whoever asks first. The built-in ones open what they need at first use: an
        app without SQL has no database file."""
        if self._opening is None:
            self._opening = self.loop.create_task(self._open())
        await asyncio.shield(self._opening)

    async def drain(self) -> None:
        """Wait for requests and background effects, at most ``server.grace`` seconds; then cancel what is left."""
        until = self.loop.time() + self.config.server.grace
        while self.engine.live and self.loop.time() < until:
            await asyncio.wait([self.engine.idle()], timeout=until - self.loop.time())
        self.engine.cancel_all("the server stops")

    async def close(self) -> None:
        """Close effectors and pools. Threads that hang are left behind: they are daemons and keep no process alive."""
        for effector in self._effectors.values():
            close = getattr(effector, "close", None)
            if close is not None:
                await close()
        self.abandon()

    def abandon(self) -> None:
        """Let go of everything without the loop, which may be closed already."""
        self._requests.close()
        self._calls.close()

    async def perform(self, effect: Effect[Any]) -> Any:
        """See :meth:`App.perform`."""
        settled: asyncio.Future[Outcome] = self.loop.create_future()

        def done(attempt: int, outcome: Outcome) -> None:
            if not settled.done():
                settled.set_result(outcome)

        ticket = self._dispatcher.start(effect, self._new_scope(), None, done)
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
        if self._on_error is not None:
            try:
                answer = self._on_error(error, request)
                if isinstance(answer, Response):
                    return answer
                problem: Exception = AppError(f"on_error returned {answer!r}, not a Response")
            except Exception as raised:
                problem = raised
            _log.error("request %s: on_error failed on %s", request.id, error.kind.name, exc_info=problem)
        return problem_response(error, request, exception, self.config.observability.debug)

    def _new_scope(self) -> Scope:
        return Scope(RetryBudget(self.config.limits.retry_budget))

    async def _open(self) -> None:
        for effector in self._own_effectors.values():
            opening = getattr(effector, "open", None)
            if opening is not None:
                await opening()


def _interpret(effect: Effect[Any], raw: Any) -> Outcome:
    return interpret(effect, raw, time.time)


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
