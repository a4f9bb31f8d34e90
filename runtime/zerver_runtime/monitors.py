"""Who wants to know of whose end. Told once, by `on_down(ref, reason)`, past every bound; also of what is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zerver_runtime.ids import ActorId
from zerver_runtime.message import ExitReason
from zerver_runtime.ref import id_of

if TYPE_CHECKING:
    from zerver_runtime.cell import Cell
    from zerver_runtime.scheduler import Scheduler

__all__ = ["Monitors"]


class Monitors:
    """Of one scheduler. The state is with the cells: `watching` on the one side, `watchers` on the other."""

    __slots__ = ("_scheduler",)

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    # --- For actors here

    def watch(self, watcher: Cell, ref: Any) -> None:
        """TypeError: not a ref."""
        target = id_of(ref)
        target = self._scheduler.moved.get(target, target)
        self._watch_as(watcher, target, ref)

    def _watch_as(self, watcher: Cell, target: ActorId, ref: Any) -> None:
        if watcher.watching is None:
            watcher.watching = {}
        watcher.watching[target] = ref
        scheduler = self._scheduler
        if scheduler.is_here(target):
            self.add(watcher.id, target)
        elif scheduler.mailman is not None:
            scheduler.mailman.monitor(watcher.id, target)
        else:
            self.down(watcher.id, target, ExitReason("lost", "there is no mailman"))

    def unwatch(self, watcher: Cell, ref: Any) -> None:
        target: ActorId | None = id_of(ref)
        watching = watcher.watching or {}
        if target not in watching:
            # It may have moved since: then it is watched by its new id, and told of by the ref that was given.
            target = next((id for id, watched in watching.items() if watched == ref), None)
        if target is not None:
            del watching[target]
            self._forget(watcher.id, target)

    def buried(self, cell: Cell, reason: ExitReason) -> None:
        """It has died."""
        for target in cell.watching or ():
            self._forget(cell.id, target)
        for watcher in cell.watchers or ():
            self._tell(watcher, cell.id, reason)

    def left(self, cell: Cell) -> list[Any]:
        """It has moved away. Returns the refs of those that it watched."""
        watching = cell.watching or {}
        for target in watching:
            self._forget(cell.id, target)
        return list(watching.values())

    # --- For the mailman as well

    def follow(self, watcher: ActorId, old: ActorId, new: ActorId) -> None:
        """What this one here watches has moved."""
        cell = self._scheduler.cells.get(watcher)
        if cell is not None and cell.watching is not None and old in cell.watching:
            self._watch_as(cell, new, cell.watching.pop(old))

    def add(self, watcher: ActorId, target: ActorId) -> None:
        """A watcher anywhere, of an actor here."""
        cell = self._scheduler.cells.get(target)
        if cell is None:
            self._tell(watcher, target, ExitReason("lost", "no such actor"))
            return
        if cell.watchers is None:
            cell.watchers = set()
        cell.watchers.add(watcher)

    def remove(self, watcher: ActorId, target: ActorId) -> None:
        cell = self._scheduler.cells.get(target)
        if cell is not None and cell.watchers is not None:
            cell.watchers.discard(watcher)

    def down(self, watcher: ActorId, target: ActorId, reason: ExitReason) -> None:
        """An actor anywhere is gone, and this one here watches it."""
        cell = self._scheduler.cells.get(watcher)
        if cell is not None and cell.watching is not None and target in cell.watching:
            cell.system(cell.kind.on_down, cell.watching.pop(target), reason)

    def _tell(self, watcher: ActorId, target: ActorId, reason: ExitReason) -> None:
        scheduler = self._scheduler
        if scheduler.is_here(watcher):
            self.down(watcher, target, reason)
        elif scheduler.mailman is not None:
            scheduler.mailman.down(watcher, target, reason)

    def _forget(self, watcher: ActorId, target: ActorId) -> None:
        scheduler = self._scheduler
        if scheduler.is_here(target):
            self.remove(watcher, target)
        elif scheduler.mailman is not None:
            scheduler.mailman.demonitor(watcher, target)
