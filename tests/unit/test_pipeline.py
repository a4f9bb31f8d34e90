"""What is found before the first request: reads before writes, second writers, loose ends, dead slots."""

from __future__ import annotations

from typing import Never

import pytest

from zerver import (
    App,
    AppError,
    Continue,
    CtxView,
    Decision,
    DefinitionError,
    Done,
    ErrorKind,
    Fail,
    Need,
    Slot,
    call,
    step,
)
from zerver.pipeline import Findings, Pipeline, check_pipeline
from zerver.step import compile_step


class TodoId(Slot[int]):
    """An id."""


class Title(Slot[str]):
    """A title."""


class User(Slot[str]):
    """A user."""


def work() -> int:
    return 1


@step
def write_id(ctx: CtxView[Never, TodoId]) -> Decision:
    ctx.put(TodoId, 1)
    return Continue()


@step
def write_id_too(ctx: CtxView[Never, TodoId]) -> Decision:
    ctx.put(TodoId, 2)
    return Continue()


@step
def read_id(ctx: CtxView[TodoId]) -> Decision:
    return Done.json(ctx.require(TodoId))


@step
def overwrite_own(ctx: CtxView[TodoId, TodoId]) -> Decision:
    ctx.put(TodoId, 1)
    ctx.put(TodoId, ctx.require(TodoId) + 1)
    return Done.json(ctx.require(TodoId))


@step
def ask_then_show(ctx: CtxView[Never, TodoId]) -> Decision:
    return Need([call.run(work, into=TodoId)], then=show_id)


def show_id(ctx: CtxView[TodoId]) -> Decision:
    return Done.json(ctx.require(TodoId))


@step
def ask_then_show_title(ctx: CtxView[Never, TodoId]) -> Decision:
    return Need([call.run(work, into=TodoId)], then=show_title)


def show_title(ctx: CtxView[Title]) -> Decision:
    return Done.json(ctx.require(Title))


@step
def ask_then_write_again(ctx: CtxView[Never, TodoId]) -> Decision:
    return Need([call.run(work, into=TodoId)], then=write_again)


def write_again(ctx: CtxView[Never, TodoId]) -> Decision:
    return Done.empty()


@step
def choose(ctx: CtxView) -> Decision:
    if ctx.method == "GET":
        return Need([call.run(work)], then=one_way)
    return Need([call.run(work)], then=other_way)


def one_way(ctx: CtxView[Never, Title]) -> Decision:
    ctx.put(Title, "one")
    return Continue()


def other_way(ctx: CtxView[Never, Title]) -> Decision:
    ctx.put(Title, "other")
    return Continue()


@step
def poll(ctx: CtxView[Never, TodoId]) -> Decision:
    if ctx.elapsed < 1:
        return Need([call.run(work, into=TodoId)], then=poll)
    return Done.empty()


@step
def ask_without_then(ctx: CtxView[Never, TodoId]) -> Decision:
    return Need([call.run(work, into=TodoId)])


@step
def unknown_then(ctx: CtxView) -> Decision:
    following = show_title
    return Need([call.run(work)], then=following)


@step(then=(one_way,))
def declared_then(ctx: CtxView) -> Decision:
    following = one_way
    return Need([call.run(work)], then=following)


@step
def helper_made(ctx: CtxView) -> Decision:
    return made_elsewhere()


def made_elsewhere() -> Decision:
    return Continue()


@step
def sometimes(ctx: CtxView[TodoId]) -> Decision:
    return Done.empty() if ctx.require(TodoId) else Continue()


@step
def refuse(ctx: CtxView) -> Decision:
    return Fail(ErrorKind.FORBIDDEN)


def check(*steps: object) -> Findings:
    return check_pipeline(Pipeline("GET /x", tuple(compile_step(one) for one in steps)))


