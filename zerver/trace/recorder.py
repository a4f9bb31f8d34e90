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
_LOOK = 0.02  # seconds after which another request tells of the times of its route


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
    """Traces worth keeping for which there was no room, or that could not be encoded or written."""
    queued: int


class TailRecorder:
    """A :class:`~zerver.trace.events.Trace` of one loop.

    ``sample``: keep one in so many, whatever they are; 0 is none. ``slow_ns``: what takes longer is slow; ``None``
    takes it from each route's own times. ``trusts``: whether a client's address may ask for traces; ``None``: no
    one may. ``soon`` is the loop's ``call_soon_threadsafe``.
    """

    def __init__(
        self,
        sink: Sink,
        recording: Recording,
        *,
        sample: int,
        slow_ns: int | None,
        trusts: Callable[[str], bool] | None,
        soon: Callable[[Callable[[], object]], object],
        call_later: CallLater,
    ) -> None:
        self._sink = sink
        self._recording = recording
        self._sample = sample
        self._slow_ns = slow_ns
        self._trusts = trusts
        self._soon = soon
        self._call_later = call_later
        self.requests: Callable[[], int] | None = None
        """How many requests there were so far. Without it each has to be seen, where some are to be sampled."""
        self.lost: Callable[[], int] | None = None
        """How many traces the sink has taken, and could not write after all."""
        self._seen = 0  # of the requests
        self._owed = 0  # requests of which no sample was taken
        self._samples = 0  # that are to be taken of the next requests
        self._looks = slow_ns is None or sample > 0  # at the next request, whatever becomes of it
        self._least_ns = LEAST_NS if slow_ns is None else slow_ns
        self.least_ns = -1 if self._looks or trusts is not None else self._least_ns
        """See :class:`~zerver.trace.events.Trace`. All are seen where any may ask; else slow ones, and now and then one
        that is not, for samples and to know the times of its route."""
        self._routes: dict[str, RouteTimes] = {}
        self._queue: deque[tuple[Execution, Why]] = deque()
        self._armed = False
        self._closed = False
        self._kept: dict[Why, int] = {"error": 0, "slow": 0, "asked": 0, "sampled": 0}
        self._dropped = 0
        self._told = False  # that some cannot be encoded

    def end(self, run: Execution, /) -> None:
        """See :class:`~zerver.trace.events.Trace`."""
        took, request = run.ended_ns - run.started_ns, run.request
        slow = self._slow(run.route, took, run.ended_ns) if self._slow_ns is None else took > self._slow_ns
        sampled = self._sample > 0 and self._takes_sample()
        if self._looks:
            self._looks = False
            self._on_loop(self._look_later)
        self.least_ns = -1 if self._trusts is not None or self._counts_each or self._samples else self._least_ns
        if is_fault(run):
            self._keep(run, "error")
        elif slow:
            self._keep(run, "slow")
        elif self._trusts is not None and ASKED in request.headers and self._trusts(request.client_ip):
            self._keep(run, "asked")
        elif sampled:
            self._keep(run, "sampled")

    def statistics(self) -> RecorderStatistics:
        lost = 0 if self.lost is None else self.lost()
        return RecorderStatistics(dict(self._kept), self._dropped + lost, len(self._queue))

    async def close(self) -> None:
        """Hand over what waits, and close the sink."""
        self._closed = True
        while self._queue:
            self._hand_over(_QUEUE)
        await self._sink.close()

    def _slow(self, route: str, took: int, now: int) -> bool:
        """By what this route takes usually, as it was known before this one."""
        times = self._routes.get(route)
        if times is None:
            times = self._routes[route] = RouteTimes()
        slow = times.slow(took, now)
        if self._looks or not times.known:
            times.add(took)
        return slow

    @property
    def _counts_each(self) -> bool:
        return self._sample == 1 or (self._sample > 0 and self.requests is None)

    def _takes_sample(self) -> bool:
        if self._sample == 1:
            return True
        if self._looks or self.requests is None:
            seen = self._seen + 1 if self.requests is None else self.requests()
            more, self._owed = divmod(self._owed + seen - self._seen, self._sample)
            self._seen, self._samples = seen, self._samples + more
        if not self._samples:
            return False
        self._samples -= 1
        return True

    def _look_later(self) -> None:
        self._call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._looks = True
        self.least_ns = -1

    def _keep(self, run: Execution, why: Why) -> None:
        if self._closed or len(self._queue) >= _QUEUE:
            self._dropped += 1
            return
        self._kept[why] += 1
        self._queue.append((run, why))
        if not self._armed:
            self._armed = self._on_loop(self._flush_later)

    def _on_loop(self, callback: Callable[[], object]) -> bool:
        try:
            self._soon(callback)
        except RuntimeError:  # the loop is closed: close() came before, or never will
            return False
        return True

    def _flush_later(self) -> None:
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
                    id = run.request.id
                    _log.warning("request %s: its trace cannot be kept; others will not be told", id, exc_info=problem)
        if rows and not self._sink.write(rows):
            self._dropped += len(rows)
