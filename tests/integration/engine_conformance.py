"""Plays one app on every engine, with effects whose outcomes and order are scripted, and says in what engines differ.

A :class:`Row` is an app, what is asked of it, and what has to come of it. :func:`play` runs it on one engine behind
ASGI; :func:`hold_against` compares with what is written in the row, :func:`compare` two engines with each other:
status, headers, body, slots, errors, what the steps noted, and the trace. What of a trace has to be alike, and in which
form it is compared, is told in ``causal_trace``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from asgi_kit import ENGINES, Connection, serving, until
from causal_trace import Event, Recorder, causes, cut_by_deadline
from scripted import Own, Script

from zerver import App, Effect, ErrorKind
from zerver.config import load
from zerver.engine.live import Engine
from zerver.execution import Execution
from zerver.server.asgi import AsgiServer
from zerver.trace.reading import told
from zerver_runtime.outcome import Outcome

__all__ = [
    "Answer",
    "Ask",
    "Conductor",
    "Place",
    "Played",
    "Row",
    "compare",
    "hold_against",
    "play",
    "problem",
    "shows",
]


class Conductor(Own):
    """Lets effects settle in this order, by their names; the others as their scripts say. Between two of them, the
    loop has a turn."""

    def __init__(self, order: Sequence[str] = ()) -> None:
        super().__init__()
        self._left = list(order)
        self._scripts: dict[str, Script] = {}
        self._scheduled = False

    def start(self, effect: Effect[Any], done: Callable[[Outcome], None], /) -> Callable[[], object] | None:
        script = self.script(effect)
        if script.name not in self._left:
            return super().start(effect, done)
        self.log.append(f"+{script.name}")
        self.holding[script.name] = done
        self._scripts[script.name] = script
        self._soon()

        def cancel() -> None:
            self.log.append(f"-{script.name}")
            self._left.remove(script.name)
            self.release(script.name)
            self._soon()

        return cancel

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        if self._left and self._left[0] in self.holding:
            name = self._left.pop(0)
            self.release(name, self.outcome(self._scripts[name]))
            self._soon()


class Ask(msgspec.Struct, frozen=True):
    """One request."""

    method: str = "GET"
    path: str = "/x"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    until: Literal["answered", "gone", "stopped"] = "answered"
    """The client goes when its effects are held; or the app stops meanwhile."""


class Answer(msgspec.Struct, frozen=True):
    """What came, with the id of the request taken out."""

    status: int | None
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool = True


class Place:
    """Where a row declares its routes. ``note`` what its steps see."""

    def __init__(self, app: App, prefix: str = "") -> None:
        self.app = app
        self.prefix = prefix
        self.notes: list[Any] = []

    def note(self, what: Any) -> None:
        self.notes.append(what)

    def get(self, *steps: Any, path: str = "/x", **options: Any) -> None:
        self.app.get(self.prefix + path, *steps, **options)

    def post(self, *steps: Any, **options: Any) -> None:
        self.app.post(self.prefix + "/x", *steps, **options)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of the contracts, as a case."""

    name: str
    declare: Callable[[Place], None]
    asks: tuple[Ask, ...] = (Ask(),)
    expects: tuple[tuple[int | None, Any], ...]
    """For each request its status and body: text, bytes, or an object whose keys the JSON has to have (others may be
    there); ``None``: not looked at. A client that has gone gets no status."""
    headers: Mapping[str, str | None] = {}
    """Of the last answer; ``None``: it has no such header."""
    slots: Mapping[str, Any] | None = None
    """Of the last request, in the order in which they were written; ``None``: not looked at."""
    notes: Sequence[Any] | None = None
    log: Mapping[str, str] | str | None = None
    """What the driver was told, ``+a -a``; by engine where that differs (``pool`` is as ``reactor``)."""
    trace: str | None = None
    """Lines of the last request's trace, all of them; ``None``: only compared with that of the other engines."""
    order: tuple[str, ...] = ()
    """In which effects settle. Another one than that of their declaration is for engines that run them in parallel."""
    engines: tuple[str, ...] = tuple(ENGINES)
    config: Mapping[str, Any] = {}
    app: Mapping[str, Any] = {}
    sockets: bool = False
    """Whether it is asked over sockets, too."""
    check: Callable[[Played], None] | None = None


class Played(msgspec.Struct):
    """What came of a row on one engine."""

    row: Row
    engine: str
    answers: list[Answer]
    notes: list[Any]
    log: list[str]
    runs: list[Execution]
    traces: list[list[Event]]
    """Of each request that reached the engine, as it was told."""
    causes: list[list[str]]
    """The same, as ``causal_trace`` puts it, with the ids of the requests taken out."""
    statistics: Any
    """Of the dispatcher, at the end."""

    @property
    def slots(self) -> list[dict[str, Any]]:
        return [{slot.__name__: value for slot, value in run.slots.items()} for run in self.runs]

    @property
    def errors(self) -> list[list[tuple[str, str]]]:
        """What ``ctx.errors`` is in the end. No step sees it past the deadline, where engines may differ."""
        return [
            [] if cut_by_deadline(events) else [(one.kind.name, one.what) for one in run.errors]
            for run, events in zip(self.runs, self.traces, strict=True)
        ]


