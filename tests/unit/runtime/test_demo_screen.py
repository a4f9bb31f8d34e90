"""What the demo shows fits where it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.demo.screen import Picture, Row, frame, plain, redraw

ROWS = st.builds(
    Row,
    slot=st.integers(0, 4095),
    kind=st.sampled_from(["performance", "efficiency"]),
    life=st.integers(1, 1 << 20),
    pid=st.integers(1, 1 << 22),
    state=st.sampled_from(["up", "dead", "stopped"]),
    rate=st.floats(0, 1e9),
)
PICTURES = st.builds(
    Picture,
    elapsed=st.floats(0, 1e4),
    seconds=st.floats(0.1, 1e4),
    scene=st.sampled_from(["ping-pong", "fan-out", "crash", "over"]),
    rows=st.lists(ROWS, max_size=6),
    notes=st.lists(st.tuples(st.text("crash", max_size=9), st.text("x ,", max_size=120)), max_size=6),
)


@given(PICTURES, st.integers(40, 120))
def test_no_line_is_wider_than_the_terminal(picture: Picture, width: int) -> None:
    assert max(map(len, frame(picture, width))) <= width
    assert len(plain(picture, width)) <= width
    assert "\n" not in plain(picture)


def test_a_picture_in_80_columns() -> None:
    rows = [
        Row(0, "performance", 1, 4711, rate=200_000.0),
        Row(1, "performance", 2, 4720, rate=100_000.0),
        Row(2, "efficiency", 1, 4713, "dead", 12.0),
    ]
    assert frame(Picture(4.25, 6.0, "crash", rows, [("crash", "kill -9"), ("", "back")])) == [
        " zerver_runtime demo: crash" + " " * 43 + "4.2 of 6 s",
        "",
        " scheduler          pid  life   messages/s",
        " performance  0    4711     1      200,000  " + "#" * 28,
        " performance  1    4720     2      100,000  " + "#" * 14,
        " efficiency   2    4713     1            -  dead",
        "",
        " crash      kill -9",
        "            back",
    ]
    assert plain(Picture(4.25, 6.0, "crash", rows, [])) == " 4.2 s  crash       0: 200,000/s  1: 100,000/s  2: dead"


@pytest.mark.parametrize(("before", "up"), [(0, ""), (3, "\x1b[3F")])
def test_a_frame_takes_the_place_of_the_one_before(before: int, up: str) -> None:
    assert redraw(["one", "two"], before) == f"{up}\x1b[1mone\x1b[0m\x1b[K\ntwo\x1b[K\n\x1b[J"
