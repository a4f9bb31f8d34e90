"""What a step sees in a replay: the recorded request, and whether it looks at what the recording does not have."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from ..client_input import MISSING, BadInput, Form
from ..context import CtxView
from .results import NotRecorded, holds_redacted

__all__ = ["NotReplayable", "RecordedSources", "ReplayView", "Watch"]


class NotReplayable(BaseException):
    """Ends a step that looks at what the recording does not have. Private, and like ``BadInput`` nothing that a step
    catches."""


class Watch(Protocol):
    """Is told what steps look at."""

    redacted: frozenset[str]
    """Places in the request, as :class:`~zerver.trace.record.RequestNote` names them."""
    body_lost: str
    """Why the body is not there; empty: it is."""
    redacted_slots: dict[Any, str]
    """Slots whose value holds something that is redacted, and what."""

    def given(self, kind: str) -> Any:
        """The next recorded value of this kind. May raise :class:`NotReplayable`."""
        ...

    def saw(self, why: str) -> None:
        """The step has read something that is redacted."""
        ...

    def put(self, slot: Any) -> None:
        """The step has put something into a slot."""
        ...

    def lost(self, why: str) -> NotReplayable:
        """The step needs something that is not there: raise this."""
        ...


class RecordedSources:
    """Time, randomness and ids out of the recording."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def now(self) -> datetime:
        return datetime.fromisoformat(self._watch.given("now"))

    def random(self) -> float:
        return float(self._watch.given("random"))

    def uuid(self) -> UUID:
        return UUID(self._watch.given("uuid"))


class ReplayView(CtxView[Any, Any]):
    """The view of a step, watched."""

    __slots__ = ("_watch",)

    def __init__(self, view: CtxView[Any, Any], watch: Watch) -> None:
        super().__init__(view._state, view._step, view._at_ns)
        self._watch = watch

    def require(self, slot: Any) -> Any:
        return self._seen(slot, super().require(slot))

    def optional(self, slot: Any) -> Any:
        return self._seen(slot, super().optional(slot))

    def put(self, slot: Any, value: Any) -> None:
        self._watch.put(slot)
        super().put(slot, value)

    # pyright does not see that these take all that the overloads of CtxView take
    def header(self, name: str, type: Any = str, default: Any = MISSING) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if f"header:{name.lower()}" in self._watch.redacted:
            self._watch.saw(f"it reads header {name.lower()}, which is redacted")
        return super().header(name, type, default)

    def query(self, name: str, type: Any = str, default: Any = MISSING) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if f"query:{name}" in self._watch.redacted:
            self._watch.saw(f"it reads query parameter {name}, which is redacted")
        return super().query(name, type, default)

    def json(self, type: Any = Any) -> Any:
        places = self._body_places()
        try:
            value = super().json(type)
        except BadInput:
            if places:
                self._watch.saw(f"it reads the body, in which {places} is redacted")
            raise
        if places and holds_redacted(value):
            self._watch.saw(f"it reads the body, in which {places} is redacted")
        return value

    @property
    def body(self) -> bytes:
        self._read_body()
        return super().body

    @property
    def form(self) -> Form:
        self._read_body()
        return super().form

    @property
    def elapsed(self) -> float:
        return float(self._watch.given("elapsed"))

    @property
    def deadline(self) -> float:
        return float(self._watch.given("deadline"))

    def _seen(self, slot: Any, value: Any) -> Any:
        if isinstance(value, NotRecorded):
            raise self._watch.lost(f"it reads slot {slot.__name__}: {value.why}")
        if slot in self._watch.redacted_slots:
            self._watch.saw(f"it reads slot {slot.__name__}: {self._watch.redacted_slots[slot]}")
        return value

    def _read_body(self) -> None:
        places = self._body_places()
        if places:
            self._watch.saw(f"it reads the body, in which {places} is redacted")

    def _body_places(self) -> str:
        if self._watch.body_lost:
            raise self._watch.lost(f"it reads the body, {self._watch.body_lost}")
        return ", ".join(sorted(one[5:] for one in self._watch.redacted if one.startswith("body:")))
