"""How much goes wrong in a simulation."""

from __future__ import annotations

import msgspec

__all__ = ["NO_FAULTS", "Faults"]


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """The chances, from 0 to 1, that a step of the simulation is one of these faults:

    kill: a scheduler's process dies, maybe in the middle of what it writes, and is started again by the Node.
    delay: a link between two schedulers carries nothing for a while.
    pause: a scheduler gets no turn for a while.
    stall: an actor gets no turn for a while, so that its mailbox fills.

    longest: seconds that a delay, pause or stall takes at most.
    """

    kill: float = 0.01
    delay: float = 0.01
    pause: float = 0.01
    stall: float = 0.01
    longest: float = 0.5

    def __post_init__(self) -> None:
        for name in ("kill", "delay", "pause", "stall"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Faults({name}={getattr(self, name)}): give a chance from 0 to 1")
        if not self.longest > 0:
            raise ValueError(f"Faults(longest={self.longest}): give the seconds that a fault may last, above 0")


NO_FAULTS = Faults(kill=0, delay=0, pause=0, stall=0)
