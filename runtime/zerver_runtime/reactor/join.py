"""When is a group of effects done, and what becomes of the rest? The pure state of one join.

A join watches n effects by index (0 .. n-1, in declaration order). All that it knows of an effect is
whether it is *required* (R) or *optional* (O), and whether it has settled: once, as success or failure,
retries included. The join *resolves* exactly once, as `resumed` or as `failed`:

    join           resumes when                             fails when                  what is left then
    -------------  ---------------------------------------  --------------------------  ------------------
    all            all have settled, and no R failed        an R fails                  is cancelled
    all_required   every R has succeeded                    an R fails                  is cancelled; with
                                                                                        detach, each O goes on
    any            one settles, success or failure          never                       is cancelled
    first_success  one succeeds; or all settled, none       all settled, none           is cancelled
                   succeeded and no R is among them         succeeded, an R among them

- No effects: every join resumes at once.
- The error is that of the R whose failure resolved the join; for `first_success` that of the first R.
- `parallel` starts all effects at once. `sequential` starts each when the one before it has settled, and
  none after the resolution. So `sequential` + `first_success` is a chain of fallbacks.
- `detach` (with `all_required` only): the join never cancels an optional effect, whether it resumes or
  fails. Each runs to its end in the background, also one that had not begun.

Decide, then do: every call returns a `Verdict`, which says what its caller has to do now. The caller
starts and cancels effects, writes slots and runs the continuation; nothing here knows of any of that.

    join = JoinState([True, False], "all_required")
    join.begin()           # Verdict(start=(0, 1))
    join.record(0, True)   # Verdict(state='resumed', cancel=(1,))
    join.record(1, True)   # Verdict(arrival='late'): nothing to do
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

import msgspec

__all__ = ["PENDING", "Arrival", "Join", "JoinState", "Mode", "State", "Verdict", "check"]

Join: TypeAlias = Literal["all", "all_required", "any", "first_success"]
Mode: TypeAlias = Literal["parallel", "sequential"]
State: TypeAlias = Literal["pending", "resumed", "failed"]
Arrival: TypeAlias = Literal["counted", "late", "duplicate", "unknown"]

_JOINS: tuple[str, ...] = get_args(Join)
_MODES: tuple[str, ...] = get_args(Mode)


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What the caller has to do now. Over the life of a join:

    - exactly one verdict has a `state` other than "pending", and only that one cancels or detaches;
    - no effect is named twice in `start`, nor in `cancel` and `detach` together, and these two name
      exactly the effects that had not settled at the resolution;
    - a verdict whose `arrival` is not "counted" asks for nothing.

    Indexes are in declaration order.
    """

    start: tuple[int, ...] = ()
    """Effects to start now."""
    state: State = "pending"
    """How this very call resolved the join, or "pending" if it did not (also when an earlier one had)."""
    failed: int | None = None
    """With state "failed": the required effect whose error the group fails with. Else None."""
    cancel: tuple[int, ...] = ()
    """Unsettled effects to cancel. In parallel mode all of them have begun, in sequential mode none has."""
    detach: tuple[int, ...] = ()
    """Unsettled effects that go on in the background. In parallel mode all of them have begun (or are in
    `start` of the same verdict). In sequential mode none has: the caller runs them one after another."""
    arrival: Arrival = "counted"
    """What became of the settlement that was recorded:

    counted: it was pending, and is now settled in time.
    late: the join had resolved without it; a detached effect settles late too.
    duplicate: this effect had settled in time before.
    unknown: no effect with this index has been started.
    """


# Shared, because most calls on the hot path need one of these and nothing else.
PENDING = Verdict()
"""Counted, and nothing to do: the very object that `record` returns in this case, fit for an `is` test."""
_START_FIRST = Verdict(start=(0,))
_RESUMED = Verdict(state="resumed")
_LATE = Verdict(arrival="late")
_DUPLICATE = Verdict(arrival="duplicate")
_UNKNOWN = Verdict(arrival="unknown")


@lru_cache(maxsize=32)
def _start_all(size: int) -> Verdict:
    return Verdict(start=tuple(range(size)))


