"""How many processes there are where the configuration does not say: it depends on the machine."""

from __future__ import annotations

import os

from ..config import Config

__all__ = ["compute_workers", "performance_schedulers"]


def performance_schedulers(config: Config) -> int:
    """As many as there are CPUs that this process may use."""
    return config.schedulers.performance or _processors()


def compute_workers(config: Config) -> int:
    """Half as many, and at least one."""
    return config.reactor.compute_pool.size or max(1, _processors() // 2)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells; and only a Node needs Linux
        return os.cpu_count() or 1
