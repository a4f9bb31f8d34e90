"""A scheduler to test actors on: its clock moves only when it is told to."""

from __future__ import annotations

from typing import Any

from zerver_runtime.ids import Place
from zerver_runtime.scheduler import Scheduler


class Stage:
    """`settle()` runs until there is nothing to do now; `advance(seconds)` lets time pass, timer by timer."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_000_000_000
        self.woken = 0
        self.reports: list[tuple[str, BaseException]] = []
        options.setdefault("check_arguments", True)
        self.scheduler = Scheduler(
            Place(0, 0, 1),
            lambda: self.now,
            self._wake,
            report=lambda where, error: self.reports.append((where, error)),
            **options,
        )

    def _wake(self) -> None:
        self.woken += 1

    def spawn(self, kind: Any, *args: Any, **options: Any) -> Any:
        return self.scheduler.spawn(kind, args, **options)

    def settle(self) -> float | None:
        for _ in range(100_000):
            delay = self.scheduler.turn()
            if delay != 0.0:
                return delay
        raise AssertionError("it never settles")

    def advance(self, seconds: float) -> None:
        end = self.now + round(seconds * 1e9)
        while (delay := self.settle()) is not None and self.now + round(delay * 1e9) <= end:
            self.now += round(delay * 1e9)
        self.now = end
        self.settle()

    def ask(self, reply: Any) -> Any:
        """The result of a reply, once everything has run."""
        self.settle()
        return reply.result()

    @property
    def dead_letters(self) -> list[str]:
        return [letter.behaviour for letter in self.scheduler.dead_letters.last]
