"""What the process of a scheduler knows of itself, as a snapshot."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

from zerver_runtime.mailman import Mailman
from zerver_runtime.ref import class_path
from zerver_runtime.scheduler import Scheduler

from ..engine.blocking import BlockingEngine
from ..engine.reactor import ReactorEngine
from ..metrics.snapshot import ActorView, ProcessClass, Sample, Snapshot
from ..metrics.stats_actor import PREFIX
from ..trace.recorder import TailRecorder
from .service import Service

__all__ = ["measure", "service_samples"]

_MOST = 100  # actors with names, and dead letters, that are told of
_PAGE = os.sysconf("SC_PAGE_SIZE")


def measure(
    stage: Scheduler, kind: ProcessClass, samples: Iterable[Sample] = (), connections: Callable[[], int] | None = None
) -> Snapshot:
    """``stage``: the scheduler of this process. ``samples``: of what it serves."""
    slot, incarnation = stage.place.scheduler, stage.place.incarnation
    labels = (str(slot), kind)
    found = stage.statistics()
    mailman = stage.mailman
    under_way = sum(peer.under_way for peer in mailman.peers) if isinstance(mailman, Mailman) else 0
    own = [
        Sample("zerver_actors", labels, found.actors),
        Sample("zerver_actor_messages_total", (), found.handled),
        Sample("zerver_actor_failures_total", (), found.failures),
        Sample("zerver_actor_mutes_total", (), found.muted),
        Sample("zerver_dead_letters_total", (), found.dead_letters),
        Sample("zerver_scheduler_starts_total", labels, 1),
        Sample("zerver_scheduler_queued", labels, found.queued + under_way),
        Sample("zerver_scheduler_cpu_seconds_total", labels, time.process_time()),
    ]
    if connections is not None:
        own.append(Sample("zerver_connections", labels, connections()))
    memory = _resident()
    if memory is not None:
        own.append(Sample("zerver_scheduler_resident_memory_bytes", labels, memory))
    actors = tuple(_actors(stage))
    own += [Sample("zerver_actor_mailbox_messages", (one.name,), one.waiting) for one in actors]
    return Snapshot(
        slot, incarnation, kind, os.getpid(), time.monotonic(), (*own, *samples), actors,
        tuple(map(str, list(stage.dead_letters.last)[-_MOST:])),
    )  # fmt: skip


def service_samples(service: Service) -> Iterator[Sample]:
    """Of what serves the app."""
    engine, compute = service.engine, service.compute.statistics()
    yield Sample("zerver_requests_in_flight", (), len(engine.live))
    if isinstance(engine, ReactorEngine):
        tasks = engine.tasks.statistics()
        yield Sample("zerver_requests_shed_total", (), tasks.refused)
        yield Sample("zerver_tasks_queued", (), tasks.queued)
        yield Sample("zerver_steps_queued", (), tasks.waiting)
        yield Sample("zerver_step_threads_busy", (), tasks.running)
    elif isinstance(engine, BlockingEngine):
        pool = engine.pool.statistics()
        yield Sample("zerver_requests_shed_total", (), pool.refused)
        yield Sample("zerver_tasks_queued", (), pool.queued)
        yield Sample("zerver_step_threads_busy", (), pool.running)
    yield Sample("zerver_compute_tasks_queued", (), compute.queued)
    yield Sample("zerver_compute_tasks_running", (), compute.running)
    yield Sample("zerver_compute_tasks_total", (), compute.completed)
    yield Sample("zerver_compute_tasks_refused_total", (), compute.refused)
    yield Sample("zerver_compute_workers_replaced_total", (), compute.replaced)
    if service.meters is not None:
        yield from service.meters.requests.samples()
        yield from service.meters.effects.samples(service.dispatcher.statistics().targets)
    if isinstance(service.trace, TailRecorder):
        traces = service.trace.statistics()
        for why, count in traces.kept.items():
            yield Sample("zerver_traces_kept_total", (why,), count)
        yield Sample("zerver_traces_dropped_total", (), traces.dropped)


def _actors(stage: Scheduler) -> Iterator[ActorView]:
    """Those with a name, but for those that metrics have themselves, of which each process has others."""
    named = [(name, cell) for name, cell in stage.names.items() if not name.startswith(PREFIX)]
    for name, cell in sorted(named)[:_MOST]:
        yield ActorView(name, class_path(cell.kind), len(cell), cell.policy.bound)


def _resident() -> int | None:
    """Bytes; proc(5), where there is one."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None
