"""From configuration to parts: the built-in effectors, and the policy of each effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zerver_runtime.reactor.breaker import BreakerPolicy
from zerver_runtime.reactor.bulkhead import BulkheadPolicy
from zerver_runtime.reactor.compute_pool import ComputePool
from zerver_runtime.reactor.effector import Policy
from zerver_runtime.reactor.retry import RetryPolicy
from zerver_runtime.reactor.threads import ThreadPool
from zerver_runtime.scheduler import Scheduler

from ..config import Config
from ..config.settings import EffectsConfig, LimitsConfig
from ..effect import Effect
from ..effectors.actor import ActorEffector
from ..effectors.base import Effector
from ..effectors.cache import CacheEffector
from ..effectors.call import CallEffector
from ..effectors.compute import ComputeEffector
from ..effectors.file import FileEffector
from ..effectors.folder import Folder
from ..effectors.http import HttpEffector, Propagate
from ..effectors.kv import KvEffector
from ..effectors.sql import SqlEffector
from ..effectors.timer import TimerEffector
from ..wire import Limits

__all__ = ["built_in_effectors", "http_limits", "policies"]

_ONCE = RetryPolicy()
# Targets may come from clients (a URL's host); what is kept of them must not grow without a bound.
_REMEMBERED = 1000


def built_in_effectors(
    config: Config,
    calls: ThreadPool,
    compute: ComputePool,
    current: Callable[[], object],
    stage: Scheduler,
    cache: Scheduler | None = None,
    propagate: Propagate | None = None,
) -> dict[str, Effector]:
    """A driver for each family that this version has. Blocking functions of ``call`` run on ``calls``, which is lent;
    ``compute`` is closed with its driver. ``current`` gives the tag of a compute task that is being started.
    ``stage`` finds the actors.
    ``cache``: where the cache that all processes share is found; without it, a cache in memory is of this process.
    ``propagate`` gives the headers by which ``http`` effects tell of the trace that they belong to."""
    effects = config.effects
    sqlite, postgres = effects.sqlite, effects.postgres
    return {
        "http": HttpEffector(
            max_body_bytes=effects.http.max_body_bytes,
            proxies=effects.http.proxies,
            propagate=propagate,
            files=Folder(effects.files.root, effects.files.max_bytes),
        ),
        "sql": SqlEffector(
            effects.databases,
            readers=sqlite.readers,
            busy_timeout=sqlite.busy_timeout,
            size=postgres.size,
            prepared=postgres.prepared,
        ),
        "kv": KvEffector(effects.kv, readers=sqlite.readers, busy_timeout=sqlite.busy_timeout),
        "cache": CacheEffector(effects.cache, most=effects.cache_bytes, stage=cache),
        "file": FileEffector(effects.files.root, max_bytes=effects.files.max_bytes),
        "timer": TimerEffector(),
        "call": CallEffector(calls),
        "compute": ComputeEffector(compute, current),
        "actor": ActorEffector(stage),
    }


def policies(config: EffectsConfig) -> Callable[[Effect[Any]], Policy]:
    """What holds for an effect: its own time-out and retry, else those of its target, else of its family. A configured
    retry applies to what may be done twice only."""
    by_target: dict[str, Policy] = {}

    def of_target(target: str) -> Policy:
        if target == "timer":
            return Policy()  # there is nothing that many sleeps at once could overload
        found = config.policy(target)
        retry = found.retry
        bulkhead = None  # the bound of compute is its own queue
        if not target.startswith("compute:"):
            places = found.bulkhead
            bulkhead = BulkheadPolicy(places.in_flight, places.per_request, places.queue)
        breaker = None  # that an actor is away is known at once, and it is back sooner than any breaker would try
        if not target.startswith("actor:"):
            breaker = BreakerPolicy(
                found.breaker.failures, found.breaker.window, found.breaker.cooldown, found.breaker.probes
            )
        return Policy(
            timeout=found.timeout,
            retry=RetryPolicy(retry.attempts, retry.base, retry.factor, retry.cap) if retry else _ONCE,
            breaker=breaker,
            bulkhead=bulkhead,
        )

    def of_effect(effect: Effect[Any]) -> Policy:
        policy = by_target.get(effect.target)
        if policy is None:
            if len(by_target) >= _REMEMBERED:
                by_target.clear()
            policy = by_target[effect.target] = of_target(effect.target)
        retry: RetryPolicy | None = effect.retry
        if effect.timeout is None and retry is None:
            if policy.retry is _ONCE or effect.idempotent or effect.idem is not None:
                return policy
            return Policy(policy.timeout, _ONCE, policy.breaker, policy.bulkhead)
        if retry is None:
            retry = policy.retry if effect.idempotent or effect.idem is not None else _ONCE
        timeout = policy.timeout if effect.timeout is None else effect.timeout
        return Policy(timeout, retry, policy.breaker, policy.bulkhead)

    return of_effect


def http_limits(limits: LimitsConfig) -> Limits:
    """What holds for an HTTP connection."""
    return Limits(
        request_line=limits.request_line_bytes,
        header_count=limits.header_count,
        header_bytes=limits.header_bytes,
        body_bytes=limits.body_bytes,
        chunk_extension_bytes=limits.chunk_extension_bytes,
        trailer_count=limits.trailer_count,
        trailer_bytes=limits.trailer_bytes,
        pipeline_bytes=limits.pipeline_bytes,
        head_timeout=limits.head_timeout,
        body_timeout=limits.body_timeout,
        body_rate=limits.body_rate,
        idle_timeout=limits.keep_alive,
    )
