"""Counts effects by target, as the dispatcher tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zerver_runtime.outcome import Success
from zerver_runtime.reactor.target import TargetStatistics

from ..error import Error
from .snapshot import Sample

__all__ = ["OTHER", "EffectMeter"]

_MOST = 100
OTHER = "other"
"""The target of effects at targets that are not told apart."""


class _Counts:
    __slots__ = ("opened", "outcomes", "retries")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.retries = 0
        self.opened = 0


class EffectMeter:
    """Of one service. Targets may come from clients (the host of a URL): the first hundred are told apart, and what
    comes later is ``other``, for ever, so that no number goes down."""

    __slots__ = ("_targets",)

    def __init__(self) -> None:
        self._targets: dict[str, _Counts] = {}

    def told(self, event: str, target: str, detail: Any) -> None:
        """An event as :class:`zerver_runtime.reactor.dispatcher.Observe` has it."""
        if event == "ReactorEffectCompleted":
            outcomes, outcome = self._of(target).outcomes, _outcome(detail)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        elif event == "EffectRetry":
            self._of(target).retries += 1
        elif event == "EffectCancelled":
            outcomes = self._of(target).outcomes
            outcomes["cancelled"] = outcomes.get("cancelled", 0) + 1
        elif event == "BreakerStateChanged" and detail.after == "open":
            self._of(target).opened += 1

    def samples(self, now: Mapping[str, TargetStatistics]) -> Iterator[Sample]:
        """What there is to tell, by now. ``now``: of each target what is under way."""
        for target in now:
            self._known(target)
        for target, counts in self._targets.items():
            for outcome, count in counts.outcomes.items():
                yield Sample("zerver_effects_total", (target, outcome), count)
            yield Sample("zerver_effect_retries_total", (target,), counts.retries)
            yield Sample("zerver_breaker_opened_total", (target,), counts.opened)
        for target, found in now.items():
            name = self._known(target)
            yield Sample("zerver_effects_in_flight", (name,), found.in_flight)
            if found.bulkhead is not None:
                yield Sample("zerver_effects_queued", (name,), found.bulkhead.queued)
            if found.breaker is not None:
                for state in ("closed", "half-open", "open"):
                    yield Sample("zerver_breakers", (name, state), float(found.breaker.state == state))

    def _of(self, target: str) -> _Counts:
        return self._targets.get(target) or self._targets[self._known(target)]

    def _known(self, target: str) -> str:
        if target not in self._targets:
            if len(self._targets) >= _MOST:
                target = OTHER
            self._targets.setdefault(target, _Counts())
        return target


def _outcome(outcome: Any) -> str:
    if type(outcome) is Success:
        return "success"
    error = outcome.error
    return error.kind.name.lower() if isinstance(error, Error) else "internal"
