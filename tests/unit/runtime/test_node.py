"""What a Node decides: tables of events and of the actions that have to follow."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

from zerver_runtime import control
from zerver_runtime.message import NotPlainData
from zerver_runtime.node import NodeState
from zerver_runtime.node_config import NodeConfig
from zerver_runtime.node_words import (
    Action,
    CloseListener,
    DumpStack,
    Event,
    Exit,
    Exited,
    Fork,
    Forked,
    Kill,
    Lend,
    Log,
    Lost,
    MakePair,
    NodeLimits,
    Received,
    Send,
    Serving,
    Signalled,
    Start,
    StopListening,
    Tick,
)
from zerver_runtime.placement import ActorSpec, least_busy
from zerver_runtime.scheduler_view import Backoff, Key, SchedulerView

A1, B1, E1 = (0, 1), (1, 1), (2, 1)
C1 = (2, 1)
LIMITS = NodeLimits(stuck_after=5, replace_after=30, boot=60, grace=10)


class Drive:
    """A Node with a clock that stands still until it is told otherwise."""

    def __init__(self, state: NodeState) -> None:
        self.state = state
        self.now = 100.0

    def __call__(self, event: Event) -> list[Action]:
        return self.state.handle(event, self.now)

    def say(self, key: Key, word: control.ToNode) -> list[Action]:
        return self(Received(key, word))

    def after(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self(Tick())

    def ready(self, *keys: Key) -> list[Action]:
        return [action for key in keys for action in self.say(key, control.Ready())]

    def beat(self, *keys: Key, load: int = 0) -> None:
        for key in keys:
            self.say(key, control.Beat(load))


def node(performance: int = 2, efficiency: int = 1, **options: object) -> Drive:
    options.setdefault("limits", LIMITS)
    options.setdefault("listeners", performance)
    drive = Drive(NodeState(performance, efficiency, **options))  # type: ignore[arg-type]
    drive(Start())
    return drive


def running(performance: int = 2, efficiency: int = 1, **options: object) -> Drive:
    drive = node(performance, efficiency, **options)
    drive.ready(*list(drive.state.views))
    return drive


def sends(actions: list[Action], kind: type) -> list[tuple[Key, object]]:
    return [(one.key, one.word) for one in actions if isinstance(one, Send) and isinstance(one.word, kind)]


def logs(actions: list[Action]) -> str:
    return "\n".join(one.text for one in actions if isinstance(one, Log))


def without_logs(actions: list[Action]) -> list[Action]:
    return [one for one in actions if not isinstance(one, Log)]


# --- Start, death, restart


def test_at_the_start_each_slot_is_forked_and_each_two_schedulers_get_a_pair() -> None:
    state = NodeState(2, 1, 1)
    assert state.handle(Start(), 0.0) == [
        Fork(A1, "performance"),
        Fork(B1, "performance"),
        MakePair(A1, B1),
        Fork(E1, "efficiency"),
        MakePair(A1, E1),
        MakePair(B1, E1),
        Fork((3, 1), "compute"),  # holds no actors, and works for all
        Lend((3, 1), A1),
        Lend((3, 1), B1),
        Lend((3, 1), E1),
    ]


def test_a_dead_scheduler_is_forked_anew_after_a_back_off_with_fresh_pairs() -> None:
    drive = running()
    died = drive(Exited(B1, "signal 9"))
    assert sends(died, control.PeerLost) == [
        (A1, control.PeerLost(*B1, "signal 9")),
        (E1, control.PeerLost(*B1, "signal 9")),
    ]
    assert not [one for one in died if isinstance(one, Fork)]
    assert drive.state.wake_at() == pytest.approx(100.05)
    assert drive.after(0.04) == []
    assert drive.after(0.02) == [Fork((1, 2), "performance"), MakePair(A1, (1, 2)), MakePair(E1, (1, 2))]
    assert drive.state.slots[1].restarts == 1


def test_restarts_wait_twice_as_long_each_time_up_to_the_cap_until_there_were_too_many() -> None:
    backoff = Backoff(first=0.05, cap=0.3, intensity=5, window=10)
    assert [backoff.restart(now) for now in range(5)] == [0.05, 0.1, 0.2, 0.3, 0.3]
    assert backoff.restart(5) is None
    assert backoff.restart(11) is not None  # those of more than 10 s ago do not count
    assert backoff.restart(40) == 0.05  # after a quiet window it begins anew


def test_a_slot_that_dies_too_often_is_given_up_loudly_and_its_listener_closed_everywhere() -> None:
    drive = running(limits=NodeLimits(intensity=2, window=10))
    for incarnation in (1, 2):
        drive(Exited((1, incarnation), "exit 1"))
        drive.after(0.5)
        drive.ready((1, incarnation + 1))
    gone = drive(Exited((1, 3), "exit 1"))
    assert "giving up performance scheduler 1: 2 restarts within 10 s" in logs(gone)
    assert CloseListener(1) in gone
    assert sends(gone, control.Close) == [(A1, control.Close(1))]
    assert drive.after(100.0) != [Fork((1, 4), "performance")]
    assert (1, 4) not in drive.state.views


def test_a_boot_that_fails_the_same_way_three_times_is_not_tried_again_and_the_node_fails() -> None:
    drive = node(1, 0)
    actions: list[Action] = []
    for incarnation in (1, 2, 3):
        drive.say((0, incarnation), control.BootFailed("no database"))
        actions = drive(Exited((0, incarnation), "exit 3"))
        if incarnation < 3:
            assert drive.after(1.0) == [Fork((0, incarnation + 1), "performance")]
    assert "3 times in a row in the same way: no database" in logs(actions)
    assert actions[-1] == Exit(1)
    assert drive.state.exit_code == 1


def test_boots_that_fail_in_different_ways_are_no_deterministic_failure() -> None:
    drive = node(1, 0)
    for incarnation, why in enumerate(("no database", "no file", "no database", "no file"), 1):
        drive.say((0, incarnation), control.BootFailed(why))
        drive(Exited((0, incarnation), "exit 3"))
        assert drive.after(1.0) == [Fork((0, incarnation + 1), "performance")]


@pytest.mark.parametrize("word", [control.Ready(), control.BootFailed("no database")])
def test_a_scheduler_that_is_shrunk_away_while_it_boots_ends_without_harm(word: control.ToNode) -> None:
    drive = node()
    assert sends(drive(Signalled("TTOU")), control.Drain) == [(B1, control.Drain())]
    drive.say(B1, word)
    drive(Exited(B1, "exit 0"))
    drive.ready(A1, E1)
    assert sorted(drive.state.views) == [A1, E1]


def test_a_reload_that_fails_while_the_first_ones_still_boot_leaves_one_process_in_each_slot() -> None:
    drive = node(1, 0)
    drive(Signalled("HUP"))
    drive.say((0, 2), control.BootFailed("no database"))
    drive(Exited((0, 2), "exit 3"))
    drive.ready(A1)
    drive.after(10)
    assert list(drive.state.views) == [A1]


def test_who_cannot_be_told_anything_any_more_is_killed() -> None:
    assert running()(Lost(A1)) == [Kill(A1)]


def test_events_of_processes_that_are_gone_ask_for_nothing() -> None:
    drive = running()
    drive(Exited(B1, "exit 0"))
    for event in (
        Exited(B1, "exit 0"),
        Lost(B1),
        Forked(B1, 7),
        Received(B1, control.Ready()),
        Received((9, 9), control.Beat()),
    ):
        assert drive(event) == []


def test_two_that_live_and_whose_link_is_broken_get_a_fresh_pair() -> None:
    drive = running(2, 0, compute=1)
    assert drive.say(A1, control.Relink(1, 1)) == [MakePair(A1, B1)]
    for gone in ((1, 7), C1):  # nobody, and one that has no such link
        assert drive.say(A1, control.Relink(*gone)) == []


# --- Heartbeats


def test_a_scheduler_without_heartbeat_is_reported_once_and_later_replaced() -> None:
    drive = running(2, 0)
    drive.now += 4
    drive.beat(A1)
    late = drive.after(1.5)
    assert without_logs(late) == [DumpStack(B1), Send(A1, control.Serve(1))]
    assert ") has not yielded for 5.5 s" in logs(late)
    assert "performance scheduler " in logs(late)
    drive.beat(A1)
    assert drive.after(1.0) == []
    drive.now += 24
    drive.beat(A1)
    assert without_logs(drive.after(0)) == [Kill(B1)]


def test_a_scheduler_that_yields_again_is_left_alone() -> None:
    drive = running(1, 0)
    drive.after(6)
    assert "yields again" in logs(drive.say(A1, control.Beat(3)))
    assert drive.after(4) == []
    assert drive.state.views[A1].load == 3


def test_while_a_scheduler_does_not_yield_a_sibling_accepts_in_its_place_and_takes_the_actors() -> None:
    drive = running(2, 0)
    drive.now += 4
    drive.beat(A1, load=1000)
    drive.after(1.5)
    drive.say(A1, control.Wanted(1, "app:Counter", b"", "performance"))
    assert drive.state.views[A1].placed == 1
    assert sends(drive.say(B1, control.Beat(0)), control.Yield) == [(A1, control.Yield(1))]
    # Where all are like that, nothing changes hands.
    drive = running(2, 0)
    assert without_logs(drive.after(6)) == [DumpStack(A1), DumpStack(B1)]
    assert len(sends(drive.say(A1, control.Wanted(1, "app:Counter", b"", "performance")), control.Spawn)) == 1


def test_a_boot_or_a_drain_that_takes_too_long_is_ended() -> None:
    drive = node(1, 0)
    assert without_logs(drive.after(60)) == [Kill(A1)]
    drive = running(1, 0)
    drive(Signalled("TERM"))
    assert Kill(A1) in drive.after(10)


def test_who_finds_its_name_taken_gets_it_when_the_holder_is_gone() -> None:
    """As after a reload: a new process boots while the old one still has the names."""
    drive = running()
    one, other, third = b"1" * 10, b"2" * 10, b"3" * 10
    drive.say(A1, control.Claim("hits", one, "app:Counter"))
    refused = drive.say(B1, control.Claim("hits", other, "app:Counter"))
    assert sends(refused, control.Named) == [(B1, control.Named("hits", one, "app:Counter"))]
    assert "has to wait for it" in logs(refused)
    drive.say(B1, control.Claim("hits", third, "app:Counter"))  # the same process tried again
    given = sends(drive(Exited(A1, "exit 0")), control.Named)
    assert given == [(key, control.Named("hits", third, "app:Counter")) for key in (B1, E1)]
    # Nobody waits any more.
    freed = drive.say(B1, control.Unclaim("hits", third, "it died"))
    assert sends(freed, control.Named) == [(key, control.Named("hits")) for key in (B1, E1)]


# --- Listeners


def test_a_listener_is_served_by_its_owner_and_by_a_sibling_while_it_is_not_ready() -> None:
    drive = node(2, 0)
    first = drive.ready(A1)
    assert sends(first, control.Serve) == [(A1, control.Serve(0)), (A1, control.Serve(1))]
    second = drive.ready(B1)
    assert sends(second, control.Serve) == [(B1, control.Serve(1))]
    assert sends(second, control.Yield) == [(A1, control.Yield(1))]
    died = drive(Exited(B1, "signal 9"))
    assert sends(died, control.Serve) == [(A1, control.Serve(1))]


def test_orphaned_listeners_are_shared_out_and_not_moved_about() -> None:
    drive = running(4, 0)
    drive(Exited((0, 1), "x"))
    died = drive(Exited((1, 1), "x"))
    # Slot 1 had adopted the listener of slot 0; each of the two that are left takes one.
    assert {key for key, _ in sends(died, control.Serve)} == {(2, 1), (3, 1)}
    drive.beat((2, 1), load=100)
    assert drive.after(0.001) == []


def test_a_shared_listener_is_served_by_all_that_are_ready() -> None:
    drive = Drive(NodeState(2, 0, listeners=1, shared=True))
    drive(Start())
    assert sends(drive.ready(A1, B1), control.Serve) == [(A1, control.Serve(0)), (B1, control.Serve(0))]
    assert sends(drive(Exited(A1, "x")), control.Yield) == []


def test_shrinking_drains_the_last_slot_and_closes_its_listener() -> None:
    drive = running(2, 0)
    actions = drive(Signalled("TTOU"))
    assert actions == [
        Send(B1, control.Drain()),
        CloseListener(1),
        Send(A1, control.Close(1)),
        Send(B1, control.Close(1)),
    ]
    assert not [one for one in drive(Exited(B1, "exit 0")) if isinstance(one, Fork)]
    assert "not shrunk" in logs(drive(Signalled("TTOU")))


# --- Compute workers


def lent(actions: list[Action]) -> list[tuple[Key, Key]]:
    return [(one.worker, one.scheduler) for one in actions if isinstance(one, Lend)]


def test_a_compute_worker_is_lent_to_each_scheduler_and_its_end_is_told_to_all() -> None:
    drive = running(1, 1, compute=1)
    died = drive(Exited(C1, "signal 9"))
    assert sends(died, control.WorkerLost) == [(one, control.WorkerLost(*C1, "signal 9")) for one in (A1, (1, 1))]
    assert lent(drive.after(1)) == [((2, 2), A1), ((2, 2), (1, 1))]
    drive(Exited(A1, "signal 9"))
    assert lent(drive.after(1)) == [((2, 2), (0, 2))]


def test_a_compute_worker_that_is_to_be_replaced_is_killed_and_back_at_once_however_often() -> None:
    drive = running(1, 0, compute=1, limits=NodeLimits(intensity=2))
    for incarnation in range(1, 20):
        worker = (1, incarnation)
        assert drive.say(A1, control.Replace(*worker)) == [Kill(worker)]
        gone = drive(Exited(worker, "signal 9"))
        assert "replaced: a task had to end" in logs(gone)
        assert Fork((1, incarnation + 1), "compute") in gone
        drive.ready((1, incarnation + 1))
    assert drive.state.slots[1].restarts == 19


@pytest.mark.parametrize("asked", [(0, 1), (1, 7), (9, 9)])
def test_only_a_compute_worker_that_is_there_can_be_replaced(asked: Key) -> None:
    drive = running(1, 0, compute=1)
    assert drive.say(A1, control.Replace(*asked)) == []


def test_a_compute_worker_that_crashes_is_restarted_with_a_back_off_and_never_given_up() -> None:
    drive = running(1, 0, compute=1, limits=NodeLimits(intensity=2, window=100))
    for incarnation in range(1, 20):
        gone = drive(Exited((1, incarnation), "signal 11"))
        assert not [one for one in gone if isinstance(one, Fork)]
        assert "giving up" not in logs(gone)
        assert Fork((1, incarnation + 1), "compute") in drive.after(6)


def test_after_a_reload_the_new_schedulers_get_no_worker_that_has_the_old_modules() -> None:
    drive = running(2, 0, compute=1)
    old, new = C1, (2, 2)
    assert lent(drive(Signalled("HUP"))) == [(new, (0, 2)), (new, (1, 2))]
    drive(Exited(B1, "signal 9"))
    done = drive.ready((0, 2), (1, 2), new)
    assert [key for key, _ in sends(done, control.Drain)] == [A1, old]
    drive(Exited((0, 2), "signal 9"))
    assert lent(drive.after(1)) == [(new, (0, 3))]


def test_a_worker_that_is_forked_during_a_reload_has_no_modules_yet_and_is_lent_to_all() -> None:
    drive = running(1, 0, compute=1)
    drive(Exited((1, 1), "signal 9"))
    assert lent(drive(Signalled("HUP"))) == []  # its slot waits for its restart
    assert lent(drive.after(1)) == [((1, 2), A1), ((1, 2), (0, 2))]


# --- Reload


def test_a_reload_has_the_new_ones_ready_before_any_old_one_drains() -> None:
    drive = running(2, 0)
    forked = [one.key for one in drive(Signalled("HUP")) if isinstance(one, Fork)]
    assert forked == [(0, 2), (1, 2)]
    assert drive.ready((0, 2)) == []
    done = drive.ready((1, 2))
    assert [type(one.word) for one in done if isinstance(one, Send)] == [control.Serve] * 2 + [control.Drain] * 2
    assert [key for key, _ in sends(done, control.Drain)] == [A1, B1]
    assert [key for key, _ in sends(done, control.Serve)] == [(0, 2), (1, 2)]
    assert not [one for one in drive(Exited(A1, "exit 0")) if isinstance(one, Fork)]


def test_a_reload_that_fails_ends_the_new_ones_and_leaves_the_old_ones_serving() -> None:
    drive = running(2, 0)
    drive(Signalled("HUP"))
    drive.ready((0, 2))
    drive.say((1, 2), control.BootFailed("syntax error"))
    failed = drive(Exited((1, 2), "exit 3"))
    assert "the reload failed" in logs(failed)
    assert [one for one in failed if isinstance(one, (Kill, Fork))] == [Kill((0, 2))]
    assert sends(failed, control.Drain) == []
    assert not [one for one in drive(Exited((0, 2), "signal 9")) if isinstance(one, Fork)]
    assert [one.key for one in drive(Signalled("HUP")) if isinstance(one, Fork)] == [(0, 3), (1, 3)]


def test_an_old_scheduler_that_dies_while_the_new_one_of_a_reload_that_failed_is_ending_is_restarted() -> None:
    drive = running(2, 0)
    drive(Signalled("HUP"))
    drive(Exited((1, 2), "exit 3"))
    drive(Exited(A1, "signal 9"))
    drive(Exited((0, 2), "signal 9"))
    assert Fork((0, 3), "performance") in drive.after(1)


def test_an_old_scheduler_that_dies_during_a_reload_that_fails_is_restarted() -> None:
    drive = running(2, 0)
    drive(Signalled("HUP"))
    drive(Exited(A1, "signal 9"))
    drive(Exited((1, 2), "exit 3"))
    drive(Exited((0, 2), "signal 9"))
    assert Fork((0, 3), "performance") in drive.after(1)


def test_a_second_wish_for_a_reload_is_followed_when_the_one_under_way_is_over() -> None:
    drive = running(1, 0)
    drive(Signalled("HUP"))
    assert [one for one in drive(Signalled("HUP")) if isinstance(one, Fork)] == []
    assert [one.key for one in drive.ready((0, 2)) if isinstance(one, Fork)] == [(0, 3)]
    drive(Signalled("HUP"))
    failed = drive.say((0, 3), control.BootFailed("no table", told=True))
    assert [one.key for one in failed if isinstance(one, Fork)] == [(0, 4)]
    assert [one for one in drive.ready((0, 4)) if isinstance(one, Fork)] == []


def test_a_reload_may_be_refused_with_a_reason() -> None:
    drive = running(1, 0, no_reload="not here")
    assert drive(Signalled("HUP")) == [Log("not here")]


def test_it_is_said_when_the_first_scheduler_serves_and_after_each_reload() -> None:
    drive = node(2, 1)
    assert Serving() not in drive.ready(E1)
    assert Serving() in drive.ready(B1)
    assert Serving() not in drive.ready(A1)
    drive(Exited(A1, "signal 9"))
    drive.after(1)
    assert Serving() not in drive.ready((0, 2))
    drive(Signalled("HUP"))
    assert Serving() not in drive.ready((0, 3), (1, 2))
    assert Serving() in drive.ready((2, 2))


# --- What the application says of itself


def test_an_application_that_cannot_start_ends_the_node_at_once_and_is_heard_once() -> None:
    drive = node(2, 0)
    refused = drive.say(A1, control.BootFailed("no route has an end", told=True))
    assert logs(refused) == ""
    assert sends(refused, control.Drain) == [(A1, control.Drain()), (B1, control.Drain())]
    assert drive.say(B1, control.BootFailed("no route has an end, either", told=True)) == []
    drive(Exited(B1, "exit 3"))
    assert drive(Exited(A1, "exit 3")) == [Exit(1, "no route has an end")]


def test_an_application_that_cannot_start_at_a_reload_is_heard_once_and_the_old_one_serves_on() -> None:
    drive = running(2, 0)
    drive(Signalled("HUP"))
    failed = drive.say((1, 2), control.BootFailed("no table", told=True))
    assert logs(failed) == "no table\nthe reload failed: the old schedulers go on serving"
    assert sends(failed, control.Drain) == []
    assert drive.say((0, 2), control.BootFailed("no table", told=True)) == []
    assert not [one for one in drive(Exited((1, 2), "exit 3")) if not isinstance(one, Send)]
    assert drive.state.exit_code is None


def test_an_application_that_is_mended_during_its_first_start_serves() -> None:
    drive = node(1, 0)
    drive(Signalled("HUP"))
    assert "no table" in logs(drive.say(A1, control.BootFailed("no table", told=True)))
    drive(Exited(A1, "exit 3"))
    assert drive.state.exit_code is None
    assert Serving() in drive.ready((0, 2))
    # And when it is still broken, it is tried once more, and that is the end.
    drive = node(1, 0)
    drive(Signalled("HUP"))
    drive.say(A1, control.BootFailed("no table", told=True))
    drive(Exited(A1, "exit 3"))
    drive.say((0, 2), control.BootFailed("no table", told=True))
    drive(Exited((0, 2), "exit 3"))
    assert Fork((0, 3), "performance") in drive.after(1)
    drive.say((0, 3), control.BootFailed("no table", told=True))
    assert drive(Exited((0, 3), "exit 3")) == [Exit(1, "no table")]


def test_an_application_that_cannot_start_once_others_have_served_is_tried_again() -> None:
    drive = running(2, 0)
    drive(Exited(A1, "signal 9"))
    drive.after(1)
    assert "no disk" in logs(drive.say((0, 2), control.BootFailed("no disk", told=True)))
    drive(Exited((0, 2), "exit 3"))
    assert Fork((0, 3), "performance") in drive.after(1)


def test_an_application_that_cannot_end_is_heard_at_the_stop() -> None:
    drive = running(2, 0)
    drive(Signalled("TERM"))
    for key in (A1, B1):
        drive.say(key, control.DrainFailed("the pool is stuck"))
    drive(Exited(A1, "exit 0"))
    assert drive(Exited(B1, "exit 0")) == [Exit(1, "the pool is stuck")]


# --- Stop


def test_a_stop_closes_the_nodes_copies_first_then_drains_performance_then_the_rest() -> None:
    drive = running(2, 1)
    assert drive(Signalled("TERM")) == [StopListening(), Send(A1, control.Drain()), Send(B1, control.Drain())]
    assert sends(drive(Exited(A1, "exit 0")), control.Drain) == []
    assert sends(drive(Exited(B1, "exit 0")), control.Drain) == [(E1, control.Drain())]
    assert drive(Exited(E1, "exit 0")) == [Exit(0)]


def test_a_second_signal_kills() -> None:
    drive = running(1, 0)
    drive(Signalled("TERM"))
    assert drive(Signalled("INT")) == [Kill(A1)]
    assert drive(Exited(A1, "signal 9")) == [Exit(130)]


# --- Placement


def view(slot: int, kind: str, load: int) -> SchedulerView:
    one = SchedulerView(slot, 1, kind, 1, 0.0)  # type: ignore[arg-type]
    one.load = load
    return one


@pytest.mark.parametrize(
    ("affinity", "takers", "slot"),
    [
        ("none", [view(0, "performance", 5), view(1, "performance", 2), view(2, "efficiency", 0)], 1),
        ("performance", [view(0, "performance", 5), view(2, "efficiency", 0)], 0),
        ("efficiency", [view(0, "performance", 0), view(2, "efficiency", 9)], 2),
        ("efficiency", [view(0, "performance", 1), view(1, "performance", 0)], 1),  # a preference only
        ("performance", [view(2, "efficiency", 9)], 2),
        ("none", [], None),
    ],
)
def test_an_actor_goes_to_the_least_busy_of_the_right_class(
    affinity: str, takers: list[SchedulerView], slot: int | None
) -> None:
    found = least_busy(takers, affinity)
    assert (found.slot if found else None) == slot


SPEC = {"counter": ActorSpec("app:Counter", b"args", "efficiency")}


def test_a_top_level_actor_is_placed_named_everywhere_and_placed_anew_when_its_scheduler_dies() -> None:
    drive = node(1, 1, actors=SPEC)
    assert sends(drive.ready(A1), control.Spawn) == []  # its class is starting, and worth waiting for
    (sent,) = sends(drive.ready((1, 1)), control.Spawn)
    assert sent == ((1, 1), control.Spawn(1, "app:Counter", b"args", "counter", "efficiency"))
    named = drive.say((1, 1), control.Spawned(1, b"id-1"))
    assert sends(named, control.Named) == [
        (A1, control.Named("counter", b"id-1", "app:Counter")),
        ((1, 1), control.Named("counter", b"id-1", "app:Counter")),
    ]
    assert sends(drive(Exited((1, 1), "signal 9")), control.Named) == [(A1, control.Named("counter"))]
    # Its class is not available, so another one takes it.
    assert sends(drive.after(0.05), control.Spawn) == [
        (A1, control.Spawn(2, "app:Counter", b"args", "counter", "efficiency"))
    ]


def test_a_spawn_that_was_on_its_way_to_a_scheduler_that_died_goes_to_another_one() -> None:
    drive = running(2, 0)
    asked = drive.say(A1, control.Wanted(7, "app:Counter", b"args", "performance"))
    ((target, spawn),) = sends(asked, control.Spawn)
    assert target == A1
    again = drive(Exited(target, "x"))
    assert sends(again, control.Spawn) == []  # who asked is gone too: nobody wants it
    drive = running(2, 0)
    drive.beat(A1, load=10)
    drive.say(A1, control.Wanted(7, "app:Counter", b"args", "performance"))
    assert sends(drive(Exited(B1, "x")), control.Spawn) == [(A1, spawn)]
    assert sends(drive.say(A1, control.Spawned(1, b"id")), control.Placed) == [(A1, control.Placed(7, b"id"))]


def test_a_name_belongs_to_the_first_that_claims_it_until_it_is_given_up() -> None:
    drive = running(2, 0)
    claimed = drive.say(A1, control.Claim("log", b"one", "app:Log"))
    assert len(sends(claimed, control.Named)) == 2
    refused = drive.say(B1, control.Claim("log", b"two", "app:Log"))
    assert sends(refused, control.Named) == [(B1, control.Named("log", b"one", "app:Log"))]
    assert drive.say(B1, control.Unclaim("log", b"two")) == []
    assert len(sends(drive.say(A1, control.Unclaim("log", b"one")), control.Named)) == 2
    assert len(sends(drive.say(B1, control.Claim("log", b"two", "app:Log")), control.Named)) == 2


def test_a_top_level_actor_that_dies_too_often_is_given_up_loudly() -> None:
    drive = running(1, 0, actors=SPEC, limits=NodeLimits(intensity=2))
    text = ""
    for number in (1, 2, 3):
        drive.say(A1, control.Spawned(number, b"id-%d" % number))
        text = logs(drive.say(A1, control.Unclaim("counter", b"id-%d" % number, "it crashed")))
        drive.after(1)
        drive.beat(A1)
    assert "giving up actor 'counter': 2 restarts within 10 s; last: it crashed" in text


def test_a_reload_moves_a_top_level_actor_without_a_gap_in_its_name() -> None:
    drive = running(1, 0, actors=SPEC)
    drive.say(A1, control.Spawned(1, b"old"))
    drive(Signalled("HUP"))
    done = drive.ready((0, 2))
    assert sends(done, control.Spawn) == [((0, 2), control.Spawn(2, "app:Counter", b"args", "counter", "efficiency"))]
    assert sends(done, control.Named) == []
    assert ((0, 2), control.Named("counter", b"new", "app:Counter")) in sends(
        drive.say((0, 2), control.Spawned(2, b"new")), control.Named
    )
    assert sends(drive(Exited(A1, "exit 0")), control.Named) == []


def test_an_old_scheduler_drains_when_its_top_level_actors_have_a_new_home() -> None:
    """Else their name leads to nobody in between."""
    drive = running(1, 0, actors=SPEC)
    drive.say(A1, control.Spawned(1, b"old"))
    drive(Signalled("HUP"))
    assert sends(drive.ready((0, 2)), control.Drain) == []
    done = drive.say((0, 2), control.Spawned(2, b"new"))
    words = [one.word for one in done if isinstance(one, Send)]
    assert words[-1] == control.Drain()
    assert control.Named("counter", b"new", "app:Counter") in words[:-1]
    # One that finds none does not keep it for ever; nor is it replaced when it dies before.
    for late in (lambda drive: drive.after(10), lambda drive: drive(Exited(A1, "signal 9"))):
        drive = running(1, 0, actors=SPEC)
        drive.say(A1, control.Spawned(1, b"old"))
        drive(Signalled("HUP"))
        drive.ready((0, 2))
        drive.after(9)
        drive.beat((0, 2))
        done = late(drive)
        assert [key for key, _ in sends(done, control.Drain)] in ([A1], [])
        assert drive.state.views.get(A1) is None or drive.state.views[A1].state == "draining"
        assert not [one for one in (*done, *drive.after(0.1)) if isinstance(one, Fork)]


def test_when_a_new_scheduler_dies_while_the_old_one_still_waits_to_drain_it_is_restarted() -> None:
    drive = running(1, 0, actors=SPEC)
    drive.say(A1, control.Spawned(1, b"old"))
    drive(Signalled("HUP"))
    drive.ready((0, 2))
    drive(Exited((0, 2), "signal 9"))
    assert Fork((0, 3), "performance") in drive.after(0.1)


def test_a_reload_hands_the_names_on_before_the_old_ones_drain_and_says_nothing_of_it() -> None:
    drive = running(2, 0)
    drive.say(A1, control.Claim("hits", b"old", "app:Counter"))
    drive(Signalled("HUP"))
    assert logs(drive.say((0, 2), control.Claim("hits", b"new", "app:Counter"))) == ""
    drive.ready((0, 2))
    done = drive.ready((1, 2))
    words = [one.word for one in done if isinstance(one, Send)]
    named = [at for at, word in enumerate(words) if word == control.Named("hits", b"new", "app:Counter")]
    assert len(named) == 4
    assert max(named) < min(at for at, word in enumerate(words) if word == control.Drain())


def test_who_has_actors_on_the_wrong_class_is_told_of_a_home_when_one_of_that_class_is_ready() -> None:
    drive = node(2, 1)
    drive.ready(A1, B1)
    assert drive.say(A1, control.Misplaced("efficiency", 3)) == []  # elsewhere in the wrong class is no better
    drive.ready(E1)
    assert drive.say(A1, control.Misplaced("efficiency", 3)) == [Send(A1, control.Home("efficiency", 2, 1))]
    assert drive.say(E1, control.Misplaced("performance", 1)) == [Send(E1, control.Home("performance", 0, 1))]
    drive(Signalled("TERM"))
    assert drive.say(E1, control.Misplaced("performance", 1)) == []


def test_a_move_is_named_everywhere_and_takes_its_top_level_actor_along() -> None:
    drive = running(1, 1, actors=SPEC)
    drive(Exited((1, 1), "x"))
    drive.after(0.05)
    drive.say(A1, control.Spawned(1, b"old"))
    drive.ready((1, 2))
    named = control.Named("counter", b"new", "app:Counter", b"old")
    moved = drive.say((1, 2), control.Moved("counter", b"old", b"new", "app:Counter"))
    assert moved == [Send(A1, named), Send((1, 2), named)]
    # The one that it was is of no interest any more; the one that it is, is.
    assert drive.say(A1, control.Unclaim("counter", b"old", "it died")) == []
    assert sends(drive(Exited((1, 2), "x")), control.Named) == [(A1, control.Named("counter"))]
    assert sends(drive.after(1), control.Spawn) != []


@pytest.mark.parametrize(
    "case", ["another actor has the name", "nobody has", "it is about to be made anew", "draining"]
)
def test_a_move_is_refused(case: str) -> None:
    drive = running(2, 0, actors=SPEC)
    drive.say(A1, control.Spawned(1, b"old"))
    holder = control.Named("counter", b"old", "app:Counter")
    was = b"old"
    if case == "another actor has the name":
        was = b"older"
    elif case == "nobody has":
        drive.say(A1, control.Unclaim("counter", b"old", "it died"))
        holder = control.Named("counter")
    elif case == "draining":
        drive.state.views[B1].state = "draining"
    else:
        drive(Signalled("HUP"))
        drive.ready((0, 2), (1, 2))
        assert drive.say((1, 2), control.Moved("counter", was, b"new", "app:Counter")) == [Send((1, 2), holder)]
        return
    said = drive.say(B1, control.Moved("counter", was, b"new", "app:Counter"))
    assert sends(said, control.Named) == [(B1, holder)]


def test_repr_and_statistics_say_how_it_stands() -> None:
    drive = running(1, 0)
    drive(Forked(A1, 77))
    assert repr(drive.state) == "<NodeState running: 1 of 1 ready>"
    (row,) = drive.state.statistics()
    assert (row["slot"], row["incarnation"], row["pid"], row["state"], row["restarts"]) == (0, 1, 77, "ready", 0)


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({"grace": -1}, "grace=-1"),
        ({"boot": nan}, "boot=nan"),
        ({"window": "10"}, "window='10'"),
        ({"intensity": -1}, "intensity=-1"),
        ({"heartbeat": 5}, r"heartbeat=5, stuck_after=5.0\): give more time"),
    ],
)
def test_limits_that_cannot_be_are_refused_by_name(limits: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        NodeLimits(**limits)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"performance": -1}, "performance=-1"),
        ({"performance": 5000}, "performance=5000.*to 1024"),
        ({"compute": 1.5}, "compute=1.5"),
        ({"node": 256}, "node=256.*to 255"),
        ({"nice": "low"}, "nice='low'"),
        ({"efficiency_cpus": frozenset({100_000})}, "at least one CPU that may be used"),
        ({"actors": {"a\n": ("m:C", (), "none")}}, "no name for an actor"),
        ({"actors": {"a": "m:C"}}, "give its class, its arguments and one of"),
        ({"actors": {"a": ("mC", (), "none")}}, "give its class, its arguments and one of"),
        ({"actors": {"a": ("m:C", (), "fast")}}, "'fast'.*give its class, its arguments and one of"),
        ({"actors": {"a": ("m:C", ([object()],), "none")}}, r"m:C of actor 'a'\(\): .* is a builtins.object"),
    ],
)
def test_a_node_that_cannot_be_is_refused_by_name(options: dict[str, Any], what: str) -> None:
    with pytest.raises((ValueError, NotPlainData), match=what):
        NodeConfig(**options)


def test_a_restart_of_an_actor_that_was_due_does_not_wake_a_node_that_stops() -> None:
    drive = running(1, 0, actors=SPEC)
    drive.say(A1, control.Spawned(1, b"id"))
    drive.say(A1, control.Unclaim("counter", b"id", "it crashed"))
    due = drive.state.wake_at()
    assert due is not None
    drive(Signalled("TERM"))
    stopping = drive.state.wake_at()
    assert stopping is not None
    assert stopping > due


# --- Actors that the application declares


def declared(path: str, *more: str) -> control.Keep:
    return control.Keep(tuple([control.Kept(name, path, b"args") for name in ("counter", *more)]))


def test_an_actor_that_every_scheduler_declares_is_spawned_once_and_again_when_its_process_dies() -> None:
    drive = node(2, 0)
    spawned = [*drive.say(A1, declared("app:Counter")), *drive.say(B1, declared("app:Counter")), *drive.ready(A1, B1)]
    spawn = control.Spawn(1, "app:Counter", b"args", "counter")
    assert sends(spawned, control.Spawn) == [(A1, spawn)]
    drive.say(A1, control.Spawned(1, b"id"))
    assert sends(drive.say(B1, declared("app:Counter")), control.Spawn) == []
    again = [*drive(Exited(A1, "signal 9")), *drive.after(1)]
    assert sends(again, control.Spawn) == [(B1, control.Spawn(2, "app:Counter", b"args", "counter"))]


def test_what_a_reload_declares_counts_once_it_takes_over_and_only_then() -> None:
    drive = node(1, 0)
    drive.say(A1, declared("app:Counter", "gone"))
    drive.ready(A1)
    drive.say(A1, control.Spawned(1, b"id"))
    drive.say(A1, control.Spawned(2, b"other"))
    drive(Signalled("HUP"))
    drive.say((0, 2), declared("bad:Counter"))
    failed = [*drive.say((0, 2), control.BootFailed("no")), *drive(Exited((0, 2), "exit 3"))]
    assert sends(failed, control.Spawn) == []
    drive(Signalled("HUP"))
    assert sends(drive.say((0, 3), declared("new:Counter")), control.Spawn) == []
    taken = sends(drive.ready((0, 3)), control.Spawn)
    assert taken == [((0, 3), control.Spawn(3, "new:Counter", b"args", "counter"))]
    assert sends(drive(Exited(A1, "exit 0")), control.Spawn) == []
