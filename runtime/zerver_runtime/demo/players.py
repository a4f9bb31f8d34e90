"""The actors that play: who asks and who answers, who tells and who is told, and a counter that everybody finds."""

from __future__ import annotations

from zerver_runtime.actor import Actor, behaviour, whereis
from zerver_runtime.message import ActorError, MailboxFull

__all__ = ["CRASH", "FAN_OUT", "OVER", "PING_PONG", "Counter", "Fan", "Ping", "Pong", "Tally", "Worker"]

PING_PONG, FAN_OUT, CRASH, OVER = "ping-pong", "fan-out", "crash", "over"

_RALLY = 50  # asks until other messages get their turn
_BURST = 25  # messages to each worker, one after the other
_PAYLOAD = b"x" * 64


class Tally:
    """What the actors of one scheduler count, and which scene they play. They share it: one stage, one thread."""

    def __init__(self) -> None:
        self.scene = ""
        self.trips = self.taken = self.refused = 0


class Pong(Actor):
    @behaviour
    def pong(self, number: int) -> int:
        return number


class Ping(Actor):
    """Asks a pong, and again when it has the answer."""

    def __init__(self, tally: Tally, partner: str) -> None:
        self.tally, self.partner = tally, partner

    @behaviour
    async def rally(self) -> None:
        tally = self.tally
        pong = whereis(self.partner, Pong)
        try:
            if pong is None:
                await self.sleep(0.02)
            else:
                for number in range(_RALLY):
                    await pong.pong(number)
                    tally.trips += 1
        except ActorError:
            await self.sleep(0.02)
        if tally.scene == PING_PONG:
            self.rally()


class Worker(Actor):
    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    @behaviour
    def take(self, payload: bytes) -> None:
        self.tally.taken += 1

    @behaviour
    def crash(self) -> None:
        raise RuntimeError("the demo wants it")


class Fan(Actor):
    """Tells all workers, as fast as they can take it: while a mailbox or a link is filling, this one is muted."""

    def __init__(self, tally: Tally, workers: list[str]) -> None:
        self.tally, self.workers = tally, workers

    @behaviour
    def burst(self) -> None:
        tally = self.tally
        for name in self.workers:
            worker = whereis(name, Worker)
            if worker is None:
                continue
            try:
                for _ in range(_BURST):
                    worker.take(_PAYLOAD)
            except MailboxFull:
                tally.refused += 1
        if tally.scene in (FAN_OUT, CRASH):
            self.burst()


class Counter(Actor):
    """Top-level: the Node keeps one of it alive, in whichever scheduler there is."""

    def __init__(self) -> None:
        self.total = 0

    @behaviour
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total
