"""A forked process from the inside: a scheduler on a loop, its links, its listeners, and what the Node tells it."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, get_args

from zerver_runtime import control
from zerver_runtime.actor import Affinity
from zerver_runtime.codec import find_class
from zerver_runtime.control_socket import ControlSocket
from zerver_runtime.ids import Place, pack
from zerver_runtime.link import SocketLink
from zerver_runtime.listener import Listeners
from zerver_runtime.mailman import Mailman
from zerver_runtime.message import NotPlainData, describe
from zerver_runtime.node_config import STACK_SIGNAL, Inheritance, NodeConfig
from zerver_runtime.reactor.compute_pool import ComputePool, Observe
from zerver_runtime.reactor.compute_worker import ComputeWorker
from zerver_runtime.reactor.loop import Turns, new_loop
from zerver_runtime.ref import check_name, class_path, id_of
from zerver_runtime.scheduler import Scheduler
from zerver_runtime.scheduler_view import Class
from zerver_runtime.standard_error import complain

__all__ = [
    "BOOT_FAILED",
    "LINK_FAILED",
    "NODE_GONE",
    "TURN_FAILED",
    "ApplicationFailed",
    "Boot",
    "SchedulerContext",
    "run_scheduler",
]

BOOT_FAILED = 3
NODE_GONE = 4
TURN_FAILED = 5
LINK_FAILED = 6
"""Exit codes: the boot raised; the Node is not there any more; an exception came out of a turn; there was no descriptor
left for the link to a sibling."""

_MOST_ARGUMENTS = 1024 * 1024  # bytes, through the Node

_SET_PARENT_DEATH_SIGNAL = 1

_DRAIN_LOOK = 0.01  # seconds between looks at whether all is quiet
_QUIET_LOOKS = 5  # in a row
_TAKES = 2.0  # seconds for which a process that drains takes messages of its siblings


class ApplicationFailed(Exception):
    """For a boot, or what a drain awaits, to raise: the application failed, and the text says to whoever runs it why.
    No traceback is shown. At the Node's start it is tried once; later, as any other failure."""


