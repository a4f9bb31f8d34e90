"""How much work may wait to begin, and for how long, before turning it away is better than doing it late? Pure.

A queue that is now and then long is a buffer at work. One that is never empty is a standing queue: everything in it
only arrives late. So what waits may wait `INTERVAL` as long as the queue was empty within the last `INTERVAL`, and
`TARGET` otherwise. The rule, and its numbers, are those of Maurer, "Fail at Scale" (ACM Queue 13-8, 2015), made after
Nichols and Jacobson's CoDel (RFC 8289).

That its head has not waited for long does not count as empty, and neither does a queue that is empty right after
something was turned away: both come of turning away, and the queue would grow for another `INTERVAL`, over and over.

A standing queue takes as many as are begun in half a `TARGET`. More would be turned away in the end, which costs twice
as much as to do it at once.
"""

from __future__ import annotations

__all__ = ["INTERVAL", "TARGET", "ControlledDelay"]

INTERVAL = 100_000_000
TARGET = 5_000_000
"""Nanoseconds."""

# In which what is begun is counted: in one of TARGET there may be one long task and nothing else. And an overload turns
# something away in each, where one that is over does so now and then.
_WINDOW = 4 * TARGET
_LEAST = 4  # may wait in any case: where each takes long, the count says little


class ControlledDelay:
    """Of one queue. All times are nanoseconds of one monotonic clock."""

    __slots__ = ("_empty_at", "_room", "_since", "_turned_away_at", "begun")

    def __init__(self, now: int) -> None:
        self._empty_at = now
        self._turned_away_at = now - INTERVAL
        self._since = now
        self.begun = 0
        """Since then; what did not have to wait is for the queue's owner to count."""
        self._room = _LEAST

    def empty(self, now: int) -> None:
        """The queue is empty, or was until now."""
        if now - self._turned_away_at >= _WINDOW:
            self._empty_at = now

    def admits(self, waiting: int, now: int) -> bool:
        """Whether one more may wait, behind so many."""
        if waiting < self._room or now - self._empty_at < INTERVAL:
            return True
        self._turned_away_at = now
        return False

    def late(self, waited: int, now: int) -> bool:
        """Whether what waits at the queue's head, and has waited so long, had better be turned away. It is begun if
        not."""
        if now - self._since >= _WINDOW:
            self._room = max(_LEAST, self.begun * TARGET // (2 * (now - self._since)))
            self._since, self.begun = now, 0
        if waited >= (TARGET if now - self._empty_at >= INTERVAL else INTERVAL):
            self._turned_away_at = now
            return True
        self.begun += 1
        return False

    def __repr__(self) -> str:
        return f"<ControlledDelay: the queue was empty at {self._empty_at / 1e9:.3f} s>"
