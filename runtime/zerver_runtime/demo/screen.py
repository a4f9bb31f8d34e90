"""What the demo shows, as text. Pure: figures in, lines out, none wider than asked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["Picture", "Row", "frame", "plain", "redraw"]

_BAR = 28


class Row(msgspec.Struct):
    """One scheduler. rate: messages run in a second; life: its incarnation; state: "up", "dead" or "stopped"."""

    slot: int
    kind: str
    life: int
    pid: int
    state: str = "up"
    rate: float = 0.0


class Picture(msgspec.Struct, frozen=True):
    """elapsed, seconds: of the whole demo. notes: (about what, text)."""

    elapsed: float
    seconds: float
    scene: str
    rows: Sequence[Row]
    notes: Sequence[tuple[str, str]]


def frame(picture: Picture, width: int = 80, bar: str = "#") -> list[str]:
    """The whole picture."""
    head = f" zerver_runtime demo: {picture.scene}"
    clock = f"{min(picture.elapsed, picture.seconds):.1f} of {picture.seconds:g} s"
    lines = [
        head + clock.rjust(width - len(head)),
        "",
        f" {'scheduler':<14}{'pid':>8}{'life':>6}{'messages/s':>13}",
    ]
    most = max((row.rate for row in picture.rows), default=0.0) or 1.0
    for row in picture.rows:
        rate = "-" if row.state == "dead" else f"{row.rate:,.0f}"
        shown = bar * round(_BAR * row.rate / most) if row.state == "up" else row.state
        lines.append(f" {row.kind:<12}{row.slot:>2}{row.pid:>8}{row.life:>6}{rate:>13}  {shown}")
    lines.append("")
    lines += [f" {about:<11}{text}" for about, text in picture.notes]
    return [line[:width].rstrip() for line in lines]


def plain(picture: Picture, width: int = 80) -> str:
    """The rates in one line: where there is no terminal."""
    rates = [f"{row.slot}: {f'{row.rate:,.0f}/s' if row.state == 'up' else row.state}" for row in picture.rows]
    return f"{picture.elapsed:4.1f} s  {picture.scene:<10}  {'  '.join(rates)}"[:width].rstrip()


def redraw(lines: Sequence[str], before: int) -> str:
    """What has a terminal show the lines in place of the `before` lines written last; the first one in bold."""
    up = f"\x1b[{before}F" if before else ""
    first, *rest = lines
    return up + "".join(f"{line}\x1b[K\n" for line in (f"\x1b[1m{first}\x1b[0m", *rest)) + "\x1b[J"
