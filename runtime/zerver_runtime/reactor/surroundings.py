"""What the tickets and attempts of one dispatcher share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ..outcome import Outcome
from .effector import CallLater, Effector, Event, Faults
from .target import Targets

__all__ = ["Surroundings"]


class Surroundings:
    """The handles on it are thin: whoever changes something here says so beside the field.

    What one call brings about (an attempt that has a place now, an effect that has settled) goes into `work`, and
    the outermost call into the dispatcher does it: a loop and no recursion, however long a chain of effects is that
    settle at once, and nobody is called while the books of another are half written.
    """

    __slots__ = (
        "call_later", "cancelled", "clock", "effectors", "faults", "interpret", "late", "observe", "random", "retries",
        "running", "settled", "started", "stray", "targets", "waiting_for_idle", "work",
    )  # fmt: skip

    def __init__(
        self,
        effectors: Mapping[str, Effector],
        interpret: Callable[[Any, Any], Outcome],
        faults: Faults,
        clock: Callable[[], float],
        call_later: CallLater,
        random: Callable[[], float],
        observe: Callable[[Event, Any, float, object], None] | None,
    ) -> None:
        # Handed in.
        self.effectors = effectors
        self.interpret = interpret
        self.faults = faults
        self.clock = clock
        self.call_later = call_later
        self.random = random
        self.observe = observe
        # Changed by dispatcher and tickets.
        self.started = 0
        self.settled = 0
        self.cancelled = 0
        self.retries = 0
        # Changed by attempts.
        self.late = 0
        self.stray = 0
        self.targets: Targets[Any] = Targets()
        # Appended to by both; worked off by run(). A ticket that settles when there is none takes the turn itself.
        self.work: deque[Callable[[], object]] = deque()
        self.running = False
        self.waiting_for_idle: list[Callable[[], object]] = []

    @property
    def pending(self) -> int:
        """Tickets that are neither settled nor cancelled."""
        return self.started - self.settled - self.cancelled

    @property
    def in_flight(self) -> int:
        """Attempts that were started and whose effector has not let go."""
        return self.targets.in_flight

    def run(self) -> None:
        """Do what is due. Every call from outside ends with this, if anything is."""
        if self.running:
            return
        work = self.work
        if work:
            self.running = True
            try:
                while work:
                    work.popleft()()
            finally:
                self.running = False
        if self.waiting_for_idle and not self.pending and not self.in_flight:
            callbacks, self.waiting_for_idle = self.waiting_for_idle, []
            for callback in callbacks:
                self.guarded(callback)

    def guarded(self, callback: Callable[..., object], *args: Any) -> None:
        """Call it. What it raises is its own bug, and must not reach whoever happens to be above it on the stack."""
        try:
            callback(*args)
        except BaseException as problem:  # also what is no Exception: a cancellation, an exit
            self.report(problem)

    def report(self, problem: BaseException) -> None:
        """Raise it on the loop, in a callback of its own, where the loop's handler of exceptions gets it."""
        self.call_later(0.0, _raise, problem)


def _raise(problem: BaseException) -> NoReturn:
    raise problem
