"""What every link promises, held to both: the one over a socketpair, and the one in memory that tests use."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerver_runtime.link import Link, SocketLink
from zerver_runtime.testing.memory_link import MemoryLink, memory_pair

BOUND = 10_000


class Ears:
    """One end, and what was heard there."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.heard = bytearray()
        self.writable = 0
        self.lost: list[str] = []
        link.start(self.heard.extend, self._relieved, self.lost.append)

    def _relieved(self) -> None:
        assert self.link.writable
        self.writable += 1


class Loop:
    """As much of a loop as a link needs, run by hand."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._calls: dict[int, dict[int, Callable[[], Any]]] = {}

    def _set(self, fd: int, event: int, call: Callable[[], Any] | None) -> None:
        calls = self._calls.setdefault(fd, {})
        if calls:
            self._selector.unregister(fd)
        if call is None:
            calls.pop(event, None)
        else:
            calls[event] = call
        if calls:
            self._selector.register(fd, sum(calls))

    def add_reader(self, fd: int, call: Callable[[], Any]) -> None:
        self._set(fd, selectors.EVENT_READ, call)

    def remove_reader(self, fd: int) -> None:
        self._set(fd, selectors.EVENT_READ, None)

    def add_writer(self, fd: int, call: Callable[[], Any]) -> None:
        self._set(fd, selectors.EVENT_WRITE, call)

    def remove_writer(self, fd: int) -> None:
        self._set(fd, selectors.EVENT_WRITE, None)

    def settle(self) -> None:
        while ready := self._selector.select(0):
            for key, mask in ready:
                for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
                    if mask & event and event in self._calls[key.fd]:
                        self._calls[key.fd][event]()

    def close(self) -> None:
        self._selector.close()


class Pair:
    def __init__(self, one: Link, other: Link, settle: Callable[[], None]) -> None:
        self.one, self.other = Ears(one), Ears(other)
        self.settle = settle

    def close(self) -> None:
        self.one.link.close()
        self.other.link.close()


def memory() -> tuple[Pair, Callable[[], None]]:
    one, other = memory_pair(bound=BOUND, capacity=4096)

    def settle() -> None:
        while not (one.idle and other.idle):
            one.deliver()
            other.deliver()

    return Pair(one, other, settle), lambda: None


def sockets() -> tuple[Pair, Callable[[], None]]:
    loop = Loop()
    left, right = socket.socketpair()
    return Pair(SocketLink(loop, left, BOUND), SocketLink(loop, right, BOUND), loop.settle), loop.close


KINDS = {"memory": memory, "socketpair": sockets}


@pytest.fixture(params=sorted(KINDS))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    made, close = KINDS[request.param]()
    yield made
    made.close()
    close()


def test_bytes_arrive_in_order_in_both_directions(pair: Pair) -> None:
    pair.one.link.write(b"one ")
    pair.one.link.write(bytearray(b"two"))
    pair.other.link.write(b"back")
    assert pair.other.heard == b""  # nothing before the loop runs
    pair.settle()
    assert pair.other.heard == b"one two"
    assert pair.one.heard == b"back"


def test_more_than_the_bound_makes_it_unwritable_until_it_is_read(pair: Pair) -> None:
    sent = b""
    while pair.one.link.writable:
        sent += b"x" * 5000
        pair.one.link.write(b"x" * 5000)
        assert len(sent) < 10_000_000
    assert pair.one.writable == 0
    pair.settle()
    assert pair.one.link.writable
    assert pair.one.writable == 1
    assert pair.other.heard == sent


def test_a_write_past_the_bound_is_taken_whole(pair: Pair) -> None:
    pair.one.link.write(b"a" * 500_000)
    pair.one.link.write(b"b")
    assert not pair.one.link.writable
    pair.settle()
    assert pair.other.heard == b"a" * 500_000 + b"b"


def test_what_was_written_before_a_close_arrives_and_then_the_loss_once(pair: Pair) -> None:
    pair.one.link.write(b"last words")
    pair.one.link.close()
    pair.settle()
    assert pair.other.heard == b"last words"
    assert len(pair.other.lost) == 1
    assert pair.one.lost == []  # who closes knows it
    assert not pair.other.link.writable
    pair.settle()
    assert len(pair.other.lost) == 1


def test_what_is_written_to_a_lost_or_closed_link_is_dropped(pair: Pair) -> None:
    pair.one.link.close()
    pair.one.link.close()
    pair.one.link.write(b"too late")
    pair.settle()
    pair.other.link.write(b"nobody there")
    pair.settle()
    assert pair.other.heard == b""
    assert pair.one.heard == b""


def test_a_loss_with_something_unread_on_the_other_side_loses_nothing_that_came_before(pair: Pair) -> None:
    pair.other.link.write(b"never read")
    pair.one.link.write(b"last words")
    pair.one.link.close()
    pair.settle()
    assert pair.other.heard == b"last words"
    assert len(pair.other.lost) == 1


def test_read_hands_over_all_that_has_come_and_the_loss_without_the_loop(pair: Pair) -> None:
    pair.other.link.write(b"never read")
    pair.one.link.write(b"y" * 3000)
    pair.other.link.read()
    assert pair.other.heard == b"y" * 3000
    assert pair.other.lost == []
    pair.one.link.close()
    pair.other.link.read()
    assert len(pair.other.lost) == 1
    pair.other.link.read()
    assert len(pair.other.lost) == 1


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(writes=st.lists(st.tuples(st.booleans(), st.binary(max_size=9000), st.booleans()), max_size=12))
def test_any_interleaving_of_writes_and_reads_keeps_every_byte(
    kind: str, writes: list[tuple[bool, bytes, bool]]
) -> None:
    pair, close = KINDS[kind]()
    expected = (bytearray(), bytearray())
    for forth, data, settle in writes:
        (pair.one if forth else pair.other).link.write(data)
        expected[forth].extend(data)
        if settle:
            pair.settle()
    pair.settle()
    assert (pair.one.heard, pair.other.heard) == expected
    pair.close()
    close()


@pytest.mark.parametrize("written", ["never", "before it was read", "past what is read", "after the end", "late"])
def test_of_a_loss_it_is_known_whether_something_surely_was_not_read(written: str) -> None:
    loop = Loop()
    left, right = socket.socketpair()
    ears = Ears(link := SocketLink(loop, left, BOUND))
    if written == "before it was read":
        link.write(b"x" * 10)
        right.recv(9)
    elif written == "past what is read":
        link.write(b"x" * 10_000_000)  # more than the kernel holds
    else:
        link.write(b"x" * 10)
        right.recv(10)
    right.close()
    if written == "after the end":
        link.write(b"x")
    link.read()
    if written == "late":
        link.write(b"x")
    assert len(ears.lost) == 1
    assert link.unread is (written != "never")
    loop.close()


def test_a_memory_link_delivers_as_little_as_a_test_wants_and_can_lose_the_rest() -> None:
    one, other = memory_pair()
    ears = Ears(other)
    one.write(b"0123456789")
    assert other.deliver(3) == 3
    other.lose(keep=2)
    assert other.deliver() == 2
    assert ears.heard == b"01234"
    assert ears.lost == ["closed by the other side"]
    assert isinstance(one, MemoryLink)