async def play(row: Row, engine: str) -> Played:
    """Everything that a row asks, one after another, until the app has stopped."""
    driver, recorder = Conductor(row.order), Recorder()
    app = App(**row.app)
    app.effector("own", driver)
    place = Place(app)
    row.declare(place)
    config = load(dict(row.config), ENGINES[engine], {})
    server = AsgiServer(app.site, lambda: config, recorder)
    runs: list[Execution] = []
    async with serving(server):
        service = server._services[asyncio.get_running_loop()]
        service.engine = _Keeping(service.engine, runs)
        connections: list[Connection] = []
        for ask in row.asks:
            headers = [(name.encode(), value.encode()) for name, value in ask.headers]
            connection = Connection(server, ask.method, ask.path, body=ask.body, headers=headers).start()
            connections.append(connection)
            if ask.until == "gone":
                await until(lambda: driver.holding, "no effect is held")
                connection.disconnect()
            if ask.until != "stopped":
                await connection.ended()
            else:
                await until(lambda: driver.holding, "no effect is held")
    answers = [_answer(await one.ended()) for one in connections]
    assert {id(run) for run in recorder.ended} == {id(run) for run in runs}, (
        "each request that reaches the engine has a trace, and no other"
    )
    await until(lambda: not service.dispatcher.pending)
    traces = [told(run) for run in runs]
    lines_of = [causes(events) for events in traces]
    for run, lines in zip(runs, lines_of, strict=True):
        lines[:] = [line.replace(run.request.id, "ID") for line in lines]
    return Played(
        row, engine, answers, place.notes, driver.log, runs, traces, lines_of, service.dispatcher.statistics()
    )


class _Keeping:
    """An engine whose runs are kept."""

    def __init__(self, engine: Engine, runs: list[Execution]) -> None:
        self.live, self.clock, self.close = engine.live, engine.clock, engine.close
        self._engine, self._runs = engine, runs

    def begin(self, *args: Any) -> Any:
        exchange = self._engine.begin(*args)
        assert exchange is not None, "there is no exchange to look at"
        self._runs.append(exchange.run)
        return exchange


def _answer(connection: Connection) -> Answer:
    if connection.status is None:
        return Answer(None, (), b"", False)
    id = connection.header("x-request-id") or "?"
    headers = tuple((name, value) for name, value in connection.headers if name != "x-request-id")
    return Answer(connection.status, headers, connection.body.replace(id.encode(), b"ID"), connection.complete)


# Comparing


def hold_answers(row: Row, engine: str, answers: Sequence[Answer]) -> None:
    """AssertionError: these are not the answers that the row expects; it names the row, the engine and the field."""
    where = f"{row.name!r} on {engine}"
    assert len(answers) == len(row.expects), f"{where}: {len(row.expects)} answers are expected"
    for number, (answer, expected) in enumerate(zip(answers, row.expects, strict=True)):
        _hold_answer(f"{where}, answer {number}", answer, expected)
    for name, value in row.headers.items():
        found = dict(answers[-1].headers).get(name)
        assert found == value, f"{where}: header {name} is {found!r}, not {value!r}"


def hold_against(row: Row, played: Played) -> None:
    """As :func:`hold_answers`, for all that a row expects."""
    where = f"{row.name!r} on {played.engine}"
    hold_answers(row, played.engine, played.answers)
    if row.slots is not None:
        slots = played.slots[-1]
        assert [*slots.items()] == [*row.slots.items()], f"{where}: slots are {slots}, not {row.slots}"
    if row.notes is not None:
        assert played.notes == [*row.notes], f"{where}: steps noted {played.notes}, not {row.notes}"
    if row.log is not None:
        told = {"pool": "reactor"}.get(played.engine, played.engine)
        log = (row.log if isinstance(row.log, str) else row.log[told]).split()
        assert played.log == log, f"{where}: the driver was told {played.log}, not {log}"
    if row.trace is not None:
        lines = [line.strip() for line in row.trace.strip().splitlines()]
        found = played.causes[-1]
        assert found == lines, f"{where}: the trace is\n{_numbered(found)}\nnot\n{_numbered(lines)}"
    if row.check is not None:
        row.check(played)


def _hold_answer(where: str, answer: Answer, expected: tuple[int | None, Any]) -> None:
    status, body = expected
    told = f"{where}: got {answer.status} {answer.body!r}"
    assert answer.status == status, f"{told}, expected status {status}"
    if isinstance(body, dict):
        found = json.loads(answer.body)
        assert found | body == found, f"{told}, expected {body} in it"
    elif body is not None:
        expected_body = body.encode() if isinstance(body, str) else body
        assert answer.body == expected_body, f"{told}, expected {expected_body!r}"


def compare(one: Played, other: Played) -> None:
    """AssertionError: the two engines do not agree; it names the row, the engines and the field."""
    where = f"{one.row.name!r}: {one.engine} and {other.engine} differ in"
    compare_answers(where, one.answers, other.answers)
    for field in ("slots", "errors", "notes"):
        a, b = getattr(one, field), getattr(other, field)
        assert a == b, f"{where} {field}: {a} and {b}"
    for number, (first, second) in enumerate(zip(one.causes, other.causes, strict=True)):
        told = f"{where} the trace of request {number}:\n{_numbered(first)}\nand\n{_numbered(second)}"
        assert first == second, told


def compare_answers(where: str, one: Sequence[Answer], other: Sequence[Answer]) -> None:
    """AssertionError: they are not the same; it names the field."""
    for number, (left, right) in enumerate(zip(one, other, strict=True)):
        for field in Answer.__struct_fields__:
            a, b = getattr(left, field), getattr(right, field)
            assert a == b, f"{where} {field} of answer {number}: {a!r} and {b!r}"


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"  {number:2} {line}" for number, line in enumerate(lines))


def problem(kind: ErrorKind, detail: str) -> tuple[int, Any]:
    """The answer of an error."""
    return kind.status, {"kind": kind.name, "detail": detail}


def shows(*values: Any, errors: Sequence[str] = ()) -> tuple[int, Any]:
    """What ``scripted.show`` answers."""
    return 200, {"values": [*values, *[None] * (3 - len(values))], "errors": [*errors]}
