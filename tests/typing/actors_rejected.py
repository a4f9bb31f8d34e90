"""What both type checkers refuse of actors: an error on each line that is marked, and on no other."""

from __future__ import annotations

from zerver_runtime.actor import Actor, spawn, spawn_as, whereis
from zerver_runtime.behaviour import behaviour


class Counter(Actor):
    def __init__(self, start: int) -> None:
        self.total = start

    @behaviour
    def add(self, amount: int) -> int:
        return amount

    @behaviour
    async def add_from(self, other: Counter) -> int:
        total: str = await other.add(1)  # refused
        return len(total)

    @behaviour
    def tick(self) -> None:
        self.add("one")  # refused
        self.send_after(1.0, self.add)  # refused
        self.send_after(1.0, self.add, "one")  # refused
        self.every(1.0, self.tick, 1)  # refused


class Other(Actor):
    @behaviour
    def ping(self) -> None: ...


def spawning() -> None:
    spawn(Counter)  # refused
    spawn(Counter, "three")  # refused
    spawn(Counter, 3, 4)  # refused
    spawn(Counter, begin=3)  # refused
    spawn_as("hits", Counter, "three")  # refused
    spawn(dict)  # refused
    other: Other = spawn(Counter, 3)  # refused
    other.ping()


def sending(counter: Counter, other: Other) -> None:
    counter.add()  # refused
    counter.add("one")  # refused
    counter.add(1, 2)  # refused
    counter.add(number=1)  # refused
    counter.subtract(1)  # refused
    counter.add_from(other)  # refused
    text: str = counter.add(1).result()  # refused
    del text
    found: Other | None = whereis("hits", Counter)  # refused
    del found
