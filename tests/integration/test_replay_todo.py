"""The figures of replay: a thousand recorded requests of an example are identical; of each planted change, the first
divergence is reported."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from replay_kit import ask, recorded

from examples.todo.app import app
from examples.todo.model import SCHEMA
from zerver import App, Request, sql
from zerver.replay import replay
from zerver.trace.record import TraceRecord

EXAMPLE = Path(__file__).parents[2] / "examples/todo"
REQUESTS = 1000


def requests(count: int, seed: int) -> list[Request]:
    """As clients would send them, the wrong ones included."""
    choose = random.Random(seed)
    return [request(choose, number) for number in range(count)]


def request(choose: random.Random, number: int) -> Request:
    id = choose.randint(1, 60)
    title = json.dumps({"title": choose.choice(["tea", "ümlaut", "a" * 300, "", 7, None])}, ensure_ascii=False).encode()
    change = {
        "title": choose.choice(["milk", "x", " "]),
        "done": choose.choice([True, False, "yes"]),
        "version": choose.randint(1, 4),
    }
    some = {name: change[name] for name in choose.sample(sorted(change), choose.randint(0, 3))}
    return choose.choice([
        ask("POST", "/todos", b'{"title": "water"}'),
        ask("POST", "/todos", b'{"title": "again"}', idempotency_key=f"k{id}"),
        ask("POST", "/todos", title),
        ask("POST", "/todos", title[:-2]),
        ask("POST", "/todos", title, content_type="text/plain"),
        ask("GET", f"/todos?limit={choose.randint(0, 9)}&after={id}"),
        ask("GET", f"/todos?done={choose.choice(['true', 'false', 'maybe'])}"),
        ask("GET", "/todos"),
        ask("GET", f"/todos/{id}"),
        ask("HEAD", f"/todos/{id}"),
        ask("GET", "/todos/0"),
        ask("PATCH", f"/todos/{id}", json.dumps(some).encode()),
        ask("DELETE", f"/todos/{id}"),
        ask("GET", f"/todos/{number}"),
    ])  # fmt: skip


async def test_a_thousand_recorded_requests_of_an_example_replay_identically(tmp_path: Path) -> None:
    database = {"databases": {"default": f"sqlite:///{tmp_path}/todo.db"}, "timeouts": {"sql": 20.0}}
    records = await recorded(
        app, requests(REQUESTS, 7), first=[sql.execute(SCHEMA, timeout=5)], at_once=8, effects=database
    )
    assert len(records) == REQUESTS
    statuses = Counter(record.status for record in records)
    assert set(statuses) == {200, 201, 204, 400, 404, 409, 415, 422}, "the requests are varied"
    reports = await asyncio.to_thread(lambda: [replay(app, record) for record in records])
    assert [[*report.lines] for report in reports if report.outcome != "identical" or report.changed] == []


# Planted changes


class Planted(NamedTuple):
    """A change, and what of it is to be found first."""

    before: str
    after: str
    asked: str
    kind: str
    step: str
    expected: str
    got: str
    file: str = "app.py"


ASKED = {
    "create": ask("POST", "/todos", b'{"title": "tea"}'),
    "list": ask("GET", "/todos?limit=1"),
    "show": ask("GET", "/todos/1"),
    "conflict": ask("PATCH", "/todos/1", b'{"version": 7}'),
    "delete": ask("DELETE", "/todos/1"),
}

TABLE = {
    "a slot gets another value": Planted(
        'ctx.put(TodoId, ctx.param("id", Id))', 'ctx.put(TodoId, ctx.param("id", Id) + 1)',
        "show", "effect", "load", "with other arguments", "with {'id': 2}",
    ),
    "a step fails": Planted(
        "    return Continue()", '    return Fail(ErrorKind.FORBIDDEN, "no")',
        "show", "decision", "read_id", "Continue", "Fail FORBIDDEN: no",
    ),
    "a step returns nothing": Planted(
        "    return Continue()", "    return", "show", "decision", "read_id", "Continue", "NoneType",
    ),
    "a step raises": Planted(
        'return Need([sql.query_one(LOAD, {"id": ctx.require(TodoId)}, into=Item)], then=show)',
        'raise ValueError("planted")',
        "show", "exception", "load", "Need all [sql.query_one into Item], then show", "raised ValueError: planted",
    ),
    "another statement": Planted(
        'sql.query_one(LOAD, {"id": ctx.require(TodoId)}, into=Item)', 'sql.query_one(DELETE, {"id": 1}, into=Item)',
        "show", "effect", "load", "select id", "delete from todo",
    ),
    "an effect becomes optional": Planted(
        "into=Item)], then=show)", "into=Item, required=False)], then=show)",
        "show", "effect", "load", "sql.query_one into Item at sql:default", "(optional)",
    ),
    "another database": Planted(
        "into=Item)], then=show)", 'into=Item, db="other")], then=show)',
        "show", "effect", "load", "at sql:default", "at sql:other",
    ),
    "another kind of effect": Planted(
        'sql.query_one(LOAD, {"id": ctx.require(TodoId)}, into=Item)', 'sql.query(LOAD, {"id": ctx.require(TodoId)})',
        "show", "effect", "load", "sql.query_one into Item", "sql.query at",
    ),
    "another join": Planted("then=show)", 'then=show, join="any")', "show", "need", "load", "Need all [", "Need any ["),
    "in sequence": Planted(
        "then=show)", 'then=show, mode="sequential")', "show", "need", "load", "Need all [", "Need all in sequence [",
    ),
    "another continuation": Planted("then=show)", "then=created)", "show", "need", "load", "then show", "then created"),
    "one effect more": Planted(
        "into=Item)], then=show)", "into=Item), sql.execute(SCHEMA)], then=show)",
        "show", "need", "load", "[sql.query_one into Item]", "[sql.query_one into Item, sql.execute]",
    ),
    "another status": Planted(
        "    return Done.json(ctx.require(Item))", "    return Done.json(ctx.require(Item), status=203)",
        "show", "answer", "show", "status 200", "status 203",
    ),
    "another header": Planted(
        "    return Done.json(ctx.require(Item))", '    return Done.json(ctx.require(Item), headers={"x-a": "b"})',
        "show", "answer", "show", "no further header", "header x-a: b",
    ),
    "another body": Planted(
        "    return Done.json(ctx.require(Item))", "    return Done.json([ctx.require(Item)])",
        "show", "answer", "show", 'body {"id"', 'body [{"id"',
    ),
    "a value of its own instead of a random one": Planted(
        "str(ctx.uuid())", '"mine"', "create", "given", "create", "it reads ctx.uuid()", "it reads ctx.now()",
    ),
    "an argument of an effect": Planted(
        '"title": draft.title', '"title": draft.title.upper()',
        "create", "effect", "create", "with other arguments", "'title': 'TEA'",
    ),
    "a read of randomness more": Planted(
        "    draft = ctx.json(Draft)", "    draft = ctx.json(Draft)\n    ctx.random()",
        "create", "given", "create", "it reads ctx.uuid()", "it reads ctx.random()",
    ),
    "a read of the time at the end": Planted(
        "    todo = ctx.require(Item)\n    return Done.json(todo, status=201",
        "    todo = ctx.require(Item)\n    ctx.now()\n    return Done.json(todo, status=201",
        "create", "given", "created", "it reads no more of time", "it reads ctx.now()",
    ),
    "another default": Planted(
        '"limit": limit + 1', '"limit": limit', "list", "effect", "find", "with other arguments", "'limit': 1",
    ),
    "a slice": Planted("rows[:limit]", "rows[1:limit]", "list", "answer", "page", '{"items":[{', '{"items":[]'),
    "another branch": Planted(
        "if todo is not None:", "if todo is None:",
        "conflict", "decision", "changed", "Need all [sql.query_one into Current], then outdated", "Done 200",
    ),
    "another kind of failure": Planted(
        "Fail(ErrorKind.CONFLICT,", "Fail(ErrorKind.NOT_FOUND,",
        "conflict", "decision", "outdated", "CONFLICT: ", "NOT_FOUND: ",
    ),
    "a row of another type": Planted(
        "    title: str\n    done", "    title: int\n    done",
        "show", "result", "load", "a value", "INTERNAL: sql.query_one into Item: the value does not fit its type",
        "model.py",
    ),
    "a step more": Planted(
        'app.delete("/todos/{id:int}", read_id, delete)', 'app.delete("/todos/{id:int}", read_id, read_id, delete)',
        "delete", "step", "read_id", "step delete runs", "step read_id runs",
    ),
    "a step in front of all": Planted(
        "app = App(lifespan=lifespan)",
        "app = App(lifespan=lifespan)\ndef guard(ctx: CtxView) -> Decision:\n    return Continue()\napp.use(guard)",
        "delete", "step", "guard", "step read_id runs", "step guard runs",
    ),
    "a route is gone": Planted(
        'app.delete("/todos/{id:int}", read_id, delete)', "",
        "delete", "route", "", "DELETE /todos/{id:int}", "GET, HEAD",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TraceRecord]:
    folder = tmp_path_factory.mktemp("database")
    database = {"databases": {"default": f"sqlite:///{folder}/todo.db"}, "timeouts": {"sql": 20.0}}
    first = [sql.execute(SCHEMA, timeout=5)]
    found = asyncio.run(recorded(app, [*ASKED.values()], first=first, effects=database))
    return dict(zip(ASKED, found, strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "planted"]:
        del sys.modules[name]


def changed_app(folder: Path, one: Planted | None) -> App:
    """The example, with this change."""
    for name in ("__init__.py", "app.py", "model.py"):
        text = (EXAMPLE / name).read_text()
        if one is not None and name == one.file:
            assert text.count(one.before) == 1, f"{one.before!r} is not there once"
            text = text.replace(one.before, one.after)
        (folder / name).write_text(text)
    file = folder / "__init__.py"
    spec = importlib.util.spec_from_file_location("planted", file, submodule_search_locations=[str(folder)])
    assert spec is not None
    sys.modules["planted"] = importlib.util.module_from_spec(spec)
    found: App = importlib.import_module("planted.app").app
    return found


@pytest.mark.parametrize("one", TABLE.values(), ids=TABLE)
def test_a_planted_change_is_reported_at_its_first_divergence(
    one: Planted, folder: Path, records: dict[str, TraceRecord]
) -> None:
    report = replay(changed_app(folder, one), records[one.asked])
    found = report.divergence
    assert report.outcome == "diverged"
    assert found is not None
    assert (found.kind, found.step) == (one.kind, one.step), [*report.lines]
    assert one.expected in found.expected
    assert one.got in found.got
    if found.kind != "route":
        file, _, line = found.where.rpartition(":")
        assert (file, int(line) > 0) == (str(folder / "app.py"), True)


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_not_changed_does_not_diverge(folder: Path, asked: str, records: dict[str, TraceRecord]) -> None:
    report = replay(changed_app(folder, None), records[asked])
    assert (report.outcome, report.changed, report.limit) == ("identical", (), None)
