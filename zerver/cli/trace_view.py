"""Kept traces as text for a terminal: lists, and the timeline of one."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeAlias

from ..server.log import printable
from ..trace.reasons import duration, queues, reasons
from ..trace.record import Summary, TraceRecord
from ..trace.timeline import Timeline, timeline
from ..trace.waterfall import BarKind, WaterfallRow, waterfall

__all__ = ["Paint", "list_head", "list_line", "trace_page"]

Paint: TypeAlias = Callable[[str, str], str]
"""Gives text a colour, by its name; or leaves it as it is."""

_DURATION = 8  # columns of a time
_NAMES = 28  # columns of names in a timeline, at 80


def list_head(width: int = 80) -> str:
    """What stands above the lines of :func:`list_line`."""
    return f"{'TIME':8} {'ID':18} {'STATUS':6} {'TOOK':>{_DURATION}} {'WHY':7} ROUTE"[:width]


def list_line(one: Summary, paint: Paint, width: int = 80) -> str:
    """One line for one trace, of at most ``width`` columns."""
    at = datetime.fromtimestamp(one.started_ns / 1e9).strftime("%H:%M:%S")  # for who reads it here
    status = "-" if one.status is None else str(one.status)
    head = f"{at} {one.id:18} "
    rest = f" {duration(one.took_ns):>{_DURATION}} {one.why:7} "
    left = max(10, width - len(head) - 6 - len(rest))
    return f"{head}{paint(f'{status:6}', _colour(one.status))}{rest}{_cut(printable(one.route), left)}"


def trace_page(record: TraceRecord, paint: Paint, width: int = 80) -> list[str]:
    """Everything of one trace, in lines of at most ``width`` columns."""
    line = timeline(record)
    request = record.request
    at = datetime.fromtimestamp(record.started_ns / 1e9).astimezone().isoformat(" ", "milliseconds")
    target = request.path + ("?" + request.query.decode("latin-1") if request.query else "")
    status = "no answer" if record.status is None else str(record.status)
    lines = [
        _cut(f"{paint(status, _colour(record.status))}  {printable(f'{request.method} {target}')}", width + 20),
        f"id      {record.id}",
        _cut(f"route   {printable(record.route)}", width),
        f"at      {at}, from {printable(record.client) or 'a Unix socket'}",
        f"took    {duration(record.took_ns)}; kept as {record.why}; {record.engine or '?'} engine, "
        f"scheduler {record.scheduler}",
        f"queued  {queues(line)}",
        "",
    ]
    lines += _waterfall(line, paint, width)
    said = reasons(record, line)
    if said:
        lines.append("")
    for sentence in said:
        lines += textwrap.wrap(
            printable(sentence), width, initial_indent="* ", subsequent_indent="  ", break_long_words=True
        )
    return lines


# How a bar shows; what is not here does not: a step that waits for its turn shows as the gap before it.
_MARKS: dict[BarKind, str] = {
    "queue": "░", "step": "█", "need": "·", "place": "░", "worker": "░", "run": "▓", "failed": "x", "retry": "-",
}  # fmt: skip
_COLOURS = {"ok": "green", "failed": "red", "dropped": "yellow", "unfinished": "yellow"}


def _waterfall(line: Timeline, paint: Paint, width: int) -> Iterator[str]:
    names = min(_NAMES, max(12, width // 3))
    bars = max(10, width - names - _DURATION - 3)
    scale = _Scale(line.took_ns, bars)
    for row in waterfall(line):
        if row.kind == "effect":
            yield from _effect(row, names, scale, paint)
        elif row.kind == "queue":
            if row.took_ns >= line.took_ns / bars:
                yield _row("(queued)", names, scale.row(row), row.took_ns)
        elif row.kind == "step":
            yield _row(row.label, names, paint(scale.row(row), "cyan"), row.took_ns)
        else:
            yield _row(f" {row.about}", names, scale.row(row), row.took_ns)


def _effect(row: WaterfallRow, names: int, scale: _Scale, paint: Paint) -> Iterator[str]:
    label = f" {'>' if row.critical else ' '} {printable(row.label)}"
    if row.start_ns is None:
        yield f"{_fit(label, names)} {row.fate}"
        return
    took = _fit(duration(row.took_ns), _DURATION, right=True)
    yield f"{_fit(label, names)} {paint(scale.row(row), _COLOURS[row.end])} {took}"
    details = []
    if row.attempts > 1:
        details.append(f"{row.attempts} attempts")
    if row.fate:
        details.append(row.fate)
    if details:
        yield _cut(f"     {', '.join(details)}: {printable(row.about)}", names + scale.columns + _DURATION + 2)


class _Scale:
    """From times to columns."""

    def __init__(self, took_ns: int, columns: int) -> None:
        self._took = max(took_ns, 1)
        self.columns = columns

    def fill(self, cells: list[str], start_ns: int, end_ns: int, mark: str) -> None:
        """What takes any time shows as one cell at least."""
        if end_ns <= start_ns:
            return
        first = min(self.columns - 1, max(0, start_ns * self.columns // self._took))
        last = min(self.columns, max(first + 1, -(-end_ns * self.columns // self._took)))
        for column in range(first, last):
            cells[column] = mark

    def row(self, row: WaterfallRow) -> str:
        cells = [" "] * self.columns
        # The longest first, so that short ones show, too.
        for bar in sorted(row.bars, key=lambda bar: bar.start_ns - bar.end_ns):
            if bar.kind in _MARKS:
                self.fill(cells, bar.start_ns, max(bar.end_ns, bar.start_ns + 1), _MARKS[bar.kind])
        return "".join(cells)


def _row(label: str, names: int, bar: str, took_ns: int) -> str:
    return f"{_fit(printable(label), names)} {bar} {_fit(duration(took_ns), _DURATION, right=True)}"


def _fit(text: str, columns: int, *, right: bool = False) -> str:
    text = _cut(text, columns)
    return f"{text:>{columns}}" if right else f"{text:{columns}}"


def _cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else text[: columns - 1] + "…"


def _colour(status: int | None) -> str:
    return "red" if status is None or status >= 500 else "yellow" if status >= 400 else "green"
