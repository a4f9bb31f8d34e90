"""Where actors live: placing them on the least busy scheduler of the right class, and who is found under a name. Pure.

A top-level actor is kept alive in the Node: when its process dies, or it stops by itself, it is placed anew, with
back-off, until it has failed too often. Every other actor that was placed belongs to whoever asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from zerver_runtime.control import (
    Claim,
    Home,
    Kept,
    Misplaced,
    Moved,
    Named,
    Placed,
    Spawn,
    Spawned,
    ToNode,
    Unclaim,
    Wanted,
)
from zerver_runtime.node_words import Action, Log, NodeLimits, Send
from zerver_runtime.scheduler_view import Backoff, Key, SchedulerView

__all__ = ["ActorSpec", "Placement", "least_busy"]


class ActorSpec(msgspec.Struct, frozen=True):
    """A top-level actor. path: "module:Class", imported where it is placed; arguments: as the codec encoded them;
    affinity: "performance", "efficiency" or "none"."""

    path: str
    arguments: bytes
    affinity: str = "none"


class _Home(msgspec.Struct, frozen=True):
    key: Key
    actor: bytes
    path: str


class _Top:
    __slots__ = ("backoff", "due", "given_up", "home", "pending", "spec")

    def __init__(self, spec: ActorSpec, backoff: Backoff) -> None:
        self.spec = spec
        self.backoff = backoff
        self.home: Key | None = None
        self.pending: int | None = None  # the request that is to give it a home
        self.due: float | None = None  # not before this time (seconds)
        self.given_up = False


class _Request:
    __slots__ = ("affinity", "arguments", "correlation", "name", "origin", "path", "target")

    def __init__(
        self, path: str, arguments: bytes, affinity: str, name: str | None, origin: Key | None, correlation: int
    ) -> None:
        self.path = path
        self.arguments = arguments
        self.affinity = affinity
        self.name = name
        self.origin = origin  # who gets the answer; None: this is a top-level actor
        self.correlation = correlation
        self.target: Key | None = None  # who was told to spawn


def least_busy(takers: Sequence[SchedulerView], affinity: str) -> SchedulerView | None:
    """The one to place an actor on. An affinity is a preference: without one of its class any other is taken;
    "none" is the performance class first. None when there are no takers."""
    kind = "performance" if affinity == "none" else affinity
    fit = [view for view in takers if view.kind == kind] or takers
    return min(fit, key=lambda view: (view.load + view.placed, view.placed, view.key), default=None)


class Placement:
    """Belongs to one `NodeState`, which calls `settle` after every event."""

    def __init__(self, actors: Mapping[str, ActorSpec], limits: NodeLimits) -> None:
        self._limits = limits
        self._own = frozenset(actors)  # those of the Node itself
        self._tops = {name: _Top(spec, limits.backoff()) for name, spec in actors.items()}
        self._homes: dict[str, _Home] = {}
        # Who would have the name if it were free, in the order of asking: after a reload, those of the new processes.
        self._heirs: dict[str, dict[Key, _Home]] = {}
        self._requests: dict[int, _Request] = {}
        self._made = 0

    def names(self) -> Iterator[Named]:
        """All that a new process has to know."""
        for name, home in self._homes.items():
            yield Named(name, home.actor, home.path)

    def wake_at(self) -> float | None:
        return min((top.due for top in self._tops.values() if top.due is not None), default=None)

    def received(
        self, key: Key, word: ToNode, now: float, actions: list[Action], linked: Sequence[SchedulerView]
    ) -> None:
        match word:
            case Wanted(correlation, path, arguments, affinity, name):
                self._ask(_Request(path, arguments, affinity, name, key, correlation))
            case Spawned(number, actor, why):
                request = self._requests.get(number)
                if request is not None and request.target == key:
                    del self._requests[number]
                    self._placed(request, key, actor, why, now, actions, linked)
            case Claim(name, actor, path):
                self._claim(name, _Home(key, actor, path), actions, linked)
            case Unclaim(name, actor, why):
                home = self._homes.get(name)
                if home is not None and home.actor == actor:
                    self._forget(name, actions, linked)
                    self._homeless(name, key, why, now, actions)
            case _:
                pass

    def lost(self, key: Key, now: float, actions: list[Action], linked: Sequence[SchedulerView]) -> None:
        """A process is gone, and with it all that lived there."""
        for heirs in self._heirs.values():
            heirs.pop(key, None)
        for name in [name for name, home in self._homes.items() if home.key == key]:
            self._forget(name, actions, linked)
        for number, request in list(self._requests.items()):
            if request.origin == key:
                del self._requests[number]
            elif request.target == key:
                request.target = None  # whatever it had spawned died with it
        for name in self._tops:
            self._homeless(name, key, "its scheduler died", now, actions)

    def keep(self, actors: Sequence[Kept], *, alone: bool = False) -> None:
        """Top-level actors that the application declares. One that runs goes on; what is new of it counts when it is
        next placed. alone: those that it declared before, and now does not, are kept no longer."""
        for one in actors:
            if one.name in self._own:
                continue
            spec = ActorSpec(one.path, one.arguments, one.affinity)
            top = self._tops.get(one.name)
            if top is None:
                top = self._tops[one.name] = _Top(spec, self._limits.backoff())
                holder = self._homes.get(one.name)
                top.home = holder.key if holder is not None else None
            elif top.spec != spec or alone:
                if top.given_up:  # with other code it may do better
                    top.given_up, top.backoff, top.due = False, self._limits.backoff(), None
                top.spec = spec
        if alone:
            for name in self._tops.keys() - self._own - {one.name for one in actors}:
                del self._tops[name]

    @property
    def placing(self) -> bool:
        """Whether a top-level actor waits for the home that it is being given."""
        return any(top.pending is not None for top in self._tops.values())

    def moved(self, old: set[Key], actions: list[Action], linked: Sequence[SchedulerView]) -> None:
        """These processes are about to drain: their top-level actors get a new home, and keep the old one's name
        until they have it; of all others, the next ones that wait for a name have it at once."""
        for name, home in list(self._homes.items()):
            if home.key in old and (heirs := self._heirs.get(name)):
                for key in old & heirs.keys():
                    del heirs[key]
                if heirs:
                    self._forget(name, actions, linked)
        for top in self._tops.values():
            if top.home in old:
                top.home = None
        for request in self._requests.values():
            if request.target in old:
                request.target = None

    def settle(
        self, takers: Sequence[SchedulerView], now: float, actions: list[Action], linked: Sequence[SchedulerView]
    ) -> None:
        """Give every homeless top-level actor and every waiting request a place, if somebody takes it.

        While the Node starts, the class that it prefers is worth waiting for; later, whoever is ready takes it."""
        coming = {view.kind for view in linked if view.state == "starting" and view.incarnation == 1}
        coming -= {view.kind for view in takers}
        for name, top in self._tops.items():
            if top.home is None and top.pending is None and not top.given_up and (top.due is None or now >= top.due):
                top.due = None
                spec = top.spec
                top.pending = self._ask(_Request(spec.path, spec.arguments, spec.affinity, name, None, 0))
        for number, request in self._requests.items():
            if request.target is None and request.affinity not in coming:
                target = least_busy(takers, request.affinity)
                if target is None:
                    return
                target.placed += 1
                request.target = target.key
                actions.append(
                    Send(target.key, Spawn(number, request.path, request.arguments, request.name, request.affinity))
                )

    # --- Moves, of actors that a process has found on the wrong class

    def misplaced(self, key: Key, word: Misplaced, takers: Sequence[SchedulerView], actions: list[Action]) -> None:
        target = least_busy([view for view in takers if view.kind == word.affinity], word.affinity)
        if target is not None:
            target.placed += word.count
            actions.append(Send(key, Home(word.affinity, *target.key)))

    def arrived(
        self,
        key: Key,
        word: Moved,
        takers: Sequence[SchedulerView],
        actions: list[Action],
        linked: Sequence[SchedulerView],
    ) -> None:
        """The one place where a move is decided: only the actor that has the name now can take it along."""
        home = self._homes.get(word.name)
        top = self._tops.get(word.name)
        if (
            home is None
            or home.actor != word.was
            or (top is not None and top.home != home.key)  # it is to be made anew, elsewhere
            or not any(view.key == key for view in takers)
        ):
            actions.append(Send(key, Named(word.name, home.actor, home.path) if home is not None else Named(word.name)))
            return
        self._homes[word.name] = _Home(key, word.actor, word.path)
        if top is not None:
            top.home = key
        actions += [Send(view.key, Named(word.name, word.actor, word.path, word.was)) for view in linked]

    # --- Steps

    def _ask(self, request: _Request) -> int:
        self._made += 1
        self._requests[self._made] = request
        return self._made

    def _placed(
        self,
        request: _Request,
        key: Key,
        actor: bytes,
        why: str,
        now: float,
        actions: list[Action],
        linked: Sequence[SchedulerView],
    ) -> None:
        if request.name is not None and actor:
            self._claim(request.name, _Home(key, actor, request.path), actions, linked, take=request.origin is None)
        if request.origin is not None:
            if any(view.key == request.origin for view in linked):
                actions.append(Send(request.origin, Placed(request.correlation, actor, why)))
            return
        assert request.name is not None
        top = self._tops.get(request.name)
        if top is None:
            return  # it is kept no longer
        top.pending = None
        top.home = key
        if not actor:
            self._homeless(request.name, key, why, now, actions)

    def _claim(
        self, name: str, home: _Home, actions: list[Action], linked: Sequence[SchedulerView], take: bool = False
    ) -> None:
        holder = self._homes.get(name)
        if (holder is not None and holder.actor != home.actor and not take) or (name in self._tops and not take):
            if holder is None or holder.key[0] != home.key[0]:  # else the one that has it is about to hand it on
                actions.append(Log(f"the name {name!r} is taken; the new actor of {home.path} has to wait for it"))
            if name not in self._tops:
                self._heirs.setdefault(name, {})[home.key] = home
            held = Named(name, holder.actor, holder.path) if holder is not None else Named(name)
            actions.append(Send(home.key, held))
            return
        self._homes[name] = home
        actions += [Send(view.key, Named(name, home.actor, home.path)) for view in linked]

    def _forget(self, name: str, actions: list[Action], linked: Sequence[SchedulerView]) -> None:
        del self._homes[name]
        heirs = self._heirs.pop(name, {})
        for key in list(heirs):
            heir = heirs.pop(key)
            if any(view.key == key for view in linked):
                self._heirs[name] = heirs
                self._claim(name, heir, actions, linked)
                return
        actions += [Send(view.key, Named(name)) for view in linked]

    def _homeless(self, name: str, key: Key, why: str, now: float, actions: list[Action]) -> None:
        top = self._tops.get(name)
        if top is None or top.home != key:
            return
        top.home = None
        delay = top.backoff.restart(now)
        if delay is None:
            top.given_up = True
            limits = self._limits
            actions.append(
                Log(f"giving up actor {name!r}: {limits.intensity} restarts within {limits.window:g} s; last: {why}")
            )
        else:
            top.due = now + delay

    def __repr__(self) -> str:
        return f"<Placement: {len(self._homes)} names, {len(self._requests)} requests>"
