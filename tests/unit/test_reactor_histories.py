"""Whatever happens in whatever order, each request is answered once and leaves nothing behind."""

from __future__ import annotations

import logging
from asyncio import events
from collections.abc import Iterator
from typing import Any, cast

import pytest
from engine_world import Ask, Client, Program, Stage, World
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zerver_runtime.outcome import Success
from zerver_runtime.reactor.join import check

asks = st.builds(
    Ask,
    required=st.booleans(),
    batch=st.booleans(),
    at_once=st.sampled_from([None, None, None, True, False]),
    lets_go=st.booleans(),
    attempts=st.sampled_from([1, 1, 3]),
    crashes=st.sampled_from([False] * 9 + [True]),
)
joins = st.sampled_from(["all", "all_required", "any", "first_success"])


def possible(stage: Stage) -> bool:
    if stage.what == "await" and not stage.effects:
        return False
    return check([one.required for one in stage.effects], stage.join, stage.mode, stage.detach) is None


stages = st.one_of(
    st.builds(
        Stage,
        what=st.just("need"),
        effects=st.lists(asks, max_size=3).map(tuple),
        join=joins,
        mode=st.sampled_from(["parallel", "sequential"]),
        detach=st.booleans(),
        takes=st.sampled_from([0, 0, 0, 20]),
        exits=st.sampled_from([0, 1]),
    ),
    st.builds(
        Stage,
        what=st.just("await"),
        effects=st.lists(asks, min_size=1, max_size=3).map(tuple),
        join=joins,
        takes=st.sampled_from([0, 0, 0, 20]),
        exits=st.sampled_from([0, 1]),
    ),
    st.builds(
        Stage,
        what=st.sampled_from(["continue", "continue", "done", "raise", "exit"]),
        takes=st.sampled_from([0, 0, 20]),
        exits=st.sampled_from([0, 1]),
    ),
).filter(possible)
programs = st.builds(
    Program,
    stages=st.lists(stages, max_size=4).map(tuple),
    deadline=st.sampled_from([0.015, 1.0, 30.0]),
    on_answer=st.sampled_from(["nothing", "nothing", "out", "close", "begin", "cancel", "raise"]),
)


@pytest.fixture
def world() -> Iterator[World]:
    before = events._get_running_loop()
    made = World("adaptive")
    events._set_running_loop(cast(Any, made))
    yield made
    events._set_running_loop(before)


def test_exit_callbacks_run_although_their_pool_was_closed(world: World) -> None:
    client = world.begin(Program((Stage("done", exits=2),)))
    client.close()
    assert client.exits == []
    world.afterwards.close()  # while they wait for a thread
    world.rounds()
    other = world.begin(Program((Stage("done", exits=1),)))
    other.close()
    for one in (client, other):
        one.check()
    assert (client.exits, other.exits) == ([1, 0], [0])
    assert world.leftovers() == {}
    world.engine.close()


def test_nothing_begins_in_the_background_once_it_was_dropped(world: World) -> None:
    asks = (Ask(), Ask(required=False))
    client = world.begin(Program((Stage("need", asks, "all_required", "sequential", detach=True),)))
    assert client.exchange is not None
    client.exchange.drop_background()
    client.exchange.cancel("the server stops")
    world.rounds()
    assert world.held == []
    client.close()
    assert world.leftovers() == {}
    world.engine.close()


class Histories(RuleBasedStateMachine):
    """Each rule is one thing that may happen to an engine; ``at`` chooses to what of those that there are."""

    @initialize(mode=st.sampled_from(["adaptive", "adaptive", "pool", "inline"]))
    def start(self, mode: Any) -> None:
        self.world = World(mode)
        self.stopped = False
        logging.disable()
        self.loop_before = events._get_running_loop()
        events._set_running_loop(cast(Any, self.world))

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.finish_everything()
            assert self.world.leftovers() == {}
            for client in self.world.clients:
                client.check()
            self.world.engine.close()
            self.world.rounds()
            assert self.world.leftovers() == {}
        finally:
            logging.disable(logging.NOTSET)
            self.world.engine.close()
            events._set_running_loop(self.loop_before)

    def client(self, at: int, **wanted: bool) -> Client | None:
        found = [
            one for one in self.world.clients if all(getattr(one, name) == value for name, value in wanted.items())
        ]
        return found[at % len(found)] if found else None

    @rule(program=programs)
    def begin(self, program: Program) -> None:
        if not self.stopped:
            self.world.begin(program)

    @rule(program=programs, several=st.integers(2, 6))
    def a_burst(self, program: Program, several: int) -> None:
        if not self.stopped:
            for _ in range(several):
                self.world.begin(program)

    @rule(at=st.integers(0, 99), succeeds=st.sampled_from([True, True, False]))
    def settle(self, at: int, succeeds: bool) -> None:
        if self.world.held:
            held = self.world.held[at % len(self.world.held)]
            self.world.settle(held, Success(None) if succeeds else self.world.failure())

    @rule()
    def go_round(self) -> None:
        self.world.round()

    @rule(at=st.integers(0, 99), kill=st.booleans())
    def cancel(self, at: int, kill: bool) -> None:
        client = self.client(at)
        if client is not None and client.exchange is not None:
            (client.exchange.kill if kill else client.exchange.cancel)("the client has gone")
            assert client.answers

    @rule(at=st.integers(0, 99), over=st.booleans())
    def close(self, at: int, over: bool) -> None:
        client = self.client(at, over=over, closed=False)
        if client is not None:
            client.close()
            assert client.answers

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.time.advance(seconds)

    @rule(at=st.integers(0, 99))
    def drop_background(self, at: int) -> None:
        client = self.client(at)
        if client is not None and client.exchange is not None:
            client.exchange.drop_background()

    @rule(at=st.integers(0, 99))
    def a_thread_begins(self, at: int) -> None:
        jobs = [job for pool in self.world.pools for job in pool.queued]
        if jobs:
            jobs[at % len(jobs)].begin()

    @rule(at=st.integers(0, 99))
    def a_thread_is_back(self, at: int) -> None:
        jobs = [job for pool in self.world.pools for job in pool.running]
        if jobs:
            jobs[at % len(jobs)].finish()

    @rule(chance=st.sampled_from([False] * 9 + [True]))
    def stop(self, chance: bool) -> None:
        """As a server does past its grace."""
        if chance and not self.stopped:
            self.stopped = self.world.stopped = True
            self.world.engine.live.cancel_all("the server stops")
            assert all(one.answers for one in self.world.clients)
            for client in self.world.clients:
                client.close()
            self.world.engine.close()
            self.world.afterwards.close()

    @invariant()
    def what_is_not_at_its_end_is_live(self) -> None:
        if not hasattr(self, "world"):
            return
        live = set(self.world.engine.live)
        for client in self.world.clients:
            client.check()
            if client.exchange is not None:
                over = client.closed and len(client.exits) == client.exits_due
                assert over or client.exchange in live, "a stop would not wait for it"


Histories.TestCase.settings = settings(
    stateful_step_count=30,
    report_multiple_bugs=False,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestHistories = Histories.TestCase
