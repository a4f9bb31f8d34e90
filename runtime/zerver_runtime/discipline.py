"""Who is next? Three answers behind one `select`. Pure: the time is an argument, in nanoseconds of any one clock.

RoundRobin          whoever has waited longest
PriorityWithAgeing  the highest priority, where waiting raises it: nobody starves
TimerTree           whatever is due, the earliest first; nothing before its time
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

__all__ = ["Discipline", "PriorityWithAgeing", "RoundRobin", "TimerEntry", "TimerTree"]

T = TypeVar("T")

TimerEntry: TypeAlias = list[Any]
"""[due, number, item]: one timer that is set. A list, because lists compare in C."""


class Discipline(Protocol[T]):
    """What a run queue takes. Each item is given out once for each time that it was added."""

    def add(self, item: T, order: int, now: int, /) -> object:
        """order: a priority (higher is sooner), or for timers the time at which the item is due."""
        ...

    def select(self, now: int, /) -> T | None:
        """Take the next item out; None when there is none for now."""
        ...

    def __len__(self) -> int: ...


class RoundRobin(Generic[T]):
    """First come, first served. Priorities are ignored."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: deque[T] = deque()

    def add(self, item: T, order: int, now: int, /) -> None:
        self._items.append(item)

    def select(self, now: int, /) -> T | None:
        return self._items.popleft() if self._items else None

    def __len__(self) -> int:
        return len(self._items)


class PriorityWithAgeing(Generic[T]):
    """The highest priority first; each `step` of waiting counts for one more.

    At any time t an item of priority p, added at a, has p + (t - a) / step. For two items the difference does not
    depend on t, so nothing has to be aged as time passes: the item with the least `a - p * step` is next, for ever.
    Items of one priority come in the order in which they were added; so one queue for each priority, of which only the
    heads are compared, takes the place of a heap.

    step: nanoseconds (default 10 ms).
    """

    __slots__ = ("_levels", "_size", "_step")

    def __init__(self, step: int = 10_000_000) -> None:
        self._step = step
        self._levels: dict[int, deque[tuple[int, T]]] = {}
        self._size = 0

    def add(self, item: T, order: int, now: int, /) -> None:
        level = self._levels.get(order)
        if level is None:
            level = self._levels[order] = deque()
        level.append((now - order * self._step, item))
        self._size += 1

    def select(self, now: int, /) -> T | None:
        if not self._size:
            return None
        self._size -= 1
        levels = self._levels
        if len(levels) == 1:  # as nearly always
            (level,) = levels.values()
            return level.popleft()[1]
        best = min((level[0][0], -priority) for priority, level in levels.items() if level)
        level = levels[-best[1]]
        item = level.popleft()[1]
        if not level:
            del levels[-best[1]]
        return item

    def peek(self) -> tuple[int, T] | None:
        """What `select` would take, with its urgency: of several queues on one clock and with one step, the one with
        the least is next."""
        if not self._size:
            return None
        urgency, priority = min((level[0][0], -priority) for priority, level in self._levels.items() if level)
        return urgency, self._levels[-priority][0][1]

    def __len__(self) -> int:
        return self._size


class TimerTree(Generic[T]):
    """A heap. Cancelled entries stay in it until they come due or are the most, so that cancelling costs nothing:
    nearly every time-out of an ask is cancelled.
    """

    __slots__ = ("_cancelled", "_heap", "_made")

    def __init__(self) -> None:
        self._heap: list[TimerEntry] = []
        self._made = 0
        self._cancelled = 0

    def add(self, item: T, order: int, now: int, /) -> TimerEntry:
        """Due at `order`. What it returns is for `cancel`."""
        self._made += 1
        entry = [order, self._made, item]
        heapq.heappush(self._heap, entry)
        return entry

    def cancel(self, entry: TimerEntry, /) -> None:
        """Twice, or after it was selected, does nothing."""
        if entry[2] is None:
            return
        entry[2] = None
        self._cancelled += 1
        # Each sweep is paid for by the cancellations since the last one.
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def select(self, now: int, /) -> T | None:
        due = self.next_due()
        if due is None or due > now:
            return None
        entry = heapq.heappop(self._heap)
        item: T = entry[2]
        entry[2] = None
        return item

    def next_due(self) -> int | None:
        """When the earliest is due; None: none is set."""
        heap = self._heap
        while heap:
            if heap[0][2] is not None:
                due: int = heap[0][0]
                return due
            heapq.heappop(heap)
            self._cancelled -= 1
        return None

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled
