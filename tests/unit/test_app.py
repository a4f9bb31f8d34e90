"""The app: what can be declared, what is refused where it stands, and what is found before the start."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Never

import pytest

from zerver import (
    App,
    AppError,
    Continue,
    CtxView,
    Decision,
    DefinitionError,
    Done,
    Error,
    Need,
    Request,
    Response,
    Slot,
    timer,
)
from zerver.match import Match, MethodMismatch


class User(Slot[str]):
    """Who asks."""


def done(ctx: CtxView) -> Decision:
    return Done.empty()


def one(ctx: CtxView) -> Decision:
    return Continue()


def two(ctx: CtxView) -> Decision:
    return Continue()


def three(ctx: CtxView) -> Decision:
    return Continue()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Mounted."""


class Driver:
    def start(self, effect: Any, done: Any, /) -> None:
        """Performs nothing."""


def pipeline(app: App, method: str, path: str) -> Any:
    found = app.site().router.match(method, path)
    assert isinstance(found, Match), found
    return found.endpoint


def steps(app: App, method: str, path: str) -> list[str]:
    return [step.name for step in pipeline(app, method, path).steps]


# Routes


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_each_method_has_a_registrar_with_steps_or_as_a_decorator(method: str) -> None:
    app = App()
    registrar = getattr(app, method.lower())
    assert registrar("/a", one, done) is None
    assert registrar("/b", before=(one,))(done) is done
    assert steps(app, method, "/a") == steps(app, method, "/b") == ["one", "done"]
    assert isinstance(app.site().router.match("PURGE", "/a"), MethodMismatch)


def test_any_other_method_is_declared_with_route() -> None:
    app = App()
    app.route("PURGE")("/cache", done)
    assert steps(app, "PURGE", "/cache") == ["done"]


def test_steps_run_in_the_order_use_before_route_whatever_was_declared_first() -> None:
    app = App()
    app.get("/x", three, done, before=(two,))
    app.use(one)
    assert steps(app, "GET", "/x") == ["one", "two", "three", "done"]


def test_a_flow_is_a_post_below_flow_v1() -> None:
    app = App()
    app.flow("check-out_2", two, done, before=(one,), deadline=3)
    assert steps(app, "POST", "/flow/v1/check-out_2") == ["one", "two", "done"]
    assert pipeline(app, "POST", "/flow/v1/check-out_2").deadline == 3


def test_slots_of_the_declaring_function_are_found() -> None:
    class Local(Slot[int]):
        """Only here."""

    app = App()

    @app.get("/x")
    def answer(ctx: CtxView[Never, Local]) -> Decision:
        ctx.put(Local, 1)
        return Done.empty()

    assert pipeline(app, "GET", "/x").steps[0].writes == {Local}


@pytest.mark.parametrize("deadline", [0.001, 1, 2.01, 86_400])
def test_a_deadline_is_kept(deadline: float) -> None:
    app = App()
    app.get("/x", done, deadline=deadline)
    assert pipeline(app, "GET", "/x").deadline == deadline


@pytest.mark.parametrize("deadline", [0, -1, math.inf, math.nan, 86_401, 1e300, "5"])
def test_a_deadline_that_nothing_could_hold_is_refused(deadline: Any) -> None:
    with pytest.raises(DefinitionError, match=r"route GET /x: deadline=.* seconds"):
        App().get("/x", done, deadline=deadline)


def test_a_decorator_without_its_path_is_refused() -> None:
    """Else it would take the function for the path, and register nothing."""
    app = App()
    with pytest.raises(DefinitionError, match="its path first"):
        app.get(done)(done)  # type: ignore[call-overload]


# Lifespan and on_error


def test_a_lifespan_that_gives_no_context_manager_is_refused() -> None:
    async def generator(app: App) -> AsyncIterator[None]:
        yield

    async def coroutine(app: App) -> None:
        """Gives nothing to leave."""

    for wrong in (generator, coroutine):
        with pytest.raises(DefinitionError, match="asynccontextmanager"):
            App(lifespan=wrong)  # type: ignore[arg-type]
    assert App(lifespan=asynccontextmanager(generator)).lifespan is not None


def test_an_on_error_that_gives_no_response_is_refused() -> None:
    async def asynchronous(error: Error, request: Request) -> Response:
        return Response()

    for wrong in (asynchronous, "render", Response()):
        with pytest.raises(DefinitionError, match="on_error"):
            App(on_error=wrong)  # type: ignore[arg-type]


# Mounts and effectors


def test_mounts_are_tried_longest_first_and_without_the_slash_at_their_end() -> None:
    app = App()
    for path in ("/", "/a/b/", "/a", "/abc"):
        app.mount(path, asgi)
    assert [mount.path for mount in app.site().mounts] == ["/a/b", "/abc", "/a", ""]


@pytest.mark.parametrize("path", ["", "a", "/{x}", "a/"])
def test_a_mount_below_no_fixed_path_is_refused(path: str) -> None:
    with pytest.raises(DefinitionError, match="starts with / and has no parameters"):
        App().mount(path, asgi)


@pytest.mark.parametrize("app", [None, "myapp:app", object()])
def test_a_mount_that_is_no_app_is_refused(app: Any) -> None:
    with pytest.raises(DefinitionError, match=r"/x.*callable"):
        App().mount("/x", app)


