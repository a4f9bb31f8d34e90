"""``await need(...)``: asking for effects from an ``async def`` step.

The step's coroutine is driven by the interpreter, by hand: ``need`` suspends it with a Need, and it goes on with
the values when that resolves. No event loop is involved.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import Any, Generic, Literal, TypeVar, overload

from zerver_runtime.reactor.join import Join, Mode

from .decision import Need
from .effect import Effect
from .error import DefinitionError

__all__ = ["Asking", "need"]

T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
T7 = TypeVar("T7")
T8 = TypeVar("T8")
R_co = TypeVar("R_co", covariant=True)

_Waiting = Literal["all", "all_required"]
_Racing = Literal["any", "first_success"]


class Asking(Generic[R_co]):
    """What ``await`` is applied to: the Need, on its way to the interpreter."""

    __slots__ = ("awaited", "need", "single")

    def __init__(self, need: Need, single: bool) -> None:
        self.need = need
        self.single = single
        self.awaited = False

    # Any as what is sent: else mypy takes 'x: str = await need(...)' for Any.
    def __await__(self) -> Generator[Asking[R_co], Any, R_co]:
        self.awaited = True
        value: R_co = yield self
        return value

    def __del__(self) -> None:
        # As Python warns of coroutines: what is not awaited does not happen, and nobody would know.
        if not getattr(self, "awaited", True):
            labels = ", ".join(effect.label for effect in self.need.effects)
            warnings.warn(f"need({labels}) was never awaited: write 'await need(...)'", RuntimeWarning, stacklevel=2)


@overload
def need(e1: Effect[T1], /, *, join: _Waiting = "all", mode: Mode = "parallel", detach: bool = False) -> Asking[T1]: ...
@overload
def need(e1: Effect[T1], /, *, join: _Racing, mode: Mode = "parallel") -> Asking[T1 | None]: ...
@overload
def need(
    e1: Effect[T1], e2: Effect[T2], /, *, join: _Waiting = "all", mode: Mode = "parallel", detach: bool = False
) -> Asking[tuple[T1, T2]]: ...
@overload
def need(
    e1: Effect[T1], e2: Effect[T2], /, *, join: _Racing, mode: Mode = "parallel"
) -> Asking[tuple[T1 | None, T2 | None]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    /,
    *,
    join: _Waiting = "all",
    mode: Mode = "parallel",
    detach: bool = False,
) -> Asking[tuple[T1, T2, T3]]: ...
@overload
def need(
    e1: Effect[T1], e2: Effect[T2], e3: Effect[T3], /, *, join: _Racing, mode: Mode = "parallel"
) -> Asking[tuple[T1 | None, T2 | None, T3 | None]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    /,
    *,
    join: _Waiting = "all",
    mode: Mode = "parallel",
    detach: bool = False,
) -> Asking[tuple[T1, T2, T3, T4]]: ...
@overload
def need(
    e1: Effect[T1], e2: Effect[T2], e3: Effect[T3], e4: Effect[T4], /, *, join: _Racing, mode: Mode = "parallel"
) -> Asking[tuple[T1 | None, T2 | None, T3 | None, T4 | None]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    e5: Effect[T5],
    /,
    *,
    join: _Waiting = "all",
    mode: Mode = "parallel",
    detach: bool = False,
) -> Asking[tuple[T1, T2, T3, T4, T5]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    e5: Effect[T5],
    /,
    *,
    join: _Racing,
    mode: Mode = "parallel",
) -> Asking[tuple[T1 | None, T2 | None, T3 | None, T4 | None, T5 | None]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    e5: Effect[T5],
    e6: Effect[T6],
    /,
    *,
    join: _Waiting = "all",
    mode: Mode = "parallel",
    detach: bool = False,
) -> Asking[tuple[T1, T2, T3, T4, T5, T6]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    e5: Effect[T5],
    e6: Effect[T6],
    /,
    *,
    join: _Racing,
    mode: Mode = "parallel",
) -> Asking[tuple[T1 | None, T2 | None, T3 | None, T4 | None, T5 | None, T6 | None]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    e5: Effect[T5],
    e6: Effect[T6],
    e7: Effect[T7],
    /,
    *,
    join: _Waiting = "all",
    mode: Mode = "parallel",
    detach: bool = False,
) -> Asking[tuple[T1, T2, T3, T4, T5, T6, T7]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    e5: Effect[T5],
    e6: Effect[T6],
    e7: Effect[T7],
    /,
    *,
    join: _Racing,
    mode: Mode = "parallel",
) -> Asking[tuple[T1 | None, T2 | None, T3 | None, T4 | None, T5 | None, T6 | None, T7 | None]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    e5: Effect[T5],
    e6: Effect[T6],
    e7: Effect[T7],
    e8: Effect[T8],
    /,
    *,
    join: _Waiting = "all",
    mode: Mode = "parallel",
    detach: bool = False,
) -> Asking[tuple[T1, T2, T3, T4, T5, T6, T7, T8]]: ...
@overload
def need(
    e1: Effect[T1],
    e2: Effect[T2],
    e3: Effect[T3],
    e4: Effect[T4],
    e5: Effect[T5],
    e6: Effect[T6],
    e7: Effect[T7],
    e8: Effect[T8],
    /,
    *,
    join: _Racing,
    mode: Mode = "parallel",
) -> Asking[tuple[T1 | None, T2 | None, T3 | None, T4 | None, T5 | None, T6 | None, T7 | None, T8 | None]]: ...
def need(*effects: Effect[Any], join: Join = "all", mode: Mode = "parallel", detach: bool = False) -> Asking[Any]:
    """Ask for up to 8 effects from an async step: ``row, weather = await need(load, forecast)``.

    Gives the value of one effect, or a tuple of several, in order. ``None`` stands for an optional effect that
    failed or was dropped; under ``any`` and ``first_success`` also for those that lost. If the Need fails, the
    request does: the step does not go on, only its ``finally`` runs.

    :raises DefinitionError: no effect at all, or what :class:`~zerver.decision.Need` refuses.
    """
    if not effects:
        raise DefinitionError("need(): give at least one effect")
    return Asking(Need(effects, mode=mode, join=join, detach=detach), len(effects) == 1)
