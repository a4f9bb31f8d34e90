"""The reactor engine: a request runs on the loop, and gives the loop back while it waits.

Steps run where the request is, on the loop's thread, until a Need; effects run in parallel; what settles lets the
request go on in its turn of the task system. A request that asks for nothing needs no turn, no timer and no Future.

Steps that block the loop are moved to threads (``mode="adaptive"``), or all of them (``"pool"``), or none
(``"inline"``).
"""

from __future__ import annotations

import asyncio
import functools
import logging
from asyncio import events
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from zerver_runtime.outcome import Failure, Outcome
from zerver_runtime.reactor.dispatcher import Dispatcher, Scope, Ticket
from zerver_runtime.reactor.effector import CallLater, Handle
from zerver_runtime.reactor.task_system import BATCH, CONTINUE, Measured, TaskSystem
from zerver_runtime.reactor.threads import ThreadPool

from ..effectors.base import hand_over
from ..error import Error, ErrorKind
from ..execution import ENDED, NEW, OFFLOADED, WAITING, Execution, Phase
from ..interpreter import advance, run_step
from ..pipeline import Pipeline
from ..request import Request
from ..response import Response
from ..signals import (
    Action,
    CancelEffect,
    Cancelled,
    Closed,
    DeadlinePassed,
    DetachEffect,
    Discard,
    GiveWay,
    GoOn,
    Input,
    Refused,
    ReportBug,
    Respond,
    RunStep,
    Settled,
    Start,
    StartEffect,
    StepOverran,
)
from ..surroundings import Surroundings
from ..trace.events import EventKind
from .live import Answered, Live, discard, report
from .step_placement import StepPlacement

__all__ = ["Exchange", "ReactorEngine"]

_log = logging.getLogger("zerver")

_MOST: Final = 64  # inputs that one request takes in one turn, and continuations that it runs upon one
_TURN_NS: Final = 2_000_000  # after its first step, in which it begins others in the same turn
_START: Final = Start()
_CLOSED: Final = Closed()
_GO_ON: Final = GoOn()
_BUSY = Error(ErrorKind.OVERLOADED, "the server is busy; try again later", retry_after=1.0)
_REFUSED: Final = Refused(_BUSY)


class ReactorEngine:
    """``afterwards`` runs exit callbacks, off the loop; it is lent. ``deadline``: seconds for a request whose route
    does not say otherwise. ``placement`` says where steps run, and is closed with this."""

    def __init__(
        self,
        tasks: TaskSystem,
        call_later: CallLater,
        afterwards: ThreadPool,
        dispatcher: Dispatcher,
        around: Surroundings,
        deadline: float,
        new_scope: Callable[[], Scope],
        placement: StepPlacement,
    ) -> None:
        self.tasks = tasks
        self.call_later = call_later
        self.afterwards = afterwards
        self.dispatcher = dispatcher
        self._deadline_ns = int(deadline * 1e9)
        self.new_scope = new_scope
        self.clock = around.clock
        self.live: Live[Exchange] = Live()
        self.placement = placement
        self.around = msgspec.structs.replace(
            around, offload=placement.elsewhere, step_budget_ns=placement.budget_ns, in_a_row=_MOST
        )

    def begin(self, pipeline: Pipeline, request: Request, started_ns: int, answered: Answered) -> Exchange | None:
        """See :meth:`Engine.begin`."""
        deadline_ns = started_ns + (pipeline.deadline_ns or self._deadline_ns)
        run = Execution(pipeline.steps, request, self.around, started_ns, deadline_ns, pipeline.label)
        if self.tasks.at_once():
            if started_ns >= self.placement.look_ns:
                self.placement.look(started_ns)
            actions = _advance(run, _START)
        elif self.tasks.has_room():
            exchange = Exchange(self, run, answered)
            exchange.queue()
            return exchange
        else:
            actions = _advance(run, _REFUSED)
        if len(actions) == 1 and type(actions[0]) is Respond:
            # The straight way: it has asked for nothing, so there is nothing to keep an exchange for.
            try:
                out = answered(actions[0].response)
            except Exception as problem:  # of whoever sends it, and still has to close the request
                out = None
                _log.error("request %s: its answer could not be taken", request.id, exc_info=problem)
            if out and not run.exits:
                advance(run, _CLOSED)
                return None
            exchange = Exchange(self, run, None)
            self.live.add(exchange)
            return exchange
        exchange = Exchange(self, run, answered)
        exchange.carry_on(actions)
        return exchange

    def close(self) -> None:
        """End the threads that steps run on."""
        self.tasks.close()
        self.placement.close()


