"""What the page shows of the running system and of a replay: tables of text, whose meaning is decided here. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..graph import PipelineGraph
from ..replay.report import Outcome, Replay
from ..server.log import printable

__all__ = ["Cell", "Graphs", "Mood", "ReplayMove", "ReplayView", "SystemView", "Table", "replay_view"]

Mood: TypeAlias = Literal["", "good", "warn", "bad"]
"""How a cell is coloured, beside what its text says."""


class Graphs(msgspec.Struct, frozen=True, kw_only=True):
    """The pipelines of the app, in the order of its routes."""

    routes: tuple[PipelineGraph, ...] = ()
    problem: str = ""
    """Why they are not known."""


class Cell(msgspec.Struct, frozen=True):
    """A cell of a table."""

    text: str
    mood: Mood = ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table with a head. ``numbers``: the indexes of the columns that hold numbers."""

    title: str
    note: str = ""
    columns: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    rows: tuple[tuple[Cell, ...], ...]
    empty: str = ""
    """What stands in place of no rows."""


class SystemView(msgspec.Struct, frozen=True, kw_only=True):
    """The processes of this server, and what runs in them."""

    tables: tuple[Table, ...] = ()
    problem: str = ""


class ReplayMove(msgspec.Struct, frozen=True):
    """Something that the replay did as the recorded run."""

    kind: str
    text: str


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay. Text is made printable."""

    outcome: Outcome | None = None
    """``None``: it could not be replayed."""
    problem: str = ""
    headline: str = ""
    expected: str = ""
    """What was recorded, where the two runs differ; and ``got``, what came now."""
    got: str = ""
    notes: tuple[str, ...] = ()
    moves: tuple[ReplayMove, ...] = ()


def replay_view(report: Replay) -> ReplayView:
    """The report of a replay, for the page."""
    headline, *rest = report.lines
    found = report.divergence
    # What was expected and what came have places of their own.
    notes = rest if found is None else rest[2:]
    return ReplayView(
        outcome=report.outcome,
        headline=printable(headline),
        expected="" if found is None else printable(found.expected),
        got="" if found is None else printable(found.got),
        notes=tuple([printable(note.strip().removeprefix("note: ")) for note in notes]),
        moves=tuple([ReplayMove(one.kind, printable(f"{one.step}: {one.text}")) for one in report.moves]),
    )