@pytest.mark.parametrize(
    "steps",
    [
        (write_id, read_id),
        (overwrite_own,),
        (ask_then_show,),
        (ask_without_then, read_id),
        (choose, show_title),
        (poll,),
        (refuse,),
        (unknown_then, show_title),  # the unknown continuation may write anything
        (declared_then, show_title),
        (write_id, write_id, read_id),  # the same step is the same writer
        (helper_made,),  # its end is unknown, and never guessed
    ],
    ids=lambda steps: "-".join(one.__name__ for one in steps),
)
def test_sound_pipelines_have_no_errors(steps: tuple[object, ...]) -> None:
    assert check(*steps).errors == ()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((read_id,), ["GET /x", "read_id", "TodoId", "add a step that writes it"]),
        ((read_id, write_id), ["read_id", "TodoId"]),
        ((ask_then_show_title,), ["show_title", "Title", "no step before it"]),
        ((declared_then, read_id), ["read_id", "TodoId"]),
        ((write_id, write_id_too, read_id), ["write_id_too", "TodoId", "write_id ", "slot of its own"]),
        ((ask_then_write_again,), ["write_again", "TodoId", "ask_then_write_again"]),
        ((write_id, ask_then_show), ["ask_then_show", "TodoId", "write_id"]),
        ((write_id,), ["write_id", "no end", "Done or Fail"]),
        ((write_id, sometimes), ["sometimes", "no end"]),
        ((ask_without_then,), ["ask_without_then", "no end"]),
        ((choose,), ["one_way", "no end"]),
        ((), ["no steps"]),
    ],
)
def test_an_error_names_route_step_slot_and_fix(steps: tuple[object, ...], words: list[str]) -> None:
    found = check(*steps).errors
    assert any(all(word in error for word in words) for error in found), found
    assert all("GET /x" in error for error in found)


def test_siblings_may_write_the_same_slot_because_only_one_of_them_runs() -> None:
    assert check(choose, show_title).errors == ()


def test_a_slot_that_nobody_reads_is_found() -> None:
    assert [(one.name, slot) for one, slot in check(write_id, refuse).unread] == [("write_id", TodoId)]


def test_nothing_is_said_of_dead_slots_while_a_continuation_is_unknown() -> None:
    assert check(write_id, unknown_then, refuse).unread == ()


def test_a_before_step_is_dead_only_if_no_route_reads_what_it_writes() -> None:
    app = App()

    def authenticate(ctx: CtxView[Never, User]) -> Decision:
        ctx.put(User, "me")
        return Continue()

    def who(ctx: CtxView[User]) -> Decision:
        return Done.json(ctx.require(User))

    app.use(authenticate)
    app.get("/anonymous", refuse)
    assert any("authenticate" in warning and "User" in warning for warning in app.check().warnings)
    app.get("/me", who)
    assert app.check().warnings == ()


def test_an_app_with_errors_does_not_start_and_lists_all_of_them() -> None:
    app = App()
    app.get("/a", read_id)
    app.get("/b", write_id)
    app.get("/c/{x}", refuse)
    app.get("/c/{y}", refuse)
    with pytest.raises(AppError) as refused:
        app.site()
    for words in ("GET /a", "GET /b", "/c/{y}"):
        assert words in str(refused.value)


def test_nothing_can_be_declared_after_the_start() -> None:
    app = App()
    app.get("/a", refuse)
    app.site()
    for declare in (
        lambda: app.get("/b", refuse),
        lambda: app.use(write_id),
        lambda: app.flow("x", refuse),
        lambda: app.mount("/m", app),
        lambda: app.effector("x", object()),
    ):
        with pytest.raises(DefinitionError, match="started"):
            declare()


@pytest.mark.parametrize(
    "declare",
    [
        lambda app: app.flow("Not A Slug", refuse),
        lambda app: app.flow("empty"),
        lambda app: app.mount("no-slash", object()),
        lambda app: app.mount("/with/{param}", object()),
        lambda app: app.mount("/me", app),
        lambda app: app.effector("x", object()),
        lambda app: app.get("/x", refuse, deadline=0),
        lambda app: app.get("/x", refuse, deadline=float("inf")),
        lambda app: app.route("get"),
        lambda app: app.get("/x", 7),
        lambda app: app.use(lambda ctx: Done.empty()),
    ],
)
def test_wrong_declarations_are_refused_where_they_stand(declare: object) -> None:
    with pytest.raises(DefinitionError):
        declare(App())  # type: ignore[operator]
