"""A circuit breaker: stop calling a target that fails, and find out when it is well again.

After Nygard, "Release It!". It is asked before each attempt and told how each that it allowed has ended:

    state      allow                             success       failure         cancelled
    ---------  --------------------------------  ------------  --------------  ----------------
    closed     yes                               -             counts; the     -
                                                               last: to open
    open       no, until the cool-down is over;  -             -               -
               then to half-open, as a probe
    half-open  yes, as a probe, while probes     counts; the   to open         the probe's place
               are left                          last: to                      is free again
                                                 closed

- It opens on `failures` within `window` seconds. Successes in between do not matter: a target that fails every
  other call is not well.
- Half-open, `probes` attempts may be under way or have succeeded, and it closes when so many have succeeded.
- A result counts only in the state that the attempt was allowed in: what began before the breaker opened says
  nothing of how the target is now ("-" above).
- A probe that never reports cannot wedge it: once no probe was allowed for as long as a cool-down, one more is.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, TypeAlias

import msgspec

__all__ = ["Breaker", "BreakerPolicy", "BreakerState", "BreakerStatistics", "Permit", "Result", "StateChange"]

BreakerState: TypeAlias = Literal["closed", "open", "half-open"]
Result: TypeAlias = Literal["success", "failure", "cancelled"]
_Cause: TypeAlias = Literal["tripped", "cooled down", "failed again", "recovered"]

_TRANSITIONS: dict[tuple[BreakerState, _Cause], BreakerState] = {
    ("closed", "tripped"): "open",
    ("open", "cooled down"): "half-open",
    ("half-open", "failed again"): "open",
    ("half-open", "recovered"): "closed",
}


class BreakerPolicy(msgspec.Struct, frozen=True):
    """Opens after `failures` in `window` seconds; after `cooldown` seconds `probes` attempts may try. All above 0."""

    failures: int = 5
    window: float = 10.0
    cooldown: float = 5.0
    probes: int = 1


class StateChange(msgspec.Struct, frozen=True):
    """To be traced."""

    before: BreakerState
    after: BreakerState


class Permit(msgspec.Struct, frozen=True):
    """Leave to make one attempt; hand it back once with `record`, whatever becomes of the attempt."""

    generation: int
    """Counts the breaker's states. Attempts in the same closed state share one object."""
    change: StateChange | None = None
    """What asking for it changed: the first probe makes an open breaker half-open."""


class BreakerStatistics(msgspec.Struct, frozen=True):
    state: BreakerState
    failures: int
    """In the closed state: failures kept, at most as many as would open it. Some may be older than the window."""
    probing: int
    """Probes under way."""
    opened: int
    """How often it opened."""


class Breaker:
    """Belongs to one target. `now` is in seconds of one monotonic clock, in every call."""

    __slots__ = ("_failures", "_generation", "_opened", "_policy", "_probing", "_proved", "_since", "permit", "state")

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        # Changed by _change() alone.
        self.state: BreakerState = "closed"
        self._generation = 0
        self._opened = 0
        self.permit = Permit(0)
        """What `allow` gives in the closed state, where it need not be asked."""
        # Closed: when it failed last, oldest first. The deque drops what can no longer matter.
        self._failures: deque[float] = deque(maxlen=policy.failures)
        # Half-open: probes under way, and probes that succeeded.
        self._probing = 0
        self._proved = 0
        # Open: when it opened. Half-open: when the last probe was allowed.
        self._since = 0.0

    def refusal(self, now: float) -> float | None:
        """Seconds after which an attempt may be allowed, or None if one would be now. Changes nothing."""
        if self.state == "closed":
            return None
        policy = self._policy
        if self.state == "half-open" and self._probing + self._proved < policy.probes:
            return None
        left = self._since + policy.cooldown - now
        return left if left > 0 else None

    def allow(self, now: float) -> Permit | float:
        """A permit for one attempt; or, refused, the seconds after which one may be allowed."""
        if self.state == "closed":
            return self.permit
        wait = self.refusal(now)
        if wait is not None:
            return wait
        change = self._change("cooled down") if self.state == "open" else None
        self._probing += 1
        self._since = now
        return Permit(self._generation, change)

    def record(self, permit: Permit, result: Result, now: float) -> StateChange | None:
        """The attempt with this permit has ended. Returns the change of state that this brought, if it did."""
        if permit.generation != self._generation:
            return None
        if self.state == "closed":
            if result != "failure":
                return None
            failures = self._failures
            failures.append(now)
            if len(failures) < self._policy.failures or now - failures[0] > self._policy.window:
                return None
            self._since = now
            return self._change("tripped")
        self._probing -= 1
        if result == "failure":
            self._since = now
            return self._change("failed again")
        if result == "success":
            self._proved += 1
            if self._proved >= self._policy.probes:
                return self._change("recovered")
        return None

    def forgettable(self, now: float) -> bool:
        """Whether a new breaker would do as well: nothing has happened for a window and a cool-down."""
        last = self._since
        if self.state == "closed":
            if not self._failures:
                return True
            last = self._failures[-1]
        return not self._probing and now - last > self._policy.window + self._policy.cooldown

    def statistics(self) -> BreakerStatistics:
        return BreakerStatistics(self.state, len(self._failures), self._probing, self._opened)

    def __repr__(self) -> str:
        policy = self._policy
        told = {
            "closed": f"{len(self._failures)} of {policy.failures} failures",
            "open": f"opened {self._opened} times",
            "half-open": f"{self._probing} probing, {self._proved} of {policy.probes} succeeded",
        }
        return f"<Breaker {self.state}: {told[self.state]}>"

    def _change(self, cause: _Cause) -> StateChange:
        before = self.state
        after = self.state = _TRANSITIONS[before, cause]
        self._generation += 1
        self.permit = Permit(self._generation)
        self._failures.clear()
        self._probing = self._proved = 0
        if after == "open":
            self._opened += 1
        return StateChange(before, after)
