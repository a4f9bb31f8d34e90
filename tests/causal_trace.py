"""A trace as what it says of causes: the part that every engine has to tell alike.

Engines interleave independent effects as they like, and each tells of queues and threads of its own. What has to be the
same, for each request, is this partial order; :func:`causes` holds a trace against it, and brings it into the one form
in which traces of different engines can be compared.

1. **The spine** is one sequence: ``RequestStart``, then steps and Needs, one ``Done`` or ``Fail``, each ``OnExit``, and
   ``RequestEnd``. A request that was turned away begins with its ``Fail``. A ``StepEnd`` follows its ``StepStart``; a
   ``NeedScheduled`` follows the ``StepEnd`` of who asked; after ``JoinSatisfied`` comes what it let go
   (``EffectCancelled``, in the order of the declaration), then a ``ContinuationStart``, a ``Fail`` or the next
   ``StepStart``.
2. **Each effect** is a chain of its own: after its ``NeedScheduled`` come ``ReactorEffectScheduled``, ``EffectStart``,
   an ``EffectRetry`` and another ``EffectStart`` for each retry, ``ReactorEffectCompleted``.
   - One that counts has completed before the ``JoinSatisfied`` of its Need.
   - One that was detached has completed when it ever does; its ``EffectLate`` comes after the resolution, and it may
     begin and go on after ``RequestEnd``.
   - One that was cancelled has its ``EffectCancelled`` on the spine, after the ``JoinSatisfied`` or ``Fail`` that is
     the reason. How far it had come is the engine's affair (one that runs effects one after another had not begun it),
     and so is whether its result came late.
3. In a sequential Need an effect starts when the one before it has completed.
4. At the deadline an effect that is under way may settle first, by its own view of the deadline, or the request may end
   first: both are the same end, told here as a ``Fail`` after which nothing is left of the Need, nor of the
   continuation that was about to begin. So is that of a step
   that runs elsewhere at the deadline, and may have no ``StepEnd``.

Not compared: times, the attempt's wait for a place, random back-off, ``ContinuationEnqueued``, ``StepOffloaded`` and
``ComputeTask...``.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

from zerver.error import Error
from zerver.execution import Execution
from zerver.trace.events import EventKind as K
from zerver.trace.events import Record as Event
from zerver.trace.reading import told
from zerver_runtime.outcome import Success

__all__ = ["Event", "Recorder", "causes", "cut_by_deadline", "outcome"]

_SPINE = (
    K.RequestStart, K.StepStart, K.StepEnd, K.NeedScheduled, K.JoinSatisfied, K.EffectCancelled, K.ContinuationStart,
    K.Done, K.Fail, K.OnExit, K.RequestEnd,
)  # fmt: skip
_CHAIN = (K.ReactorEffectScheduled, K.EffectStart, K.EffectRetry, K.BreakerStateChanged, K.ReactorEffectCompleted)
# What may follow what on the spine, EffectCancelled left out.
_FOLLOWS = {
    None: (K.RequestStart, K.Fail),
    K.RequestStart: (K.StepStart, K.Fail),
    K.StepStart: (K.StepEnd, K.Fail),  # a deadline passes, or a client goes, while a step runs elsewhere
    K.StepEnd: (K.StepStart, K.NeedScheduled, K.Done, K.Fail),
    K.NeedScheduled: (K.JoinSatisfied, K.Fail),
    K.JoinSatisfied: (K.ContinuationStart, K.StepStart, K.Fail),
    K.ContinuationStart: (K.StepStart, K.Fail),
    K.Done: (K.OnExit, K.RequestEnd),
    K.Fail: (K.OnExit, K.RequestEnd),
    K.OnExit: (K.OnExit, K.RequestEnd),
    K.RequestEnd: (),
}
# The same for an effect. One that cannot begin completes as it is: its breaker is open, say.
_CHAINED = {
    None: (K.ReactorEffectScheduled,),
    K.ReactorEffectScheduled: (K.EffectStart, K.ReactorEffectCompleted),
    K.EffectStart: (K.EffectRetry, K.ReactorEffectCompleted),
    K.EffectRetry: (K.EffectStart, K.ReactorEffectCompleted),
    K.ReactorEffectCompleted: (),
}


class Recorder:
    """A trace that keeps every request that has ended, with its events: those that come later, too."""

    least_ns = -1

    def __init__(self) -> None:
        self.ended: list[Execution] = []

    def end(self, run: Execution) -> None:
        assert run not in self.ended, "a request ends once"
        self.ended.append(run)

    def trace(self, request_id: str) -> list[Event]:
        """The events so far of a request that has ended."""
        (run,) = [one for one in self.ended if one.request.id == request_id]
        return told(run)


def causes(events: list[Event]) -> list[str]:
    """The canonical form of one request's trace: a line for each event of the spine, then one for each effect.

    AssertionError: the trace breaks the partial order.
    """
    spine = [event for event in events if event.kind in _SPINE]
    _check_spine(spine)
    _check_chains(events)
    spine, lost = _without_what_the_deadline_cut(spine)
    return [_line(event) for event in spine] + _chains(events, lost)


def cut_by_deadline(events: list[Event]) -> bool:
    """Whether the request ended because its deadline had passed."""
    fails = [event.detail for event in events if event.kind is K.Fail]
    return any(isinstance(one, Error) and "took longer than its deadline" in one.what for one in fails)


def _check_spine(spine: list[Event]) -> None:
    before: Event | None = None
    for event in spine:
        if event.kind is K.EffectCancelled:
            assert before is not None, f"{event} comes first"
            assert before.kind in (K.JoinSatisfied, K.Fail), f"{event} has no reason: it comes after {before}"
            continue
        allowed = _FOLLOWS[before.kind if before else None]
        assert event.kind in allowed, f"{event} comes after {before}"
        if before is not None and event.kind in (K.StepEnd, K.NeedScheduled):
            assert event.name == before.name, f"{event} comes after {before}"
        if before is not None and event.kind is K.NeedScheduled:
            assert before.detail == "Need", f"{event} comes after {before}"
        before = event
    assert before is not None, "it is empty"
    assert before.kind is K.RequestEnd, f"it ends with {before}"


def _check_chains(events: list[Event]) -> None:
    at: dict[tuple[K, int, int], int] = {}
    for position, event in enumerate(events):
        at.setdefault((event.kind, event.need, event.effect), position)
    asked = {event.need: event for event in events if event.kind is K.NeedScheduled}
    for (need, index), chain in _by_effect(events).items():
        kinds = [event.kind for event in chain if event.kind is not K.BreakerStateChanged]
        assert need in asked, f"{chain[0]} belongs to no Need"
        assert at[K.NeedScheduled, need, -1] < at[chain[0].kind, need, index], f"{chain[0]} comes before its Need"
        for last, kind in pairwise([None, *kinds]):
            told = (
                f"effect {need}.{index}: {kind.name if kind else None} comes after {last.name if last else 'nothing'}"
            )
            assert kind in _CHAINED[last], told
        _check_resolution(at, asked[need], need, index)


def _check_resolution(at: dict[tuple[K, int, int], int], asked: Event, need: int, index: int) -> None:
    completed, late = at.get((K.ReactorEffectCompleted, need, index)), at.get((K.EffectLate, need, index))
    joined, failed = at.get((K.JoinSatisfied, need, -1)), at.get((K.Fail, need, -1))
    resolved = joined if joined is not None else failed
    assert resolved is not None, f"Need {need} was never resolved"
    if late is not None:
        assert resolved < late, f"effect {need}.{index} is late before the resolution"
        assert completed is not None, f"effect {need}.{index} is late and did not complete"
    elif completed is not None:
        assert completed < resolved, f"effect {need}.{index} completed after the resolution and is not late"
    if asked.detail.mode == "sequential" and index and (began := at.get((K.EffectStart, need, index))) is not None:
        earlier = [at.get((K.ReactorEffectCompleted, need, one)) for one in range(index)]
        waited_for = [one for one in earlier if one is not None]
        if began < resolved:
            assert len(waited_for) == index, f"effect {need}.{index} began before those before it had completed"
        assert all(one < began for one in waited_for if one < resolved), f"effect {need}.{index} began too early"


def _by_effect(events: list[Event]) -> dict[tuple[int, int], list[Event]]:
    chains: defaultdict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in events:
        if event.kind in _CHAIN:
            chains[event.need, event.effect].append(event)
    return dict(sorted(chains.items()))


def _without_what_the_deadline_cut(spine: list[Event]) -> tuple[list[Event], int]:
    """The spine without what may or may not be there when the deadline passes, and the Need that was pending then."""
    if not cut_by_deadline(spine):
        return spine, 0
    fail = next(event for event in spine if event.kind is K.Fail)
    at = spine.index(fail)
    head, tail = spine[:at], [event for event in spine[at:] if event.kind is not K.EffectCancelled]
    while head and head[-1].kind in (K.EffectCancelled, K.ContinuationStart):
        head.pop()
    if head and head[-1].kind in (K.JoinSatisfied, K.StepEnd):
        head.pop()
    return head + tail, fail.need if head and head[-1].kind is K.NeedScheduled else 0


def _chains(events: list[Event], lost: int) -> list[str]:
    cancelled = {(event.need, event.effect) for event in events if event.kind is K.EffectCancelled}
    late = {(event.need, event.effect) for event in events if event.kind is K.EffectLate}
    lines = []
    for place, chain in _by_effect(events).items():
        if place in cancelled or place[0] == lost:
            continue
        told = [_told(event) for event in chain]
        end = ["late"] if place in late else [] if chain[-1].kind is K.ReactorEffectCompleted else ["never completed"]
        lines.append(f"effect {place[0]}.{place[1]} {chain[0].name}: {', '.join(told + end)}")
    return lines


def _told(event: Event) -> str:
    match event.kind:
        case K.ReactorEffectCompleted:
            return outcome(event.detail)
        case K.EffectRetry:
            return f"retry after {error(event.detail.error)}"
        case K.BreakerStateChanged:
            return f"breaker {event.detail.after}"
    return {K.ReactorEffectScheduled: "scheduled", K.EffectStart: "start"}[event.kind]


def _line(event: Event) -> str:
    place = f" {event.need}" if event.need else ""
    match event.kind:
        case K.NeedScheduled:
            need = event.detail
            labels = ", ".join(one.label + ("" if one.required else "?") for one in need.effects)
            extra = " detach" * need.detach + "".join(f" +{one.label}" for one in need.compensations)
            return f"NeedScheduled{place} {event.name}: {need.join} {need.mode}{extra} [{labels}]"
        case K.EffectCancelled:
            return f"EffectCancelled {event.need}.{event.effect} {event.name}"
        case K.Fail:
            return f"Fail{place} {error(event.detail)}"
        case K.StepEnd | K.JoinSatisfied:
            return " ".join(filter(None, (f"{event.kind.name}{place}", event.name, str(event.detail))))
    return " ".join(filter(None, (f"{event.kind.name}{place}", event.name)))


def outcome(given: Any) -> str:
    return f"gave {given.value!r}" if type(given) is Success else f"failed: {error(given.error)}"


def error(given: Any) -> str:
    return f"{given.kind.name} {given.what}" if isinstance(given, Error) else str(given)
