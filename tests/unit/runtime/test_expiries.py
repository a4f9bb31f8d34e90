"""When attempts come due: each at its time and once, in order, on as few timers as may be."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.reactor.expiries import Expiries
from zerver_runtime.testing.clock import FakeClock


class Entry:
    """Keeps when it came due."""

    def __init__(self, world: World, name: object, then: Callable[[], object] = lambda: None) -> None:
        self.world, self.name, self.then = world, name, then

    def expired(self) -> None:
        self.world.expired.append((self.name, self.world.clock.now()))
        self.then()


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.expiries: Expiries[Entry] = Expiries(self.clock.now, self.clock.call_later)
        self.expired: list[tuple[object, float]] = []

    def add(self, name: object, end: float, then: Callable[[], object] = lambda: None) -> Entry:
        entry = Entry(self, name, then)
        self.expiries.add(entry, end)
        return entry


def test_those_that_come_due_in_the_order_of_adding_share_one_timer() -> None:
    world = World()
    for name, end in [("a", 1.0), ("b", 1.0), ("c", 2.0)]:
        world.add(name, end)
    assert world.clock.pending == 1
    assert repr(world.expiries) == "<Expiries: 3 in order, 0 apart>"
    world.clock.advance(0.999)
    assert world.expired == []
    world.clock.advance(5)
    assert world.expired == [("a", 1.0), ("b", 1.0), ("c", 2.0)]
    assert world.clock.pending == 0


def test_one_that_comes_due_before_the_last_does_so_at_its_time() -> None:
    world = World()
    world.add("late", 2.0)
    world.add("early", 1.0)
    world.clock.advance(5)
    assert world.expired == [("early", 1.0), ("late", 2.0)]


def test_what_is_past_is_due_with_the_next_timers() -> None:
    world = World()
    world.clock.advance(3)
    world.add("a", 1.0)
    world.add("b", 0.5)
    assert world.expired == []
    world.clock.advance(0)
    assert sorted(world.expired) == [("a", 3.0), ("b", 3.0)]


def test_what_is_discarded_does_not_come_due_and_the_last_takes_the_timer_with_it() -> None:
    world = World()
    first, second, apart = world.add("a", 1.0), world.add("b", 2.0), world.add("c", 0.5)
    for entry in (apart, first, second):
        for _ in range(2):
            world.expiries.discard(entry)
    assert world.clock.pending == 0
    world.clock.advance(5)
    assert world.expired == []


def test_one_that_comes_due_may_discard_others_and_add_them_anew() -> None:
    world = World()

    def shuffle() -> None:
        world.expiries.discard(gone)
        world.expiries.discard(again)
        world.expiries.add(again, 3.0)

    world.add("a", 1.0, shuffle)
    gone, again = world.add("gone", 1.0), world.add("again", 1.0)
    world.clock.advance(5)
    assert world.expired == [("a", 1.0), ("again", 3.0)]
    assert world.clock.pending == 0


def test_the_last_that_comes_due_may_add_the_next() -> None:
    world = World()
    world.add("a", 1.0, lambda: world.add("b", 1.5, lambda: world.add("c", 1.2)))
    world.clock.advance(1)
    assert world.clock.pending == 1
    world.clock.advance(4)
    assert world.expired == [("a", 1.0), ("b", 1.5), ("c", 1.5)]
    assert world.clock.pending == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(-2, 20)),
        st.tuples(st.just("discard"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.integers(0, 8)),
    ),
    max_size=40,
)


@given(steps)
def test_in_any_history_each_comes_due_once_at_its_time_unless_it_was_discarded(steps: list[tuple[str, int]]) -> None:
    world = World()
    entries: list[Entry] = []
    due: dict[object, float] = {}
    for step, number in steps:
        if step == "add":
            end = world.clock.now() + number * 0.1
            due[len(entries)] = max(end, world.clock.now())
            entries.append(world.add(len(entries), end))
        elif step == "discard" and number < len(entries):
            world.expiries.discard(entries[number])
            if number not in dict(world.expired):
                due.pop(number, None)
        elif step == "wait":
            world.clock.advance(number * 0.1)
            # Those that were past when added are due with the timers, of which there are none while time stands still.
            assert all(at >= world.clock.now() - 1e-6 for name, at in due.items() if name not in dict(world.expired))
    world.clock.advance(10)
    assert len(world.expired) == len(due)
    for name, at in world.expired:
        assert abs(at - due[name]) < 1e-6, (name, at, due)
    assert world.clock.pending == 0
