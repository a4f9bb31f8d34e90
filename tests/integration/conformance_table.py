"""The table of the conformance suite: a row for each sentence of the contracts on Needs, joins and errors that an app
can see. Section 3 in full; of sections 2, 4 and 5 what engines could do differently."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Never

import msgspec
from engine_conformance import Ask, Place, Played, Row, problem, shows
from scripted import A, B, C, done, needing, own, show

from zerver import (
    Compensation,
    Continue,
    CtxView,
    Decision,
    Done,
    Effect,
    Error,
    ErrorKind,
    Fail,
    Need,
    Request,
    Response,
    Retry,
    Slot,
    need,
    step,
    timer,
)
from zerver_runtime.outcome import Outcome, Success

__all__ = ["TABLE"]

TABLE: list[Row] = []

CONFLICT, DOWN, MISSING = ErrorKind.CONFLICT, ErrorKind.UPSTREAM_UNAVAILABLE, ErrorKind.NOT_FOUND
TEXT_DONE = (200, "done")
PARALLEL = ("reactor", "pool")
"""Engines on which effects can settle in another order than that of their declaration."""
ONE_WORKER = {"reactor": {"continuation_pool": {"size": 1, "queue": 0}}}


def row(name: str, *steps: Any, deadline: float | None = None, **fields: Any) -> None:
    """A row that answers ``GET /x`` with these steps."""
    TABLE.append(Row(name=name, declare=lambda place: place.get(*steps, deadline=deadline), **fields))


def declared(name: str, **fields: Any) -> Callable[[Callable[[Place], None]], None]:
    """A row that the function declares."""

    def add(declare: Callable[[Place], None]) -> None:
        TABLE.append(Row(name=name, declare=declare, **fields))

    return add


# all

row(
    "all resumes when every effect has settled and no required one failed",
    needing(own("a", 1, into=A), own("b", kind=CONFLICT, into=B, required=False), own("c", 3, into=C), then=show),
    order=("a", "b", "c"),
    expects=(shows(1, None, 3, errors=["b"]),),
    slots={"A": 1, "C": 3},
    log="+a +b +c",
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all parallel [own.do into A, own.do into B?, own.do into C]
        JoinSatisfied 1 resumed
        ContinuationStart 1 show
        StepStart 1 show
        StepEnd 1 show Done
        Done 1 show
        RequestEnd 1
        effect 1.0 own.do into A: scheduled, start, gave 1
        effect 1.1 own.do into B: scheduled, start, failed: CONFLICT b
        effect 1.2 own.do into C: scheduled, start, gave 3
    """,
    sockets=True,
)
row(
    "all fails with the first required effect that fails, and the rest is cancelled",
    needing(own("a", 1, into=A), own("b", kind=CONFLICT, into=B), own("c", 3, into=C, held=True), then=show),
    order=("a", "b"),
    expects=(problem(CONFLICT, "b"),),
    slots={},
    log={"blocking": "+a +b", "reactor": "+a +b +c -c"},
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all parallel [own.do into A, own.do into B, own.do into C]
        JoinSatisfied 1 failed
        EffectCancelled 1.2 own.do into C
        Fail 1 CONFLICT b
        RequestEnd 1
        effect 1.0 own.do into A: scheduled, start, gave 1
        effect 1.1 own.do into B: scheduled, start, failed: CONFLICT b
    """,
)
row(
    "all fails with the error of the one that failed first",
    needing(own("a", kind=CONFLICT), own("b", kind=MISSING), then=show),
    order=("a", "b"),
    expects=(problem(CONFLICT, "a"),),
    sockets=True,
)
row(
    "all fails with the error of the one that failed first, which need not be the first",
    needing(own("a", kind=CONFLICT), own("b", kind=MISSING), then=show),
    order=("b", "a"),
    expects=(problem(MISSING, "b"),),
    log="+a +b -a",
    engines=PARALLEL,
)
row(
    "all waits for the optional ones, too",
    needing(own("a", 1, into=A, required=False), own("b", 2, into=B, required=False), then=show),
    order=("a", "b"),
    expects=(shows(1, 2),),
    sockets=True,
)

# all_required

row(
    "all_required resumes when every required effect has succeeded, and cancels optional ones in flight",
    needing(own("a", 1, into=A), own("b", 2, into=B, required=False, held=True), join="all_required", then=show),
    order=("a",),
    expects=(shows(1),),
    slots={"A": 1},
    log={"blocking": "+a", "reactor": "+a +b -b"},
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all_required parallel [own.do into A, own.do into B?]
        JoinSatisfied 1 resumed
        EffectCancelled 1.1 own.do into B
        ContinuationStart 1 show
        StepStart 1 show
        StepEnd 1 show Done
        Done 1 show
        RequestEnd 1
        effect 1.0 own.do into A: scheduled, start, gave 1
    """,
)
row(
    "all_required keeps what an optional effect gave in time",
    needing(own("a", 1, into=A, required=False), own("b", 2, into=B), join="all_required", then=show),
    order=("a", "b"),
    expects=(shows(1, 2),),
    slots={"A": 1, "B": 2},
    sockets=True,
)
row(
    "all_required fails when a required effect fails",
    needing(own("a", 1, into=A), own("b", kind=CONFLICT), own("c", required=False, held=True), join="all_required"),
    order=("a", "b"),
    expects=(problem(CONFLICT, "b"),),
    slots={},
    log={"blocking": "+a +b", "reactor": "+a +b +c -c"},
)


