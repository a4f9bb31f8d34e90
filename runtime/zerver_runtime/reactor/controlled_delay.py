"""How long may work that has not begun wait, before turning it away is better than doing it late? Pure.

A queue that is now and then long is a buffer at work. One that is never empty is a standing queue: everything in it
only arrives late. So what waits may wait `INTERVAL` as long as the queue was empty within the last `INTERVAL`, and
`TARGET` otherwise. The rule, and its numbers, are those of Maurer, "Fail at Scale" (ACM Queue 13-8, 2015), made after
Nichols and Jacobson's CoDel (RFC 8289).

That its head has not waited for long does not count as empty: after some of it was turned away it never has, and then
the queue would grow for another `INTERVAL`, over and over.
"""

from __future__ import annotations

__all__ = ["INTERVAL", "TARGET", "ControlledDelay"]

INTERVAL = 100_000_000
TARGET = 5_000_000
"""Nanoseconds."""


class ControlledDelay:
    """Of one queue. All times are nanoseconds of one monotonic clock."""

    __slots__ = ("empty_at",)

    def __init__(self, now: int) -> None:
        self.empty_at = now
        """When the queue was last empty. Its owner writes it, when it adds to an empty queue and when it empties it."""

    def late(self, waited: int, now: int) -> bool:
        """Whether what waits at the queue's head, and has waited so long, had better be turned away."""
        return waited >= (TARGET if now - self.empty_at >= INTERVAL else INTERVAL)

    def __repr__(self) -> str:
        return f"<ControlledDelay: the queue was empty at {self.empty_at / 1e9:.3f} s>"
