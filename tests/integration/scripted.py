"""Effects that do as they are told, and the steps that ask for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Never

import msgspec

from zerver import CtxView, Decision, Done, Effect, Error, ErrorKind, Need, Slot, step
from zerver_runtime.outcome import Failure, Outcome, Success

__all__ = ["SLOTS", "A", "B", "C", "Own", "Script", "done", "needing", "own", "show"]


class A(Slot[int]):
    """The first value."""


class B(Slot[int]):
    """The second."""


class C(Slot[int]):
    """The third."""


SLOTS = (A, B, C)


class Script(msgspec.Struct, frozen=True):
    """What the driver is to do: give ``value``, or fail with ``kind``; with ``held``, when it is told to."""

    name: str
    value: Any = None
    kind: ErrorKind | None = None
    error: str = ""
    """What its error says; its name, where there is nothing."""
    retryable: bool = False
    failures: int | None = None
    """So many attempts fail, and the others succeed; ``None``: all of them fail, where there is a kind."""
    held: bool = False
    delay: float | None = None
    """Seconds after which it is let go, when it is held."""


def own(name: str, value: Any = None, *, target: str = "own", **options: Any) -> Effect[Any]:
    """An effect; ``options`` are those of the :class:`Script` and of the effect."""
    effect_options = {key: options.pop(key) for key in [*options] if key in Effect.__struct_fields__}
    args = Script(name, value, **options)
    return Effect(family="own", op="do", target=target, args=args, idempotent=True, **effect_options)


class Own:
    """Keeps a log of what it was told: ``+name`` started, ``-name`` cancelled."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.threads: set[int] = set()
        self.holding: dict[str, Callable[[Outcome], None]] = {}

    def start(self, effect: Effect[Any], done: Callable[[Outcome], None], /) -> Callable[[], object] | None:
        script = self.script(effect)
        self.log.append(f"+{script.name}")
        self.threads.add(threading.get_ident())
        if not script.held:
            done(self.outcome(script))
            return None
        self.holding[script.name] = done
        if script.delay is not None:
            asyncio.get_running_loop().call_later(script.delay, self.let_go, script)

        def cancel() -> None:
            self.log.append(f"-{script.name}")
            self.holding.pop(script.name)(Success(None))

        return cancel

    def script(self, effect: Effect[Any]) -> Script:
        """What an effect says that is to be done."""
        script: Script = effect.args
        return script

    def outcome(self, script: Script) -> Outcome:
        fails = script.failures is None or self.log.count(f"+{script.name}") <= script.failures
        if script.kind is None or not fails:
            return Success(script.value)
        return Failure(Error(script.kind, script.error or script.name), script.retryable)

    def let_go(self, script: Script) -> None:
        """If it is held still: it may have been cancelled."""
        if script.name in self.holding:
            self.release(script.name, self.outcome(script))

    def release(self, name: str, outcome: Outcome = Success(None)) -> None:  # noqa: B008  # it is frozen
        self.holding.pop(name)(outcome)


def done(ctx: CtxView) -> Decision:
    return Done.text("done")


def needing(*effects: Effect[Any], then: Any = done, **options: Any) -> Any:
    """A step that asks for these."""

    @step(then=(then,))
    def ask_for(ctx: CtxView[Never, A | B | C]) -> Decision:
        return Need(effects, then=then, **options)

    return ask_for


def show(ctx: CtxView[A | B | C]) -> Decision:
    values = [ctx.optional(slot) for slot in SLOTS]
    return Done.json({"values": values, "errors": [one.what for one in ctx.errors]})