@declared(
    "all_required with optional effects alone is an error, as nothing would run",
    expects=(problem(ErrorKind.INTERNAL, "step ask failed"),),
    log="",
    sockets=True,
)
def _nothing_would_run(place: Place) -> None:
    def ask(ctx: CtxView) -> Decision:
        return Need([own("a", required=False)], join="all_required", then=done)

    place.get(ask)


for _name, _options in {
    "whose join there is not": {"join": "most"},
    "whose mode there is not": {"mode": "at random"},
    "that detaches under another join than all_required": {"join": "any", "detach": True},
}.items():

    @declared(
        f"a Need {_name} is an error of its step",
        expects=(problem(ErrorKind.INTERNAL, "step ask failed"),),
        log="",
        sockets=True,
    )
    def _cannot_be_built(place: Place, options: Any = _options) -> None:
        def ask(ctx: CtxView) -> Decision:
            return Need([own("a", required=False)], then=done, **options)

        place.get(ask)


# any

row(
    "any resumes with the first that settles, and cancels the rest",
    needing(own("a", 1, into=A), own("b", 2, into=B, held=True), join="any", then=show),
    order=("a",),
    expects=(shows(1),),
    slots={"A": 1},
    log={"blocking": "+a", "reactor": "+a +b -b"},
)
row(
    "any resumes with the first that settles, whichever it is",
    needing(own("a", 1, into=A), own("b", 2, into=B), own("c", 3, into=C), join="any", then=show),
    order=("c", "a", "b"),
    expects=(shows(None, None, 3),),
    slots={"C": 3},
    log="+a +b +c -a -b",
    engines=PARALLEL,
)
row(
    "any resumes when the first that settles is a failure, and never fails by itself",
    needing(own("a", kind=CONFLICT, into=A), own("b", 2, into=B, held=True), join="any", then=show),
    order=("a",),
    expects=(shows(errors=["a"]),),
    slots={},
)

# first_success

row(
    "first_success resumes with the first success, and cancels the rest",
    needing(
        own("a", kind=CONFLICT, into=A), own("b", 2, into=A), own("c", 3, into=A, held=True),
        join="first_success", then=show,
    ),
    order=("a", "b"),
    expects=(shows(2, errors=["a"]),),
    slots={"A": 2},
    log={"blocking": "+a +b", "reactor": "+a +b +c -c"},
)  # fmt: skip
row(
    "first_success resumes with no slot set when all failed, and none of them was required",
    needing(
        own("a", kind=CONFLICT, into=A, required=False), own("b", kind=MISSING, into=B, required=False),
        join="first_success", then=show,
    ),
    order=("a", "b"),
    expects=(shows(errors=["a", "b"]),),
    slots={},
    sockets=True,
)  # fmt: skip
row(
    "first_success fails with the first required one in the order of the declaration, when all failed",
    needing(own("a", kind=DOWN, required=False), own("b", kind=CONFLICT), own("c", kind=MISSING), join="first_success"),
    order=("a", "b", "c"),
    expects=(problem(CONFLICT, "b"),),
    sockets=True,
)
row(
    "first_success fails with the first required one in the order of the declaration, whatever failed first",
    needing(own("a", kind=DOWN, required=False), own("b", kind=CONFLICT), own("c", kind=MISSING), join="first_success"),
    order=("c", "b", "a"),
    expects=(problem(CONFLICT, "b"),),
    engines=PARALLEL,
)

# Resolving, once

for join, mode in itertools.product(("all", "all_required", "any", "first_success"), ("parallel", "sequential")):
    row(
        f"{join}, {mode}, without effects resumes at once",
        needing(join=join, mode=mode, then=show),
        expects=(shows(),),
        log="",
        trace=f"""
            RequestStart /x
            StepStart ask_for
            StepEnd ask_for Need
            NeedScheduled 1 ask_for: {join} {mode} []
            JoinSatisfied 1 resumed
            ContinuationStart 1 show
            StepStart 1 show
            StepEnd 1 show Done
            Done 1 show
            RequestEnd 1
        """,
    )


def _one_is_stray(played: Played) -> None:
    assert played.statistics.stray == 1, f"on {played.engine} {played.statistics.stray} completions were stray"


@declared("a completion that comes twice counts once, and is counted", expects=(shows(1, 2),), check=_one_is_stray)
def _twice(place: Place) -> None:
    class Sloppy:
        def start(self, effect: Effect[Any], done: Callable[[Outcome], None], /) -> None:
            for value in (1, 7):
                asyncio.get_running_loop().call_soon(done, Success(value))

    place.app.effector("sloppy", Sloppy())
    sloppy: Effect[Any] = Effect(family="sloppy", op="do", target="sloppy", args=None, into=A)
    place.get(needing(sloppy, own("b", 2, into=B), then=show))


