"""The blocking engine: each request on a worker thread, its effects one after another. The engine to debug with.

Its run of a pipeline is the one in which effects settle in the order of their declaration. Steps run on the request's
thread, which waits for each effect; drivers, time-outs and retries run on the server's loop, as in any engine.
"""

from __future__ import annotations

import asyncio
import logging
import queue
from collections import deque
from collections.abc import Callable
from typing import Any

from zerver_runtime.outcome import Failure, Outcome
from zerver_runtime.reactor.dispatcher import Dispatcher, Scope, Ticket
from zerver_runtime.reactor.threads import Job, ThreadPool

from ..error import Error, ErrorKind
from ..execution import Execution, Phase
from ..interpreter import advance
from ..pipeline import Pipeline
from ..request import Request
from ..response import Response
from ..signals import (
    CancelEffect,
    Cancelled,
    Closed,
    DeadlinePassed,
    DetachEffect,
    Discard,
    Input,
    ReportBug,
    Respond,
    Settled,
    Start,
    StartEffect,
)
from ..surroundings import Surroundings
from ..trace.events import EventKind
from .live import Answered, Live, discard, report

__all__ = ["BlockingEngine", "Exchange"]

_log = logging.getLogger("zerver")


class BlockingEngine:
    """Runs pipelines on the threads of ``pool``, their exit callbacks on those of ``afterwards``, their effects on
    ``dispatcher``. Lives on one loop; all calls on its thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: ThreadPool,
        afterwards: ThreadPool,
        dispatcher: Dispatcher,
        around: Surroundings,
        deadline: float,
        new_scope: Callable[[], Scope],
    ) -> None:
        self.loop = loop
        self.pool = pool
        self.afterwards = afterwards
        self.dispatcher = dispatcher
        self.around = around
        self.deadline_ns = int(deadline * 1e9)
        """Nanoseconds for a request whose route does not say otherwise."""
        self.new_scope = new_scope
        self.clock = around.clock
        self.live: Live[Exchange] = Live()

    def begin(self, pipeline: Pipeline, request: Request, started_ns: int, answered: Answered) -> Exchange:
        """Begin to answer a request that began to arrive at ``started_ns``; its deadline counts from there."""
        exchange = Exchange(self, pipeline, request, started_ns, answered)
        self.live.add(exchange)
        exchange.begin()
        return exchange

    def close(self) -> None:
        """End the threads of requests."""
        self.pool.close()


class Exchange:
    """One request in the blocking engine: the interpreter's execution, and the effects that it waits for.

    One thread at a time drives the execution. While the request waits for a thread, that is the loop's; then the
    request's own, until it hands over its answer; then, once the response is out, the one that runs exit callbacks.
    What settles late is only counted, on the loop's.
    """

    __slots__ = (
        "_answer", "_background", "_closed", "_current", "_dropped", "_engine", "_inbox", "_job", "_over", "_scope",
        "_tickets", "_timer", "_waiting", "killed", "run",
    )  # fmt: skip

    def __init__(
        self, engine: BlockingEngine, pipeline: Pipeline, request: Request, started_ns: int, answered: Answered
    ) -> None:
        self._engine = engine
        deadline_ns = started_ns + (pipeline.deadline_ns or engine.deadline_ns)
        self.run = Execution(pipeline.steps, request, engine.around, started_ns, deadline_ns, pipeline.label)
        self._inbox: queue.SimpleQueue[Input] = queue.SimpleQueue()
        # Of whichever thread drives the execution.
        self._waiting: deque[StartEffect] = deque()
        self._current: StartEffect | None = None
        self._background: deque[DetachEffect] = deque()
        # Of the loop's thread.
        self.killed = False
        self._answer: Answered | None = answered  # until it was called
        self._scope = engine.new_scope()
        self._scope.owner = self.run
        self._job: Job | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tickets: dict[tuple[int, int], Ticket] = {}
        self._closed = False  # the response was sent, or never will be
        self._over = False  # exit callbacks have run
        self._dropped = False  # nothing more may run in the background

    # On the request's thread

    def work(self) -> None:
        """Drive the execution to its end."""
        run, inbox = self.run, self._inbox
        response: Response | None = None
        try:
            event: Input = Start() if inbox.empty() else inbox.get_nowait()  # cancelled before it began
            while True:
                response = self._carry_out(event)
                if run.phase is Phase.ENDED:
                    break
                # What is in the inbox goes first: nothing starts for a request that was cancelled.
                if self._current is None and self._waiting and inbox.empty():
                    self._current = self._waiting.popleft()
                    self._on_loop(self._start, self._current)
                event = self._next_input()
        finally:
            self._on_loop(self._answered, response)

    def _carry_out(self, event: Input) -> Response | None:
        if isinstance(event, Settled) and self._is_current(event.need, event.effect):
            self._current = None
        response: Response | None = None
        for action in advance(self.run, event):
            match action:
                case StartEffect():
                    self._waiting.append(action)
                case CancelEffect(need=need, effect=index):
                    self._let_go(need, index)
                case DetachEffect():
                    if not self._is_current(action.need, action.effect):
                        self._let_go(action.need, action.effect)
                        self._background.append(action)
                case Respond():
                    response = action.response
                case Discard():
                    discard(action.body, self._engine.afterwards)
                case ReportBug():
                    report(self.run.request, action)
        return response

    def _is_current(self, need: int, index: int) -> bool:
        current = self._current
        return current is not None and (current.need, current.effect) == (need, index)

    def _let_go(self, need: int, index: int) -> None:
        if self._is_current(need, index):
            self._current = None
            self._on_loop(self._cancel, need, index)
        else:
            self._waiting = deque(one for one in self._waiting if (one.need, one.effect) != (need, index))

    def _next_input(self) -> Input:
        left = (self.run.deadline_ns - self._engine.around.clock()) / 1e9
        try:
            return self._inbox.get(timeout=max(left, 0.0))
        except queue.Empty:
            return DeadlinePassed()

    def _on_loop(self, callback: Callable[..., object], *arguments: Any) -> None:
        try:
            self._engine.loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: the server has stopped, and nobody waits any more
            self._inbox.put(Cancelled("the server has stopped"))

    # On the loop's thread

    def begin(self) -> None:
        """Queue for a thread, at most until the deadline. Answers 503 at once when the queue is full."""
        engine = self._engine
        self._job = engine.pool.submit(self.work)
        if self._job is None:
            error = Error(ErrorKind.OVERLOADED, "the server is busy; try again later", retry_after=1.0)
            self._give(engine.around.render(error, self.run.request, None))
            return
        seconds = (self.run.deadline_ns - engine.around.clock()) / 1e9
        self._timer = engine.loop.call_later(max(seconds, 0.0), self._end_in_queue, DeadlinePassed())

    def cancel(self, reason: str) -> None:
        """Stop the request: nobody waits for its answer."""
        if not self._end_in_queue(Cancelled(reason)):
            self._inbox.put(Cancelled(reason))

    def kill(self, reason: str) -> None:
        """Stop the request, and let a stop of the server wait for it no longer."""
        self.killed = True
        self.cancel(reason)

    def close(self) -> None:
        """The response was sent, or never will be. Exit callbacks run on a worker thread, as steps do, and not before
        the last step has returned."""
        if not self._closed:
            self._closed = True
            if self._answer is None:
                self._run_exits()

    def drop_background(self) -> None:
        """Cancel what runs in the background, and begin nothing more there."""
        self._dropped = True
        for ticket in list(self._tickets.values()):
            ticket.cancel()
        self._tickets.clear()
        self._next_in_background()

    def _end_in_queue(self, event: Input) -> bool:
        """End it here if it still waits for a thread: there may be none for a long time."""
        if self._job is None or not self._job.cancel():
            return False
        self._answered(self._carry_out(event))
        return True

    def _answered(self, response: Response | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._job = None  # they refer back to this
        while not self._inbox.empty():  # what came after the thread had looked for the last time
            self._late(self._inbox.get_nowait())
        self._give(response)
        if self._closed:
            self._run_exits()

    def _give(self, response: Response | None) -> None:
        answered, self._answer = self._answer, None
        if answered is not None:
            answered(response)

    def _run_exits(self) -> None:
        if not self.run.exits or not self._engine.afterwards.submit(
            self._close_run, lambda *_: self._on_loop(self._exited)
        ):
            self._close_run()
            self._over = True
        self._next_in_background()

    def _exited(self) -> None:
        self._over = True
        self._next_in_background()

    def _close_run(self) -> None:
        for action in advance(self.run, Closed()):
            if isinstance(action, ReportBug):
                report(self.run.request, action)

    def _start(self, start: StartEffect) -> None:
        deadline = None if start.background else self.run.deadline_ns / 1e9
        self._perform(start, deadline)

    def _perform(self, what: StartEffect | DetachEffect, deadline: float | None) -> None:
        place = (what.need, what.effect)
        pending = True

        def settled(ticket: Ticket | None, outcome: Outcome) -> None:
            nonlocal pending
            pending = False
            self._tickets.pop(place, None)
            self._settled(Settled(*place, 1 if ticket is None else ticket.attempt, outcome))

        try:
            ticket = self._engine.dispatcher.start(what.what, self._scope, deadline, settled, what)
        except Exception as problem:  # made wrongly: its target is no text, say
            told = f"{what.what.label}: it cannot be performed"
            _log.error("request %s: %s", self.run.request.id, told, exc_info=problem)
            self.run.note(EventKind.ContinuationEnqueued, "", what.need, what.effect)
            settled(None, Failure(Error(ErrorKind.INTERNAL, told)))
            return
        if pending:
            self._tickets[place] = ticket

    def _settled(self, event: Settled) -> None:
        if self._answer is None:
            self._late(event)
            self._next_in_background()
        else:
            self._inbox.put(event)

    def _late(self, event: Input) -> None:
        """Have it traced and counted: the request has its end."""
        advance(self.run, event)

    def _cancel(self, need: int, index: int) -> None:
        ticket = self._tickets.pop((need, index), None)
        if ticket is not None:
            ticket.cancel()

    def _next_in_background(self) -> None:
        """Once the response is out, begin the next detached effect when the ones before it have settled."""
        if not self._closed or self._answer is not None:
            return
        if self._dropped:
            self._background.clear()
        if self._background and not self._tickets:
            self._perform(self._background.popleft(), None)
        elif self._over and not self._background and not self._tickets:
            self._engine.live.discard(self)
