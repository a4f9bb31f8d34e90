"""A recording, as a replay goes through it: what the recorded run did, move by move."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, TypeAlias

from ..trace.events import EventKind
from ..trace.record import ErrorNote, GivenNote, NeedNote, ResultNote, TraceRecord

__all__ = ["Asked", "Ended", "Ran", "Recorded"]

_DEADLINE = "the request took longer than its deadline"


class Ran(NamedTuple):
    """A run of a step."""

    name: str
    outcome: str | None
    """As in its ``StepEnd``; ``None``: the request ended before it was back, or before it began."""


class Asked(NamedTuple):
    """A step asked for effects."""

    need: int
    note: NeedNote


class Ended(NamedTuple):
    """The request failed, or was given up."""

    why: ErrorNote | str

    @property
    def is_from_outside(self) -> bool:
        """Whether it can have come while the request waited for effects."""
        return isinstance(self.why, str) or self.by_deadline

    @property
    def by_deadline(self) -> bool:
        return isinstance(self.why, ErrorNote) and self.why.kind == "TIMEOUT" and self.why.what.startswith(_DEADLINE)


_Move: TypeAlias = Ran | Asked | Ended


class Recorded:
    """The moves that are left; the replay takes them one by one."""

    def __init__(self, record: TraceRecord) -> None:
        self.record = record
        self.moves: deque[_Move] = deque()
        self.joined: set[int] = set()
        """The Needs that were resolved."""
        self.settled: dict[int, deque[int]] = {}
        """By Need: its effects, in the order in which they settled while it was pending."""
        self.results: dict[tuple[int, int], ResultNote] = {(one.need, one.effect): one for one in record.results}
        self.given: deque[GivenNote] = deque(record.given)
        self.digests: dict[str, set[str]] = {}
        for step in record.steps:
            self.digests.setdefault(step.name, set()).add(step.digest)
        self.complete = False
        """Whether the events go to the end of the request."""
        self._read()

    @property
    def following(self) -> _Move | None:
        """The next move; ``None``: there is none."""
        return self.moves[0] if self.moves else None

    @property
    def past_deadline(self) -> bool:
        """Whether the deadline passed before the next move."""
        following = self.following
        return isinstance(following, Ended) and following.by_deadline

    def _read(self) -> None:
        late = {(one.need, one.effect) for one in self.record.events if one.kind is EventKind.EffectLate}
        for event in self.record.events:
            detail = event.detail
            match event.kind:
                case EventKind.StepStart:
                    self.moves.append(Ran(event.name, None))
                case EventKind.StepEnd:
                    for position in reversed(range(len(self.moves))):
                        if self.moves[position] == Ran(event.name, None):
                            self.moves[position] = Ran(event.name, str(detail))
                            break
                case EventKind.NeedScheduled if isinstance(detail, NeedNote):
                    self.moves.append(Asked(event.need, detail))
                case EventKind.ContinuationEnqueued if (event.need, event.effect) not in late:
                    self.settled.setdefault(event.need, deque()).append(event.effect)
                case EventKind.JoinSatisfied:
                    self.joined.add(event.need)
                case EventKind.Fail if isinstance(detail, (ErrorNote, str)):
                    self.moves.append(Ended(detail))
                case EventKind.RequestEnd:
                    self.complete = True
                case _:
                    pass
