"""How long one request may keep the loop: its turn in the reactor engine is bounded, and others come in between."""

from __future__ import annotations

import pytest
from interpreter_driver import effect, ok
from reactor_kit import Reactor

from zerver import CtxView, Decision, Done, Need
from zerver.effect import Effect

STEPS = 200


@pytest.mark.parametrize(
    ("effects", "seconds", "most"),
    [
        ([effect()], 0.001, 5),  # 2 ms after its first step, and the one under way
        ([effect()], 0.0001, 25),
        ([], 0.0001, 65),  # 64 continuations
    ],
    ids=["effects that settle at once, and slow steps", "effects that settle at once", "no effects"],
)
def test_a_request_that_could_go_on_and_on_gives_way_to_others(
    effects: list[Effect[object]], seconds: float, most: int
) -> None:
    reactor, ran = Reactor(), 0
    reactor.at_once = lambda args: ok()

    def again(ctx: CtxView) -> Decision:
        nonlocal ran
        ran += 1
        reactor.loop_clock.advance(seconds)
        return Done.empty() if ran == STEPS else Need(effects, then=again)

    def quick(ctx: CtxView) -> Decision:
        return Done.text("here")

    long = reactor.begin(again)
    assert ran <= most
    other = reactor.begin(quick)
    while not other.answers:
        reactor.ready.popleft()()
    assert other.response.body == b"here"
    assert not long.answers
    reactor.turn()
    assert (ran, long.response.status) == (STEPS, 204)
    for one in (long, other):
        one.exchange.close()
    reactor.turn()
    reactor.assert_idle()