def test_two_mounts_of_one_path_are_refused() -> None:
    app = App()
    app.mount("/x", asgi)
    with pytest.raises(DefinitionError, match="mount /x: there is one already"):
        app.mount("/x/", asgi)


def test_an_effector_has_a_start_and_the_last_one_of_a_family_holds() -> None:
    app = App()
    first, last = Driver(), Driver()
    app.effector("http", first)
    app.effector("http", last)
    assert app.effectors == {"http": last}
    with pytest.raises(DefinitionError, match=r"'mail': function has no start.*AsyncEffector"):
        app.effector("mail", asgi)  # type: ignore[arg-type]


# The start


def test_check_finds_everything_and_freezes_nothing() -> None:
    app = App()
    app.get("/{x", done)
    app.get("/a", one)
    app.get("/b", done)
    app.get("/b", done)
    errors = app.check().errors
    assert len(errors) == 3
    for words in ("/{x", "GET /a", "GET /b"):
        assert any(words in error for error in errors)
    app.get("/c", done)
    assert app.check().errors == errors


def test_an_error_of_a_before_step_is_told_for_each_route_and_once_for_each() -> None:
    app = App()

    def needs_user(ctx: CtxView[User]) -> Decision:
        return Continue()

    app.use(needs_user)
    app.get("/a", done)
    app.post("/a", done)
    errors = app.check().errors
    assert [error.split(":")[0] for error in errors] == ["route GET /a", "route POST /a"]


def test_a_start_that_was_refused_freezes_nothing_and_a_good_one_freezes_all() -> None:
    app = App()
    app.get("/a", one)
    with pytest.raises(AppError, match="cannot start"):
        app.site()
    app._routes.clear()
    app.get("/a", done)
    site = app.site()
    assert app.site() is site
    with pytest.raises(DefinitionError, match="route GET /b: the app has started"):
        app.get("/b", done)


def test_an_empty_app_starts() -> None:
    app = App()
    assert app.check() == type(app.check())((), ())
    assert app.site().router.routes() == []


def test_before_takes_a_list_and_says_so_of_a_bare_step() -> None:
    app = App()
    app.get("/list", done, before=[done])
    with pytest.raises(DefinitionError, match=r"GET /bare: before= is a list of steps; write before=\[done\]"):
        app.get("/bare", done, before=done)  # type: ignore[call-overload]


def test_a_duplicate_route_is_told_by_the_lines_that_declare_it() -> None:
    app = App()
    app.get("/same", done)
    app.get("/same", done)
    (error,) = app.check().errors
    lines = re.findall(r"test_app\.py:(\d+)", error)
    assert len(set(lines)) == 2


# Path parameters that a route does not have


def item_of(ctx: CtxView) -> Decision:
    return Done.text(ctx.param("item") + ctx.param("part", str))


def if_there(ctx: CtxView) -> Decision:
    ctx.param("item") if "item" in ctx.params else ""
    return Continue()


def computed(ctx: CtxView) -> Decision:
    name = "it" + "em"
    return Done.text(ctx.param(name))


def not_its_context(ctx: CtxView) -> Decision:
    ctx = ctx
    return Done.text(ctx.param("item"))


def asks_later(ctx: CtxView) -> Decision:
    return Need([timer.sleep(0)], then=item_of)


def looks_and_asks(ctx: CtxView) -> Decision:
    return Need([timer.sleep(0)], then=item_of) if "item" in ctx.params else Continue()


def nested(ctx: CtxView) -> Decision:
    def inner(ctx: CtxView) -> str:
        return ctx.param("item")

    return Done.text("")


@pytest.mark.parametrize(
    ("path", "step", "missing", "there"),
    [
        ("/items", item_of, ["item", "part"], "none"),
        ("/items/{id}", item_of, ["item", "part"], "{id}"),
        ("/items/{item:int}/{p}", item_of, ["part"], "{item}, {p}"),
        ("/items/{item}/{part:path}", item_of, [], ""),
        ("/items", asks_later, ["item", "part"], "none"),
        ("/items", computed, [], ""),
        ("/items", not_its_context, [], ""),
        ("/items", nested, [], ""),
    ],
)
def test_a_step_that_asks_for_a_path_parameter_which_its_route_has_not_is_a_warning(
    path: str, step: Any, missing: list[str], there: str
) -> None:
    app = App()
    app.get(path, step)
    report = app.check()
    assert report.errors == ()
    line = item_of.__code__.co_firstlineno + 1
    assert list(report.warnings) == [
        f"route GET {path}: step item_of asks for path parameter {name!r} (line {line}), which the route does not have "
        f"(it has {there}): correct the name, or add {{{name}}} to the path"
        for name in missing
    ]


@pytest.mark.parametrize("step", [if_there, looks_and_asks, asks_later], ids=lambda step: step.__name__)
def test_a_step_of_all_routes_may_look_for_path_parameters_that_some_have(step: Any) -> None:
    app = App()
    app.use(step)
    app.get("/a", done)
    app.get("/a/{item}", done)
    assert app.check().warnings == ()


@pytest.mark.parametrize("step", [if_there, looks_and_asks], ids=lambda step: step.__name__)
def test_a_step_that_looks_at_what_parameters_there_are_asks_for_those_that_are_there(step: Any) -> None:
    app = App()
    app.get("/a", done, before=[step])
    app.get("/a/{item}", done, before=[step])
    assert app.check().warnings == ()
