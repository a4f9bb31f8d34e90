"""Slots: classes that are keys, and nothing else."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar, Union

import pytest
import typing_extensions

from zerver import DefinitionError, Slot
from zerver.slot import slot_type, takes_none

T = TypeVar("T")


class Row:
    """A type of this module."""


class Number(Slot[int]):
    """A number."""


class Later(Slot["Row"]): ...


class Nested(Slot["list[Row | None]"]): ...


class Mixed(Slot[dict[str, "Row"]]): ...


class Missing(Slot["Unknown"]): ...  # type: ignore[name-defined]


class NoneAtAll(Slot[None]): ...


class Perhaps(Slot[int | None]): ...


class Limited(Slot[Annotated[int, "at most 10"]]): ...


class Anything(Slot[Any]): ...


@pytest.mark.parametrize(
    ("slot", "type_"),
    [
        (Number, int),
        (Later, Row),
        (Nested, list[Row | None]),
        (Mixed, dict[str, Row]),
        (NoneAtAll, type(None)),
        (Perhaps, int | None),
        (Limited, Annotated[int, "at most 10"]),
        (Anything, Any),
    ],
)
def test_a_slot_knows_the_type_of_its_value(slot: type[Slot[Any]], type_: Any) -> None:
    assert slot_type(slot) == type_
    assert slot_type(slot) is slot_type(slot)


def test_a_type_that_its_module_does_not_have_is_refused_with_the_slot_and_the_cure() -> None:
    with pytest.raises(DefinitionError) as caught:
        slot_type(Missing)
    message = str(caught.value)
    assert message.startswith("slot Missing: its type ForwardRef('Unknown')")
    assert f"in module {__name__}" in message
    assert "import or define the type at module level, outside of 'if TYPE_CHECKING'" in message


def test_a_type_that_is_no_type_is_refused_with_the_slot() -> None:
    class Broken(Slot["[1].missing"]): ...  # type: ignore

    with pytest.raises(DefinitionError, match="slot Broken: its type"):
        slot_type(Broken)


@pytest.fixture
def modules() -> Iterator[Callable[[str, str], types.ModuleType]]:
    """Makes modules of a source, which are importable during the test."""
    made: list[str] = []

    def make(name: str, source: str) -> types.ModuleType:
        module = types.ModuleType(name)
        vars(module)["Slot"] = Slot
        sys.modules[name] = module
        made.append(name)
        exec(source, vars(module))
        return module

    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_the_same_text_means_another_type_in_another_module(modules: Callable[[str, str], types.ModuleType]) -> None:
    source = "class Row: ...\nclass Item(Slot['Row']): ...\nclass Items(Slot[list['Row']]): ..."
    first, second = modules("first", source), modules("second", source)
    for module in (first, second):
        assert slot_type(module.Item) is module.Row
        assert slot_type(module.Items) == list[module.Row]


def test_a_slot_whose_module_is_gone_is_refused_only_where_it_needs_that_module(
    modules: Callable[[str, str], types.ModuleType],
) -> None:
    module = modules("gone", "class Row: ...\nclass Plain(Slot[int]): ...\nclass Reference(Slot['Row']): ...")
    del sys.modules["gone"]
    assert slot_type(module.Plain) is int
    with pytest.raises(DefinitionError, match="slot Reference"):
        slot_type(module.Reference)


def test_a_slot_must_say_what_it_holds() -> None:
    with pytest.raises(DefinitionError, match=r"slot Bare: say what it holds, as in 'class Bare\(Slot\[int\]\)'"):

        class Bare(Slot): ...  # type: ignore[type-arg]


def test_a_slot_of_a_type_variable_does_not_say_what_it_holds() -> None:
    with pytest.raises(DefinitionError, match="slot Open"):

        class Open(Slot[T]): ...


@pytest.mark.parametrize("bases", [(Number,), (Slot[int], Row), (Row, Slot[int])], ids=["slot", "mixin", "first"])
def test_a_slot_derives_from_slot_alone(bases: tuple[Any, ...]) -> None:
    with pytest.raises(DefinitionError, match=r"slot Sub: a slot derives from Slot.* alone and is never subclassed"):
        types.new_class("Sub", bases)


def test_a_generic_slot_is_refused() -> None:
    with pytest.raises(DefinitionError, match="slot Generic_"):

        class Generic_(Slot[list[T]], Generic[T]): ...


def test_a_slot_is_never_instantiated() -> None:
    with pytest.raises(
        DefinitionError, match=r"slot Number is a key, not a container: use the class itself, without \(\)"
    ):
        Number()


def test_the_method_for_type_checkers_is_never_called() -> None:
    with pytest.raises(DefinitionError, match="slot Number: _key is for type checkers only"):
        Number._key(3)


def test_slots_are_keys_by_identity_and_keep_their_docstring() -> None:
    def make() -> type[Slot[int]]:
        class Number(Slot[int]):
            """Another one."""

        return Number

    other = make()
    assert other is not Number
    assert len({Number, other}) == 2
    assert (Number.__doc__, other.__doc__) == ("A number.", "Another one.")


def test_a_slot_that_is_gone_is_not_kept_by_the_memory_of_its_type() -> None:
    class Short(Slot[int]): ...

    slot_type(Short)
    gone = weakref.ref(Short)
    del Short
    gc.collect()
    assert gone() is None


AliasOfPerhaps = typing_extensions.TypeAliasType("AliasOfPerhaps", Optional[int])  # noqa: UP045


@pytest.mark.parametrize(
    ("type_", "takes"),
    [
        (int, False),
        (list[None], False),
        (Literal["a"], False),
        (Annotated[int, "a note"], False),
        (int | str, False),
        (int | None, True),
        (Optional[int], True),  # noqa: UP045  # the older spelling is the point
        (Union[int, Annotated[str | None, "a note"]], True),  # noqa: UP007
        (Annotated[int | None, "a note"], True),
        (AliasOfPerhaps, True),
        (list[int] | AliasOfPerhaps, True),
        (Literal["a", None], True),
        (Any, True),
        (object, True),
        (None, True),
        ("Row | None", True),
        ("Row", False),
    ],
)
def test_a_slot_takes_none_if_its_type_does(type_: Any, takes: bool) -> None:
    slot: Any = types.new_class("Made", (Slot[type_],), exec_body=lambda space: space.update(__module__=__name__))
    assert takes_none(slot) is takes
    assert takes_none(slot) is takes


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type statements came with Python 3.12")
def test_a_type_statement_is_followed(modules: Callable[[str, str], types.ModuleType]) -> None:
    module = modules("statement", "type Maybe = int | None\nclass Item(Slot[Maybe]): ...")
    assert takes_none(module.Item)


def test_a_slot_whose_type_cannot_be_told_takes_none() -> None:
    """It is asked for in the midst of a request; what decodes to the type says what is wrong."""
    assert takes_none(Missing)
