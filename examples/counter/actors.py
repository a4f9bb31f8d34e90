"""The counter, and the visitors that count with it, one in each scheduler process."""

from __future__ import annotations

import os
import sys

from zerver_runtime import Actor, ActorError, behaviour, id_of, place, whereis

__all__ = ["Counter", "Visitor"]


class Counter(Actor):
    def __init__(self, start: int) -> None:
        self.total = start

    @behaviour
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total


class Visitor(Actor):
    """Counts a visit twice in a second, wherever the counter is."""

    def started(self) -> None:
        say(f"scheduler {place(id_of(self.ref)).scheduler} is process {os.getpid()}")
        self.every(0.5, self.visit)

    @behaviour
    async def visit(self) -> None:
        here = place(id_of(self.ref)).scheduler
        counter = whereis("counter", Counter)  # each time anew: after a restart it is another actor
        if counter is None:
            say(f"scheduler {here}: there is no counter just now")
            return
        try:
            total = await counter.add(1)
        except ActorError as error:
            say(f"scheduler {here}: {error}")
        else:
            say(f"scheduler {here}: visit {total}, by the counter in {place(id_of(counter)).scheduler}")


def say(text: str) -> None:
    """In one write: the processes share the terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
