"""The targets that are kept, and those that are forgotten."""

from __future__ import annotations

from typing import Any

from zerver_runtime.reactor.breaker import BreakerPolicy, Permit
from zerver_runtime.reactor.bulkhead import BulkheadPolicy
from zerver_runtime.reactor.effector import Policy
from zerver_runtime.reactor.target import Targets, TargetStatistics

FULL = Policy(breaker=BreakerPolicy(window=10.0, cooldown=5.0), bulkhead=BulkheadPolicy())


def flood(targets: Targets[Any], now: float) -> None:
    for number in range(2000):
        targets.get(f"at {now}, {number}", FULL, now)


def test_a_target_is_the_same_every_time() -> None:
    targets: Targets[Any] = Targets()
    assert targets.get("a", FULL, 0.0) is targets.get("a", Policy(), 1.0)
    assert targets.get("b", FULL, 0.0) is not targets.get("a", FULL, 0.0)


def test_a_policy_without_breaker_and_bulkhead_makes_a_target_without() -> None:
    targets: Targets[Any] = Targets()
    target = targets.get("a", Policy(), 0.0)
    assert (target.breaker, target.bulkhead) == (None, None)
    assert targets.statistics() == {"a": TargetStatistics(0, 0, None, None)}


def test_names_without_end_do_not_take_memory_without_end() -> None:
    targets: Targets[Any] = Targets()
    for now in range(20):
        flood(targets, float(now))
    assert len(targets) <= 1024


def test_a_target_that_remembers_something_is_kept_until_that_no_longer_matters() -> None:
    targets: Targets[Any] = Targets()
    busy, waiting, failing = (targets.get(name, FULL, 0.0) for name in ("busy", "waiting", "failing"))
    busy.in_flight = 1
    assert waiting.bulkhead is not None
    assert failing.breaker is not None
    waiting.bulkhead.enter("attempt", "request")
    permit = failing.breaker.allow(0.0)
    assert isinstance(permit, Permit)
    failing.breaker.record(permit, "failure", 0.0)

    flood(targets, 15.0)
    assert targets.get("busy", FULL, 15.0) is busy
    assert targets.get("waiting", FULL, 15.0) is waiting
    assert targets.get("failing", FULL, 15.0) is failing
    flood(targets, 15.1)
    assert targets.get("failing", FULL, 15.1) is not failing


def test_more_targets_in_use_than_are_kept_at_rest_are_all_kept() -> None:
    targets: Targets[Any] = Targets()
    used = []
    for number in range(3000):
        used.append(targets.get(f"used {number}", FULL, 0.0))
        used[-1].in_flight = 1
    flood(targets, 0.0)
    assert all(targets.get(f"used {number}", FULL, 0.0) is target for number, target in enumerate(used))
