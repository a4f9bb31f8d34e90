"""A Node of two schedulers and the cache that they share: what one sets, the other reads."""

from __future__ import annotations

import json
import os
import time

from zerver.cache_actor import CACHE
from zerver.effect_results import interpret
from zerver.effectors.cache import CacheEffector
from zerver.effects import cache
from zerver_runtime.node_config import NodeConfig
from zerver_runtime.outcome import Outcome, Success
from zerver_runtime.process import run_node
from zerver_runtime.scheduler_process import SchedulerContext

CONFIG = NodeConfig(performance=2, actors={CACHE: ("zerver.cache_actor:CacheActor", (1 << 20,), "efficiency")})


def say(**fields: object) -> None:
    os.write(1, (json.dumps(fields) + "\n").encode())


def boot(context: SchedulerContext) -> None:
    """The first one sets, again and again, as its first attempts may come before there is a cache."""
    slot = context.place.scheduler
    effector = CacheEffector("memory://", most=0, stage=context.scheduler)
    effect = cache.set("k", {"from": 0}, ttl=60) if slot == 0 else cache.get("k")

    def settled(outcome: Outcome) -> None:
        if isinstance(outcome, Success):
            outcome = interpret(effect, outcome.value, time.time)
            if slot == 1 and isinstance(outcome, Success) and outcome.value is not None:
                say(slot=slot, found=outcome.value, pid=os.getpid())
                return
        context.loop.call_later(0.005, again)

    def again() -> None:
        effector.start(effect, settled)

    if slot < 2:
        context.loop.call_soon(again)


if __name__ == "__main__":
    say(exit=run_node(CONFIG, boot, lambda text: say(log=text)))
