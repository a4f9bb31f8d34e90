"""Behaviours and refs: what is called on a ref is checked like any call, and is never run in place."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from actor_kit import Stage

from zerver_runtime.actor import Actor
from zerver_runtime.behaviour import Behaviour, behaviour
from zerver_runtime.message import NotPlainData
from zerver_runtime.ref import class_path, id_of


class Recorder(Actor):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    @behaviour
    def plain(self, a: Any, b: Any = 2) -> Any:
        """Take two."""
        self.calls.append((a, b))
        return (a, b)

    @behaviour
    def only_positional(self, a: Any, /, b: Any = 5) -> Any:
        return (a, b)

    @behaviour
    def everything(self, a: Any, *rest: Any, key: Any, other: Any = 7, **more: Any) -> Any:
        return (a, rest, key, other, more)

    @behaviour
    def keywords(self, *, key: Any = 1) -> Any:
        return key

    @behaviour
    def named_self(self, /, **more: Any) -> Any:
        return more

    @behaviour
    def through_self(self) -> None:
        self.plain("sent")
        self.calls.append("after the send")

    @behaviour
    def seen(self) -> list[Any]:
        return self.calls


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "result"),
    [
        ("plain", (1,), {}, (1, 2)),
        ("plain", (1, 3), {}, (1, 3)),
        ("plain", (1,), {"b": 3}, (1, 3)),
        ("plain", (), {"b": 3, "a": 1}, (1, 3)),
        ("only_positional", (1,), {}, (1, 5)),
        ("only_positional", (1,), {"b": 6}, (1, 6)),
        ("everything", (1, 2, 3), {"key": 4}, (1, (2, 3), 4, 7, {})),
        ("everything", (1,), {"key": 4, "other": 5, "x": 6}, (1, (), 4, 5, {"x": 6})),
        ("keywords", (), {}, 1),
        ("keywords", (), {"key": 2}, 2),
        ("named_self", (), {"self": 1, "ref": 2}, {"self": 1, "ref": 2}),
    ],
)
def test_arguments_arrive_as_the_method_declares_them(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> None:
    stage = Stage()
    assert stage.ask(getattr(stage.spawn(Recorder), name)(*args, **kwargs)) == result


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [("plain", (), {}), ("plain", (1, 2, 3), {}), ("plain", (1,), {"c": 1}), ("only_positional", (), {"a": 1}),
     ("everything", (1,), {}), ("keywords", (1,), {}), ("stop", (1, 2), {})],
)  # fmt: skip
def test_wrong_arguments_fail_at_the_call_with_the_behaviours_name(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    stage = Stage()
    ref = stage.spawn(Recorder)
    with pytest.raises(TypeError, match=rf"(Recorder|Actor)\.{name}\(\)"):
        getattr(ref, name)(*args, **kwargs)
    assert stage.settle() is None
    assert stage.scheduler.handled == 0


def test_a_behaviour_is_never_run_in_place_also_not_through_self() -> None:
    stage = Stage()
    ref = stage.spawn(Recorder)
    ref.through_self()
    assert stage.ask(ref.seen()) == ["after the send", ("sent", 2)]


def test_on_the_class_it_is_the_behaviour_and_keeps_its_docstring() -> None:
    assert isinstance(Recorder.plain, Behaviour)
    assert (Recorder.plain.name, repr(Recorder.plain)) == ("plain", "<behaviour Recorder.plain>")
    assert Recorder.plain.__doc__ == "Take two."
    assert Recorder.plain.fn(Recorder(), 1) == (1, 2)


def test_a_subclass_overrides_it_with_a_behaviour_or_takes_it_away() -> None:
    class Doubler(Recorder):
        @behaviour
        def plain(self, a: Any, b: Any = 2) -> Any:
            return Recorder.plain.fn(self, a * 2, b)

    class Mute(Recorder):
        plain = None  # type: ignore[assignment]  # pyright: ignore

    stage = Stage()
    assert stage.ask(stage.spawn(Doubler).plain(2)) == (4, 2)
    with pytest.raises(AttributeError, match="not a behaviour"):
        stage.spawn(Mute).plain(1)


def test_a_ref_has_behaviours_and_nothing_else() -> None:
    ref = Stage().spawn(Recorder)
    with pytest.raises(AttributeError, match=r"calls is not a behaviour|has no behaviour 'calls'"):
        ref.calls  # noqa: B018
    with pytest.raises(AttributeError, match="make it a @behaviour"):
        ref.started  # noqa: B018
    with pytest.raises(AttributeError, match="it has stop, on_down, plain"):
        ref.unheard_of()
    with pytest.raises(AttributeError, match="cannot be set from outside"):
        ref.calls = []


def test_refs_of_one_actor_are_equal_and_are_not_pickled() -> None:
    stage = Stage()
    ref = stage.spawn(Recorder)
    same = stage.scheduler.ref(Recorder, id_of(ref))
    assert ref == same
    assert hash(ref) == hash(same)
    assert ref != stage.spawn(Recorder)
    assert repr(ref) == "<Recorder 0.0.1.1>"
    assert class_path(Recorder) == f"{__name__}:Recorder"
    with pytest.raises(TypeError, match="send it in a message"):
        pickle.dumps(ref)
    with pytest.raises(TypeError, match=r"inside of an actor that is self\.ref"):
        id_of(Recorder())


def test_what_cannot_be_a_behaviour_is_refused_when_defined() -> None:
    with pytest.raises(TypeError, match="plain or async method"):
        behaviour(3)  # type: ignore[call-overload]  # pyright: ignore
    with pytest.raises(TypeError, match="return a list"):

        @behaviour
        def stream(self: Recorder) -> Any:
            yield 1


def test_arguments_are_checked_when_the_scheduler_says_so() -> None:
    stage = Stage()
    with pytest.raises(NotPlainData, match=r"Recorder\.plain\(\): a\['key'\]\[0\] is a builtins\.object"):
        stage.spawn(Recorder).plain({"key": [object()]})
    free = Stage(check_arguments=False)
    value = object()
    assert free.ask(free.spawn(Recorder).plain(value)) == (value, 2)


def test_an_actor_made_without_spawn_can_be_tested_but_not_sent_to() -> None:
    recorder = Recorder()
    with pytest.raises(RuntimeError, match=r"make it with spawn\(Recorder"):
        recorder.plain(1)
