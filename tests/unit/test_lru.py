"""The cache in memory: bounds, time, and the order in which entries go; against a model."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from zerver.lru import Lru, LruStatistics

ENTRY = 4 + 200  # bytes of an entry with a key of one letter, beside its value


def test_a_value_is_there_for_its_time_and_not_longer() -> None:
    lru = Lru(10_000)
    lru.set("a", b"1", 5.0, 100.0)
    assert lru.get("a", 104.999) == b"1"
    assert lru.get("a", 105.0) is None
    assert lru.get("a", 104.0) is None, "what was found to be over is gone"
    assert lru.statistics() == LruStatistics(entries=0, size=0, hits=1, misses=2, evicted=0)


def test_what_was_used_longest_ago_goes_first() -> None:
    lru = Lru(3 * (ENTRY + 1))
    for key in "abc":
        lru.set(key, b"1", 10, 0)
    assert lru.get("a", 1) == b"1"
    lru.set("d", b"1", 10, 1)
    assert [lru.get(key, 1) for key in "abcd"] == [b"1", None, b"1", b"1"]
    lru.set("a", b"2", 10, 1)
    lru.set("e", b"1", 10, 1)
    assert [lru.get(key, 1) for key in "acde"] == [b"2", None, b"1", b"1"]
    assert lru.statistics().evicted == 2


def test_setting_a_key_again_begins_its_time_and_size_anew() -> None:
    lru = Lru(10_000)
    lru.set("a", b"1" * 100, 5, 0)
    lru.set("a", b"2", 5, 4)
    assert lru.get("a", 8) == b"2"
    assert lru.statistics().size == ENTRY + 1


def test_what_is_too_large_is_not_kept_and_puts_nothing_out() -> None:
    lru = Lru(1000)
    lru.set("a", b"1", 5, 0)
    lru.set("b", b"1", 5, 0)
    lru.set("b", b"2" * 1000, 5, 0)
    assert lru.get("a", 1) == b"1"
    assert lru.get("b", 1) is None, "not the value that it had before"


def test_deleting_what_is_not_there_changes_nothing() -> None:
    lru = Lru(1000)
    lru.set("a", b"1", 5, 0)
    lru.delete("b")
    lru.delete("a")
    lru.delete("a")
    assert lru.statistics() == LruStatistics(0, 0, 0, 0, 0)


STEPS = st.tuples(
    st.sampled_from(["get", "set", "delete"]),
    st.sampled_from("abcdef"),
    st.integers(0, 400),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([0.0, 0.0, 0.4, 1.1]),
)


@given(st.integers(0, 1500), st.lists(STEPS, max_size=60))
def test_it_is_never_larger_than_it_may_be_and_gives_what_was_set_last(
    most: int, steps: list[tuple[str, str, int, float, float]]
) -> None:
    lru = Lru(most)
    model: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
    now = 0.0
    for op, key, size, ttl, passed in steps:
        now += passed
        if op == "get":
            entry = model.get(key)
            alive = entry is not None and now < entry[1]
            if not alive:
                model.pop(key, None)
            else:
                model.move_to_end(key)
            assert lru.get(key, now) == (entry[0] if entry is not None and alive else None)
        elif op == "set":
            value = bytes(size)
            lru.set(key, value, ttl, now)
            model.pop(key, None)
            if ENTRY + size <= most:
                model[key] = (value, now + ttl)
            while sum(ENTRY + len(kept) for kept, _ in model.values()) > most:
                model.popitem(last=False)
        else:
            lru.delete(key)
            model.pop(key, None)
        found = lru.statistics()
        assert found.size == sum(ENTRY + len(kept) for kept, _ in model.values()) <= most
        assert found.entries == len(model)
