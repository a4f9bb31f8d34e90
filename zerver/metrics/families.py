"""Every metric: its name, what it counts, its labels and its unit. The user's page is ``docs/guides/metrics.md``.

Names and units are as Prometheus has them (https://prometheus.io/docs/practices/naming/): base units, the unit as a
suffix, ``_total`` for what only grows.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = ["BOUNDS", "FAMILIES", "Family", "Kind"]

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds up to which each bucket of a histogram counts; one more has the rest."""


class Family(msgspec.Struct, frozen=True):
    """One metric. A counter and a histogram only grow, and are added up over processes; so are gauges."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


_SCHEDULER = ("scheduler", "class")

_ALL = (
    # Requests
    Family(
        "zerver_requests_total",
        "counter",
        "Requests that came to their end, by route and class of status; none: the client had gone before the answer.",
        ("method", "route", "status"),
    ),
    Family(
        "zerver_request_duration_seconds",
        "histogram",
        "Time from a request's first byte until its answer was written.",
        ("method", "route"),
    ),
    Family("zerver_requests_in_flight", "gauge", "Requests that have begun and are not over."),
    Family("zerver_requests_shed_total", "counter", "Requests turned away because too many waited."),
    Family("zerver_connections", "gauge", "Open client connections.", _SCHEDULER),
    # Where work waits
    Family("zerver_tasks_queued", "gauge", "Requests that wait for their turn on the loop, or for a thread."),
    Family("zerver_steps_queued", "gauge", "Steps that wait for a thread, since they block."),
    Family("zerver_step_threads_busy", "gauge", "Threads that run a step."),
    Family("zerver_compute_tasks_queued", "gauge", "Compute tasks that wait for a worker."),
    Family("zerver_compute_tasks_running", "gauge", "Compute tasks that run."),
    Family("zerver_compute_tasks_total", "counter", "Compute tasks that came to their end, however."),
    Family("zerver_compute_tasks_refused_total", "counter", "Compute tasks refused because the queue was full."),
    Family("zerver_compute_workers_replaced_total", "counter", "Workers that died, or were ended, during a task."),
    # Effects
    Family(
        "zerver_effects_total",
        "counter",
        "Effects that came to their end; outcome: success, cancelled, or the kind of the error.",
        ("target", "outcome"),
    ),
    Family("zerver_effect_retries_total", "counter", "Attempts beyond the first.", ("target",)),
    Family("zerver_effects_in_flight", "gauge", "Attempts that are under way.", ("target",)),
    Family("zerver_effects_queued", "gauge", "Attempts that wait for a place in the target's bulkhead.", ("target",)),
    Family(
        "zerver_breakers",
        "gauge",
        "Circuit breakers in each state; each scheduler has one for each target.",
        ("target", "state"),
    ),
    Family("zerver_breaker_opened_total", "counter", "Times that a circuit breaker opened.", ("target",)),
    # Traces
    Family("zerver_traces_kept_total", "counter", "Traces that were kept, by why.", ("why",)),
    Family("zerver_traces_dropped_total", "counter", "Traces that were to be kept, and could not be."),
    # Actors
    Family("zerver_actors", "gauge", "Actors that live.", _SCHEDULER),
    Family("zerver_actor_mailbox_messages", "gauge", "Messages that wait for an actor that has a name.", ("actor",)),
    Family("zerver_actor_messages_total", "counter", "Messages that actors have handled."),
    Family("zerver_actor_failures_total", "counter", "Exceptions that ended an actor, or came out of system work."),
    Family(
        "zerver_actor_mutes_total", "counter", "Times that an actor had to wait, as its receiver's mailbox was full."
    ),
    Family("zerver_dead_letters_total", "counter", "Messages to actors that are no more."),
    # Schedulers
    Family("zerver_scheduler_up", "gauge", "1: it has answered; 0: what it counts since is missing here.", _SCHEDULER),
    Family("zerver_scheduler_starts_total", "counter", "Processes that have been started in its place.", _SCHEDULER),
    Family("zerver_scheduler_queued", "gauge", "Messages and system work that wait in it.", _SCHEDULER),
    Family("zerver_scheduler_busy_ratio", "gauge", "CPU time by time of late; 1 is one CPU kept busy.", _SCHEDULER),
    Family("zerver_scheduler_cpu_seconds_total", "counter", "CPU time of all its threads.", _SCHEDULER),
    Family("zerver_scheduler_resident_memory_bytes", "gauge", "Memory that is resident, shared or not.", _SCHEDULER),
)

FAMILIES = {family.name: family for family in _ALL}
"""By name, in the order of the text."""