class Exchange:
    """One request in the reactor engine: the interpreter's execution, and the effects that it waits for.

    Everything happens on the loop's thread, but steps that are moved, and exit callbacks.
    """

    __slots__ = (
        "_answered", "_background", "_behind", "_closed", "_driving", "_dropped", "_engine", "_exiting", "_inbox",
        "_queued_ns", "_scope", "_take_out", "_tickets", "_timer", "_waits", "killed", "run",
    )  # fmt: skip

    def __init__(self, engine: ReactorEngine, run: Execution, answered: Answered | None) -> None:
        self._engine = engine
        self.run = run
        self.killed = False
        self._answered = answered  # until it was called
        self._driving = False  # actions are being carried out; what comes meanwhile waits in the inbox
        self._waits = False  # it is in the task system's queue
        self._queued_ns = 0  # when it was queued to begin; 0 once it has begun
        self._inbox: deque[Input] | None = None
        self._scope: Scope | None = None  # of its effects; None before the first
        self._tickets: dict[tuple[int, int], Ticket] | None = None
        self._timer: Handle | None = None  # of the deadline, while it waits
        self._take_out: Callable[[], bool] | None = None  # a step that waits for a thread; it may run already
        # What outlives the answer.
        self._background: deque[DetachEffect] | None = None  # to be begun, one after another
        self._behind: tuple[int, int] | None = None  # the one that was
        self._dropped = False  # nothing more may run in the background
        self._closed = False  # the response was sent, or never will be
        self._exiting = False  # exit callbacks run

    # Beginning

    def queue(self) -> None:
        """Run it in its turn, or refuse it, when that comes too late."""
        engine = self._engine
        self._queued_ns = engine.tasks.now()
        self._waits = True
        engine.tasks.offer(self)
        engine.live.add(self)
        self._set_timer()

    def proceed(self) -> None:
        """Its turn has come."""
        self._waits = False
        now = self._engine.clock()
        self._engine.placement.look(now)
        if self._queued_ns:
            in_time = self._engine.tasks.in_time(self._queued_ns)
            self._queued_ns = 0
            if self.run.phase is NEW:  # else cancelled, or past its deadline, while it waited
                self._drive(_START if in_time else _REFUSED)
        elif self._inbox:
            self._drive(self._inbox.popleft())

    # Going on

    def _put(self, event: Input, priority: int) -> None:
        """Take an input in its turn."""
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append(event)
        if not self._waits and not self._driving:
            self._wait(priority)

    def _wait(self, priority: int) -> None:
        self._waits = True
        self._engine.tasks.add(self, priority)

    def _now(self, event: Input) -> None:
        """Take an input at once, before what waits for its turn."""
        if not self._driving:
            self._drive(event)
            return
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.appendleft(event)

    def _drive(self, event: Input) -> None:
        """Feed an input, and carry out what comes of it."""
        self.carry_on(_advance(self.run, event))

    def carry_on(self, actions: list[Action]) -> None:
        """Carry out actions, and go on with what that has settled: a loop and no recursion."""
        run, engine = self.run, self._engine
        deadline = run.deadline_ns / 1e9
        self._driving = True
        left, ends_ns = _MOST, 0
        while True:
            for action in actions:
                if type(action) is StartEffect:
                    self._start_effect(action, None if action.background else deadline)
                elif type(action) is GiveWay:
                    self._put(_GO_ON, CONTINUE)
                    left = 0
                else:
                    self._carry_out(action)
            left -= 1
            inbox = self._inbox
            if not inbox or left <= 0:
                break
            if actions:  # a step has run
                now = engine.clock()
                if not ends_ns:
                    ends_ns = now + _TURN_NS
                elif now > ends_ns:
                    break
            # As _advance() does it, and once for all that ask for nothing.
            loop = events._get_running_loop()
            events._set_running_loop(None)
            try:
                while not (actions := advance(run, inbox.popleft())) and inbox and left:
                    left -= 1
            finally:
                events._set_running_loop(loop)
        self._driving = False
        if self._inbox and not self._waits:
            self._wait(CONTINUE)
        if run.phase is WAITING or run.phase is OFFLOADED:
            if self._timer is None:
                self._set_timer()
                engine.live.add(self)
        else:
            self._settle_down()

    def _carry_out(self, action: Action) -> None:
        if type(action) is Respond:
            self._respond(action.response)
        elif type(action) is CancelEffect:
            ticket = self._tickets.pop((action.need, action.effect), None) if self._tickets else None
            if ticket is not None:
                ticket.cancel()
        elif type(action) is DetachEffect:
            self._detach(action)
        elif type(action) is RunStep:
            self._run_elsewhere(action)
        elif type(action) is StepOverran:
            self._engine.placement.overran(self.run, action.step, action.took_ns)
        elif type(action) is Discard:
            discard(action.body, self._engine.afterwards)
        else:
            assert type(action) is ReportBug
            report(self.run.request, action)

    def _respond(self, response: Response | None) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            try:
                answered(response)
            except Exception as problem:  # of whoever sends it; the request must still come to its end
                _log.error("request %s: its answer could not be taken", self.run.request.id, exc_info=problem)

    def _set_timer(self) -> None:
        seconds = (self.run.deadline_ns - self._engine.clock()) / 1e9
        self._timer = self._engine.call_later(max(seconds, 0.0), self._expired)

    def _expired(self) -> None:
        self._timer = None
        if self.run.phase is not ENDED:
            self._now(DeadlinePassed())

    def _settle_down(self) -> None:
        """It does not wait for anything that its answer needs."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._answered is not None:
            self._respond(None)  # it was cancelled
        take_out, self._take_out = self._take_out, None
        if take_out is not None and take_out():
            self._drive(_REFUSED)  # nobody needs its step any more
            return
        if self._background:
            self._next_in_background()
        if self._closed:
            self._finish()
        else:
            self._engine.live.add(self)  # its answer is on its way out

    # Effects

    def _start_effect(self, start: StartEffect | DetachEffect, deadline: float | None) -> None:
        scope, tickets = self._scope, self._tickets
        if scope is None:
            scope = self._scope = self._engine.new_scope()
            scope.owner = self.run
        if tickets is None:
            tickets = self._tickets = {}
        try:
            ticket = self._engine.dispatcher.start(start.what, scope, deadline, self._settled, start)
        except Exception as problem:  # made wrongly: its target is no text, say
            told = f"{start.what.label}: it cannot be performed"
            _log.error("request %s: %s", self.run.request.id, told, exc_info=problem)
            self.run.note(EventKind.ContinuationEnqueued, "", start.need, start.effect)
            self._enqueue(start, 1, Failure(Error(ErrorKind.INTERNAL, told)))
            return
        if ticket.stage != "over":  # else it has settled already
            tickets[start.need, start.effect] = ticket

    def _settled(self, ticket: Ticket, outcome: Outcome) -> None:
        start: Any = ticket.tag
        tickets = self._tickets
        if tickets:
            tickets.pop((start.need, start.effect), None)
        self._enqueue(start, ticket.attempt, outcome)

    def _enqueue(self, start: StartEffect | DetachEffect, attempt: int, outcome: Outcome) -> None:
        need, effect = start.need, start.effect
        if self._behind is not None and self._behind == (need, effect):
            self._behind = None
        self._put(Settled(need, effect, attempt, outcome), CONTINUE if start.what.priority == "interactive" else BATCH)

    def _detach(self, action: DetachEffect) -> None:
        """Let it go on in the background. One that was not begun is, after those before it."""
        self._engine.live.add(self)
        place = (action.need, action.effect)
        if self._dropped or (self._tickets and place in self._tickets):
            return
        if any(type(one) is Settled and (one.need, one.effect) == place for one in self._inbox or ()):
            return  # it has settled, and the request has not yet heard of it
        if self._background is None:
            self._background = deque()
        self._background.append(action)

    def _next_in_background(self) -> None:
        while self._background and self._behind is None:
            action = self._background.popleft()
            self._behind = (action.need, action.effect)
            self._start_effect(action, None)

    def drop_background(self) -> None:
        """Cancel what runs in the background, and begin nothing more there."""
        self._dropped = True
        self._background = None
        if self._tickets:
            tickets, self._tickets = self._tickets, None
            for ticket in tickets.values():
                ticket.cancel()
        self._behind = None
        self._finish()

    # Steps elsewhere

    def _run_elsewhere(self, work: RunStep) -> None:
        engine = self._engine
        self._take_out = engine.tasks.run_on_thread(
            engine.placement.lane(work.step),
            functools.partial(run_step, work),
            functools.partial(self._step_back, work),
        )
        if self._take_out is None:
            self._put(_REFUSED, CONTINUE)

    def _step_back(self, work: RunStep, result: Measured | None) -> None:
        self._take_out = None
        if result is None:
            self._now(Refused(Error(ErrorKind.OVERLOADED, "the server stops", retry_after=1.0)))
            return
        self._engine.placement.ran_elsewhere(self.run, work.step, result)
        self._put(result.value, CONTINUE)

    # The end

    def cancel(self, reason: str) -> None:
        """Stop the request: nobody waits for its answer."""
        if self.run.phase is not ENDED and self.run.phase is not Phase.CLOSED:
            self._now(Cancelled(reason))

    def kill(self, reason: str) -> None:
        """Stop the request, and let a stop of the server wait for it no longer."""
        self.killed = True
        self.cancel(reason)

    def close(self) -> None:
        """The response was sent, or never will be; exit callbacks run now."""
        if not self._closed:
            self._closed = True
            self.cancel("closed before it ended")
            self._finish()

    def _finish(self) -> None:
        """Run exit callbacks, when the last step is back; and forget it, when the last effect is, and told."""
        run = self.run
        if not self._closed or self._driving or self._exiting or run.offloaded is not None:
            return
        if run.phase is ENDED:
            if run.exits:
                self._exiting = True
                submitted = self._engine.afterwards.submit(
                    functools.partial(advance, run, _CLOSED),
                    functools.partial(hand_over, asyncio.get_running_loop(), self._exited),
                )
                if submitted is not None:
                    self._engine.live.add(self)
                    return
                self._exiting = False
            for action in _advance(run, _CLOSED):
                self._carry_out(action)
        if run.phase is Phase.CLOSED and not self._tickets and not self._background and not self._inbox:
            self._engine.live.discard(self)
        elif run.phase is Phase.CLOSED:
            self._engine.live.add(self)

    def _exited(self, actions: list[Action] | None, problem: BaseException | None) -> None:
        self._exiting = False
        for action in actions or ():
            self._carry_out(action)
        self._finish()  # if the pool was closed before they ran, they run now

    def __repr__(self) -> str:
        return f"<Exchange of {self.run!r}>"


def _advance(run: Execution, event: Input) -> list[Action]:
    """Advance without a running loop: a step that asks for one must fail here as it does in the blocking engine."""
    loop = events._get_running_loop()
    events._set_running_loop(None)
    try:
        return advance(run, event)
    finally:
        events._set_running_loop(loop)
