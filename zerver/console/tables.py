"""What the page shows of the running system and of a replay: tables of text, whose meaning is decided here. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..graph import PipelineGraph

__all__ = ["Cell", "Graphs", "Mood", "ReplayDifference", "ReplayView", "SystemView", "Table"]

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


class ReplayDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replay did something else than the recording."""

    what: str
    where: str
    expected: str
    got: str


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay."""

    outcome: Literal["same", "diverged", "partial", "failed"]
    """``partial``: as recorded, up to where the recording ends. ``failed``: it could not be replayed."""
    summary: str
    changed: tuple[str, ...] = ()
    """Steps whose code is another one by now."""
    differences: tuple[ReplayDifference, ...] = ()
