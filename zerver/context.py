"""The context: what one step sees of one request.

:class:`RequestState` is the request's state, owned by the interpreter. :class:`CtxView` is a step's window on
it: only the slots that the step declares, the request's parts, and the only clock, randomness and ids that a
pure step may use.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Generic, Never, Protocol, overload
from uuid import UUID

from typing_extensions import TypeVar

from . import client_input
from .client_input import Form
from .error import AppError, DefinitionError, Error, SlotMissing, UndeclaredSlot
from .request import Request
from .slot import Key

__all__ = ["CtxView", "Declares", "RequestState", "Sources"]

T = TypeVar("T")
D = TypeVar("D")
R_contra = TypeVar("R_contra", contravariant=True, default=Never)
W_contra = TypeVar("W_contra", contravariant=True, default=Never)

_MISSING: Final[Any] = client_input.MISSING


class Sources(Protocol):
    """Where a step's time, randomness and ids come from: the real ones, a test's, or a recording."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    def random(self) -> float:
        """A float in [0, 1)."""
        ...

    def uuid(self) -> UUID:
        """A random UUID (version 4)."""
        ...


class Declares(Protocol):
    """What a view needs to know of its step."""

    @property
    def name(self) -> str: ...
    @property
    def reads(self) -> frozenset[Any]: ...
    @property
    def writes(self) -> frozenset[Any]: ...


class RequestState:
    """The state of one request, as far as its steps see it. Only the interpreter and the views that it makes touch it.
    Times are in nanoseconds of the engine's monotonic clock."""

    __slots__ = (
        "deadline_ns", "errors", "exits", "form", "given", "query", "request", "sources", "started_ns", "values",
        "writers",
    )  # fmt: skip

    def __init__(self, request: Request, sources: Sources, started_ns: int, deadline_ns: int) -> None:
        self.request = request
        self.sources = sources
        self.started_ns = started_ns
        self.deadline_ns = deadline_ns
        self.values: dict[Any, Any] = {}
        self.writers: dict[Any, Declares] = {}
        self.errors: tuple[Error, ...] = ()
        self.exits: list[Callable[[], object]] | None = None
        self.given: list[tuple[str, Any]] | None = None
        """What now, random, uuid, elapsed and deadline gave, in order: a replay gives the same."""
        self.query: dict[str, list[str]] | None = None
        self.form: Form | None = None

    def write(self, slot: Any, value: Any, step: Declares) -> None:
        """Set a slot for a step that declares it.

        :raises AppError: another step has written it: a slot has one writer on each path.
        """
        writer = self.writers.setdefault(slot, step)
        if writer is not step and writer != step:  # a method, or a closure that asks again, is compiled anew
            raise AppError(
                f"step {step.name} writes slot {slot.__name__}, which step {writer.name} has written: a slot has "
                f"one writer "
                "on each path; give the second value a slot of its own"
            )
        self.values[slot] = value


