"""How long may work that has not begun wait, before turning it away is better than doing it late? Pure.

A queue that is now and then long is a buffer at work. One that is never short is a standing queue: everything in it
only arrives late. So what waits may wait `INTERVAL` as long as the queue was short within the last `INTERVAL`, and
`TARGET` otherwise. The rule, and its numbers, are those of Maurer, "Fail at Scale" (ACM Queue 13-8, 2015), made after
Nichols and Jacobson's CoDel (RFC 8289).
"""

from __future__ import annotations

__all__ = ["INTERVAL", "TARGET", "ControlledDelay"]

INTERVAL = 100_000_000
TARGET = 5_000_000
"""Nanoseconds."""


class ControlledDelay:
    """Of one queue. All times are nanoseconds of one monotonic clock."""

    __slots__ = ("short_at",)

    def __init__(self, now: int) -> None:
        self.short_at = now
        """When the queue was last short: empty, or its head waited for less than `TARGET`. Its owner writes it where
        it finds the queue empty."""

    def late(self, waited: int, now: int) -> bool:
        """Whether what waits at the queue's head, and has waited so long, had better be turned away."""
        if waited < TARGET:
            self.short_at = now
            return False
        return waited >= (TARGET if now - self.short_at >= INTERVAL else INTERVAL)

    def __repr__(self) -> str:
        return f"<ControlledDelay: the queue was short at {self.short_at / 1e9:.3f} s>"
