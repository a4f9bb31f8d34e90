"""The Node decides: which process is forked, restarted, replaced, drained; who listens; where actors are placed. Pure.

`NodeState.handle(event, now)` changes the state and returns what is to be done, in order; `process` does it. After
each event the state is *settled*: what should be (a process in each slot, somebody at each listener, a home for each
wanted actor) is compared with what is, and the difference becomes actions. So no event needs to know what follows
from it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from zerver_runtime import control
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
    NodeLimits,
    Received,
    Send,
    Serving,
    Signalled,
    Start,
    StopListening,
    Tick,
)
from zerver_runtime.placement import ActorSpec, Placement
from zerver_runtime.scheduler_view import Class, Key, SchedulerView, SlotView

__all__ = ["NodeState"]

_SAME_BOOT_FAILURE = 3
"""Boots that fail for the same reason in a row before the Node takes the reason for a deterministic one."""

_Slots: TypeAlias = dict[int, SlotView]


class NodeState:
    """Belongs to one Node.

    performance, efficiency, compute: processes of each class. Slots are numbered in that order, from 0; listener i
        belongs to slot i.
    listeners: how many there are: one for each performance scheduler, or one that slot 0 owns and all share (`shared`).
    actors: top-level actors by name; one instance of each is kept in the Node.
    """

    def __init__(
        self,
        performance: int,
        efficiency: int = 1,
        compute: int = 0,
        *,
        listeners: int = 0,
        shared: bool = False,
        actors: Mapping[str, ActorSpec] | None = None,
        limits: NodeLimits | None = None,
        no_reload: str = "",
    ) -> None:
        self._limits = limits or NodeLimits()
        self._no_reload = no_reload
        counts: list[tuple[Class, int]] = [
            ("performance", performance),
            ("efficiency", efficiency),
            ("compute", compute),
        ]
        kinds: list[Class] = [kind for kind, count in counts for _ in range(count)]
        self.slots: _Slots = {
            number: SlotView(number, kind, self._limits.backoff()) for number, kind in enumerate(kinds)
        }
        self.views: dict[Key, SchedulerView] = {}
        self._placement = Placement(actors or {}, self._limits)
        # Listeners that are open, and which processes accept from each (owner or adopter; all of them when shared).
        self._listeners = set(range(listeners))
        self._shared = shared
        self._serving: set[tuple[int, Key]] = set()
        # While a reload is under way: the processes that are to take over.
        self._incoming: set[Key] = set()
        self._reload_again = False
        self._promised: tuple[control.Kept, ...] | None = None  # the actors that they declare
        # Once stopping: when patience ends (seconds).
        self._stop_by: float | None = None
        self._draining: set[Class] = set()
        self.exit_code: int | None = None
        self._failed = False
        self._killed_by = 0  # the number of the signal, where that ended all at once
        self._failure = ""  # what the application said of its start, or of its end
        self._served = False  # a performance scheduler was ready once

    # --- Events

    def handle(self, event: Event, now: float) -> list[Action]:
        """What is to be done now, in order. Events about processes that are gone ask for nothing."""
        actions: list[Action] = []
        if self.exit_code is not None:
            return actions
        match event:
            case Start() | Tick():
                self._watch(now, actions)
            case Forked(key, pid):
                if view := self.views.get(key):
                    view.pid = pid
            case Received(key, word):
                if view := self.views.get(key):
                    self._received(view, word, now, actions)
            case Lost(key):
                # It cannot be told anything any more, so it is of no use; its exit follows.
                if key in self.views:
                    actions.append(Kill(key))
            case Exited(key, status):
                if view := self.views.pop(key, None):
                    self._exited(view, status, now, actions)
            case Signalled(name):
                self._signalled(name, now, actions)
        self._settle(now, actions)
        return actions

    def wake_at(self) -> float | None:
        """When the next `Tick` is due at the latest (seconds); None: only when something happens."""
        limits = self._limits
        stopping = self._stop_by
        if stopping is None:
            times = [slot.due for slot in self.slots.values() if slot.due is not None]
            due = self._placement.wake_at()
            if due is not None:
                times.append(due)
        else:
            times = [stopping]  # nothing is restarted or placed any more, so what was due must not wake the Node
        for view in self.views.values():
            if view.state == "starting":
                times.append(view.since + limits.boot)
            elif view.state in ("leaving", "draining"):
                times.append(view.since + limits.grace)
            if view.state == "ready" and view.linked:
                times.append(view.beat + (limits.replace_after if view.dumped else limits.stuck_after))
        return min(times, default=None)

    # --- What a process says

    def _received(self, view: SchedulerView, word: control.ToNode, now: float, actions: list[Action]) -> None:
        match word:
            case control.Ready():
                view.beat = now
                if slot := self.slots.get(view.slot):
                    slot.boot_failure, slot.boot_failures = "", 0
                if view.state == "starting":
                    view.state, view.since = "ready", now
                    if view.kind == "performance" and not self._served:
                        self._served = True
                        actions.append(Serving())
            case control.BootFailed(why, told):
                if view.state != "starting":
                    return
                if told and view.key in self._incoming:
                    actions.append(Log(why))
                    self._abandon_reload(now, actions)
                    return
                if told and not self._served and not self._incoming:
                    # Nobody has served yet, so whoever started the Node is there to mend it. With a reload under way
                    # it may have been mended.
                    self._fail(why)
                    self._stop(now, actions)
                    return
                if slot := self.slots.get(view.slot):  # none: it was shrunk away while it booted
                    slot.boot_failures = slot.boot_failures + 1 if slot.boot_failure == why else 1
                    slot.boot_failure = why
                actions.append(Log(f"{view.kind} scheduler {view.slot}.{view.incarnation} could not boot: {why}"))
            case control.DrainFailed(why):
                if self._stop_by is None:
                    actions.append(Log(why))
                else:
                    self._fail(why)
            case control.Beat(load, handled, dead_letters):
                if view.dumped:
                    actions.append(Log(f"scheduler {view.slot}.{view.incarnation} yields again"))
                view.beat, view.dumped, view.placed = now, False, 0
                view.load, view.handled, view.dead_letters = load, handled, dead_letters
            case control.Keep(actors) if view.key in self._incoming:
                self._promised = actors
            case control.Keep(actors):
                self._placement.keep(actors)
            case control.Relink(slot, incarnation):
                if any(other.key == (slot, incarnation) for other in self._linked()):
                    actions.append(MakePair(view.key, (slot, incarnation)))
            case control.Replace(slot, incarnation):
                worker = self.views.get((slot, incarnation))
                if worker is not None and worker.kind == "compute":
                    worker.unwanted = True
                    actions.append(Kill(worker.key))
            case control.Misplaced():
                self._placement.misplaced(view.key, word, self._takers() if view.ready else [], actions)
            case control.Moved():
                self._placement.arrived(view.key, word, self._takers(), actions, self._linked())
            case _:
                self._placement.received(view.key, word, now, actions, self._linked())

    # --- Death and restart

    def _exited(self, view: SchedulerView, status: str, now: float, actions: list[Action]) -> None:
        key = view.key
        self._serving = {(listener, who) for listener, who in self._serving if who != key}
        lost = control.PeerLost if view.linked else control.WorkerLost
        actions += [Send(other.key, lost(*key, status)) for other in self._linked()]
        self._placement.lost(key, now, actions, self._linked())
        if self._stop_by is not None or view.state in ("leaving", "draining", "halting"):
            return
        if view.unwanted:
            why = f"compute worker {view.slot}.{view.incarnation} (pid {view.pid}) replaced: a task had to end"
            actions.append(Log(why))
        else:
            actions.append(Log(f"{view.title} died: {status}"))
        if key in self._incoming:
            self._abandon_reload(now, actions)
            return
        if any(other.slot == view.slot and other.state in ("starting", "ready") for other in self.views.values()):
            return  # its replacement is starting already
        slot = self.slots.get(view.slot)
        if slot is not None and view.unwanted:
            slot.restarts += 1
            slot.due = now
        elif slot is not None:
            self._restart(slot, status, now, actions)

    def _restart(self, slot: SlotView, status: str, now: float, actions: list[Action]) -> None:
        delay = slot.backoff.restart(now)
        if delay is None and slot.kind == "compute":
            delay = self._limits.restart_cap  # it was some task's fault, and the next one's may be none
        if slot.boot_failures >= _SAME_BOOT_FAILURE:
            why = f"its boot failed {slot.boot_failures} times in a row in the same way: {slot.boot_failure}"
        elif delay is None:
            why = f"{self._limits.intensity} restarts within {self._limits.window:g} s were too many; last: {status}"
        else:
            slot.restarts += 1
            slot.due = now + delay
            return
        slot.given_up = why
        actions.append(Log(f"giving up {slot.kind} scheduler {slot.number}: {why}"))
        if not self._shared:
            self._close_listener(slot.number, actions)
        left = [one for one in self.slots.values() if one.kind == slot.kind == "performance" and not one.given_up]
        if slot.kind == "performance" and not left:
            actions.append(Log("no performance scheduler is left: the Node stops"))
            self._failed = True
            self._stop(now, actions)

    def _fork(self, slot: SlotView, now: float, actions: list[Action], *, incoming: bool = False) -> SchedulerView:
        slot.incarnation += 1
        slot.due = None
        view = SchedulerView(slot.number, slot.incarnation, slot.kind, 0, now)
        actions.append(Fork(view.key, view.kind))
        if view.linked:
            actions += [MakePair(other.key, view.key) for other in self._linked()]
            actions += [Send(view.key, word) for word in self._placement.names()]
        self.views[view.key] = view
        for other in self.views.values():
            if other.linked != view.linked and other.state in ("starting", "ready"):
                worker, scheduler = (other, view) if view.linked else (view, other)
                # After a reload, the modules that an old worker has imported are not those of the new schedulers.
                fresh = worker is view and not incoming
                if fresh or (other.key in self._incoming) is incoming:
                    actions.append(Lend(worker.key, scheduler.key))
        return view

    def _watch(self, now: float, actions: list[Action]) -> None:
        limits = self._limits
        if self._stop_by is not None and now >= self._stop_by:
            actions += [Kill(view.key) for view in self.views.values()]
            self._stop_by = now + limits.grace
        for view in self.views.values():
            silent = now - view.beat
            if view.state == "draining" and now >= view.since + limits.grace:
                actions += [Log(f"{view.title} did not drain within {limits.grace:g} s: killed"), Kill(view.key)]
                view.state = "halting"
            elif view.state == "starting" and now >= view.since + limits.boot:
                actions += [Log(f"{view.title} did not boot within {limits.boot:g} s: killed"), Kill(view.key)]
                view.since = now
            elif view.state == "ready" and view.linked and silent >= limits.replace_after:
                actions += [Log(f"{view.title} has not yielded for {silent:.1f} s: replaced"), Kill(view.key)]
                view.beat = now
            elif view.state == "ready" and view.linked and silent >= limits.stuck_after and not view.dumped:
                view.dumped = True
                actions += [Log(f"{view.title} has not yielded for {silent:.1f} s"), DumpStack(view.key)]

    # --- Signals: stop, reload, shrink

    def _signalled(self, name: str, now: float, actions: list[Action]) -> None:
        if name in ("TERM", "INT"):
            if self._stop_by is None:
                self._stop(now, actions)
            else:
                self._killed_by = 2 if name == "INT" else 15
                actions += [Kill(view.key) for view in self.views.values()]
        elif self._stop_by is None and name == "HUP":
            self._reload(now, actions)
        elif self._stop_by is None and name == "TTOU":
            self._shrink(now, actions)

    def _stop(self, now: float, actions: list[Action]) -> None:
        self._stop_by = now + self._limits.grace
        self._incoming.clear()
        for slot in self.slots.values():
            slot.due = None
        actions.append(StopListening())

    def _fail(self, why: str) -> None:
        self._failed = True
        self._failure = self._failure or why

    def _reload(self, now: float, actions: list[Action]) -> None:
        if self._no_reload:
            actions.append(Log(self._no_reload))
            return
        if self._incoming:
            # What it has imported may be older than what this one is for.
            self._reload_again = True
            return
        for slot in self.slots.values():
            if not slot.given_up and slot.due is None:
                self._incoming.add(self._fork(slot, now, actions, incoming=True).key)

    def _abandon_reload(self, now: float, actions: list[Action]) -> None:
        actions.append(Log("the reload failed: the old schedulers go on serving"))
        for key in self._incoming:
            if view := self.views.get(key):
                view.state, view.since = "halting", now
                actions.append(Kill(key))
            slot = self.slots[key[0]]
            slot.boot_failure, slot.boot_failures = "", 0
            # Its old process may have died meanwhile, counting on the new one.
            old = [view for view in self.views.values() if view.slot == slot.number]
            if not any(view.state in ("starting", "ready") for view in old):
                self._restart(slot, "its old process died during a reload that failed", now, actions)
        self._incoming.clear()
        self._promised = None
        self._follow_reload(now, actions)

    def _follow_reload(self, now: float, actions: list[Action]) -> None:
        if self._reload_again:
            self._reload_again = False
            self._reload(now, actions)

    def _shrink(self, now: float, actions: list[Action]) -> None:
        numbers = [slot.number for slot in self.slots.values() if slot.kind == "performance" and not slot.given_up]
        if len(numbers) < 2 or self._incoming:
            actions.append(Log("not shrunk: one performance scheduler has to stay, and no reload may be under way"))
            return
        number = max(numbers)
        del self.slots[number]
        for view in self.views.values():
            if view.slot == number and view.state != "draining":
                self._drain(view, now, actions)
        if not self._shared:
            self._close_listener(number, actions)

    def _drain(self, view: SchedulerView, now: float, actions: list[Action]) -> None:
        view.state, view.since = "draining", now
        self._serving = {(listener, who) for listener, who in self._serving if who != view.key}
        actions.append(Send(view.key, control.Drain()))

    def _close_listener(self, listener: int, actions: list[Action]) -> None:
        if listener in self._listeners:
            self._listeners.discard(listener)
            self._serving = {(one, who) for one, who in self._serving if one != listener}
            # The Node first, then the others, who each accept what waits before they close: so the last one to
            # close has just emptied the queue.
            actions.append(CloseListener(listener))
            actions += [Send(v.key, control.Close(listener)) for v in self._linked() if v.kind == "performance"]

    # --- What should be, compared with what is

    def _settle(self, now: float, actions: list[Action]) -> None:
        if self._stop_by is not None:
            self._settle_stop(now, actions)
            return
        for slot in self.slots.values():
            if slot.incarnation == 0 or (slot.due is not None and now >= slot.due):
                self._fork(slot, now, actions)
        if self._incoming and all(self.views[key].ready for key in self._incoming):
            incoming, self._incoming = self._incoming, set()
            slots = {slot for slot, _ in incoming}
            if self._promised is not None:
                self._placement.keep(self._promised, alone=True)
                self._promised = None
            old = [view for view in self.views.values() if view.slot in slots and view.key not in incoming]
            self._placement.moved({view.key for view in old}, actions, self._linked())
            for view in old:
                if view.state in ("ready", "starting"):
                    view.state, view.since = "leaving", now
            self._settle_listeners(actions)
            actions.append(Serving())
            self._follow_reload(now, actions)
        self._settle_listeners(actions)
        self._placement.settle(self._takers(), now, actions, self._linked())
        for view in self.views.values():
            if view.state == "leaving" and (not self._placement.placing or now >= view.since + self._limits.grace):
                self._drain(view, now, actions)

    def _settle_stop(self, now: float, actions: list[Action]) -> None:
        # Performance first: what they still have to say may go to the efficiency scheduler (traces, metrics).
        order: tuple[Class, ...] = ("performance", "efficiency", "compute")
        for kind in order:
            alive = [view for view in self.views.values() if view.kind == kind]
            if not alive:
                continue
            for view in alive:
                if view.state in ("starting", "ready", "leaving"):
                    self._drain(view, now, actions)
            return
        self.exit_code = 128 + self._killed_by if self._killed_by else 1 if self._failed else 0
        actions.append(Exit(self.exit_code, self._failure))

    def _settle_listeners(self, actions: list[Action]) -> None:
        ready = [v for v in self.views.values() if v.state in ("ready", "leaving") and v.kind == "performance"]
        old = [view for view in ready if view.key not in self._incoming]
        # One that does not yield cannot be told to leave its listener, and does not accept from it either.
        awake = [view for view in old if not view.dumped]
        wanted: set[tuple[int, Key]] = set()
        for listener in sorted(self._listeners):
            owners = old if self._shared else [view for view in old if view.slot == listener]
            wanted.update((listener, view.key) for view in owners)
            if awake and all(view.dumped for view in owners):
                here = [view for view in awake if (listener, view.key) in self._serving]
                busy = {view.key: sum(who == view.key for _, who in wanted) for view in awake}
                adopter = here[0] if here else min(awake, key=lambda view: (busy[view.key], view.load, view.key))
                wanted.add((listener, adopter.key))
        actions += [Send(who, control.Serve(listener)) for listener, who in sorted(wanted - self._serving)]
        actions += [
            Send(who, control.Yield(listener)) for listener, who in sorted(self._serving - wanted) if who in self.views
        ]
        self._serving = wanted

    # --- Views

    def _linked(self) -> list[SchedulerView]:
        return [view for view in self.views.values() if view.linked]

    def _takers(self) -> list[SchedulerView]:
        """Those that take actors: ready, and not about to take over before the reload is complete. One that does not
        yield takes them only where all are like that."""
        if self._stop_by is not None:
            return []
        ready = [view for view in self._linked() if view.ready and view.key not in self._incoming]
        return [view for view in ready if not view.dumped] or ready

    def statistics(self) -> Iterator[dict[str, object]]:
        """One row for each process: what its SchedulerView holds, and the restarts of its slot."""
        for view in self.views.values():
            slot = self.slots.get(view.slot)
            row: dict[str, object] = {name: getattr(view, name) for name in SchedulerView.__slots__}
            yield {**row, "restarts": slot.restarts if slot else 0}

    def __repr__(self) -> str:
        ready = sum(view.ready for view in self.views.values())
        state = "stopping" if self._stop_by is not None else "reloading" if self._incoming else "running"
        return f"<NodeState {state}: {ready} of {len(self.slots)} ready>"
