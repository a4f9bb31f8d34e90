"""The Node's hands in a simulation: what its decisions do to processes and links that are simulated, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil, inf
from random import Random

from zerver_runtime import control
from zerver_runtime.node import NodeState
from zerver_runtime.node_words import Action, Event, Exited, Fork, Forked, Kill, Log, MakePair, Received, Send
from zerver_runtime.scheduler_view import Class, Key
from zerver_runtime.testing.memory_link import MemoryLink
from zerver_runtime.testing.simulated_process import SimulatedProcess
from zerver_runtime.testing.wire import Wire

__all__ = ["SimulatedNode"]

_ALL = 1 << 30


class SimulatedNode:
    """process: makes one of a class, which says its words by the callable. pair: makes the two ends of a link."""

    def __init__(
        self,
        state: NodeState,
        process: Callable[[Key, Class, Callable[[control.ToNode], None]], SimulatedProcess],
        clock: Callable[[], int],
        note: Callable[..., None],
        rng: Random,
        pair: Callable[[], tuple[MemoryLink, MemoryLink]],
    ) -> None:
        self.state = state
        self.processes: dict[Key, SimulatedProcess] = {}
        self.buried: list[SimulatedProcess] = []
        self.wires: list[Wire] = []
        self.said: dict[Key, deque[Event]] = {}  # by whom; the Node has yet to hear of it
        self.due: int | None = None  # when it is to be told of the time (nanoseconds)
        self._process = process
        self._clock = clock
        self._note = note
        self._rng = rng
        self._memory_pair = pair
        self._todo: deque[Event] = deque()

    def hear(self, event: Event) -> None:
        """Something has happened: let the Node decide, and do it."""
        todo = self._todo
        todo.append(event)
        while todo:
            for action in self.state.handle(todo.popleft(), self._clock() / 1e9):
                self._do(action)
        due = self.state.wake_at()
        if due is None or due == inf or self.state.exit_code is not None:
            self.due = None
        else:
            # One more: seconds that are floats may end on either side.
            self.due = ceil(due * 1e9) + 1

    def end(self, process: SimulatedProcess, status: str, *, cut: bool) -> None:
        """The process is no more, and the Node will hear of it. cut: of what it had written, some never left it."""
        key = process.key
        if self.processes.pop(key, None) is None:
            return
        self._note(process, "dies:", status)
        self.buried.append(process)
        left: list[Wire] = []
        for wire in self.wires:
            if wire.sender == key:
                wire.end.lose(self._rng.choice((0, self._rng.randrange(256), _ALL)) if cut else _ALL)
            if wire.receiver != key and (wire.sender in self.processes or not wire.end.idle):
                left.append(wire)
        self.wires = left
        self.said[key].append(Exited(key, status))

    # --- What the Node decided

    def _do(self, action: Action) -> None:
        match action:
            case Fork(key, kind):
                self._fork(key, kind)
            case MakePair(one, other):
                self._pair(one, other)
            case Send(key, word):
                self._send(key, word, None)
            case Kill(key):
                if key in self.processes:
                    self.end(self.processes[key], "signal 9 (Killed)", cut=True)
            case Log(text):
                self._note("the Node says:", text)
            case _:
                pass  # there are no listeners, stacks or exit codes

    def _fork(self, key: Key, kind: Class) -> None:
        self._note("the Node forks", f"{key[0]}.{key[1]}")
        said = self.said[key] = deque()

        def say(word: control.ToNode) -> None:
            if key in self.processes:
                said.append(Received(key, word))

        self.processes[key] = self._process(key, kind, say)
        self._todo.append(Forked(key, 0))

    def _pair(self, one: Key, other: Key) -> None:
        for receiver, sender, end in zip((one, other), (other, one), self._memory_pair(), strict=True):
            if sender not in self.processes:
                end.lose()
            if receiver in self.processes:
                wire = Wire(sender, receiver, end)
                self.wires.append(wire)
                self._send(receiver, control.Peer(*sender), wire)

    def _send(self, key: Key, word: control.FromNode, wire: Wire | None) -> None:
        process = self.processes.get(key)
        if process is not None:
            process.heard.append((word, wire))

    def __repr__(self) -> str:
        return f"<SimulatedNode: {len(self.processes)} processes, {len(self.wires)} wires>"
