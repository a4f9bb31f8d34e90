"""What is kept: the decision at the end of a request, the bounded queue, and the estimate of a route's times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreter_driver import SECOND, Driver

from zerver import Continue, CtxView, Decision, Done, ErrorKind, Fail
from zerver.error import Error
from zerver.execution import Execution
from zerver.redaction import Redaction
from zerver.request import Request
from zerver.response import Response
from zerver.signals import Refused
from zerver.trace.record import Row, decode
from zerver.trace.recorder import ASKED, TailRecorder
from zerver.trace.recording import Recording
from zerver.trace.tail import APART_NS, LEAST_NS, SHARE, RouteTimes

MS = 1_000_000
HOME, ABROAD = "127.0.0.1", "192.0.2.1"


def answers(ctx: CtxView) -> Decision:
    return Done.text("yes")


def answers_500(ctx: CtxView) -> Decision:
    return Done.text("no", status=500)


def answers_404(ctx: CtxView) -> Decision:
    return Done.text("no", status=404)


def raises(ctx: CtxView) -> Decision:
    raise ValueError("a bug")


def fails_502(ctx: CtxView) -> Decision:
    return Fail(ErrorKind.UPSTREAM_UNAVAILABLE, "it is away")


def fails_503(ctx: CtxView) -> Decision:
    return Fail(ErrorKind.OVERLOADED, "too many orders")


def fails_404(ctx: CtxView) -> Decision:
    return Fail(ErrorKind.NOT_FOUND, "nothing there")


class Sink:
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.full = False
        self.closed = False

    def write(self, rows: Sequence[Row], /) -> bool:
        if not self.full:
            self.rows += rows
        return not self.full

    async def close(self) -> None:
        self.closed = True


class Rig:
    """A recorder whose loop is called by hand."""

    def __init__(self, *, sample: int = 0, slow_ms: float | None = None, trusts: bool = False) -> None:
        self.sink = Sink()
        self.seen = 0
        self.now_ns = 0
        self.timers: list[Callable[[], object]] = []
        self.recorder = TailRecorder(
            self.sink,
            Recording(Redaction(), bodies=True, engine="test"),
            sample=sample,
            slow_ns=None if slow_ms is None else int(slow_ms * MS),
            trusts=(lambda address: address == HOME) if trusts else None,
            soon=lambda callback: callback(),
            call_later=self._call_later,
        )

    def _call_later(self, delay: float, callback: Callable[[], object], /) -> Any:
        self.timers.append(callback)

    def ask(
        self, *steps: Any, took_ms: float = 0.01, client: str = HOME, asks: bool = False,
        route: str = "GET /x", apart: bool = True, **given: Any,
    ) -> None:  # fmt: skip
        request = Request("GET", "/x", headers=(ASKED,) if asks else (), client_ip=client, id="r1")
        driver = Driver(*(steps or (answers,)), request=request, **given)
        driver.start()
        driver.pass_time(took_ms / 1000)
        driver.close()
        run = driver.run
        run.route = route
        run.started_ns += self.now_ns
        run.ended_ns += self.now_ns
        self.now_ns += APART_NS if apart else 1
        # As the interpreter does, when it has such a trace.
        if run.failure or run.response.status >= 500 or took_ms * MS > self.recorder.least_ns:  # type: ignore[union-attr]
            self.seen += 1
            self.recorder.end(run)

    def turn(self) -> None:
        """Until no timer is left."""
        while self.timers:
            self.timers.pop(0)()

    @property
    def kept(self) -> list[str]:
        return [why for why, count in self.recorder.statistics().kept.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (answers, []),
        (answers_404, []),
        (fails_404, []),
        (answers_500, ["error"]),
        (raises, ["error"]),
        (fails_502, ["error"]),
    ],
)
def test_what_is_the_servers_fault_is_kept(step: Any, kept: list[str]) -> None:
    rig = Rig()
    rig.ask(step)
    assert rig.kept == kept


def test_a_bug_is_kept_however_it_is_rendered() -> None:
    def renders(error: Error, request: Request, exception: BaseException | None) -> Response:
        return Response(200, (), b"all is well")

    rig = Rig()
    rig.ask(raises, render=renders)
    assert rig.kept == ["error"]


def test_a_client_that_goes_is_no_error() -> None:
    rig = Rig()
    driver = Driver(answers)
    driver.cancel()
    driver.close()
    rig.recorder.end(driver.run)
    assert rig.kept == []


def test_of_many_that_are_slow_at_once_one_is_kept_for_each_route() -> None:
    rig = Rig()
    for number in range(200):
        rig.ask(took_ms=10 + number % 7, route="GET /a" if number % 2 else "GET /b")
        rig.turn()
    rig.sink.rows.clear()
    for _ in range(50):
        rig.ask(took_ms=60, route="GET /a", apart=False)
        rig.ask(took_ms=60, route="GET /b", apart=False)
    rig.ask(fails_502, route="GET /a", apart=False)
    rig.now_ns += APART_NS
    rig.ask(took_ms=60, route="GET /a")
    rig.turn()
    assert [(one.why, one.route) for one in rig.sink.rows] == [
        ("slow", "GET /a"), ("slow", "GET /b"), ("error", "GET /a"), ("slow", "GET /a")
    ]  # fmt: skip


def test_what_was_turned_away_before_it_began_is_not_kept_and_what_a_step_turns_away_is() -> None:
    rig = Rig()
    driver = Driver(answers)
    driver.feed(Refused(Error(ErrorKind.OVERLOADED, "the server is busy")))
    driver.close()
    rig.recorder.end(driver.run)
    assert rig.kept == []
    rig.ask(fails_503)
    assert rig.kept == ["error"]


def test_slow_is_what_takes_longer_than_the_bound() -> None:
    rig = Rig(slow_ms=5)
    for took in (1, 4.9, 5.1, 700):
        rig.ask(took_ms=took)
    assert rig.kept == ["slow", "slow"]


def test_slow_is_what_takes_longer_than_nearly_all_of_its_route() -> None:
    rig = Rig()
    rig.ask(took_ms=5_000)
    assert rig.kept == [], "nothing is known of the route"
    for number in range(3_000):
        rig.ask(took_ms=10 + number % 7)
        rig.turn()
    usual = len(rig.kept)
    assert usual < 30, "while it settles"
    rig.ask(took_ms=10)
    assert len(rig.kept) == usual
    rig.ask(took_ms=60)
    assert len(rig.kept) == usual + 1
    assert set(rig.kept) <= {"slow"}


def test_a_quick_request_is_seen_only_now_and_then() -> None:
    rig = Rig()
    for _ in range(10):
        rig.ask()
    assert rig.seen == 1
    rig.turn()
    for _ in range(10):
        rig.ask()
    assert rig.seen == 2
    rig = Rig(slow_ms=5)
    rig.ask()
    rig.ask(took_ms=6)
    assert rig.seen == 1
    rig = Rig(sample=10)
    for _ in range(10):
        rig.ask()
    assert rig.seen == 10


def test_a_client_asks_for_a_trace_only_where_it_is_trusted() -> None:
    rig = Rig(trusts=True)
    rig.ask(asks=True, client=ABROAD)
    assert rig.kept == []
    rig.ask(asks=True, client=HOME)
    assert rig.kept == ["asked"]
    rig = Rig()
    rig.ask(asks=True, client=HOME)
    assert rig.kept == [], "no one is, by default"


def test_error_wins_over_slow_and_that_over_asked_for() -> None:
    rig = Rig(slow_ms=1, sample=1, trusts=True)
    rig.ask(raises, took_ms=5, asks=True)
    rig.ask(took_ms=5, asks=True)
    rig.ask(asks=True)
    rig.ask()
    assert rig.kept == ["error", "slow", "asked", "sampled"]


@pytest.mark.parametrize("sample", [1, 3, 32, 100])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("slow_ms", [None, 100.0])
def test_one_in_so_many_is_sampled(sample: int, counted: bool, slow_ms: float | None) -> None:
    rig = Rig(sample=sample, slow_ms=slow_ms)
    asked = 0
    if counted:
        rig.recorder.requests = lambda: asked
    for _ in range(sample * 20 + 1):
        asked += 1
        rig.ask()
        if asked % 10 == 0:
            rig.turn()
    assert set(rig.kept) == {"sampled"}
    if sample == 1:
        assert len(rig.kept) == asked, "each of them, also those between two looks"
    if counted:  # what came since the last look has not been counted yet
        assert -10 / sample - 1 <= len(rig.kept) - asked / sample <= 0
        assert rig.seen <= asked / 10 + len(rig.kept) + 1
    else:
        assert len(rig.kept) == asked // sample


def test_what_is_kept_is_encoded_by_a_timer_and_no_more_at_once_than_a_few() -> None:
    rig = Rig()
    for _ in range(10):
        rig.ask(raises)
    assert rig.sink.rows == []
    assert len(rig.timers) == 2, "one of them has times looked at"
    rig.timers.pop()()
    assert len(rig.sink.rows) == 4
    rig.turn()
    assert [row.why for row in rig.sink.rows] == ["error"] * 10
    record = decode(rig.sink.rows[0].data)
    assert (record.id, record.status, record.route, record.why) == ("r1", 500, "GET /x", "error")
    assert record.took_ns == 10_000


def test_a_full_queue_drops_and_counts_and_so_does_a_sink_without_room() -> None:
    rig = Rig()
    for _ in range(300):
        rig.ask(raises)
    now = rig.recorder.statistics()
    assert (now.queued, now.dropped) == (256, 44)
    rig.sink.full = True
    rig.turn()
    now = rig.recorder.statistics()
    assert (now.queued, now.dropped) == (0, 300)


def test_one_that_cannot_be_encoded_is_counted_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Recording):
        def record(self, run: Execution, why: Any, epoch_ns: int) -> Any:
            raise RecursionError("too deep")

    rig = Rig()
    rig.recorder._recording = Odd(Redaction(), bodies=True, engine="test")
    for _ in range(3):
        rig.ask(raises)
    rig.turn()
    assert rig.recorder.statistics().dropped == 3
    assert [record.getMessage() for record in caplog.records] == [
        "request r1: its trace cannot be kept; others will not be told"
    ]


def test_at_the_end_what_waits_is_handed_over_and_nothing_follows() -> None:
    rig = Rig()
    for _ in range(10):
        rig.ask(raises)
    asyncio.run(rig.recorder.close())
    assert (len(rig.sink.rows), rig.sink.closed) == (10, True)
    rig.ask(raises)
    assert rig.recorder.statistics().queued == 0
    rig.turn()


def test_a_loop_that_is_closed_is_no_harm() -> None:
    rig = Rig()

    def closed(callback: Callable[[], object]) -> object:
        raise RuntimeError("Event loop is closed")

    rig.recorder._soon = closed
    rig.ask(raises)
    assert rig.recorder.statistics().queued == 1


# The estimate


@given(st.integers(0, 2**32), st.sampled_from([2.0, 20.0, 200.0]))
def test_about_one_in_a_thousand_times_is_above_the_bound(seed: int, typical_ms: float) -> None:
    source, times = random.Random(seed), RouteTimes()
    draw = [int(source.lognormvariate(0, 0.5) * typical_ms * MS) for _ in range(12_000)]
    above = 0
    for number, took in enumerate(draw):
        above += number >= 4_000 and took > times.bound_ns
        times.add(took)
    assert above <= 8_000 * SHARE * 5
    assert times.bound_ns < max(draw) * 2


def test_the_bound_follows_a_route_that_becomes_slower() -> None:
    times = RouteTimes()
    for _ in range(100):
        times.add(5 * MS)
    for _ in range(30):
        times.add(50 * MS)
    assert 50 * MS <= times.bound_ns < 75 * MS


def test_the_noise_of_the_machine_is_never_slow() -> None:
    times = RouteTimes()
    for _ in range(100):
        times.add(1)
    assert times.known
    assert times.bound_ns == LEAST_NS


def test_steps_that_are_quick_share_the_time_between_those_that_are_not() -> None:
    def slow(ctx: CtxView) -> Decision:
        driver.pass_time(1)
        return Continue()

    def goes_on(ctx: CtxView) -> Decision:
        driver.pass_time(0.000_02)
        return Continue()

    driver = Driver(goes_on, goes_on, slow, goes_on, answers)
    driver.start()
    driver.close()
    began = driver.run.started_ns
    found = [(event.kind.name, (event.at_ns - began) // 1000) for event in driver.events]
    assert found == [
        ("RequestStart", 0),
        ("StepStart", 0), ("StepEnd", 20), ("StepStart", 20), ("StepEnd", 40), ("StepStart", 40),
        ("StepEnd", SECOND // 1000 + 40), ("StepStart", SECOND // 1000 + 40), ("StepEnd", SECOND // 1000 + 50),
        ("StepStart", SECOND // 1000 + 50), ("StepEnd", SECOND // 1000 + 60), ("Done", SECOND // 1000 + 60),
        ("RequestEnd", SECOND // 1000 + 60),
    ]  # fmt: skip