class SchedulerContext:
    """What a boot gets, and what the process runs with afterwards. Everything in it belongs to the loop's thread.

    Set `context.listeners.on_connection` to serve; add to `context.on_drain` what is to be awaited before the process
    may end, once its listeners are closed.
    """

    def __init__(self, inheritance: Inheritance) -> None:
        self.place: Place = inheritance.place
        self.kind: Class = inheritance.kind
        self.config: NodeConfig = inheritance.config
        self.loop = new_loop()
        self.turns = Turns(self.loop)
        self.scheduler = Scheduler(
            self.place,
            time.monotonic_ns,
            self.turns.wake,
            process_class=self.kind,
            check_arguments=self.config.check_arguments,
            report=_report,
        )
        self.mailman = Mailman(self.scheduler, self.say)
        self.scheduler.mailman = self.mailman
        self.listeners = Listeners(self.loop, inheritance.listeners)
        self.on_drain: list[Callable[[], Awaitable[object] | None]] = []
        self._control = ControlSocket(inheritance.control, control.from_node)
        self._writing = False
        self._wanted: dict[int, Callable[[control.Placed], None]] = {}
        # Compute workers that came before the pool, and the pool.
        self._workers: dict[tuple[int, int], socket.socket] = {}
        self._compute: ComputePool | None = None
        self._correlations = 0
        self._booting: asyncio.Task[object] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._code: int | None = None

    # --- For the application

    def spawn_elsewhere(
        self,
        path: str,
        args: tuple[object, ...],
        done: Callable[[control.Placed], None],
        *,
        affinity: str | None = None,
        name: str | None = None,
    ) -> None:
        """Have the Node place an actor ("module:Class") on the least busy scheduler of a class, maybe this one. Which
        class is, if it is not given, what the actor's own says.
        `done(placed)` is called once: with the actor's id (packed), or with why there is none.

        ValueError: an unknown affinity, or no name for an actor. NotPlainData: the arguments cannot travel, or take
        more than 1 MiB."""
        if affinity is not None and affinity not in get_args(Affinity):
            raise ValueError(f"affinity={affinity!r}; use one of {get_args(Affinity)}")
        if name is not None:
            check_name(name)
        try:
            arguments = self.mailman.codec.encode((args, None))
        except Exception:
            raise self.mailman.codec.blame(None, f"spawn of {path}", args, None) from None
        if len(arguments) > _MOST_ARGUMENTS:
            raise NotPlainData(
                f"spawn of {path}", "the whole", f"{len(arguments)} bytes long; at most {_MOST_ARGUMENTS} go that way"
            )
        self._correlations += 1
        self._wanted[self._correlations] = done
        if affinity is None:
            try:
                affinity = str(getattr(find_class(path), "affinity", "none"))
            except LookupError:
                affinity = "none"  # the answer says what is wrong
        self.say(control.Wanted(self._correlations, path, arguments, affinity, name))

    def keep(self, actors: Mapping[str, tuple[type[Any], tuple[Any, ...], dict[str, Any]]]) -> None:
        """Have the Node keep one actor of each of these names, as those of `NodeConfig.actors`: (class, arguments,
        keyword arguments). For a boot. All schedulers declare the same; who is first has it started, on whichever
        process that is ready and of the class's affinity. After a reload they are those that the new processes declare.

        ValueError: no name for an actor. NotPlainData: arguments cannot travel."""
        kept = []
        for name, (kind, args, kwargs) in actors.items():
            check_name(name)
            path = class_path(kind)
            try:
                arguments = self.mailman.codec.encode((args, kwargs or None))
            except Exception:
                raise self.mailman.codec.blame(None, f"spawn of {path}", args, kwargs) from None
            kept.append(control.Kept(name, path, arguments, kind.affinity))
        self.say(control.Keep(tuple(kept)))

    def compute_pool(self, queue: int = 256, observe: Observe | None = None) -> ComputePool:
        """The pool that runs tasks on the compute workers of the Node, which all its schedulers share. Called once, on
        the loop's thread. queue: tasks of this scheduler that may wait. Close it in `on_drain`.

        RuntimeError: the Node has no compute workers, or there is a pool already."""
        if not self.config.compute:
            raise RuntimeError("the Node has no compute workers; give it some: NodeConfig(compute=2)")
        if self._compute is not None:
            raise RuntimeError("this scheduler has its compute pool already; share it")
        self._compute = ComputePool(
            self.config.compute,
            queue,
            observe=observe,
            replace=lambda worker: self.say(control.Replace(*worker)),
            loop=self.loop,
        )
        self.loop.call_soon(self._lend)
        return self._compute

    # --- Life

    def run(self, boot: Boot | None) -> int:
        """Boot, serve until told to stop, and return the exit code."""
        asyncio.set_event_loop(self.loop)
        try:
            with self.scheduler:  # so that a boot may spawn
                booted = boot(self) if boot is not None else None
                if inspect.isawaitable(booted):
                    self._booting = self.loop.create_task(_awaited(booted))
                    self.loop.add_reader(self._control.socket, self._hear)
                    self.turns.attach(self)  # what a boot awaits may be an actor's answer
                    self.loop.run_until_complete(self._booting)
        except asyncio.CancelledError:
            return 0  # the Node stops
        except ApplicationFailed as error:
            self.say(control.BootFailed(str(error), told=True))
            self._say_last()
            return BOOT_FAILED
        except Exception as error:
            complain(traceback.format_exc())
            self.say(control.BootFailed(describe(error)))
            self._say_last()
            return BOOT_FAILED
        self._booting = None
        self.loop.add_reader(self._control.socket, self._hear)
        self.say(control.Ready())
        self.turns.attach(self)
        self._beat()
        if self._code is None:  # what was heard at the end of the boot may have set it
            self.loop.run_forever()
        self.turns.close()
        self.mailman.close()
        self.listeners.close_all()
        self._control.close()
        return self._code or 0

    def turn(self) -> float | None:
        """One of the scheduler's, for the loop. What comes out of it has ended a behaviour, or the runtime itself, in
        the middle: nobody knows what state that left, so the process ends."""
        try:
            return self.scheduler.turn()
        except BaseException as error:
            complain(f"scheduler process {os.getpid()} ends: {traceback.format_exc().rstrip()}")
            self._end(error.code if isinstance(error, SystemExit) and type(error.code) is int else TURN_FAILED)
            return None

    def say(self, word: control.ToNode) -> None:
        """Tell the Node."""
        self._control.send(word)
        self._write()

    def _write(self) -> None:
        written = self._control.flush()
        if written and self._writing:
            self.loop.remove_writer(self._control.socket)
        elif not written and not self._writing:
            self.loop.add_writer(self._control.socket, self._write)
        self._writing = not written
        if self._control.lost:
            self._end(NODE_GONE)

    def _say_last(self) -> None:
        while not self._control.flush():
            select.select([], [self._control.socket], [], 1.0)

    def _beat(self) -> None:
        self.mailman.look()
        self.listeners.resume()
        found = self.scheduler.statistics()
        load = found.queued + sum(peer.under_way for peer in self.mailman.peers)
        self.say(control.Beat(load, found.handled, found.dead_letters))
        if self._draining is None:
            for affinity, count in self.mailman.moves.wishes().items():
                self.say(control.Misplaced(affinity, count))
        self.loop.call_later(self.config.limits.heartbeat, self._beat)

    def _end(self, code: int) -> None:
        if self._code is None:
            self._code = code
            self.loop.stop()

    # --- What the Node says

    def _hear(self) -> None:
        for word, fd in self._control.receive():
            self._heard(word, fd)
        if self._control.lost:
            self.loop.remove_reader(self._control.socket)
            self._end(NODE_GONE)

    def _heard(self, word: control.FromNode, fd: int | None) -> None:
        booting = self._booting
        if booting is not None and not booting.done() and isinstance(word, control.Drain | control.Halt):
            booting.cancel()
            return
        match word:
            case control.Peer(slot, incarnation):
                if fd is None:
                    # Otherwise the two would be deaf to each other for as long as they live.
                    complain(f"scheduler process {os.getpid()} ends: no descriptor was left for a link")
                    self._end(LINK_FAILED)
                    return
                link = SocketLink(self.loop, socket.socket(fileno=fd), around=self.turns.around)
                self.mailman.attach(slot, incarnation, link)
            case control.PeerLost(slot, incarnation, why):
                self.mailman.lose(slot, incarnation, why)
            case control.Worker(slot, incarnation):
                if fd is not None:  # else it has been closed, and is of no use to this scheduler
                    self._workers[slot, incarnation] = socket.socket(fileno=fd)
                    self._lend()
            case control.WorkerLost(slot, incarnation, why):
                if early := self._workers.pop((slot, incarnation), None):
                    early.close()
                elif self._compute is not None:
                    self._compute.lost((slot, incarnation), why)
            case control.Serve(number):
                self.listeners.serve(number)
            case control.Yield(number):
                self.listeners.leave(number)
            case control.Close(number):
                self.listeners.close(number)
            case control.Spawn(request, path, arguments, name, affinity):
                self._spawn(request, path, arguments, name, affinity)
            case control.Home(affinity, slot, incarnation):
                if self._draining is None:
                    self.mailman.moves.depart(affinity, Place(self.place.node, slot, incarnation))
            case control.Placed(correlation):
                done = self._wanted.pop(correlation, None)
                if done is not None:
                    self.scheduler.post(lambda: done(word))
            case control.Named():
                self.mailman.heard(word)
            case control.Drain():
                if self._draining is None:
                    self._draining = self.loop.create_task(self._drain())
            case control.Halt():
                self._end(0)

    def _lend(self) -> None:
        while self._compute is not None and self._workers:
            self._compute.join(*self._workers.popitem())

    def _spawn(self, request: int, path: str, arguments: bytes, name: str | None, affinity: str) -> None:
        try:
            kind = find_class(path)
            args, kwargs = self.mailman.codec.arguments(arguments)
            self.mailman.grant(name)
            with self.scheduler:
                ref = self.scheduler.spawn(kind, args, kwargs, name=name, affinity=affinity)
        except Exception as error:
            self.say(control.Spawned(request, b"", describe(error)))
        else:
            self.say(control.Spawned(request, pack(id_of(ref))))
        finally:
            self.mailman.grant(None)

    async def _drain(self) -> None:
        # Or a sibling that goes on, and never stops to ask, would keep it until its time is up.
        self.loop.call_later(_TAKES, self.mailman.inbox.close)
        self.listeners.close_all()
        for begun in [ended() for ended in self.on_drain]:
            if begun is not None:
                try:
                    await begun
                except ApplicationFailed as error:
                    self.say(control.DrainFailed(str(error)))
                except Exception as error:
                    _report("a drain", error)
        self._end_when_quiet()

    def _end_when_quiet(self, looks: int = 0) -> None:
        """A sibling that has not heard yet that another actor has the name may still send to the one here."""
        looks = looks + 1 if self.mailman.quiet else 0
        if looks < _QUIET_LOOKS:
            self.loop.call_later(_DRAIN_LOOK, self._end_when_quiet, looks)
        else:
            self._end(0)

    def __repr__(self) -> str:
        return f"<SchedulerContext {self.kind} {self.place.scheduler}.{self.place.incarnation}>"


