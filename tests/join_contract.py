"""Section 3 of the contracts as a model: every Need of a few effects, every history, and what each has to come to.

Interpreter and engines are held against this one model. It knows nothing of how a join works: each row of the table is
read as "the first moment at which ...".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import permutations, product
from typing import Any, Literal, NamedTuple, Never, get_args

from zerver import Continue, CtxView, Decision, Done, Effect, Need, Slot, need
from zerver.compiled_step import CompiledStep
from zerver.step import compile_step
from zerver_runtime.reactor.join import Join, Mode, check

__all__ = [
    "SLOTS", "A", "B", "C", "Case", "Expected", "Form", "Reads", "cases", "compiled", "contract", "effects_of", "forms",
    "seen_by", "steps_of", "value", "what",
]  # fmt: skip


class A(Slot[str]):
    """Of effect 0."""


class B(Slot[str]):
    """Of effect 1."""


class C(Slot[str]):
    """Of effect 2."""


class D(Slot[str]):
    """Of effect 3."""


class E(Slot[str]):
    """Of effect 4."""


class F(Slot[str]):
    """Of effect 5."""


SLOTS: tuple[Any, ...] = (A, B, C, D, E, F)
Reads = A | B | C | D | E | F

Form = Literal["then", "next", "async"]


class Case(NamedTuple):
    """A Need, and the order and outcomes in which its effects settle if nothing stops them."""

    required: tuple[bool, ...]
    join: Join
    mode: Mode
    detach: bool
    order: tuple[int, ...]
    successes: tuple[bool, ...]
    """By effect, not by order."""

    @property
    def background(self) -> list[int]:
        """The effects that are never cancelled."""
        return [index for index, required in enumerate(self.required) if self.detach and not required]


class Expected(NamedTuple):
    """What the contract says of a case. Effects are in the order of their declaration."""

    moment: int
    """After how many settlements it resolves."""
    fails_with: int | None
    """The effect whose error the request fails with; ``None``: it goes on."""
    values: dict[int, str]
    """What succeeded in time. It is written if the Need did not fail."""
    errors: list[int]
    """What failed in time."""
    cancelled: list[int]
    detached: list[int]
    """What had not settled, and goes on in the background."""


def contract(case: Case) -> Expected:
    """Section 3, row by row."""
    moment, fails_with = _resolution(case)
    in_time = sorted(case.order[:moment])
    left = [index for index in range(len(case.required)) if index not in in_time]
    return Expected(
        moment,
        fails_with,
        {index: value(index) for index in in_time if case.successes[index]},
        [index for index in in_time if not case.successes[index]],
        [index for index in left if index not in case.background],
        [index for index in left if index in case.background],
    )


def _resolution(case: Case) -> tuple[int, int | None]:
    size = len(case.required)
    for moment in range(size + 1):
        settled = case.order[:moment]
        good = [index for index in settled if case.successes[index]]
        bad_required = [index for index in settled if not case.successes[index] and case.required[index]]
        match case.join:
            case "all":
                if bad_required:
                    return moment, bad_required[0]
                if moment == size:
                    return moment, None
            case "all_required":
                if bad_required:
                    return moment, bad_required[0]
                if all(index in good for index in range(size) if case.required[index]):
                    return moment, None
            case "any":
                if moment == 1 or size == 0:
                    return moment, None
            case "first_success":
                if good:
                    return moment, None
                if moment == size:
                    return moment, min(bad_required, default=None)
    raise AssertionError("every Need resolves in the end")


def value(index: int) -> str:
    """What effect ``index`` gives when it succeeds."""
    return f"value {index}"


def what(index: int) -> str:
    """The error of effect ``index`` when it fails."""
    return f"effect {index} failed"


def cases(size: int, join: Join, mode: Mode, *, orders: Literal["all", "declaration"] = "all") -> Iterator[Case]:
    """Every Need of this size, with every history in which all of its effects settle. One after another, effects settle
    in the order of their declaration."""
    every = orders == "all" and mode == "parallel"
    histories = list(permutations(range(size))) if every else [tuple(range(size))]
    for required in product((True, False), repeat=size):
        for detach in (False, True):
            if check(required, join, mode, detach) is None:
                for order, successes in product(histories, product((True, False), repeat=size)):
                    yield Case(required, join, mode, detach, order, successes)


def effects_of(case: Case) -> list[Effect[Any]]:
    """Effects of family ``test``; the arguments of each are its index."""
    return [
        Effect(family="test", op="do", target="test", args=index, into=SLOTS[index], required=required)
        for index, required in enumerate(case.required)
    ]


def steps_of(case: Case, form: Form, seen: list[Any]) -> tuple[Any, ...]:
    """The case as an app would write it, in each form; ``seen`` takes what runs after the Need sees."""
    effects = effects_of(case)

    def look(ctx: CtxView[Reads]) -> None:
        seen.append([ctx.optional(slot) for slot in SLOTS[: len(effects)]])
        seen.append([error.what for error in ctx.errors])
        assert ctx.last_error == (ctx.errors[-1] if ctx.errors else None)

    def ask_then(ctx: CtxView[Never, Reads]) -> Decision:
        return Need(effects, mode=case.mode, join=case.join, then=show, detach=case.detach)

    def ask(ctx: CtxView[Never, Reads]) -> Decision:
        return Need(effects, mode=case.mode, join=case.join, detach=case.detach)

    async def ask_async(ctx: CtxView[Reads, Reads]) -> Decision:
        asking: Any = need
        given = await asking(*effects, mode=case.mode, join=case.join, detach=case.detach)
        look(ctx)
        seen.append([given] if len(effects) == 1 else list(given))
        return Continue()

    def show(ctx: CtxView[Reads]) -> Decision:
        look(ctx)
        return Continue()

    def end(ctx: CtxView) -> Decision:
        return Done.text("resumed")

    return {"then": (ask_then, end), "next": (ask, show, end), "async": (ask_async, end)}[form]


def compiled(case: Case, form: Form) -> tuple[tuple[CompiledStep, ...], list[Any]]:
    """The steps of a case, the same ones whatever its history, and what they see: nothing so far."""
    steps, seen = _compiled(case._replace(order=(), successes=()), form)
    seen.clear()
    return steps, seen


@cache
def _compiled(case: Case, form: Form) -> tuple[tuple[CompiledStep, ...], list[Any]]:
    seen: list[Any] = []
    return tuple([compile_step(step) for step in steps_of(case, form, seen)]), seen


def seen_by(case: Case, form: Form, expected: Expected) -> list[Any]:
    """What ``seen`` of :func:`steps_of` has to be in the end."""
    if expected.fails_with is not None:
        return []
    values = [expected.values.get(index) for index in range(len(case.required))]
    errors = [what(index) for index in expected.errors]
    return [values, errors, values] if form == "async" else [values, errors]


def forms(size: int) -> tuple[Form, ...]:
    """The forms in which a Need of so many effects can be asked for."""
    return get_args(Form) if size else ("then", "next")
