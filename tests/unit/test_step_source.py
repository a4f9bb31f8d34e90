"""What the source of a step shows: only what is certain, and everything else is unknown."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest
from interpreter_driver import effect

import zerver
from zerver import Continue, CtxView, Decision, Done, ErrorKind, Fail, Need, Slot, call, sql
from zerver.step_source import SlotUse, SourceFacts, examine, function_of, imported_for_checkers, names_of


class A(Slot[int]): ...


class B(Slot[int]): ...


class C(Slot[int]): ...


class Space:
    A = A
    number = 3


space = types.ModuleType("space")
space.__dict__["A"] = A


def _lazy(name: str) -> Any:
    raise OSError(f"{name} cannot be made")


lazy = types.ModuleType("lazy")
lazy.__dict__["__getattr__"] = _lazy

anything: Any = None


def facts(fn: Callable[..., Any], context: str = "ctx") -> SourceFacts:
    function = function_of(fn)
    assert function is not None
    found = examine(function, context)
    assert found is not None
    return found


def uses(fn: Callable[..., Any], context: str = "ctx") -> list[tuple[str, str]]:
    return [(use.verb, use.slot.__name__) for use in facts(fn, context).uses]


# --- Slots


def test_require_and_optional_read_and_put_writes_with_the_line() -> None:
    def step(ctx: CtxView[A | B, C]) -> Decision:
        ctx.require(A)
        if ctx.optional(B):
            ctx.put(C, 1)
        return Continue()

    first = step.__code__.co_firstlineno
    assert facts(step).uses == (
        SlotUse("reads", A, first + 1),
        SlotUse("reads", B, first + 2),
        SlotUse("writes", C, first + 3),
    )


def test_into_writes_wherever_the_effect_stands() -> None:
    def step(ctx: CtxView[Never, A | B | C]) -> Decision:
        first = sql.query_one("select 1", into=A)
        rest = [sql.query_one("select 1", into=B) for _ in range(2)]
        return Need([first, *rest, call.run(print, into=C)])

    assert uses(step) == [("writes", "A"), ("writes", "B"), ("writes", "C")]


def test_async_steps_show_the_same() -> None:
    async def step(ctx: CtxView[A, B]) -> Decision:
        await zerver.need(sql.query_one("select 1", {"a": ctx.require(A)}, into=B))
        return Continue()

    assert sorted(uses(step)) == [("reads", "A"), ("writes", "B")]


def test_the_context_may_have_any_name() -> None:
    def step(request: CtxView[A]) -> Decision:
        return Done.json(request.require(A))

    assert uses(step, "request") == [("reads", "A")]
    assert uses(step, "ctx") == []


def test_names_in_modules_and_classes_are_seen() -> None:
    def step(ctx: CtxView[A]) -> Decision:
        return Done.json([ctx.require(space.A), ctx.require(Space.A)])  # type: ignore[attr-defined]

    assert uses(step) == [("reads", "A"), ("reads", "A")]


def test_slots_of_the_closure_are_seen() -> None:
    class Local(Slot[int]): ...

    def step(ctx: CtxView[Local]) -> Decision:
        return Done.json(ctx.require(Local))

    assert uses(step) == [("reads", "Local")]


def test_what_a_name_stands_for_must_be_certain() -> None:
    slots: Any = [A, B]

    def step(ctx: CtxView[A | B, A | B]) -> Decision:
        local = A
        ctx.require(local)
        ctx.require(slots[0])
        ctx.require(anything)
        ctx.require(Space.number)  # type: ignore[arg-type]
        ctx.require(lazy.A)
        ctx.require(unknown.A)  # type: ignore[name-defined]  # noqa: F821
        ctx.put(*slots)
        ctx.put(**anything)
        for A_ in slots:
            ctx.require(A_)
        sql.query("select 1", into=slots[1])
        anything.require(A)
        return Continue()

    assert uses(step) == []


def test_a_name_that_the_function_binds_hides_the_global_one_also_inside_of_comprehensions() -> None:
    def rebinds(ctx: CtxView[A]) -> Decision:
        B = A
        return Done.json(ctx.require(B))

    def comprehends(ctx: CtxView[A]) -> Decision:
        return Done.json([ctx.require(B) for B in (A,)])

    assert uses(rebinds) == uses(comprehends) == []


def test_a_context_that_is_bound_anew_shows_nothing() -> None:
    def step(ctx: CtxView[A]) -> Decision:
        ctx = anything
        return Done.json(ctx.require(B))

    assert uses(step) == []


def test_functions_inside_declare_for_themselves() -> None:
    def step(ctx: CtxView[Never, A]) -> Decision:
        def show(ctx: CtxView[A | B]) -> Decision:
            return Need([effect(), sql.query("select 1", into=C)] if ctx.require(B) else [], then=show)

        ctx.on_exit(lambda: anything.require(B))
        return Need([sql.query_one("select 1", into=A)], then=show)

    assert uses(step) == [("writes", "A")]


# --- Continuations and ends


def show(ctx: CtxView) -> Decision:
    return Done.empty()


def other(ctx: CtxView) -> Decision:
    return Done.empty()


def helper(ctx: CtxView) -> Decision:
    return Done.empty()


def only_needs(ctx: CtxView) -> Decision:
    return Need([], then=show)


def both_ways(ctx: CtxView) -> Decision:
    return Need([], then=show) if ctx.method == "GET" else Need([], then=other)


def twice(ctx: CtxView) -> Decision:
    if ctx.method == "GET":
        return Need([], then=show)
    return Need([], then=show)


def through_modules(ctx: CtxView) -> Decision:
    return zerver.Need([], then=show)


def goes_on(ctx: CtxView) -> Decision:
    return Continue()


def goes_on_after(ctx: CtxView) -> Decision:
    return Need([])


def goes_on_after_none(ctx: CtxView) -> Decision:
    return Need([], then=None)


def ends(ctx: CtxView) -> Decision:
    if ctx.method == "GET":
        return Done.json({})
    if ctx.method == "PUT":
        return Done(zerver.Response())
    return Fail(ErrorKind.NOT_FOUND)


def walrus(ctx: CtxView) -> Decision:
    return (answer := Need([], then=show))  # noqa: F841


def calls_a_helper(ctx: CtxView) -> Decision:
    return helper(ctx)


def returns_a_name(ctx: CtxView) -> Decision:
    answer = Continue()
    return answer


def local_continuation(ctx: CtxView) -> Decision:
    def inner(ctx: CtxView) -> Decision:
        return Continue()

    return Need([], then=inner)


def chosen_continuation(ctx: CtxView) -> Decision:
    return Need([], then=show if ctx.method == "GET" else other)


def attribute_continuation(ctx: CtxView) -> Decision:
    return Need([], then=Space.number)  # type: ignore[arg-type]


def no_continuation(ctx: CtxView) -> Decision:
    return Need([], then=anything)


def positional(ctx: CtxView) -> Decision:
    return Need([], "parallel", "all", show)


def options_in_order(ctx: CtxView) -> Decision:
    return Need([], "sequential", "all", then=show)


def unpacked_effects(ctx: CtxView) -> Decision:
    return Need(*anything)


def unpacked(ctx: CtxView) -> Decision:
    return Need([], **anything)


def falls_through(ctx: CtxView) -> Any:
    if ctx.method == "GET":
        return
    return Continue()


def shadows(ctx: CtxView) -> Decision:
    Continue = anything
    return Continue()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("fn", "then", "complete", "continues"),
    [
        (only_needs, [show], True, False),
        (both_ways, [show, other], True, False),
        (twice, [show], True, False),
        (through_modules, [show], True, False),
        (goes_on, [], True, True),
        (goes_on_after, [], True, True),
        (goes_on_after_none, [], True, True),
        (ends, [], True, False),
        (walrus, [show], True, False),
        (options_in_order, [show], True, False),
        (unpacked_effects, [], False, False),
        (calls_a_helper, [], False, False),
        (returns_a_name, [], False, False),
        (local_continuation, [], False, False),
        (chosen_continuation, [], False, False),
        (attribute_continuation, [], False, False),
        (no_continuation, [], False, False),
        (positional, [], False, False),
        (unpacked, [], False, False),
        (falls_through, [], False, True),
        (shadows, [], False, False),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_continuations_and_ends_are_known_only_where_they_are_certain(
    fn: Callable[..., Any], then: list[Any], complete: bool, continues: bool
) -> None:
    found = facts(fn)
    assert list(found.then) == then
    assert found.complete is complete
    assert (found.continues is not None) is continues


def test_the_line_that_goes_on_is_told() -> None:
    assert facts(goes_on).continues == goes_on.__code__.co_firstlineno + 1


def test_what_functions_inside_return_is_not_what_the_step_returns() -> None:
    def step(ctx: CtxView) -> Decision:
        def inner() -> Any:
            return anything

        class Inner:
            def method(self) -> Any:
                return anything

        inner(), Inner
        return Done.empty()

    assert facts(step).complete


# --- Finding the source


def test_two_functions_of_one_name_are_told_apart_also_under_decorators() -> None:
    def make() -> list[Any]:
        def step(ctx: CtxView[A]) -> Decision:
            return Done.json(ctx.require(A))

        first = step

        @zerver.step
        @zerver.step(then=(show,))
        def step(ctx: CtxView[B]) -> Decision:  # type: ignore[no-redef]
            return Done.json(ctx.require(B))

        return [first, step]

    assert [uses(fn) for fn in make()] == [[("reads", "A")], [("reads", "B")]]


def test_without_source_nothing_is_known() -> None:
    space: dict[str, Any] = {}
    exec("def step(ctx): return ctx.require(A)", space)
    assert examine(space["step"], "ctx") is None
    assert examine((lambda ctx: ctx), "ctx") is None


def test_a_file_that_is_no_python_any_more_is_no_source(tmp_path: Path) -> None:
    file = tmp_path / "changed.py"
    file.write_text("def step(ctx: :\n")
    space: dict[str, Any] = {}
    exec(compile("def step(ctx): return 1", str(file), "exec"), space)
    assert examine(space["step"], "ctx") is None


class Callable_:
    def __call__(self, ctx: CtxView) -> Decision:
        return Continue()

    def method(self, ctx: CtxView) -> Decision:
        return Continue()


@pytest.mark.parametrize(
    ("fn", "behind"),
    [
        (show, show),
        (Callable_().method, Callable_.method),
        (Callable_(), Callable_.__call__),
        (functools.partial(show), show),
        (functools.wraps(show)(lambda ctx: None), show),
        (functools.partial(functools.wraps(show)(functools.partial(show))), show),
        (staticmethod(show), show),
        (print, None),
        (functools.partial(print), None),
    ],
    ids=["function", "method", "callable", "partial", "wraps", "nested", "staticmethod", "builtin", "partial builtin"],
)
def test_the_function_behind_a_callable_is_found(fn: Any, behind: Any) -> None:
    assert function_of(fn) is behind


def test_a_wrapper_that_wraps_itself_does_not_hang() -> None:
    def circle(ctx: CtxView) -> Decision:
        return Continue()

    circle.__wrapped__ = circle  # type: ignore[attr-defined]
    assert function_of(circle) is circle


def test_names_of_a_closure_are_those_bound_by_now() -> None:
    def outer() -> Any:
        def inner() -> Any:
            return bound, later

        bound = 1
        assert names_of(inner) == {"bound": 1}
        later = 2
        return inner

    assert names_of(outer()) == {"bound": 1, "later": 2}
    assert names_of(show) == {}


def test_imports_for_checkers_are_found_with_their_local_names(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(
        "import typing\n"
        "from typing import TYPE_CHECKING\n"
        "import outside\n"
        "if TYPE_CHECKING:\n"
        "    import one.two\n"
        "    from three import four, five as six\n"
        "if typing.TYPE_CHECKING:\n"
        "    import seven as eight\n"
    )
    assert imported_for_checkers(str(file)) == {"one", "four", "six", "eight"}
    assert imported_for_checkers(str(tmp_path / "missing.py")) == frozenset()
