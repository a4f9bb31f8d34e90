"""The reactor engine on a fake clock, without a loop: time moves when it is told to, and effects settle when they are.

reactor = Reactor()
request = reactor.begin(parse, load)    # runs until it waits
reactor.settle(request, 0, ok(1))       # effect 0 of its Need
reactor.turn()                          # what the loop would do next
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from causal_trace import Event, Recorder
from interpreter_driver import FakeSources, render

from zerver.compiled_step import CompiledStep
from zerver.config import Config
from zerver.effect import Effect
from zerver.engine.reactor import Exchange, ReactorEngine
from zerver.engine.step_placement import Mode, StepPlacement
from zerver.faults import Faults
from zerver.pipeline import Pipeline
from zerver.request import Request
from zerver.response import Response
from zerver.server.assembly import policies
from zerver.step import compile_step
from zerver.surroundings import Surroundings
from zerver.trace.observe import EffectObserver
from zerver.trace.reading import told
from zerver_runtime.outcome import Outcome, Success
from zerver_runtime.reactor.dispatcher import Dispatcher, Scope
from zerver_runtime.reactor.task_system import TaskSystem
from zerver_runtime.reactor.thread_clock import ThreadClock
from zerver_runtime.reactor.threads import ThreadPool
from zerver_runtime.testing.clock import FakeClock

__all__ = ["Asked", "Attempt", "Reactor"]


class Attempt:
    """One attempt at an effect, as its driver sees it."""

    def __init__(self, effect: Effect[Any], done: Callable[[Outcome], None]) -> None:
        self.effect = effect
        self.done = done
        self.cancelled = False


class Asked:
    """One request, and what came of it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.answers: list[Response | None] = []
        self.exchange: Exchange

    def answered(self, response: Response | None, /) -> None:
        self.answers.append(response)

    @property
    def response(self) -> Response:
        (response,) = self.answers
        assert response is not None, "it was cancelled"
        return response

    @property
    def events(self) -> list[Event]:
        """Those so far, in causal order."""
        return told(self.exchange.run)

    @property
    def slots(self) -> dict[str, Any]:
        return {slot.__name__: value for slot, value in self.exchange.run.slots.items()}


class Reactor:
    """All that one loop has, but for the loop. It is the driver of family ``test``: attempts wait in ``attempts`` by
    their effect's arguments, until they are settled; those that ``at_once`` has an outcome for settle as they start."""

    def __init__(self, mode: Mode = "inline", deadline: float = 30.0, **config: Any) -> None:
        self.loop_clock = FakeClock(1000.0)
        self.ready: deque[Callable[[], object]] = deque()
        self.trace = Recorder()
        self.attempts: dict[Any, Attempt] = {}
        self.begun: list[Any] = []
        self.at_once: Callable[[Any], Outcome | None] = lambda args: None
        self.tasks = TaskSystem(self._soon, self._soon, self.now_ns, bound=10, size=1, waiting=10)
        self.dispatcher = Dispatcher(
            {"test": self},
            policy_for=policies(Config().effects),
            interpret=lambda effect, raw: Success(raw),
            faults=Faults(),
            clock=self.loop_clock.now,
            call_later=self.loop_clock.call_later,
            random=lambda: 0.5,
            observe=EffectObserver().effect,
        )
        self.engine = ReactorEngine(
            self.tasks,
            self.loop_clock.call_later,
            ThreadPool(1, 0),
            self.dispatcher,
            Surroundings(clock=self.now_ns, sources=FakeSources(), render=render, trace=self.trace),
            deadline,
            Scope,
            StepPlacement(mode, 0.01, ThreadClock()),
        )
        self._asked = 0

    def now_ns(self) -> int:
        return round(self.loop_clock.now() * 1e9)

    def _soon(self, callback: Callable[..., object], *args: Any) -> None:
        self.ready.append(lambda: callback(*args))

    # The driver of effects

    def start(self, effect: Effect[Any], done: Callable[[Outcome], None], /) -> Callable[[], object] | None:
        attempt = Attempt(effect, done)
        self.begun.append(effect.args)
        outcome = self.at_once(effect.args)
        if outcome is not None:
            done(outcome)
            return None
        assert effect.args not in self.attempts, f"effect {effect.args} runs twice"
        self.attempts[effect.args] = attempt

        def cancel() -> None:
            attempt.cancelled = True
            del self.attempts[effect.args]
            done(Success("let go"))

        return cancel

    def settle(self, args: Any, outcome: Outcome) -> None:
        """The effect with these arguments settles."""
        self.attempts.pop(args).done(outcome)

    # The loop

    def turn(self) -> None:
        """Call what is ready, and what that makes ready, until nothing is."""
        while self.ready:
            self.ready.popleft()()

    def begin(self, *steps: Any, deadline: float | None = None) -> Asked:
        """A request whose pipeline these steps are: functions, or compiled ones."""
        self._asked += 1
        asked = Asked(f"r{self._asked}")
        compiled = tuple(step if isinstance(step, CompiledStep) else compile_step(step) for step in steps)
        pipeline = Pipeline("GET /", compiled, deadline and int(deadline * 1e9))
        request = Request("GET", "/", id=asked.id)
        exchange = self.engine.begin(pipeline, request, self.now_ns(), asked.answered)
        assert exchange is not None, "it says that the answer is not out yet"
        asked.exchange = exchange
        return asked

    def assert_idle(self) -> None:
        """Nothing is left of any request."""
        assert not self.ready
        assert not self.attempts
        assert self.engine.live.empty
        assert self.tasks.idle
        assert (self.dispatcher.pending, self.dispatcher.in_flight, self.loop_clock.pending) == (0, 0, 0)
