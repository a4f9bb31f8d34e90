"""Steps where they are defined: what their annotation declares, and what is refused, with the cure."""

from __future__ import annotations

import functools
import gc
import importlib.util
import sys
import textwrap
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Never, NoReturn, TypeAlias, Union  # noqa: F401  # in annotations as text

import pytest
import typing_extensions
from interpreter_driver import Driver, effect, ok

import zerver
from zerver import Continue, CtxView, Decision, DefinitionError, Done, Need, Slot, step
from zerver.compiled_step import CompiledStep
from zerver.step import check_source, compile_step, continuation

if TYPE_CHECKING:
    from elsewhere import Hidden  # type: ignore[import-not-found]  # noqa: F401


class A(Slot[int]): ...


class B(Slot[str]): ...


class C(Slot[list[str]]): ...


class Holder:
    class Inner(Slot[int]): ...


def slots_of(compiled: CompiledStep) -> tuple[set[str], set[str]]:
    return {slot.__name__ for slot in compiled.reads}, {slot.__name__ for slot in compiled.writes}


def declares(annotation: Any) -> tuple[set[str], set[str]]:
    """What a step whose context is annotated like this declares."""

    def annotated(ctx: Any) -> Decision:
        return Continue()

    annotated.__annotations__["ctx"] = annotation
    return slots_of(compile_step(annotated))


ReadsBoth: TypeAlias = A | B
View: TypeAlias = CtxView[A, B]
Lazy = typing_extensions.TypeAliasType("Lazy", CtxView[A, B])
LazyUnion = typing_extensions.TypeAliasType("LazyUnion", Union[A, B])  # noqa: UP007  # as a checker-only union


# --- What an annotation declares


@pytest.mark.parametrize(
    ("annotation", "reads", "writes"),
    [
        ("CtxView", "", ""),
        ("CtxView[Never, A]", "", "A"),
        ("CtxView[A]", "A", ""),
        ("CtxView[A, Never]", "A", ""),
        ("CtxView[A, NoReturn]", "A", ""),
        ("CtxView[typing_extensions.Never, A]", "", "A"),
        ("CtxView[A, B]", "A", "B"),
        ("CtxView[A | B, B | C]", "AB", "BC"),
        ("CtxView[Union[A, B], C]", "AB", "C"),
        ("CtxView[A | (B | C)]", "ABC", ""),
        ("CtxView[A | Never]", "A", ""),
        ("CtxView['A | B', 'C']", "AB", "C"),
        ("CtxView[Union['A', B]]", "AB", ""),
        ("zerver.CtxView[A, B]", "A", "B"),
        ("View", "A", "B"),
        ("CtxView[ReadsBoth]", "AB", ""),
        ("Lazy", "A", "B"),
        ("CtxView[LazyUnion]", "AB", ""),
        ("CtxView[LazyUnion | C]", "ABC", ""),
    ],
)
def test_an_annotation_declares_reads_and_writes_as_text_and_as_an_object(
    annotation: str, reads: str, writes: str
) -> None:
    assert declares(annotation) == (set(reads), set(writes))
    assert declares(eval(annotation)) == (set(reads), set(writes))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type statements came with Python 3.12")
def test_a_type_statement_is_followed_and_refused_like_any_annotation() -> None:
    space: dict[str, Any] = {"CtxView": CtxView, "A": A, "B": B}
    exec("type Reads = A | B\ntype View = CtxView[Reads, A]\ntype Broken = CtxView[Missing]", space)
    assert declares(space["View"]) == ({"A", "B"}, {"A"})
    with pytest.raises(DefinitionError, match="Missing in its annotation is not defined there"):
        declares(space["Broken"])


def test_a_slot_in_a_class_or_module_is_found() -> None:
    assert declares("CtxView[Holder.Inner]") == ({"Inner"}, set())


def test_the_decorator_returns_the_very_function_and_finds_slots_of_the_defining_frame() -> None:
    class Local(Slot[int]): ...

    def plain(ctx: CtxView[Local, Local]) -> Decision:
        return Continue()

    assert step(plain) is plain
    assert slots_of(compile_step(plain)) == ({"Local"}, {"Local"})

    @step()
    def called(ctx: CtxView[Local]) -> Decision:
        return Continue()

    assert slots_of(compile_step(called)) == ({"Local"}, set())


