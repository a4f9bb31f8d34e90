"""What has to hold, whatever happens, and how it is told when it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from zerver_runtime.cell import Cell

if TYPE_CHECKING:
    from zerver_runtime.testing.simulated_process import SimulatedProcess

__all__ = ["Check", "InvariantViolated", "at_any_time", "at_rest", "seeds"]

Check: TypeAlias = Callable[[], str | None]
"""Says what is wrong; None: nothing."""


class InvariantViolated(AssertionError):
    """`invariant` is its name, `detail` what was found, `seed` replays it, `trace` are the last events."""

    def __init__(self, invariant: str, detail: str, seed: int, trace: Sequence[str]) -> None:
        super().__init__(invariant, detail, seed, trace)
        self.invariant, self.detail, self.seed, self.trace = invariant, detail, seed, trace

    def __str__(self) -> str:
        return f"the invariant {self.invariant!r} does not hold: {self.detail}\n{replay(self.seed, self.trace)}"


def replay(seed: int, trace: Iterable[str]) -> str:
    """The last events, and how to see them again."""
    lines = "\n".join(f"  {line}" for line in trace)
    return f"The last events:\n{lines}\nReplay: SIMULATION_SEED={seed} pytest <this test>"


def seeds(count: int) -> Iterable[int]:
    """0 .. count - 1, for a test to loop over. The environment decides otherwise: `SIMULATION_SEED=17` is that one
    alone, `SIMULATION_SEEDS=100000` is so many.

    ValueError: what is in the environment is not a whole number.
    """
    one = os.environ.get("SIMULATION_SEED")
    if one is not None:
        return (int(one),)
    return range(int(os.environ.get("SIMULATION_SEEDS", count)))


def at_any_time(process: SimulatedProcess) -> Iterator[tuple[str, str]]:
    """Between two turns of a scheduler: (invariant, what is wrong)."""
    scheduler = process.scheduler
    if scheduler.running is not None:
        yield "one at a time", f"{scheduler.running} still runs after the turn of {process}"
    for cell in scheduler.cells.values():
        if cell.count > cell.policy.bound:
            waiting = cell.count - _own(cell)
            if waiting > cell.policy.bound:
                yield "mailboxes are bounded", f"{cell} holds {waiting} messages of {cell.policy.bound}"


def at_rest(process: SimulatedProcess) -> Iterator[tuple[str, str]]:
    """When nothing is left to be done anywhere: (invariant, what is wrong)."""
    for cell in process.scheduler.cells.values():
        if cell.mutes:
            yield "no actor stays muted", f"{cell!r} is held {cell.mutes} times"
        elif cell.suspended is not None:
            yield "no actor waits for ever", f"{cell!r} awaits {cell.suspended.awaits!r} in {cell.suspended.behaviour}"
        elif cell.count:
            yield "no message is forgotten", f"{cell!r} is not run"
    for peer in process.mailman.peers:
        if peer.busy:
            pending = len(peer.pending)
            yield "nothing stays under way", f"{process}: {peer!r}, {pending} asks pending, {len(peer.parked)} parked"


def _own(cell: Cell) -> int:
    """Messages of the runtime's own, which are taken past the bound."""
    kind = cell.kind
    own = {kind._started, kind.on_down, getattr(kind, "child_exited", None)}
    waiting = (cell.ring[(cell.head + index) & cell.mask] for index in range(cell.count))
    return sum(message[0] in own for message in waiting)
