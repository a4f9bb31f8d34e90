"""The Node's process: does what `node` decides. Forks, passes sockets, hears signals, buries the dead.

Single-threaded, on a plain `selectors` loop, and nothing of the application is imported here, nor uvloop: what a
scheduler runs is imported by its own boot, after the fork. So a fork never copies a lock that somebody holds, and a
reload re-imports the application by forking again.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable

import msgspec

from zerver_runtime import control
from zerver_runtime.control_socket import ControlSocket
from zerver_runtime.ids import Place
from zerver_runtime.listener import take_no_more
from zerver_runtime.message import describe
from zerver_runtime.node import NodeState
from zerver_runtime.node_config import STACK_SIGNAL, Inheritance, NodeConfig
from zerver_runtime.node_words import (
    Action,
    CloseListener,
    DumpStack,
    Event,
    Exit,
    Exited,
    Fork,
    Forked,
    Kill,
    Lend,
    Log,
    Lost,
    MakePair,
    Received,
    Send,
    Serving,
    Signalled,
    Start,
    StopListening,
    Tick,
)
from zerver_runtime.placement import ActorSpec
from zerver_runtime.scheduler_process import ApplicationFailed, Boot, run_scheduler
from zerver_runtime.scheduler_view import Class, Key
from zerver_runtime.standard_error import complain

__all__ = ["ApplicationFailed", "NodeConfig", "run_node"]

_LONGEST_WAIT = 3600.0  # seconds; a time may be infinite, and a selector takes none that is
_STACK_QUIET = 0.05  # seconds without another line: a stack is written line by line

_SIGNALS = ("TERM", "INT", "HUP", "TTOU", "CHLD")


def _show_status(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"signal {number} ({signal.strsignal(number)})"
    return f"exit {os.waitstatus_to_exitcode(status)}"


def _log(text: str) -> None:
    complain(f"node: {text}")


def _flush() -> None:
    """Before a fork, or each process writes what waits."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or nobody reads it
            stream.flush()


def run_node(
    config: NodeConfig,
    boot: Boot | None = None,
    log: Callable[[str], None] = _log,
    serving: Callable[[], None] | None = None,
    stopping: Callable[[], None] | None = None,
) -> int:
    """Fork, supervise, and return the exit code: 0 stopped, 1 gave up, 128 and the number of the signal where a second
    one ended all at once. Takes over the process's signals meanwhile.

    boot: called as `boot(context)` in each new scheduler process, before it is ready; it imports the application.
        What it raises fails the boot. It may be a coroutine function.
    log: takes one line, or several with a stack; standard error by default. What it raises is dropped, with the line.
    serving: called once a scheduler is ready to accept connections, and after each reload.
    stopping: called when a stop begins, and no listener of the Node's is open any more.

    ApplicationFailed: the boot of the first schedulers, or at a stop what was to be awaited, has raised that.
    RuntimeError: other threads run, whose locks a fork would copy as they are.
    """
    import threading

    if threading.active_count() > 1:
        raise RuntimeError(
            f"the Node forks, and {threading.active_count() - 1} other threads run; start it before any thread"
        )
    for number in (0, 1, 2):
        # Where one was closed, a socket would take its number, and then what anybody prints.
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    return _Node(config, boot, log, serving, stopping).run()


