"""Adds up what all processes count. Pure.

A counter of Prometheus may only grow, or begin anew with its server. So what a process had counted when it was last
heard of stays in the sum when the process is gone; what it counted after that is lost with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

import msgspec

from .effect_meter import OTHER
from .families import FAMILIES
from .snapshot import Key, Sample, Snapshot

__all__ = ["Retained", "Totals", "add_up"]

_Place: TypeAlias = tuple[str, tuple[str, ...]]
_SHORT = 0.5  # seconds; over less than this, a share of time says nothing
_TARGETS = 500  # of effects, that are told apart, whichever process had them; they may come from clients
_LATE = 1000  # processes that are gone, and of which something might still come


class Retained(msgspec.Struct, frozen=True):
    """What processes have counted that are gone."""

    gone: tuple[Key, ...] = ()
    samples: tuple[Sample, ...] = ()


class Totals:
    """Of one Node."""

    def __init__(self) -> None:
        self._last: dict[Key, Snapshot] = {}
        self._busy: dict[Key, tuple[float, float, float]] = {}  # when, CPU seconds by then, and the share
        self._leaving: set[Key] = set()  # gone at the last look; what they said last may be on its way
        self.retained = Retained()
        self._targets: set[str] = set()

    def heard(self, snapshot: Snapshot) -> None:
        """A process has said what it knows."""
        before = self._last.get(snapshot.key)
        if snapshot.key not in self.retained.gone and (before is None or before.at <= snapshot.at):
            # Each process tells the first hundred apart that it sees; all that there ever are would be many more.
            samples = tuple([self._told_apart(one) for one in snapshot.samples])
            self._last[snapshot.key] = msgspec.structs.replace(snapshot, samples=samples)
            self._measure(snapshot)

    def adopt(self, retained: Retained) -> bool:
        """What somebody else has retained, who looked after the same processes, before or beside this one. It is taken
        if it has all that this one has retained, and more; whether it was."""
        gone = set(retained.gone)
        if len(gone) <= len(self.retained.gone) or not gone.issuperset(self.retained.gone):
            return False
        self.retained = retained
        for one in retained.samples:
            self._told_apart(one)
        for key in retained.gone:
            self._last.pop(key, None)
            self._busy.pop(key, None)
        return True

    def alive(self, keys: Collection[Key]) -> bool:
        """These processes are there; no other is any more. Whether :attr:`retained` has changed."""
        gone = {key for key in self._last if key not in keys}
        ended, self._leaving = gone & self._leaving, gone - self._leaving
        if not ended:
            return False
        counted = [one for key in ended for one in self._last[key].samples if FAMILIES[one.name].kind != "gauge"]
        self.retained = Retained(
            (*self.retained.gone, *sorted(ended))[-_LATE:], tuple(add_up([*self.retained.samples, *counted]))
        )
        for key in ended:
            del self._last[key]
            self._busy.pop(key, None)
        return True

    def snapshots(self, expected: Iterable[Snapshot], answered: Collection[Key]) -> list[Snapshot]:
        """What is known of each process that is there. ``expected``: what to show for one that was never heard of, and
        whose slot no other has. ``answered``: those that have just been heard; others are told of as not ``up``."""
        found = {
            key: msgspec.structs.replace(one, up=key in answered)
            for key, one in self._last.items()
            if key not in self._leaving
        }
        slots = {slot for slot, _ in found}
        for one in expected:
            if one.slot not in slots:
                found[one.key] = one
        return [found[key] for key in sorted(found)]

    def metrics(self, snapshots: Sequence[Snapshot]) -> list[Sample]:
        """The sums. ``snapshots``: what :meth:`snapshots` gave. Of a process that is not up, what it counted is in, and
        what was so then is not."""
        samples = list(self.retained.samples)
        for key, one in self._last.items():
            if key in self._leaving:
                samples += [sample for sample in one.samples if FAMILIES[sample.name].kind != "gauge"]
        up: dict[tuple[str, ...], bool] = {}  # during a reload, a slot has two processes
        for one in snapshots:
            samples += [sample for sample in one.samples if one.up or FAMILIES[sample.name].kind != "gauge"]
            labels = (str(one.slot), one.kind)
            up[labels] = up.get(labels, False) or one.up
            if one.up and one.key in self._busy:
                samples.append(Sample("zerver_scheduler_busy_ratio", labels, self._busy[one.key][2]))
        samples += [Sample("zerver_scheduler_up", labels, float(value)) for labels, value in up.items()]
        return add_up(samples)

    def _told_apart(self, one: Sample) -> Sample:
        if FAMILIES[one.name].labels[:1] != ("target",) or one.labels[0] in self._targets:
            return one
        if len(self._targets) >= _TARGETS:
            return Sample(one.name, (OTHER, *one.labels[1:]), one.value, one.counts)
        self._targets.add(one.labels[0])
        return one

    def _measure(self, snapshot: Snapshot) -> None:
        used = snapshot.value("zerver_scheduler_cpu_seconds_total")
        before = self._busy.get(snapshot.key)
        if before is None:
            self._busy[snapshot.key] = (snapshot.at, used, 0.0)
        elif snapshot.at - before[0] >= _SHORT:
            self._busy[snapshot.key] = (snapshot.at, used, (used - before[1]) / (snapshot.at - before[0]))


def add_up(samples: Iterable[Sample]) -> list[Sample]:
    """One sample for each metric and labels."""
    sums: dict[_Place, Sample] = {}
    for one in samples:
        place = (one.name, one.labels)
        other = sums.get(place)
        if other is None:
            sums[place] = one
        else:
            counts = tuple([mine + theirs for mine, theirs in zip(one.counts, other.counts, strict=True)])
            sums[place] = Sample(one.name, one.labels, one.value + other.value, counts)
    return list(sums.values())