class CtxView(Generic[R_contra, W_contra]):
    """What a step sees of its request: ``CtxView[Reads, Writes]``, each a slot, a union of slots, or ``Never``
    (the default).

    Input accessors (``param``, ``query``, ``header``, ``json``, ``form``) end the request with 400, 415 or 422
    when what the client sent is not what the step asks for; the step never sees bad input.
    """

    __slots__ = ("_at_ns", "_state", "_step")

    def __init__(self, state: RequestState, step: Declares, at_ns: int) -> None:
        self._state = state
        self._step = step
        self._at_ns = at_ns

    # Slots

    def require(self, slot: Key[R_contra, T]) -> T:
        """The value of a slot.

        :raises UndeclaredSlot: the step does not declare that it reads the slot.
        :raises SlotMissing: nothing has set it.
        """
        if slot not in self._step.reads:
            raise _undeclared(self._step, slot, "reads")
        try:
            return self._state.values[slot]  # type: ignore[no-any-return]  # write() took a T for this key
        except KeyError:
            raise SlotMissing(
                f"step {self._step.name} requires slot {_name(slot)}, which nothing has set; use ctx.optional() "
                f"if it may be "
                "missing, or make an earlier step or required effect write it"
            ) from None

    def optional(self, slot: Key[R_contra, T]) -> T | None:
        """The value of a slot, or ``None`` where nothing has set it.

        :raises UndeclaredSlot: the step does not declare that it reads the slot.
        """
        if slot not in self._step.reads:
            raise _undeclared(self._step, slot, "reads")
        return self._state.values.get(slot)

    def put(self, slot: Key[W_contra, T], value: T) -> None:
        """Set a slot. The step that wrote it may overwrite it.

        :raises UndeclaredSlot: the step does not declare that it writes the slot.
        :raises AppError: another step has written it.
        """
        state, step = self._state, self._step
        if slot not in step.writes:
            raise _undeclared(step, slot, "writes")
        if slot in state.writers:
            state.write(slot, value, step)
        else:  # as nearly always
            state.writers[slot] = step
            state.values[slot] = value

    # The request

    @property
    def method(self) -> str:
        """The method, in upper case."""
        return self._state.request.method

    @property
    def path(self) -> str:
        """The percent-decoded path."""
        return self._state.request.path

    @property
    def params(self) -> Mapping[str, Any]:
        """The path parameters, as their convertors gave them."""
        return self._state.request.params

    @property
    def body(self) -> bytes:
        """The complete body."""
        return self._state.request.body

    @property
    def client_ip(self) -> str:
        """The client's address; empty where there is none (a Unix socket)."""
        return self._state.request.client_ip

    @property
    def request_id(self) -> str:
        """The id of this request in traces, logs and error bodies."""
        return self._state.request.id

    @overload
    def param(self, name: str) -> str: ...
    @overload
    def param(self, name: str, type: type[T]) -> T: ...
    @overload
    def param(self, name: str, type: Any) -> Any: ...
    def param(self, name: str, type: Any = str) -> Any:
        """A path parameter.

        :raises DefinitionError: the route has no such parameter.
        """
        return client_input.read_param(self._state.request.params, name, type)

    @overload
    def query(self, name: str) -> str: ...
    @overload
    def query(self, name: str, type: type[T]) -> T: ...
    @overload
    def query(self, name: str, *, default: D) -> str | D: ...
    @overload
    def query(self, name: str, type: type[T], default: D) -> T | D: ...
    @overload
    def query(self, name: str, type: Any, default: Any = ...) -> Any: ...
    def query(self, name: str, type: Any = str, default: Any = _MISSING) -> Any:
        """A query parameter; ``default`` where it is missing (without one, that is 422). ``list[T]`` takes
        repeated ones."""
        fields = self._state.query
        if fields is None:
            fields = self._state.query = client_input.parse_query(self._state.request.query)
        return client_input.read_query(fields, name, type, default)

    @overload
    def header(self, name: str) -> str: ...
    @overload
    def header(self, name: str, type: type[T]) -> T: ...
    @overload
    def header(self, name: str, *, default: D) -> str | D: ...
    @overload
    def header(self, name: str, type: type[T], default: D) -> T | D: ...
    @overload
    def header(self, name: str, type: Any, default: Any = ...) -> Any: ...
    def header(self, name: str, type: Any = str, default: Any = _MISSING) -> Any:
        """A header, by its name in any case; ``default`` where it is missing (without one, that is 422)."""
        return client_input.read_header(self._state.request, name, type, default)

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    @overload
    def json(self, type: Any) -> Any: ...
    def json(self, type: Any = Any) -> Any:
        """The body as JSON, decoded to a builtin type, dataclass, TypedDict, msgspec Struct or pydantic model."""
        return client_input.read_json(self._state.request, type)

    @property
    def form(self) -> Form:
        """The body as a form, urlencoded or multipart."""
        form = self._state.form
        if form is None:
            form = self._state.form = client_input.parse_form(self._state.request)
        return form

    @property
    def idempotency_key(self) -> str | None:
        """The ``Idempotency-Key`` header, checked; ``None`` where it is missing."""
        return client_input.idempotency_key(self._state.request)

    # Time, failures, cleanup

    @property
    def elapsed(self) -> float:
        """Seconds from the request's start to this run of the step; recorded for replay."""
        return self._given("elapsed", (self._at_ns - self._state.started_ns) / 1e9)

    @property
    def deadline(self) -> float:
        """Seconds that were left when this run of the step began; past it the request ends with 504. Recorded for
        replay."""
        return self._given("deadline", (self._state.deadline_ns - self._at_ns) / 1e9)

    @property
    def errors(self) -> tuple[Error, ...]:
        """The failures of the Need that resolved last, in declaration order."""
        return self._state.errors

    @property
    def last_error(self) -> Error | None:
        """The last of :attr:`errors`."""
        errors = self._state.errors
        return errors[-1] if errors else None

    def now(self) -> datetime:
        """The time of day, aware, in UTC; recorded for replay."""
        return self._given("now", self._state.sources.now())

    def random(self) -> float:
        """A random float in [0, 1); recorded for replay."""
        return self._given("random", self._state.sources.random())

    def uuid(self) -> UUID:
        """A random UUID; recorded for replay."""
        return self._given("uuid", self._state.sources.uuid())

    def on_exit(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when the request is over: answered, failed or abandoned. The last one registered
        runs first; one that raises is logged and stops no other."""
        if not callable(callback):
            raise DefinitionError(
                f"step {self._step.name}: on_exit takes a function without arguments, not {callback!r}"
            )
        if self._state.exits is None:
            self._state.exits = []
        self._state.exits.append(callback)

    def _given(self, kind: str, value: T) -> T:
        if self._state.given is None:
            self._state.given = []
        self._state.given.append((kind, value))
        return value

    def __repr__(self) -> str:
        return f"<CtxView of {self._step.name}: {self._state.request.method} {self._state.request.path}>"


def _name(slot: object) -> str:
    return slot.__name__ if isinstance(slot, builtins.type) else repr(slot)


def _undeclared(step: Declares, slot: object, verb: str) -> UndeclaredSlot:
    name = _name(slot)
    declared = step.reads if verb == "reads" else step.writes
    union = " | ".join(sorted([*(s.__name__ for s in declared), name]))
    place = f"CtxView[{union}, ...]" if verb == "reads" else f"CtxView[..., {union}]"
    return UndeclaredSlot(f"step {step.name} {verb} slot {name} without declaring it; annotate its context as {place}")