class _Node:
    def __init__(
        self,
        config: NodeConfig,
        boot: Boot | None,
        log: Callable[[str], None],
        serving: Callable[[], None] | None,
        stopping: Callable[[], None] | None,
    ) -> None:
        performance = config.performance or len(os.sched_getaffinity(0))
        encode = msgspec.msgpack.encode
        self._config = config
        self._boot = boot
        self._log = log
        self._serving = serving
        self._stopping = stopping
        self._state = NodeState(
            performance,
            config.efficiency,
            config.compute,
            listeners=len(config.listeners),
            shared=config.shared,
            actors={
                name: ActorSpec(path, encode((args, None)), affinity)
                for name, (path, args, affinity) in config.actors.items()
            },
            limits=config.limits,
            no_reload=config.no_reload,
        )
        self._listeners = dict(enumerate(config.listeners))
        self._selector = selectors.DefaultSelector()
        self._controls: dict[Key, ControlSocket[control.ToNode]] = {}
        self._stacks: dict[Key, int] = {}
        self._written: dict[Key, bytearray] = {}  # stacks that are still being written
        self._pids: dict[int, Key] = {}
        self._signals: list[str] = []
        self._todo: deque[Event] = deque()
        self._exit: int | None = None
        self._failure = ""

    # --- The loop: shut down? -> queue readable commands -> send to those ready

    def run(self) -> int:
        woken, self._wake = socket.socketpair()
        woken.setblocking(False)
        self._wake.setblocking(False)
        self._woken = woken
        self._selector.register(woken, selectors.EVENT_READ, None)
        before = {name: signal.signal(getattr(signal, f"SIG{name}"), self._signalled) for name in _SIGNALS}
        wakeup = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            self._handle(Start())
            while self._exit is None:
                for event in self._events():
                    self._handle(event)
                self._flush()
        finally:
            signal.set_wakeup_fd(wakeup)
            for name, handler in before.items():
                signal.signal(getattr(signal, f"SIG{name}"), handler)
            self._end()
        if self._failure:
            raise ApplicationFailed(self._failure)
        return self._exit

    def _signalled(self, number: int, _: object) -> None:
        self._signals.append(signal.Signals(number).name.removeprefix("SIG"))

    def _events(self) -> list[Event]:
        events: list[Event] = []
        due = self._state.wake_at()
        timeout = None if due is None else min(max(0.0, due - time.monotonic()), _LONGEST_WAIT)
        if self._written:
            timeout = _STACK_QUIET
        ready = self._selector.select(timeout)
        if not ready:
            for key in list(self._written):
                self._show_stack(key)
        for found, _ in ready:
            if found.data is None:
                with contextlib.suppress(BlockingIOError):
                    while self._woken.recv(4096):
                        pass
            elif found.data[0] == "control":
                events += self._read(found.data[1])
            else:
                self._read_stack(found.data[1])
        signals, self._signals = self._signals, []
        for name in dict.fromkeys(signals):
            if name != "CHLD":
                events.append(Signalled(name))
        events += self._reap()
        events.append(Tick())
        return events

    def _read(self, key: Key) -> list[Event]:
        end = self._controls.get(key)
        if end is None:
            return []
        events: list[Event] = [Received(key, word) for word, _ in end.receive()]
        if end.lost:
            with contextlib.suppress(KeyError):
                self._selector.unregister(end.socket)
            events.append(Lost(key))
        return events

    def _flush(self) -> None:
        for key, end in list(self._controls.items()):
            written = end.flush()
            if end.lost:
                # An end that is at its end is heard of by reading; one that nobody reads is heard of here.
                if end.socket in self._selector.get_map():
                    self._selector.unregister(end.socket)
                    self._handle(Lost(key))
                continue
            mask = selectors.EVENT_READ if written else selectors.EVENT_READ | selectors.EVENT_WRITE
            if self._selector.get_key(end.socket).events != mask:
                self._selector.modify(end.socket, mask, ("control", key))

    # --- Doing what was decided

    def _handle(self, event: Event) -> None:
        """What an action brings about by itself is an event of its own, for when all actions are done."""
        todo = self._todo
        todo.append(event)
        while todo:
            for action in self._state.handle(todo.popleft(), time.monotonic()):
                self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Fork(key, kind):
                self._fork(key, kind)
            case Send(key, word):
                if end := self._controls.get(key):
                    end.send(word)
            case MakePair(one, other):
                self._pair(one, control.Peer(*other), other, control.Peer(*one))
            case Lend(worker, scheduler):
                self._pair(scheduler, control.Worker(*worker), worker, control.Peer(*scheduler))
            case Kill(key):
                self._signal(key, signal.SIGKILL)
            case DumpStack(key):
                self._signal(key, STACK_SIGNAL)
            case CloseListener(number):
                if listener := self._listeners.pop(number, None):
                    take_no_more(listener)
                    listener.close()
            case StopListening():
                while self._listeners:
                    listener = self._listeners.popitem()[1]
                    if not self._config.lent:
                        take_no_more(listener)
                    listener.close()
                if self._stopping is not None:
                    self._stopping()
            case Log(text):
                self._say(text)
            case Serving():
                if self._serving is not None:
                    try:
                        self._serving()
                    except Exception as error:
                        complain(f"the Node serves, and cannot say so: {describe(error)}")
            case Exit(code, failure):
                self._exit, self._failure = code, failure

    def _say(self, text: str) -> None:
        try:
            self._log(text)
        except Exception as error:
            complain(f"the log of the Node: {describe(error)}")

    def _signal(self, key: Key, number: signal.Signals) -> None:
        # A child's pid cannot be somebody else's before it is reaped, which takes it off the list.
        for pid, who in self._pids.items():
            if who == key:
                if number == signal.SIGKILL and os.getpgid(pid) == pid:
                    os.killpg(pid, number)  # with all that it has started
                else:
                    os.kill(pid, number)

    def _pair(self, one: Key, to_one: control.FromNode, other: Key, to_other: control.FromNode) -> None:
        # A process that could not be forked has no control socket.
        first, second = self._controls.get(one), self._controls.get(other)
        if first is not None and second is not None:
            try:
                left, right = socket.socketpair()
            except OSError as error:
                # Without the link it is of no use. Its successor may have better luck.
                self._say(f"no link between {one[0]}.{one[1]} and {other[0]}.{other[1]}: {error}")
                self._signal(other, signal.SIGKILL)
                return
            first.send(to_one, left.detach())
            second.send(to_other, right.detach())

    def _fork(self, key: Key, kind: Class) -> None:
        with contextlib.ExitStack() as undo:
            try:
                mine, theirs = socket.socketpair()
                undo.callback(mine.close)
                undo.callback(theirs.close)
                stack, stack_writer = os.pipe()
                undo.callback(os.close, stack)
                undo.callback(os.close, stack_writer)
                os.set_blocking(stack, False)
                os.set_blocking(stack_writer, False)
                _flush()
                pid = os.fork()
            except OSError as error:
                self._todo.append(Exited(key, f"could not be forked: {error}"))
                return
            undo.pop_all()
        if pid == 0:
            code = 70
            try:
                mine.close()
                os.close(stack)
                code = self._become(key, kind, theirs, stack_writer)
            except BaseException:
                complain(traceback.format_exc())
            finally:
                _flush()
                os._exit(code)
        theirs.close()
        os.close(stack_writer)
        self._pids[pid] = key
        end = ControlSocket(mine, control.to_node)
        self._controls[key] = end
        self._stacks[key] = stack
        self._selector.register(mine, selectors.EVENT_READ, ("control", key))
        self._selector.register(stack, selectors.EVENT_READ, ("stack", key))
        self._todo.append(Forked(key, pid))

    def _become(self, key: Key, kind: Class, end: socket.socket, stack: int) -> int:
        """In the child: keep what is its own, close all else, forget the Node's signals, run."""
        signal.set_wakeup_fd(-1)
        for name in _SIGNALS:
            # The Node tells its processes when to stop, also when a terminal or an init signals the whole group.
            signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL if name == "CHLD" else signal.SIG_IGN)
        self._selector.close()
        self._woken.close()
        self._wake.close()
        for other in self._controls.values():
            other.close()
        for other_stack in self._stacks.values():
            os.close(other_stack)
        # Who never accepts must not keep a listener open: the kernel would go on dealing it connections.
        if kind != "performance":
            for listener in self._listeners.values():
                listener.close()
            self._listeners.clear()
            if self._config.nice:
                os.nice(self._config.nice)
            if self._config.efficiency_cpus and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, self._config.efficiency_cpus)
        place = Place(self._config.node, *key)
        listeners = sorted(self._listeners.items())
        return run_scheduler(Inheritance(place, kind, end, stack, listeners, self._config), self._boot)

    # --- Death

    def _reap(self) -> list[Event]:
        events: list[Event] = []
        for pid, key in list(self._pids.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._pids[pid]
                # Its last words first: why a boot failed, for one.
                events += [event for event in self._read(key) if not isinstance(event, Lost)]
                self._read_stack(key)
                self._show_stack(key)
                self._bury(key)
                events.append(Exited(key, _show_status(status)))
        return events

    def _bury(self, key: Key) -> None:
        end, stack = self._controls.pop(key), self._stacks.pop(key)
        for fileobj in (end.socket, stack):
            with contextlib.suppress(KeyError):
                self._selector.unregister(fileobj)
        end.close()
        os.close(stack)

    def _read_stack(self, key: Key) -> None:
        stack = self._stacks.get(key)
        if stack is None:
            return
        with contextlib.suppress(BlockingIOError):
            while data := os.read(stack, 65536):
                self._written.setdefault(key, bytearray()).extend(data)
            # At its end: all writers are gone.
            with contextlib.suppress(KeyError):
                self._selector.unregister(stack)

    def _show_stack(self, key: Key) -> None:
        written = self._written.pop(key, None)
        if written:
            self._say(f"stack of scheduler {key[0]}.{key[1]}:\n{written.decode(errors='replace').rstrip()}")

    def _end(self) -> None:
        for end in self._controls.values():
            end.close()
        for stack in self._stacks.values():
            os.close(stack)
        for listener in self._listeners.values():
            listener.close()
        self._selector.close()
        self._woken.close()
        self._wake.close()