def check(required: Sequence[bool], join: Join, mode: Mode, detach: bool) -> str | None:
    """Why no such join can be built, and what to do about it; None when it can."""
    if join not in _JOINS:
        return f"join={join!r} is not a join; use one of {', '.join(map(repr, _JOINS))}"
    if mode not in _MODES:
        return f"mode={mode!r} is not a mode; use one of {', '.join(map(repr, _MODES))}"
    if join != "all_required":
        if detach:
            return (
                f"detach=True does not go with join={join!r}, which leaves nothing running; drop detach=True,"
                " or use join='all_required' with required=False on the effects that may go on in the"
                " background"
            )
    elif required and not detach and True not in required:
        return (
            "join='all_required' without a required effect would cancel every effect at once; make one"
            " required, use join='all' to wait for the optional ones, or set detach=True to let them run in"
            " the background"
        )
    return None


class JoinState:
    """How far one join has come. Belongs to one caller; never waits, and `record` never raises.

    required: for each effect, in declaration order, whether it is required. Kept, not copied.
    join, mode, detach: see the table at the top of this module. A combination that `check` refuses must not
        come here.
    """

    __slots__ = (
        "_awaited",
        "_begun",
        "_detach",
        "_join",
        "_outcomes",
        "_required",
        "_resolved",
        "_sequential",
    )

    def __init__(self, required: Sequence[bool], join: Join, mode: Mode = "parallel", detach: bool = False) -> None:
        # Fixed from here on.
        self._required = required
        self._join = join
        self._sequential = mode == "sequential"
        self._detach = detach
        # Changed by begin() and record(), until the resolution.
        size = len(required)
        self._outcomes: list[bool | None] = [None] * size
        self._awaited = required.count(True) if join == "all_required" else size
        self._begun = 0  # effects below this index have been started: both modes start them in order
        self._resolved = False

    def begin(self) -> Verdict:
        """Start; call it once, before any `record`. Resolves at once when there is nothing to wait for.

        RuntimeError: called a second time, which would start effects twice.
        """
        if self._begun or self._resolved:
            raise RuntimeError("this join has begun before; make a new JoinState for each group of effects")
        if self._sequential:
            if not self._awaited:
                return self._resolve()
            self._begun = 1
            return _START_FIRST
        self._begun = len(self._outcomes)
        verdict = _start_all(self._begun)
        return verdict if self._awaited else self._resolve(start=verdict.start)

    def record(self, index: int, success: bool) -> Verdict:
        """The effect at `index` has settled. What does not count changes nothing (see `Verdict.arrival`)."""
        if not 0 <= index < self._begun:
            return self._not_begun(index)
        outcomes = self._outcomes
        if outcomes[index] is not None:
            return _DUPLICATE
        if self._resolved:
            return _LATE
        outcomes[index] = success

        join = self._join
        if join == "all" or join == "all_required":
            if not success and self._required[index]:
                return self._resolve(index)
            if join == "all" or self._required[index]:
                self._awaited -= 1
                if not self._awaited:
                    return self._resolve()
        elif success or join == "any":
            return self._resolve()
        else:
            self._awaited -= 1
            if not self._awaited:
                kinds = self._required
                return self._resolve(kinds.index(True) if True in kinds else None)

        if self._sequential:
            # There is a next one: a pending join awaits an effect, and this was the only one under way.
            following = self._begun
            self._begun = following + 1
            return Verdict((following,))
        return PENDING

    @property
    def resolved(self) -> bool:
        """Whether the one resolution has been handed out."""
        return self._resolved

    def settled(self, index: int) -> bool | None:
        """How the effect at `index` (0 .. n-1) settled: True for success; None if it did not, in time."""
        return self._outcomes[index]

    def __repr__(self) -> str:
        mode = "sequential" if self._sequential else "parallel"
        done = len(self._outcomes) - self._outcomes.count(None)
        state = "resolved" if self._resolved else "pending"
        return f"<JoinState {self._join} {mode}: {done} of {len(self._outcomes)} settled, {state}>"

    def _resolve(self, failed: int | None = None, start: tuple[int, ...] = ()) -> Verdict:
        self._resolved = True
        outcomes = self._outcomes
        if failed is None and None not in outcomes:
            return _RESUMED
        state: State = "resumed" if failed is None else "failed"
        left = [index for index, outcome in enumerate(outcomes) if outcome is None]
        if not self._detach:
            return Verdict(start, state, failed, tuple(left))
        required = self._required
        cancel = tuple([index for index in left if required[index]])
        return Verdict(start, state, failed, cancel, tuple([index for index in left if not required[index]]))

    def _not_begun(self, index: int) -> Verdict:
        # In sequential mode the caller starts the detached effects by itself, after the resolution.
        if self._resolved and self._detach and 0 <= index < len(self._required) and not self._required[index]:
            return _LATE
        return _UNKNOWN