def test_a_closure_finds_the_slots_that_it_closes_over() -> None:
    class Local(Slot[int]): ...

    def make() -> Callable[..., Any]:
        def closure(ctx: CtxView[Local]) -> Decision:
            return Done.json(ctx.require(Local))

        return closure

    assert slots_of(continuation(make())) == ({"Local"}, set())


def test_the_same_function_is_compiled_once() -> None:
    @step
    def once(ctx: CtxView[A]) -> Decision:
        return Continue()

    compiled = compile_step(once)
    assert compile_step(once) is compiled
    assert continuation(once) is compiled


def test_a_continuation_that_is_no_closure_is_compiled_once() -> None:
    def plain(ctx: CtxView[A]) -> Decision:
        return Continue()

    assert continuation(plain) is continuation(plain)
    assert compile_step(plain) is continuation(plain)


def test_a_step_knows_its_name_and_place() -> None:
    @step
    def named(ctx: CtxView[A]) -> Decision:
        return Continue()

    compiled = compile_step(named)
    assert compiled.name == "named"
    file, line = compiled.where.rsplit(":", 1)
    assert file == __file__
    assert "@step" in Path(__file__).read_text().splitlines()[int(line) - 1]
    assert repr(compiled) == f"<step named at {compiled.where}>"


# --- What may be a step


class Handlers:
    def __init__(self, number: int) -> None:
        self.number = number

    def method(self, context: CtxView[Never, A]) -> Decision:
        context.put(A, self.number)
        return Done.json(self.number)

    @classmethod
    def of_class(cls, ctx: CtxView[A]) -> Decision:
        return Done.text(cls.__name__)

    @staticmethod
    def static(ctx: CtxView[A]) -> Decision:
        return Done.text("static")

    def __call__(self, ctx: CtxView[B]) -> Decision:
        return Done.json(-self.number)


def takes_more(greeting: str, ctx: CtxView[A], *, mark: str = "!") -> Decision:
    return Done.text(greeting + mark)


