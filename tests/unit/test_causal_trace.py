"""The partial order that the traces of engines are held against: what breaks it, and what is all the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from causal_trace import Event, causes
from interpreter_driver import Driver, failed, ok
from join_contract import Case, steps_of
from reactor_kit import Reactor

from zerver.trace.events import EventKind as K

ENGINE_ONLY = (K.ContinuationEnqueued,)


def trace_of(case: Case) -> list[Event]:
    """The trace of this case, with its effects settling in its order."""
    reactor = Reactor()
    request = reactor.begin(*steps_of(case, "then", []))
    for index in case.order:
        if index in reactor.attempts:
            reactor.settle(index, ok(index) if case.successes[index] else failed(str(index)))
            reactor.turn()
    request.exchange.close()
    return request.events


PARALLEL = trace_of(Case((True, True, False), "all_required", "parallel", False, (1, 0), (True, True, True)))
SEQUENTIAL = trace_of(Case((True, True), "all", "sequential", False, (0, 1), (True, True)))
DETACHED = trace_of(Case((True, False), "all_required", "parallel", True, (0, 1), (True, True)))
FAILED = trace_of(Case((True, True), "all", "parallel", False, (0,), (False, True)))
TRACES = {"parallel": PARALLEL, "sequential": SEQUENTIAL, "detached": DETACHED, "failed": FAILED}


@pytest.mark.parametrize("events", TRACES.values(), ids=TRACES)
def test_no_event_can_be_missing(events: list[Event]) -> None:
    whole = causes(events)
    cancelled = {(event.need, event.effect) for event in events if event.kind is K.EffectCancelled}
    for position, event in enumerate(events):
        if event.kind in ENGINE_ONLY or (
            event.kind is not K.EffectCancelled and (event.need, event.effect) in cancelled
        ):
            continue  # how far it had come is the engine's affair
        try:
            without = causes(events[:position] + events[position + 1 :])
        except AssertionError:
            continue
        assert without != whole, f"{event} is not missed"


@pytest.mark.parametrize("events", TRACES.values(), ids=TRACES)
def test_the_events_of_the_request_come_in_one_order(events: list[Event]) -> None:
    """Any two neighbours among those that are not of an effect."""
    whole = causes(events)
    spine = [position for position, event in enumerate(events) if event.effect == -1]
    for one, other in pairwise(spine):
        swapped = list(events)
        swapped[one], swapped[other] = events[other], events[one]
        try:
            told = causes(swapped)
        except AssertionError:
            continue
        assert told != whole, f"{events[one]} and {events[other]} may be swapped"


def moved(events: list[Event], kind: K, effect: int, before: K) -> list[Event]:
    """With the event of an effect moved in front of the first of another kind."""
    event = next(one for one in events if one.kind is kind and one.effect == effect)
    rest = [one for one in events if one is not event]
    at = next(position for position, one in enumerate(rest) if one.kind is before)
    return [*rest[:at], event, *rest[at:]]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (moved(PARALLEL, K.EffectStart, 0, K.NeedScheduled), "comes before its Need"),
        (moved(PARALLEL, K.ReactorEffectScheduled, 0, K.NeedScheduled), "before its Need"),
        (moved(PARALLEL, K.ReactorEffectCompleted, 0, K.RequestEnd), "after the resolution and is not late"),
        (moved(PARALLEL, K.ReactorEffectCompleted, 0, K.EffectStart), "comes after"),
        (moved(PARALLEL, K.EffectCancelled, 2, K.JoinSatisfied), "has no reason"),
        (moved(DETACHED, K.EffectLate, 1, K.JoinSatisfied), "late before the resolution"),
        (
            moved(moved(SEQUENTIAL, K.EffectStart, 1, K.EffectStart), K.ReactorEffectScheduled, 1, K.EffectStart),
            "began",
        ),
        ([*SEQUENTIAL, SEQUENTIAL[0]], "comes after"),
        (SEQUENTIAL[:-1], "it ends with"),
        ([], "empty"),
    ],
)
def test_a_trace_that_breaks_the_order_is_told(events: list[Event], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        causes(events)


def test_independent_effects_may_interleave() -> None:
    """Also with the request, as far as nothing waits for them."""
    chain = [event for event in DETACHED if event.effect == 1]
    rest = [event for event in DETACHED if event.effect != 1]
    assert causes(rest + chain) == causes(DETACHED)
    start = next(position for position, event in enumerate(PARALLEL) if event.kind is K.EffectStart)
    later = [*PARALLEL[:start], *PARALLEL[start + 1 : start + 3], PARALLEL[start], *PARALLEL[start + 3 :]]
    assert causes(later) == causes(PARALLEL)


def test_at_the_deadline_an_effect_may_settle_first_or_the_request_may_end_first() -> None:
    """And what goes on from the effect may have been about to begin."""
    optional = steps_of(Case((False,), "all", "parallel", False, (0,), (False,)), "then", [])
    ended, settled = Driver(*optional), Driver(*optional)
    for driver in (ended, settled):
        driver.start()
    ended.deadline_passes()
    settled.pass_time(31)
    settled.settle(0, failed())
    assert K.ContinuationStart in [event.kind for event in settled.events]
    for driver in (ended, settled):
        driver.close()
    assert causes(settled.events) == causes(ended.events)
