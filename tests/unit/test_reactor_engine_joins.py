"""Joins through the reactor engine, on a fake clock: every Need of up to three effects, in every order of settlement,
held against the model that the interpreter is held against."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pytest
from causal_trace import causes, outcome
from interpreter_driver import failed, ok
from join_contract import (
    SLOTS,
    Case,
    Expected,
    Form,
    cases,
    compiled,
    contract,
    effects_of,
    forms,
    seen_by,
    steps_of,
    value,
    what,
)
from reactor_kit import Reactor

from zerver_runtime.outcome import Outcome
from zerver_runtime.reactor.join import Join, Mode

Pace = Literal["apart", "together", "at once"]
"""The request has its turn after each settlement; after all of them; or they settle as they start."""


def outcome_of(case: Case, index: int) -> Outcome:
    return ok(value(index)) if case.successes[index] else failed(what(index))


def hold_against_the_contract(reactor: Reactor, case: Case, form: Form, pace: Pace) -> None:
    expected = contract(case)
    steps, seen = compiled(case, form)
    reactor.begun.clear()
    if pace == "at once":
        reactor.at_once = lambda index: outcome_of(case, index)
    request = reactor.begin(*steps)
    before: list[Any] = []
    for moment, index in enumerate(case.order if pace != "at once" else (), 1):
        if index not in reactor.attempts:
            continue  # it was cancelled, or never starts
        if not request.answers:
            before.append(request.slots)
        reactor.settle(index, outcome_of(case, index))
        if pace == "apart" or case.mode == "sequential":
            reactor.turn()
            assert bool(request.answers) is (moment >= expected.moment), f"after {moment} settlements"
    reactor.turn()
    reactor.at_once = lambda index: None
    request.exchange.close()

    assert not any(before), "nothing is written before the resolution"
    assert sorted(reactor.begun) == begun(case, expected)
    assert seen == seen_by(case, form, expected)
    answer = request.response
    if expected.fails_with is None:
        assert (answer.status, answer.body) == (200, b"resumed")
        written = [(SLOTS[index].__name__, given) for index, given in expected.values.items()]
        assert list(request.slots.items()) == written, "in the order of the declaration"
    else:
        assert (answer.status, answer.body) == (502, what(expected.fails_with).encode())
        assert request.slots == {}, "nothing is written when the Need fails"
    assert [one.what for one in request.exchange.run.errors] == [what(index) for index in expected.errors]
    trace = [line for line in causes(request.events) if line.startswith(("JoinSatisfied", "EffectCancelled", "effect"))]
    assert trace == traced(case, expected)
    reactor.assert_idle()


def begun(case: Case, expected: Expected) -> list[int]:
    """The effects that are started: those that do not run in sequence all are."""
    size = len(case.required)
    return [index for index in range(size) if case.mode == "parallel" or index not in expected.cancelled]


def traced(case: Case, expected: Expected) -> list[str]:
    """What a trace has to tell of the Need."""
    labels = [effect.label for effect in effects_of(case)]
    late = {index: ", late" * (index in expected.detached) for index in range(len(labels))}
    return [
        f"JoinSatisfied 1 {'resumed' if expected.fails_with is None else 'failed'}",
        *(f"EffectCancelled 1.{index} {labels[index]}" for index in expected.cancelled),
        *(
            f"effect 1.{index} {label}: scheduled, start, {outcome(outcome_of(case, index))}{late[index]}"
            for index, label in enumerate(labels)
            if index not in expected.cancelled
        ),
    ]


@pytest.mark.parametrize("size", range(4))
@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("join", get_args(Join))
def test_every_history_of_up_to_three_effects_ends_as_the_contract_says(join: Join, mode: Mode, size: int) -> None:
    reactor = Reactor()
    held = 0
    for number, case in enumerate(cases(size, join, mode)):
        form = forms(size)[number % len(forms(size))]
        paces: tuple[Pace, ...] = ("apart", "together")
        if mode == "sequential":
            paces = ("apart", "at once")  # there is never a second one to settle together with
        elif case.order == tuple(range(size)):
            paces = get_args(Pace)
        elif size == 3:  # every other history at either pace: number.bit_count() goes with no part of the case
            paces = (paces[number.bit_count() % 2],)
        for pace in paces:
            try:
                hold_against_the_contract(reactor, case, form, pace)
            except BaseException as problem:
                problem.add_note(f"{case}, asked for by {form!r}, settling {pace}")
                raise
            held += 1
    assert held


def test_a_request_is_live_until_its_last_detached_effect_is_told() -> None:
    """Else a stop could come in between, and the trace would lack the event."""
    case = Case((True, False), "all_required", "parallel", True, (0, 1), (True, True))
    reactor = Reactor()
    request = reactor.begin(*steps_of(case, "then", []))
    reactor.settle(0, ok("a"))
    reactor.turn()
    request.exchange.close()
    assert not reactor.engine.live.empty
    reactor.settle(1, ok("b"))
    assert not reactor.engine.live.empty
    reactor.turn()
    assert request.events[-1].kind.name == "EffectLate"
    reactor.assert_idle()
