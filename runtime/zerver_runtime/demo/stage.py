"""One in each scheduler: sets its players to work, and reports to the conductor."""

from __future__ import annotations

import os

from zerver_runtime.actor import Actor, behaviour, spawn, spawn_as, whereis
from zerver_runtime.demo.conductor import Conductor, Report
from zerver_runtime.demo.players import CRASH, FAN_OUT, OVER, PING_PONG, Fan, Ping, Pong, Tally, Worker
from zerver_runtime.message import ActorError, ExitReason
from zerver_runtime.scheduler import current
from zerver_runtime.supervisor import Supervisor, child

__all__ = ["Stage"]

_REPORT = 0.2  # seconds between two
_EACH = 4  # pings and workers of one scheduler


class Stage(Actor):
    """slot, life, kind: of its scheduler. performance: how many schedulers play; the others only report."""

    priority = 10

    def __init__(self, slot: int, life: int, kind: str, performance: int) -> None:
        self.slot, self.life, self.kind = slot, life, kind
        self.tally = tally = Tally()
        self.pings: list[Ping] = []
        self.fans: list[Fan] = []
        if kind == "performance":
            spawn(Supervisor, [child(f"worker-{number}.{slot}", Worker, tally) for number in range(_EACH)])
            spawn_as(f"pong.{slot}", Pong)
            self.pings = [spawn(Ping, tally, f"pong.{(slot + 1) % performance}") for _ in range(_EACH)]
            everybody = [f"worker-{number}.{other}" for other in range(performance) for number in range(_EACH)]
            self.fans = [spawn(Fan, tally, everybody)]

    def started(self) -> None:
        self.every(_REPORT, self.report)

    @behaviour
    async def report(self) -> None:
        conductor = whereis("conductor", Conductor)
        if conductor is None:
            return
        tally, found = self.tally, current().statistics()
        report = Report(
            self.slot, self.life, os.getpid(), self.kind, found.handled,
            tally.trips, tally.taken, tally.refused, found.dead_letters,
        )  # fmt: skip
        try:
            scene = await conductor.hear(self.ref, report).with_timeout(1)
        except ActorError:
            return  # the next report will do
        if scene == tally.scene:
            return
        before, tally.scene = tally.scene, scene
        if scene == PING_PONG:
            for ping in self.pings:
                ping.rally()
        elif scene in (FAN_OUT, CRASH) and before not in (FAN_OUT, CRASH):
            for fan in self.fans:
                fan.burst()

    def stopped(self, reason: ExitReason) -> None:
        self.tally.scene = OVER
