"""Supervisors: the whole table of strategies, restart types and exit reasons, and what a supervisor makes of it."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
from actor_kit import Stage
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.actor import Actor
from zerver_runtime.behaviour import behaviour
from zerver_runtime.message import ExitKind, ExitReason
from zerver_runtime.supervisor import (
    ChildSpec,
    Decision,
    Intensity,
    Restart,
    Strategy,
    Supervisor,
    TooManyRestarts,
    child,
    decide,
)

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
RESTARTS: tuple[Restart, ...] = get_args(Restart)
REASONS: tuple[ExitKind, ...] = get_args(ExitKind)
OFTEN = Intensity(1000, 1.0)

RESTARTED = {
    "permanent": {"normal", "shutdown", "crash", "killed", "lost"},
    "transient": {"crash", "killed", "lost"},
    "temporary": set[str](),
}


@pytest.mark.parametrize(("strategy", "restart", "reason"), list(product(STRATEGIES, RESTARTS, REASONS)))
def test_the_restart_type_and_the_reason_decide_whether(strategy: Strategy, restart: Restart, reason: ExitKind) -> None:
    decision = decide(
        [("a", "permanent"), ("b", restart), ("c", "permanent")], "b", ExitReason(reason), strategy, OFTEN, (), 7
    )
    if reason in RESTARTED[restart]:
        assert "b" in decision.start
        assert decision.history == (7,)
    else:
        assert decision == Decision(forget=("b",))


@pytest.mark.parametrize(
    ("strategy", "stop", "start"),
    [
        ("one_for_one", (), ("c",)),
        ("one_for_all", ("e", "d", "b", "a"), ("a", "b", "c", "e")),
        ("rest_for_one", ("e", "d"), ("c", "e")),
    ],
)
def test_the_strategy_decides_who_else_in_reverse_and_in_order(
    strategy: Strategy, stop: tuple[str, ...], start: tuple[str, ...]
) -> None:
    children: list[tuple[str, Restart]] = [
        ("a", "permanent"), ("b", "transient"), ("c", "permanent"), ("d", "temporary"), ("e", "permanent"),
    ]  # fmt: skip
    decision = decide(children, "c", ExitReason("crash"), strategy, OFTEN, (), 0)
    assert (decision.stop, decision.start) == (stop, start)
    assert decision.forget == (("d",) if "d" in stop else ())


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(0, 4))
def test_it_gives_up_exactly_when_there_were_more_restarts_in_the_window(gaps: list[int], restarts: int) -> None:
    intensity, history, now, times = Intensity(restarts, 1.0), (), 0, list[int]()
    for gap in gaps:
        now += gap * 1_000_000
        times.append(now)
        decision = decide(
            [("a", "permanent"), ("b", "temporary")], "a", ExitReason("crash"), "one_for_one", intensity, history, now
        )
        history = decision.history
        assert decision.give_up == (len([then for then in times if now - then < 1_000_000_000]) > restarts)
        if decision.give_up:
            assert decision.stop == ("b",)
            assert decision.start == ()


class Log:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.failing: set[str] = set()


class Child(Actor):
    def __init__(self, log: Log, name: str) -> None:
        if name in log.failing:
            raise OSError(f"{name} cannot start")
        self.log, self.name = log, name
        log.events.append(f"+{name}")

    @behaviour
    def crash(self) -> None:
        raise ValueError("broken")

    @behaviour
    async def doze(self) -> None:
        await self.sleep(1000)

    def stopped(self, reason: ExitReason) -> None:
        self.log.events.append(f"-{self.name} {reason.kind}")


def specs(log: Log, names: str) -> list[ChildSpec]:
    return [child(name, Child, log, name) for name in names]


def supervise(stage: Stage, children: list[ChildSpec], *args: Any) -> Any:
    return stage.scheduler.spawn(Supervisor, (children, *args))


@pytest.mark.parametrize(
    ("strategy", "events"),
    [
        ("one_for_one", ["-b crash", "+b"]),
        ("one_for_all", ["-b crash", "-c shutdown", "-a shutdown", "+a", "+b", "+c"]),
        ("rest_for_one", ["-b crash", "-c shutdown", "+b", "+c"]),
    ],
)
def test_a_crash_restarts_whom_the_strategy_names(strategy: Strategy, events: list[str]) -> None:
    stage, log = Stage(), Log()
    supervisor = supervise(stage, specs(log, "abc"), strategy)
    assert log.events == ["+a", "+b", "+c"]
    old = stage.scheduler.whereis("b")
    old.crash()
    stage.settle()
    assert log.events[3:] == events
    new = stage.scheduler.whereis("b")
    assert new != old, "the name finds the new one; the old ref is dead for good"
    assert list(stage.ask(supervisor.children())) == ["a", "b", "c"]
    assert stage.ask(supervisor.children())["b"] == new


def test_stopping_it_stops_the_children_in_reverse() -> None:
    stage, log = Stage(), Log()
    supervisor = supervise(stage, specs(log, "abc"))
    stage.ask(supervisor.stop())
    assert log.events[3:] == ["-c shutdown", "-b shutdown", "-a shutdown"]
    assert stage.scheduler.cells == {}


def test_a_child_that_does_not_stop_in_time_is_killed() -> None:
    stage, log = Stage(), Log()
    first, second = specs(log, "ab")
    supervisor = supervise(stage, [first, second.options(shutdown=2.0)])
    stage.scheduler.whereis("b").doze()
    stage.settle()
    reply = supervisor.stop()
    stage.advance(1.999)
    assert log.events == ["+a", "+b"]
    stage.advance(0.001)
    assert log.events[2:] == ["-b killed", "-a shutdown"]
    assert reply.done


def test_a_shutdown_of_nothing_kills_at_once() -> None:
    stage, log = Stage(), Log()
    supervisor = supervise(stage, [spec.options(shutdown=0) for spec in specs(log, "a")])
    stage.scheduler.whereis("a").doze()
    stage.settle()
    stage.ask(supervisor.stop())
    assert log.events[1:] == ["-a killed"]


@pytest.mark.parametrize(
    ("restart", "how", "again"),
    [("permanent", "stop", True), ("transient", "stop", False), ("transient", "crash", True),
     ("temporary", "crash", False)],
)  # fmt: skip
def test_a_child_comes_back_as_its_restart_type_says(restart: Restart, how: str, again: bool) -> None:
    stage, log = Stage(), Log()
    (spec,) = specs(log, "a")
    supervisor = supervise(stage, [spec.options(restart=restart)])
    getattr(stage.scheduler.whereis("a"), how)()
    stage.settle()
    assert (stage.scheduler.whereis("a") is not None) is again
    assert list(stage.ask(supervisor.children())) == (["a"] if again else [])


def test_too_many_restarts_end_the_supervisor_loudly_and_its_supervisor_decides() -> None:
    stage, log = Stage(), Log()
    inner = child("inner", Supervisor, specs(log, "ab"), "one_for_one", Intensity(2, 10.0))
    supervise(stage, [inner])
    first = stage.scheduler.whereis("inner")
    for _ in range(3):
        stage.scheduler.whereis("b").crash()
        stage.settle()
    assert stage.scheduler.whereis("inner") != first
    errors = [error for _, error in stage.reports if isinstance(error, TooManyRestarts)]
    assert [str(error) for error in errors] == [
        "child 'b' ended again after 2 restarts within 10 s; its last end: crash: ValueError: broken in crash()"
    ]
    assert log.events[-4:] == ["-b crash", "-a shutdown", "+a", "+b"]


def test_restarts_that_are_far_apart_do_not_count_together() -> None:
    stage, log = Stage(), Log()
    supervise(stage, specs(log, "a"), "one_for_one", Intensity(1, 5.0))
    for _ in range(5):
        stage.scheduler.whereis("a").crash()
        stage.advance(5)
    assert stage.scheduler.whereis("a") is not None


def test_a_first_start_that_fails_comes_out_of_spawn_and_leaves_nobody() -> None:
    stage, log = Stage(), Log()
    log.failing.add("c")
    with pytest.raises(OSError, match="c cannot start"):
        supervise(stage, specs(log, "abc"))
    assert log.events == ["+a", "+b", "-b killed", "-a killed"]
    assert stage.settle() is None
    assert stage.scheduler.cells == {}


def test_a_restart_that_fails_is_a_crash_of_that_child_until_it_gives_up() -> None:
    stage, log = Stage(), Log()
    supervise(stage, specs(log, "ab"), "one_for_all", Intensity(3, 10.0))
    log.failing.add("b")
    stage.scheduler.whereis("b").crash()
    stage.settle()
    assert stage.scheduler.cells == {}
    assert [type(error) for _, error in stage.reports] == [ValueError, OSError, OSError, OSError, TooManyRestarts]


def test_when_it_is_killed_its_children_are_killed_in_reverse() -> None:
    stage, log = Stage(), Log()
    supervisor = supervise(stage, specs(log, "ab"))
    stage.scheduler.kill(supervisor)
    assert log.events[2:] == ["-b killed", "-a killed"]
    assert stage.settle() is None


def test_a_child_that_ends_while_a_sibling_stops_is_not_started_twice() -> None:
    stage, log = Stage(), Log()
    supervise(stage, specs(log, "abc"), "one_for_all")
    a, b, c = (stage.scheduler.whereis(name) for name in "abc")
    for ref in (a, b, c):
        ref.crash()
    stage.settle()
    assert sorted(log.events[-3:]) == ["+a", "+b", "+c"]
    assert len(stage.scheduler.cells) == 4


def test_options_that_cannot_be_are_refused() -> None:
    stage, log = Stage(), Log()
    with pytest.raises(ValueError, match="two children have one name"):
        supervise(stage, specs(log, "aa"))
    with pytest.raises(ValueError, match="strategy='all'"):
        supervise(stage, specs(log, "a"), "all")
    with pytest.raises(ValueError, match="child 'a': restart='always'"):
        specs(log, "a")[0].options(restart="always")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shutdown=-1"):
        specs(log, "a")[0].options(shutdown=-1)
    with pytest.raises(ValueError, match="shutdown=nan"):
        specs(log, "a")[0].options(shutdown=float("nan"))
    for restarts in (-1, float("nan")):
        with pytest.raises(ValueError, match="0 or more restarts"):
            Intensity(restarts)  # type: ignore[arg-type]


def test_a_child_may_have_for_ever_to_stop_and_an_intensity_for_ever_to_count() -> None:
    stage, log = Stage(), Log()
    endless = [spec.options(shutdown=float("inf")) for spec in specs(log, "a")]
    supervisor = supervise(stage, endless, "one_for_one", Intensity(1, float("inf")))
    stage.scheduler.whereis("a").crash()
    stage.settle()
    assert log.events[-1] == "+a"
    stage.ask(supervisor.stop())
    assert stage.scheduler.cells == {}
