"""Actors of an app without a Node, on both engines."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Never

import pytest
from counter_actor import Counter, Full
from service_kit import Recorder, Rig, running

from zerver import App, AppError, CtxView, Decision, DefinitionError, Done, EffectFailed, ErrorKind, Need, Slot, actor
from zerver.config import load

ENGINES = pytest.mark.parametrize("enabled", [True, False], ids=["reactor", "blocking"])


class Total(Slot[int]): ...


def count(ctx: CtxView[Never, Total]) -> Decision:
    return Need([actor.ask("counter", Counter.add, 1, into=Total)], then=show)


def show(ctx: CtxView[Total]) -> Decision:
    return Done.json(ctx.require(Total))


def counting(start: Any = 3) -> App:
    app = App()
    app.actor("counter", Counter, start)
    app.get("/count", count)
    return app


async def kind_of(performing: Coroutine[Any, Any, Any]) -> ErrorKind:
    with pytest.raises(EffectFailed) as caught:
        await performing
    assert "secret" not in str(caught.value)
    return caught.value.error.kind


@ENGINES
async def test_steps_ask_and_tell_an_actor_that_keeps_its_state(enabled: bool) -> None:
    async with running(counting(), reactor={"enabled": enabled}) as rig:
        assert await rig.get("/count").json() == 4
        await rig.service.perform(actor.tell("counter", Counter.add, 2, kwargs={"times": 3}))
        assert await rig.get("/count").json() == 11


@ENGINES
async def test_what_goes_wrong_with_an_actor_is_a_failure_of_its_kind(
    enabled: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = counting()
    app.actor("full", Full)
    async with running(app, reactor={"enabled": enabled}) as rig:
        perform = rig.service.perform
        assert await kind_of(perform(actor.ask("nobody", Counter.add, 1))) is ErrorKind.UPSTREAM_UNAVAILABLE
        assert await kind_of(perform(actor.tell("nobody", Counter.add, 1))) is ErrorKind.UPSTREAM_UNAVAILABLE
        assert await kind_of(perform(actor.ask("counter", Counter.nap, 0.3, timeout=0.01))) is ErrorKind.TIMEOUT
        kinds = [await kind_of(perform(actor.ask("full", Full.wait, timeout=0.05))) for _ in range(3)]
        assert kinds == [ErrorKind.TIMEOUT, ErrorKind.TIMEOUT, ErrorKind.OVERLOADED]  # it runs, it waits, it is refused
        assert await kind_of(perform(actor.ask("full", Counter.add, 1))) is ErrorKind.INTERNAL
        monkeypatch.setattr(Full, "over", True)  # a stop waits for it


@ENGINES
async def test_an_exception_of_a_behaviour_is_for_the_log_and_its_actor_begins_anew(
    enabled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(counting(), reactor={"enabled": enabled}) as rig:
        assert await rig.get("/count").json() == 4
        failed = kind_of(rig.service.perform(actor.ask("counter", Counter.fail)))
        assert await failed is ErrorKind.INTERNAL
        assert "ValueError: secret" in caplog.text
        while await (again := rig.get("/count")).status() == 502:
            pass  # until its supervisor has made it anew
        assert await again.json() == 4


async def test_an_actor_that_cannot_be_made_keeps_the_app_from_starting() -> None:
    app = App()
    app.actor("broken", Broken)
    rig = Rig(app, load({}, {}, {}), Recorder())
    try:
        with pytest.raises(AppError, match="actor 'broken' could not start: ValueError: no"):
            await rig.service.ready()
    finally:
        await rig.service.close()


class Broken(Counter):
    def __init__(self) -> None:
        raise ValueError("no")


def test_a_declaration_that_cannot_work_is_refused_and_says_what_to_do() -> None:
    class Local(Counter): ...

    app = counting()
    no: Any = dict
    unplain: Any = print
    for name, kind, args, message in (
        ("counter", Counter, (1,), "actor 'counter': there is one already; give it another name"),
        ("zerver.cache", Counter, (1,), "such names are Zerver's own"),
        ("", Counter, (1,), "give a text of 1 to 255"),
        ("a", no, (), "is no actor class; derive one from zerver_runtime.Actor"),
        ("a", Local, (1,), "move it to the top level of a module"),
        ("a", Counter, (), "cannot be made with these arguments: missing a required argument: 'start'"),
        ("a", Counter, (unplain,), "cannot be made with these arguments"),
    ):
        with pytest.raises(DefinitionError) as caught:
            app.actor(name, kind, *args)
        assert message in str(caught.value)


def test_a_message_that_cannot_be_understood_is_refused_where_it_is_built() -> None:
    wrong: Any = Counter.add.fn
    for build, message in (
        (lambda: actor.ask("counter", wrong, 1), "is not a behaviour; give a method of the actor's class"),
        (lambda: actor.ask("counter", Counter.add), "missing 1 required positional argument: 'amount'"),
        (lambda: actor.tell("counter", Counter.add, 1, kwargs={"tims": 2}), "unexpected keyword argument 'tims'"),
        (lambda: actor.ask("\n", Counter.add, 1), "is no name for an actor"),
    ):
        with pytest.raises(DefinitionError) as caught:
            build()
        assert message in str(caught.value)
