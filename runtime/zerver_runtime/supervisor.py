"""Supervisors: who is started again when an actor ends, and when to stop trying. `decide` is pure.

    after it ended           permanent  transient  temporary
    -----------------------  ---------  ---------  ---------
    normal, shutdown         restart    forget     forget
    crash, killed, lost      restart    restart    forget

    when one is restarted    which others are stopped, in reverse, and started again with it, in order
    -----------------------  ---------------------------------------------------------------------------
    one_for_one              none
    one_for_all              all
    rest_for_one             those that were started after it

A temporary sibling that is stopped this way is not started again. With more than `intensity.restarts` restarts within
`intensity.seconds` the supervisor gives up: it stops all children, in reverse, and crashes, and then its own supervisor
decides. The terms and rules are those of Erlang/OTP's `supervisor`, but that what is forgotten stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeAlias, get_args

import msgspec

from zerver_runtime.actor import Actor
from zerver_runtime.behaviour import behaviour
from zerver_runtime.message import ActorDead, ActorError, ExitReason, describe
from zerver_runtime.timer import nanoseconds

__all__ = [
    "ChildSpec",
    "Decision",
    "Intensity",
    "Restart",
    "Strategy",
    "Supervisor",
    "TooManyRestarts",
    "child",
    "decide",
]

P = ParamSpec("P")

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]


class Intensity(msgspec.Struct, frozen=True):
    """How many restarts within how many seconds are still worth it. ValueError: a negative number, or no time."""

    restarts: int = 3
    seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.restarts >= 0 or not self.seconds > 0:
            raise ValueError(f"{self}: give 0 or more restarts, and more than 0 seconds")


class ChildSpec(msgspec.Struct, frozen=True):
    """One child: how it is made, and what becomes of it. Made by `child`.

    name: `whereis` finds it by that, after a restart too; unique in the scheduler.
    shutdown: seconds that it has to stop, before it is killed; 0 kills at once, infinity never.
    """

    name: str
    kind: Callable[..., Actor]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    restart: Restart = "permanent"
    shutdown: float = 5.0

    def __post_init__(self) -> None:
        if self.restart not in get_args(Restart):
            raise ValueError(f"child {self.name!r}: restart={self.restart!r}; use one of {get_args(Restart)}")
        if not self.shutdown >= 0:
            raise ValueError(f"child {self.name!r}: shutdown={self.shutdown!r}; give 0 or more seconds")

    def options(self, *, restart: Restart | None = None, shutdown: float | None = None) -> ChildSpec:
        """The same child with other options."""
        return ChildSpec(
            self.name,
            self.kind,
            self.args,
            self.kwargs,
            self.restart if restart is None else restart,
            self.shutdown if shutdown is None else shutdown,
        )


def child(name: str, kind: Callable[P, Actor], /, *args: P.args, **kwargs: P.kwargs) -> ChildSpec:
    """`child("hits", Counter, 3)`: a permanent one, with 5 s to stop. Otherwise: `.options(restart="transient")`."""
    return ChildSpec(name, kind, args, kwargs)


class Decision(msgspec.Struct, frozen=True):
    """What a supervisor has to do now, in this order. Names of children."""

    stop: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    give_up: bool = False
    history: tuple[int, ...] = ()
    """When the restarts were that still count, this one among them."""


def decide(
    children: Sequence[tuple[str, Restart]],
    exited: str,
    reason: ExitReason,
    strategy: Strategy,
    intensity: Intensity,
    history: tuple[int, ...],
    now: int,
) -> Decision:
    """A child has ended, by itself.

    children: those that are not forgotten, `exited` among them, in the order in which they are started.
    history: of the last decision. now: nanoseconds.
    """
    names = [name for name, _ in children]
    kinds = dict(children)
    if kinds[exited] == "temporary" or (kinds[exited] == "transient" and not reason.abnormal):
        return Decision(forget=(exited,), history=history)
    window = nanoseconds(intensity.seconds)
    history = (*(then for then in history if now - then < window), now)
    others = [name for name in names if name != exited]
    if len(history) > intensity.restarts:
        return Decision(stop=tuple(reversed(others)), forget=tuple(names), give_up=True, history=history)
    if strategy == "one_for_one":
        affected = [exited]
    elif strategy == "one_for_all":
        affected = names
    else:
        affected = names[names.index(exited) :]
    return Decision(
        stop=tuple(reversed([name for name in affected if name != exited])),
        forget=tuple([name for name in affected if kinds[name] == "temporary"]),
        start=tuple([name for name in affected if kinds[name] != "temporary"]),
        history=history,
    )


class TooManyRestarts(ActorError):
    """A supervisor has given up: restarting its child does not help."""

    def __init__(self, name: str, restarts: int, seconds: float, last: str) -> None:
        super().__init__(name, restarts, seconds, last)
        self.name, self.restarts, self.seconds, self.last = name, restarts, seconds, last

    def __str__(self) -> str:
        return (
            f"child {self.name!r} ended again after {self.restarts} restarts within {self.seconds:g} s;"
            f" its last end: {self.last}"
        )


class Supervisor(Actor):
    """Starts its children in order when it is made, and keeps them as `decide` says. On this scheduler only.

        spawn(Supervisor, [child("hits", Counter, 0), child("log", Log)], strategy="rest_for_one")

    What a child's `__init__` raises at that first start comes out of `spawn`, and none is left; later it counts as a
    crash of that child. While a sibling is being stopped, exits wait their turn.

    ValueError: two children of one name, or an unknown strategy.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        strategy: Strategy = "one_for_one",
        intensity: Intensity = Intensity(),  # noqa: B008 (frozen)
    ) -> None:
        if strategy not in get_args(Strategy):
            raise ValueError(f"strategy={strategy!r}; use one of {get_args(Strategy)}")
        self._strategy: Strategy = strategy
        self._intensity = intensity
        self._history: tuple[int, ...] = ()
        # In start order. A child is in `_refs` from its start until it has ended, or is told to.
        self._specs = {spec.name: spec for spec in children}
        self._refs: dict[str, Any] = {}
        if len(self._specs) != len(children):
            raise ValueError(f"two children have one name: {[spec.name for spec in children]}")
        try:
            for name in self._specs:
                self._start(name)
        except BaseException:
            self._kill_all()
            raise

    @behaviour
    async def child_exited(self, ref: Actor, reason: ExitReason) -> None:
        """For the scheduler: a child has ended."""
        # One that was stopped by this supervisor, or is of an earlier life, is in `_refs` no more.
        name = next((name for name, known in self._refs.items() if known == ref), None)
        if name is not None:
            del self._refs[name]
            await self._carry_on(name, reason)

    @behaviour
    async def stop(self, reason: Literal["normal", "shutdown"] = "normal") -> None:
        """Stop the children in reverse, each with its time, and then itself."""
        for name in reversed(list(self._specs)):
            await self._stop(name)
        Actor.stop.fn(self, reason)

    @behaviour
    def children(self) -> dict[str, Actor]:
        """The refs of those that run, by name, in start order."""
        return {name: self._refs[name] for name in self._specs if name in self._refs}

    def stopped(self, reason: ExitReason) -> None:
        self._kill_all()

    async def _carry_on(self, exited: str, reason: ExitReason) -> None:
        ended: str | None = exited
        while ended is not None:
            decision = decide(
                [(spec.name, spec.restart) for spec in self._specs.values()],
                ended,
                reason,
                self._strategy,
                self._intensity,
                self._history,
                self._cell.scheduler.clock(),
            )
            self._history = decision.history
            for name in decision.stop:
                await self._stop(name)
            for name in decision.forget:
                del self._specs[name]
            if decision.give_up:
                raise TooManyRestarts(ended, self._intensity.restarts, self._intensity.seconds, str(reason))
            ended = None
            for name in decision.start:
                try:
                    self._start(name)
                except Exception as error:
                    self._cell.scheduler.report(f"starting child {name!r}", error)
                    ended, reason = name, ExitReason("crash", f"{describe(error)} in __init__()")
                    break

    def _start(self, name: str) -> None:
        spec = self._specs[name]
        kind: Any = spec.kind
        scheduler = self._cell.scheduler
        self._refs[name] = scheduler.spawn(kind, spec.args, dict(spec.kwargs), name=name, supervisor=self.ref)

    async def _stop(self, name: str) -> None:
        ref = self._refs.pop(name, None)
        if ref is None:
            return
        seconds = self._specs[name].shutdown
        try:
            if seconds > 0:
                await ref.stop("shutdown").with_timeout(seconds)
        except ActorDead:
            return  # it was quicker
        except ActorError:
            pass  # it takes too long, or its mailbox is full
        self._cell.scheduler.kill(ref)

    def _kill_all(self) -> None:
        for name in reversed(list(self._refs)):
            self._cell.scheduler.kill(self._refs.pop(name))
