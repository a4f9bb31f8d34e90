"""The recorder: forgets nearly every trace as its request ends, and hands over the few that are worth keeping.

A request that is not kept costs one look at its time and its end. One that is kept waits, by reference, in a bounded
queue; a timer has it encoded, a few at a time, and written elsewhere. A full queue drops and counts, as does a store
that does not keep up: traces never hold up requests.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from zerver_runtime.reactor.effector import CallLater

from ..execution import Execution
from .record import Row, Why
from .recording import Recording
from .tail import LEAST_NS, RouteTimes, is_fault

__all__ = ["ASKED", "RecorderStatistics", "Sink", "TailRecorder"]

ASKED = (b"x-zerver-trace", b"1")
"""The header by which a trusted client asks for a trace."""

_log = logging.getLogger("zerver.trace")

_QUEUE = 256  # traces that wait; each refers to all of its request
_EVERY = 0.25  # seconds between two batches
_BATCH = 4  # traces that are encoded in one turn of the loop: less than a millisecond
_LOOK = 32  # one in so many requests tells of the times of its route
_NEVER = 1 << 62


class Sink(Protocol):
    """What traces go to. ``write`` does not block."""

    def write(self, rows: Sequence[Row], /) -> bool:
        """Take a batch; ``False``: there is no room for it, and it is dropped."""
        ...

    async def close(self) -> None:
        """Write what was taken, if that can be done soon."""
        ...


class RecorderStatistics(msgspec.Struct, frozen=True):
    kept: dict[Why, int]
    """Traces that were queued, by why."""
    dropped: int
    """Traces worth keeping for which there was no room, or that could not be encoded."""
    queued: int


class TailRecorder:
    """A :class:`~zerver.trace.events.Trace` of one loop.

    ``sample``: keep one in so many, whatever they are; 0 is none. ``slow_ns``: what takes longer is slow; ``None``
    takes it from each route's own times. ``trusts``: whether a client's address may ask for traces. ``soon`` is the
    loop's ``call_soon_threadsafe``.
    """

    def __init__(
        self,
        sink: Sink,
        recording: Recording,
        *,
        sample: int,
        slow_ns: int | None,
        trusts: Callable[[str], bool],
        soon: Callable[[Callable[[], object]], object],
        call_later: CallLater,
    ) -> None:
        self._sink = sink
        self._recording = recording
        self._sample = sample
        self._slow_ns = slow_ns
        self._least_ns = LEAST_NS if slow_ns is None else slow_ns
        self._trusts = trusts
        self._soon = soon
        self._call_later = call_later
        self._look = min(_LOOK, sample) if sample else _LOOK
        self._turn = self._look
        self._owed = 0  # requests since the last sample
        self._routes: dict[str, RouteTimes] = {}
        self._queue: deque[tuple[Execution, Why]] = deque()
        self._armed = False
        self._closed = False
        self._kept: dict[Why, int] = {"error": 0, "slow": 0, "asked": 0, "sampled": 0}
        self._dropped = 0
        self._told = False  # that some cannot be encoded

    def end(self, run: Execution, /) -> None:
        """See :class:`~zerver.trace.events.Trace`."""
        state, response = run.state, run.response
        self._turn = turn = self._turn - 1
        if (
            run.ended_ns - state.started_ns > self._least_ns
            or turn <= 0
            or response is None
            or response.status >= 500
            or run.failure is not None
            or ASKED in state.request.headers
        ):
            self._consider(run)

    def statistics(self) -> RecorderStatistics:
        return RecorderStatistics(dict(self._kept), self._dropped, len(self._queue))

    async def close(self) -> None:
        """Hand over what waits, and close the sink."""
        self._closed = True
        while self._queue:
            self._hand_over(_QUEUE)
        await self._sink.close()

    def _consider(self, run: Execution) -> None:
        took = run.ended_ns - run.state.started_ns
        slow = took > self._bound_ns(run.route)
        sampled = self._turn <= 0 and self._count(run.route, took)
        if is_fault(run):
            self._keep(run, "error")
        elif slow:
            self._keep(run, "slow")
        elif ASKED in run.state.request.headers and self._trusts(run.state.request.client_ip):
            self._keep(run, "asked")
        elif sampled:
            self._keep(run, "sampled")

    def _bound_ns(self, route: str) -> int:
        if self._slow_ns is not None:
            return self._slow_ns
        times = self._routes.get(route)
        return times.bound_ns if times is not None and times.known else _NEVER

    def _count(self, route: str, took: int) -> bool:
        """One of those requests that stand for all. Whether it is to be kept as a sample."""
        self._turn = self._look
        if self._slow_ns is None:
            times = self._routes.get(route)
            if times is None:
                times = self._routes[route] = RouteTimes()
            times.add(took)
        self._owed += self._look
        if not self._sample or self._owed < self._sample:
            return False
        self._owed -= self._sample
        return True

    def _keep(self, run: Execution, why: Why) -> None:
        if self._closed or len(self._queue) >= _QUEUE:
            self._dropped += 1
            return
        self._kept[why] += 1
        self._queue.append((run, why))
        if not self._armed:
            self._armed = True
            try:
                self._soon(self._arm)
            except RuntimeError:  # the loop is closed: close() came before, or never will
                self._armed = False

    def _arm(self) -> None:
        self._call_later(_EVERY, self._flush)

    def _flush(self) -> None:
        self._hand_over(_BATCH)
        self._armed = False  # before the look: another thread may add one right after it
        if self._queue:
            self._armed = True
            self._call_later(0.0 if len(self._queue) > _BATCH else _EVERY, self._flush)

    def _hand_over(self, most: int) -> None:
        epoch_ns = time.time_ns() - time.monotonic_ns()
        rows: list[Row] = []
        while self._queue and len(rows) < most:
            run, why = self._queue.popleft()
            try:
                rows.append(self._recording.row(run, why, epoch_ns))
            except Exception as problem:  # of what an app put into its values; the others must not suffer
                self._dropped += 1
                if not self._told:
                    self._told = True
                    id = run.state.request.id
                    _log.warning("request %s: its trace cannot be kept; others will not be told", id, exc_info=problem)
        if rows and not self._sink.write(rows):
            self._dropped += len(rows)
