"""Framing: however a stream is cut, the same frames come out; and no stream does harm."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.packet import Decoder, Frame, FrameError, Kind, encode

frames = st.builds(Frame, st.sampled_from(Kind), st.binary(max_size=40))


def stream(sent: list[Frame]) -> bytes:
    return b"".join(encode(frame.kind, frame.payload) for frame in sent)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("pieces", ["whole", "byte by byte"])
def test_frames_come_out_as_they_went_in(pieces: str) -> None:
    sent = [Frame(Kind.MESSAGES, b""), Frame(Kind.CONTROL, b"x" * 300), Frame(Kind.REPLIES, bytes(range(256)))]
    data = stream(sent)
    decoder = Decoder()
    got: list[Frame] = []
    for piece in [data] if pieces == "whole" else [bytes([byte]) for byte in data]:
        got += decoder.feed(piece)
    assert got == sent
    assert decoder.error is None
    assert decoder.pending == 0


def test_what_trails_a_frame_is_the_begin_of_the_next() -> None:
    decoder = Decoder()
    data = stream([Frame(Kind.MESSAGES, b"one"), Frame(Kind.MESSAGES, b"two")])
    assert decoder.feed(data[:-1]) == [Frame(Kind.MESSAGES, b"one")]
    assert decoder.pending == 7
    assert decoder.feed(data[-1:]) == [Frame(Kind.MESSAGES, b"two")]


@given(st.lists(frames), st.lists(st.integers(min_value=0)))
def test_where_a_stream_is_cut_changes_nothing(sent: list[Frame], places: list[int]) -> None:
    decoder = Decoder()
    got = [frame for piece in cut(stream(sent), places) for frame in decoder.feed(piece)]
    assert got == sent


@given(st.lists(frames, max_size=3), st.binary(max_size=200), st.lists(st.integers(min_value=0)))
def test_a_hostile_stream_gives_the_same_frames_and_fault_however_it_is_cut(
    sent: list[Frame], garbage: bytes, places: list[int]
) -> None:
    data = stream(sent) + garbage
    whole, pieces = Decoder(most=1000), Decoder(most=1000)
    expected = whole.feed(data)
    got = [frame for piece in cut(data, places) for frame in pieces.feed(piece)]
    assert got == expected
    assert expected[: len(sent)] == sent
    assert str(pieces.error) == str(whole.error)
    assert whole.pending <= 1004


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00\x00\x00\x00", "0 bytes was announced"),
        (b"\x65\x00\x00\x00", "101 bytes was announced; allowed are 1 to 100"),
        (b"\xff\xff\xff\xff", "4294967295 bytes"),
        (b"\x02\x00\x00\x00\x00", "0 is not a kind"),
        (b"\x02\x00\x00\x00\xff", "255 is not a kind"),
    ],
)
def test_a_broken_stream_says_why_and_stays_broken(data: bytes, why: str) -> None:
    decoder = Decoder(most=100)
    good = encode(Kind.CONTROL, b"good")
    assert decoder.feed(good + data) == [Frame(Kind.CONTROL, b"good")]
    assert why in str(decoder.error)
    assert decoder.feed(good) == []
    assert decoder.pending == 0


def test_a_frame_of_exactly_the_limit_passes_and_one_byte_more_is_refused() -> None:
    assert Decoder(most=10).feed(encode(Kind.CONTROL, b"x" * 9, most=10)) == [Frame(Kind.CONTROL, b"x" * 9)]
    with pytest.raises(FrameError, match="11 bytes is longer than the 10 allowed"):
        encode(Kind.CONTROL, b"x" * 10, most=10)


def test_repr_says_how_it_stands() -> None:
    decoder = Decoder()
    decoder.feed(b"\x05")
    assert repr(decoder) == "<Decoder sound: 1 bytes of a frame pending>"
