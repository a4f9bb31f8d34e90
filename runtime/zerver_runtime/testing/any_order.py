"""A discipline for tests: any actor that waits may be next, as a seeded source of numbers says."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from random import Random

from zerver_runtime.cell import Cell
from zerver_runtime.ids import ActorId

__all__ = ["AnyOrder"]


class AnyOrder:
    """For `Scheduler(tasks=)`. Priorities are ignored, and so is who came first: whatever holds under this discipline
    holds under any other. The choice depends on the numbers and on who waits, never on memory addresses.

    twice: told of an actor that is added while it is here already, which a scheduler must never do.
    """

    __slots__ = ("_cells", "_ids", "_rng", "_stalled", "_twice")

    def __init__(self, rng: Random, twice: Callable[[Cell], object]) -> None:
        self._rng = rng
        self._twice = twice
        self._ids: list[ActorId] = []
        self._cells: dict[ActorId, Cell] = {}
        self._stalled: dict[ActorId, int] = {}

    def stall(self, id: ActorId, until: int) -> None:
        """Do not choose this actor before that time (nanoseconds), so that its mailbox fills."""
        self._stalled[id] = until

    def relent(self) -> None:
        """Hold nobody back any more."""
        self._stalled.clear()

    def add(self, item: Cell, order: int, now: int, /) -> None:
        if item.id in self._cells:
            self._twice(item)
            return
        self._cells[item.id] = item
        insort(self._ids, item.id)

    def select(self, now: int, /) -> Cell | None:
        ids = self._ids
        if self._stalled:
            self._stalled = {id: until for id, until in self._stalled.items() if until > now}
            ids = [id for id in ids if id not in self._stalled]
        if not ids:
            return None
        id = ids[self._rng.randrange(len(ids))] if len(ids) > 1 else ids[0]
        self._ids.remove(id)
        return self._cells.pop(id)

    def __len__(self) -> int:
        return len(self._ids)
