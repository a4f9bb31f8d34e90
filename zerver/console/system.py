"""The processes of the server and what runs in them, as tables: from what each of them says of itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..metrics.snapshot import Snapshot
from ..server.log import printable
from .tables import Cell, SystemView, Table

__all__ = ["system_view"]

_MB = 1024 * 1024
_FULL = 0.5  # of a mailbox: from there on senders have to wait
_BUSY = 0.9  # of a CPU
_LETTERS = 20  # the last dead letters


def system_view(snapshots: Sequence[Snapshot]) -> SystemView:
    """The tables, by slot."""
    ordered = sorted(snapshots, key=lambda one: one.key)
    if not ordered:
        return SystemView(problem="no scheduler has said anything of itself yet")
    return SystemView(
        tables=(_schedulers(ordered), _waiting(ordered), _targets(ordered), _actors(ordered), _letters(ordered))
    )


def _schedulers(snapshots: Sequence[Snapshot]) -> Table:
    rows = []
    for one in snapshots:
        busy = one.value("zerver_scheduler_busy_ratio")
        rows.append((
            Cell(str(one.slot)),
            Cell(one.kind),
            Cell("answers", "good") if one.up else Cell("does not answer", "bad"),
            Cell(str(one.pid)),
            Cell(str(one.incarnation), "warn" if one.incarnation > 1 else ""),
            Cell(f"{busy:.0%}", "warn" if busy >= _BUSY else ""),
            Cell(f"{one.value('zerver_scheduler_cpu_seconds_total'):.1f} s"),
            Cell(f"{one.value('zerver_scheduler_resident_memory_bytes') / _MB:.0f} MB"),
            Cell(_count(one, "zerver_connections")),
            Cell(_count(one, "zerver_requests_in_flight")),
            Cell(_count(one, "zerver_requests_total")),
            Cell(_count(one, "zerver_actors")),
        ))  # fmt: skip
    return Table(
        title="Schedulers",
        note="One process each. Start: how many processes there have been in its place.",
        columns=(
            "slot", "class", "state", "pid", "start", "busy", "CPU", "memory", "connections", "in flight", "requests",
            "actors",
        ),
        numbers=(0, 3, 4, 5, 6, 7, 8, 9, 10, 11),
        rows=tuple(rows),
    )  # fmt: skip


_QUEUES = (
    ("for a turn", "zerver_tasks_queued"),
    ("for a step thread", "zerver_steps_queued"),
    ("for a target", "zerver_effects_queued"),
    ("for a worker", "zerver_compute_tasks_queued"),
    ("messages, system work", "zerver_scheduler_queued"),
)


def _waiting(snapshots: Sequence[Snapshot]) -> Table:
    rows = []
    for one in snapshots:
        if any(sample.name == _QUEUES[0][1] for sample in one.samples):
            counts = [_number(one.value(name)) for _, name in _QUEUES]
            shed = one.value("zerver_requests_shed_total")
            rows.append((
                Cell(str(one.slot)),
                *(Cell(count, "warn" if count != "0" else "") for count in counts),
                Cell(_number(shed), "warn" if shed else ""),
                Cell(_count(one, "zerver_traces_kept_total")),
                Cell(_count(one, "zerver_traces_dropped_total")),
            ))  # fmt: skip
    return Table(
        title="Queues",
        note="What waits at this moment, and what was turned away since the start.",
        columns=("slot", *(title for title, _ in _QUEUES), "shed", "traces kept", "traces lost"),
        numbers=tuple(range(9)),
        rows=tuple(rows),
        empty="no scheduler serves requests",
    )


def _targets(snapshots: Sequence[Snapshot]) -> Table:
    rows = []
    for target in sorted(_labels(snapshots, "zerver_effects_total") | _labels(snapshots, "zerver_effects_in_flight")):
        done = _sum(snapshots, "zerver_effects_total", target)
        good = _sum(snapshots, "zerver_effects_total", target, "success")
        dropped = _sum(snapshots, "zerver_effects_total", target, "cancelled")
        failed = done - good - dropped
        rows.append((
            Cell(printable(target)),
            _breaker(snapshots, target),
            Cell(_number(_sum(snapshots, "zerver_effects_in_flight", target))),
            Cell(_number(_sum(snapshots, "zerver_effects_queued", target))),
            Cell(_number(good)),
            Cell(_number(failed), "warn" if failed else ""),
            Cell(_number(dropped)),
            Cell(_number(_sum(snapshots, "zerver_effect_retries_total", target))),
        ))  # fmt: skip
    return Table(
        title="Targets",
        note="What effects go to. Each scheduler has a breaker of its own for each.",
        columns=("target", "breakers", "in flight", "queued", "succeeded", "failed", "cancelled", "retries"),
        numbers=(2, 3, 4, 5, 6, 7),
        rows=tuple(rows),
        empty="no effect has been performed yet",
    )


def _breaker(snapshots: Sequence[Snapshot], target: str) -> Cell:
    states = {state: _sum(snapshots, "zerver_breakers", target, state) for state in ("open", "half-open", "closed")}
    shown = [f"{_number(count)} {state}" for state, count in states.items() if count]
    return Cell(", ".join(shown) or "-", "bad" if states["open"] else "warn" if states["half-open"] else "")


def _actors(snapshots: Sequence[Snapshot]) -> Table:
    rows = []
    for one in snapshots:
        for actor in sorted(one.actors, key=lambda actor: actor.name):
            full = actor.waiting / actor.bound if actor.bound else 0.0
            rows.append((
                Cell(printable(actor.name)),
                Cell(printable(actor.kind)),
                Cell(f"{one.slot} ({one.kind})"),
                Cell(str(actor.waiting), "bad" if full >= 1 else "warn" if full >= _FULL else ""),
                Cell(str(actor.bound)),
            ))  # fmt: skip
    return Table(
        title="Actors",
        note="Those that have a name, and their mailboxes.",
        columns=("name", "class", "scheduler", "waiting", "room for"),
        numbers=(3, 4),
        rows=tuple(rows),
        empty="no actor has a name",
    )


def _letters(snapshots: Sequence[Snapshot]) -> Table:
    found = [(Cell(str(one.slot)), Cell(printable(text))) for one in snapshots for text in one.dead_letters[-_LETTERS:]]
    return Table(
        title="Dead letters",
        note="The last messages that nobody took, the newest last.",
        columns=("slot", "message"),
        numbers=(0,),
        rows=tuple(found),
        empty="none",
    )


def _labels(snapshots: Iterable[Snapshot], name: str) -> set[str]:
    return {sample.labels[0] for one in snapshots for sample in one.samples if sample.name == name and sample.labels}


def _sum(snapshots: Iterable[Snapshot], name: str, *labels: str) -> float:
    return sum(one.value(name, *labels) for one in snapshots)


def _count(one: Snapshot, name: str) -> str:
    return _number(one.value(name))


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")  # a narrow space: no country's decimal mark
