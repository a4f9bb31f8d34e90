"""An actor that is moved back and forth between schedulers, and what each process hears of it."""

from __future__ import annotations

from typing import Any

from zerver_runtime.actor import Actor, behaviour
from zerver_runtime.mailbox import MailboxPolicy
from zerver_runtime.message import ActorDead, MailboxFull
from zerver_runtime.testing.faults import Faults
from zerver_runtime.testing.simulation import SimulatedProcess, Simulation

__all__ = ["Journal", "move_about"]


class Journal(Actor):
    """On a performance scheduler while the efficiency one is dead."""

    affinity = "efficiency"
    mailbox = MailboxPolicy(bound=64)

    def __init__(self) -> None:
        self.last: dict[str, int] = {}

    def snapshot(self) -> dict[str, int]:
        return self.last

    def restore(self, snapshot: dict[str, int]) -> None:
        self.last = snapshot

    @behaviour
    def add(self, sender: str, number: int) -> int:
        if number <= self.last.get(sender, 0):
            raise RuntimeError(f"{sender} sent {number} after {self.last[sender]}")
        self.last[sender] = number
        return number


def write(simulation: Simulation, asked: list[tuple[int, SimulatedProcess, list[Any]]]) -> None:
    home = simulation.process(2)
    if home is not None and simulation.rng.random() < 0.02:
        simulation.kill(home)
    process = simulation.process(simulation.rng.randrange(3))
    if process is None:
        return
    for _ in range(simulation.rng.randrange(1, 5)):
        journal = process.scheduler.whereis("journal")
        if journal is None:
            return
        number = simulation.steps * 10 + len(asked) + 1
        answers: list[Any] = []
        try:
            reply = journal.add(repr(process.place), number)
        except MailboxFull:
            return
        asked.append((number, process, answers))
        reply.on_done(answers.append)


def move_about(seed: int, reloads: float = 0.0) -> int:
    """By its name, each process sends to it in order, whatever dies and wherever it is; no ask waits for ever.

    How often it moved away.
    """
    actors = {"journal": (f"{__name__}:Journal", (), "efficiency")}
    departed = 0
    simulation = Simulation(seed, schedulers=2, efficiency=1, actors=actors, faults=Faults(kill=0.004, stall=0.02))
    asked: list[tuple[int, SimulatedProcess, list[Any]]] = []
    simulation.settle()

    def work(simulation: Simulation) -> None:
        if reloads and simulation.rng.random() < reloads:
            simulation.signal("HUP")
        write(simulation, asked)

    simulation.run(400, work)
    simulation.settle()
    simulation.run(20, lambda simulation: None)
    assert simulation.settle()
    living = list(simulation.processes.values())
    for number, process, answers in asked:
        if process in living:
            (reply,) = answers
            assert reply.error is not None or reply.value == number, seed
            assert reply.error is None or isinstance(reply.error, ActorDead | MailboxFull), (seed, reply)
    for process in (*living, *simulation.buried):
        assert not process.scheduler.failures, (seed, process.scheduler.failures)
        departed += process.scheduler.departed
    assert {repr(process.scheduler.whereis("journal")) for process in living} == {
        repr(cell.ref) for process in living for cell in process.scheduler.cells.values() if cell.kind is Journal
    }, seed
    return departed
