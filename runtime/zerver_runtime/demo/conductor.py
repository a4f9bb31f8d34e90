"""The one actor that knows all of the demo: says which scene is on, kills a process in the last one, and draws."""

from __future__ import annotations

import os
import signal
import sys
import time

import msgspec

from zerver_runtime.actor import Actor, behaviour, whereis
from zerver_runtime.demo.output import write
from zerver_runtime.demo.players import CRASH, FAN_OUT, OVER, PING_PONG, Counter, Worker
from zerver_runtime.demo.screen import Picture, Row, frame, plain, redraw
from zerver_runtime.ids import place
from zerver_runtime.message import ActorError, ExitReason
from zerver_runtime.ref import id_of

__all__ = ["Conductor", "Report"]

_DRAW, _LINE, _LOOK = 0.2, 1.0, 0.005  # seconds between two frames; between two plain lines; between two looks
_WARM = 0.2  # seconds before the first rate of a scene is worth anything


class Report(msgspec.Struct, frozen=True):
    """How one scheduler does. Counters are since it began."""

    slot: int
    life: int
    pid: int
    kind: str
    handled: int
    trips: int
    taken: int
    refused: int
    dead_letters: int


class _Seat:
    """What is known of one scheduler."""

    def __init__(self, stage: Actor, report: Report, now: float) -> None:
        self.stage = stage
        self.report = report
        self.at = now
        self.row = Row(report.slot, report.kind, report.life, report.pid)

    def update(self, report: Report, now: float) -> None:
        self.row.rate = (report.handled - self.report.handled) / max(1e-9, now - self.at)
        self.report, self.at = report, now


class Conductor(Actor):
    """began: on the clock that all processes share (seconds). columns: of the terminal; 0: write plain lines."""

    priority = 10  # what is shown does not wait for what is measured

    def __init__(self, began: float, seconds: float, columns: int) -> None:
        self.began, self.seconds, self.columns = began, seconds, columns
        self.seats: dict[int, _Seat] = {}
        self.drawn = 0  # lines of the last frame
        # The scene whose rate is measured: since when, and from which count on. The rates by scene.
        self.measured, self.since, self.start = "", began, 0
        self.rates: dict[str, str] = {}
        # The crashes.
        self.story: list[str] = []
        self.worker: Actor | None = None  # the one that was to crash
        self.killed: tuple[float, int, int] | None = None  # when; which slot; id of the counter that lived there

    def started(self) -> None:
        self.every(_DRAW if self.columns else _LINE, self.draw)

    @property
    def scene(self) -> str:
        third = int(3 * (time.monotonic() - self.began) / self.seconds)
        return (PING_PONG, FAN_OUT, CRASH)[third] if third < 3 else OVER

    # --- What the stages say

    @behaviour
    def hear(self, stage: Actor, report: Report) -> str:
        """A scheduler is there, or still there. Returns the scene to play."""
        now = time.monotonic()
        seat = self.seats.get(report.slot)
        if seat is None or seat.stage != stage:
            if seat is not None and self.killed is not None:
                self.tell(f"scheduler {report.slot} is back as process {report.pid}, {self.since_kill(now)}")
            self.seats[report.slot] = _Seat(stage, report, now)
            self.monitor(stage)
        else:
            seat.update(report, now)
        scene = self.scene
        self.measure(scene, now)
        if scene == CRASH:
            self.crash()
        return scene

    @behaviour
    def on_down(self, ref: Actor, reason: ExitReason) -> None:
        for seat in self.seats.values():
            if seat.stage == ref:
                seat.row.state = "dead" if reason.abnormal else "stopped"

    def measure(self, scene: str, now: float) -> None:
        reports = [seat.report for seat in self.seats.values()]
        done = sum(report.trips if scene == PING_PONG else report.taken for report in reports)
        if scene != self.measured:
            self.measured, self.since, self.start = scene, now, done
        if now - self.since < _WARM:
            return
        rate = (done - self.start) / (now - self.since)
        many = sum(report.kind == "performance" for report in reports)
        if scene == PING_PONG:
            self.rates[scene] = f"{rate:,.0f} round trips/s between {many} processes"
        elif scene == FAN_OUT:
            self.rates[scene] = f"{rate:,.0f} messages/s, from each of {many} processes to all of them"

    # --- The last scene

    def crash(self) -> None:
        """First an actor, which its supervisor starts again; then a process, which the Node does."""
        worker = whereis("worker-0.0", Worker)
        if self.worker is None and worker is not None:
            self.worker = worker
            worker.crash()
        elif worker is not None and worker != self.worker and not self.story:
            self.tell(f"{self.worker!r} crashed; its supervisor made {worker!r}")
        counter = whereis("counter", Counter)
        late = time.monotonic() - self.began > 0.75 * self.seconds
        if late and self.story and self.killed is None and counter is not None:
            slot = place(id_of(counter)).scheduler
            seat = self.seats.get(slot)
            if seat is not None and seat.row.state == "up" and seat.report.kind == "performance":
                self.killed = (time.monotonic(), slot, id_of(counter))
                os.kill(seat.report.pid, signal.SIGKILL)
                self.tell(f"kill -9 of process {seat.report.pid}: scheduler {slot}, with the shared counter")
                self.look()

    @behaviour
    async def look(self) -> None:
        """Is the counter back?"""
        counter = whereis("counter", Counter)
        if counter is not None and self.killed is not None and id_of(counter) != self.killed[2]:
            try:
                await counter.add(1).with_timeout(1)
            except ActorError:
                pass
            else:
                there = place(id_of(counter)).scheduler
                self.tell(f"the counter answers, in scheduler {there}, {self.since_kill(time.monotonic())}")
                return
        self.send_after(_LOOK, self.look)

    def since_kill(self, now: float) -> str:
        assert self.killed is not None
        return f"{1000 * (now - self.killed[0]):.0f} ms after the kill"

    def tell(self, text: str) -> None:
        self.story.append(text)
        if not self.columns:
            write(f"        {text}\n")

    # --- The picture

    @behaviour
    def draw(self) -> None:
        if self.columns:
            self.show()
        elif self.seats:
            write(plain(self.picture()) + "\n")

    @behaviour
    def finish(self) -> None:
        """What came of it."""
        if self.columns:
            self.show()
        else:
            write("".join(f"{about}: {text}\n" for about, text in self.picture().notes if about and about != CRASH))

    def show(self) -> None:
        bar = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
        lines = frame(self.picture(), self.columns, bar)
        write(redraw(lines, self.drawn))
        self.drawn = len(lines)

    def picture(self) -> Picture:
        notes = list(self.rates.items())
        notes += [("" if number else CRASH, text) for number, text in enumerate(self.story)]
        reports = [seat.report for seat in self.seats.values()]
        letters, refused = sum(one.dead_letters for one in reports), sum(one.refused for one in reports)
        if self.killed is not None:
            notes.append(("accounts", f"{letters:,} dead letters; {refused:,} bursts cut short, their sender told"))
        rows = [seat.row for _, seat in sorted(self.seats.items())]
        return Picture(time.monotonic() - self.began, self.seconds, self.scene, rows, notes)
