"""A hierarchical timing wheel: thousands of timers, nearly all of which are cancelled before they are due.

G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987, scheme 6. Pure: the time is an argument,
in whole ticks of one clock that does not go back. It is for the edge to say how long a tick is.

    level 0    256 slots of 1 tick
    level 1    256 slots of 256 ticks
    level n    256 slots of 256 ** n ticks; there are as many levels as the farthest timer needs

A timer lies on the level of the highest byte in which its time differs from the present. So a slot's timers share that
byte and all above it, everything on a level is due before anything on the next, and no level ever wraps. Time that
enters a slot moves its timers to the levels below, in the order in which they were added; nobody can be put there
before that, as it would have gone to the slot. So timers of one tick stay in the order of adding, wherever they were
put first.

A slot is a dict, of timers in order: adding and cancelling touch that one dict, and nothing is left of who was
cancelled. A bitmap for each level says which slots there are: `next_wake` looks at one bit a level, and time jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["Timer", "TimerWheel"]

_BITS = 8
_SLOTS = 1 << _BITS
_LAST = _SLOTS - 1
_TWO_LEVELS = 1 << 2 * _BITS

_Slot: TypeAlias = "dict[Timer, int]"
"""When each timer is due."""


class Timer:
    """What `TimerWheel.add` gives. It is set until it is called or cancelled."""

    __slots__ = ("_args", "_callback", "_slot")

    # Set by the wheel; an __init__ would double the price of a timer. No slot: it is over.
    _args: tuple[Any, ...]
    _callback: Callable[..., object] | None
    _slot: _Slot | None

    def cancel(self) -> None:
        """Do not call it. Nothing, when it was called or cancelled before; what it would have called is let go."""
        slot = self._slot
        if slot is not None:
            del slot[self]
            self._slot = self._callback = None
            self._args = ()

    def __repr__(self) -> str:
        if self._slot is None:
            return "<Timer: over>"
        return f"<Timer at {self._slot[self]}: {getattr(self._callback, '__qualname__', repr(self._callback))}>"


class TimerWheel:
    """now: the present, in ticks, 0 or more. report: is told what a callback raised; must not raise itself."""

    __slots__ = ("_elapsed", "_farther", "_levels", "_near", "_occupied", "_report")

    def __init__(self, now: int, report: Callable[[BaseException], object]) -> None:
        self._report = report
        # Everything due at this tick or before is over, but for what is being called just now.
        self._elapsed = now
        self._near: list[_Slot | None] = [None] * _SLOTS
        self._farther: list[_Slot | None] = [None] * _SLOTS
        self._levels = [self._near, self._farther]
        # A bit for each slot that there is, on each level. It may be empty: cancelling does not look.
        self._occupied = [0, 0]

    def add(self, due: int, callback: Callable[..., object], args: tuple[Any, ...] = ()) -> Timer:
        """Call `callback(*args)` at the first `advance` to `due` or later. What is due already comes a tick later than
        the present, so that timers which set each other without a delay cannot hold up who calls `advance`."""
        elapsed = self._elapsed
        if due <= elapsed:
            due = elapsed + 1
        # As in _open, for the levels where time-outs are: the four lines take a tenth off a timer that is cancelled.
        apart = due ^ elapsed
        slot = None
        if apart < _TWO_LEVELS:
            slot = self._near[due & _LAST] if apart < _SLOTS else self._farther[due >> _BITS & _LAST]
        if slot is None:
            slot = self._open(due)
        timer = Timer()
        timer._slot = slot
        timer._callback = callback
        timer._args = args
        slot[timer] = due
        return timer

    def advance(self, now: int) -> None:
        """Call what is due at `now` or before: in order of their times, then of adding. Callbacks may add, cancel and
        clear; what they add is called too if it is due. What one raises is reported, and the others are called. With a
        `now` before the last one nothing happens."""
        while (first := self._first()) is not None:
            level, index, start = first
            if start > now:
                break
            self._elapsed = start
            slots = self._levels[level]
            slot = slots[index]
            assert slot is not None  # _first() found somebody in it
            if level == 0:
                self._call(slot)  # in its place, so that whatever ends this call loses nobody; then it is empty
                continue
            slots[index] = None
            for timer, due in slot.items():
                timer._slot = below = self._open(due)
                below[timer] = due
        if now > self._elapsed:
            self._elapsed = now

    def next_wake(self) -> int | None:
        """The tick at which to call `advance` next; None: nothing is set. There may be nothing to call then: far timers
        move to a nearer level on their way, at most once a level."""
        first = self._first()
        return None if first is None else first[2]

    def clear(self) -> None:
        """Cancel all."""
        for slots in self._levels:
            for slot in filter(None, slots):
                for timer in list(slot):
                    timer.cancel()

    def __len__(self) -> int:
        """Timers that are set. Counts them."""
        return sum(len(slot) for slots in self._levels for slot in filter(None, slots))

    def __repr__(self) -> str:
        return f"<TimerWheel at {self._elapsed}: {len(self)} set, next wake {self.next_wake()}>"

    def _open(self, due: int) -> _Slot:
        """The slot for it, made if there is none."""
        level = (((due ^ self._elapsed) | _LAST).bit_length() - 1) // _BITS
        while level >= len(self._levels):
            self._levels.append([None] * _SLOTS)
            self._occupied.append(0)
        slots = self._levels[level]
        index = due >> level * _BITS & _LAST
        slot = slots[index]
        if slot is None:
            slot = slots[index] = {}
            self._occupied[level] |= 1 << index
        return slot

    def _first(self) -> tuple[int, int, int] | None:
        """Level, index and first tick of the earliest slot with a timer in it. Drops empty ones on the way."""
        for level, occupied in enumerate(self._occupied):
            slots = self._levels[level]
            while occupied:
                lowest = occupied & -occupied
                index = lowest.bit_length() - 1
                if slots[index]:
                    shift = level * _BITS
                    return level, index, ((self._elapsed >> shift) & ~_LAST | index) << shift
                slots[index] = None
                occupied ^= lowest
                self._occupied[level] = occupied
        return None

    def _call(self, slot: _Slot) -> None:
        for timer in list(slot):
            callback, args = timer._callback, timer._args
            if callback is None:
                continue  # cancelled by one before it
            timer.cancel()  # it is over before it is called: its callback may cancel it, or ask for it to be told
            try:
                callback(*args)
            except BaseException as problem:  # also what is no Exception: the others must not wait for ever
                self._report(problem)
