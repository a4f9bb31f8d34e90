"""What the Node knows of each process that it forked, and of each slot that such a process fills. Pure.

A slot is a place in the Node: number, class, and how its processes have fared. An incarnation is one process in it,
counted from 1. During a reload a slot has two processes: the old one, and the new one that is to take over.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, TypeAlias

__all__ = ["Backoff", "Class", "Key", "SchedulerView", "SlotView", "State"]

Class: TypeAlias = Literal["performance", "efficiency", "compute"]
State: TypeAlias = Literal["starting", "ready", "leaving", "draining", "halting"]
"""leaving: replaced by a reload, and about to drain once its top-level actors have a new home."""
Key: TypeAlias = tuple[int, int]
"""(slot, incarnation): one process, never used again for another."""


class Backoff:
    """How long to wait before a restart, and when to give up.

    first: seconds before the first restart; each next one waits twice as long, up to `cap` seconds; counted anew
        after `window` seconds without a restart.
    intensity: restarts allowed within `window` seconds.
    """

    __slots__ = ("_cap", "_first", "_intensity", "_row", "_times", "_window")

    def __init__(self, first: float = 0.05, cap: float = 5.0, intensity: int = 5, window: float = 10.0) -> None:
        self._first = first
        self._cap = cap
        self._intensity = intensity
        self._window = window
        self._times: deque[float] = deque()
        self._row = 0  # restarts since the last quiet window

    def restart(self, now: float) -> float | None:
        """Seconds to wait before the restart that is due now; None: there were too many, give up."""
        times = self._times
        while times and now - times[0] >= self._window:
            times.popleft()
        if not times:
            self._row = 0
        if len(times) >= self._intensity:
            return None
        times.append(now)
        delay = min(self._cap, self._first * (1 << min(self._row, 30)))
        self._row += 1
        return delay


class SchedulerView:
    """One process, as the Node sees it. Only `NodeState` writes it."""

    __slots__ = ("beat", "dead_letters", "dumped", "handled", "incarnation", "kind", "load", "pid", "placed", "since",
                 "slot", "state", "unwanted")  # fmt: skip

    def __init__(self, slot: int, incarnation: int, kind: Class, pid: int, now: float) -> None:
        # Fixed.
        self.slot = slot
        self.incarnation = incarnation
        self.kind: Class = kind
        self.pid = pid
        # Where it stands, and since when (seconds).
        self.state: State = "starting"
        self.since = now
        # What its last heartbeat said, and when that was.
        self.beat = now
        self.load = 0
        self.handled = 0
        self.dead_letters = 0
        self.placed = 0  # actors sent there since that heartbeat, which its load does not show yet
        self.dumped = False  # its stack has been asked for, since that heartbeat
        self.unwanted = False  # a compute worker that a scheduler wants replaced, because of its task

    @property
    def key(self) -> Key:
        return (self.slot, self.incarnation)

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    @property
    def linked(self) -> bool:
        """Whether it talks with its siblings: compute workers hold no actors."""
        return self.kind != "compute"

    @property
    def title(self) -> str:
        """As the log names it."""
        return f"{self.kind} scheduler {self.slot}.{self.incarnation} (pid {self.pid})"

    def __repr__(self) -> str:
        return (
            f"<SchedulerView {self.slot}.{self.incarnation} {self.kind} pid {self.pid}: {self.state}, load {self.load}>"
        )


class SlotView:
    """One place for a process. Only `NodeState` writes it."""

    __slots__ = ("backoff", "boot_failure", "boot_failures", "due", "given_up", "incarnation", "kind", "number",
                 "restarts")  # fmt: skip

    def __init__(self, number: int, kind: Class, backoff: Backoff) -> None:
        self.number = number
        self.kind: Class = kind
        self.backoff = backoff
        self.incarnation = 0  # the last one that was forked
        self.restarts = 0
        self.due: float | None = None  # when the next process is to be forked
        self.boot_failure = ""  # why the last boot failed, and how often it did so in a row
        self.boot_failures = 0
        self.given_up = ""  # why nothing is forked here any more

    def __repr__(self) -> str:
        state = f"given up: {self.given_up}" if self.given_up else f"{self.restarts} restarts"
        return f"<SlotView {self.number} {self.kind}: incarnation {self.incarnation}, {state}>"