def logged(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(fn)
    def wrapper(ctx: Any) -> Any:
        return fn(ctx)

    return wrapper


@logged
@step
def wrapped(ctx: CtxView[A, B]) -> Decision:
    return Done.text("wrapped")


def with_defaults(ctx: CtxView[A], more: int = 1, *rest: int, **options: int) -> Decision:
    return Done.json(more)


@pytest.mark.parametrize(
    ("fn", "name", "reads", "writes", "body"),
    [
        (Handlers(1).method, "Handlers.method", "", "A", b"1"),
        (Handlers.of_class, "Handlers.of_class", "A", "", b"Handlers"),
        (Handlers.static, "Handlers.static", "A", "", b"static"),
        (Handlers.__dict__["static"], "Handlers.static", "A", "", b"static"),
        (Handlers(1), "Handlers", "B", "", b"-1"),
        (functools.partial(takes_more, "hello"), "takes_more", "A", "", b"hello!"),
        (functools.partial(functools.partial(takes_more, mark="?"), "hello"), "takes_more", "A", "", b"hello?"),
        (wrapped, "wrapped", "A", "B", b"wrapped"),
        (with_defaults, "with_defaults", "A", "", b"1"),
    ],
    ids=[
        "method",
        "classmethod",
        "staticmethod",
        "static object",
        "callable",
        "partial",
        "partials",
        "wraps",
        "defaults",
    ],
)
def test_whatever_takes_one_context_is_a_step(fn: Any, name: str, reads: str, writes: str, body: bytes) -> None:
    compiled = compile_step(fn)
    assert compiled.name == name
    assert slots_of(compiled) == (set(reads), set(writes))
    driver = Driver(fn)
    driver.answer()
    assert driver.body == body


def test_a_wrapper_is_a_step_of_its_own_that_runs_its_own_code() -> None:
    inner = wrapped.__wrapped__  # type: ignore[attr-defined]
    assert compile_step(inner).fn is inner
    assert compile_step(wrapped).fn is wrapped
    assert compile_step(inner) != compile_step(wrapped)


def test_a_wrapped_step_is_checked_by_its_own_source() -> None:
    def reads(ctx: CtxView[B]) -> Decision:
        return Done.json(ctx.require(A))

    with pytest.raises(DefinitionError, match="reads slot A without declaring it"):
        step(logged(reads))


def test_a_method_of_one_object_is_one_step_and_that_of_another_a_different_one() -> None:
    one, other = Handlers(1), Handlers(2)
    assert compile_step(one.method) == compile_step(one.method)
    assert hash(compile_step(one.method)) == hash(compile_step(one.method))
    assert compile_step(one.method) != compile_step(other.method)
    for handlers in (one, other, one):
        driver = Driver(handlers.method)
        driver.answer()
        assert driver.slots == {"A": handlers.number}


def test_a_declaration_is_kept_for_the_code_of_a_closure_and_never_what_it_closes_over() -> None:
    def make(number: int) -> Callable[..., Any]:
        def closure(ctx: CtxView[A]) -> Decision:
            return Done.json(number)

        return closure

    first, second = make(1), make(2)
    compiled = [continuation(first), continuation(second)]
    assert [one.fn for one in compiled] == [first, second]
    assert compiled[0].reads is compiled[1].reads
    assert compiled[0] != compiled[1]
    gone = weakref.ref(first)
    del first, compiled
    gc.collect()
    assert gone() is None


def test_closures_of_the_same_code_which_close_over_different_slots_declare_their_own() -> None:
    def make(Mine: type[Slot[int]]) -> Callable[..., Any]:
        def closure(ctx: CtxView[Mine]) -> Decision:  # type: ignore[valid-type]
            return Done.json(ctx.optional(Mine))

        return closure

    class Other(Slot[int]): ...

    assert [slots_of(continuation(make(slot)))[0] for slot in (A, Other, A)] == [{"A"}, {"Other"}, {"A"}]


def test_closures_of_the_same_code_with_different_annotations_declare_their_own() -> None:
    def make(annotation: Any) -> Callable[..., Any]:
        def closure(ctx: Any) -> Decision:
            return Done.json(str(annotation))

        closure.__annotations__["ctx"] = annotation
        return closure

    found = [slots_of(continuation(make(view))) for view in (CtxView[A], CtxView[Never, B], CtxView[A])]
    assert found == [({"A"}, set()), (set(), {"B"}), ({"A"}, set())]


# --- What is refused


def refused(fn: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        step(fn)
    return str(caught.value)


def nothing() -> Decision:
    return Continue()


def two(ctx: CtxView, more: int) -> Decision:
    return Continue()


def keyword_only(*, ctx: CtxView) -> Decision:
    return Continue()


def optional_first(more: int = 0, *, ctx: CtxView) -> Decision:
    return Continue()


def any_number(*ctx: CtxView) -> Decision:
    return Continue()


def generator(ctx: CtxView) -> Any:
    yield Continue()


async def async_generator(ctx: CtxView) -> Any:
    yield Continue()


def unannotated(ctx) -> Decision:  # type: ignore[no-untyped-def]
    return Continue()


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (nothing, ["step nothing", "exactly one argument", "found 0"]),
        (two, ["step two", "exactly one argument", "found 2"]),
        (Handlers.method, ["step Handlers.method", "exactly one argument", "found 2"]),
        (keyword_only, ["step keyword_only", "exactly one argument"]),
        (optional_first, ["step optional_first", "exactly one argument"]),
        (any_number, ["step any_number", "exactly one argument"]),
        (generator, ["step generator", "it is a generator", "await need(...)"]),
        (async_generator, ["step async_generator", "it is a generator"]),
        (unannotated, ["step unannotated", "annotate its parameter 'ctx'", "CtxView[Reads, Writes]"]),
        (lambda ctx: Continue(), ["<lambda>", "annotate its parameter 'ctx'"]),
        (int, ["<class 'int'> is not a step"]),
        (Handlers, ["Handlers'> is not a step"]),
        (Continue(), ["Continue() is not a step"]),
        (None, None),
        ("show", ["'show' is not a step"]),
        (str.join, ["step str.join", "exactly one argument"]),
        (iter, ["step iter", "its parameters cannot be seen", "wrap it in a function"]),
    ],
    ids=lambda value: None,
)
def test_what_is_no_step_is_refused_with_its_name_and_the_cure(fn: Any, words: list[str] | None) -> None:
    if words is None:
        with pytest.raises(DefinitionError, match="None is not a step"):
            compile_step(fn)
        return
    message = refused(fn)
    for word in words:
        assert word in message
    assert not words[0].startswith("step ") or __file__ in message or "unknown place" in message


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("int", ["annotated <class 'int'>", "a step's context is a CtxView[Reads, Writes]", "ctx.param('id', int)"]),
        (int, ["annotated <class 'int'>"]),
        ("CtxView | None", ["a step's context is a CtxView[Reads, Writes]"]),
        ("Annotated[CtxView, 1]", ["a step's context is a CtxView[Reads, Writes]"]),
        ("CtxView[int]", ["<class 'int'> in CtxView[...] is not a slot", "a union of slots, or Never"]),
        ("CtxView[None]", ["is not a slot"]),
        ("CtxView[A, int | B]", ["<class 'int'> in CtxView[...] is not a slot"]),
        ("CtxView[Slot]", ["Slot'> in CtxView[...] is not a slot"]),
        ("CtxView[Slot[int]]", ["Slot[int] in CtxView[...] is not a slot"]),
        ("CtxView[A, B, C]", ["cannot be evaluated"]),
        ("CtxView[A", ["'CtxView[A' cannot be evaluated"]),
        ("CtxView[Holder.Missing]", ["cannot be evaluated", "Missing"]),
        ("CtxView[1 / 0]", ["cannot be evaluated", "division by zero"]),
        ("CtxView[Unknown]", ["Unknown in its annotation is not defined there", "define or import the slot"]),
        ("CtxView['Unknown']", ["Unknown in its annotation is not defined there"]),
        ("CtxView[Hidden]", ["Hidden is imported only under 'if TYPE_CHECKING'", "move the import out of that block"]),
        ("CtxView[A, 'Hidden']", ["Hidden is imported only under 'if TYPE_CHECKING'"]),
    ],
)
def test_an_annotation_that_declares_no_slots_is_refused_with_the_step_and_the_cure(
    annotation: Any, words: list[str]
) -> None:
    def annotated(ctx: Any) -> Decision:
        return Continue()

    annotated.__annotations__["ctx"] = annotation
    message = refused(annotated)
    assert message.startswith(f"step annotated ({__file__}:")
    for word in words:
        assert word in message