Boot: TypeAlias = Callable[[SchedulerContext], object]
"""Prepares a new scheduler process. May be a coroutine function. What it raises fails the boot."""


def run_scheduler(inheritance: Inheritance, boot: Boot | None) -> int:
    """What a forked process runs. Returns its exit code."""
    _die_with(os.getppid())
    # Whether the process hangs or crashes, the Node gets the stacks.
    faulthandler.register(STACK_SIGNAL, file=inheritance.stack, all_threads=True)
    faulthandler.enable(file=inheritance.stack)
    if inheritance.kind == "compute":
        return _run_compute(inheritance)
    return SchedulerContext(inheritance).run(boot)


def _die_with(node: int) -> None:
    """Have the kernel kill this process when the Node is gone. One that yields hears of it by itself, and one that does
    not would go on for ever, and hold its listener open."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    except (ImportError, OSError, AttributeError):
        return  # not Linux
    if os.getppid() != node:
        os._exit(NODE_GONE)


def _run_compute(inheritance: Inheritance) -> int:
    """A compute worker: works for the schedulers that it is lent to. Told to drain, it ends when they are gone.

    It leads a process group, so that a kill reaches what its task has started."""
    os.setpgid(0, 0)
    node = ControlSocket(inheritance.control, control.from_node)
    node.send(control.Ready())
    while not node.flush():
        select.select([], [node.socket], [])
    worker = ComputeWorker()

    def hear() -> bool:
        for word, fd in node.receive():
            match word:
                case control.Peer() if fd is not None:
                    worker.attach(socket.socket(fileno=fd))
                case control.Drain():
                    worker.ignore(node.socket.fileno())
                case control.Halt():
                    return False
                case _:
                    pass
        return not node.lost

    worker.listen(node.socket.fileno(), hear)
    worker.run()
    return NODE_GONE if node.lost else 0


async def _awaited(booted: Awaitable[object]) -> object:
    return await booted


def _report(where: str, error: BaseException) -> None:
    complain(f"scheduler process {os.getpid()}: {where}: {describe(error)}")
