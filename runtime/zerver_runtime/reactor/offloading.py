"""Which tasks may not run on the loop's thread, judged by how they ran before. Pure.

    from     to       when
    -------  -------  ------------------------------------------------------------------------------------
    inline   blocks   a run took longer than the budget, and the CPU well below that
    inline   burns    a run took longer than the budget, with the CPU at work for most of it
    blocks   burns    the next run over the budget shows that it is the other (measured on its own thread,
    burns    blocks   where nothing else is counted in)
    blocks   inline   `GOOD_RUNS` runs in a row within the budget
    burns    inline   the same

What blocks runs on many threads at once, since they wait. What burns runs on one: Python threads that compute share
one interpreter lock, and each more of them slows the loop down and gains nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

__all__ = ["GOOD_RUNS", "Lane", "Move", "Offloading"]

GOOD_RUNS = 32
"""So many runs in a row within the budget, and a task is run on the loop again."""

Lane: TypeAlias = Literal["inline", "blocks", "burns"]
K = TypeVar("K", bound=Hashable)


class Move(msgspec.Struct, frozen=True):
    """A kind of task changes its place. Times are of the run that showed it."""

    to: Lane
    took_ns: int
    cpu_ns: int


class Offloading(Generic[K]):
    """budget_ns: a run that takes longer shows a task that may not be on the loop.

    moved: what is not inline, by key, for quick look-ups; only this class changes it.
    """

    __slots__ = ("_budget_ns", "_good", "moved")

    def __init__(self, budget_ns: int, moved: dict[K, Lane] | None = None) -> None:
        self._budget_ns = budget_ns
        self._good: dict[K, int] = {}  # runs in a row within the budget, of what is moved
        self.moved: dict[K, Lane] = {} if moved is None else moved

    def ran_inline(self, key: K, took_ns: int, cpu_ns: int) -> Move | None:
        """A task ran on the loop, in `took_ns`, of which the CPU was at work for at most `cpu_ns`."""
        if took_ns <= self._budget_ns or dict.__contains__(self.moved, key):
            return None
        return self._move(key, took_ns, cpu_ns)

    def ran_elsewhere(self, key: K, took_ns: int, cpu_ns: int) -> Move | None:
        """A task ran on a thread of its own."""
        lane = self.moved.get(key)
        if lane is None:
            return None  # a straggler: its kind is inline again
        if took_ns > self._budget_ns:
            self._good[key] = 0
            return None if lane == _lane(took_ns, cpu_ns) else self._move(key, took_ns, cpu_ns)
        self._good[key] += 1
        if self._good[key] < GOOD_RUNS:
            return None
        del self.moved[key], self._good[key]
        return Move("inline", took_ns, cpu_ns)

    def _move(self, key: K, took_ns: int, cpu_ns: int) -> Move:
        lane = self.moved[key] = _lane(took_ns, cpu_ns)
        self._good[key] = 0
        return Move(lane, took_ns, cpu_ns)

    def __repr__(self) -> str:
        return f"<Offloading: {len(self.moved)} kinds of tasks are not on the loop>"


def _lane(took_ns: int, cpu_ns: int) -> Lane:
    return "burns" if 2 * cpu_ns > took_ns else "blocks"
