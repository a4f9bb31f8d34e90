"""The context: what a step sees, what it may write, and what it is told when it asks for more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

import pytest
from interpreter_driver import SECOND, FakeSources

from zerver import (
    AppError,
    CtxView,
    Decision,
    DefinitionError,
    Done,
    Error,
    ErrorKind,
    Request,
    SlotMissing,
    UndeclaredSlot,
    context,
)
from zerver.client_input import BadInput
from zerver.compiled_step import CompiledStep
from zerver.context import RequestState
from zerver.slot import Slot
from zerver.step import compile_step


class A(Slot[int]): ...


class B(Slot[str]): ...


class C(Slot[int | None]): ...


def reads_a_writes_b(ctx: CtxView[A, B]) -> Decision:
    return Done.empty()


def writes_b_too(ctx: CtxView[Never, B]) -> Decision:
    return Done.empty()


def nothing(ctx: CtxView) -> Decision:
    return Done.empty()


def everything(ctx: CtxView[A | B | C, A | B | C]) -> Decision:
    return Done.empty()


def state(request: Request | None = None) -> RequestState:
    return RequestState(request or Request("GET", "/"), FakeSources(), 10 * SECOND, 40 * SECOND)


def view(step: Any, over: RequestState | None = None, at: float = 10.0) -> CtxView[Any, Any]:
    compiled = step if isinstance(step, CompiledStep) else compile_step(step)
    return CtxView(state() if over is None else over, compiled, round(at * SECOND))


# --- Slots


def test_what_is_put_is_read_by_require_and_optional() -> None:
    ctx = view(everything)
    ctx.put(A, 1)
    ctx.put(C, None)
    assert (ctx.require(A), ctx.optional(A)) == (1, 1)
    assert ctx.require(C) is None, "None is a value"


def test_an_unset_slot_is_none_for_optional_and_slot_missing_for_require() -> None:
    ctx = view(everything)
    assert ctx.optional(A) is None
    with pytest.raises(SlotMissing) as caught:
        ctx.require(A)
    message = str(caught.value)
    assert message.startswith("step everything requires slot A, which nothing has set")
    assert "use ctx.optional()" in message
    assert "make an earlier step or required effect write it" in message
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, AppError)


@pytest.mark.parametrize(
    ("access", "message"),
    [
        (lambda ctx: ctx.require(B), "reads slot B without declaring it; annotate its context as CtxView[A | B, ...]"),
        (lambda ctx: ctx.optional(B), "reads slot B without declaring it; annotate its context as CtxView[A | B, ...]"),
        (lambda ctx: ctx.put(A, 1), "writes slot A without declaring it; annotate its context as CtxView[..., A | B]"),
        (lambda ctx: ctx.require("A"), "reads slot 'A' without declaring it"),
        (lambda ctx: ctx.put(int, 1), "writes slot int without declaring it"),
    ],
)
def test_an_undeclared_slot_is_refused_with_step_slot_and_what_to_add(
    access: Callable[[CtxView[Any, Any]], Any], message: str
) -> None:
    over = state()
    view(everything, over).put(B, "there")
    with pytest.raises(UndeclaredSlot) as caught:
        access(view(reads_a_writes_b, over))
    assert str(caught.value).startswith(f"step reads_a_writes_b {message}")
    assert isinstance(caught.value, AppError)


def test_a_plain_view_sees_nothing() -> None:
    for access in ("require", "optional"):
        with pytest.raises(UndeclaredSlot, match=r"CtxView\[A, \.\.\.\]"):
            getattr(view(nothing), access)(A)


def test_a_second_writer_is_refused_and_names_both() -> None:
    over = state()
    view(reads_a_writes_b, over).put(B, "first")
    with pytest.raises(AppError) as caught:
        view(writes_b_too, over).put(B, "second")
    assert str(caught.value) == (
        "step writes_b_too writes slot B, which step reads_a_writes_b has written: a slot has one writer on each path; "
        "give the second value a slot of its own"
    )
    assert over.values == {B: "first"}


def test_the_writer_may_overwrite_also_when_it_was_compiled_anew() -> None:
    over = state()
    compiled = compile_step(reads_a_writes_b)
    view(compiled, over).put(B, "first")
    view(compiled.of(compiled.fn), over).put(B, "second")
    assert over.values == {B: "second"}


@pytest.mark.skipif(context.__file__.endswith(".so"), reason="mypyc gives generic classes a __dict__")
def test_a_view_has_no_place_for_anything_else() -> None:
    ctx: Any = view(nothing)
    with pytest.raises(AttributeError):
        ctx.user = "somebody"


# --- The request


def test_the_request_is_seen_as_it_came() -> None:
    request = Request(
        "PUT", "/a b/7", b"x=1&y=2&y=3", ((b"x-kind", b"odd"), (b"idempotency-key", b"k1")), b"body", "10.0.0.1", "r9",
        {"id": 7},
    )  # fmt: skip
    ctx = view(nothing, state(request))
    assert (ctx.method, ctx.path, ctx.body, ctx.client_ip, ctx.request_id) == (
        "PUT",
        "/a b/7",
        b"body",
        "10.0.0.1",
        "r9",
    )
    assert ctx.params == {"id": 7}
    assert (ctx.param("id", int), ctx.query("x"), ctx.query("y", list[int])) == (7, "1", [2, 3])
    assert (ctx.query("z", default=None), ctx.query("z", int, 5)) == (None, 5)
    assert (ctx.header("X-Kind"), ctx.header("X-Other", default="")) == ("odd", "")
    assert ctx.idempotency_key == "k1"
    assert repr(ctx) == "<CtxView of nothing: PUT /a b/7>"


def test_query_and_form_are_parsed_once() -> None:
    request = Request("POST", "/", b"x=1", ((b"content-type", b"application/x-www-form-urlencoded"),), b"name=zoe")
    over = state(request)
    ctx = view(nothing, over)
    ctx.query("x")
    parsed, form = over.query, ctx.form
    ctx.query("x")
    assert over.query is parsed
    assert view(nothing, over).form is form
    assert form["name"] == "zoe"


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda ctx: ctx.query("limit", int), ErrorKind.UNPROCESSABLE),
        (lambda ctx: ctx.query("missing"), ErrorKind.UNPROCESSABLE),
        (lambda ctx: ctx.header("if-match"), ErrorKind.UNPROCESSABLE),
        (lambda ctx: ctx.param("id", int), ErrorKind.UNPROCESSABLE),
        (lambda ctx: ctx.json(), ErrorKind.UNSUPPORTED_MEDIA_TYPE),
        (lambda ctx: ctx.form, ErrorKind.UNSUPPORTED_MEDIA_TYPE),
    ],
)
def test_what_the_client_got_wrong_never_reaches_the_step(read: Callable[[CtxView], Any], kind: ErrorKind) -> None:
    request = Request("POST", "/", b"limit=many", ((b"content-type", b"text/plain"),), b"x", params={"id": "seven"})
    with pytest.raises(BadInput) as caught:
        read(view(nothing, state(request)))
    assert caught.value.error.kind is kind
    assert not isinstance(caught.value, Exception)


def test_a_parameter_that_the_route_does_not_have_is_the_apps_fault() -> None:
    with pytest.raises(DefinitionError, match="'nope'"):
        view(nothing).param("nope")


# --- Time, failures, cleanup


def test_elapsed_and_deadline_are_seconds_as_of_the_run_of_the_step() -> None:
    ctx = view(nothing, at=12.5)
    assert (ctx.elapsed, ctx.deadline) == (2.5, 27.5)


def test_errors_are_those_of_the_last_need_and_last_error_the_last_of_them() -> None:
    over = state()
    ctx = view(nothing, over)
    assert (ctx.errors, ctx.last_error) == ((), None)
    first, second = Error(ErrorKind.TIMEOUT), Error(ErrorKind.CONFLICT)
    over.errors = (first, second)
    assert (ctx.errors, ctx.last_error) == ((first, second), second)


def test_now_random_and_uuid_are_given_once_and_noted_in_order() -> None:
    over = state()
    one, other = view(nothing, over), view(everything, over)
    values = [one.random(), other.uuid(), one.now()]
    assert over.given == [("random", values[0]), ("uuid", values[1]), ("now", values[2])]


def test_nothing_is_noted_where_nothing_was_asked() -> None:
    over = state()
    view(nothing, over)
    assert (over.given, over.exits, over.query, over.form) == (None, None, None, None)


def test_on_exit_takes_functions_only() -> None:
    over = state()
    ctx = view(nothing, over)
    ctx.on_exit(print)
    assert over.exits == [print]
    with pytest.raises(
        DefinitionError, match="step nothing: on_exit takes a function without arguments, not 'cleanup'"
    ):
        ctx.on_exit("cleanup")  # type: ignore[arg-type]
