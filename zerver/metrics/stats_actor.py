"""The actors that metrics go through: one in each scheduler that tells, one in each that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec

from zerver_runtime.actor import Actor, behaviour
from zerver_runtime.ids import Place
from zerver_runtime.mailbox import MailboxPolicy

from .snapshot import Key, Snapshot
from .totals import Retained

__all__ = ["PREFIX", "CollectorActor", "Kept", "StatsActor", "collector_name", "is_collector", "key_of", "stats_name"]

_COLLECTORS = 4  # during a reload there are two

PREFIX = "zerver.metrics."
_STATS, _COLLECTOR = f"{PREFIX}of.", f"{PREFIX}to."


class Kept(msgspec.Struct, frozen=True):
    """What collectors have left, in case that they end."""

    retained: Retained = Retained()
    collectors: tuple[Snapshot, ...] = ()
    """Of their own processes, the last that each has told."""


class StatsActor(Actor):
    """``look`` gives what its process knows by now."""

    mailbox: ClassVar[MailboxPolicy] = MailboxPolicy(bound=64, full="fail")

    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look
        self._retained = Retained()
        self._collectors: dict[Key, Snapshot] = {}

    @behaviour
    def report(self, collector: Snapshot) -> Snapshot:
        """``collector``: of the process that asks."""
        self._collectors.pop(collector.key, None)
        self._collectors[collector.key] = collector
        while len(self._collectors) > _COLLECTORS:
            del self._collectors[next(iter(self._collectors))]
        return self._look()

    @behaviour
    def keep(self, retained: Retained) -> None:
        """What processes have counted that are gone, for whoever asks next, should this collector go, too."""
        self._retained = retained

    @behaviour
    def kept(self) -> Kept:
        return Kept(self._retained, tuple(self._collectors.values()))


class CollectorActor(Actor):
    """``heard`` takes what a process says last."""

    mailbox: ClassVar[MailboxPolicy] = MailboxPolicy(bound=4096, full="fail")

    def __init__(self, heard: Callable[[Snapshot], object]) -> None:
        self._heard = heard

    @behaviour
    def last(self, snapshot: Snapshot) -> None:
        self._heard(snapshot)


def stats_name(place: Place) -> str:
    """The name of the :class:`StatsActor` of a process. Each process has its own: during a reload a slot has two."""
    return f"{_STATS}{place.scheduler}.{place.incarnation}"


def collector_name(place: Place) -> str:
    """The name of the :class:`CollectorActor` of a process."""
    return f"{_COLLECTOR}{place.scheduler}.{place.incarnation}"


def key_of(name: str) -> Key | None:
    """Whose :class:`StatsActor` has this name, if any."""
    if not name.startswith(_STATS):
        return None
    slot, _, incarnation = name.removeprefix(_STATS).partition(".")
    return int(slot), int(incarnation)


def is_collector(name: str) -> bool:
    """Whether a :class:`CollectorActor` has this name."""
    return name.startswith(_COLLECTOR)
