"""What one scheduler has to do: system work (IRQ) before tasks, and never so much in a turn that I/O is kept waiting.

A turn hands out each kind in a bounded number. Past its time it hands out no more tasks, but the first task of a turn
always, so that a flood of system work slows the tasks down and does not stop them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from zerver_runtime.discipline import Discipline

__all__ = ["Irq", "RunQueue"]

T = TypeVar("T")
Irq: TypeAlias = Callable[[], object]


class RunQueue(Generic[T]):
    """tasks: the discipline among tasks.
    most: of each kind in one turn. longest: nanoseconds after which a turn ends (default 2 ms).
    """

    __slots__ = ("_irqs", "_irqs_left", "_longest", "_most", "_tasks", "_tasks_left", "_until", "add")

    def __init__(self, tasks: Discipline[T], *, most: int = 256, longest: int = 2_000_000) -> None:
        self._tasks = tasks
        self._irqs: deque[Irq] = deque()
        self._most = most
        self._longest = longest
        # The turn under way.
        self._irqs_left = self._tasks_left = most
        self._until = 0
        self.add = tasks.add
        """add(task, priority, now): the discipline's own, to spare a call for each task."""

    def post(self, irq: Irq) -> None:
        """System work: a completion, a due timer, a word of control."""
        self._irqs.append(irq)

    def begin(self, now: int) -> None:
        """A turn begins."""
        self._irqs_left = self._tasks_left = self._most
        self._until = now + self._longest

    def irq(self) -> Irq | None:
        """The next piece of system work; None: there is none, or enough for this turn."""
        if not self._irqs or not self._irqs_left:
            return None
        self._irqs_left -= 1
        return self._irqs.popleft()

    def task(self, now: int) -> T | None:
        """The next task; None: there is none, or the turn is over."""
        if not self._tasks_left or (now >= self._until and self._tasks_left < self._most):
            return None
        self._tasks_left -= 1
        return self._tasks.select(now)

    def over(self, now: int) -> bool:
        """Whether this turn has used up its time."""
        return now >= self._until

    def __len__(self) -> int:
        return len(self._irqs) + len(self._tasks)
