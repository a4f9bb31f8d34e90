"""Every engine gives the same answers, the same slots and a trace of the same causes: the table, and every join."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, get_args

import pytest
from asgi_kit import ENGINES, PATIENCE
from causal_trace import Recorder, causes
from conformance_table import TABLE
from engine_conformance import Conductor, Row, compare, hold_against, play
from join_contract import SLOTS, Case, Expected, Form, cases, contract, forms, seen_by, steps_of, value, what
from scripted import Script

from zerver import App, Effect, ErrorKind, Request, Response
from zerver.config import load
from zerver.engine.blocking import Exchange
from zerver.pipeline import Pipeline
from zerver.server.service import Service
from zerver.step import compile_step
from zerver_runtime.reactor.join import Join, Mode


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_row(row: Row) -> None:
    """What the row says comes of it on each engine, and no two of them differ."""
    played = [await play(row, engine) for engine in row.engines]
    for one in played:
        hold_against(row, one)
    for one in played[1:]:
        compare(played[0], one)


async def test_what_settles_when_the_thread_of_a_blocking_request_has_ended_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_loop = Exchange._on_loop

    def hand_over(exchange: Exchange, callback: Callable[..., object], *arguments: Any) -> None:
        if callback == exchange._cancel:  # first the effect settles, by its own view of the deadline
            exchange._inbox.put(exchange._inbox.get(timeout=PATIENCE))
        on_loop(exchange, callback, *arguments)

    monkeypatch.setattr(Exchange, "_on_loop", hand_over)
    (row,) = [one for one in TABLE if one.name.startswith("past the deadline a request that waits is 504")]
    hold_against(row, await play(row, "blocking"))


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)


# Every join, in the order of the declaration


class Effects(Conductor):
    """Performs the effects of a case, one after another in the order of its history, as long as they are let."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._cancelled = contract(case).cancelled
        super().__init__([str(index) for index in case.order if index not in self._cancelled])

    def script(self, effect: Effect[Any]) -> Script:
        index: int = effect.args
        if index in self._cancelled:
            return Script(str(index), held=True)
        if self._case.successes[index]:
            return Script(str(index), value(index))
        return Script(str(index), kind=ErrorKind.CONFLICT, error=what(index))


class Driver:
    """Performs the effects of the case that is run now."""

    def __init__(self) -> None:
        self.case: Effects

    def start(self, effect: Effect[Any], done: Any, /) -> Any:
        return self.case.start(effect, done)


async def run_cases(engine: str, join: Join, mode: Mode, size: int) -> list[tuple[Case, list[str]]]:
    """Every Need of this size on this engine, held against the contract; and the trace of each."""
    app, driver, recorder = App(), Driver(), Recorder()
    app.effector("test", driver)
    service = Service(app.site(), load({}, ENGINES[engine], {}), asyncio.get_running_loop(), recorder)
    told = []
    try:
        for number, case in enumerate(cases(size, join, mode, orders="declaration")):
            form, id = forms(size)[number % len(forms(size))], f"r{number}"
            driver.case = Effects(case)
            try:
                await hold_against_the_contract(service, driver.case, case, form, id, engine)
                told.append((case, causes(recorder.trace(id))))
            except BaseException as problem:
                problem.add_note(f"{case}, asked for by {form!r}, on {engine}")
                raise
    finally:
        await service.close()
    return told


async def hold_against_the_contract(
    service: Service, driver: Effects, case: Case, form: Form, id: str, engine: str
) -> None:
    expected, seen = contract(case), list[Any]()
    pipeline = Pipeline("GET /", tuple([compile_step(one) for one in steps_of(case, form, seen)]), None)
    answered: asyncio.Future[Response | None] = service.loop.create_future()
    exchange = service.engine.begin(pipeline, Request("GET", "/", id=id), service.engine.clock(), answered.set_result)
    assert exchange is not None
    answer = await asyncio.wait_for(answered, PATIENCE)
    exchange.close()
    await service.engine.live.idle(PATIENCE, killed=True)
    assert service.engine.live.empty
    assert answer is not None
    assert sorted(line for line in driver.log if line[0] == "+") == begun(case, expected, engine)
    assert seen == seen_by(case, form, expected)
    assert [one.what for one in exchange.run.errors] == [what(index) for index in expected.errors]
    if expected.fails_with is None:
        assert (answer.status, answer.body) == (200, b"resumed")
        written = [(SLOTS[index], given) for index, given in expected.values.items()]
        assert list(exchange.run.slots.items()) == written, "in the order of the declaration"
    else:
        assert answer.status == 409
        assert what(expected.fails_with).encode() in answer.body  # type: ignore[operator]
        assert not exchange.run.slots, "nothing is written when the Need fails"


def begun(case: Case, expected: Expected, engine: str) -> list[str]:
    """What is begun: one after another, nothing that the join has let go."""
    one_by_one = case.mode == "sequential" or engine == "blocking"
    return [f"+{index}" for index in case.order if not one_by_one or index not in expected.cancelled]


@pytest.mark.parametrize("size", range(4))
@pytest.mark.parametrize("mode", get_args(Mode))
@pytest.mark.parametrize("join", get_args(Join))
async def test_every_join_in_the_order_of_the_declaration(join: Join, mode: Mode, size: int) -> None:
    """All outcomes, required or not, detached or not: on every engine what the contract says, with the same trace."""
    reference, *others = [(engine, await run_cases(engine, join, mode, size)) for engine in ENGINES]
    for engine, told in others:
        for (case, lines), (_, expected) in zip(told, reference[1], strict=True):
            assert lines == expected, f"{case}: the traces of {engine} and {reference[0]} differ"
