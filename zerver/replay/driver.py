"""Drives the interpreter with a recording instead of the world.

An edge like the engines: it carries out what :func:`~zerver.interpreter.advance` asks for. Every step is "offloaded" to
it, so that it sees each one's decision before the interpreter does; effects are settled from the recording, in the
recorded order; the clock is past the deadline where it was. It stops at the first difference.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, Never

from zerver_runtime.outcome import Failure, Outcome, Success

from ..context import CtxView
from ..decision import Need
from ..error import Error, ErrorKind
from ..execution import OFFLOADED, WAITING, Execution, PendingNeed
from ..interpreter import advance, run_step
from ..match import Match
from ..pipeline import Pipeline
from ..problem import error_response
from ..redaction import Redaction
from ..request import Request
from ..response import Response
from ..signals import Action, Cancelled, DeadlinePassed, Input, Refused, RunStep, Settled, Start, StepAwaits, StepRaised
from ..site import Site
from ..surroundings import Surroundings
from ..trace.notes import error_note, need_note
from ..trace.record import NeedNote, TraceRecord
from .answer import differs
from .ledger import Ledger, Stop
from .recorded import Asked, Ended, Ran, Recorded
from .report import Move, Replay
from .results import NotRecorded, error_of, holds_redacted, outcome_of
from .view import RecordedSources, ReplayView
from .wording import (
    Result,
    arguments_text,
    decision_text,
    effect_text,
    error_text,
    need_of,
    need_text,
    outcome_name,
    raised_at,
)

if TYPE_CHECKING:
    from ..app import App

__all__ = ["replay"]

_CUT = "the recording has the first events of the request only"
_DEADLINE_NS = 30_000_000_000  # where that was not recorded


def replay(app: App | Site, record: TraceRecord) -> Replay:
    """Run a recorded request again, and compare.

    It runs the app's steps, so it takes as long as they do, and is for a thread without a running event loop. Exit
    callbacks and streams are not run. Never raises for what an app does.

    :raises AppError: the app cannot start.
    """
    left = Recorded(record)
    ledger = Ledger(record, left)
    driver = _Driver(app if isinstance(app, Site) else app.site(), record, left, ledger)
    try:
        driver.go()
    except Stop as stop:
        return ledger.report(stop.found)
    finally:
        driver.close()
    return ledger.report(None)


class _Everything:
    def __contains__(self, step: object) -> bool:
        return True


class _Driver:
    """One replay."""

    def __init__(self, site: Site, record: TraceRecord, left: Recorded, ledger: Ledger) -> None:
        self._site = site
        self._record = record
        self._left = left
        self._ledger = ledger
        self._now_ns = 0
        self._deadline_ns = record.deadline_ns
        asked = [move.note for move in left.moves if isinstance(move, Asked)]
        self._redaction = Redaction.of_urls(one.what for note in asked for one in note.effects)
        self._run: Execution | None = None
        self._views: dict[int, tuple[CtxView[Any, Any], ReplayView]] = {}  # by the interpreter's own

    def go(self) -> None:
        """To the end, or raise :class:`Stop`."""
        run = self._run = self._begin()
        actions = advance(run, self._first())
        while True:
            work = next((one for one in actions if isinstance(one, RunStep)), None)
            if work is not None:
                actions = self._run_step(run, work)
            elif run.phase is WAITING and run.pending is not None:
                actions = self._settle(run, run.pending)
            else:
                break
        self._end(run)

    def close(self) -> None:
        """Let an async step that waits, or was to go on, run its ``finally``."""
        run = self._run
        if run is not None and (run.phase is WAITING or run.phase is OFFLOADED):
            advance(run, Cancelled("the replay is over"))
            advance(run, Refused(Error(ErrorKind.INTERNAL)))

    # Beginning

    def _begin(self) -> Execution:
        record, note = self._record, self._record.request
        match = self._site.router.match(note.method, note.path)
        if not isinstance(match, Match):
            got = "no route has this path" if match is None else f"the path has {', '.join(match.allowed)} only"
            self._ledger.diverge("route", record.route, got)
        pipeline: Pipeline = match.endpoint
        if record.route and pipeline.label != record.route:
            self._ledger.notes.append(f"the route is {pipeline.label} by now")
        request = Request(
            note.method, note.path, note.query, note.headers, note.body or b"", record.client, record.id, match.params
        )
        around = Surroundings(
            clock=lambda: self._now_ns,
            sources=RecordedSources(self._ledger),
            render=self._render,
            offload=_Everything(),
        )
        if not self._deadline_ns:
            self._deadline_ns = pipeline.deadline_ns or _DEADLINE_NS
        return Execution(pipeline.steps, request, around, 0, self._deadline_ns, pipeline.label)

    def _render(self, error: Error, request: Request, exception: BaseException | None) -> Response:
        return error_response(error, request, exception, self._site.on_error, lambda *_: None)

    def _first(self) -> Input:
        following = self._left.following
        return self._from_outside(following) if isinstance(following, Ended) else Start()

    def _from_outside(self, ended: Ended) -> Input:
        """What ended the recorded request while it waited."""
        if ended.by_deadline:
            self._now_ns = self._deadline_ns
            return DeadlinePassed()
        return Cancelled(ended.why) if isinstance(ended.why, str) else Refused(error_of(ended.why))

    def _look_at_the_clock(self) -> None:
        if self._left.past_deadline:
            self._now_ns = self._deadline_ns

    # Steps

    def _run_step(self, run: Execution, work: RunStep) -> list[Action]:
        left, ledger, step = self._left, self._ledger, work.step
        following = left.following
        if isinstance(following, Ended):  # before the step began
            return advance(run, self._from_outside(following))
        ledger.begins(step, carries=self._carries(run, work))
        if following is None and not left.complete:
            ledger.limit(_CUT)
        if not isinstance(following, Ran) or following.name != step.name:
            expected = f"step {following.name} runs" if isinstance(following, Ran) else "no further step runs"
            ledger.diverge("step", expected, f"step {step.name} runs")
        left.moves.popleft()
        if following.outcome is None:  # the request ended before it was back
            if not isinstance(left.following, Ended):
                ledger.limit(_CUT)
            return advance(run, self._from_outside(left.following))
        self._check_awaited(work)
        result = run_step(RunStep(step, self._view(work), work.coroutine, work.value))
        try:
            self._compare_decision(following.outcome, result)
        except Stop:
            if isinstance(result, StepAwaits):
                result.coroutine.close()
            raise
        self._look_at_the_clock()
        actions = advance(run, result)
        ledger.steps += 1
        ledger.moves.append(Move("step", step.name, decision_text(result)))
        need = need_of(result)
        if need is not None:
            self._compare_need(run, need)
        return actions

    @staticmethod
    def _carries(run: Execution, work: RunStep) -> bool:
        """Whether it may know what a step before it has read: it is that step, after an await, or was made in it."""
        fn = work.step.fn
        if work.coroutine is not None:
            return True
        if work.step in run.steps:
            return False
        if not isinstance(fn, FunctionType):
            return True
        return any((fn.__closure__, fn.__defaults__, fn.__kwdefaults__))

    def _view(self, work: RunStep) -> ReplayView:
        known = self._views.get(id(work.view))
        if known is None:
            known = self._views[id(work.view)] = work.view, ReplayView(work.view, self._ledger)
        return known[1]

    def _check_awaited(self, work: RunStep) -> None:
        """What an await gives may not be there."""
        if work.coroutine is None:
            return
        for value in work.value if type(work.value) is tuple else (work.value,):
            if isinstance(value, NotRecorded):
                self._ledger.limit(value.why)
            if self._ledger.redacted_slots and holds_redacted(value):
                self._ledger.uncertain("what it awaited holds something that is redacted")

    def _compare_decision(self, recorded: str, result: Result) -> None:
        ledger, following = self._ledger, self._left.following
        if ledger.stopped is not None:
            raise ledger.stopped
        if outcome_name(result) == recorded:
            return
        expected = recorded
        if isinstance(following, Asked):
            expected = need_text(following.note)
        elif isinstance(following, Ended):
            expected = f"{'raised' if recorded == StepRaised.__name__ else recorded} ({error_text(following.why)})"
        elif recorded == "Done":
            expected = f"Done {self._record.status}"
        need = need_of(result)
        got = decision_text(result) if need is None else need_text(self._noted(need))
        if isinstance(result, StepRaised) and ledger.step is not None:
            ledger.diverge("exception", expected, got, where=raised_at(ledger.step, result.exception))
        ledger.diverge("decision", expected, got)

    # Needs

    def _compare_need(self, run: Execution, need: Need) -> None:
        ledger, asked, after = self._ledger, self._left.following, self._noted(need)
        if not isinstance(asked, Asked):
            if run.phase is WAITING:
                self._unexpected_need(after)
            return  # past the deadline, or refused, as _end() compares
        self._left.moves.popleft()
        number, before = asked
        if len(before.effects) != len(after.effects):
            ledger.diverge("need", need_text(before), need_text(after), number)
        for index, (one, other) in enumerate(zip(before.effects, after.effects, strict=True)):
            was, now = effect_text(one), effect_text(other)
            if was != now:
                ledger.diverge("effect", was, now, number, index)
            if one.digest and other.digest and one.digest != other.digest and not ledger.doubt:
                arguments = arguments_text(need.effects[index])
                ledger.diverge("effect", f"{was}, with other arguments", f"{now}, with {arguments}", number, index)
        if need_text(before) != need_text(after):
            ledger.diverge("need", need_text(before), need_text(after), number)
        ledger.effects += len(after.effects)
        ledger.moves.append(Move("need", ledger.name, need_text(after), number))
        for index, one in enumerate(after.effects):
            ledger.moves.append(Move("effect", ledger.name, effect_text(one), number, index))

    def _noted(self, need: Need) -> NeedNote:
        return need_note(need, self._redaction)

    def _unexpected_need(self, after: NeedNote) -> Never:
        following = self._left.following
        if following is None and not self._left.complete:
            self._ledger.limit(_CUT)
        expected = error_text(following.why) if isinstance(following, Ended) else "no Need"
        self._ledger.diverge("decision", expected, need_text(after))

    def _settle(self, run: Execution, pending: PendingNeed) -> list[Action]:
        left, following = self._left, self._left.following
        settled = left.settled.get(pending.id)
        if settled:
            index = settled.popleft()
            if not 0 <= index < len(pending.need.effects):
                self._ledger.limit(f"the recording tells of effect {index}, which its Need does not have")
            outcome = self._outcome(pending, index)
            if pending.id in left.joined:
                self._look_at_the_clock()
            return advance(run, Settled(pending.id, index, left.results[pending.id, index].attempts, outcome))
        if pending.id in left.joined or not isinstance(following, Ended) or not following.is_from_outside:
            self._ledger.limit("how its effects ended is not in the recording" if left.complete else _CUT)
        return advance(run, self._from_outside(following))

    def _outcome(self, pending: PendingNeed, index: int) -> Outcome:
        ledger, need, effect = self._ledger, pending.id, pending.need.effects[index]
        note = self._left.results.get((need, index))
        if note is None:
            ledger.limit(f"how {effect.label} ended is not in the recording")
        outcome = outcome_of(effect, note, self._record.started_ns / 1e9)
        if note.error is not None and note.raw is None and (note.missing or note.redacted):
            ledger.uncertain(f"{effect.label} failed, and not all of its error is in the recording")
        expected = "a value" if note.error is None else error_text(note.error)
        if isinstance(outcome, Failure):
            got = error_note(outcome.error)
            if got != note.error:
                ledger.diverge("result", expected, error_text(got), need, index)
        elif note.error is not None:
            ledger.diverge("result", expected, "a value", need, index)
        elif isinstance(outcome.value, NotRecorded):
            if effect.into is None and pending.coroutine is None:
                return Success(None)  # nobody sees it
        elif note.redacted and holds_redacted(outcome.value):
            ledger.redacted_slots[effect.into] = f"{', '.join(note.redacted)} of what {effect.label} gave is redacted"
        return outcome

    # The end

    def _end(self, run: Execution) -> None:
        ledger, following, failure = self._ledger, self._left.following, run.failure
        before = following.why if isinstance(following, Ended) else None
        after = error_note(failure) if isinstance(failure, Error) else failure
        if before != after:
            ledger.diverge("decision", _ending_text(before), _ending_text(after))
        if before is not None:
            self._left.moves.popleft()
        difference = differs(self._record.response, run.response)
        if difference is not None:
            if isinstance(failure, Error) and self._site.on_error is not None and ledger.redacted:
                ledger.uncertain("on_error may read what is redacted in the request")
            ledger.diverge("answer", *difference)
        status = "no answer" if self._record.status is None else f"answer {self._record.status}"
        ledger.moves.append(Move("answer", ledger.name, status))


def _ending_text(why: Any) -> str:
    return "an answer of a step" if why is None else error_text(why)
