"""The mailbox: a queue with a bound, whose memory follows its load."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.mailbox import KEPT, Mailbox, MailboxPolicy

OPERATIONS = st.lists(st.sampled_from(["push", "push", "push", "pop", "pop", "force", "shrink", "clear"]), max_size=200)


@given(OPERATIONS, st.integers(1, 40))
def test_it_is_a_queue_that_never_takes_more_than_its_bound(operations: list[str], bound: int) -> None:
    box, model = Mailbox(MailboxPolicy(bound)), deque[int]()
    for number, operation in enumerate(operations):
        match operation:
            case "push":
                assert box.push(number) == (len(model) < bound)
                if len(model) < bound:
                    model.append(number)
            case "force":
                box.force(number)
                model.append(number)
            case "pop" if model:
                assert box.pop() == model.popleft()
            case "pop":
                with pytest.raises(IndexError):
                    box.pop()
            case "shrink":
                box.shrink()
            case _:
                assert box.clear() == list(model)
                model.clear()
        assert len(box) == len(model)
        assert box.capacity == 0 or box.capacity & (box.capacity - 1) == 0
        assert box.capacity < max(2 * len(operations), KEPT + 1)


def test_it_starts_without_memory_and_grows_by_doubling() -> None:
    box = Mailbox(MailboxPolicy(bound=20))
    sizes = [box.capacity]
    for number in range(20):
        assert box.push(number)
        if box.capacity != sizes[-1]:
            sizes.append(box.capacity)
    assert sizes == [0, 4, 8, 16, 32]
    assert not box.push(20)


def test_it_gives_its_memory_back_when_empty_only() -> None:
    box = Mailbox(MailboxPolicy())
    for number in range(100):
        box.push(number)
    box.shrink()
    assert box.capacity == 128
    box.clear()
    assert box.capacity == 0
    box.push(1)
    box.pop()
    box.shrink()
    assert box.capacity == KEPT, "one message at a time does not allocate"


def test_a_message_that_was_taken_is_not_kept_alive() -> None:
    box = Mailbox(MailboxPolicy())
    box.push("message")
    box.pop()
    assert "message" not in box.ring


@pytest.mark.parametrize(
    ("bound", "pressure", "relief"), [(1, 0, 1), (2, 1, 1), (4, 2, 1), (8, 4, 2), (1024, 512, 256)]
)
def test_it_presses_past_half_and_is_relieved_below_a_quarter(bound: int, pressure: int, relief: int) -> None:
    policy = MailboxPolicy(bound)
    assert (policy.pressure, policy.relief) == (pressure, relief)


def test_a_policy_that_cannot_be_is_refused() -> None:
    for bound in (0, 0.5, 10.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"bound={bound}"):
            MailboxPolicy(bound)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='use "mute", "drop" or "fail"'):
        MailboxPolicy(full="wait")  # type: ignore[arg-type]
