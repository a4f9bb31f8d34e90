"""What one process knows of itself at one time: plain data, as it goes from a scheduler to whoever asks."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = ["ActorView", "Key", "ProcessClass", "Sample", "Snapshot"]

ProcessClass: TypeAlias = Literal["performance", "efficiency"]
Key: TypeAlias = tuple[int, int]
"""(slot, incarnation): one process, never used again for another."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One value of a metric (see :mod:`zerver.metrics.families`)."""

    name: str
    labels: tuple[str, ...]
    """Values, in the order of the family's labels."""
    value: float
    """Of a histogram: the sum of what was measured."""
    counts: tuple[int, ...] = ()
    """Of a histogram: how many each bucket has, by itself, the one above all bounds included."""


class ActorView(msgspec.Struct, frozen=True):
    """One actor that has a name."""

    name: str
    kind: str
    """Its class: ``module:Class``."""
    waiting: int
    """Messages in its mailbox."""
    bound: int
    """Messages that it has room for."""


class Snapshot(msgspec.Struct, frozen=True):
    """One process."""

    slot: int
    incarnation: int
    """Counts the processes of this slot, from 1."""
    kind: ProcessClass
    pid: int
    at: float
    """Seconds of the machine's monotonic clock."""
    samples: tuple[Sample, ...]
    actors: tuple[ActorView, ...] = ()
    dead_letters: tuple[str, ...] = ()
    """The last messages that nobody took, in words, the oldest first."""
    up: bool = True
    """False: it did not answer in time, and this is what it said last. Samples are empty where it never did."""

    @property
    def key(self) -> Key:
        return (self.slot, self.incarnation)

    def value(self, name: str, *labels: str) -> float:
        """Of all samples of this name whose labels begin with these, the sum."""
        return sum(one.value for one in self.samples if one.name == name and one.labels[: len(labels)] == labels)
