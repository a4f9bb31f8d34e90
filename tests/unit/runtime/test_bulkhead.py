"""The bulkhead: who runs, who waits, who is turned away."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zerver_runtime.reactor.bulkhead import AGEING, Bulkhead, BulkheadPolicy, BulkheadStatistics


def bulkhead(in_flight: int = 1, per_request: int = 100, queue: int = 100) -> Bulkhead[str]:
    return Bulkhead(BulkheadPolicy(in_flight, per_request, queue))


def drain(one: Bulkhead[str], owner: object = "R") -> list[str]:
    """Who runs, in order, when each leaves as the next enters."""
    order = []
    while (following := one.leave(owner)) is not None:
        order.append(following)
    return order


def test_the_defaults_are_those_of_the_configuration() -> None:
    assert BulkheadPolicy() == BulkheadPolicy(in_flight=64, per_request=16, queue=256)


# --- Places and the queue


def test_entries_run_up_to_the_limit_then_queue_up_to_the_bound_then_are_turned_away() -> None:
    one = bulkhead(in_flight=2, queue=3)
    assert [one.enter(name, "R") for name in "abcdefg"] == ["run"] * 2 + ["queued"] * 3 + ["full"] * 2
    assert one.statistics() == BulkheadStatistics(in_flight=2, queued=3, rejected=2)


def test_without_a_queue_what_finds_no_place_is_turned_away() -> None:
    one = bulkhead(queue=0)
    assert [one.enter("a", "R"), one.enter("b", "R")] == ["run", "full"]
    assert one.leave("R") is None
    assert one.enter("b", "R") == "run"


def test_the_queue_is_first_in_first_out() -> None:
    one = bulkhead()
    for name in "abcd":
        one.enter(name, "R")
    assert drain(one) == ["b", "c", "d"]
    assert one.statistics() == BulkheadStatistics(0, 0, 0)


def test_who_is_named_by_leave_has_a_place_already() -> None:
    one = bulkhead()
    one.enter("a", "R")
    one.enter("b", "R")
    assert one.leave("R") == "b"
    assert one.enter("c", "R") == "queued"


# --- Priorities


def test_interactive_entries_go_before_batch_entries() -> None:
    one = bulkhead()
    one.enter("first", "R")
    for name, batch in [("b1", True), ("i1", False), ("b2", True), ("i2", False)]:
        one.enter(name, "R", batch)
    assert drain(one) == ["i1", "i2", "b1", "b2"]


def test_batch_has_its_turn_after_so_many_interactive_entries_in_a_row() -> None:
    one = bulkhead()
    one.enter("first", "R")
    for number in range(2 * AGEING + 1):
        one.enter(f"i{number}", "R")
    for name in ("b0", "b1"):
        one.enter(name, "R", batch=True)
    order = drain(one)
    assert [order.index("b0"), order.index("b1")] == [AGEING, 2 * AGEING + 1]


def test_interactive_entries_that_passed_no_batch_entry_do_not_age_it() -> None:
    one = bulkhead()
    one.enter("first", "R")
    for number in range(3 * AGEING):
        one.enter(f"i{number}", "R")
        assert one.leave("R") == f"i{number}"
    one.enter("b", "R", batch=True)
    one.enter("i", "R")
    assert one.leave("R") == "i"


def test_the_turn_of_a_batch_entry_that_is_taken_out_is_the_next_ones() -> None:
    one = bulkhead()
    one.enter("first", "R")
    one.enter("b", "R", batch=True)
    for number in range(AGEING + 1):
        one.enter(f"i{number}", "R")
    for _ in range(AGEING):
        one.leave("R")
    assert one.remove("b", "R")
    assert one.leave("R") == f"i{AGEING}"


# --- One request's share


def test_one_request_takes_no_more_than_its_share_of_the_places() -> None:
    one = bulkhead(in_flight=5, per_request=2)
    assert [one.enter(name, "R") for name in "abc"] == ["run", "run", "queued"]
    assert [one.enter(name, "S") for name in "def"] == ["run", "run", "queued"]
    assert one.statistics().in_flight == 4
    assert one.enter("g", "T") == "run"


def test_what_waits_for_its_requests_share_runs_when_that_request_gives_a_place_back() -> None:
    one = bulkhead(in_flight=5, per_request=1)
    one.enter("a", "R"), one.enter("b", "R")
    one.enter("c", "S")
    assert one.leave("S") is None  # there is a place, but not for R
    assert one.leave("R") == "b"


def test_a_request_with_many_entries_keeps_another_waiting_for_its_share_only() -> None:
    one = bulkhead(in_flight=1, per_request=2)
    for name in ("r1", "r2", "r3", "r4"):
        one.enter(name, "R")
    one.enter("s", "S")
    assert [one.leave("R"), one.leave("R"), one.leave("S")] == ["r2", "s", "r3"]


def test_what_waits_for_a_share_counts_in_the_bound_of_the_queue() -> None:
    one = bulkhead(in_flight=5, per_request=1, queue=1)
    assert [one.enter(name, "R") for name in "abc"] == ["run", "queued", "full"]


def test_among_what_waits_for_a_share_interactive_goes_first_too() -> None:
    one = bulkhead(in_flight=5, per_request=1)
    one.enter("a", "R")
    one.enter("b", "R", batch=True)
    one.enter("c", "R")
    assert drain(one) == ["c", "b"]


def test_requests_that_have_left_are_not_remembered() -> None:
    one = bulkhead(in_flight=1, per_request=1)
    one.enter("a", "R"), one.enter("b", "R"), one.enter("c", "S")
    assert one.leave("R") == "c"
    assert one.leave("S") == "b"
    assert one.leave("R") is None
    assert (one._shares, one._withheld) == ({}, {})


# --- Taking out


def test_an_entry_that_waits_can_be_taken_out_and_then_never_runs() -> None:
    one = bulkhead()
    for name in "abcd":
        one.enter(name, "R")
    assert one.remove("c", "R")
    assert not one.remove("c", "R")
    assert drain(one) == ["b", "d"]


def test_an_entry_that_has_a_place_is_not_taken_out() -> None:
    one = bulkhead()
    one.enter("a", "R")
    assert not one.remove("a", "R")
    assert not one.remove("never in it", "R")
    assert one.statistics().in_flight == 1


def test_taking_out_from_the_queue_passes_the_share_on() -> None:
    one = bulkhead(in_flight=1, per_request=2)
    one.enter("s", "S")
    for name in ("r1", "r2", "r3"):
        one.enter(name, "R")
    assert one.remove("r1", "R")
    assert [one.leave("S"), one.leave("R"), one.leave("R")] == ["r2", "r3", None]


def test_taking_out_what_waits_for_its_share() -> None:
    one = bulkhead(in_flight=5, per_request=1)
    for name in "abc":
        one.enter(name, "R")
    assert one.remove("b", "R")
    assert one.leave("R") == "c"
    assert one.leave("R") is None


def test_a_long_queue_costs_no_more_per_entry_than_a_short_one() -> None:
    """20,000 entries, taken out from the middle, the end and the front: in squared time this would be minutes."""
    size = 20_000
    one: Bulkhead[int] = Bulkhead(BulkheadPolicy(in_flight=1, per_request=size, queue=size))
    for number in range(size):
        one.enter(number, "R")
    taken_out = {*range(size // 4, size // 2), *range(size - size // 4, size)}
    for number in sorted(taken_out, reverse=True):
        assert one.remove(number, "R")
    order = []
    while (following := one.leave("R")) is not None:
        order.append(following)
    assert order == [number for number in range(1, size) if number not in taken_out]


def test_repr_tells_how_full_it_is() -> None:
    one = bulkhead(in_flight=1, queue=1)
    for name in "abc":
        one.enter(name, "R")
    assert repr(one) == "<Bulkhead 1 of 1 in flight, 1 of 1 queued, 1 rejected>"


# --- Any history


class Line:
    """What waits, in one list; who is next is found by looking at all of it."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, bool]] = []
        self.passed = 0

    def pop(self) -> tuple[int, str, bool]:
        interactive = [one for one in self.entries if not one[2]]
        batch = [one for one in self.entries if one[2]]
        chosen = batch[0] if batch and (not interactive or self.passed >= AGEING) else interactive[0]
        self.passed = self.passed + 1 if batch and not chosen[2] else 0
        self.entries.remove(chosen)
        return chosen

    def __len__(self) -> int:
        return len(self.entries)


