"""Programs that start a Node; run as `python node_programs.py NAME ARGUMENT...`, each in a process of its own.

What is to be asserted comes out as lines of JSON. Counters live in memory that all processes share, so that they
outlive a kill -9.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import socket
import sys
import time
import zlib
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

from zerver_runtime.actor import Actor, behaviour, whereis
from zerver_runtime.ids import place, unpack
from zerver_runtime.listener import open_tcp
from zerver_runtime.message import ActorDead, ActorError, MailboxFull, ReplyTimeout
from zerver_runtime.node_config import NodeConfig
from zerver_runtime.node_words import NodeLimits
from zerver_runtime.process import run_node
from zerver_runtime.ref import id_of
from zerver_runtime.scheduler_process import SchedulerContext

QUICK = NodeLimits(restart_first=0.001, restart_cap=0.01, intensity=10_000, heartbeat=0.2)


def say(**fields: Any) -> None:
    os.write(1, (json.dumps(fields) + "\n").encode())


def log(text: str) -> None:
    say(log=text)


def descriptors(pid: int | str) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Shared:
    """Counters in memory shared with all processes forked later."""

    def __init__(self, size: int) -> None:
        # Each is written in one go. `struct.pack_into` fills with zeros first, and a kill may come in between.
        self._numbers = memoryview(mmap.mmap(-1, size * 8)).cast("q")

    def __getitem__(self, at: int) -> int:
        return self._numbers[at]

    def __setitem__(self, at: int, value: int) -> None:
        self._numbers[at] = value


HANDLED, BROKEN, DISORDER, PID, INCARNATION, LINKED = 0, 100, 200, 300, 400, 500
shared = Shared(1000)


def run(config: NodeConfig, boot: Callable[[SchedulerContext], Any], log: Callable[[str], None] = log) -> None:
    code = run_node(config, boot, log)
    say(exit=code)


def until(context: SchedulerContext, condition: Callable[[], Any], then: Callable[[], None]) -> None:
    """On the loop, call `then` once the condition holds."""
    if condition():
        with context.scheduler:
            then()
    else:
        context.loop.call_later(0.005, until, context, condition, then)


# --- kill -9 under load


class Sink(Actor):
    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.last = 0

    @behaviour
    def take(self, number: int, payload: bytes, check: int) -> int:
        shared[HANDLED + self.slot] += 1
        if zlib.crc32(payload) != check:
            shared[BROKEN + self.slot] += 1
        if number <= self.last:
            shared[DISORDER + self.slot] += 1
        self.last = number
        return number


class Counter(Actor):
    def __init__(self, start: int) -> None:
        self.total = start

    @behaviour
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total


class Storm(Actor):
    """Sends to the sinks without end, and kills their processes."""

    def __init__(self, context: SchedulerContext, kills: int) -> None:
        self.context = context
        self.kills = kills
        self.killed = self.sent = self.errors = self.asked = self.answered = self.told = self.local = self.wrong = 0
        self.mark = {1: 0, 2: 0}
        self.blob = random.Random(7).randbytes(3000)
        self.baseline: tuple[int, int] | None = None
        self.began = time.monotonic()

    @behaviour
    def go(self) -> None:
        scheduler = self.context.scheduler
        for slot in (1, 2):
            sink = scheduler.whereis(f"sink{slot}")
            if sink is None:
                continue
            for _ in range(50):
                self.sent += 1
                payload = self.blob[: self.sent % 3000]
                try:
                    reply = sink.take(self.sent, payload, zlib.crc32(payload))
                except MailboxFull:
                    self.errors += 1
                    continue
                if self.sent % 10 == 0:
                    self.asked += 1
                    number = self.sent
                    reply.notify(lambda reply, number=number: self.answer(reply, number))
        if self.baseline is None and all(shared[LINKED + slot] for slot in range(4)):  # the Node keeps no link's ends
            self.baseline = (descriptors("self"), descriptors(os.getppid()))
        self.kill()
        if self.killed < self.kills:
            self.send_after(0.001, self.go)
        else:
            until(self.context, self.quiet, self.report)

    def kill(self) -> None:
        victim = 1 + self.killed % 2
        sink = self.context.scheduler.whereis(f"sink{victim}")
        if sink is not None and shared[HANDLED + victim] > self.mark[victim] + 200 and self.baseline is not None:
            self.mark[victim] = shared[HANDLED + victim]
            self.killed += 1
            os.kill(shared[PID + victim], signal.SIGKILL)
            # Not again before the new one serves.
            del self.context.scheduler.names_elsewhere[f"sink{victim}"]

    def answer(self, reply: Any, number: int) -> None:
        if reply.error is None:
            self.answered += 1
            self.wrong += reply.value != number
        else:
            self.told += isinstance(reply.error, ActorDead)

    def quiet(self) -> bool:
        scheduler, mailman = self.context.scheduler, self.context.mailman
        return (
            self.asked == self.answered + self.told
            and not any(peer.busy for peer in mailman.peers)
            and len(mailman.peers) == 3
            and all(scheduler.whereis(name) for name in ("sink1", "sink2", "counter"))
            and self.baseline is not None
            and descriptors("self") == self.baseline[0]
        )

    def report(self) -> None:
        children = Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split()
        states = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in children]

        def counted(reply: Any) -> None:
            say(
                killed=self.killed, sent=self.sent, errors=self.errors, asked=self.asked, answered=self.answered,
                told=self.told, wrong=self.wrong, handled=shared[HANDLED + 1] + shared[HANDLED + 2],
                dead=self.context.scheduler.dead_letters.count, undelivered=self.context.mailman.undelivered,
                broken=shared[BROKEN + 1] + shared[BROKEN + 2], disorder=shared[DISORDER + 1] + shared[DISORDER + 2],
                children=len(children), zombies=states.count("Z"), counter=reply.error is None,
                incarnations=[shared[INCARNATION + slot] for slot in range(4)],
                descriptors=[self.baseline, (descriptors("self"), descriptors(os.getppid()))],
                seconds=time.monotonic() - self.began,
            )  # fmt: skip
            os.kill(os.getppid(), signal.SIGTERM)

        self.context.scheduler.whereis("counter").add(1).on_done(counted)


def storm(kills: int) -> None:
    def boot(context: SchedulerContext) -> None:
        slot = context.place.scheduler
        shared[PID + slot] = os.getpid()
        shared[INCARNATION + slot] = context.place.incarnation
        until(
            context,
            lambda: sum(peer.link is not None for peer in context.mailman.peers) == 3,
            lambda: shared.__setitem__(LINKED + slot, 1),
        )
        with context.scheduler:
            if slot in (1, 2):
                context.scheduler.spawn(Sink, (slot,), name=f"sink{slot}")
            elif slot == 0:
                context.scheduler.spawn(Storm, (context, kills)).go()

    actors = {"counter": ("__main__:Counter", (5,), "efficiency")}
    run(NodeConfig(performance=3, actors=actors, limits=QUICK), boot, lambda text: None)


# --- placement


def places() -> None:
    """The driver asks a named actor that is killed with its process, and spawns actors by affinity."""
    seen: dict[str, Any] = {}

    def boot(context: SchedulerContext) -> None:
        slot = context.place.scheduler
        shared[PID + slot] = os.getpid()
        if slot == 0:
            found(context, lambda reply: killed(context, reply.result()))
        elif slot == 2:
            # On the loop, so after the Node has been told that this process is ready.
            incarnation = context.place.incarnation
            context.loop.call_soon(lambda: context.scheduler.spawn(Counter, (0,), name=f"ready{incarnation}"))

    def found(context: SchedulerContext, then: Callable[[Any], None]) -> None:
        def ask() -> None:
            counter = context.scheduler.whereis("counter")
            seen["counter"] = place(id_of(counter))
            counter.add(1).on_done(then)

        until(context, lambda: context.scheduler.whereis("counter"), ask)

    def killed(context: SchedulerContext, total: int) -> None:
        say(total=total, place=seen["counter"])
        os.kill(shared[PID + seen["counter"].scheduler], signal.SIGKILL)
        until(
            context,
            lambda: (new := context.scheduler.whereis("counter")) and place(id_of(new)) != seen["counter"],
            lambda: found(context, lambda reply: again(context, reply.result())),
        )

    def again(context: SchedulerContext, total: int) -> None:
        say(total=total, place=seen["counter"])
        until(context, lambda: context.scheduler.whereis("ready2"), lambda: spawn(context))

    def spawn(context: SchedulerContext) -> None:
        def placed(word: Any) -> None:
            ref = context.scheduler.ref(Counter, unpack(word.actor))
            ref.add(1).on_done(lambda reply: refused(context, reply.result(), place(unpack(word.actor))))

        context.spawn_elsewhere("__main__:Counter", (40,), placed, affinity="efficiency")

    def refused(context: SchedulerContext, total: int, there: Any) -> None:
        def done(word: Any) -> None:
            say(total=total, place=there, why=word.why)
            context.spawn_elsewhere("__main__:Ledger", (), by_class)

        def by_class(word: Any) -> None:
            say(by_class=place(unpack(word.actor)))
            os.kill(os.getppid(), signal.SIGTERM)

        context.spawn_elsewhere("__main__:Nobody", (), done)

    actors = {"counter": ("__main__:Counter", (5,), "efficiency")}
    run(NodeConfig(performance=2, actors=actors, limits=QUICK), boot, lambda text: None)


# --- an actor that moves


class Ledger(Actor):
    affinity = "efficiency"

    def __init__(self) -> None:
        self.count = self.disorder = 0
        self.last = -1

    def snapshot(self) -> tuple[int, int, int]:
        return self.count, self.disorder, self.last

    def restore(self, snapshot: tuple[int, int, int]) -> None:
        self.count, self.disorder, self.last = snapshot

    @behaviour
    def add(self, number: int) -> int:
        self.count += 1
        self.disorder += number != self.last + 1
        self.last = number
        return number

    @behaviour
    def found(self) -> tuple[int, int]:
        return self.count, self.disorder


class Fixed(Actor):
    """Would be moved, and cannot."""

    affinity = "efficiency"


class Clerk(Actor):
    """Writes into the ledger without end, now by its name, now by the ref that it began with."""

    def __init__(self, context: SchedulerContext, ledger: Ledger) -> None:
        self.context, self.ledger = context, ledger
        self.sent = self.asked = self.answered = 0
        self.moved_at: int | None = None
        self.down: list[str] = []
        self.monitor(ledger)

    @behaviour
    def write(self) -> None:
        whereis = self.context.scheduler.whereis
        for _ in range(20):
            named = whereis("ledger")
            reply = (named if self.sent % 2 else self.ledger).add(self.sent)
            if self.sent % 5 == 0:
                self.asked += 1
                number = self.sent
                reply.notify(lambda reply, number=number: self.count(reply, number))
            self.sent += 1
            if self.moved_at is None and place(id_of(named)).scheduler == 2:
                self.moved_at = self.sent
        if self.moved_at is None or self.sent < self.moved_at + 1000:
            self.send_after(0.0005, self.write)

    def count(self, reply: Any, number: int) -> None:
        self.answered += reply.error is None and reply.value == number

    @behaviour
    def on_down(self, ref: Actor, reason: Any) -> None:
        self.down.append(f"{reason.kind} {ref == self.ledger}")


def moves() -> None:
    """Two actors fall back to a performance scheduler while the efficiency one is dead. Then one moves, under load; the
    other one stays, until it is made anew."""
    MISPLACED, DEPARTED, UNDER_WAY = 500, 510, 520

    def boot(context: SchedulerContext) -> None:
        slot = context.place.scheduler
        shared[PID + slot] = os.getpid()
        shared[INCARNATION + slot] = context.place.incarnation
        watch(context)
        if slot == 0:
            until(context, lambda: {at("ledger", context), at("fixed", context)} == {2}, lambda: begin(context))

    def watch(context: SchedulerContext) -> None:
        slot = context.place.scheduler
        statistics = context.scheduler.statistics()
        shared[MISPLACED + slot], shared[DEPARTED + slot] = statistics.misplaced, statistics.departed
        shared[UNDER_WAY + slot] = context.mailman.moves.under_way
        context.loop.call_later(0.005, watch, context)

    def at(name: str, context: SchedulerContext) -> int | None:
        ref = context.scheduler.whereis(name)
        return place(id_of(ref)).scheduler if ref is not None else None

    def misplaced() -> list[int]:
        return [shared[MISPLACED + slot] for slot in range(3)]

    def begin(context: SchedulerContext) -> None:
        os.kill(shared[PID + 2], signal.SIGKILL)
        until(
            context,
            lambda: at("ledger", context) in (0, 1) and at("fixed", context) in (0, 1),
            lambda: fallen_back(context),
        )

    def fallen_back(context: SchedulerContext) -> None:
        say(fallen_back=[at("ledger", context), at("fixed", context)])
        ref = context.scheduler.spawn(Clerk, (context, context.scheduler.whereis("ledger")))
        clerk = context.scheduler.cells[id_of(ref)].actor
        ref.write()
        until(
            context,
            lambda: clerk.moved_at is not None and clerk.sent >= clerk.moved_at + 1000 and clerk.asked == clerk.answered
            and sum(misplaced()) == 1 and not any(shared[UNDER_WAY + slot] for slot in range(3)),
            lambda: moved(context, clerk),
        )  # fmt: skip

    def moved(context: SchedulerContext, clerk: Clerk) -> None:
        def report(reply: Any) -> None:
            count, disorder = reply.result()
            say(
                moved=at("ledger", context), before=clerk.moved_at, sent=clerk.sent, count=count, disorder=disorder,
                asked=clerk.asked, answered=clerk.answered, dead=context.scheduler.dead_letters.count,
                fixed=at("fixed", context), departed=sum(shared[DEPARTED + slot] for slot in range(3)),
                incarnations=[shared[INCARNATION + slot] for slot in range(3)], down=clerk.down,
            )  # fmt: skip
            context.scheduler.whereis("ledger").stop()
            context.scheduler.whereis("fixed").stop()
            until(
                context,
                lambda: clerk.down and at("ledger", context) == at("fixed", context) == 2 and not sum(misplaced()),
                lambda: anew(context, clerk),
            )

        context.scheduler.whereis("ledger").found().on_done(report)

    def anew(context: SchedulerContext, clerk: Clerk) -> None:
        def report(reply: Any) -> None:
            say(anew=reply.result(), down=clerk.down)
            os.kill(os.getppid(), signal.SIGTERM)

        context.scheduler.whereis("ledger").found().on_done(report)

    actors = {
        "ledger": ("__main__:Ledger", (), "efficiency"),
        "fixed": ("__main__:Fixed", (), "efficiency"),
    }
    run(NodeConfig(performance=2, actors=actors, limits=QUICK), boot, lambda text: None)


# --- asks


class Echo(Actor):
    @behaviour
    async def echo(self, token: int, delay: float) -> int:
        if delay:
            await self.sleep(delay)
        return token


class Asker(Actor):
    def __init__(self, context: SchedulerContext, number: int, times: int, results: dict[str, int]) -> None:
        self.context, self.number, self.times, self.results = context, number, times, results
        self.random = random.Random(number)

    @behaviour
    async def go(self) -> None:
        whereis = self.context.scheduler.whereis
        results = self.results
        for turn in range(self.times):
            token = self.number * 1_000_000 + turn
            slow = turn % 10 == 3
            kind = "slow" if slow else "quick"
            name = f"{kind}{self.random.choice((1, 2))}.{self.random.randrange(40)}"
            while (echo := whereis(name)) is None:
                await self.sleep(0.01)
            delay = 0.05 if slow else self.random.choice((0, 0, 0.001, 0.003))
            try:
                got = await echo.echo(token, delay).with_timeout(0.02 if slow else 5)
            except ReplyTimeout:
                results["timed out"] += 1
            except ActorDead:
                results["dead"] += 1
            except ActorError as error:
                say(log=f"ask: {error}")
                results["error"] += 1
            else:
                results["right" if got == token else "wrong"] += 1
        results["askers"] -= 1


def asks(total: int, askers: int) -> None:
    results = {"right": 0, "wrong": 0, "timed out": 0, "dead": 0, "error": 0, "askers": askers, "kills": 0}

    def boot(context: SchedulerContext) -> None:
        slot = context.place.scheduler
        shared[PID + slot] = os.getpid()
        with context.scheduler:
            if slot in (1, 2):
                for number in range(40):
                    for kind in ("quick", "slow"):
                        context.scheduler.spawn(Echo, name=f"{kind}{slot}.{number}")
            elif slot == 0:
                for number in range(askers):
                    context.scheduler.spawn(Asker, (context, number, total // askers, results)).go()
                kill(context)
                until(context, lambda: not results["askers"], lambda: report(context))

    def kill(context: SchedulerContext) -> None:
        if results["askers"]:
            victim = 1 + results["kills"] % 2
            if context.scheduler.whereis(f"slow{victim}.39") is not None:
                results["kills"] += 1
                os.kill(shared[PID + victim], signal.SIGKILL)
                context.scheduler.names_elsewhere.pop(f"slow{victim}.39")
            context.loop.call_later(0.7, kill, context)

    def report(context: SchedulerContext) -> None:
        say(**results, late=context.scheduler.late_replies, pending=context.mailman.statistics()["pending"])
        os.kill(os.getppid(), signal.SIGTERM)

    run(NodeConfig(performance=3, efficiency=0, limits=QUICK), boot, lambda text: None)


# --- connections


def serve(performance: int, folder: str, restart_first: float) -> None:
    """Answers each connection with slot, incarnation and what the file `version` said at boot."""
    listeners = open_tcp("127.0.0.1", 0, performance)
    say(port=listeners[0].getsockname()[1])
    limits = NodeLimits(restart_first=restart_first, restart_cap=restart_first, heartbeat=0.1)

    def boot(context: SchedulerContext) -> None:
        version = (Path(folder) / "version").read_text()
        if version == "broken":
            raise ValueError("this version does not boot")
        place = context.place

        def answer(connection: socket.socket, listener: int) -> None:
            connection.sendall(f"{place.scheduler} {place.incarnation} {listener} {version}".encode())
            connection.close()

        context.listeners.on_connection = answer
        say(booted=[place.scheduler, place.incarnation], pid=os.getpid(), kind=context.kind)

    run(NodeConfig(performance=performance, listeners=listeners, limits=limits), boot)


# --- a scheduler that no longer yields


class Spinner(Actor):
    @behaviour
    def spin_for_ever(self) -> None:
        while True:
            pass


def stuck() -> None:
    def boot(context: SchedulerContext) -> None:
        place = context.place
        say(booted=[place.scheduler, place.incarnation])
        if place[1:] == (1, 1):
            with context.scheduler:
                context.scheduler.spawn(Spinner).spin_for_ever()
        elif place[1:] == (1, 2):
            context.loop.call_later(0.1, os.kill, os.getppid(), signal.SIGTERM)

    limits = NodeLimits(heartbeat=0.05, stuck_after=0.5, replace_after=1.2, restart_first=0.001)
    run(NodeConfig(performance=2, efficiency=0, limits=limits), boot)


# --- the processes as they are


def plain(performance: int, compute: int) -> None:
    """Idles; each line of log tells what the Node has imported."""
    foreign = ("uvloop", "starlette", "uvicorn", "aiohttp", "zerver")

    def boot(context: SchedulerContext) -> None:
        import decimal  # stands for an application

        assert decimal
        until(
            context,
            lambda: len(context.mailman.peers) == performance and all(p.link for p in context.mailman.peers),
            lambda: say(linked=context.place.scheduler, uvloop="uvloop" in sys.modules, pid=os.getpid()),
        )

    def tell(text: str) -> None:
        say(log=text, imported=[name for name in foreign if name in sys.modules])

    listeners = open_tcp("127.0.0.1", 0, performance)
    config = NodeConfig(performance=performance, compute=compute, listeners=listeners, limits=QUICK)
    run(config, boot, tell)


def broken() -> None:
    def boot(context: SchedulerContext) -> None:
        raise RuntimeError("no database")

    run(NodeConfig(performance=1, efficiency=0, limits=QUICK), boot)


# --- hardship


def patient() -> None:
    """Where nothing has a time limit, nothing wakes the Node but what happens."""
    limits = NodeLimits(stuck_after=inf, replace_after=inf, boot=inf, grace=inf)

    def boot(context: SchedulerContext) -> None:
        say(booted=list(context.place[1:]))

    run(NodeConfig(performance=1, efficiency=0, limits=limits), boot)


def spinning() -> None:
    def boot(context: SchedulerContext) -> None:
        if context.place.scheduler == 1:
            context.scheduler.spawn(Spinner).spin_for_ever()
        elif context.place.scheduler == 0:
            peers = context.mailman
            until(context, lambda: any(peer.link for peer in peers.peers), lambda: say(spins=True))

    run(NodeConfig(performance=2, efficiency=0, limits=QUICK), boot)


class Interrupted(Actor):
    @behaviour
    def stop_all(self) -> None:
        raise GeneratorExit  # no Exception


def interrupted() -> None:
    def boot(context: SchedulerContext) -> None:
        say(booted=list(context.place[1:]))
        if context.place.incarnation == 1:
            context.scheduler.spawn(Interrupted).stop_all()

    run(NodeConfig(performance=1, efficiency=0, limits=QUICK), boot)


class Crasher(Actor):
    def started(self) -> None:
        raise ValueError("x" * 5000)


def crashing(mark: str) -> None:
    """Writes to standard error as the runtime does; when a process was killed and is back, there is a file."""

    def boot(context: SchedulerContext) -> None:
        if sys.stdout is not None:
            sys.stdout.write("booted\n")
        for _ in range(20):
            context.scheduler.spawn(Crasher)
        if context.place.incarnation == 1:
            context.loop.call_later(0.05, os.kill, os.getpid(), signal.SIGKILL)
        else:
            Path(mark).touch()

    sys.exit(run_node(NodeConfig(performance=1, efficiency=0, limits=QUICK), boot))


def keeping() -> None:
    """Scheduler 0 greets each connection, and keeps it until the other side closes it."""
    listeners = open_tcp("127.0.0.1", 0, 1)
    say(port=listeners[0].getsockname()[1])

    def boot(context: SchedulerContext) -> None:
        kept: set[socket.socket] = set()

        def keep(connection: socket.socket, listener: int) -> None:
            kept.add(connection)
            connection.send(b"hello")
            context.loop.add_reader(connection, let_go, connection)
            say(kept=len(kept))

        def let_go(connection: socket.socket) -> None:
            context.loop.remove_reader(connection)
            connection.close()
            kept.discard(connection)

        def linked(incarnation: int) -> None:
            def there() -> bool:
                return any(peer.link and peer.place.incarnation == incarnation for peer in context.mailman.peers)

            def tell() -> None:
                say(linked=incarnation)
                linked(incarnation + 1)

            until(context, there, tell)

        context.listeners.on_connection = keep
        if context.place.scheduler == 0:
            linked(1)
        say(booted=list(context.place[1:]), pid=os.getpid())

    run(NodeConfig(performance=1, efficiency=1, listeners=listeners, limits=QUICK), boot)


def starving() -> None:
    import resource

    limits = NodeLimits(restart_first=0.001, restart_cap=0.001, intensity=3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors("self") + 4, 60))
    run(NodeConfig(performance=1, efficiency=0, limits=limits), lambda context: None)


def named() -> None:
    """Each scheduler has an actor of a name of its own; the first one tells in which incarnations they are found."""

    def boot(context: SchedulerContext) -> None:
        slot = context.place.scheduler
        context.scheduler.spawn(Echo, name=f"echo{slot}")
        if slot == 0:
            tell(context, [])

    def tell(context: SchedulerContext, last: list[int]) -> None:
        refs = [context.scheduler.whereis(f"echo{slot}") for slot in range(2)]
        found = [place(id_of(ref)).incarnation if ref else 0 for ref in refs]
        if found != last:
            say(named=found)
        context.loop.call_later(0.01, tell, context, found)

    run(NodeConfig(performance=2, efficiency=0, limits=QUICK), boot)


def checking() -> None:
    """What is sent within one process is checked as if it left."""

    def boot(context: SchedulerContext) -> None:
        if context.kind == "efficiency":
            return
        try:
            context.scheduler.spawn(Echo).echo(lambda: None, 0)
        except ActorError as error:
            say(refused=str(error))
        context.loop.call_soon(os.kill, os.getppid(), signal.SIGTERM)

    run(NodeConfig(performance=1, limits=QUICK, check_arguments=True), boot)


class Pest(Actor):
    def started(self) -> None:
        self.go()

    @behaviour
    async def go(self) -> None:
        echo = whereis("echo", Echo)
        if echo is None:
            await self.sleep(0.01)
        else:
            try:
                await echo.echo(1, 0.005)
                say(answered=True)
            except ActorDead:
                await self.sleep(0.01)
        self.go()


def pestered() -> None:
    """The efficiency scheduler never stops to ask, and ends after the performance scheduler that it asks."""

    def boot(context: SchedulerContext) -> None:
        if context.kind == "performance":
            context.scheduler.spawn(Echo, name="echo")
        else:
            for _ in range(5):
                context.scheduler.spawn(Pest)

    run(NodeConfig(performance=1, limits=QUICK), boot)


def begun() -> None:
    """Scheduler 0 asks 20 times of an actor elsewhere that takes its time, and has the Node reload meanwhile."""
    results = {"answered": 0, "refused": 0}

    def boot(context: SchedulerContext) -> None:
        if context.place[1:] == (0, 1):
            until(context, lambda: context.scheduler.whereis("echo"), lambda: ask(context))
        elif context.kind == "efficiency" and context.place.incarnation == 1:
            context.on_drain.append(lambda: say(drains=True))

    def ask(context: SchedulerContext) -> None:
        for number in range(20):
            context.scheduler.whereis("echo").echo(number, 0.05).on_done(count)
        os.kill(os.getppid(), signal.SIGHUP)

    def count(reply: Any) -> None:
        results["answered" if reply.error is None else "refused"] += 1
        if sum(results.values()) == 20:
            say(**results)

    run(NodeConfig(performance=1, actors={"echo": ("__main__:Echo", (), "efficiency")}, limits=QUICK), boot)


if __name__ == "__main__":
    arguments = [
        float(one) if "." in one and one[0] != "/" else int(one) if one.isdigit() else one for one in sys.argv[2:]
    ]
    globals()[sys.argv[1]](*arguments)