def test_an_undeclared_read_is_refused_where_it_is_defined_with_step_line_slot_and_what_to_add() -> None:
    with pytest.raises(DefinitionError) as caught:

        @step
        def load(ctx: CtxView[B, C]) -> Decision:
            return Done.json([ctx.require(B), ctx.require(A)])

    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "ctx.require(B), ctx" in text)
    message = str(caught.value)
    assert message.startswith(f"step load ({__file__}:")
    assert f"line {line} reads slot A without declaring it; annotate ctx as CtxView[A | B, ...]" in message


def test_an_undeclared_optional_is_a_read_too() -> None:
    def load(request: CtxView) -> Decision:
        return Done.json(request.optional(A))

    assert "reads slot A without declaring it; annotate request as CtxView[A, ...]" in refused(load)


def test_an_undeclared_put_is_refused() -> None:
    def save(ctx: CtxView[A, B]) -> Decision:
        ctx.put(A, 1)
        return Continue()

    assert "step save" in refused(save)
    assert "writes slot A without declaring it; annotate ctx as CtxView[..., A | B]" in refused(save)


def test_an_undeclared_into_is_refused() -> None:
    def load(ctx: CtxView[A, B]) -> Decision:
        return Need([zerver.sql.query_one("select 1", into=A)])

    assert "writes slot A without declaring it; annotate ctx as CtxView[..., A | B]" in refused(load)


def test_a_step_that_was_refused_is_refused_again() -> None:
    def save(ctx: CtxView) -> Decision:
        ctx.put(A, 1)
        return Continue()

    assert refused(save) == refused(save)


@pytest.mark.parametrize("then", [[nothing], nothing, "show", (1,)])
def test_then_of_the_decorator_is_a_tuple_of_functions(then: Any) -> None:
    with pytest.raises(DefinitionError, match="give a tuple of step functions"):
        step(then=then)


