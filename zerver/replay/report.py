"""What a replay found: the same, the first divergence, or how far it could go. Plain data, for terminal, console
and tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

__all__ = ["Divergence", "Kind", "Limit", "Move", "Outcome", "Replay", "ReplayError"]

Outcome: TypeAlias = Literal["identical", "diverged", "partial"]
"""``identical``: all decisions, effects and the answer are as recorded. ``diverged``: see ``divergence``. ``partial``:
as recorded, as far as it can be replayed; see ``limit``."""

Kind: TypeAlias = Literal["route", "step", "decision", "need", "effect", "result", "given", "exception", "answer"]
"""Where two runs differ: ``route``: nothing answers this method and path. ``step``: another step runs. ``decision``: it
gives another one. ``need``: it asks in another way, for another number of effects. ``effect``: for another effect.
``result``: what the driver gave is read differently. ``given``: it reads the time, randomness or an id that it did not
read before. ``exception``: it raises. ``answer``: status, headers or body differ."""


_KINDS: dict[Kind, str] = {
    "route": "there is no such route",
    "step": "another step runs",
    "decision": "another decision",
    "need": "another Need",
    "effect": "another effect",
    "result": "its result is read differently",
    "given": "another read of time, randomness or ids",
    "exception": "it raises",
    "answer": "another answer",
}


class ReplayError(AssertionError):
    """A replay is not what :meth:`Replay.check` asks for. An AssertionError, so that a test shows it as a failure."""


class Divergence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first difference between the recorded run and the replayed one."""

    kind: Kind
    step: str = ""
    """The step that runs, or asked; empty before the first."""
    need: int = 0
    """Counts the request's Needs from 1; 0 where it is about none."""
    effect: int = -1
    """The index in its Need; -1 where it is about none."""
    expected: str
    """What was recorded, for people."""
    got: str
    where: str = ""
    """``file:line`` of what the step is declared by; of the line that raised, for an exception."""


class Limit(msgspec.Struct, frozen=True):
    """Where the recording ends: up to ``step``, which is not certain any more, or cannot be run."""

    step: str
    why: str


class Move(msgspec.Struct, frozen=True):
    """Something that the replayed run did as the recorded one: a line for people."""

    kind: Literal["step", "need", "effect", "answer"]
    step: str
    text: str
    need: int = 0
    effect: int = -1


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """The report."""

    id: str
    """Of the recorded request."""
    route: str
    outcome: Outcome
    status: int | None
    """Of the recorded answer; ``None``: there was none."""
    steps: int
    """Runs of steps that were as recorded."""
    effects: int
    """Effects that were asked for as recorded."""
    divergence: Divergence | None = None
    limit: Limit | None = None
    """With ``identical``: the first step that depends on what was redacted, and came out the same."""
    changed: tuple[str, ...] = ()
    """Steps whose source is not what it was, in the order in which they ran."""
    notes: tuple[str, ...] = ()
    """Other things to know, in sentences."""
    moves: tuple[Move, ...] = ()
    """What was as recorded, in order, up to the divergence, the limit or the end."""

    @property
    def lines(self) -> Iterator[str]:
        """The report for people, without ``moves``."""
        yield self.headline
        found = self.divergence
        if found is not None:
            yield f"  expected  {found.expected}"
            yield f"  got       {found.got}"
        elif self.outcome == "partial" and self.limit is not None:
            yield f"  {self.limit.why}"
        elif self.limit is not None:
            yield f"note: step {self.limit.step} was the same as far as can be told: {self.limit.why}"
        for name in self.changed:
            yield f"note: step {name} changed since the recording"
        for note in self.notes:
            yield f"note: {note}"

    def check(self, *, until: str | None = None) -> None:
        """For tests: nothing diverges.

        :param until: the step up to which the recording can be replayed; ``None``: to its end.
        :raises ReplayError: it diverges, or it cannot be replayed so far. The message is the report.
        """
        if self.outcome == "identical":
            return
        if self.outcome == "partial" and self.limit is not None and until == self.limit.step:
            return
        raise ReplayError("\n".join(self.lines))

    @property
    def headline(self) -> str:
        """What came of it, in a line."""
        answer = "no answer" if self.status is None else str(self.status)
        counted = f"{_count(self.effects, 'effect')} in {_count(self.steps, 'step')}"
        found = self.divergence
        if found is not None:
            where = f" ({found.where})" if found.where else ""
            place = f"step {found.step}{where}" if found.step else "its start"
            about = f", Need {found.need}" if found.need else ""
            about += f", effect {found.effect}" if found.effect >= 0 else ""
            return f"{self.route}: diverged at {place}{about}: {_KINDS[found.kind]}"
        if self.outcome == "partial" and self.limit is not None:
            return f"{self.route}: replayable up to step {self.limit.step}; the same until then: {counted}"
        return f"{self.route}: identical: {answer}, {counted}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
