"""How much work may wait to begin, and for how long, before turning it away is better than doing it late? Pure.

A queue that is now and then long is a buffer at work. One that is never empty is a standing queue: what comes from now
on only arrives late. So while a queue was empty within the last `INTERVAL`, any number may wait; a standing one takes
`LEAST`, or as many as are begun in two `TARGET`. And nobody waits for more than `INTERVAL`. That there is such a rule,
and its interval, is from Maurer, "Fail at Scale" (ACM Queue 13-8, 2015), made after Nichols and Jacobson's CoDel
(RFC 8289).

The bound is one of length, where theirs is one of time, for the sake of clients that ask again when they have their
answer: a few dozen of them keep the queue of a busy server standing, and are no overload, as it grows no longer.

That a queue is empty right after something was turned away does not count: it comes of turning away, and the queue
would grow for another `INTERVAL`, over and over.
"""

from __future__ import annotations

__all__ = ["INTERVAL", "LEAST", "TARGET", "ControlledDelay"]

INTERVAL = 100_000_000
TARGET = 5_000_000
"""Nanoseconds."""

# In which what is begun is counted: in one of TARGET there may be one long task and nothing else. And an overload turns
# something away in each, where one that is over does so now and then.
_WINDOW = 4 * TARGET
LEAST = 64
"""So many may wait in any case."""


class ControlledDelay:
    """Of one queue. All times are nanoseconds of one monotonic clock."""

    __slots__ = ("_empty_at", "_room", "_since", "_turned_away_at", "begun")

    def __init__(self, now: int) -> None:
        self._empty_at = now
        self._turned_away_at = now - INTERVAL
        self._since = now
        self.begun = 0
        """Since then; what did not have to wait is for the queue's owner to count."""
        self._room = LEAST

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
            self._room = max(LEAST, 2 * self.begun * TARGET // (now - self._since))
            self._since, self.begun = now, 0
        if waited >= INTERVAL:
            self._turned_away_at = now
            return True
        self.begun += 1
        return False

    def __repr__(self) -> str:
        return f"<ControlledDelay: the queue was empty at {self._empty_at / 1e9:.3f} s>"