row(
    "slots are written in the order of the declaration, before the continuation, in whatever order effects settle",
    needing(own("a", 1, into=A), own("b", 2, into=B), own("c", 3, into=C), then=show),
    order=("c", "a", "b"),
    expects=(shows(1, 2, 3),),
    slots={"A": 1, "B": 2, "C": 3},
    engines=PARALLEL,
)
row(
    "slots are written in the order of the declaration, before the continuation",
    needing(own("a", 1, into=C), own("b", 2, into=A), own("c", 3, into=B), then=show),
    order=("a", "b", "c"),
    expects=(shows(2, 3, 1),),
    slots={"C": 1, "A": 2, "B": 3},
    sockets=True,
)
row(
    "nothing is written when the Need fails, also of what succeeded",
    needing(own("a", 1, into=A), own("b", kind=CONFLICT, into=B), then=show),
    order=("a", "b"),
    expects=(problem(CONFLICT, "b"),),
    slots={},
)

# In sequence

row(
    "in sequence an effect starts when the one before it has settled",
    needing(
        own("a", 1, into=A), own("b", kind=CONFLICT, into=B, required=False), own("c", 3, into=C),
        mode="sequential", then=show,
    ),
    order=("a", "b", "c"),
    expects=(shows(1, None, 3, errors=["b"]),),
    log="+a +b +c",
    sockets=True,
)  # fmt: skip
row(
    "in sequence none starts after the resolution",
    needing(own("a", 1), own("b", kind=CONFLICT), own("c"), mode="sequential"),
    expects=(problem(CONFLICT, "b"),),
    log="+a +b",
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all sequential [own.do, own.do, own.do]
        JoinSatisfied 1 failed
        EffectCancelled 1.2 own.do
        Fail 1 CONFLICT b
        RequestEnd 1
        effect 1.0 own.do: scheduled, start, gave 1
        effect 1.1 own.do: scheduled, start, failed: CONFLICT b
    """,
    sockets=True,
)
row(
    "sequential any performs the first alone",
    needing(own("a", kind=CONFLICT), own("b"), mode="sequential", join="any", then=show),
    expects=(shows(errors=["a"]),),
    log="+a",
    sockets=True,
)
row(
    "sequential all_required stops when the required ones are there",
    needing(own("a", 1, into=A), own("b", required=False), mode="sequential", join="all_required", then=show),
    expects=(shows(1),),
    log="+a",
    sockets=True,
)
row(
    "sequential first_success is a chain of fallbacks",
    needing(
        own("a", kind=DOWN, into=A), own("b", 2, into=A), own("c", 3, into=A),
        mode="sequential", join="first_success", then=show,
    ),
    expects=(shows(2, errors=["a"]),),
    slots={"A": 2},
    log="+a +b",
    sockets=True,
)  # fmt: skip

# Detached effects

row(
    "a detached effect is performed, and what it gives is late and not written",
    needing(own("a", 1, into=A), own("b", 2, into=B, required=False), join="all_required", detach=True, then=show),
    order=("a", "b"),
    expects=(shows(1),),
    slots={"A": 1},
    log="+a +b",
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all_required parallel detach [own.do into A, own.do into B?]
        JoinSatisfied 1 resumed
        ContinuationStart 1 show
        StepStart 1 show
        StepEnd 1 show Done
        Done 1 show
        RequestEnd 1
        effect 1.0 own.do into A: scheduled, start, gave 1
        effect 1.1 own.do into B: scheduled, start, gave 2, late
    """,
)
row(
    "a detached effect that settles in time is written",
    needing(own("a", 1, into=A, required=False), own("b", 2, into=B), join="all_required", detach=True, then=show),
    order=("a", "b"),
    expects=(shows(1, 2),),
    slots={"A": 1, "B": 2},
    log="+a +b",
    sockets=True,
)
row(
    "a detached effect that settles together with the last required one is performed once",
    needing(own("a", 1), own("b", 2, required=False), own("c", 3, required=False), join="all_required", detach=True),
    expects=(TEXT_DONE,),
    log="+a +b +c",
)
row(
    "in sequence detached effects are performed, too, one after another",
    needing(
        own("a", 1, into=A), own("b", 2, required=False), own("c", kind=CONFLICT, required=False),
        own("d", required=False), mode="sequential", join="all_required", detach=True, then=show,
    ),
    order=("a", "b", "c", "d"),
    expects=(shows(1),),
    log="+a +b +c +d",
)  # fmt: skip
row(
    "a detached effect is performed although the Need fails",
    needing(
        own("a", kind=CONFLICT), own("b", 2, required=False), own("c", held=True), join="all_required", detach=True
    ),
    order=("a", "b"),
    expects=(problem(CONFLICT, "a"),),
    log={"blocking": "+a +b", "reactor": "+a +b +c -c"},
)
row(
    "a detached effect is performed although the Need fails, before it has begun",
    needing(
        own("a", kind=CONFLICT), own("b", 2, required=False), own("c"), join="all_required", mode="sequential",
        detach=True,
    ),
    order=("a", "b"),
    expects=(problem(CONFLICT, "a"),),
    log="+a +b",
)  # fmt: skip
row(
    "detached effects alone let the request go on at once",
    needing(own("a", 1, into=A, required=False), join="all_required", detach=True, then=show),
    order=("a",),
    expects=(shows(),),
    slots={},
    log="+a",
)
row(
    "a detached effect keeps its own time-out",
    needing(own("a"), own("b", held=True, required=False, timeout=0.05), join="all_required", detach=True),
    expects=(TEXT_DONE,),
    log="+a +b -b",
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all_required parallel detach [own.do, own.do?]
        JoinSatisfied 1 resumed
        ContinuationStart 1 done
        StepStart 1 done
        StepEnd 1 done Done
        Done 1 done
        RequestEnd 1
        effect 1.0 own.do: scheduled, start, gave None
        effect 1.1 own.do: scheduled, start, failed: TIMEOUT own.do: no result within 0.05 s, late
    """,
)
row(
    "a detached effect ignores the deadline of the request, and a graceful stop waits for it",
    needing(own("a"), own("b", 2, held=True, delay=0.3, required=False), join="all_required", detach=True),
    deadline=0.15,
    expects=(TEXT_DONE,),
    log="+a +b",
    check=lambda played: _ends_with(played, "effect 1.1 own.do: scheduled, start, gave 2, late"),
)
row(
    "a detached effect is retried after the response",
    needing(
        own("a"), own("b", 2, kind=DOWN, retryable=True, failures=2, required=False, retry=Retry(3, base=1e-9)),
        join="all_required", mode="sequential", detach=True,
    ),
    expects=(TEXT_DONE,),
    log="+a +b +b +b",
)  # fmt: skip


def _ends_with(played: Played, line: str) -> None:
    assert played.causes[-1][-1] == line, f"on {played.engine} the trace ends with {played.causes[-1][-1]}"


# Slots and errors


@declared(
    "two effects into one slot are an error under all",
    expects=(problem(ErrorKind.INTERNAL, "step ask failed"),),
    log="",
    sockets=True,
)
def _two_into_one(place: Place) -> None:
    def ask(ctx: CtxView[Never, A]) -> Decision:
        return Need([own("a", 1, into=A), own("b", 2, into=A)], then=done)

    place.get(ask)


row(
    "two effects into one slot are alternatives under any",
    needing(own("a", 1, into=A), own("b", 2, into=A), join="any", then=show),
    order=("a", "b"),
    expects=(shows(1),),
    slots={"A": 1},
)


@declared(
    "errors are all failures in the order of the declaration, and last_error the last of them",
    order=("c", "b", "a"),
    engines=PARALLEL,
    expects=(TEXT_DONE,),
    notes=[["a", "c"], "c"],
)
def _errors(place: Place) -> None:
    _notes_errors(place)


@declared("errors and last_error are of the Need before", expects=(TEXT_DONE,), notes=[["a", "c"], "c"])
def _errors_in_order(place: Place) -> None:
    _notes_errors(place)


def _notes_errors(place: Place) -> None:
    def look(ctx: CtxView) -> Decision:
        place.note([one.what for one in ctx.errors])
        place.note(ctx.last_error.what if ctx.last_error else None)
        return done(ctx)

    effects = [own("a", kind=DOWN, required=False), own("b", 2), own("c", kind=CONFLICT, required=False)]
    place.get(needing(*effects, then=look))


@declared("ctx.errors is empty after a Need that went well", expects=(TEXT_DONE,), notes=[["a"], [], None])
def _errors_go(place: Place) -> None:
    def again(ctx: CtxView) -> Decision:
        place.note([one.what for one in ctx.errors])
        return Need([own("b")], then=last)

    def last(ctx: CtxView) -> Decision:
        place.note([*ctx.errors])
        place.note(ctx.last_error)
        return done(ctx)

    place.get(needing(own("a", kind=CONFLICT, required=False), then=again))


# Continuations


@declared(
    "without a continuation the next step follows, and Continue from a continuation goes on after who asked",
    expects=(TEXT_DONE,),
    notes=["first", "second", "third", "fourth"],
    log="+a +b",
    sockets=True,
)
def _goes_on(place: Place) -> None:
    def first(ctx: CtxView) -> Decision:
        place.note("first")
        return Need([own("a")])

    def second(ctx: CtxView) -> Decision:
        place.note("second")
        return Need([own("b")], then=third)

    def third(ctx: CtxView) -> Decision:
        place.note("third")
        return Continue()

    def fourth(ctx: CtxView) -> Decision:
        place.note("fourth")
        return done(ctx)

    place.get(first, second, fourth)


@declared(
    "a continuation may ask again, and what it has written before stays",
    expects=(shows(1, 2, 3),),
    slots={"A": 1, "B": 2, "C": 3},
    log="+a +b +c",
    sockets=True,
)
def _asks_again(place: Place) -> None:
    def ask_b(ctx: CtxView[Never, B]) -> Decision:
        return Need([own("b", 2, into=B)], then=ask_c)

    def ask_c(ctx: CtxView[Never, C]) -> Decision:
        return Need([own("c", 3, into=C)], then=show)

    @step(then=(ask_b,))
    def ask_a(ctx: CtxView[Never, A]) -> Decision:
        return Need([own("a", 1, into=A)], then=ask_b)

    place.get(ask_a)


@declared(
    "ten thousand continuations neither recurse nor deadlock, with one worker",
    expects=((200, "there"),),
    log=" ".join(["+a"] * 99),
    config=ONE_WORKER,
)
def _deep(place: Place) -> None:
    left = [10_000]

    def again(ctx: CtxView) -> Decision:
        left[0] -= 1
        if left[0] % 100 == 0:
            return Need([own("a")], then=again) if left[0] else Done.text("there")
        return Need([], then=again)

    place.get(again)


@declared(
    "a thousand awaits of an async step neither recurse nor deadlock, with one worker",
    expects=((200, "1000"),),
    config=ONE_WORKER,
)
def _deep_async(place: Place) -> None:
    async def waits(ctx: CtxView) -> Decision:
        total = 0
        for _ in range(1000):
            total += await need(own("a", 1))
        return Done.text(str(total))

    place.get(waits)


# Async steps


def _both_forms_alike(played: Played) -> None:
    then, other = played.causes
    renamed = [line.replace("page_again", "page").replace("/async", "/then") for line in other]
    then = [line.replace("page_again", "page") for line in then]
    assert renamed == then, f"on {played.engine} the forms differ: {then} and {renamed}"


@declared(
    "an async step tells the same trace as its twin with a continuation",
    asks=(Ask(path="/then"), Ask(path="/async")),
    expects=((200, "[1,null,3]"), (200, "[1,null,3]")),
    check=_both_forms_alike,
    sockets=True,
)
def _async_twins(place: Place) -> None:
    effects = [own("a", 1, into=A), own("b", kind=CONFLICT, into=B, required=False), own("c", 3, into=C)]

    def page_again(ctx: CtxView[A | B | C]) -> Decision:
        return Done.json([ctx.optional(A), ctx.optional(B), ctx.optional(C)])

    @step(then=(page_again,))
    def page(ctx: CtxView[Never, A | B | C]) -> Decision:
        return Need(effects, then=page_again)

    place.get(page, path="/then")

    async def page_(ctx: CtxView[Never, A | B | C]) -> Decision:
        return Done.json(await need(effects[0], effects[1], effects[2]))

    page_.__qualname__ = page_.__name__ = "page"
    place.get(page_, path="/async")


@declared(
    "an async step whose Need fails is closed: its finally runs, and what it returns is ignored",
    expects=(problem(CONFLICT, "a"),),
    notes=["closed"],
)
def _async_closed(place: Place) -> None:
    async def waits(ctx: CtxView) -> Decision:
        try:
            await need(own("a", kind=CONFLICT))
        finally:
            place.note("closed")
            return Done.text("ignored")  # noqa: B012

    place.get(waits)


@declared(
    "an async step gets None for what was dropped by the join",
    order=("a",),
    expects=((200, "[1,null]"),),
)
def _async_dropped(place: Place) -> None:
    async def waits(ctx: CtxView) -> Decision:
        return Done.json(await need(own("a", 1), own("b", 2, held=True), join="first_success"))

    place.get(waits)


for _name, _awaits in {"sleep": lambda: asyncio.sleep(1), "nothing": lambda: asyncio.sleep(0)}.items():

    @declared(
        f"an async step that awaits something else ({_name}) is told to declare an effect",
        expects=((500, {"kind": "INTERNAL"}),),
        check=lambda played: _says(played, "step waits awaited something other than need", "declare an effect"),
        sockets=True,
    )
    def _async_wrong(place: Place, awaits: Any = _awaits) -> None:
        async def waits(ctx: CtxView) -> Decision:
            await awaits()
            return Done.empty()

        place.get(waits)


def _says(played: Played, *words: str) -> None:
    detail = json.loads(played.answers[-1].body)["detail"]
    for one in words:
        assert one in detail, f"on {played.engine} it says {detail!r}"


# Input of the client


class Body(msgspec.Struct):
    """What is posted."""

    n: int


@declared(
    "bad input ends the request with 400, 415 or 422, and the path of the field",
    asks=(
        Ask("POST", body=b'{"n": 1', headers=(("content-type", "application/json"),)),
        Ask("POST", body=b'{"n": 1}', headers=(("content-type", "text/plain"),)),
        Ask("POST", body=b'{"n": "x"}', headers=(("content-type", "application/json"),)),
        Ask("POST", body=b'{"n": 1}', headers=(("content-type", "application/json"),)),
        Ask(path="/query"),
        Ask(path="/header"),
        Ask(path="/param/x"),
        Ask(path="/async"),
    ),
    expects=(
        (400, {"kind": "INVALID_INPUT"}),
        (415, {"kind": "UNSUPPORTED_MEDIA_TYPE"}),
        (422, {"kind": "UNPROCESSABLE", "key": "$.n"}),
        (200, "1"),
        (422, {"kind": "UNPROCESSABLE"}),
        (422, {"kind": "UNPROCESSABLE"}),
        (422, {"kind": "UNPROCESSABLE"}),
        (422, {"kind": "UNPROCESSABLE"}),
    ),
    sockets=True,
)
def _bad_input(place: Place) -> None:
    def body(ctx: CtxView) -> Decision:
        return Done.json(ctx.json(Body).n)

    def query(ctx: CtxView) -> Decision:
        return Done.json(ctx.query("n", int))

    def header(ctx: CtxView) -> Decision:
        return Done.json(ctx.header("x-n", int))

    def param(ctx: CtxView) -> Decision:
        return Done.json(ctx.param("n", int))

    async def after(ctx: CtxView) -> Decision:
        await need(own("a"))
        return Done.json(ctx.query("n", int))

    place.post(body)
    place.get(query, path="/query")
    place.get(header, path="/header")
    place.get(param, path="/param/{n}")
    place.get(after, path="/async")


# Bugs


class Unset(Slot[int]):
    """Nobody writes it on the way."""


def raises(problem: BaseException) -> Any:
    def breaks(ctx: CtxView) -> Decision:
        raise problem

    return breaks


def gives_nothing(ctx: CtxView) -> Any:
    return None


def gives_text(ctx: CtxView) -> Any:
    return "text"


WRITES_A = own("a", into=A)


def undeclared(ctx: CtxView) -> Decision:
    return Need([WRITES_A], then=done)


def goes_on(ctx: CtxView) -> Decision:
    return Continue()


def unset(ctx: CtxView[Unset, Unset]) -> Decision:
    return Done.json(ctx.require(Unset))


for _what, _step, _detail in (
    ("raises", raises(ValueError("secret")), "step breaks failed"),
    ("exits", raises(SystemExit(3)), "step breaks failed"),
    ("is interrupted", raises(KeyboardInterrupt()), "step breaks failed"),
    ("stops a generator", raises(StopIteration("secret")), "step breaks failed"),
    (
        "returns nothing", gives_nothing,
        "step gives_nothing returned nothing (did you forget 'return'?); a step returns Continue(), Need(...), Done or "
        "Fail",
    ),
    (
        "returns text", gives_text,
        "step gives_text returned a str; a step returns Continue(), Need(...), Done or Fail",
    ),
    (
        "asks for a slot that it does not declare", undeclared,
        "step undeclared: effect own.do into A writes a slot that the step does not declare; annotate its context as "
        "CtxView[..., A]",
    ),
    ("reads a slot that is not set", unset, "step unset failed"),
):  # fmt: skip
    row(f"a step that {_what} is 500", _step, expects=(problem(ErrorKind.INTERNAL, _detail),), log="", sockets=True)

row(
    "a continuation that raises is 500, and names itself",
    needing(own("a"), then=raises(ValueError("secret"))),
    expects=(problem(ErrorKind.INTERNAL, "step breaks failed"),),
    sockets=True,
)
row(
    "an effect that nothing performs is 500",
    needing(Effect(family="nobody", op="does", target="it", args=None)),
    expects=((500, {"kind": "INTERNAL"}),),
    sockets=True,
)


# Errors


@declared(
    "Fail is an answer with its kind, key, detail and Retry-After",
    expects=((429, {"kind": "TOO_MANY_REQUESTS", "detail": "slow down", "key": "limit", "info": {"by": 1}}),),
    headers={"retry-after": "2", "content-type": "application/problem+json"},
    sockets=True,
)
def _fail(place: Place) -> None:
    def fails(ctx: CtxView) -> Decision:
        return Fail(ErrorKind.TOO_MANY_REQUESTS, "slow down", "limit", {"by": 1}, 1.5)

    place.get(fails)


def wraps(error: Error, request: Request) -> Response:
    return Done.text(f"{error.kind.name} {error.what} {request.path}", status=418, headers={"x-own": "1"}).response


def breaks_down(error: Error, request: Request) -> Response:
    raise ValueError("secret")


row(
    "on_error makes the answer of every error: of a Need, of a step, and where there is nothing",
    needing(own("a", kind=CONFLICT)),
    asks=(Ask(path="/nothing"), Ask()),
    expects=((418, "NOT_FOUND there is nothing at /nothing /nothing"), (418, "CONFLICT a /x")),
    headers={"x-own": "1", "content-type": "text/plain; charset=utf-8"},
    app={"on_error": wraps},
)
row(
    "where on_error itself fails the default answers",
    needing(own("a", kind=CONFLICT)),
    expects=(problem(CONFLICT, "a"),),
    app={"on_error": breaks_down},
)

# Deadlines: long enough for what comes before them on a busy machine

row(
    "past the deadline a request that waits is 504, and its effects are cancelled",
    needing(own("a", 1, into=A), own("b", held=True), then=show),
    deadline=0.25,
    expects=(problem(ErrorKind.TIMEOUT, "the request took longer than its deadline of 0.25 s"),),
    slots={},
    log="+a +b -b",
)
row(
    "what has settled when the deadline passes is not performed again, though it is detached",
    needing(own("a", 1, required=False), own("b", held=True), join="all_required", detach=True, then=show),
    deadline=0.25,
    expects=(problem(ErrorKind.TIMEOUT, "the request took longer than its deadline of 0.25 s"),),
    log="+a +b -b",
)
row(
    "past the deadline a request is 504 also when it waits for optional effects alone",
    needing(own("a", held=True, required=False), then=show),
    deadline=0.25,
    expects=(problem(ErrorKind.TIMEOUT, "the request took longer than its deadline of 0.25 s"),),
    log="+a -a",
)


@declared(
    "a step that returns past the deadline is 504",
    expects=(problem(ErrorKind.TIMEOUT, "the request took longer than its deadline of 0.25 s"),),
    log="",
)
def _too_late(place: Place) -> None:
    def slow(ctx: CtxView) -> Decision:
        time.sleep(0.4)
        return Need([own("a")], then=done)

    place.get(slow, deadline=0.25)


# Ends


@declared(
    "exit callbacks run after the answer, the last one first, and one that fails stops no other",
    expects=(TEXT_DONE,),
    notes=["third", "first"],
    trace="""
        RequestStart /x
        StepStart ask
        StepEnd ask Need
        NeedScheduled 1 ask: all parallel [own.do]
        JoinSatisfied 1 resumed
        ContinuationStart 1 last
        StepStart 1 last
        StepEnd 1 last Done
        Done 1 last
        OnExit 1 third
        OnExit 1 second
        OnExit 1 first
        RequestEnd 1
        effect 1.0 own.do: scheduled, start, gave None
    """,
)
def _exits(place: Place) -> None:
    def noting(name: str) -> Callable[[], None]:
        def callback() -> None:
            if name == "second":
                raise SystemExit(3)
            place.note(name)

        callback.__qualname__ = name
        return callback

    def ask(ctx: CtxView) -> Decision:
        ctx.on_exit(noting("first"))
        ctx.on_exit(noting("second"))
        return Need([own("a")], then=last)

    def last(ctx: CtxView) -> Decision:
        ctx.on_exit(noting("third"))
        return done(ctx)

    place.get(ask)


@declared("exit callbacks run after a failure, too", expects=(problem(CONFLICT, "a"),), notes=["exit"])
def _exits_of_failure(place: Place) -> None:
    def ask(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: place.note("exit"))
        return Need([own("a", kind=CONFLICT)], then=done)

    place.get(ask)


@declared(
    "a client that goes cancels its effects, and exit callbacks run",
    asks=(Ask(until="gone"),),
    expects=((None, b""),),
    notes=["exit"],
    log={"blocking": "+a -a", "reactor": "+a +b -a -b"},
    trace="""
        RequestStart /x
        StepStart ask
        StepEnd ask Need
        NeedScheduled 1 ask: all parallel [own.do, own.do]
        Fail 1 the client has gone
        EffectCancelled 1.0 own.do
        EffectCancelled 1.1 own.do
        OnExit 1 _gone.<locals>.ask.<locals>.<lambda>
        RequestEnd 1
    """,
)
def _gone(place: Place) -> None:
    def ask(ctx: CtxView) -> Decision:
        ctx.on_exit(lambda: place.note("exit"))
        return Need([own("a", held=True), own("b", held=True)], then=done)

    place.get(ask)


row(
    "what has settled when the client goes is not cancelled",
    needing(own("a", 1), own("b", held=True)),
    asks=(Ask(until="gone"),),
    expects=((None, b""),),
    log="+a +b -b",
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all parallel [own.do, own.do]
        Fail 1 the client has gone
        EffectCancelled 1.1 own.do
        RequestEnd 1
        effect 1.0 own.do: scheduled, start, gave 1
    """,
)
row(
    "a detached effect is performed although the client has gone",
    needing(own("a", held=True), own("b", 2, required=False), mode="sequential", join="all_required", detach=True),
    asks=(Ask(until="gone"),),
    expects=((None, b""),),
    log="+a -a +b",
)
row(
    "past the grace of a stop what waits is cancelled, and told 503",
    needing(own("a", held=True)),
    asks=(Ask(until="stopped"),),
    expects=(problem(ErrorKind.OVERLOADED, "the server stops"),),
    headers={"retry-after": "1"},
    log="+a -a",
    config={"server": {"grace": 0.05}},
)
row(
    "a stop lets what waits come to its end",
    needing(own("a", 1, held=True, delay=0.05, into=A), then=show),
    asks=(Ask(until="stopped"),),
    expects=(shows(1),),
)

