"""What a replay has found so far, and what it says of the parts of the recording that steps look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

from ..compiled_step import CompiledStep
from ..trace.notes import source_digest
from ..trace.record import TraceRecord
from .recorded import Recorded
from .report import Divergence, Kind, Limit, Move, Replay
from .view import NotReplayable

__all__ = ["Ledger", "Stop"]


class Stop(Exception):
    """There is no more to compare. ``found`` is a divergence, or the limit of the recording."""

    def __init__(self, found: Divergence | Limit) -> None:
        self.found = found


class Ledger:
    """Of one replay; the :class:`~zerver.replay.view.Watch` of its views."""

    def __init__(self, record: TraceRecord, left: Recorded) -> None:
        request = record.request
        self._record = record
        self._left = left
        self.step: CompiledStep | None = None
        """That runs, or asked."""
        self.stopped: Stop | None = None
        """Set inside of a step: to be raised when it is out of the way."""
        self.steps = self.effects = 0
        self.moves: list[Move] = []
        self.notes: list[str] = []
        self._uncertain: Limit | None = None  # from where on what was redacted plays a part
        self._doubt: Limit | None = None  # the same, of the step that runs: what comes after it is certain again
        self._noted: Limit | None = None  # the first of them
        self._changed: dict[str, None] = {}
        # What views ask.
        self.redacted = frozenset(request.redacted)
        lost = request.size > 0 and request.body is None
        self.body_lost = f"of which the recording has its size only ({request.size} bytes)" if lost else ""
        self.redacted_slots: dict[Any, str] = {}

    @property
    def name(self) -> str:
        """Of the step."""
        return "" if self.step is None else self.step.name

    def report(self, found: Divergence | Limit | None) -> Replay:
        """What it comes to."""
        record = self._record
        divergence = found if isinstance(found, Divergence) else None
        return Replay(
            id=record.id,
            route=record.route or f"{record.request.method} {record.request.path}",
            outcome="identical" if found is None else "diverged" if divergence is not None else "partial",
            status=record.status,
            steps=self.steps,
            effects=self.effects,
            divergence=divergence,
            limit=found if isinstance(found, Limit) else self._noted if found is None else None,
            changed=tuple(self._changed),
            notes=tuple(self.notes),
            moves=tuple(self.moves),
        )

    def begins(self, step: CompiledStep, *, carries: bool) -> None:
        """It runs from now on; whether it is the one that was recorded. ``carries``: it may hold on to what was read
        before; any other sees slots, the request, and what effects gave."""
        self.step = step
        if not carries:
            self._doubt = None
        known = self._left.digests.get(step.name)
        if known and "" not in known and source_digest(step.fn) not in known:
            self._changed[step.name] = None

    # Ends

    def diverge(
        self, kind: Kind, expected: str, got: str, need: int = 0, effect: int = -1, where: str | None = None
    ) -> Never:
        """They differ; or they would, if not for what was redacted."""
        doubt = self._uncertain or self._doubt
        if doubt is not None:
            raise Stop(doubt)
        if where is None:
            where = "" if self.step is None else self.step.where
        raise Stop(
            Divergence(
                kind=kind, step=self.name, need=need, effect=effect, expected=expected, got=got, where=where
            )
        )  # fmt: skip

    def limit(self, why: str) -> Never:
        """The recording ends here."""
        raise Stop(self._uncertain or self._doubt or Limit(self.name, why))

    def uncertain(self, why: str) -> None:
        """From here on what was redacted plays a part."""
        if self._uncertain is None:
            self._uncertain = Limit(self.name, why)
            self._noted = self._noted or self._uncertain

    @property
    def doubt(self) -> str:
        """Why what the step does cannot be told from what was recorded; empty: it can."""
        found = self._uncertain or self._doubt
        return "" if found is None else found.why

    # Watch

    def given(self, kind: str) -> Any:
        left, got = self._left.given, f"it reads {_given_text(kind)}"
        if not left:
            raise self._inside(lambda: self.diverge("given", "it reads no more of time, randomness or ids", got))
        note = left.popleft()
        if note.kind != kind:
            raise self._inside(lambda: self.diverge("given", f"it reads {_given_text(note.kind)}", got))
        return note.value

    def saw(self, why: str) -> None:
        if self._doubt is None:
            self._doubt = Limit(self.name, why)
            self._noted = self._noted or self._doubt

    def put(self, slot: Any) -> None:
        if self.doubt:
            self.redacted_slots[slot] = f"step {self.name} put it there: {self.doubt}"

    def lost(self, why: str) -> NotReplayable:
        return self._inside(lambda: self.limit(why))

    def _inside(self, stop: Callable[[], Never]) -> NotReplayable:
        try:
            stop()
        except Stop as stopped:
            self.stopped = self.stopped or stopped
        return NotReplayable()


def _given_text(kind: str) -> str:
    return f"ctx.{kind}" if kind in ("elapsed", "deadline") else f"ctx.{kind}()"