class Histories(RuleBasedStateMachine):
    """Any sequence of calls, against a model that counts everything anew each time."""

    @initialize(in_flight=st.integers(1, 4), per_request=st.integers(1, 4), queue=st.integers(0, 12))
    def build(self, in_flight: int, per_request: int, queue: int) -> None:
        self.policy = BulkheadPolicy(in_flight, per_request, queue)
        self.bulkhead: Bulkhead[int] = Bulkhead(self.policy)
        self.made = 0
        self.running: list[tuple[int, str]] = []
        self.queue = Line()
        self.withheld = {owner: Line() for owner in "RST"}

    def share(self, owner: str) -> int:
        return sum(one[1] == owner for one in (*self.running, *self.queue.entries))

    def waiting(self) -> list[tuple[int, str, bool]]:
        return [one for line in (self.queue, *self.withheld.values()) for one in line.entries]

    def pass_share_on(self, owner: str) -> None:
        line = self.withheld[owner]
        if line:
            self.queue.entries.append(line.pop())
            self.forget_empty(owner)

    def forget_empty(self, owner: str) -> None:
        if not self.withheld[owner]:
            self.withheld[owner] = Line()

    @rule(owner=st.sampled_from("RST"), batch=st.booleans())
    def enter(self, owner: str, batch: bool) -> None:
        self.made += 1
        entered = self.bulkhead.enter(self.made, owner, batch)
        within = self.share(owner) < self.policy.per_request
        if within and len(self.running) < self.policy.in_flight:
            assert entered == "run"
            self.running.append((self.made, owner))
        elif len(self.waiting()) == self.policy.queue:
            assert entered == "full"
        else:
            assert entered == "queued"
            (self.queue if within else self.withheld[owner]).entries.append((self.made, owner, batch))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        _, owner = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.pass_share_on(owner)
        runs = self.bulkhead.leave(owner)
        if self.queue:
            chosen = self.queue.pop()
            self.running.append(chosen[:2])
            assert runs == chosen[0]
        else:
            assert runs is None

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.integers(1, self.made))
        found = [one for one in self.waiting() if one[0] == entry]
        if not found:
            assert not self.bulkhead.remove(entry, data.draw(st.sampled_from("RST")))
            return
        (one,) = found
        owner = one[1]
        assert self.bulkhead.remove(entry, owner)
        if one in self.queue.entries:
            self.queue.entries.remove(one)
            self.pass_share_on(owner)
        else:
            self.withheld[owner].entries.remove(one)
            self.forget_empty(owner)

    @invariant()
    def the_promises_hold(self) -> None:
        if not hasattr(self, "policy"):
            return
        waiting = self.waiting()
        statistics = self.bulkhead.statistics()
        assert (statistics.in_flight, statistics.queued) == (len(self.running), len(waiting))
        assert len(self.running) <= self.policy.in_flight
        assert len(waiting) <= self.policy.queue
        running = {owner: sum(one[1] == owner for one in self.running) for owner in "RST"}
        assert max(running.values()) <= self.policy.per_request
        if len(self.running) < self.policy.in_flight:
            kept_waiting = [one for one in waiting if running[one[1]] < self.policy.per_request]
            assert kept_waiting == [], "a place is free, and somebody waits who might have it"

    def teardown(self) -> None:
        """Everybody leaves: everybody who waited has run, and nothing is remembered."""
        if not hasattr(self, "policy"):
            return
        owners = {one[0]: one[1] for one in self.waiting()}
        while self.running:
            runs = self.bulkhead.leave(self.running.pop()[1])
            if runs is not None:
                self.running.append((runs, owners.pop(runs)))
        assert owners == {}
        assert (self.bulkhead.in_flight, self.bulkhead.statistics().queued) == (0, 0)
        assert (self.bulkhead._shares, self.bulkhead._withheld) == ({}, {})


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