# Retries, time-outs, breakers

row(
    "retries are visible in the trace",
    needing(own("a", 1, kind=DOWN, retryable=True, failures=2, retry=Retry(3, base=1e-9), into=A), then=show),
    expects=(shows(1),),
    log="+a +a +a",
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all parallel [own.do into A]
        JoinSatisfied 1 resumed
        ContinuationStart 1 show
        StepStart 1 show
        StepEnd 1 show Done
        Done 1 show
        RequestEnd 1
        effect 1.0 own.do into A: scheduled, start, retry after UPSTREAM_UNAVAILABLE a, start, \
retry after UPSTREAM_UNAVAILABLE a, start, gave 1
    """,
)
row(
    "retries end with the attempts, and what is not retryable is not tried again",
    needing(
        own("a", kind=DOWN, retryable=True, retry=Retry(2, base=1e-9), required=False),
        own("b", kind=CONFLICT, retry=Retry(2, base=1e-9), required=False),
        mode="sequential", then=show,
    ),
    expects=(shows(errors=["a", "b"]),),
    log="+a +a +b",
    sockets=True,
)  # fmt: skip
row(
    "retries end with the budget of the request, and each request has its own",
    needing(
        own("a", kind=DOWN, retryable=True, retry=Retry(3, base=1e-9), required=False),
        own("b", kind=DOWN, retryable=True, retry=Retry(3, base=1e-9), required=False),
        mode="sequential", then=show,
    ),
    asks=(Ask(), Ask()),
    expects=(shows(errors=["a", "b"]), shows(errors=["a", "b"])),
    log="+a +a +a +b +b +a +a +a +b +b",
    config={"limits": {"retry_budget": 3}, "effects": {"default_breaker": {"failures": 100}}},
)  # fmt: skip
row(
    "a time-out of a required effect is 504, and its attempt is cancelled",
    needing(own("a", held=True, timeout=0.05)),
    expects=(problem(ErrorKind.TIMEOUT, "own.do: no result within 0.05 s"),),
    log="+a -a",
    trace="""
        RequestStart /x
        StepStart ask_for
        StepEnd ask_for Need
        NeedScheduled 1 ask_for: all parallel [own.do]
        JoinSatisfied 1 failed
        Fail 1 TIMEOUT own.do: no result within 0.05 s
        RequestEnd 1
        effect 1.0 own.do: scheduled, start, failed: TIMEOUT own.do: no result within 0.05 s
    """,
)
row(
    "an open breaker refuses at once, and its opening is visible in the trace",
    needing(own("a", kind=DOWN, retryable=True)),
    asks=(Ask(), Ask()),
    expects=(
        problem(DOWN, "a"),
        problem(DOWN, "own.do: left alone for now, because it failed too often"),
    ),
    headers={"retry-after": "60"},
    log="+a",
    config={"effects": {"default_breaker": {"failures": 1, "cooldown": 60}}},
    check=lambda played: _breaker_opened(played),
)


def _breaker_opened(played: Played) -> None:
    first, second = played.causes
    assert first[-1].endswith("scheduled, start, breaker open, failed: UPSTREAM_UNAVAILABLE a"), first
    assert "scheduled, failed: UPSTREAM_UNAVAILABLE own.do: left alone" in second[-1], second


@declared("compensations are carried through, and visible in the trace", expects=(TEXT_DONE,), log="+a +b")
def _compensations(place: Place) -> None:
    def ask(ctx: CtxView) -> Decision:
        undo = Compensation("undo", "on_failure", own("undo"))
        return Need([own("a")], compensations=[undo], then=again)

    def again(ctx: CtxView) -> Decision:
        return Need([own("b")], then=done)

    place.get(ask)


# Routes, methods and responses


@declared(
    "before-steps run first, and not where nothing is; HEAD follows GET; 405 says what is allowed",
    asks=(
        Ask(), Ask("HEAD"), Ask(path="/nothing"), Ask("HEAD", path="/nothing"), Ask("OPTIONS"), Ask("DELETE"),
        Ask("POST", "/flow/v1/order"),
    ),
    expects=(
        TEXT_DONE, (200, b""), (404, {"kind": "NOT_FOUND"}), (404, b""), (204, b""),
        (405, {"kind": "METHOD_NOT_ALLOWED"}), TEXT_DONE,
    ),
    notes=["use", "before", "use", "before", "use"],
)  # fmt: skip
def _routes(place: Place) -> None:
    def use(ctx: CtxView) -> Decision:
        place.note("use")
        return Need([own("a")])

    def before(ctx: CtxView) -> Decision:
        place.note("before")
        return Continue()

    place.app.use(use)
    place.get(done, before=[before])
    place.app.flow("order", done)


def chunks(fails: bool = False) -> Iterator[bytes]:
    yield b"a"
    if fails:
        raise ValueError("secret")
    yield b"b"


async def async_chunks() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.sleep(0)
    yield b"b"


@declared(
    "streams are sent after the pipeline, on each engine alike; HEAD has none of them",
    asks=(Ask(), Ask("HEAD"), Ask(path="/async")),
    expects=((200, "ab"), (200, b""), (200, "ab")),
    headers={"content-length": None},
    sockets=True,
)
def _streams(place: Place) -> None:
    def plain(ctx: CtxView) -> Decision:
        return Done.stream(chunks())

    async def awaited(ctx: CtxView) -> Decision:
        await need(own("a"))
        return Done.stream(async_chunks())

    place.get(plain)
    place.get(awaited, path="/async")


@declared("a stream that fails is cut", expects=((200, "a"),), check=lambda played: _is_cut(played))
def _cut(place: Place) -> None:
    def plain(ctx: CtxView) -> Decision:
        return Done.stream(chunks(fails=True))

    place.get(plain)


def _is_cut(played: Played) -> None:
    assert not played.answers[-1].complete, f"on {played.engine} the answer looks whole"


row(
    "built-in effects and the app's own go together",
    needing(timer.sleep(0.001), own("a", 1, into=A), timer.sleep(0.001), then=show),
    expects=(shows(1),),
    sockets=True,
)