def test_continuations_may_be_declared_before_or_after_the_step_is_compiled() -> None:
    def show(ctx: CtxView[A]) -> Decision:
        return Continue()

    @step(then=(show,))
    def first(ctx: CtxView) -> Decision:
        return Continue()

    def second(ctx: CtxView) -> Decision:
        return Continue()

    compile_step(second)
    step(then=(show,))(second)
    assert compile_step(first).then == compile_step(second).then == (show,)


def test_a_continuation_is_not_read_but_what_it_touches_is_refused_as_it_runs() -> None:
    def ask(ctx: CtxView) -> Decision:
        return Need([effect()], then=greedy)

    def greedy(ctx: CtxView) -> Decision:
        return Done.json(ctx.optional(A))

    driver = Driver(ask)
    driver.answer(ok())
    assert driver.status == 500
    assert "greedy reads slot A without declaring it" in str(driver.bugs[0].exception)


# --- Whole modules, with and without `from __future__ import annotations`


def module_of(tmp_path: Path, source: str, *, future: bool, **names: Any) -> ModuleType:
    file = tmp_path / f"app_{future}.py"
    text = textwrap.dedent(source)
    file.write_text(f"from __future__ import annotations\n{text}" if future else text)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[file.stem]
    return module


HEAD = """
from typing import TYPE_CHECKING, Never
from zerver import Continue, CtxView, Decision, Done, Need, Slot, sql, step
class A(Slot[int]): ...
class B(Slot[str]): ...
"""


@pytest.mark.parametrize("future", [False, True])
def test_modules_with_and_without_future_annotations_declare_the_same(tmp_path: Path, future: bool) -> None:
    source = """
    @step
    def load(ctx: CtxView[Never, A | B]) -> Decision:
        return Need([sql.query_one("select 1", into=A)], then=show)

    def show(ctx: CtxView[A, "Late"]) -> Decision:
        return Done.json(ctx.require(A))

    class Late(Slot[int]): ...

    def make():
        class Local(Slot[int]): ...
        @step
        def local(ctx: CtxView[Local | A]) -> Decision:
            return Done.json(ctx.optional(Local))
        return local
    """
    module = module_of(tmp_path, HEAD + textwrap.dedent(source), future=future)
    assert slots_of(compile_step(module.load)) == (set(), {"A", "B"})
    assert slots_of(compile_step(module.show)) == ({"A"}, {"Late"})
    assert slots_of(compile_step(module.make())) == ({"A", "Local"}, set())


@pytest.mark.parametrize("what", ["Hidden", "CtxView"])
def test_an_import_for_checkers_only_is_told_apart_from_a_missing_one(tmp_path: Path, what: str) -> None:
    source = f"""
    del {"CtxView" if what == "CtxView" else "B"}
    if TYPE_CHECKING:
        from elsewhere import Hidden
        from zerver import CtxView
    @step
    def load(ctx: CtxView[{"A" if what == "CtxView" else what}]) -> Decision:
        return Continue()
    """
    with pytest.raises(DefinitionError, match=rf"step load \(.*\): {what} is imported only under 'if TYPE_CHECKING'"):
        module_of(tmp_path, HEAD + textwrap.dedent(source), future=True)


@pytest.mark.parametrize("future", [False, True])
def test_undeclared_slots_are_refused_when_the_module_is_imported(tmp_path: Path, future: bool) -> None:
    source = """
    @step
    def load(ctx: CtxView[A]) -> Decision:
        ctx.put(B, "x")
        return Continue()
    """
    with pytest.raises(DefinitionError, match=r"step load .* writes slot B without declaring it"):
        module_of(tmp_path, HEAD + textwrap.dedent(source), future=future)


def test_steps_without_source_are_compiled_and_not_read() -> None:
    space: dict[str, Any] = {}
    exec(HEAD + "def load(ctx: CtxView[A]) -> Decision:\n    ctx.put(B, 'x')\n    return Continue()\n", space)
    compiled = compile_step(space["load"])
    assert slots_of(compiled) == ({"A"}, set())
    assert check_source(compiled) is None
